"""Synthetic patients whose notes state facts that codes, values and scan state, too.

`sample_data` makes the patient, the codes and the notes. Here the notes also state age, sex,
hand, scores, drugs, diagnoses and what the scan shows, in natural words with distractors (what
relatives have, what was once, what is only considered); blood is drawn on several days; and the
regions have the volumes that the patient's disease gives them, with a reader who errs a little.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from benchmarks.stated_facts import (
    DISTRACTORS,
    EARLIER,
    ENGLISH_NAME,
    HANDS,
    HAS,
    HAS_NOT,
    LEANS,
    MARKED,
    NORMAL,
    OPENING,
    PEOPLE,
    SCORES,
    SIDES,
    STROKES,
    TAKES,
    TAKES_NOT,
)
from clinical.concepts import DIAGNOSES, DRUGS, Concept, is_coded
from clinical.courses import WITHIN_SUBJECT
from clinical.fhir import read_bundle
from clinical.findings import Source
from clinical.record import Note, Observation, PatientRecord
from imaging.encoder import RegionPointer
from imaging.norms import load_norms
from imaging.scan import Acquisition, Identity
from sample_data.anatomy import AGE_FROM, PER_YEAR, SPREAD, SPREAD_SIDE, log_factors
from sample_data.bundles import bundle_bytes
from sample_data.hospitals import hospital_of
from sample_data.measurements import DECIMALS
from sample_data.patients import Patient, case_rng, draw_patient

TODAY = dt.date(2026, 1, 1)
Spoil = Callable[[np.random.Generator], None]
VARIATION = 1.5  # of the healthy within-subject variation, from draw to draw
READER_Z = 0.4  # a radiologist's error, in healthy standard deviations
_STANDARD = NormalDist()
USUAL_MM3 = {"hippocampus": 3600.0, "lateral ventricle": 15000.0}


@dataclass
class Sentence:
    """One sentence of a note, made of a wording and its facts."""

    wording: str
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As the note has it."""
        said = self.wording.format(**self.facts)
        return said[:1].upper() + said[1:]


@dataclass
class Item:
    """One checkable entry, and how it goes wrong.

    Attributes:
        kind: Of the error.
        spoil: Puts the error in.
        place: Where a finding must point to have found it.
        owner: Items of one owner are never spoilt together.
    """

    kind: str
    spoil: Spoil
    place: Callable[[], set[Source]]
    owner: object


@dataclass
class Made:
    """One case that can be spoilt; `record` puts it together."""

    base: PatientRecord
    notes: dict[str, list[Sentence]]
    observations: dict[str, Observation]
    regions: tuple[RegionPointer, ...]
    identity: Identity
    acquisition: Acquisition
    items: list[Item] = field(default_factory=list)

    @property
    def record(self) -> PatientRecord:
        """The record as it is now."""
        notes = [replace(note, text=_join(self.notes[note.id], note)) for note in self.base.notes]
        return replace(
            self.base, notes=tuple(notes), observations=tuple(self.observations.values())
        )

    def span(self, note: Note, sentence: Sentence) -> Source:
        """Where a sentence of a note stands."""
        sentences = self.notes[note.id]
        n = next(k for k, other in enumerate(sentences) if other is sentence)
        start = len(_join([*sentences[:n], Sentence("")], note))
        return Source("note", note.id, start, start + len(sentence.text))


def _join(sentences: Sequence[Sentence], note: Note) -> str:
    return ("" if note.language == "zh" else " ").join(s.text for s in sentences)


def make(seed: int, index: int) -> Made:
    """A case without any error."""
    hospital = hospital_of(index)
    patient = draw_patient(hospital, seed, index)
    record, _ = read_bundle(bundle_bytes(patient, hospital, seed, index))
    rng = case_rng(seed, index, "consistency")
    record = _with_sided_strokes(record, rng)
    observations = {o.id: o for o in record.observations} | _earlier_draws(record, rng)
    born = record.birth_date.year if record.birth_date else None
    made = Made(
        record, {}, observations, _regions(patient, rng),
        Identity("", record.sex if record.sex in ("female", "male") else None, born),
        Acquisition(acquired_on=patient.visit - dt.timedelta(days=int(rng.integers(5, 90)))),
    )  # fmt: skip
    hand = "right" if rng.random() < 0.9 else "left"
    for note in record.notes:
        _write(made, note, hand, rng)
    return made


# -- what is measured ------------------------------------------------------------------------


def _earlier_draws(record: PatientRecord, rng: np.random.Generator) -> dict[str, Observation]:
    """The blood of two to four earlier days."""
    last = [o for o in record.observations if o.loinc in WITHIN_SUBJECT and o.value and o.date]
    drawn = {}
    for n in range(int(rng.integers(2, 5))):
        days = int(rng.integers(60, 200)) * (n + 1)
        for o in last:
            if o.value is None or o.date is None or rng.random() < 0.15:
                continue
            spread = VARIATION * WITHIN_SUBJECT[o.loinc] / 100.0
            value = round(
                o.value * float(np.exp(rng.normal(0.0, spread))), DECIMALS.get(o.loinc, 0)
            )
            before = replace(
                o, id=f"{o.id}-{n}", value=value, date=o.date - dt.timedelta(days=days)
            )
            drawn[before.id] = before
    return drawn


def _regions(patient: Patient, rng: np.random.Generator) -> tuple[RegionPointer, ...]:
    """Volumes and centiles that follow the patient's disease."""
    shifts = log_factors(patient, rng)
    pointers = []
    for name, usual in USUAL_MM3.items():
        spread = float(np.hypot(SPREAD["csf" if "ventricle" in name else "grey"], SPREAD_SIDE))
        aged = PER_YEAR.get(name, 0.0) * (patient.age_years - AGE_FROM)
        for side in ("left", "right"):
            key = f"{side} {name}"
            z = (shifts[key] - aged) / spread
            volume = usual * float(np.exp(shifts[key]))
            pointers.append(RegionPointer(key, volume, _centile(z), 0.9))
    return tuple(pointers)


def _centile(z: float) -> float:
    return 100.0 * _STANDARD.cdf(z)


def _z(pointer: RegionPointer) -> float:
    return _STANDARD.inv_cdf(min(max((pointer.centile or 50.0) / 100.0, 1e-6), 1 - 1e-6))


def _with_sided_strokes(record: PatientRecord, rng: np.random.Generator) -> PatientRecord:
    """Strokes that have a side in their display."""
    side = "left" if rng.random() < 0.5 else "right"
    conditions = [
        replace(c, code=replace(c.code, display=f"Cerebrovascular accident, {side} hemisphere"))
        if c.code.code == "230690007"
        else c
        for c in record.conditions
    ]
    return replace(record, conditions=tuple(conditions))


# -- what the notes state -------------------------------------------------------------------


def _write(made: Made, note: Note, hand: str, rng: np.random.Generator) -> None:
    """Put facts into a note, at random places after its first sentence, with their items."""
    base, lang = made.base, note.language
    sentences = made.notes[note.id] = [Sentence(note.text.replace("{", "(").replace("}", ")"))]
    assert note.date is not None
    age = base.age_on(note.date)
    opening = Sentence(
        str(rng.choice(OPENING[lang])),
        {"age": int(age or 0), "person": PEOPLE[lang, base.sex]},
    )
    written: list[Sentence] = [opening]
    _item(
        made, note, opening, "age", lambda rng: opening.facts.update(age=_wrong_age(age or 0, rng))
    )
    other = PEOPLE[lang, "male" if base.sex == "female" else "female"]
    _item(made, note, opening, "sex", _set(opening, person=other))
    for writer in (_hand_fact, _score_facts, _coded_facts, _stroke_fact, _brain_facts):
        written += list(writer(made, note, hand, rng))
    extra = rng.choice(DISTRACTORS[lang], 3, replace=False)
    written += [Sentence(str(text)) for text in extra]
    sentences += [written[0], *(written[n] for n in 1 + rng.permutation(len(written) - 1))]


def _item(
    made: Made, note: Note, sentence: Sentence, kind: str,
    spoil: Spoil,
) -> None:  # fmt: skip
    """One item in a sentence."""
    made.items.append(Item(kind, spoil, lambda: {made.span(note, sentence)}, sentence))


def _set(said: Sentence, **facts: object) -> Spoil:
    """Puts other facts into a sentence."""
    return lambda _: said.facts.update(facts)


def _wrong_age(age: float, rng: np.random.Generator) -> int:
    """Another decade, or digits that changed places."""
    turned = int(f"{int(age) % 10}{int(age) // 10}")
    if rng.random() < 0.4 and turned != int(age):
        return turned
    return int(age) + int(rng.choice([-20, -10, 10, 20]))


def _hand_fact(made: Made, note: Note, hand: str, rng: np.random.Generator) -> Iterator[Sentence]:
    if rng.random() < 0.7:
        lang = note.language
        said = Sentence(str(rng.choice(HANDS[lang])), {"hand": SIDES[lang, hand]})
        wrong = SIDES[lang, "left" if hand == "right" else "right"]
        if sum("hand" in s.facts for other in made.notes.values() for s in other):
            _item(made, note, said, "side", _set(said, hand=wrong))
        yield said


def _score_facts(made: Made, note: Note, hand: str, rng: np.random.Generator) -> Iterator[Sentence]:
    """The scores of the day, and one of an earlier day with its date."""
    del hand
    scores = [o for o in made.base.observations if o.loinc in ("72106-8", "72172-0")]
    for o in scores:
        if o.value is None or o.date is None or o.date > (note.date or TODAY):
            continue
        today = o.date == note.date
        if not today and rng.random() < 0.6:
            continue
        wordings = (SCORES if today else EARLIER)[note.language]
        facts = {"test": o.name, "n": f"{o.value:g}", "day": o.date}
        said = Sentence(str(rng.choice(wordings)), facts)
        value = o.value

        def spoil(r: np.random.Generator, said: Sentence = said, value: float = value) -> None:
            wrong = [n for n in range(31) if n != value and abs(n - value) <= 10]
            said.facts["n"] = str(r.choice(wrong))

        _item(made, note, said, "score", spoil)
        yield said


def _coded_facts(made: Made, note: Note, hand: str, rng: np.random.Generator) -> Iterator[Sentence]:
    """Diagnoses and drugs that the patient has and has not."""
    del hand
    conditions = [(c.code, c.onset) for c in made.base.conditions if c.clinical_status == "active"]
    drugs = [(d.code, d.start) for d in made.base.medications if d.status == "active"]
    for kind, concepts, coded, words, no_words in (
        ("diagnosis", DIAGNOSES, conditions, HAS, HAS_NOT),
        ("medication", DRUGS, drugs, TAKES, TAKES_NOT),
    ):
        usable = [(code, day) for code, day in coded if day is None or day < (note.date or TODAY)]
        mine = [c for c in concepts if any(is_coded(c, code) for code, _ in usable)]
        none = [c for c in concepts if not any(is_coded(c, code) for code, _ in coded)]
        none = [c for c in none if not _would_contradict(c, drugs)]
        for has in (True, False):
            pool = mine if has else none
            if not pool or rng.random() < 0.3:
                continue
            concept = pool[rng.integers(len(pool))]
            wording = str(rng.choice((words if has else no_words)[note.language]))
            said = Sentence(wording, {"what": _name(concept, note.language)})
            if mine:
                _item(made, note, said, kind, _denial(said, mine, no_words, note.language))
            yield said


def _would_contradict(concept: Concept, drugs: Sequence[tuple[object, object]]) -> bool:
    """Whether denying a diagnosis would deny the reason of a drug the patient takes."""
    treating = [d for d in DRUGS if concept.key in d.treats]
    return any(is_coded(d, code) for d in treating for code, _ in drugs)  # type: ignore[arg-type]


def _denial(
    said: Sentence, mine: Sequence[Concept], no_words: dict[str, tuple[str, ...]], lang: str
) -> Spoil:
    def spoil(rng: np.random.Generator) -> None:
        said.wording = str(rng.choice(no_words[lang]))
        said.facts["what"] = _name(mine[int(rng.integers(len(mine)))], lang)

    return spoil


def _name(concept: Concept, lang: str) -> str:
    """A name of a concept; the first alternative of its Chinese pattern without its guards."""
    if lang == "en":
        return ENGLISH_NAME[concept.key]
    return re.sub(r"\(\?[^)]*\)", "", concept.chinese).split("|")[0]


def _stroke_fact(made: Made, note: Note, hand: str, rng: np.random.Generator) -> Iterator[Sentence]:
    del hand
    for c in made.base.conditions:
        if c.code.code == "230690007" and rng.random() < 0.6:
            side = "left" if "left" in c.code.display else "right"
            lang = note.language
            said = Sentence(str(rng.choice(STROKES[lang])), {"side": SIDES[lang, side]})
            wrong = SIDES[lang, "left" if side == "right" else "right"]
            _item(made, note, said, "side", _set(said, side=wrong))
            yield said


def _brain_facts(made: Made, note: Note, hand: str, rng: np.random.Generator) -> Iterator[Sentence]:
    """What a reader saw in the scan, for half of the notes of the last year."""
    del hand
    if rng.random() < 0.5:
        return
    lang = note.language
    by_key = {p.region: p for p in made.regions}
    for name in USUAL_MM3:
        pair = [by_key[f"{side} {name}"] for side in ("left", "right")]
        signs = 1.0 if "ventricle" in name else -1.0
        lost = max(signs * _z(p) for p in pair) + float(rng.normal(0.0, READER_Z))
        if 0.7 < lost < 2.0:
            continue
        ill = lost >= 2.0
        said = Sentence(str(rng.choice((MARKED if ill else NORMAL)[lang, name])))
        wrong = (NORMAL if ill else MARKED)[lang, name]

        def spoil(
            r: np.random.Generator, said: Sentence = said, wrong: tuple[str, ...] = wrong
        ) -> None:
            said.wording = str(r.choice(wrong))

        _item(made, note, said, "volume", spoil)
        yield said
    left, right = (by_key[f"{side} hippocampus"].volume_mm3 for side in ("left", "right"))
    z = load_norms().asymmetry_z("hippocampus", left, right, made.base.age_years)
    if z is not None and abs(z) > 2.0:
        side = "right" if z > 0 else "left"
        said = Sentence(str(rng.choice(LEANS[lang])), {"side": SIDES[lang, side]})
        wrong_side = SIDES[lang, "left" if side == "right" else "right"]
        _item(made, note, said, "side", _set(said, side=wrong_side))
        yield said
