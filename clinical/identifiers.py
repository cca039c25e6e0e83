"""Numbers that identify somebody, in any language: dates, ages, phones, documents, the net.

And the lists that the rules for names and places look into.

Each rule is a pattern and what replaces it. All patterns are anchored at a border and possessive
where they repeat, so that a page of one character costs linear time.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

NAME, PLACE, DATE, PHONE, ID, URL = "[NAME]", "[PLACE]", "[DATE]", "[PHONE]", "[ID]", "[URL]"
OLD_AGE = "[AGE 90+]"  # ages over 89 are few enough to identify; HIPAA, Safe Harbor
OLDEST_KEPT_YEARS = 89

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999
_CHECK_DIGITS = "10X98765432"


@cache
def word_list(name: str) -> frozenset[str]:
    """One of the lists of ``identifiers.toml``."""
    return frozenset(_lists()[name].split())


@cache
def _lists() -> Mapping[str, str]:
    text = files("clinical").joinpath("identifiers.toml").read_text(encoding="utf-8")
    return {name: str(words) for name, words in tomllib.loads(text).items()}


def is_chinese_id(digits: str) -> bool:
    """Whether 17 digits and a check digit are a number of a Chinese identity card.

    Example:
        >>> is_chinese_id("11010519491231002X"), is_chinese_id("110105194912310021")
        (True, False)
    """
    if not re.fullmatch(r"\d{17}[\dXx]", digits):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=False))
    return _CHECK_DIGITS[total % 11] == digits[-1].upper()


def _rule(pattern: str, to: str | Callable[[re.Match[str]], str], flags: int = re.I) -> Rule:
    return re.compile(pattern, flags), to


def _keep(group: str, mark: str, after: str = "") -> Callable[[re.Match[str]], str]:
    """Keep one group of the match, such as the year, and mark the rest where it is absent."""

    def replaced(match: re.Match[str]) -> str:
        return f"{match[group]}{after}" if match[group] else mark

    return replaced


def _spaced_id(match: re.Match[str]) -> str:
    return ID if is_chinese_id(re.sub(r"[ -]", "", match[0])) else match[0]


def _plausible_date(match: re.Match[str]) -> str:
    """Keep the year of a day in figures, if it can be one in either order of day and month."""
    low, high = sorted((int(match["a"]), int(match["b"])))
    if not (1 <= low <= 12 and 1 <= high <= 31):
        return match[0]
    return match["year"] if len(match["year"]) == 4 else DATE


_Y = r"(?:18|19|20)\d\d"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_M_CAPITAL = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|"
    r"Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?|[A-Z]{3}(?=-))\b\.?"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?\b"
_CLOCK = r"(?:[T ]\d\d?:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?[ap]\.?m\b\.?)?(?:Z|[+-]\d\d:?\d\d)?)?"
_HAN_DIGIT = "[〇零○Ｏ一二三四五六七八九十]"

NET: tuple[Rule, ...] = (
    _rule(r"(?<![a-z0-9._%+-])[a-z0-9._%+-]++@[a-z0-9-]++(?:\.[a-z0-9-]++)+", "[EMAIL]"),
    _rule(r"\b(?:https?|ftp)://[^\s<>\"'，。；）)]++|\bwww\.[^\s<>\"'，。；）)]++", URL),
    _rule(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", "[ADDRESS]"),
    _rule(r"(?P<l>微信号?|wechat|QQ号?)[:：\s]{0,3}[a-z0-9_-]{5,20}", r"\g<l> [ID]"),
)

DATES: tuple[Rule, ...] = (
    _rule(
        r"\b(?P<l>born|b\.)(?P<m> (?:in|on|around|circa))? (?:18|19|20)\d\d\b", r"\g<l>\g<m> [DATE]"
    ),
    _rule(r"(?:(?<=出生于)|(?<=生于))(?:18|19|20)\d\d年", DATE),
    _rule(r"(?<!\d)(?:18|19|20)\d\d年(?:\d{1,2}月)?(?:\d{1,2}[日号])?(?=出?生)", DATE),
    _rule(
        rf"(?<![\d.])(?P<y>{_Y})(?:[-/.](?:0?[1-9]|1[0-2])[-/.](?:3[01]|[12]\d|0?[1-9])"
        rf"(?!\d){_CLOCK}|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\d.]))",
        _keep("y", DATE),
    ),
    _rule(
        rf"(?<!\d)(?P<y>{_Y}) ?年 ?\d{{1,2}} ?月(?: ?\d{{1,2}} ?[日号]|份|[上中下]旬|初|底)?",
        _keep("y", DATE, "年"),
    ),
    _rule(r"(?<!\d)(?:\d\d年)?(?:0?[1-9]|1[0-2]) ?月 ?(?:3[01]|[12]\d|0?[1-9]) ?[日号]", DATE),
    _rule(rf"{_HAN_DIGIT}{{4}}年(?:{_HAN_DIGIT}{{1,2}}月(?:{_HAN_DIGIT}{{1,3}}[日号])?)?", DATE),
    _rule(
        rf"(?:[农阴公][历]|正|腊|{_HAN_DIGIT}{{1,2}})(?:{_HAN_DIGIT}{{0,2}})月"
        rf"(?:初{_HAN_DIGIT}|[廿十二三]{{1,2}}{_HAN_DIGIT}?(?=[日号])[日号]|十五)",
        DATE,
    ),
    _rule(
        rf"(?<![\d./-])(?P<a>\d{{1,2}})(?P<s>[/.-])(?P<b>\d{{1,2}})(?P=s)(?P<year>{_Y}|\d\d)"
        rf"(?![\d/]|\.\d|-\d){_CLOCK}",
        _plausible_date,
    ),
    _rule(
        rf"(?<![\w.])(?<!\d/){_DAY}(?: of)?[ -]?{_MONTH},?[ -]?(?P<y>{_Y})(?!\d)", _keep("y", DATE)
    ),
    _rule(rf"\b{_MONTH}[ -]?{_DAY},?[ -]?(?P<y>{_Y})(?!\d)", _keep("y", DATE)),
    _rule(rf"\b(?P<y>{_Y})[ -]{_MONTH}[ -]{_DAY}", _keep("y", DATE)),
    _rule(rf"\b{_MONTH},?(?: of)?[ -](?P<y>{_Y})(?!\d)", _keep("y", DATE)),
    _rule(rf"\b{_DAY}(?: of)?[ -]{_M_CAPITAL}(?:[ -]'?\d\d(?!\d))?", DATE, 0),
    _rule(rf"\b{_M_CAPITAL} {_DAY}(?! ?(?:mg|ml|mcg|g|%|points?|times)\b)", DATE, 0),
    _rule(
        r"\b(?P<l>(?:in|since|until|till|last|this|next|from|by|during|before|after|of) "
        rf"(?:early |late |mid[- ]?)?){_M_CAPITAL}(?![a-z])",
        rf"\g<l>{DATE}",
        0,
    ),
    _rule(rf"(?<![\d/.-])(?:0?[1-9]|1[0-2])[/-](?P<y>{_Y})(?![\d/-])", _keep("y", DATE)),
    _rule(rf"(?<![\d/.-])(?P<y>{_Y})[/-](?:0[1-9]|1[0-2])(?![\d/-])", _keep("y", DATE)),
    _rule(
        r"\b(?P<l>on|since|until|dated|date:?|dob:?|before|after) (?:0?[1-9]|1[0-2])/"
        r"(?:3[01]|[12]\d|0?[1-9])(?![\d/]| ?(?:items?|words?|points?|correct|trials?)\b)",
        rf"\g<l> {DATE}",
    ),
)

_OLD = r"(?<!AGE )(?:9\d|1[0-2]\d)"
AGES: tuple[Rule, ...] = (
    _rule(rf"(?<![\d.]){_OLD}(?= ?-? ?(?:years?\b|yrs?\b|y\.? ?/?o\b)[- ]?(?:olds?\b|"
        rf"of age)?)", OLD_AGE),
    _rule(rf"\b(?P<l>aged?|age of|age is|turned|turning)(?P<c> ?[:=]? ?){_OLD}(?!\d|\.\d|[%/])",
          rf"\g<l>\g<c>{OLD_AGE}"),
    _rule(rf"(?<![\d.]){_OLD}(?= ?[周多余]?岁)", OLD_AGE),
    _rule(rf"(?P<l>年龄|享年|高龄)(?P<c>[:：为\s]{{0,3}}){_OLD}(?!\d|"
        rf"\.\d)", rf"\g<l>\g<c>{OLD_AGE}"),
    _rule(r"(?<![\d.])(?<!AGE )(?:9\d|1[0-2]\d)(?= ?(?:[MF]\b|male\b|female\b|[,，] ?(?:男|"
        r"女)))", OLD_AGE),
    _rule(r"\bninety(?:[- ](?:one|two|three|four|five|six|seven|eight|"
        r"nine))?(?=[- ]years?\b)", OLD_AGE),
    _rule(r"九十[一二三四五六七八九]?(?=多?[周]?岁)", OLD_AGE),
)  # fmt: skip

_LABEL_EN = (
    r"(?:mrn|m\.r\.n\.?|medical record|hospital|patient|case|chart|account|acct|accession|nhs|ssn|"
    r"social security|passport|insurance|policy|member|medicare|medicaid|licen[cs]e|registration|"
    r"record|encounter|visit|study|specimen|order|claim|beneficiary|plate|serial|device|uhid|dl)"
)
_LABEL_ZH = (
    "(?:身份证|住院|门诊|病案|病历|登记|就诊卡?|诊疗卡|医保卡?|社保卡?|护照|检查|标本|影像|床|"
    "工作证|"
    "老年证|残疾证|驾驶证|银行卡|卡|编|条码|序列|病人)"
)
NUMBERS: tuple[Rule, ...] = (
    _rule(r"(?<![\dA-Za-z])\d{17}[\dX](?![\dA-Za-z])", ID),
    _rule(r"(?<!\d)\d{6}[ -]\d{4}[ -]?\d{4}[ -]\d{3}[\dX](?!\d)", _spaced_id),
    _rule(r"(?<!\d)\d{6}[ -]\d{8}[ -]\d{3}[\dX](?!\d)", _spaced_id),
    _rule(
        rf"\b(?P<l>{_LABEL_EN}(?: (?:record|security|id|card|file|chart|plan))?"
        r"(?: ?(?:number|num|no|nr|#|id)\b\.?|"
        r" ?#)?(?: is)?[ :#.]{1,3})(?=[a-z-]{0,8}\d)[a-z0-9][a-z0-9/-]{3,24}+",
        rf"\g<l>{ID}",
    ),
    _rule(r"\b(?P<l>(?:id|no)[:#] ?)(?=[a-z-]{0,8}\d)[a-z0-9][a-z0-9/-]{3,24}+", rf"\g<l>{ID}"),
    _rule(
        rf"(?P<l>{_LABEL_ZH}(?:号码?|证号|编号|卡号)?[:：为是\s]{{1,3}}|{_LABEL_ZH}(?:号码?|证号|"
        rf"编号|卡号))"
        r"(?=[A-Za-z-]{0,8}\d)[A-Za-z0-9][A-Za-z0-9/-]{2,24}+",
        rf"\g<l>{ID}",
    ),
    _rule(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])", ID),
    _rule(
        r"(?P<l>\b(?:tel|phone|telephone|mobile|cell|fax|pager|contact(?: number)?|call)\b|电话|"
        r"手机号?|"
        r"联系方式|传真)(?P<c>[^\d+(\n]{0,8})[+(]?\d[\d ()+.-]{5,22}(?:(?:x|ext\.?|转) ?\d{1,6})?",
        rf"\g<l>\g<c>{PHONE}",
    ),
    _rule(r"(?<![\d.])(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)", PHONE),
    _rule(r"(?<![\d.])[(（]?0\d{2,3}[)）]?[- ]?\d{7,8}(?:转\d{1,5})?(?!\d)|"
        r"(?<!\d)[48]00-\d{3}-?\d{4}(?!\d)", PHONE),
    _rule(
        r"(?<![\w.])(?:\+?\d{1,3}[-. ]?)?(?:\(\d{2,5}\)[-. ]?|\d{2,4}[-. ])\d{3,4}[-. ]\d{3,4}"
        r"(?: ?(?:x|ext\.?|#) ?\d{1,6})?(?!\w)",
        PHONE,
    ),
    _rule(r"(?<![\w.-])\+\d{1,3}[ -]?\d(?:[ -]?\d){6,12}(?:x\d{1,6})?(?!\d)", PHONE),
    _rule(r"(?<![\w.-])\d{3}-\d{4}(?![\w-])", PHONE),
    _rule(r"(?<![A-Za-z0-9.])(?!rs\d)[A-Za-z]{1,4}-?\d{5,20}[A-Za-z]?(?![A-Za-z0-9])", ID),
    _rule(r"(?<![\d.])\d{7,30}(?:x\d{1,6})?(?![\d.]\d)", ID),
    _rule(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", ID),
)  # fmt: skip

NUMERIC_RULES: tuple[Rule, ...] = (
    NET[0],
    NET[1],
    NUMBERS[-1],
    *NUMBERS[:7],
    *DATES,
    *AGES,
    *NET[2:],
    *NUMBERS[7:-1],
)


def apply_rules(text: str, rules: tuple[Rule, ...]) -> str:
    """Replace what each rule finds, in their order."""
    for pattern, to in rules:
        text = pattern.sub(to, text)
    return text
