"""Coded facts of a synthetic patient: other conditions, medication, family, names."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sample_data.patients import Patient

SNOMED = "http://snomed.info/sct"
ATC = "http://www.whocc.no/atc"

# Probability in anybody, and more of it at severity 1 of a cause.
CONDITIONS: Mapping[tuple[str, str], tuple[float, Mapping[str, float]]] = {
    ("38341003", "Hypertensive disorder"): (0.40, {"VD": 0.45}),
    ("44054006", "Diabetes mellitus type 2"): (0.14, {"VD": 0.25}),
    ("55822004", "Hyperlipidemia"): (0.28, {"VD": 0.25}),
    ("49436004", "Atrial fibrillation"): (0.08, {"VD": 0.20}),
    ("230690007", "Cerebrovascular accident"): (0.04, {"VD": 0.50}),
    ("78275009", "Obstructive sleep apnea"): (0.07, {}),
    ("396275006", "Osteoarthritis"): (0.30, {}),
    ("193570009", "Cataract"): (0.20, {}),
    ("235595009", "Gastroesophageal reflux disease"): (0.18, {}),
    ("40930008", "Hypothyroidism"): (0.06, {"SEF:thyroid": 0.4}),
    ("14760008", "Constipation"): (0.10, {"LBD": 0.45}),
    ("44169009", "Loss of sense of smell"): (0.03, {"LBD": 0.35, "AD": 0.08}),
    ("165232002", "Urinary incontinence"): (0.05, {"NPH": 0.35}),
    ("64859006", "Osteoporosis"): (0.14, {}),
    ("15188001", "Hearing loss"): (0.18, {}),
}  # fmt: skip
MEDICATION: Mapping[tuple[str, str], tuple[float, Mapping[str, float]]] = {
    ("C08CA01", "amlodipine"): (0.18, {"VD": 0.25}),
    ("C09AA03", "lisinopril"): (0.18, {"VD": 0.20}),
    ("C10AA05", "atorvastatin"): (0.28, {"VD": 0.35}),
    ("B01AC06", "acetylsalicylic acid"): (0.12, {"VD": 0.45}),
    ("A10BA02", "metformin"): (0.12, {"VD": 0.20}),
    ("H03AA01", "levothyroxine sodium"): (0.08, {"SEF:thyroid": 0.25}),
    ("N06AB06", "sertraline"): (0.08, {"PSY": 0.45, "FTD": 0.2, "AD": 0.1}),
    ("N06AX11", "mirtazapine"): (0.05, {"PSY": 0.30, "LBD": 0.1}),
    ("N05AH04", "quetiapine"): (0.02, {"LBD": 0.20, "FTD": 0.15, "PSY": 0.12}),
    ("N04BA02", "levodopa and decarboxylase inhibitor"): (0.01, {"LBD": 0.35, "NPH": 0.1}),
    ("N03AX14", "levetiracetam"): (0.02, {"ODE:seizures": 0.6, "ODE:mass": 0.3}),
    ("N05CF01", "zopiclone"): (0.07, {"SEF:drugs": 0.6}),
    ("G04BD04", "oxybutynin"): (0.03, {"SEF:drugs": 0.4, "NPH": 0.2}),
    ("N06DA02", "donepezil"): (0.02, {"AD": 0.18, "LBD": 0.15, "VD": 0.1}),
    ("A02BC01", "omeprazole"): (0.22, {}),
    ("A11CC05", "colecalciferol"): (0.20, {}),
}  # fmt: skip
FAMILY: Mapping[tuple[str, str], tuple[float, Mapping[str, float]]] = {
    ("26929004", "Alzheimer's disease"): (0.14, {"AD": 0.30}),
    ("52448006", "Dementia"): (0.08, {"FTD": 0.35, "LBD": 0.08}),
    ("49049000", "Parkinson's disease"): (0.04, {"LBD": 0.15}),
    ("230690007", "Cerebrovascular accident"): (0.16, {"VD": 0.25}),
    ("414545008", "Ischemic heart disease"): (0.25, {}),
    ("35489007", "Depressive disorder"): (0.07, {"PSY": 0.30}),
    ("58756001", "Huntington's chorea"): (0.0, {"ODE:huntington": 0.7}),
    ("363346000", "Malignant neoplastic disease"): (0.22, {}),
}  # fmt: skip
RELATIVES = (("MTH", "mother"), ("FTH", "father"), ("SIB", "sibling"))
_GIVEN_EN = {"female": ("Ada", "Iris", "Nora", "Ruth", "Vera", "Joan", "Elsa", "Maud"),
             "male": ("Amos", "Carl", "Evan", "Hugh", "Ivor", "Leon", "Noel", "Otto")}  # fmt: skip
_FAMILY_EN = ("Ashdown", "Birch", "Calder", "Dunmore", "Ellery", "Fenwick", "Garrow", "Holt",
              "Inskip", "Jessop", "Kirkby", "Larkin", "Merrow", "Norcott")  # fmt: skip
_GIVEN_ZH = {
    "female": ("秀兰", "玉珍", "淑芬", "桂英", "丽华"),
    "male": ("建国", "志强", "德明", "永福", "文斌"),
}
_FAMILY_ZH = ("王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴")


@dataclass(frozen=True)
class Fact:
    """A code with its display."""

    code: str
    display: str


def draw(
    table: Mapping[tuple[str, str], tuple[float, Mapping[str, float]]],
    patient: Patient,
    rng: np.random.Generator,
) -> list[Fact]:
    """What of a table the patient has."""
    found = []
    for (code, display), (base, causes) in table.items():
        chance = base + sum(more * patient.has(cause) for cause, more in causes.items())
        if rng.random() < chance:
            found.append(Fact(code, display))
    return found


def draw_name(patient: Patient, rng: np.random.Generator, *, chinese: bool) -> tuple[str, str]:
    """Family and given name, from lists."""
    family, given = (_FAMILY_ZH, _GIVEN_ZH) if chinese else (_FAMILY_EN, _GIVEN_EN)
    return str(rng.choice(family)), str(rng.choice(given[patient.sex]))
