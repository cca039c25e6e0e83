"""Courses of values and coded facts as tokens."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clinical.lab_encoder import (
    FACT_KINDS,
    LabEncoder,
    history_tokens,
    lab_tokens,
    z_score,
)
from clinical.record import (
    Coding,
    Condition,
    FamilyMember,
    Medication,
    Observation,
    PatientRecord,
    ReferenceRange,
)
from clinical.units import ANALYTE_INDEX, ANALYTES, analyte

MMSE, TSH, CDR, MISSING = "72106-8", "3016-3", "72088-8", "0000-0"
TODAY = dt.date(2026, 11, 23)
SNOMED = "http://snomed.info/sct"
ICD10 = "http://hl7.org/fhir/sid/icd-10"


class Letters:
    """A text encoder of three lines: it remembers what it was given to read."""

    dim = 2

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Length of the text and of its first word."""
        self.read += texts
        return torch.tensor([[float(len(text)), float(text.index(":"))] for text in texts])

    def trust(self, language: str) -> float:
        """English only."""
        return 1.0 if language == "en" else 0.2


def seen(loinc: str, value: float | None, years_ago: float | None = 0.0) -> Observation:
    """A value some years before today; None has no date."""
    date = None if years_ago is None else TODAY - dt.timedelta(days=round(years_ago * 365.25))
    number = None if value is None else float(value)
    return Observation(f"{loinc}/{years_ago}", loinc, "", number, "", date=date)


def course(loinc: str, *values: float) -> PatientRecord:
    """One value a year, the last one today."""
    ages = range(len(values) - 1, -1, -1)
    visits = [seen(loinc, value, float(age)) for value, age in zip(values, ages, strict=True)]
    return PatientRecord("p", "female", observations=tuple(visits))


def condition(
    display: str, code: str = "1", status: str = "active", system: str = SNOMED
) -> Condition:
    """A condition without an onset."""
    return Condition(f"c-{display}", Coding(system, code, display), status)


def phrases(record: PatientRecord, exclude: frozenset[str] = frozenset()) -> list[str]:
    """What the text encoder is given of a record without age and sex."""
    encoder = Letters()
    history_tokens(replace(record, sex="unknown"), encoder, exclude=exclude)
    return encoder.read


# ── z ────────────────────────────────────────────────────────────────────────────────────────────


def test_limits_of_the_range_lie_two_deviations_from_its_middle() -> None:
    """As 95 % of the healthy lie within a reference range."""
    tsh = analyte(TSH)
    assert tsh is not None
    assert [z_score(v, tsh) for v in (0.4, 2.45, 4.5)] == pytest.approx([-2, 0, 2])


def test_the_senders_range_wins_if_it_makes_sense() -> None:
    """Another assay has other limits; a range upside down has none."""
    tsh = analyte(TSH)
    assert tsh is not None
    assert z_score(4.5, tsh, ReferenceRange(0.0, 9.0)) == pytest.approx(0)
    assert z_score(4.5, tsh, ReferenceRange(9.0, 0.0)) == pytest.approx(2)
    assert z_score(4.5, tsh, ReferenceRange(None, None)) != 0


def test_a_scale_given_as_its_own_range_is_no_reference() -> None:
    """0 to 30 says what the MMSE can be, not what is healthy."""
    mmse = analyte(MMSE)
    assert mmse is not None
    assert z_score(18.0, mmse, ReferenceRange(0.0, 30.0)) == z_score(18.0, mmse)


@pytest.mark.parametrize("entry", ANALYTES, ids=lambda entry: entry.name)
def test_every_analyte_has_a_bounded_rising_z(entry: object) -> None:
    """From the least plausible value to the greatest, whichever sides of its range are open."""
    assert isinstance(entry, type(ANALYTES[0]))
    low, high = entry.plausible
    scores = [z_score(low + (high - low) * step / 50, entry) for step in range(51)]

    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    assert -8 <= scores[0] <= scores[-1] <= 8


def test_severe_dementia_stays_distinguishable_from_moderate() -> None:
    """A CDR of 1, 2 and 3 are all far out of range and yet not the same."""
    cdr = analyte(CDR)
    assert cdr is not None
    one, two, three = (z_score(value, cdr) for value in (1.0, 2.0, 3.0))
    assert 2 < one < two < three == 8


# ── labs ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_course_is_right_aligned_with_the_latest_last() -> None:
    """Three visits fill the last three places of six."""
    tokens = lab_tokens(course(MMSE, 30, 27, 24))

    assert tokens is not None
    assert tokens.kinds.tolist() == [ANALYTE_INDEX[MMSE]]
    assert tokens.features[0, :, 2].tolist() == [0, 0, 0, 1, 1, 1]
    assert tokens.features[0, 3:, 0].tolist() == pytest.approx([2, 0, -2])
    assert tokens.features[0, 3:, 1].tolist() == pytest.approx([2, 1, 0], abs=0.01)


def test_the_pointer_names_every_observation_oldest_first() -> None:
    """Also those that are too many for the features."""
    tokens = lab_tokens(course(MMSE, *range(20, 28)))

    assert tokens is not None
    dates = tokens.pointers[0].dates  # type: ignore[union-attr]
    assert len(dates) == 8
    assert list(dates) == sorted(dates)
    assert tokens.features[0, -1, 0] == pytest.approx(z_score(27.0, ANALYTES[ANALYTE_INDEX[MMSE]]))


def test_tokens_follow_the_table_and_not_the_file() -> None:
    """The same record in another order is the same evidence."""
    visits = (seen(MMSE, 22), seen(TSH, 2.0, 1), seen(MMSE, 25, 2))
    one = lab_tokens(PatientRecord("p", "male", observations=visits))
    other = lab_tokens(PatientRecord("p", "male", observations=visits[::-1]))

    assert one is not None
    assert other is not None
    assert torch.equal(one.features, other.features)
    assert one.kinds.tolist() == sorted(one.kinds.tolist())


def test_an_old_value_is_relied_upon_less() -> None:
    """Quality halves every two years."""
    visits = (seen(MMSE, 22, 0), seen(TSH, 2.0, 4))
    tokens = lab_tokens(PatientRecord("p", "male", observations=visits))

    assert tokens is not None
    assert dict(zip(tokens.kinds.tolist(), tokens.quality.tolist(), strict=True)) == {
        ANALYTE_INDEX[MMSE]: 1.0,
        ANALYTE_INDEX[TSH]: pytest.approx(0.25, abs=0.01),
    }


def test_an_undated_value_counts_but_less_and_never_as_the_latest() -> None:
    """Somebody measured it, nobody says when."""
    visits = (seen(MMSE, 22, 1), seen(MMSE, 30, None), seen(TSH, 2, None), seen(CDR, 1, 0))
    tokens = lab_tokens(PatientRecord("p", "male", observations=visits))

    assert tokens is not None
    quality = dict(zip(tokens.kinds.tolist(), tokens.quality.tolist(), strict=True))
    assert quality[ANALYTE_INDEX[TSH]] == 0.5
    mmse = tokens.pointers[tokens.kinds.tolist().index(ANALYTE_INDEX[MMSE])]
    assert mmse.dates[0] == ""  # type: ignore[union-attr]


def test_text_results_and_unknown_analytes_make_no_token() -> None:
    """'Hemolysed' is not a number, and what is not in the table has no range."""
    visits = (seen(TSH, None), seen(MISSING, 3.0))
    assert lab_tokens(PatientRecord("p", "male", observations=visits)) is None


# ── network ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def network() -> LabEncoder:
    """An untrained one."""
    torch.manual_seed(0)
    return LabEncoder(16)


def encode(network: LabEncoder, record: PatientRecord) -> Tensor:
    """The vectors of a record's analytes."""
    tokens = lab_tokens(record)
    assert tokens is not None
    encoded: Tensor = network(tokens.features[None], tokens.kinds[None])[0]
    return encoded


def test_an_absent_visit_cannot_change_the_token(network: LabEncoder) -> None:
    """Whatever an empty place holds."""
    features = torch.zeros(1, 1, 6, 3)
    features[0, 0, 4:] = torch.tensor([[1.0, 1.0, 1.0], [-2.0, 0.0, 1.0]])
    misled = features.clone()
    misled[0, 0, :4, :2] = 1e3
    kinds = torch.zeros(1, 1, dtype=torch.int64)

    assert torch.equal(network(features, kinds), network(misled, kinds))


def test_a_falling_mmse_and_a_rising_one_are_different_evidence(network: LabEncoder) -> None:
    """Same values, same last value, another course."""
    falling = encode(network, course(MMSE, 29, 26, 22, 20))
    rising = encode(network, course(MMSE, 22, 26, 29, 20))

    assert (falling - rising).norm() > 1e-3 * falling.norm()


def test_the_network_learns_a_slope_from_the_course() -> None:
    """Two hundred steps tell courses that fall from courses that rise to the same value."""
    torch.manual_seed(0)
    network, head = LabEncoder(16), torch.nn.Linear(16, 1)
    slopes = torch.linspace(-2, 2, 64)
    years = torch.arange(5, -1, -1.0)
    z = -1 - slopes[:, None] * years
    features = torch.stack([z, years.expand_as(z), torch.ones_like(z)], dim=-1)[:, None]
    kinds = torch.zeros(64, 1, dtype=torch.int64)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(200):
        loss = (head(network(features, kinds))[:, 0, 0] - slopes).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert loss < 0.05 * slopes.var()


def test_the_same_deviation_of_another_analyte_is_another_token(network: LabEncoder) -> None:
    """A high TSH is not a high CRP."""
    features = torch.tensor([[[3.0, 0.0, 1.0]]]).expand(1, 2, 6, 3)
    high = network(features, torch.tensor([[0, 1]]))[0]
    assert not torch.allclose(high[0], high[1])


def test_a_padded_token_has_finite_output_and_gradient(network: LabEncoder) -> None:
    """Else one patient with few tests would make every weight NaN."""
    features = torch.zeros(2, 3, 6, 3, requires_grad=True)
    output = network(features, torch.zeros(2, 3, dtype=torch.int64))
    output.square().sum().backward()

    assert output.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert not features.grad[..., :2].any()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())


def test_the_network_exports(network: LabEncoder) -> None:
    """No branch depends on the data, so that other engines can run it."""
    features, kinds = torch.zeros(1, 3, 6, 3), torch.zeros(1, 3, dtype=torch.int64)
    program = torch.export.export(network, (features, kinds))
    torch.testing.assert_close(program.module()(features, kinds), network(features, kinds))


# ── history ──────────────────────────────────────────────────────────────────────────────────────


def test_only_what_is_known_becomes_a_token() -> None:
    """No age without a birth date, no sex where it is unknown."""
    assert history_tokens(PatientRecord("p", "unknown"), Letters()) is None


def test_demographics_are_numbers_with_a_flag() -> None:
    """Age in decades from 70, education in fours from 12; sex is a word."""
    record = replace(course(MMSE, 22), birth_date=dt.date(1946, 11, 23), education_years=16.0)
    encoder = LettersWithoutColon()
    tokens = history_tokens(record, encoder)

    assert tokens is not None
    assert [FACT_KINDS[kind] for kind in tokens.kinds] == ["age", "sex", "education"]
    assert encoder.read == ["age 80 years", "Sex: female", "education 16 years"]
    assert tokens.features[:, 2].tolist() == pytest.approx([1, 0, 1], abs=1e-3)
    assert tokens.features[:, 4].tolist() == [1, 0, 1]


class LettersWithoutColon(Letters):
    """For phrases of any form."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Nothing but zeros."""
        self.read += texts
        return torch.zeros(len(texts), self.dim)


def test_a_fact_says_its_sort_and_whether_it_is_past() -> None:
    """Resolved conditions stay, since a past brain injury matters today."""
    record = PatientRecord(
        "p",
        "unknown",
        conditions=(condition("Epilepsy"), condition("Brain injury", "2", "resolved")),
        medications=(Medication("m", Coding("", "3", "donepezil"), "active"),),
        family_history=(FamilyMember("f", "mother", Coding(SNOMED, "4", "Alzheimer's disease")),),
    )
    assert phrases(record) == [
        "Condition: Epilepsy",
        "Past condition: Brain injury",
        "Medication: donepezil",
        "Family history: mother, Alzheimer's disease",
    ]


def test_a_drug_that_was_never_taken_is_no_fact() -> None:
    """A draft or a mistake says nothing of the patient."""
    drugs = [
        Medication(status, Coding("", status, status), status)
        for status in ("draft", "entered-in-error", "not-taken", "cancelled", "stopped")
    ]
    record = PatientRecord("p", "unknown", medications=tuple(drugs))
    assert phrases(record) == ["Past medication: stopped"]


def test_the_diagnosis_to_be_predicted_is_not_among_the_evidence() -> None:
    """Nor what lies below it in ICD-10; a mother's dementia remains."""
    conditions = (
        condition("Dementia", "52448006"),
        condition("Alzheimer's disease, late onset", "G30.1", system=ICD10),
        condition("Gout", "M10.9", system=ICD10),
    )
    mother = FamilyMember("f", "mother", Coding(SNOMED, "52448006", "Dementia"))
    record = PatientRecord("p", "unknown", conditions=conditions, family_history=(mother,))

    assert phrases(record, frozenset({"52448006", "G30"})) == [
        "Condition: Gout",
        "Family history: mother, Dementia",
    ]


def test_what_began_after_the_case_is_not_known_yet() -> None:
    """A drug prescribed because of the diagnosis must not predict it."""
    tomorrow = TODAY + dt.timedelta(days=1)
    record = replace(
        course(MMSE, 22),
        conditions=(replace(condition("Gout"), onset=TODAY),),
        medications=(Medication("m", Coding("", "3", "donepezil"), "active", tomorrow),),
    )
    assert phrases(record) == ["Condition: Gout"]


def test_a_drug_prescribed_every_month_is_one_fact() -> None:
    """The latest entry counts: it was stopped."""
    drugs = [
        Medication(f"m{month}", Coding("", "3", "donepezil"), status, dt.date(2025, month, 1))
        for month, status in ((1, "active"), (3, "stopped"), (2, "active"))
    ]
    record = replace(course(MMSE, 22), medications=tuple(drugs), sex="unknown")
    tokens = history_tokens(record, Letters())

    assert tokens is not None
    assert [pointer.resource_id for pointer in tokens.pointers] == ["m3"]  # type: ignore[union-attr]
    years = (TODAY - dt.date(2025, 3, 1)).days / 365.25
    assert tokens.features[0, 3] == pytest.approx(years / 10)


def test_a_fact_in_an_unread_language_has_low_quality() -> None:
    """An English model sees only strange characters there."""
    record = PatientRecord("p", "unknown", conditions=(condition("高血压"), condition("Gout", "2")))
    tokens = history_tokens(record, Letters())

    assert tokens is not None
    assert tokens.quality.tolist() == pytest.approx([0.2, 1.0])
