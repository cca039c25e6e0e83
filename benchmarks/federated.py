"""Pooled, each hospital alone, federated by each strategy and then personalised, on the same tests.

    python -m benchmarks federated                              all, or what is not kept yet
    python -m benchmarks.federated --part hearts --seed 3       only train and keep one part's seed

Four questions: the three synthetic hospitals; the same where they differ more (one without scans,
one that writes Chinese, one of twelve patients); heart disease at four real hospitals; brain age
at three. Predictions are kept in runs/federated_tables, so an interrupted run goes on.
"""

import argparse
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks import federated_ages, federated_hearts
from benchmarks.federated_scores import (
    ALONE,
    POOLED,
    RESAMPLES,
    Kept,
    Predictions,
    Scores,
    diagnoses,
    draws,
    mean_auroc,
)
from benchmarks.federated_ways import NAMES, PERSONAL, TUNED, Study, ways
from benchmarks.hospitals_in_process import HOSPITALS, RUNS, hospitals, machine, small_plan
from benchmarks.tables import FOLDER
from clinical.evidence import ClinicalTokens
from clinical.record import PatientRecord
from federated import task
from federated.task import Plan, SiteCases
from fusion.case import Case
from fusion.store import Site

SITES = [RUNS / "sites" / name for name in HOSPITALS]
TESTS = [RUNS / "test_sites" / name for name in HOSPITALS]
KEPT = RUNS / "federated_tables"
ROUNDS, EPOCHS = 12, 2  # of a federation of the synthetic hospitals, and of a round
FEW = 12  # patients of the smallest hospital, where hospitals differ
CENTRAL = ("pooled", "alone", "fedavg", "personal")  # trained where hospitals differ
SHOWN = (POOLED, ALONE, *NAMES.values(), TUNED, PERSONAL)


# -- the synthetic hospitals ---------------------------------------------------------------


def study(seed: int, *, different: bool) -> Study:
    """The synthetic hospitals, of one seed; tests are a second cohort of which nobody saw a case.

    Args:
        seed: Of splits, first weights and order.
        different: Whether north has no scans, river only its notes in Chinese, and harbour twelve
            patients; each hospital's tests are of its own kind.
    """
    plan = small_plan(EPOCHS, seed)
    tests = {f.name: Site.open(f).training_cases(plan.scheme) for f in TESTS}
    if not different:
        return Study(hospitals(plan), tests, plan, ROUNDS)
    cases = {f.name: Site.open(f).training_cases(plan.scheme) for f in SITES}
    mine = {
        "north": without_scans(cases["north"]),
        "river": in_chinese(SITES[1], cases["river"]),
        "harbour": some_patients(cases["harbour"], FEW, seed),
    }
    tests["north"] = without_scans(tests["north"])
    tests["river"] = in_chinese(TESTS[1], tests["river"])
    return Study({n: task.split(c, plan.train) for n, c in mine.items()}, tests, plan, ROUNDS)


def without_scans(cases: Sequence[Case]) -> list[Case]:
    """Cases as a hospital without a scanner has them."""
    return [case.only("notes", "labs", "history") for case in cases if set(case.tokens) - {"scan"}]


def in_chinese(folder: Path, cases: Sequence[Case]) -> list[Case]:
    """The same cases, of whose notes only those in Chinese are left."""
    site = Site.open(folder)
    return [only_notes(c, chinese_notes(site.record(c.case_id))) for c in cases]


def chinese_notes(record: PatientRecord) -> set[str]:
    """Ids of the notes in Chinese."""
    return {note.id for note in record.notes if note.language == "zh"}


def only_notes(case: Case, ids: set[str]) -> Case:
    """A case with the sentences of some notes and of no others, and all its other evidence."""
    rest = {modality: tokens for modality, tokens in case.tokens.items() if modality != "notes"}
    notes = case.tokens.get("notes")
    rows = [n for n, p in enumerate(notes.pointers if notes else ()) if p.note_id in ids]
    if notes and rows:
        rest["notes"] = ClinicalTokens(
            notes.features[rows],
            notes.kinds[rows],
            notes.quality[rows],
            tuple(notes.pointers[n] for n in rows),
        )
    return replace(case, tokens=rest)


def some_patients(cases: Sequence[Case], patients: int, seed: int) -> list[Case]:
    """The cases of some patients drawn at random."""
    keys = sorted({case.patient_key for case in cases})
    drawn = set(np.random.default_rng(seed).permutation(keys)[:patients].tolist())
    return [case for case in cases if case.patient_key in drawn]


def train_synthetic(kept: Kept, seed: int, *, different: bool) -> Predictions:
    """Logits by every way, of one seed."""
    made, found = study(seed, different=different), Predictions()
    asked = {n: w for n, w in ways(made).items() if n in CENTRAL or not different}
    for name, way in asked.items():
        title = f"{'different' if different else 'hospitals'}-{seed}-{name}"
        found |= kept.get(title, made.settings, way)
    return found


def aurocs(
    predictions: Sequence[Predictions], tests: Mapping[str, Sequence[Case]], plan: Plan
) -> dict[str, dict[str, np.ndarray]]:
    """Mean AUROC by way, hospital, seed and draw."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for way in predictions[0]:
        for n, (name, cases) in enumerate(tests.items()):
            weights = draws(len(cases), n)
            found.setdefault(way, {})[name] = np.array([
                mean_auroc(*diagnoses(of[way][name], cases, plan.model.n_syndromes), weights)
                for of in predictions
            ])  # fmt: skip
    return found


def counts(parts: Mapping[str, SiteCases], tests: Mapping[str, Sequence[Case]]) -> str:
    """Cases to train and to test on, in words."""
    return ", ".join(f"{h} {len(c.train)} and {len(tests[h])}" for h, c in parts.items())


# -- the four questions --------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One question.

    Attributes:
        train: Trains, or takes what is kept, of one seed.
        score: Makes scores of every seed's predictions, and says what they are of.
        here: Whether its data are.
    """

    train: Callable[[Kept, int], Predictions]
    score: Callable[[Sequence[Predictions], float], tuple[Scores, str]]
    here: Callable[[], bool]


def _synthetic(*, different: bool) -> Part:
    """One of the two questions of the synthetic hospitals."""

    def score(predictions: Sequence[Predictions], seconds: float) -> tuple[Scores, str]:
        made = study(0, different=different)
        ways_ = aurocs(predictions, made.tests, made.plan)
        title = "synthetic hospitals" + (" that differ" if different else "")
        words = (
            f"Cases to train and to test on: {counts(made.cases, made.tests)}. "
            f"{ROUNDS} rounds of {EPOCHS} epochs, a network of {made.plan.model.dim} numbers a "
            "token (a smaller one than ships). Mean AUROC of the diagnoses with enough patients."
        )
        if different:
            words += (
                " North has no scans, river only those of its notes that are in Chinese, "
                f"harbour {FEW} patients, too few to validate on: what is federated is taken as is."
            )
        return Scores(title, "AUROC", 1, 3, ways_, seconds), words

    return Part(
        lambda kept, seed: train_synthetic(kept, seed, different=different),
        score,
        lambda: all(folder.exists() for folder in (*SITES, *TESTS)),
    )


def _score_hearts(predictions: Sequence[Predictions], seconds: float) -> tuple[Scores, str]:
    """Accuracy at the four hospitals of the heart tables."""
    hearts = federated_hearts.load()
    more = [
        of | federated_hearts.logistic(hearts) | averaged
        for averaged in [federated_hearts.averaged(predictions, SHOWN)]
        for of in predictions
    ]
    found = Scores(
        "UCI Heart Disease", "accuracy", 1, 3, federated_hearts.accuracy(more, hearts), seconds
    )
    return found, federated_hearts.words(more, hearts)


def _score_ages(predictions: Sequence[Predictions], seconds: float) -> tuple[Scores, str]:
    """Errors at the three hospitals of the tables of volumes."""
    brains = federated_ages.load()
    people = ", ".join(f"{h} {len(b.years)}" for h, b in brains.items())
    words = (
        f"People: {people}; {federated_ages.FOLDS} folds. Errors, so less is better (in the last "
        "column more is better throughout). Pooled and alone are solved in one go; a federation "
        f"takes up to {federated_ages.ROUNDS} rounds of {federated_ages.STEPS} full gradient steps."
    )
    found = federated_ages.errors(predictions, brains)
    return Scores("brain age, IXI", "years", -1, 2, found, seconds), words


PARTS = {
    "hospitals": _synthetic(different=False),
    "different": _synthetic(different=True),
    "hearts": Part(federated_hearts.train, _score_hearts, (FOLDER / "heart_uci").exists),
    "ages": Part(federated_ages.train, _score_ages, (FOLDER / "ixi_volumes").exists),
}


def trained(name: str, seed: int, folder: Path) -> tuple[Predictions, float]:
    """One part's predictions of one seed, and the seconds they took once."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    kept = Kept(folder)
    return PARTS[name].train(kept, seed), sum(kept.seconds)


# -- what is printed -----------------------------------------------------------------------


def brief(all_scores: Sequence[Scores]) -> str:
    """One line a way of training, one column a question."""
    heads = [f"{s.title}, {s.measure}" for s in all_scores]
    lines = [f"| trained | {' | '.join(heads)} |", "|---" + "|--:" * len(heads) + "|"]
    for way in SHOWN:
        cells = []
        for scores in all_scores:
            if way not in scores.ways:
                cells.append("")
                continue
            told = f"{scores.number(float(scores.mean(way)[0]))} {scores.over_seeds(way)}".strip()
            cells.append(told if way == ALONE else f"{told} ({scores.count_better(way)})")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def worse(all_scores: Sequence[Scores]) -> str:
    """Where a federation is worse than a hospital alone, in words."""
    plain, every = [], []
    for scores in all_scores:
        ways_ = [way for way in SHOWN[2:] if way in scores.ways]
        lost = {w: {h for h in scores.hospitals if scores.gain(w, h)[0] <= 0} for w in ways_}
        for told, there in (
            (plain, lost[NAMES["fedavg"]]),
            (every, set.intersection(*lost.values())),
        ):
            if there:
                told.append(f"{scores.title}: {', '.join(sorted(there))}")
    return (
        "Where FedAvg is worse than the hospital alone, or no better: "
        f"{'; '.join(plain) or 'nowhere'}. Where every way of federating is: "
        f"{'; '.join(every) or 'nowhere'}."
    )


def main() -> None:
    """Train what is not kept, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--seed", type=int, nargs="+", help="train and keep only these, print nothing"
    )
    parser.add_argument("--part", choices=list(PARTS), nargs="+", default=list(PARTS))
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of finished trainings")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    args, _ = parser.parse_known_args()
    parts = [name for name in args.part if PARTS[name].here()]
    seeds = args.seed or range(args.seeds)
    wanted = [(name, seed, args.kept) for name in parts for seed in seeds]
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        found = list(pool.map(trained, *zip(*wanted, strict=True)))
    if args.seed:
        return
    by_part = {
        name: [made for (asked, _, _), made in zip(wanted, found, strict=True) if asked == name]
        for name in parts
    }
    scored = [
        PARTS[name].score([made for made, _ in seeds_], sum(s for _, s in seeds_))
        for name, seeds_ in by_part.items()
    ]
    report(scored, args.seeds, [name for name in args.part if name not in parts])


def report(scored: Sequence[tuple[Scores, str]], seeds: int, absent: Sequence[str]) -> None:
    """Print all tables."""
    all_scores = [scores for scores, _ in scored]
    print(
        f"Mean of the hospitals, each on its own test patients; {seeds} seeds and half their 95 % "
        "interval (Student's t). In brackets: at how many hospitals it is better than that "
        "hospital alone.\n"
    )
    print(brief(all_scores))
    print(f"\n{worse(all_scores)}")
    for name in absent:
        print(f"\nSkipped, its data are not here: {name}.")
    print("\n<!-- more -->")
    print(
        f"\nIn brackets: 95 % intervals over test patients ({RESAMPLES} bootstrap samples within "
        "each hospital,\nthe mean of the seeds of each). Seeds: half the 95 % interval over them. "
        "Last column: gain over the hospital alone,\na star where its interval leaves out 0. The "
        "network sees each training case as often in a federation as pooled\nor alone, at most; "
        "fine-tuning comes on top. Hospitals that work against the others are not left out, for "
        "all are honest."
    )
    for scores, words in scored:
        print(f"\n### {scores.title}: {scores.measure}\n\n{words}\n\n{scores.table()}")
    seconds = sum(scores.seconds for scores in all_scores)
    print(
        f"\nOne after the other, on one core each and with other work beside them, the trainings "
        f"took {seconds / 60:.0f} minutes; {machine()}."
    )


if __name__ == "__main__":
    main()
