"""The page's words in English and Chinese."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from clinical.findings import Finding, english
from clinical.units import analyte
from imaging.pictures import COLOURS
from imaging.regions import REGIONS

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Texts:
    """All words of one language; call it with a key and the values that go in.

    Example:
        >>> load_texts("en")("years", n=71)
        '71 years'
    """

    language: str
    words: dict[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key; the key itself where there is none."""
        return self.words.get(key, key).format(**values)

    def region(self, key: str) -> str:
        """A region of `imaging.regions.REGIONS` by its key.

        Example:
            >>> load_texts("zh").region("left hippocampus")
            '左侧海马'
        """
        side, _, rest = key.partition(" ")
        if side not in ("left", "right"):
            return self.words.get(f"region.{key}", key.capitalize())
        return self(f"side.{side}", region=self.words.get(f"region.{rest}", rest))

    def finding(self, found: Finding) -> str:
        """What a check found, in a sentence.

        Example:
            >>> load_texts("zh").finding(Finding("missing", "missing", (("part", "sex"),)))
            '记录中没有性别。'
        """
        return found.say(self.language, self._word)

    def _word(self, name: str, value: str) -> str:
        """The word for a value that goes into a finding's sentence."""
        if name.startswith("analyte"):
            known = analyte(value)
            return self.analyte(value, known.name if known else value)
        if name == "region":
            return self.region(value)
        kind = name.split("_")[0]
        return self(f"{kind}.{value}") if kind in ("part", "entry", "sex") else english(name, value)

    def analyte(self, loinc: str, name: str) -> str:
        """An analyte by its LOINC code, in the sender's word where we have none."""
        return self.words.get(f"loinc.{loinc}", name)


@functools.cache
def load_texts(language: str) -> Texts:
    """Read the words of a language of `LANGUAGES`."""
    path = Path(__file__).parent / "i18n" / f"{language}.json"
    return Texts(language, json.loads(path.read_text(encoding="utf-8")))


def viewer_words(language: str) -> dict[str, object]:
    """What the viewer says: its buttons, and the regions' names by label, with their colours."""
    texts = load_texts(language)
    said = {key[7:]: word for key, word in texts.words.items() if key.startswith("viewer.")}
    names = ["", *(texts.region(region.key) for region in REGIONS)]
    return {**said, "regions": names, "colours": [COLOURS[region.name] for region in REGIONS]}
