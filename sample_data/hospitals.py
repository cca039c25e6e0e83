"""The three hospitals, and how they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Scanner:
    """How one hospital's scanner draws and stores a head.

    Attributes:
        gamma: Exponent on intensities: below 1 flattens grey against white matter.
        bias: Standard deviation of the logarithm of the shading over the head.
        noise: Standard deviation of the Rician noise, as a share of white matter.
        spacing_mm: Voxel size along right, front, up.
        orientation: Direction of the stored axes, as `nibabel.aff2axcodes` names them.
        scale: Stored value of white matter; up to 255 is stored in one byte.
    """

    gamma: float
    bias: float
    noise: float
    spacing_mm: tuple[float, float, float]
    orientation: str
    scale: int


@dataclass(frozen=True)
class Hospital:
    """One hospital.

    Attributes:
        name: Folder of its cases.
        share: Of all cases.
        syndromes: Probability of normal cognition, MCI and dementia.
        causes: Relative frequency of the leading cause.
        education_years: Mean of its patients.
        chinese: Probability that a note is in Chinese; above one half, names are Chinese too.
        units: Unit of an analyte by LOINC where it is not the canonical one.
        scanner: Its MRI.
        scans: Probability that a patient has a scan.
        spinal: Probability of cerebrospinal fluid markers.
        notes: Smallest and largest number of notes.
        moca: Probability that the MoCA was done rather than the MMSE alone.
    """

    name: str
    share: float
    syndromes: tuple[float, float, float]
    causes: Mapping[str, float]
    education_years: float
    chinese: float
    units: Mapping[str, str]
    scanner: Scanner
    scans: float
    spinal: float
    notes: tuple[int, int]
    moca: float


_USUAL = {"AD": 32, "LBD": 12, "VD": 14, "PRD": 4, "FTD": 10, "NPH": 7, "SEF": 8, "PSY": 8,
          "TBI": 5, "ODE": 6}  # fmt: skip
_SI = MappingProxyType({
    "2345-7": "mmol/L", "2160-0": "umol/L", "2093-3": "mmol/L", "18262-6": "mmol/L",
    "2085-9": "mmol/L", "2132-9": "pmol/L", "2284-8": "nmol/L", "718-7": "g/L",
})  # fmt: skip
_IFCC = MappingProxyType({**_SI, "4548-4": "mmol/mol", "3024-7": "pmol/L"})

HOSPITALS: tuple[Hospital, ...] = (
    Hospital(
        name="north",
        share=0.40,
        syndromes=(0.30, 0.25, 0.45),
        causes=MappingProxyType(_USUAL),
        education_years=13.5,
        chinese=0.0,
        units=MappingProxyType({}),
        scanner=Scanner(1.0, 0.10, 0.020, (2.0, 2.0, 2.0), "LAS", 1000),
        scans=0.90,
        spinal=0.40,
        notes=(3, 6),
        moca=0.6,
    ),
    Hospital(
        name="river",
        share=0.35,
        syndromes=(0.40, 0.25, 0.35),
        causes=MappingProxyType({**_USUAL, "VD": 26, "AD": 26, "FTD": 6, "SEF": 10}),
        education_years=9.5,
        chinese=0.75,
        units=_SI,
        scanner=Scanner(0.75, 0.18, 0.035, (1.9, 1.9, 2.2), "PSR", 180),
        scans=0.60,
        spinal=0.0,
        notes=(2, 5),
        moca=0.4,
    ),
    Hospital(
        name="harbour",
        share=0.25,
        syndromes=(0.20, 0.30, 0.50),
        causes=MappingProxyType({**_USUAL, "FTD": 16, "LBD": 15, "NPH": 9, "VD": 8}),
        education_years=12.5,
        chinese=0.0,
        units=_IFCC,
        scanner=Scanner(1.25, 0.14, 0.025, (1.8, 1.8, 2.5), "RAS", 220),
        scans=0.85,
        spinal=0.30,
        notes=(2, 3),
        moca=0.9,
    ),
)


def hospital_of(index: int) -> Hospital:
    """The hospital that case `index` belongs to: shares are exact in every twenty cases."""
    place, below = index % 20 / 20, 0.0
    for hospital in HOSPITALS:
        below += hospital.share
        if place < below - 1e-9:
            return hospital
    return HOSPITALS[-1]
