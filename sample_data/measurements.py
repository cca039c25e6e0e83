"""Scores, laboratory values and blood pressure of a synthetic patient."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sample_data.hospitals import Hospital
from sample_data.patients import Patient

MMSE, MOCA, GDS = "72106-8", "72172-0", "48545-8"
SYSTOLIC, DIASTOLIC = "8480-6", "8462-4"
CSF_AMYLOID, CSF_TAU, CSF_PTAU = "33203-1", "30160-6", "72260-3"
# Points of the MMSE lost at severity 1, by cause; several add up, with what is left to lose.
LOSS = {"AD": 13.0, "LBD": 11.0, "VD": 10.0, "PRD": 17.0, "FTD": 8.5, "NPH": 8.0, "SEF": 8.0,
        "PSY": 6.0, "TBI": 7.0, "ODE": 8.0}  # fmt: skip
DECIMALS = {"718-7": 1, "2160-0": 2, "4548-4": 1, "3016-3": 2, "2823-3": 1, "6690-2": 1,
            "72260-3": 1, "1988-5": 1, "3024-7": 2, "13965-9": 1, "2284-8": 1}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """One value in the canonical unit of `clinical.units`."""

    loinc: str
    value: float
    date: dt.date


def measure(patient: Patient, hospital: Hospital, rng: np.random.Generator) -> list[Measurement]:
    """Everything that was measured on one to three visits."""
    visits = _visits(patient, rng)
    found = [m for back, day in visits for m in _scores(patient, hospital, back, day, rng)]
    found += [Measurement(loinc, value, patient.visit) for loinc, value in _blood(patient, rng)]
    for _, day in visits:
        found += _pressure(patient, day, rng)
    if rng.random() < hospital.spinal:
        found += [Measurement(loinc, v, patient.visit) for loinc, v in _spinal(patient, rng)]
    return found


def _visits(patient: Patient, rng: np.random.Generator) -> list[tuple[float, dt.date]]:
    """Years before the case, oldest first, and the date of each visit."""
    apart = 0.15 if patient.has("PRD") else float(rng.normal(1.0, 0.15))
    back = [apart * n for n in range(int(rng.integers(1, 4)))][::-1]
    return [(years, patient.visit - dt.timedelta(days=round(365 * years))) for years in back]


def _scores(
    patient: Patient, hospital: Hospital, back: float, day: dt.date, rng: np.random.Generator
) -> list[Measurement]:
    """MMSE or MoCA or both, and a depression score on the last visit."""
    pace = {"PRD": 4.0, "FTD": 0.3, "LBD": 0.25, "AD": 0.22, "PSY": 0.0, "TBI": 0.02}
    left = 1.0
    for cause, severity in patient.severity.items():
        then = severity * max(0.1, 1.0 - pace.get(cause, 0.12) * back)
        left *= 1.0 - LOSS[cause] * then**1.3 / 29.0
    lost = 29.0 * (1.0 - left) + 0.03 * max(patient.age_years - 65, 0)
    lost -= 0.15 * (patient.education_years - 12)
    scores = []
    modern = rng.random() < hospital.moca
    if not modern or rng.random() < 0.3:
        scores.append(Measurement(MMSE, _points(29.2 - lost + rng.normal(0, 1.5), 30), day))
    if modern:
        scores.append(Measurement(MOCA, _points(26.6 - 1.15 * lost + rng.normal(0, 2.0), 30), day))
    if back == 0 and rng.random() < 0.6:
        mood = 2.5 + 8.0 * patient.has("PSY") + 2.0 * patient.has("LBD")
        scores.append(Measurement(GDS, _points(mood + rng.normal(0, 2.2), 15), day))
    return scores


def _points(value: float, most: int) -> float:
    return float(np.clip(round(value), 0, most))


def _blood(patient: Patient, rng: np.random.Generator) -> list[tuple[str, float]]:
    """One blood draw; every value may be missing."""
    has = patient.has
    b12, thyroid = has("SEF:b12") > 0, has("SEF:thyroid") > 0
    alcohol, drugs = has("SEF:alcohol") > 0, has("SEF:drugs") > 0
    normal: Callable[[float, float], float] = rng.normal
    chance: Callable[[], float] = rng.random
    low_b12 = b12 or chance() < 0.06
    low_thyroid = thyroid or chance() < 0.05
    diabetic = chance() < 0.15 + 0.25 * has("VD")
    vascular = has("VD")
    male = patient.sex == "male"
    a1c = normal(7.2, 0.9) if diabetic else normal(5.5, 0.3)
    values = {
        "3016-3": np.exp(normal(np.log(14 if low_thyroid else 1.8), 0.45)),
        "3024-7": normal(0.75 if thyroid else 1.25, 0.17),
        "2132-9": np.exp(normal(np.log(140 if low_b12 else 400), 0.25 if low_b12 else 0.35)),
        "2284-8": np.exp(normal(np.log(4.0 if alcohol else 9.0), 0.4)),
        "13965-9": np.exp(normal(np.log(24 if b12 else 12), 0.25)),
        "2345-7": normal(28.7 * a1c - 60, 10) if diabetic else normal(92, 9),
        "4548-4": a1c,
        "718-7": normal(14.6 if male else 13.3, 1.1) - 1.4 * b12,
        "787-2": normal(90, 4.0) + 9.0 * (b12 or alcohol),
        "6690-2": np.exp(normal(np.log(6.6), 0.22)),
        "777-3": normal(245, 52) - 60 * alcohol,
        "2160-0": np.exp(normal(np.log(0.98 if male else 0.80), 0.18)) * (1 + 0.2 * vascular),
        "2951-2": normal(140, 2.2) - 9.0 * drugs,
        "2823-3": normal(4.2, 0.32),
        "1742-6": np.exp(normal(np.log(55 if alcohol else 22), 0.35)),
        "2324-2": np.exp(normal(np.log(150 if alcohol else 26), 0.5)),
        "2093-3": normal(195 + 18 * vascular, 36),
        "18262-6": normal(115 + 18 * vascular, 30),
        "2085-9": normal(54 - 7 * vascular, 12),
        "1988-5": np.exp(normal(np.log(1.8), 0.8)),
    }
    rare = {"3024-7": 0.5, "13965-9": 0.35, "2324-2": 0.5, "1988-5": 0.6}
    return [(k, max(float(v), 0.1)) for k, v in values.items() if chance() < rare.get(k, 0.88)]


def _pressure(patient: Patient, day: dt.date, rng: np.random.Generator) -> list[Measurement]:
    upper = rng.normal(134 + 14 * patient.has("VD") - 10 * patient.has("LBD"), 14)
    lower = 0.45 * upper + rng.normal(19, 6)
    return [Measurement(SYSTOLIC, round(upper), day), Measurement(DIASTOLIC, round(lower), day)]


def _spinal(patient: Patient, rng: np.random.Generator) -> list[tuple[str, float]]:
    """Markers in cerebrospinal fluid; a quarter of those without the disease have amyloid too."""
    amyloid = patient.has("AD") > 0 or rng.random() < (0.4 if patient.has("LBD") else 0.2)
    tau = patient.has("AD") > 0 and rng.random() < 0.85
    total = np.exp(rng.normal(np.log(330 if tau else 200), 0.30))
    if patient.has("PRD"):
        total = np.exp(rng.normal(np.log(2400), 0.5))
    return [
        (CSF_AMYLOID, float(np.exp(rng.normal(np.log(640 if amyloid else 1250), 0.25)))),
        (CSF_TAU, float(total)),
        (CSF_PTAU, float(np.exp(rng.normal(np.log(31 if tau else 18), 0.28)))),
    ]
