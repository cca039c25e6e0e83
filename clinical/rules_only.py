"""What rules read in a note whose language the text encoder does not read, said in English.

An encoder that never saw Chinese makes a vector of it all the same, and that vector means
nothing. So such a note is read by rules: the statements of `clinical.statements` and the symptoms
of `clinical.symptoms_zh`, each with what `clinical.context` makes of the words around it, become
one English sentence for each sentence of the note. Where no rule finds anything there is no
sentence, and no evidence.
"""

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import itemgetter

from clinical.concepts import DIAGNOSES, DRUGS
from clinical.context import Context, context_of
from clinical.notes import Span, sections, sentences
from clinical.plain_characters import readable
from clinical.record import Note
from clinical.statements import Statement, statements
from clinical.symptoms_zh import DENIED_INSIDE, SYMPTOMS, Symptom
from clinical.units import analyte

RULES_ONLY_QUALITY = 0.5  # of a token made so: what the rules miss is missing, and unseen
READ_BY_RULES = frozenset({"zh"})  # languages that there are rules for
FAMILY_DEMENTIA = "Family history of dementia"
MENTIONS = 3  # of one symptom in one sentence; more are a list or an attack

_STRUCTURES = {
    "hippocampus": "hippocampus", "frontal cortex": "frontal lobes",
    "parietal cortex": "parietal lobes", "lateral ventricle": "lateral ventricles",
}  # fmt: skip
_DIAGNOSES = {
    "alzheimer": "Alzheimer's disease", "parkinson": "Parkinson's disease",
    "coronary disease": "coronary heart disease", "kidney disease": "chronic kidney disease",
    "reflux": "gastroesophageal reflux",
}  # fmt: skip
_NAMES = {concept.key: _DIAGNOSES.get(concept.key, concept.key) for concept in DIAGNOSES} | {
    concept.key: concept.key for concept in DRUGS
}


@dataclass(frozen=True)
class _Said:
    """What a rule read at a place of a note, in English."""

    start: int
    end: int
    english: str


def rule_sentences(note: Note) -> tuple[tuple[Span, str], ...]:
    """Say in English what the rules find in each sentence of a note.

    Args:
        note: In a language of `READ_BY_RULES`; in any other the rules find nothing.

    Returns:
        Start and end of each sentence in which they find something, as `clinical.notes.sentences`
        cuts it, with what it says. What it says of a relative is left out, but for a family
        history of dementia; what it doubts begins with "Possibly".

    Example:
        >>> from clinical.record import Coding
        >>> note = Note("n1", Coding("", "", ""), "记忆力下降。天气好。否认幻觉，MMSE 21 分。",
        ...             language="zh")
        >>> [english for _, english in rule_sentences(note)]
        ['Memory decline.', 'No hallucinations. MMSE score 21.']
    """
    if note.language not in READ_BY_RULES:
        return ()
    spans = sentences(note.text)
    starts = [start for start, _ in spans]
    plain = replace(note, text=readable(note.text))
    places = [
        (bisect.bisect_right(starts, said.start) - 1, said)
        for said in (*_stated(plain), *_symptoms(plain, spans))
    ]
    inside = sorted(
        ((n, said) for n, said in places if n >= 0 and said.start < spans[n][1]),
        key=lambda place: (place[0], place[1].start, place[1].english),
    )
    return tuple(
        (spans[n], " ".join(dict.fromkeys(f"{said.english}." for _, said in those)))
        for n, those in groupby(inside, key=itemgetter(0))
    )


# -- symptoms ------------------------------------------------------------------------------


def _symptoms(note: Note, spans: Sequence[Span]) -> Iterator[_Said]:
    """Symptoms and signs that the note names, in the words of `SYMPTOMS`."""
    heads = sections(note.text)
    starts = [section.start for section in heads]
    for start, end in spans:
        n = bisect.bisect_right(starts, start) - 1
        head = f"{heads[n].title}：\n" if n >= 0 else ""
        sentence = head + note.text[start:end]
        for symptom, (first, last) in _mentions(sentence, len(head)):
            context = context_of(sentence, first, last, note.language)
            if DENIED_INSIDE.search(sentence, first, last) and not _is_fine(symptom):
                context = replace(context, negated=True)
            english = _with_context(symptom, context)
            if english:
                moved = start - len(head)
                yield _Said(first + moved, last + moved, english)


def _mentions(sentence: str, start: int) -> list[tuple[Symptom, Span]]:
    """The mentions in a sentence; of those that overlap, the longest, which says most."""
    found = [
        (symptom, match.span())
        for symptom in SYMPTOMS
        for match in islice(symptom.chinese.finditer(sentence, start), MENTIONS)
    ]
    kept: list[tuple[Symptom, Span]] = []
    for symptom, (first, last) in sorted(found, key=lambda m: m[1][0] - m[1][1]):
        if all(last <= other[0] or first >= other[1] for _, other in kept):
            kept.append((symptom, (first, last)))
    return kept


def _is_fine(symptom: Symptom) -> bool:
    """Whether a row says that something is as it should be, as "检查未见异常" does."""
    return symptom.present.endswith("normal")


def _with_context(symptom: Symptom, context: Context) -> str:
    """A mention as an English sentence; empty where it is of somebody else."""
    if context.family:
        return FAMILY_DEMENTIA if symptom.present in ("Dementia", FAMILY_DEMENTIA) else ""
    if context.negated:
        return symptom.absent
    present = symptom.present[0].lower() + symptom.present[1:]
    if context.uncertain:
        return f"Possibly {present}"
    return f"In the past: {present}" if context.historical else symptom.present


# -- statements ----------------------------------------------------------------------------


def _stated(note: Note) -> Iterator[_Said]:
    """What `clinical.statements` reads, but for what would only identify the patient."""
    for made in statements(note):
        say = _SAY.get(made.kind)
        english = say(made) if say else ""
        if english:
            yield _Said(made.start, made.end, english)


def _sex(made: Statement) -> str:
    return f"The patient is a {'woman' if made.name == 'female' else 'man'}"


def _age(made: Statement) -> str:
    return f"The patient is {made.number:.0f} years old"


def _hand(made: Statement) -> str:
    return f"{made.side.capitalize()}-handed"


def _stroke(made: Statement) -> str:
    return f"{made.side.capitalize()}-sided stroke"


def _score(made: Statement) -> str:
    known = analyte(made.name)
    earlier = "Earlier " if made.past or made.date is not None else ""
    return f"{earlier}{known.name} score {made.number:g}" if known else ""


def _value(made: Statement) -> str:
    known = analyte(made.name)
    earlier = "Earlier " if made.past else ""
    return f"{earlier}{known.name} {made.number:.4g} {known.unit}" if known else ""


def _drug(made: Statement) -> str:
    if made.negated:
        return f"Does not take {_NAMES[made.name]}"
    return f"{'Took' if made.past else 'Takes'} {_NAMES[made.name]}"


def _diagnosis(made: Statement) -> str:
    name = _NAMES[made.name]
    if made.negated:
        return f"No {name}"
    return f"History of {name}" if made.past else name[0].upper() + name[1:]


def _atrophy(made: Statement) -> str:
    name = _STRUCTURES[made.name]
    side = f"{made.side} " if made.side else ""
    wide = made.name == "lateral ventricle"
    return f"Enlarged {side}{name}" if wide else f"Marked atrophy of the {side}{name}"


def _asymmetry(made: Statement) -> str:
    return f"The {_STRUCTURES[made.name]} smaller on the {made.side}"


def _normal_size(made: Statement) -> str:
    return f"The {_STRUCTURES[made.name]} of normal size"


_SAY: Mapping[str, Callable[[Statement], str]] = {
    "sex": _sex, "age": _age, "hand": _hand, "side": _stroke, "score": _score, "value": _value,
    "drug": _drug, "diagnosis": _diagnosis, "atrophy": _atrophy, "asymmetry": _asymmetry,
    "normal size": _normal_size,
}  # fmt: skip
