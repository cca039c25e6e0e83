"""What a disease does to the brain: volume by region, and lesions.

`README.md` gives the sources.
"""

from collections.abc import Mapping

import numpy as np

from imaging.regions import REGIONS
from sample_data.patients import Lesion, Patient

_CORTEX = ("frontal cortex", "parietal cortex", "temporal cortex", "occipital cortex", "insula",
           "precuneus", "posterior cingulate", "anterior cingulate")  # fmt: skip
# Change of ln(volume) at severity 1. Dementia is 0.5..1 and averages 0.75, MCI 0.35.
EFFECTS: Mapping[str, Mapping[str, float]] = {
    "AD": {
        "hippocampus": -0.33, "amygdala": -0.28, "parahippocampal gyrus": -0.25,
        "temporal cortex": -0.15, "precuneus": -0.14, "posterior cingulate": -0.14,
        "parietal cortex": -0.12, "frontal cortex": -0.05, "lateral ventricle": 0.40,
        "inferior lateral ventricle": 0.55, "third ventricle": 0.15,
    },
    "LBD": {
        "hippocampus": -0.12, "insula": -0.10, "occipital cortex": -0.08,
        "basal forebrain": -0.20, "putamen": -0.10, "frontal cortex": -0.05,
        "lateral ventricle": 0.20,
    },
    "VD": {
        "cerebral white matter": -0.07, "lateral ventricle": 0.35, "thalamus": -0.12,
        "caudate": -0.10, "hippocampus": -0.09, "frontal cortex": -0.06, "corpus callosum": -0.12,
    },
    "PRD": {"caudate": -0.06, "occipital cortex": -0.05, "parietal cortex": -0.05},
    "FTD:behaviour": {
        "frontal cortex": -0.26, "anterior cingulate": -0.26, "insula": -0.24, "caudate": -0.15,
        "temporal cortex": -0.14, "amygdala": -0.20, "hippocampus": -0.14,
        "lateral ventricle": 0.40,
    },
    "FTD:language": {
        "temporal cortex": -0.28, "amygdala": -0.28, "hippocampus": -0.20, "insula": -0.22,
        "parahippocampal gyrus": -0.20, "frontal cortex": -0.10, "lateral ventricle": 0.25,
        "inferior lateral ventricle": 0.40,
    },
    "NPH": {
        "lateral ventricle": 1.00, "inferior lateral ventricle": 0.50, "third ventricle": 0.50,
        "corpus callosum": -0.18, "cortical cerebrospinal fluid": -0.15,
    },
    "SEF:alcohol": {"cerebellar vermis": -0.18, "frontal cortex": -0.09, "thalamus": -0.08},
    "PSY": {"hippocampus": -0.07, "anterior cingulate": -0.04},
    "TBI": {
        "corpus callosum": -0.18, "thalamus": -0.10, "frontal cortex": -0.08,
        "temporal cortex": -0.05, "lateral ventricle": 0.25,
    },
    "ODE:huntington": {"caudate": -0.50, "putamen": -0.40, "lateral ventricle": 0.25},
    "ODE:seizures": {"hippocampus": -0.12},
}  # fmt: skip
SIDED = {"AD": 0.15, "FTD:behaviour": 0.3, "FTD:language": 0.5, "ODE:seizures": 0.8}
SPREAD = {"csf": 0.22, "grey": 0.08, "white": 0.05, "mixed": 0.06}  # of healthy ln(volume)
SPREAD_SIDE = 0.03  # left against right
SCATTER = 0.25  # of the effect itself, from patient to patient
AGE_FROM = 45.0  # the template's people are young
PER_YEAR = {"hippocampus": -0.006, "amygdala": -0.004, "lateral ventricle": 0.020,
            "inferior lateral ventricle": 0.015, "third ventricle": 0.015, "thalamus": -0.003,
            **dict.fromkeys(_CORTEX, -0.003)}  # fmt: skip


def log_factors(patient: Patient, rng: np.random.Generator) -> dict[str, float]:
    """Logarithm of each region's volume against the template's, by region key."""
    shared = {region.name: float(rng.normal()) for region in REGIONS}
    strength = {name: patient.has(name) * rng.normal(1.0, SCATTER) for name in EFFECTS}
    changes = {}
    for region in REGIONS:
        healthy = SPREAD[region.tissue] * shared[region.name] + SPREAD_SIDE * rng.normal()
        aged = PER_YEAR.get(region.name, 0.0) * (patient.age_years - AGE_FROM)
        sign = {"left": 1.0, "right": -1.0, "midline": 0.0}[region.side] * _side(patient)
        ill = sum(
            strength[name] * effect.get(region.name, 0.0) * (1.0 + sign * SIDED.get(name, 0.0))
            for name, effect in EFFECTS.items()
        )
        changes[region.key] = float(np.clip(healthy + aged + ill, -0.8, 1.6))
    return changes


def _side(patient: Patient) -> float:
    """Language suffers with the left half."""
    return abs(patient.side) if patient.has("FTD:language") else patient.side


def lesions(patient: Patient, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Dark spots: lacunes and white matter disease, scars of an injury, a mass."""
    spots = [_lacune(rng) for _ in range(rng.poisson(0.4 + 5.0 * patient.has("VD")))]
    if rng.random() < 0.6 * patient.has("TBI"):
        spots.append(Lesion((rng.choice([-1, 1]) * 34.0, 48.0, -12.0), rng.uniform(6, 11), 0.6))
    if patient.has("ODE:mass"):
        side = float(rng.choice([-1, 1]))
        place = (side * rng.uniform(22, 34), rng.uniform(-45, 35), rng.uniform(5, 35))
        spots.append(Lesion(place, rng.uniform(8, 14), 0.4))
    return tuple(spots)


def _lacune(rng: np.random.Generator) -> Lesion:
    """A small spot in the white matter beside or above the ventricles."""
    side = float(rng.choice([-1, 1]))
    place = (side * rng.uniform(16, 30), rng.uniform(-45, 35), rng.uniform(8, 32))
    return Lesion(place, rng.uniform(2.5, 5.0), rng.uniform(0.25, 0.6))
