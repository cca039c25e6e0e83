"""What a model's card says of its training cases, and which sites are unlike them."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from clinical.evidence import ClinicalTokens, FactPointer
from clinical.lab_encoder import FACT_KINDS
from fusion.case import Case
from fusion.drift import DIFFERS, LIKE, UNSAID, Drift, compare, merged, profile

Cohort = Callable[..., list[Case]]


def patients(
    n: int, *, age: float = 75.0, scans: float = 0.8, seed: int = 0, females: float = 0.5
) -> list[Case]:
    """Cases of which only age, sex and whether there is a scan are known."""
    rng = np.random.default_rng(seed)
    kinds = np.array([FACT_KINDS.index("age"), FACT_KINDS.index("sex")])
    cases = []
    for k in range(n):
        sex = "female" if rng.random() < females else "male"
        pointers = (FactPointer("p", "", "age", ""), FactPointer("p", "", "sex", sex))
        features = np.zeros((2, 8), np.float32)
        features[0, -3:] = (rng.normal(age, 8.0) - 70) / 10, 0.0, 1.0
        history = ClinicalTokens(features, kinds, np.ones(2, np.float32), pointers)
        tokens = {"history": history}
        if rng.random() < scans:
            one = np.zeros((1, 148), np.float32)
            tokens["scan"] = ClinicalTokens(
                one, np.zeros(1, np.int64), np.ones(1, np.float32), pointers[:1]
            )
        cases.append(Case(f"case{seed}x{k}", f"patient{seed}x{k}", tokens))
    return cases


def named(found: tuple[Drift, ...], name: str) -> Drift:
    """One measure."""
    return next(drift for drift in found if drift.measure == name)


def test_another_draw_of_the_same_patients_is_like_the_training() -> None:
    """Chance alone must not be called drift: twenty sites, three measures each."""
    told = profile(patients(300))
    words = [
        drift.word
        for seed in range(1, 21)
        for drift in compare(told, patients(80, seed=seed))
        if drift.measure in ("history: age, years", "history: female", "scan: present")
    ]

    assert len(words) == 60
    assert words.count(DIFFERS) <= 1
    assert words.count(LIKE) >= 45


def test_older_patients_without_scans_differ() -> None:
    """Both shifts are found, and sex, which is the same, is not."""
    found = compare(profile(patients(300)), patients(80, age=66.0, scans=0.3, seed=1))

    assert named(found, "history: age, years").word == DIFFERS
    assert named(found, "scan: present").word == DIFFERS
    assert named(found, "history: female").word == LIKE
    assert named(found, "history: age, years").mean < 70
    assert named(found, "scan: present").modality == "scan"


def test_twelve_patients_cannot_be_compared() -> None:
    """Whatever they are like."""
    found = compare(profile(patients(300)), patients(12, age=40.0, seed=1))

    assert {drift.word for drift in found} == {UNSAID}


def test_an_analyte_that_the_training_never_saw_is_told(make_case: Callable[..., Case]) -> None:
    """A model cannot know what a new test means."""
    cases = [make_case(seed, modalities=["labs"]) for seed in range(40)]
    told = profile([make_case(seed, modalities=["notes"]) for seed in range(40)])

    found = compare(told, cases)

    assert any(d.measure.endswith(", measured") and d.word == DIFFERS for d in found)


def test_the_card_has_no_cell_of_few_patients() -> None:
    """Seven women of three hundred, and the two oldest, cannot be told."""
    cases = patients(300, females=0.0) + patients(7, females=1.0, age=99.0, seed=1)
    told = profile(cases)["measures"]
    ages = told["history: age, years"]

    assert told["history: female"]["shares"] == [1.0, 0.0]
    assert told["history: female"]["patients"] == 300
    assert "sd" not in told["history: female"]
    assert all(share == 0 or share * ages["patients"] >= 9 for share in ages["shares"])
    assert len(ages["shares"]) == len(ages["edges"]) + 1


def test_a_measure_of_few_patients_is_not_in_the_card() -> None:
    """Nineteen cannot be cut into two cells of ten."""
    assert profile(patients(19))["measures"] == {}


def test_a_patient_counts_once() -> None:
    """Thirty visits of one person are no thirty people."""
    cases = [
        Case(f"visit{n}", "same", case.tokens) for n, case in enumerate(patients(30, scans=1.0))
    ]

    assert profile(cases)["measures"] == {}


@pytest.mark.parametrize(
    "counts", [[13, 4, 5], [0, 0, 25, 0], [10, 0, 10, 1, 9, 2], [1] * 40, [9, 9, 9], [2, 40, 9, 3]]
)
def test_merging_leaves_no_small_cell_and_tells_small_tails_as_empty(counts: list[int]) -> None:
    """What a cell holds lies between its edges."""
    edges, cells = merged(tuple(float(n) for n in range(len(counts) - 1)), np.array(counts), 10)
    ends = [0, *(int(edge) + 1 for edge in edges), len(counts)]
    true = [sum(counts[a:b]) for a, b in itertools.pairwise(ends)]

    assert len(edges) == len(cells) - 1
    for n, (told, held) in enumerate(zip(cells, true, strict=True)):
        is_tail = n in (0, len(cells) - 1)
        assert told == held >= 10 or (told == 0 and held < 10 and is_tail)
