"""Clinical notes of a synthetic patient: varied wording, shuffled, in English or Chinese."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sample_data.hospitals import Hospital
from sample_data.patients import Patient
from sample_data.phrases import DAILY, FINDINGS, PADDING_EN, PADDING_ZH

KINDS: tuple[tuple[str, str, str, str], ...] = (
    # LOINC, its display, and how such a note opens
    (
        "57133-1",
        "Referral note",
        "Thank you for seeing this patient.",
        "兹转诊该患者，请协助诊治。",
    ),
    ("11488-4", "Consultation note", "Seen in the memory clinic.", "记忆门诊就诊记录。"),
    (
        "34117-2",
        "History and physical note",
        "History was taken with a relative.",
        "病史由家属补充。",
    ),
    ("11506-3", "Progress note", "Follow-up visit.", "复诊记录。"),
    ("34746-8", "Nurse Note", "Nursing assessment at home.", "居家护理评估。"),
    ("18842-5", "Discharge summary", "Short stay for investigation.", "短期住院检查小结。"),
)
FRAMES_EN = ("{}.", "{}.", "According to the family: {}.", "By report: {}.", "Noted: {}.")
FRAMES_ZH = ("{}。", "{}。", "家属诉{}。", "据述{}。", "本次见：{}。")
NOTED = 0.85  # probability that a finding is written down at all
AGAIN = 0.3  # and once more in other words
SLIP = 0.15  # probability that a remark on daily life fits the neighbouring syndrome
_NEIGHBOURS = {"NC": ("MCI",), "MCI": ("NC", "DE"), "DE": ("MCI",)}


@dataclass(frozen=True)
class SyntheticNote:
    """One note: its kind as LOINC code and display, date and text."""

    loinc: str
    display: str
    date: dt.date
    text: str


def write_notes(
    patient: Patient, hospital: Hospital, rng: np.random.Generator
) -> list[SyntheticNote]:
    """Two to six notes, oldest first."""
    low, high = hospital.notes
    count = int(rng.integers(low, high + 1))
    contents: list[list[tuple[str, bool]]] = [[] for _ in range(count)]
    for name, present in draw_findings(patient, rng).items():
        chance = NOTED if present else FINDINGS[name].noted
        if rng.random() < chance:
            contents[rng.integers(count)].append((name, present))
        if present and rng.random() < AGAIN:
            contents[rng.integers(count)].append((name, present))
    kinds = rng.permutation(len(KINDS))[:count]
    back = np.sort(rng.integers(0, 300, count))[::-1]
    back[-1] = 0  # the last note is of the day of the case
    return [
        _note(patient, hospital, KINDS[kind], int(days), content, rng)
        for kind, days, content in zip(kinds, back, contents, strict=True)
    ]


def draw_findings(patient: Patient, rng: np.random.Generator) -> dict[str, bool]:
    """Which findings the patient has."""
    found = {}
    for name, finding in FINDINGS.items():
        spared = 1.0 - finding.base
        for cause, chance in finding.causes.items():
            spared *= 1.0 - min(0.95, chance * patient.has(cause))
        found[name] = bool(rng.random() < 1.0 - spared)
    return found


def _note(
    patient: Patient,
    hospital: Hospital,
    kind: tuple[str, str, str, str],
    days_back: int,
    content: Sequence[tuple[str, bool]],
    rng: np.random.Generator,
) -> SyntheticNote:
    chinese = bool(rng.random() < hospital.chinese)
    loinc, display, opening_en, opening_zh = kind
    sentences = [
        _sentence(name, rng, present=present, chinese=chinese) for name, present in content
    ]
    sentences += _daily(patient, rng, chinese=chinese)
    padding = PADDING_ZH if chinese else PADDING_EN
    sentences += [str(line) for line in rng.choice(padding, rng.integers(2, 6), replace=False)]
    order = [sentences[n] for n in rng.permutation(len(sentences))]
    text = ("" if chinese else " ").join([opening_zh if chinese else opening_en, *order])
    return SyntheticNote(loinc, display, patient.visit - dt.timedelta(days=days_back), text)


def _sentence(name: str, rng: np.random.Generator, *, present: bool, chinese: bool) -> str:
    """A finding or its negation in a random wording and frame."""
    finding = FINDINGS[name]
    wordings = finding.zh if chinese else finding.en
    words = str(rng.choice(wordings)) if present else finding.absent[chinese]
    return _framed(words, rng, chinese=chinese)


def _daily(patient: Patient, rng: np.random.Generator, *, chinese: bool) -> list[str]:
    """One or no remark on what the patient still does."""
    if rng.random() < 0.35:
        return []
    slips = rng.random() < SLIP
    syndrome = str(rng.choice(_NEIGHBOURS[patient.syndrome])) if slips else patient.syndrome
    return [_framed(str(rng.choice(DAILY[syndrome][chinese])), rng, chinese=chinese)]


def _framed(words: str, rng: np.random.Generator, *, chinese: bool) -> str:
    frame = str(rng.choice(FRAMES_ZH if chinese else FRAMES_EN))
    filled = frame.format(words)
    return filled[0].upper() + filled[1:]
