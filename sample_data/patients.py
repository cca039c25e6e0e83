"""Who a synthetic patient is: a hidden disease, and what each modality shows of it.

Every cause has a severity. Scores, laboratory values, regions and symptoms each follow it through
their own noise, so that none of them alone tells the diagnosis. `README.md` says where the
numbers come from.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sample_data.hospitals import Hospital

Syndrome = Literal["NC", "MCI", "DE"]
Cause = Literal["AD", "LBD", "VD", "PRD", "FTD", "NPH", "SEF", "PSY", "TBI", "ODE"]

SYNDROMES: tuple[Syndrome, ...] = ("NC", "MCI", "DE")
CAUSES: tuple[Cause, ...] = ("AD", "LBD", "VD", "PRD", "FTD", "NPH", "SEF", "PSY", "TBI", "ODE")
# How likely a second cause joins the first; anything else is `OTHER_SECOND`.
SECOND: Mapping[tuple[str, str], float] = {
    ("AD", "VD"): 0.25, ("AD", "LBD"): 0.10, ("LBD", "AD"): 0.25, ("VD", "AD"): 0.25,
    ("NPH", "VD"): 0.15, ("TBI", "PSY"): 0.20, ("SEF", "PSY"): 0.15,
}  # fmt: skip
OTHER_SECOND = 0.02
# Mean age at the visit and its standard deviation, years.
AGES: Mapping[str, tuple[float, float]] = {
    "NC": (70, 8), "AD": (75, 7), "LBD": (74, 6), "VD": (75, 7), "PRD": (65, 7), "FTD": (63, 6),
    "NPH": (75, 5), "SEF": (68, 9), "PSY": (66, 8), "TBI": (66, 9), "ODE": (64, 9),
}  # fmt: skip
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "SEF": ("b12", "thyroid", "alcohol", "drugs"),
    "FTD": ("behaviour", "language"),
    "ODE": ("mass", "seizures", "huntington"),
}


@dataclass(frozen=True)
class Lesion:
    """A dark spot in the tissue.

    Attributes:
        centre_mm: In world coordinates of the template, RAS+.
        radius_mm: Where it is half as dark as in its middle.
        depth: 0 none, 1 black.
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    depth: float


@dataclass(frozen=True)
class Patient:
    """One synthetic patient at the time of the case.

    Attributes:
        case_id: Says nothing.
        sex: FHIR administrative gender.
        age_years: At the visit.
        education_years: Years of schooling.
        visit: Date of the case.
        syndrome: ``NC``, ``MCI`` or ``DE``.
        severity: 0..1 by cause; only the causes the patient has.
        variant: Form of a cause that has several, by cause.
        side: 1.0 where the left half suffers alone, -1.0 the right, 0 both.
    """

    case_id: str
    sex: Literal["female", "male"]
    age_years: float
    education_years: int
    visit: dt.date
    syndrome: Syndrome
    severity: Mapping[str, float]
    variant: Mapping[str, str]
    side: float

    @property
    def diagnoses(self) -> tuple[str, ...]:
        """Keys of the 13-label scheme."""
        return (self.syndrome, *self.severity)

    def has(self, name: str) -> float:
        """Severity of a cause or of one of its variants (``SEF:b12``), 0 where absent."""
        cause, _, variant = name.partition(":")
        if variant and self.variant.get(cause) != variant:
            return 0.0
        return self.severity.get(cause, 0.0)


def case_rng(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each case and purpose, whatever else was drawn."""
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
    return np.random.default_rng([seed, index, word])


def draw_patient(hospital: Hospital, seed: int, index: int) -> Patient:
    """Draw the hidden truth about one patient."""
    rng = case_rng(seed, index, "patient")
    syndrome = SYNDROMES[rng.choice(3, p=hospital.syndromes)]
    causes = [] if syndrome == "NC" else _causes(hospital, rng)
    low, high = {"NC": (0, 0), "MCI": (0.2, 0.5), "DE": (0.5, 1.0)}[syndrome]
    severity = {cause: float(rng.uniform(low, high)) for cause in causes}
    for second in causes[1:]:
        severity[second] *= 0.8
    mean, spread = AGES[causes[0] if causes else "NC"]
    days = int(rng.integers(0, 700))
    return Patient(
        case_id=hashlib.sha256(f"case {seed} {index}".encode()).hexdigest()[:12],
        sex="female" if rng.random() < 0.54 else "male",
        age_years=float(np.clip(rng.normal(mean, spread), 45, 92)),
        education_years=int(np.clip(rng.normal(hospital.education_years, 3.5), 2, 21)),
        visit=dt.date(2023, 1, 9) + dt.timedelta(days=days),
        syndrome=syndrome,
        severity={cause: severity[cause] for cause in CAUSES if cause in severity},
        variant={
            c: str(rng.choice(VARIANTS[c])) for c in CAUSES if c in severity and c in VARIANTS
        },
        side=float(rng.uniform(-1, 1)),
    )


def _causes(hospital: Hospital, rng: np.random.Generator) -> list[str]:
    """One leading cause and perhaps others."""
    weights = np.array([hospital.causes[cause] for cause in CAUSES])
    first = str(rng.choice(CAUSES, p=weights / weights.sum()))
    chances = {c: SECOND.get((first, c), OTHER_SECOND) for c in CAUSES if c not in (first, "PRD")}
    return [first, *(c for c, chance in chances.items() if rng.random() < chance)]
