"""What can be diagnosed: names, codes and which of them exclude each other.

The default is ``diagnoses.toml`` beside this file; another hospital's question is another file.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

DEFAULT = Path(__file__).with_name("diagnoses.toml")


class SchemeError(ValueError):
    """A file of diagnoses that cannot be used; the message names the file, entry and field."""


@dataclass(frozen=True)
class Label:
    """One diagnosis.

    Attributes:
        key: Short and unique: ``AD``.
        name_en: Its name in English.
        name_zh: Its name in Chinese.
        snomed: SNOMED CT concept; None where no single concept says the same.
        icd10: ICD-10 code; None likewise.
        also: Further codes of either system that state the diagnosis.
    """

    key: str
    name_en: str
    name_zh: str
    snomed: str | None = None
    icd10: str | None = None
    also: tuple[str, ...] = ()

    def name(self, language: str = "en") -> str:
        """Its name in a language, ``en`` or ``zh``."""
        return self.name_zh if language == "zh" else self.name_en

    @property
    def codes(self) -> frozenset[str]:
        """All codes that state it."""
        return frozenset(code for code in (self.snomed, self.icd10, *self.also) if code)


@dataclass(frozen=True)
class Scheme:
    """Everything that can be diagnosed.

    Attributes:
        syndromes: Exactly one of them is true of a patient.
        causes: Independent of each other; any number can be true.
    """

    syndromes: tuple[Label, ...]
    causes: tuple[Label, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """Syndromes, then causes: the order of every axis ``diagnosis``."""
        return self.syndromes + self.causes

    @property
    def codes(self) -> frozenset[str]:
        """Codes of all diagnoses; a fact with one of them would give the answer away."""
        return frozenset().union(*(label.codes for label in self.labels))

    def label(self, key: str) -> Label:
        """The diagnosis with this key.

        Raises:
            SchemeError: There is none.
        """
        for label in self.labels:
            if label.key == key:
                return label
        known = ", ".join(label.key for label in self.labels)
        raise SchemeError(f"no diagnosis has the key {key!r}; there are {known}")


def load_scheme(path: Path | None = None) -> Scheme:
    """Read what can be diagnosed.

    Args:
        path: TOML with ``[[syndrome]]`` and ``[[cause]]`` entries; None for the 13 labels of
            Xue et al., Nature Medicine 2024.

    Raises:
        SchemeError: The file is missing, is not TOML, or an entry is wrong.

    Example:
        >>> [label.key for label in load_scheme().syndromes]
        ['NC', 'MCI', 'DE']
    """
    path = path or DEFAULT
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SchemeError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemeError(f"{path} is not TOML: {error}") from None
    unknown = sorted(set(raw) - {"syndrome", "cause"})
    if unknown:
        raise SchemeError(f"{path} has {unknown}; it may hold [[syndrome]] and [[cause]] only")
    scheme = Scheme(_labels(path, raw, "syndrome"), _labels(path, raw, "cause"))
    _check(path, scheme)
    return scheme


def _labels(path: Path, raw: dict[str, object], section: str) -> tuple[Label, ...]:
    """The entries of one section."""
    entries = raw.get(section, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SchemeError(f"{path}: write [[{section}]], with two brackets, before each of them")
    return tuple(_label(f"{path}: {section} {n}", entry) for n, entry in enumerate(entries, 1))


def _label(where: str, entry: dict[str, object]) -> Label:
    """One entry, its fields checked."""
    texts = ("key", "name_en", "name_zh", "snomed", "icd10")
    unknown = sorted(set(entry) - {*texts, "also"})
    if unknown:
        raise SchemeError(f"{where} has unknown fields {unknown}; there are {[*texts, 'also']}")
    for field in texts[:3]:
        if field not in entry:
            raise SchemeError(f"{where} has no {field}")
    for field in texts:
        if field in entry and not (isinstance(entry[field], str) and entry[field]):
            raise SchemeError(f"{where}: {field} must be text in quotation marks")
    also = entry.get("also", [])
    if not isinstance(also, list) or not all(isinstance(code, str) for code in also):
        raise SchemeError(f"{where}: also must be a list of codes in quotation marks")
    fields = {field: str(entry[field]) for field in texts if field in entry}
    return Label(**fields, also=tuple(also))


def _check(path: Path, scheme: Scheme) -> None:
    """Refuse what the network cannot learn."""
    keys = [label.key for label in scheme.labels]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise SchemeError(f"{path} names {twice} twice; a key must be unique")
    if len(scheme.syndromes) == 1:
        raise SchemeError(f"{path} has one syndrome; give two or more that exclude each other")
    if not keys:
        raise SchemeError(f"{path} has no [[syndrome]] and no [[cause]]")


def dump_scheme(scheme: Scheme) -> str:
    """Write a scheme as the TOML that `load_scheme` reads."""
    sections = [("syndrome", label) for label in scheme.syndromes]
    sections += [("cause", label) for label in scheme.causes]
    return "\n".join(_entry(section, label) for section, label in sections)


def _entry(section: str, label: Label) -> str:
    """One entry as TOML; its strings are those of JSON."""
    fields = {name: value for name, value in vars(label).items() if value}
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join([f"[[{section}]]", *lines, ""])
