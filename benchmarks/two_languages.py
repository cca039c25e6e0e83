"""The same synthetic case told in English and in Chinese: how far apart are the diagnoses?

Patients of a cohort that the model has not seen; laboratory values, scores and history are the
same on both sides, there is no scan. The notes hold the same findings in the same notes; wording
and padding are drawn anew in each language. With the stand-in, which reads English only, Chinese
notes are read by rules (`clinical.rules_only`); beside that stands what was done before, vectors of
Chinese text at a weight of 0.2, and no notes at all. The way that the model saw in its training has
an advantage: a model that was trained before the rules came saw such vectors. With
`--text-encoder` of an R1 folder, and a model that was trained with it, the encoder reads both.

The second table asks what the rules read in the cohort's own Chinese wordings, which they were not
made from: in what share they find anything, and for what share of these the nearest of all English
wordings, by the text encoder, is one of the same finding, present or absent.

Usage: python -m benchmarks two_languages [--cases 200] [--text-encoder FOLDER --model FOLDER]
"""

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from clinical.fhir import read_bundle
from clinical.lab_encoder import history_tokens, lab_tokens
from clinical.record import Coding, Note, PatientRecord
from clinical.rules_only import rule_sentences
from clinical.text_encoder import UNREAD_LANGUAGE_QUALITY, TextEncoder, load_text_encoder
from fusion.assistant import Assistant
from fusion.case import Case, Modality, Tokens
from fusion.network import infer
from sample_data.bundles import bundle_bytes
from sample_data.hospitals import hospital_of
from sample_data.notes import SyntheticNote, write_notes
from sample_data.patients import case_rng, draw_patient
from sample_data.phrases import FINDINGS

MODEL = Path(__file__).resolve().parents[1] / "sample_data" / "model"
SEED = 1  # of the test cohort
FEWEST = 10  # patients with and without a diagnosis, for its AUROC
RESAMPLES = 1000
Floats = NDArray[np.float64]
Telling = Callable[[TextEncoder, "Twin"], Tokens | None]


@dataclass(frozen=True)
class Twin:
    """One patient, and the notes in both languages."""

    record: PatientRecord
    diagnoses: tuple[str, ...]
    english: tuple[Note, ...]
    chinese: tuple[Note, ...]


def twin(index: int, seed: int = SEED) -> Twin:
    """The patient of this number, as the cohort's generator makes it."""
    hospital = hospital_of(index)
    patient = draw_patient(hospital, seed, index)
    told = []
    for share in (0.0, 1.0):
        rng = case_rng(seed, index, "notes")
        notes = write_notes(patient, replace(hospital, chinese=share), rng)
        told.append(tuple(_note(n, note, share) for n, note in enumerate(notes)))
    record, _ = read_bundle(bundle_bytes(patient, hospital, seed, index))
    return Twin(record, patient.diagnoses, *told)


def _note(n: int, note: SyntheticNote, chinese: float) -> Note:
    kind = Coding("http://loinc.org", note.loinc, note.display)
    return Note(f"note{n}", kind, note.text, date=note.date, language="zh" if chinese else "en")


def in_english(encoder: TextEncoder, twin: Twin) -> Tokens | None:
    """The English notes, read."""
    return encoder.note_tokens(twin.english)


def in_chinese(encoder: TextEncoder, twin: Twin) -> Tokens | None:
    """The Chinese notes, as the program reads them with this encoder."""
    return encoder.note_tokens(twin.chinese)


def as_if_read(encoder: TextEncoder, twin: Twin) -> Tokens | None:
    """The Chinese notes through an encoder that does not read them, at a low weight."""
    made = encoder.note_tokens([replace(note, language="en") for note in twin.chinese])
    return made and replace(made, quality=made.quality * np.float32(UNREAD_LANGUAGE_QUALITY))


def untold(encoder: TextEncoder, twin: Twin) -> Tokens | None:  # noqa: ARG001 - one of the ways
    """No notes."""
    return None


def ways(encoder: TextEncoder) -> dict[str, Telling]:
    """How the notes are told and read."""
    if "zh" in encoder.languages:
        return {"English": in_english, "Chinese": in_chinese, "no notes": untold}
    return {
        "English": in_english,
        "Chinese, read by rules only": in_chinese,
        f"Chinese as if read, weight {UNREAD_LANGUAGE_QUALITY:g} (before)": as_if_read,
        "no notes": untold,
    }


def probabilities(
    assistant: Assistant, encoder: TextEncoder, twins: Sequence[Twin]
) -> dict[str, Floats]:
    """Probabilities of each patient by the way the notes are told."""
    rest = [_rest(assistant, encoder, twin) for twin in twins]
    found = {}
    for name, tell in ways(encoder).items():
        cases = []
        for n, (own, other) in enumerate(zip(twins, rest, strict=True)):
            notes = tell(encoder, own)
            told: dict[Modality, Tokens] = {"notes": notes} if notes is not None else {}
            cases.append(Case(f"case{n}", f"patient{n}", {**other, **told}))
        checkpoint = assistant.checkpoint
        found[name] = checkpoint.calibrator.predict_proba(*infer(checkpoint.model, cases))
    return found


def _rest(assistant: Assistant, encoder: TextEncoder, twin: Twin) -> dict[Modality, Tokens]:
    """The evidence that is the same in both languages."""
    made: dict[Modality, Tokens | None] = {
        "labs": lab_tokens(twin.record),
        "history": history_tokens(twin.record, encoder, exclude=assistant.scheme.codes),
    }
    return {modality: tokens for modality, tokens in made.items() if tokens is not None}


def common(truth: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The diagnoses that enough patients have and have not."""
    counts = truth.sum(axis=0)
    return np.flatnonzero((counts >= FEWEST) & (len(truth) - counts >= FEWEST))


def auroc(truth: NDArray[np.bool_], probability: Floats) -> float:
    """Mean over diagnoses; one that a resample has nobody of is left out of it."""
    both = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    return float(np.mean([roc_auc_score(truth[:, k], probability[:, k]) for k in both]))


def interval(statistic: Callable[[NDArray[np.intp]], float], n: int) -> str:
    """The statistic and the middle 95 % of it over resampled patients."""
    rng = np.random.default_rng(0)
    found = [statistic(rng.integers(n, size=n)) for _ in range(RESAMPLES)]
    low, high = np.percentile(found, [2.5, 97.5])
    return f"{statistic(np.arange(n)):.3f} ({low:.3f} to {high:.3f})"


def print_differences(truth: NDArray[np.bool_], found: dict[str, Floats]) -> None:
    """Print how far each way is from English, and how well each tells the diagnoses apart."""
    print(
        "| notes | mean difference from English (95 %) | 95th percentile | largest | AUROC (95 %) |"
    )
    print("|---|---|---:|---:|---|")
    english, kept = found["English"], common(truth)
    n = len(english)
    for name, own in found.items():
        gap = np.abs(own - english)
        mean = interval(lambda rows, gap=gap: float(gap[rows].mean()), n)
        apart = interval(
            lambda rows, own=own: auroc(truth[np.ix_(rows, kept)], own[np.ix_(rows, kept)]), n
        )
        away = (mean, f"{np.percentile(gap, 95):.3f}", f"{gap.max():.3f}")
        said = "| - | - | - " if name == "English" else f"| {' | '.join(away)} "
        print(f"| {name} {said}| {apart} |")


@dataclass(frozen=True)
class Wording:
    """One wording of a finding, or of its absence."""

    finding: str
    present: bool
    text: str


def wordings(language: str) -> list[Wording]:
    """Every wording of the cohort's findings in a language."""
    zh = language == "zh"
    return [
        Wording(name, present, text)
        for name, finding in FINDINGS.items()
        for present, texts in (
            (True, finding.zh if zh else finding.en),
            (False, (finding.absent[zh],)),
        )
        for text in texts
    ]


def said_by_rules(text: str) -> str:
    """What the rules read in a Chinese wording."""
    note = Note("n", Coding("", "", ""), f"{text}。", language="zh")
    return " ".join(english for _, english in rule_sentences(note))


def right(encoder: TextEncoder, read: Sequence[str], meant: Sequence[Wording]) -> tuple[int, int]:
    """Of how many the nearest English wording is of the finding; and present or absent as meant."""
    known = wordings("en")
    near = (encoder.encode(read) @ encoder.encode([w.text for w in known]).T).argmax(axis=1)
    nearest = [known[n] for n in near]
    same = [w.finding == own.finding for w, own in zip(nearest, meant, strict=True)]
    both = [s and w.present == o.present for s, w, o in zip(same, nearest, meant, strict=True)]
    return sum(same), sum(both)


def print_coverage(encoder: TextEncoder) -> None:
    """Print what the rules read in the cohort's Chinese wordings."""
    chinese = wordings("zh")
    said = [said_by_rules(wording.text) for wording in chinese]
    found = [(wording, text) for wording, text in zip(chinese, said, strict=True) if text]
    rows = {
        "rules": ([text for _, text in found], [wording for wording, _ in found]),
        f"{encoder.name} on the Chinese itself": ([w.text for w in chinese], chinese),
    }
    print("\n| read by | something found | of these, nearest is that finding | and its presence |")
    print("|---|---:|---:|---:|")
    for name, (texts, meant) in rows.items():
        finding, both = right(encoder, texts, meant)
        print(
            f"| {name} | {len(texts)} of {len(chinese)} ({len(texts) / len(chinese):.0%}) "
            f"| {finding} ({finding / len(texts):.0%}) | {both} ({both / len(texts):.0%}) |"
        )


def main() -> None:
    """Make the twins, diagnose them, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--text-encoder", type=Path, default=None)
    args = parser.parse_args()
    began = time.perf_counter()
    encoder = load_text_encoder(args.text_encoder)
    assistant = Assistant.load(args.model, encoder.sha256)
    twins = [twin(index) for index in range(args.cases)]
    keys = [label.key for label in assistant.scheme.labels]
    truth = np.array([[key in own.diagnoses for key in keys] for own in twins])
    print(
        f"{len(twins)} synthetic patients of another cohort (seed {SEED}), without scans; text "
        f"encoder {encoder.name}, engine {encoder.engine.name} {encoder.engine.precision}. "
        f"Differences are of probabilities, over all {len(keys)} diagnoses.\n"
    )
    print_differences(truth, probabilities(assistant, encoder, twins))
    if "zh" not in encoder.languages:
        print_coverage(encoder)
    print(
        f"\nTook {time.perf_counter() - began:.0f} s; {platform.machine()}, "
        f"Python {platform.python_version()}, numpy {version('numpy')}, torch {version('torch')}."
    )


if __name__ == "__main__":
    main()
