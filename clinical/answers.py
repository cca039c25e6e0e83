"""What a coded or written answer means as a number: a closed list, and nothing else.

A finding is 1 where it is there and 0 where it is not; an APOE genotype is its number of e4
alleles; a titer is its denominator. "Weakly reactive", "indeterminate" and everything else that
is not in these lists stays text without a number.
"""

import re
import unicodedata
from itertools import product

# SNOMED CT: positive, reactive, present, detected; LOINC answers: positive, present, detected, yes.
_YES_CODES = (
    "10828004", "11214006", "52101004", "260373001", "LA6576-8", "LA9633-4", "LA11882-0", "LA33-6",
)  # fmt: skip
_NO_CODES = (
    "260385009", "131194007", "2667000", "260415000", "LA6577-6", "LA9634-2", "LA11883-8", "LA32-8",
)  # fmt: skip
# HL7 also has NR and ND, which in print may as well mean not reported and not done.
_YES_WORDS = (
    "positive", "pos", "reactive", "present", "detected", "yes", "true",
    "阳性", "有反应", "检出", "是",
)  # fmt: skip
_NO_WORDS = (
    "negative", "neg", "non-reactive", "nonreactive", "non reactive", "not reactive", "absent",
    "not detected", "none detected", "no", "false", "阴性", "无反应", "未检出", "否",
)  # fmt: skip

PRESENCE: dict[str, float] = {
    **{answer.casefold(): 1.0 for answer in (*_YES_CODES, *_YES_WORDS, "(+)", "阳性(+)")},
    **{answer.casefold(): 0.0 for answer in (*_NO_CODES, *_NO_WORDS, "(-)", "阴性(-)")},
}
# What a laboratory prints in place of a titer that it did not need to measure.
TITERS: dict[str, float] = {answer: 0.0 for answer, number in PRESENCE.items() if number == 0.0}

_GENOTYPES = {
    "LA21356-3": "22", "LA21357-1": "23", "LA21361-3": "24",
    "LA21358-9": "33", "LA21359-7": "34", "LA21360-5": "44",
}  # fmt: skip
E4_ALLELES: dict[str, float] = {
    **{code.casefold(): float(pair.count("4")) for code, pair in _GENOTYPES.items()},
    **{
        f"{before}{letter}{a}{between}{letter}{b}": float((a + b).count("4"))
        for a, b in product("234", repeat=2)
        for before, letter, between in product(
            ("", "apoe ", "apoe-"), ("e", "ε", "*", ""), ("/", "", "-")
        )
        # "34" alone could be any number.
        if letter or between == "/"
    },
}

_DASHES = re.compile("[‐‑‒–—−]")
_TITER = re.compile(r"1 ?[:/] ?(\d{1,5})")


def plain_answer(text: str) -> str:
    """An answer as the lists spell it: lower case, plain brackets and dashes, single spaces.

    Example:
        >>> plain_answer(" Non–Reactive ")
        'non-reactive'
    """
    tidy = _DASHES.sub("-", unicodedata.normalize("NFKC", text))
    return " ".join(tidy.casefold().split())


def titer(text: str) -> float | None:
    """The denominator of a titer; None where it is none.

    Example:
        >>> titer("1:64")
        64.0
    """
    found = _TITER.fullmatch(plain_answer(text))
    return float(found[1]) if found else None
