"""A small hospital with made-up cases, and an assistant whose opinion is fixed in advance."""

import datetime as dt
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from clinical.diagnoses import load_scheme
from clinical.evidence import AnalytePointer, ClinicalTokens, FactPointer, SentencePointer
from clinical.record import (
    Coding,
    Condition,
    FamilyMember,
    Medication,
    Note,
    Observation,
    PatientRecord,
    ReferenceRange,
)
from fusion.assistant import Diagnosis
from fusion.case import MODALITIES
from fusion.explain import Evidence
from fusion.store import CaseRow, Site, now
from imaging.encoder import FEATURES, RegionPointer, RegionTokens
from imaging.regions import REGION_INDEX

ATTACK = "<script>window.harmed = true</script><img src=x onerror='window.harmed=true'>${harm}{{x}}"
SENTENCE = "His wife reports that he repeats questions within minutes."
TEXT = f"Referred by his general practitioner. {ATTACK} {SENTENCE} Gait is normal."
HIPPOCAMPUS_MM = (-24.0, -20.0, -14.0)  # centre of the left one in the phantom


def record(*, name: str = "Ada Example", notes: bool = True) -> PatientRecord:
    """A record with every kind of entry."""
    loinc = ("72106-8", "MMSE")
    scores = tuple(
        Observation(
            f"o{year}", *loinc, value, "{score}", ReferenceRange(24.0, 30.0), dt.date(year, 3, 9)
        )
        for year, value in ((2022, 27.0), (2023, 25.0), (2024, 21.0))
    )
    vitamin = Observation("o9", "2132-9", "Vitamin B12", 180.0, "pg/mL", None, dt.date(2024, 3, 1))
    note = Note(
        "n1", Coding("http://loinc.org", "34131-3", "Neurology note"), TEXT, scores[-1].date
    )
    hypertension = Coding("http://snomed.info/sct", "38341003", "Hypertensive disorder")
    return PatientRecord(
        "p1", "male", name, dt.date(1950, 5, 4), 12.0, (*scores, vitamin),
        (Condition("c1", hypertension, "active", dt.date(2010, 1, 1)),),
        (Medication("m1", Coding("rxnorm", "1", "Amlodipine 5 mg"), "active"),),
        (FamilyMember("f1", "mother", Coding("sct", "2", "Memory loss"), 74.0),),
        (note,) if notes else (),
    )  # fmt: skip


def tokens(*, scan: bool = True, notes: bool = True) -> dict:
    """Evidence with pointers that lead somewhere; the features mean nothing."""

    def clinical(*pointers: object) -> ClinicalTokens:
        n = len(pointers)
        return ClinicalTokens(
            np.zeros((n, 4), np.float32), np.zeros(n, np.int64), np.ones(n, np.float32), pointers
        )

    start = TEXT.index(SENTENCE)
    attack = SentencePointer("n1", TEXT.index(ATTACK), TEXT.index(ATTACK) + len(ATTACK))
    regions = (
        RegionPointer("left hippocampus", 2310.0, 2.4),
        RegionPointer("third ventricle", 1900.0, None),
    )
    kinds = np.array([REGION_INDEX[region.region] for region in regions])
    made = {
        "scan": RegionTokens(
            np.zeros((2, FEATURES), np.float32), kinds, np.ones(2, np.float32), regions
        ),
        "notes": clinical(SentencePointer("n1", start, start + len(SENTENCE)), attack),
        "labs": clinical(AnalytePointer("72106-8", ("o2022", "o2023", "o2024"), ("", "", ""))),
        "history": clinical(FactPointer("c1", "sct", "38341003", "Hypertensive disorder")),
    }
    absent = {"scan": not scan, "notes": not notes}
    return {modality: t for modality, t in made.items() if not absent.get(modality)}


class FixedAssistant:
    """Says the same of every case: dementia, Alzheimer's disease."""

    scheme = load_scheme()

    def diagnose(self, case) -> Diagnosis:
        """Dementia, whatever the case."""
        chances = dict.fromkeys([label.key for label in self.scheme.labels], 0.04)
        chances |= {"NC": 0.05, "MCI": 0.21, "DE": 0.74, "AD": 0.68, "VD": 0.22}
        pieces = [(m, n, p) for m in case.tokens for n, p in enumerate(case.tokens[m].pointers)]
        evidence = tuple(
            Evidence(m, n, pointer, 1 / len(pieces), (0.11, -0.034, 0.08, 0.02, 0.15, 0.01)[k % 6])
            for k, (m, n, pointer) in enumerate(pieces)
        )
        ranked = tuple(sorted(evidence, key=lambda piece: -abs(piece.effect)))
        return Diagnosis(
            case_id=case.case_id, probabilities=chances, prediction_set=("MCI", "DE"), coverage=0.9,
            shares={m: (1 / len(case.tokens) if m in case.tokens else 0.0) for m in MODALITIES},
            evidence=dict.fromkeys(chances, ranked),
            missing=tuple(m for m in MODALITIES if m not in case.tokens), abstains=None,
            model_name="sample of 2026-11-23", trained_on="synthetic cases of three hospitals",
            text_encoder="all-MiniLM-L6-v2", engine="openvino",
        )  # fmt: skip


def phantom(folder: Path) -> None:
    """A head of nested ellipsoids with a left hippocampus, 4 mm, RAS+."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -94.0
    grid = np.stack(np.meshgrid(*[np.arange(48) * 4.0 - 94.0] * 3, indexing="ij"), -1)
    head = np.linalg.norm(grid / [70.0, 85.0, 65.0], axis=-1)
    hippocampus = np.linalg.norm(grid - HIPPOCAMPUS_MM, axis=-1) < 10.0
    voxels = np.where(head < 1, 60.0, 0.0) + np.where(head < 0.85, 50.0, 0.0) + 40.0 * hippocampus
    labels = hippocampus * (REGION_INDEX["left hippocampus"] + 1)
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), folder / "T1w.nii.gz")
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), folder / "regions.nii.gz")


def add_case(site: Site, case_id: str, *, scan: bool = True, notes: bool = True) -> None:
    """One prepared case."""
    made = record(notes=notes)
    row = CaseRow(
        case_id=case_id, patient_key=case_id, imported_at=now(), age_years=made.age_years,
        sex=made.sex,
    )  # fmt: skip
    site.add_case(row, made, {})
    if scan:
        phantom(site.case_folder(case_id))
    site.save_tokens(
        case_id,
        tokens(scan=scan, notes=notes),
        findings=["MMSE fell by 6 in two years"],
        encoder="0",
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two cases: one complete, one without scan and notes."""
    made = Site.create(tmp_path / "site", name="North hospital")
    add_case(made, "abc123")
    add_case(made, "def456", scan=False, notes=False)
    return made


@pytest.fixture
def assistant() -> FixedAssistant:
    """The assistant of fixed opinion."""
    return FixedAssistant()
