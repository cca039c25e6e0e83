"""Six sites, of which one or two send what they should not: with our checks, and without.

    python -m benchmarks.bad_sites --seeds 2

The three synthetic hospitals are split in two by patient. All sites are honest in the first round;
from the second on, one of them (or two that collude) sends something else. Unprotected is Flower's
own FedAvg, which believes every reply. Protected is `federated.hub.strategies`. Late and
replayed replies carry the weights of the round before.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg

from benchmarks.hospitals_in_process import (
    FIRST,
    Hospital,
    auroc,
    federate,
    hospitals,
    machine,
    registered,
    small_plan,
    test_cases,
)
from federated import task
from federated.hub.strategies import Rules, strategy
from federated.in_process import InProcessGrid, Node, Way
from federated.task import Plan, SiteCases
from federated.wire import ARRAYS, COUNT, FINGERPRINT, METRICS, PACKED, ROUND
from fusion.case import Case

Spoil = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Attack:
    """What bad sites do.

    Attributes:
        name: For the table.
        spoil: Makes other weights of those the hub sent and those the site trained.
        count: The number of cases it claims; None for the true one.
        twice: Whether the reply of the round before is sent as well.
        late: Whether that reply is sent instead.
        sites: How many of the six are bad.
    """

    name: str
    spoil: Spoil = lambda _, trained: trained
    count: float | None = None
    twice: bool = False
    late: bool = False
    sites: int = 1


def not_finite(_: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """A single number that is none."""
    return np.where(np.arange(trained.size) == 5, np.float32(np.nan), trained)


def times(factor: float) -> Spoil:
    """The update, longer or turned round."""
    return lambda before, trained: (before + factor * (trained - before)).astype(np.float32)


def random_update(before: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Noise of the length of the true update."""
    noise = np.random.default_rng(12345).normal(size=trained.size)
    noise *= np.linalg.norm(trained - before) / np.linalg.norm(noise)
    return (before + noise).astype(np.float32)


HONEST = Attack("none")
ATTACKS = (
    Attack("NaN", not_finite),
    Attack("wrong shape", lambda _, trained: trained[:-1]),
    Attack("wrong type (float64)", lambda _, trained: trained.astype(np.float64)),
    Attack("1e9 cases", count=1e9),
    Attack("1e9 cases, noise", random_update, count=1e9),
    Attack("-40 cases", count=-40),
    Attack("replayed reply", twice=True),
    Attack("late reply", late=True),
    Attack("10 times the update", times(10.0)),
    Attack("100 times the update", times(100.0)),
    Attack("noise as long as the update", random_update),
    Attack("sign flip", times(-1.0)),
    Attack("sign flip, 10 times", times(-10.0)),
    Attack("two collude: sign flip", times(-1.0), sites=2),
    Attack("two collude: sign flip, 10 times", times(-10.0), sites=2),
    Attack("two collude: 1e9 cases, sign flip", times(-1.0), count=1e9, sites=2),
)
PROTECTED = ("fedavg", "fedavg, opposed kept", "trimmed")


def bad_way(attack: Attack) -> Way:
    """What becomes of a bad site's replies from the second round on."""
    earlier: list[Message] = []

    def way(request: Message, reply: Message) -> Sequence[Message]:
        if request.metadata.message_type != "train" or reply.has_error():
            return (reply,)
        current = request.content.config_records["config"][ROUND]
        before, kept = request.content[ARRAYS][PACKED].numpy(), list(earlier)
        earlier[:] = [reply]
        if current == 1:
            return (reply,)
        made = spoilt(attack, before, reply)
        return kept if attack.late else (made, *(kept if attack.twice else ()))

    return way


def spoilt(attack: Attack, before: np.ndarray, reply: Message) -> Message:
    """A reply as the attack makes it."""
    trained = reply.content[ARRAYS][PACKED].numpy()
    weights = attack.spoil(before, trained)
    reply.content[ARRAYS] = ArrayRecord({PACKED: Array(weights)})
    if attack.count is not None:
        reply.content[METRICS] = MetricRecord({COUNT: attack.count})
    return reply


def halves(cases: dict[str, SiteCases]) -> dict[str, SiteCases]:
    """Each hospital as two sites, by patient."""
    found = {}
    for name, site in cases.items():
        patients = sorted({case.patient_key for case in site.train})
        first = set(patients[::2])
        for n, is_in in (("a", True), ("b", False)):
            part = tuple(case for case in site.train if (case.patient_key in first) is is_in)
            found[f"{name} {n}"] = replace(site, train=part)
    return found


def nodes(sites: dict[str, Hospital], attack: Attack) -> dict[int, Node]:
    """The sites, the last of them bad."""
    ways: list[Way] = [lambda _, reply: (reply,)] * (len(sites) - attack.sites)
    ways += [bad_way(attack) for _ in range(attack.sites)]
    return {
        FIRST + n: Node(app, {}, way=way)
        for n, (app, way) in enumerate(zip(sites.values(), ways, strict=True))
    }


def unprotected(
    sites: dict[str, Hospital], attack: Attack, plan: Plan, rounds: int
) -> np.ndarray | str:
    """Flower's own FedAvg; the name of its error where it ends the run."""
    told = ConfigRecord({FINGERPRINT: plan.fingerprint})
    first = ArrayRecord({PACKED: Array(task.pack(task.new_network(plan)))})
    inner = FedAvg(fraction_evaluate=0.0)
    try:
        result = inner.start(InProcessGrid(nodes(sites, attack)), first, rounds, 1.0, told)
    except Exception as error:  # whatever a bad reply leads to is the result
        return type(error).__name__
    return result.arrays[PACKED].numpy()


def protected(
    sites: dict[str, Hospital], attack: Attack, plan: Plan, rounds: int, how: str
) -> tuple[np.ndarray, float]:
    """Our layer, and the share of the bad sites that it named; without any, of all replies."""
    known = registered({name: site.cases for name, site in sites.items()})
    name, _, kept = how.partition(", ")
    layout = task.layout(task.new_network(plan))
    made = strategy(name, Rules(layout, known, leave_out_opposed=not kept))
    packed = federate(nodes(sites, attack), made, plan, rounds)
    said = [text for told in made.named.values() for text in told]
    if attack is HONEST:
        return packed, len(said) / (len(sites) * rounds)
    bad = [f"site {site}" for site in list(sites)[-attack.sites :]]
    return packed, float(np.mean([any(site in text for text in said) for site in bad]))


def one_seed(
    seed: int, rounds: int, epochs: int, attacks: Sequence[Attack]
) -> dict[tuple[str, str], float | str]:
    """AUROC by attack and way, and who was named."""
    plan = small_plan(epochs, seed)
    tests = test_cases(plan)
    sites = {name: Hospital(cases, plan) for name, cases in halves(hospitals(plan)).items()}
    found: dict[tuple[str, str], float | str] = {}
    for attack in (HONEST, *attacks):
        plain = unprotected(sites, attack, plan, rounds)
        found[attack.name, "Flower"] = score(plain, plan, tests)
        for how in PROTECTED:
            packed, named = protected(sites, attack, plan, rounds, how)
            found[attack.name, how] = score(packed, plan, tests)
            found[attack.name, f"{how} named"] = named
    return found


def score(packed: np.ndarray | str, plan: Plan, tests: Sequence[Case]) -> float | str:
    """AUROC, or the error."""
    return packed if isinstance(packed, str) else auroc(packed, plan, tests)


def cell(values: Sequence[float | str], honest: Sequence[float | str]) -> str:
    """Mean AUROC and its difference from no attack; the error where there was one."""
    errors = [value for value in values if isinstance(value, str)]
    if errors:
        return f"run ended: {errors[0]}"
    mean = float(np.mean([float(v) for v in values]))
    return f"{mean:.3f} ({mean - float(np.mean([float(v) for v in honest])):+.3f})"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6, help="of a round")
    parser.add_argument("--only", default="", help="attacks with this in their name")
    args, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    attacks = [attack for attack in ATTACKS if args.only in attack.name]
    found = [one_seed(seed, args.rounds, args.epochs, attacks) for seed in range(args.seeds)]
    print(
        f"Synthetic hospitals as six sites, {args.rounds} rounds of {args.epochs} epochs, mean "
        f"AUROC over {args.seeds} seeds (difference from no attack, same way).\n"
        "The bad site is honest in the first round. A cross: it was not named.\n"
    )
    print(f"| attack | Flower's FedAvg, unprotected | {' | '.join(PROTECTED)} |")
    print("|---" + "|--:" * (1 + len(PROTECTED)) + "|")
    for attack in (HONEST, *attacks):
        cells = []
        for way in ("Flower", *PROTECTED):
            values = [seed[attack.name, way] for seed in found]
            text = cell(values, [seed["none", way] for seed in found])
            is_named = all(seed.get((attack.name, f"{way} named"), 1.0) == 1.0 for seed in found)
            cells.append(text if is_named or attack is HONEST else f"{text} ×")
        print(f"| {attack.name} | {' | '.join(cells)} |")
    wrong = float(np.mean([seed["none", f"{PROTECTED[0]} named"] for seed in found]))
    print(f"\nWithout an attack, {wrong:.0%} of the honest replies were named.")
    print(f"\nTook {time.perf_counter() - began:.0f} s; {machine()}.")


if __name__ == "__main__":
    main()
