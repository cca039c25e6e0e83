"""The tables of `benchmarks.federated_cost`, and the arithmetic up to a thousand sites."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.hospitals_in_process import machine
from benchmarks.measured import Part, Usage

MANY = 1000  # sites that nobody has run
GIGABIT = 125e6  # bytes a second
OTHERS = 0.1  # of our processor time, from which on what others did is told
NAMES = {
    "in_process": "our grid in one process",
    "simulation": "Flower's simulation engine",
    "deployment": "our hub and sites, TLS and keys",
    "nvflare_simulator": "NVFlare's simulator",
    "nvflare_poc": "NVFlare's POC, TLS and certificates",
}


@dataclass(frozen=True, eq=False)
class Row:
    """A federation that was measured.

    Attributes:
        arm: How it ran.
        sites: How many small sites; 0 for the three hospitals whole.
        usage: What it cost.
        seconds: Of each round.
        losses: Of the weights after each round, where somebody told it.
        about: What only the federation knows.
        weights: After the last round, for the whole hospitals.
    """

    arm: str
    sites: int
    usage: Usage
    seconds: Sequence[float]
    losses: Sequence[float | None]
    about: Mapping[str, Any]
    weights: np.ndarray | None = None

    @property
    def round_s(self) -> float:
        """Seconds of a round, the first left out, in which programs and caches warm up."""
        return float(np.mean(self.seconds[1:]))

    @property
    def around_s(self) -> float:
        """Seconds before, between and after the rounds."""
        return self.usage.seconds - sum(self.seconds)

    def peak(self, role: str) -> str:
        """Peak memory of one role, in MB."""
        return f"{self.usage.parts.get(role, Part()).peak_mb:.0f}"

    @property
    def hub_mb(self) -> float | None:
        """Megabytes to and from the port on which the hub is reached."""
        if self.usage.wire_bytes is None or not self.usage.ports:
            return None
        port = self.about.get("port")
        busiest = max(self.usage.ports.values(), key=sum)
        return sum(self.usage.ports.get(str(port), busiest)) / 1e6


Rows = Mapping[tuple[str, int], Row]


def report(rows: Sequence[Row]) -> str:
    """All that is printed; the README quotes what stands before the line ``<!-- more -->``."""
    by_name = {(row.arm, row.sites): row for row in rows}
    parts = [
        beside(by_name), summary(by_name), disturbed(rows), "<!-- more -->", ratios(by_name),
        losses(by_name), scaling(by_name), arithmetic(by_name),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def summary(rows: Rows) -> str:
    """The number of sites in one paragraph."""
    of_engine = [row for (arm, n), row in rows.items() if arm == "simulation" and n]
    real = next((row for (arm, n), row in rows.items() if arm == "deployment" and n), None)
    if not of_engine or real is None:
        return ""
    sites = ", ".join(f"{row.sites}" for row in of_engine)
    seconds = ", ".join(f"{row.round_s:.1f}" for row in of_engine)
    up, down = (each(real, way) / 1e6 for way in ("up", "down"))
    return (
        f"By the number of sites ({sites} small ones, one local epoch): {seconds} s a round in "
        f"Flower's simulation engine. A deployed site sends {up:.2f} MB and gets {down:.2f} MB a "
        f"round, counted on the wire. {_first_limit(rows)}"
    )


def each(row: Row, what: str) -> float:
    """Something that was counted over all, for one site in one round."""
    return float(row.about[what]) / row.sites / len(row.seconds)


def disturbed(rows: Sequence[Row]) -> str:
    """How much else the machine did, where that matters."""
    others, own = (sum(getattr(r.usage, s) for r in rows) for s in ("others_s", "cpu_s"))
    if others < OTHERS * own:
        return ""
    return (
        f"Other programs worked on this machine meanwhile: {others:.0f} CPU s beside the "
        f"{own:.0f} CPU s of all rows. So times are longer than on a quiet machine, unequally "
        "from row to row; bytes and memory are not touched, CPU seconds less."
    )


# -- by the number of sites ----------------------------------------------------------------


def scaling(rows: Rows) -> str:
    """A row for each number of sites and way to run."""
    said = (
        "### What a round costs by the number of sites\n\n"
        "Synthetic patients dealt out to small sites, 24 at each (from 14 sites on, several sites "
        "have the same); the network that ships, one local epoch, three rounds, the first left out "
        "of the times of a round. One process keeps the cases of eight sites, and reads those of "
        "more anew for every message. Bytes are a site's in one round: Flower's messages in one "
        "process, the wire with TLS and all polling in the deployment.\n\n"
        "| sites | run by | s a round | rounds an hour | s around them | CPU s in all "
        "| up, MB | down, MB | peak MB, hub | peak MB, one site | other work here, CPU s |\n"
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    small = [row for (arm, n), row in rows.items() if n and arm != "averaging"]
    return "\n".join([said, *map(_scaling_line, sorted(small, key=lambda row: row.sites))])


def _scaling_line(row: Row) -> str:
    """One federation of small sites."""
    up, down = (f"{each(row, w) / 1e6:.2f}" if w in row.about else "" for w in ("up", "down"))
    site = "in the hub" if row.arm == "in_process" else row.peak("site")
    cells = [
        row.sites, NAMES[row.arm], f"{row.round_s:.1f}", f"{3600 / row.round_s:.0f}",
        f"{row.around_s:.0f}", f"{row.usage.cpu_s:.0f}", up, down, row.peak("hub"), site,
        f"{row.usage.others_s:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def arithmetic(rows: Rows) -> str:
    """What a thousand sites would cost."""
    found = [*_one_machine(rows), _averaging(rows), *_deployed(rows)]
    return "\n".join([f"### {MANY} sites, by arithmetic\n", *(f"* {one}" for one in found if one)])


def _one_machine(rows: Rows) -> Iterator[str]:
    """All sites on this machine."""
    for arm in ("in_process", "simulation"):
        of_arm = [row for (name, n), row in rows.items() if name == arm and n]
        if len(of_arm) > 1:
            slope, start = line([row.sites for row in of_arm], [row.round_s for row in of_arm])
            total = start + slope * MANY
            yield (
                f"{NAMES[arm]}: a round takes {start:.1f} s + {slope:.3f} s a site (least squares "
                f"over the rows above), so {MANY} sites {total:.0f} s, {3600 / total:.1f} rounds "
                "an hour. Hospitals of their own train side by side, and this part falls away."
            )


def _averaging(rows: Rows) -> str:
    """The hub's own work in a round."""
    of_hub = [row for (arm, _), row in rows.items() if arm == "averaging"]
    if len(of_hub) < 2:
        return ""
    sites = [row.sites for row in of_hub]
    seconds = [float(row.about["averaging_s"]) for row in of_hub]
    (per_s, start_s), (per_mb, start_mb) = line(sites, seconds), _memory(of_hub)
    with_mb = zip(of_hub, seconds, strict=True)
    measured = ", ".join(f"{r.sites} sites {s:.2f} s and {r.peak('hub')} MB" for r, s in with_mb)
    return (
        f"The hub's averaging with all checks: {measured}. That is {start_s:.2f} s + "
        f"{per_s * 1e3:.0f} ms a site and {start_mb:.0f} MB + {per_mb:.0f} MB a site, so {MANY} "
        f"sites {start_s + per_s * MANY:.0f} s and {(start_mb + per_mb * MANY) / 1e3:.0f} GB: all "
        "replies are kept until the last, and again in double precision to be clipped and "
        "compared."
    )


def _memory(of_hub: Sequence[Row]) -> tuple[float, float]:
    """MB that a hub's averaging takes for each site, and without any."""
    peaks = [row.usage.parts["hub"].peak_mb for row in of_hub]
    return line([row.sites for row in of_hub], peaks)


def _first_limit(rows: Rows) -> str:
    """What a hub runs out of first."""
    of_hub = [row for (arm, _), row in rows.items() if arm == "averaging"]
    if len(of_hub) < 2:
        return ""
    per_mb, start_mb = _memory(of_hub)
    return (
        f"A hub runs out of memory first: averaging takes {per_mb:.0f} MB a site (3 to "
        f"{of_hub[-1].sites} measured), so {MANY} sites {(start_mb + per_mb * MANY) / 1e3:.0f} GB."
    )


def _deployed(rows: Rows) -> Iterator[str]:
    """Bytes and processor of a real hub."""
    real = [row for (arm, n), row in rows.items() if arm == "deployment" and n]
    if not real:
        return
    most = max(real, key=lambda row: row.sites)
    up, down = each(most, "up"), each(most, "down")
    yield (
        f"The hub's line: {up / 1e6:.2f} MB in and {down / 1e6:.2f} MB out a site and round, so "
        f"{MANY} sites {up * MANY / 1e9:.1f} GB in and {down * MANY / 1e9:.1f} GB out: "
        f"{up * MANY / GIGABIT:.0f} s and {down * MANY / GIGABIT:.0f} s of a gigabit a second."
    )
    yield _processors(real)
    if ("in_process", real[0].sites) in rows:
        yield _sites_processors(rows, real[0])
    yield (
        f"What does not grow: a site's bytes ({(up + down) / 1e6:.1f} MB a round), its memory, its "
        "training (a round waits for the slowest site), its ledger, and the hub's disk (one "
        "network a round)."
    )


def _sites_processors(rows: Rows, real: Row) -> str:
    """What the processors of deployed sites do, beside those of the same job in one process."""
    spent = real.usage.parts.get("site", Part()).cpu_s
    alone = rows["in_process", real.sites].usage.cpu_s
    return (
        f"The sites' processors: {real.sites} deployed sites used {spent:.0f} CPU s in "
        f"{len(real.seconds)} rounds, {spent / real.sites / len(real.seconds) / 2:.1f} s for each "
        f"message; one process did the whole job in {alone:.0f} s. The rest is the start of "
        "programs, for each message anew. It is spent at the sites, so it does not add up."
    )


def _processors(real: Sequence[Row]) -> str:
    """What the hub's processors do in a round, by the number of sites."""
    sites = [row.sites for row in real]
    seconds = [float(row.about["hub_cpu_s"]) / len(row.seconds) for row in real]
    # of one measurement, all is taken to grow with the sites: the most it can be
    slope, start = line(sites, seconds) if len(real) > 1 else (seconds[0] / sites[0], 0.0)
    measured = ", ".join(f"{n} sites {s:.1f} s" for n, s in zip(sites, seconds, strict=True))
    if len(real) == 1:
        measured += " (all of it taken to grow with them)"
    total, cores = start + slope * MANY, os.cpu_count() or 1
    return (
        f"The hub's processors in a round, TLS and the sites' polling included: {measured}, that "
        f"is {start:.1f} s + {slope:.2f} s a site, so {MANY} sites {total:.0f} s, or "
        f"{total / cores:.0f} s a round on {cores} cores: with the bytes, the second limit."
    )


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope and beginning of the straight line that fits best.

    Example:
        >>> [round(number, 6) for number in line([1, 2, 3], [5.0, 7.0, 9.0])]
        [2.0, 3.0]
    """
    slope, start = np.polyfit(np.asarray(x, float), np.asarray(y, float), 1)
    return float(slope), float(start)


# -- beside NVFlare ------------------------------------------------------------------------


def beside(rows: Rows) -> str:
    """The same job under both, and the ratios."""
    whole = {arm: row for (arm, n), row in rows.items() if not n}
    theirs = [row.about["version"] for row in whole.values() if "version" in row.about]
    if not theirs:
        return f"NVFlare could not be installed here: no comparison. {_machine()}"
    said = (
        f"## The same job under Flower and under NVFlare {theirs[0]}\n\n"
        "Three synthetic hospitals with all their cases, three rounds of the standard plan; the "
        "same network, packed array, training, average and PyTorch. Bytes are counted on the "
        "loopback interface, at the hub's port and in all. NVFlare's sites send the loss of what "
        "they got with their update; ours are asked for it in a second message, which brings the "
        "average once more. A deployed site of ours forks a process into a cage for each "
        "message; NVFlare's keeps one process for the whole job, in no cage. "
        f"{_machine()}\n\n"
        "| run by | s in all | s of rounds | CPU s | MB at the hub's port | MB in all "
        "| peak MB, hub | peak MB, one site | loss after the last round |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    return "\n".join([said, *map(_beside_line, whole.values())])


def _beside_line(row: Row) -> str:
    """One way to run the job."""
    in_all = row.usage.wire_bytes
    deployed = row.arm in ("deployment", "nvflare_poc")
    hub = "" if row.hub_mb is None or not deployed else f"{row.hub_mb:.1f}"
    cells = [
        NAMES[row.arm], f"{row.usage.seconds:.0f}", f"{sum(row.seconds):.0f}",
        f"{row.usage.cpu_s:.0f}", hub, "not counted" if in_all is None else f"{in_all / 1e6:.1f}",
        row.peak("hub"), "in the hub" if row.arm == "in_process" else row.peak("site"),
        f"{row.about['last_loss']:.4f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


PAIRS = (
    ("nvflare_simulator", "simulation"),
    ("nvflare_simulator", "in_process"),
    ("nvflare_poc", "deployment"),
)


def ratios(rows: Rows) -> str:
    """NVFlare's figures over ours."""
    whole = {arm: row for (arm, n), row in rows.items() if not n}
    lines = [
        "| NVFlare's over ours | s in all | s of rounds | CPU s | MB in all | peak MB, hub |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for theirs, ours in PAIRS:
        if theirs in whole and ours in whole:
            pairs = zip(_figures(whole[theirs]), _figures(whole[ours]), strict=True)
            cells = " | ".join(f"{a / b:.2f}" if a and b else "" for a, b in pairs)
            lines.append(f"| {NAMES[theirs]} / {NAMES[ours]} | {cells} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _figures(row: Row) -> list[float]:
    """What is compared; the bytes are 0 where there are none."""
    return [
        row.usage.seconds, sum(row.seconds), row.usage.cpu_s, float(row.usage.wire_bytes or 0),
        row.usage.parts["hub"].peak_mb,
    ]  # fmt: skip


LOSSES = """### Whether it is the same training

Validation loss after each round, as the run told it, and how far a weight is at most from our
grid's after the last round; training moved weights by up to {moved:.2f}. A deployed hub weighs the
sites' losses by their registered cases, the others by the cases that each loss was taken on.

| run by | after each round | largest difference | packets not counted | other work here, CPU s |
|---|---|--:|--:|--:|"""


def losses(rows: Rows) -> str:
    """Whether all came to the same network."""
    whole = {arm: row for (arm, n), row in rows.items() if not n and row.weights is not None}
    if "in_process" not in whole:
        return ""
    reference = whole["in_process"].weights
    assert reference is not None
    lines = [LOSSES.format(moved=float(whole["in_process"].about["moved"]))]
    for arm, row in whole.items():
        told = ", ".join("not told" if loss is None else f"{loss:.5f}" for loss in row.losses)
        apart = np.abs(np.asarray(row.weights) - reference).max()
        others = f"{row.usage.others_s:.0f}"
        lines.append(f"| {NAMES[arm]} | {told} | {apart:.1e} | {row.usage.lost} | {others} |")
    return "\n".join(lines)


def _machine() -> str:
    """Where it was measured."""
    return f"{os.cpu_count()} cores, {machine()}."
