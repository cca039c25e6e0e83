"""How a training goes: what is waited for, what each round came to, and where it is kept."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROGRESS = "progress.jsonl"  # in a training's folder: a line a round, and one for an error

Traffic = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Patience:
    """How long the hub waits, and for whom.

    Attributes:
        min_sites: Usable replies without which a round is not averaged.
        round_s: Of training, and again of evaluating: whoever has not answered is left out.
        wait_s: In which `min_sites` sites must be there, at the start and after a failed try.
        tries: Of one round, before the training ends; it can be resumed.
        asks: Of one site in one try, where it is restarted while it works.
    """

    min_sites: int = 2
    round_s: float = 3600.0
    wait_s: float = 600.0
    tries: int = 5
    asks: int = 3


@dataclass(frozen=True)
class RoundReport:
    """What a round came to.

    Attributes:
        run_id: Of Flower's run.
        number: Of the round, counted from 1 over all runs of a training.
        sites: Whose replies to training arrived.
        remarks: What was wrong with which site.
        loss: Mean validation loss; None where no site tells one.
        seconds: From the first question to the checkpoint.
        traffic: Bytes up and down on the wire by site, seen from the site.
    """

    run_id: int
    number: int
    sites: tuple[str, ...]
    remarks: tuple[str, ...]
    loss: float | None
    seconds: float
    traffic: Traffic = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For people.

        Example:
            >>> went = {"north": (2_000_000, 4_100_000)}
            >>> RoundReport(1, 2, ("north",), (), 0.5, 9.1, went).lines()
            ['round 2: validation loss 0.500, 1 site, 9 s', '  north: 2.00 MB up, 4.10 MB down']
        """
        loss = "no loss was told" if self.loss is None else f"validation loss {self.loss:.3f}"
        count = f"{len(self.sites)} site{'s' * (len(self.sites) != 1)}"
        said = [f"round {self.number}: {loss}, {count}, {self.seconds:.0f} s"]
        for name, (up, down) in sorted(self.traffic.items()):
            said.append(f"  {name}: {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down")
        return said + [f"  {remark}" for remark in self.remarks]


def last_round(out: Path) -> int:
    """The last round that was kept; 0 where none was."""
    kept = [path.stem.removeprefix("round-") for path in out.glob("round-*.safetensors")]
    return max((int(number) for number in kept if number.isdigit()), default=0)


def append(out: Path, line: Mapping[str, object]) -> None:
    """Add a line to the training's progress."""
    with (out / PROGRESS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_progress(out: Path) -> list[RoundReport]:
    """The rounds of a training so far, as the hub wrote them."""
    try:
        lines = (out / PROGRESS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        told = json.loads(line)
        if "error" not in told:
            told["traffic"] = {name: tuple(count) for name, count in told["traffic"].items()}
            told["sites"], told["remarks"] = tuple(told["sites"]), tuple(told["remarks"])
            found.append(RoundReport(**told))
    return found
