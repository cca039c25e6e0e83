"""What an attacker learns from the updates of this network: patients' values, and who took part.

    python -m benchmarks attacks                      all of it, about fifteen minutes
    python -m benchmarks.attacks --pieces 3           only so much of what is not done yet

`benchmarks.attack_values` takes one update apart (one patient's step, that of eight, a site's whole
round), `benchmarks.attack_members` asks who was in the training. Each is shown without protection,
under secure aggregation of three sites (the attacker sees the sum alone), and behind the site's
guard with clipping and with noise; epsilon is for all of a site's patients at once, by the site's
own accountant. Pieces that are done are kept in ``runs/attacks``. The
attacks on values were made on seed 0, which is in no figure here; only `LOOSE` was set after a look
at the whole round of seed 1.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from flwr.serverapp import GaussianPrivacyEvent

from benchmarks.__main__ import MORE
from benchmarks.attack_matching import matched
from benchmarks.attack_members import Outcome, federation, protected
from benchmarks.attack_tables import (
    EIGHT,
    MATCHED,
    NONE,
    ONE,
    ROUND,
    SUM,
    Found,
    brief,
    conclusions,
    members_table,
    values_table,
)
from benchmarks.attack_values import (
    SLIP,
    Gradient,
    Known,
    gradient,
    known_from,
    packed,
    score,
    unpacked,
)
from benchmarks.hospitals_in_process import HOSPITALS, RUNS, machine
from federated import task, wire
from federated.site.ledger import PARTS, accountant
from federated.site.policy import SitePolicy
from federated.task import Plan, SiteCases
from fusion.case import MODALITIES, Case
from fusion.model import DiagnosticModel
from fusion.store import Site

KEPT = RUNS / "attacks"
DELTA = 1e-5
SEEDS, DRAWS = (1, 2, 3), 5  # networks, and batches of each
FEDERATIONS = tuple(range(1, 7))  # each is attacked with the others as shadows
ROUNDS, EPOCHS = 2, 10  # of the federations
RATE = 0.1  # of the one step
LOOSE = 0.3  # slip of a whole round, in which what is stated of a patient changes
RANK = 96  # directions of a whole round's update that are looked at for sentences
STEP = 2 * wire.CLIPPING / wire.STEPS  # in which secure aggregation counts

CLIPPED = "clipped to 1"
NOISY = {f"clipped to 1, noise {level:g}": level for level in (0.001, 0.01, 0.1)}
PROTECTIONS = (NONE, SUM, CLIPPED, *NOISY)
Kept = dict[str, list[dict[str, float]]]


def policy_of(protection: str) -> SitePolicy:
    """What a site's policy says of clipping and noise."""
    if protection in (NONE, SUM):
        return SitePolicy(clip_norm=1e6)
    return SitePolicy(clip_norm=1.0, noise_multiplier=NOISY.get(protection, 0.0), epsilon=1e9)


def epsilon_of(protection: str, replies: int) -> float | None:
    """What some replies of a site cost; None without noise."""
    if protection not in NOISY:
        return None
    spent = accountant()
    spent.compose(GaussianPrivacyEvent(NOISY[protection] / 2, PARTS, PARTS), replies)
    return float(spent.get_epsilon(DELTA))


# -- values --------------------------------------------------------------------------------


def values(seed: int) -> Kept:
    """Scores by what was exchanged and how it was protected, for one network before training."""
    plan = task.plan_for(RUNS / "sites" / HOSPITALS[0], seed)
    cases = {name: task.site_cases((RUNS / "sites" / name).resolve(), plan) for name in HOSPITALS}
    others = [c for s in cases.values() for c in (*s.valid, *s.calibration, *s.test)]
    network, known, found = task.new_network(plan).eval(), known_from(others, seed), Kept()
    rng = np.random.default_rng(seed)
    for _ in range(DRAWS):
        for name, size in ((ONE, 1), (EIGHT, 8)):
            batches = [_drawn(site.train, size, rng) for site in cases.values()]
            steps = [gradient(network, batch) for batch in batches]
            usual = float(np.linalg.norm(packed(gradient(network, _drawn(others, size, rng)))))
            before = packed_weights(network)
            after = [before - RATE * packed(step) for step in steps]
            _attack(found, name, before, after, batches, known, steps[0], RATE * usual, rng)
    whole = next(c for c in cases[HOSPITALS[0]].train if len(c.tokens) == len(MODALITIES))
    made = matched(network, gradient(network, [whole]), whole, known, seed)
    found[f"{MATCHED} | {NONE}"] = [asdict(made)]
    _attack_round(found, plan, cases, known, gradient(network, others[:1]), rng)
    return found


def _drawn(cases: Sequence[Case], size: int, rng: np.random.Generator) -> list[Case]:
    """Some patients, all of them with notes and laboratory values."""
    whole = [case for case in cases if {"notes", "labs"} <= set(case.tokens)]
    return [whole[n] for n in rng.permutation(len(whole))[:size]]


def packed_weights(network: DiagnosticModel) -> np.ndarray:
    """The weights as they travel."""
    return task.pack(network)


def _attack_round(
    found: Kept, plan: Plan, cases: Mapping[str, SiteCases], known: Known, like: Gradient,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """The same attacks on what sites send after a whole round of the real training."""
    after = []
    for site in cases.values():
        network = task.new_network(plan)
        after.append(task.train(network, site, plan, 1))
    before = task.pack(task.new_network(plan))
    batches = [list(site.train) for site in cases.values()]
    _attack(found, ROUND, before, after, batches, known, like, None, rng, rank=RANK, slip=LOOSE)


def _attack(
    found: Kept,
    name: str,
    before: np.ndarray,
    after: Sequence[np.ndarray],
    batches: Sequence[list[Case]],
    known: Known,
    like: Gradient,
    usual: float | None,
    rng: np.random.Generator,
    rank: int = 1000,
    slip: float = SLIP,
) -> None:
    """Attack the first site's update under every protection, and the sum of all."""
    for protection in PROTECTIONS:
        policy, batch, length = policy_of(protection), batches[0], None
        noise = policy.clip_norm * policy.noise_multiplier
        if protection == SUM:
            sent = np.mean([np.round(weights / STEP) * STEP for weights in after], axis=0)
            batch, noise = [case for some in batches for case in some], STEP / 6
        else:
            sent = protected(before, after[0].astype(np.float32), policy, rng)
        if usual is not None:  # an attacker can try out how long such a gradient is
            length = RATE * min(1.0, policy.clip_norm / usual)
        exchanged = unpacked(before.astype(np.float64) - sent, like)
        made = score(exchanged, batch, known, noise=noise, length=length, rank=rank, slip=slip)
        found.setdefault(f"{name} | {protection}", []).append(asdict(made))


# -- members -------------------------------------------------------------------------------


def small_plan() -> Plan:
    """The standard plan with a smaller network, so that there can be many federations."""
    plan = task.plan_for(RUNS / "sites" / HOSPITALS[0])
    return replace(
        plan,
        model=replace(plan.model, dim=48, heads=4),
        train=replace(plan.train, epochs=EPOCHS, learning_rate=2e-3, warmup_steps=5),
    )


def members(protection: str, seed: int) -> dict[str, object]:
    """One federation on a random half of all synthetic patients."""
    plan = small_plan()
    pools = {
        name: [c for kind in ("sites", "test_sites")
               for c in Site.open(RUNS / kind / name).training_cases(plan.scheme)]
        for name in HOSPITALS
    }  # fmt: skip
    made = federation(plan, pools, policy_of(protection), ROUNDS, seed)
    return {
        "member": made.member.tolist(), "average": made.average.tolist(),
        "update": made.update.tolist(), "auroc": made.auroc,
    }  # fmt: skip


def read_outcome(told: Mapping[str, object]) -> Outcome:
    """What `members` made."""
    member, average, update = (np.array(told[name]) for name in ("member", "average", "update"))
    return Outcome(member, average, update, float(str(told["auroc"])))


# -- pieces and report ---------------------------------------------------------------------


def pieces(seeds: Sequence[int], federations: Sequence[int]) -> dict[str, Callable[[], object]]:
    """Everything that is computed, by the name of its file."""
    made: dict[str, Callable[[], object]] = {
        f"values-{seed}": lambda seed=seed: values(seed) for seed in seeds
    }
    for protection in PROTECTIONS:
        if protection != SUM:  # the average is what a secure sum shows
            for seed in federations:
                made[f"members-{file_name(protection)}-{seed}"] = (
                    lambda protection=protection, seed=seed: members(protection, seed)
                )
    return made


def file_name(protection: str) -> str:
    """A protection in the name of a file.

    Example:
        >>> file_name("clipped to 1, noise 0.1")
        'clipped-to-1-noise-0.1'
    """
    return protection.replace(",", "").replace(" ", "-")


def computed(todo: Mapping[str, Callable[[], object]], most: int) -> dict[str, Any]:
    """Compute what is not kept yet, at most so many; what is kept by then."""
    KEPT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name, work in todo.items():
        path = KEPT / f"{name}.json"
        if not path.exists() and most > 0:
            most, began = most - 1, time.monotonic()
            made = work()
            seconds = round(time.monotonic() - began, 1)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps({"seconds": seconds, "made": made}))
            partial.replace(path)
        if path.exists():
            found[name] = json.loads(path.read_text())
    return found


def gathered(pieces_: Mapping[str, Any], seeds: Sequence[int]) -> Found:
    """What the tables need of all pieces."""
    scores: Kept = {}
    for seed in seeds:
        for name, rows in pieces_[f"values-{seed}"]["made"].items():
            scores.setdefault(name, []).extend(rows)
    outcomes = {}
    for protection in PROTECTIONS:
        start = f"members-{file_name(protection)}-"
        mine = [
            read_outcome(piece["made"])
            for name, piece in pieces_.items()
            if name.startswith(start) and name.removeprefix(start).isdigit()
        ]
        if mine:
            outcomes[protection] = mine
    return Found(PROTECTIONS, scores, outcomes, epsilon_of, ROUNDS)


def report(pieces_: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """The whole text."""
    found = gathered(pieces_, seeds)
    runs = len(found.outcomes[NONE])
    seconds = sum(piece["seconds"] for piece in pieces_.values())
    plan = task.plan_for(RUNS / "sites" / HOSPITALS[0])
    return f"""\
The synthetic hospitals. Values: error of reconstructing laboratory values from what was exchanged,
in that of guessing the cohort's mean (0: read off exactly; 1: nothing learnt). Who took part: AUROC
of telling patients of the training from others (0.5: nothing learnt). Epsilon: for all patients of
a site at once, delta {DELTA:g}.

{brief(found)}

{conclusions(found)}

{MORE}

Values: the real network ({task.layout(task.new_network(plan)).size:,} numbers travel) before
training, {len(seeds)} seeds, {DRAWS} batches of each (of a whole round, one; a sum holds the
patients of three sites). Means and 95 % intervals over these. The attacker knows the diagnoses in
the batch and what is usual in other patients. r: correlation of what differs from the mean.
Guessed: from how common an analyte is. Sentences found: share of a patient's sentences that are
recognised in a list, where 1 % of foreign ones are.

{values_table(found.scores)}

Who took part: {runs} federations of {ROUNDS} rounds of {EPOCHS} epochs, each on a random half of
720 patients, with a smaller network (48 wide); each is attacked with the {runs - 1} others as
shadow models. Found at 1 %: share of members found where 1 % of the others are called members.
Epsilon of all rounds. What the average shows is what secure aggregation shows.

{members_table(found)}

The pieces took {seconds:.0f} s in all, one core each, on a machine that did other work too;
{machine()}."""


def main() -> None:
    """Compute what is missing, and print the tables where all is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--federations", type=int, nargs="*", default=list(FEDERATIONS))
    parser.add_argument("--pieces", type=int, default=10**6, help="at most, then end")
    args, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    todo = pieces(args.seeds, args.federations)
    found = computed(todo, args.pieces)
    if len(found) < len(todo) or not args.seeds or len(args.federations) < 2:
        print(f"{len(found)} of {len(todo)} pieces are done")
        return
    print(report(found, args.seeds))


if __name__ == "__main__":
    main()
