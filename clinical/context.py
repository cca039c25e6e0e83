"""Whose, when and how sure: what the words around a mention in a note make of it.

"No tremor", "her mother had dementia", "history of stroke" and "MRI to rule out NPH" name four
things that the patient does not have today. The rules follow ConText (Harkema 2009): a cue before
or after the mention, in the same sentence, with nothing between that ends its scope, such as
"but" or 但. The heading that a sentence stands under counts as well. Rules only: the libraries
that do this (medspaCy, negspaCy) need spaCy, read no Chinese, and one pins an older NumPy.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clinical.notes import sentences

_BACK = 1000  # characters before a mention that may hold its sentence
_AHEAD = 400
_HEADING_BACK = 4000  # and its heading; a bound keeps a long note linear in its mentions


@dataclass(frozen=True)
class Context:
    """What the words around a mention say of it.

    Attributes:
        negated: It is denied, absent or ruled out.
        family: It is a relative's.
        historical: It is of the patient's past; never set for a relative's.
        uncertain: It is suspected, one of several, or still to be ruled out.
    """

    negated: bool
    family: bool
    historical: bool
    uncertain: bool


@dataclass(frozen=True)
class _Rules:
    """Cues of one language; `*_before` is searched in the scope, `*_after` starts at its end."""

    stop: re.Pattern[str]  # ends every scope
    clause: re.Pattern[str]  # ends that of negation and doubt as well
    new_clause: re.Pattern[str]  # after a comma: a sentence of its own, and no item of a list
    no_cue: re.Pattern[str]  # looks like a negation and is none
    negated_before: re.Pattern[str]
    negated_after: re.Pattern[str]
    doubt_before: re.Pattern[str]
    doubt_after: re.Pattern[str]
    unlikely_after: re.Pattern[str]  # both negated and uncertain
    informant: re.Pattern[str]  # a relative who tells of the patient
    patient: re.Pattern[str]  # back to the patient after a relative
    family_before: re.Pattern[str]
    family_after: re.Pattern[str]
    onset: re.Pattern[str]  # a date at which something began that goes on
    past_before: re.Pattern[str]
    past_after: re.Pattern[str]


def _any(*parts: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile("|".join(parts), flags)


_KIN = (
    r"(?:grand|step|half-|great-)?(?:mother|father|parent|brother|sister|sibling|aunt|uncle|cousin|"
    r"son|daughter|child(?:ren)?|niece|nephew|wife|husband|spouse|partner|twin)(?:s|'s|s')?"
)
_OF = (
    r"(?:the |his |her |their |a |an |one |both |two |three |several |(?:of )|maternal |paternal )*"
)
_TELLS = (
    r"(?:say|said|report|tell|told|state|describe|complain|notice|note|observe|find|found|feel|"
    r"felt|think|thought|believe|add|confirm|mention|recall|worr|concern|bring|brought|accompan|"
    r"take|taken|took|manage|help|care|drive|supervise|remind|call|ask|request|deni|deny)"
)
_BE = r"(?:is|are|was|were|be|been|has been|have been|had been|could be|can be)"
_SEEN = r"(?:seen|present|noted|found|observed|elicited|detected|reported|evident|demonstrated)"

_ENGLISH = _Rules(
    stop=_any(
        r"[;]|\b(?:but|however|although|though|yet|except(?: for)?|apart from|aside from|"
        r"other than|besides|nevertheless|whereas|while|which|because|due to|"
        r"secondary to|despite)\b"
    ),
    clause=_any(
        r"\b(?:with|and (?:has|have|had|is|was|are|reports?|complains|the|she|he|there))\b"
    ),
    new_clause=_any(
        rf"\b(?:is|are|was|were|has|have|had|shows?|reports?|complains|remains?|seems?|appears?)\b"
        rf"(?! (?:not )?(?:{_SEEN}|denied|absent|excluded|ruled out|suspected|possible))"
    ),
    no_cue=_any(
        r"\bno (?:(?:significant |further |interval )?(?:change|increase|progression|improvement)"
        r"(?: in| of)?|doubt(?: about| of| that)?|suspicious)|\bnot (?:only|just|necessarily)\b|"
        r"\bwithout (?:doubt|difficulty|change)\b|\bno\.(?= ?\d)|\bnot (?:\w+ )?(?:well\b|aware of)"
    ),
    negated_before=_any(
        r"\b(?:no|not|never|without|w/o|den(?:y|ies|ied|ying)|absence of|absent|negative(?: for)?|"
        r"neither|nor|none|free of|free from|lacks?|lacking|ruled out|excluded|excludes|cannot|"
        r"no longer|unremarkable for|fail(?:s|ed|ure)? to)\b|n't\b|n’t\b"
    ),
    negated_after=_any(
        rf"^\W{{0,3}}(?:(?:and|or|nor) [\w-]+ )?(?:{_BE} )?(?:also |both |all |currently |now )?"
        rf"(?:denied|absent|negative|not {_SEEN}|never {_SEEN}|ruled out|excluded|"
        r"(?:none|nil|no)\b)"
    ),
    doubt_before=_any(
        r"\b(?:possibl[ey]|probabl[ey]|likely|suspect(?:ed|s)?|suspicio(?:n|us) (?:of|for)|query|"
        r"suggest(?:s|ed|ing|ive)?(?: of)?|question(?:able|ed)?(?: of)?|may|might|perhaps|maybe|"
        r"could (?:be|represent|have|reflect)|(?:can ?not|could not|can't) (?:be )?"
        r"(?:exclude|rule out)d?|(?:to |must |should )?rule out|r/o|(?:to|or) exclude|not (?:yet )?"
        r"(?:excluded|ruled out|certain|clear)|differential(?: diagnos[ei]s)?|dd:?|vs|versus|"
        r"concern(?:s|ing)? for|consider(?:ed|ing)?|uncertain|unclear|doubtful|equivocal|if|"
        r"whether|wonder(?:s|ed)? (?:about|if)|presum(?:ed|ably|ptive)|evaluat(?:e|ion) for)\b|\?"
    ),
    doubt_after=_any(
        r"^\W{0,3}(?:(?:and|or) [\w-]+ )?(?:(?:can ?not|could not|can't) be "
        r"(?:excluded|ruled out)|"
        rf"(?:{_BE} |remains? )?(?:possible|probable|likely|suspected|considered|questionable|"
        r"uncertain|not (?:yet )?(?:excluded|ruled out)|to be (?:excluded|ruled out))|"
        r"(?:needs|has|have|must|should|is|remains?) (?:to )?be (?:excluded|ruled out)|"
        r"vs\b|versus\b)|^ ?\?"
    ),
    unlikely_after=_any(
        rf"^\W{{0,3}}(?:{_BE} |seems? |appears? )?(?:very |most |highly )?(?:unlikely|improbable|"
        r"less likely|not likely|doubtful)"
    ),
    informant=_any(
        rf"\b(?:{_KIN}|family|relatives?|carers?) (?:(?:has|have|had|also|first|now|is|was|both|"
        rf"and|the|his|her|{_KIN}) ){{0,3}}{_TELLS}\w*",
        rf"\b{_KIN},[^,;]{{0,60}}, (?:(?:has|had|also) )?{_TELLS}\w*",
        rf"\b(?:with|by|to|from|according to|per|lives|accompanied by) {_OF}{_KIN}",
        rf"\b{_KIN} of (?:one|two|three|four|five|six|\d)\b",
    ),
    patient=_any(
        r"\b(?:the )?patient(?:'s|’s)?\b|\b(?:she|he) (?:herself|himself)\b|\bself\b|"
        r"\band (?:she|he) (?:has|is|now)\b"
    ),
    family_before=_any(
        rf"\b{_KIN}\b", r"\bfamily (?:\w+ )?history\b", r"\bfhx?\b", r"\bfamilial\b"
    ),
    family_after=_any(
        rf"^[^,;.]{{0,30}}?\b(?:in|of|affect(?:s|ed|ing)) {_OF}{_KIN}",
        r"^[^,;.]{0,20}?\b(?:in|runs in|within) (?:the|his|her|their) family",
    ),
    onset=_any(
        r"\b(?:began|begun|start(?:ed|ing)?|since|onset|noticed|worse)\b"
        r"[^,;]{0,30}?\b(?:ago|past|last|previous|(?:19|20)\d\d)\b",
        r"\b(?:for|over|during|within|in) (?:about |the |these )*(?:past|last|previous) \w",
    ),
    past_before=_any(
        r"\b(?:(?:history|hx) of|h/o|previous(?:ly)?|prior(?! to)|past|former(?:ly)?|remote|"
        r"status post|in (?:his|her) (?:youth|childhood|teens|twenties|thirties)|as a child|"
        r"(?:years|months|weeks|decades) ago,?|(?:in|until) (?:19|20)\d\d,?)\b|\bs/p\b"
    ),
    past_after=_any(
        r"^[^;]{0,60}?\b(?:(?:years?|months?|weeks?|decades?) ago|in the past|in (?:19|20)\d\d|"
        r"as a (?:child|teenager|young)|in (?:his|her) (?:youth|childhood|teens|twenties|thirties)|"
        r"in (?:childhood|infancy|adolescence|midlife))\b"
    ),
)

_KIN_ZH = (
    "(?:父母|父亲|母亲|爸爸|妈妈|兄弟|姐妹|兄长|哥哥|弟弟|姐姐|妹妹|祖父|祖母|外祖父|外祖母|爷爷|奶奶|"
    "外公|外婆|姥姥|姥爷|叔叔|伯父|姑姑|姑母|姨妈|姨母|舅舅|儿子|女儿|子女|孙子|孙女|女婿|儿媳|丈夫|"
    "妻子|爱人|配偶|老伴|保姆|(?<=其)[父母兄弟姐妹子女妻夫]|[父母](?=[患亦有无均]))"
)
_TELLS_ZH = (
    "(?:诉|述|称|说|讲|发现|反映|代|告|观察|陪|带|描述|觉得|认为|察觉|注意到|提供|补充|要求|照顾|照料|"
    "接管|安排|担心|提醒|协助|送)"
)

_CHINESE = _Rules(
    stop=_any("[;；]|但是?|然而|不过|只是|仅|却|除此"),
    clause=_any("(?<![不未无])伴|(?<![未不无])出现|表现为|(?<=[，,])有"),
    new_clause=_any(r"^(?![^，,。；]{1,12}(?:病史|史|等))"),
    no_cue=_any(
        "无(?:明显|特殊)?诱因|无[力法论故助奈]|无(?:明显)?(?:变化|改善|好转|加重|缓解)|未(?:婚|来|治|控制|"
        "缓解|愈|改善)|非(?:常|典型|特异)|不(?:自主|稳|佳|清|良|足|全|宁|断|停|明原因|典型|适)|没精神"
    ),
    negated_before=_any(
        "否认|无|未|没|排除|除外|并非|不是|阴性|不(?:伴|存在|支持|考虑|符合|像|会|曾)|不$|非$"
    ),
    negated_after=_any(
        "^(?:征|史|症状|反射|病理征|等|现象|均|亦|也|及[^，。；、]{1,6}){0,3}"
        r"(?:阴性|未引出|未见|未及|未触及|未发现|不明显|已?被?排除|否认|[：:]\s*(?:无|否|阴性|未见)|"
        r"[（(]\s*[-—－阴]\s*性?[)）])"
    ),
    doubt_before=_any(
        "可能|疑似|怀疑|可疑|疑(?=[^问])|不能?(?:完全)?(?:除外|排除)|未(?:能)?(?:除外|排除)|"
        "(?:以便?|需|拟|为|进一步|协助|待)(?:进一步)?(?:排除|除外|明确|鉴别)|(?<!不)考虑|倾向|(?<!类)似乎?|或许|也许|"
        "鉴别诊断|需?与?鉴别|[？?]$"
    ),
    doubt_after=_any(
        r"^[^，。；、]{0,4}?(?:待排|待查|待除外|待鉴别|待明确|相?鉴别|"
        r"不能?(?:完全)?(?:除外|排除)|未(?:除外|排除)|可能|可疑)|"
        r"^[^，。；、]{0,3}[？?]"
    ),
    unlikely_after=_any(r"^[^，。；、]{0,4}?(?:可能性(?:较|很|极)?(?:小|不大|低)|不太可能)"),
    informant=_any(
        rf"(?:{_KIN_ZH}|家属|家人|家里人|亲属|照料者)[^，。；、有患]{{0,4}}?{_TELLS_ZH}",
        rf"[与和跟]{_KIN_ZH}[^，。；、]{{0,3}}(?:同住|一起|居住|生活)",
        rf"由{_KIN_ZH}",
        rf"{_KIN_ZH}(?:去世|过世|离世|病故|生病|住院)[后以]",
    ),
    patient=_any("患者|病人|本人|自己"),
    family_before=_any(_KIN_ZH, "家族(?:史|中|成员|性|内)?", "家系"),
    family_after=_any("^[^，。；]{0,8}家族(?:史|聚集)", f"^[^，。；]{{0,3}}见于{_KIN_ZH}"),
    onset=_any(
        r"[\d一二两三四五六七八九十半几数余多]+\s*个?(?:年|月|周|天)(?:余|多)?前[^，。；]{0,8}?"
        r"(?:诱因|出现|开始|起病|逐渐|渐|起)"
    ),
    past_before=_any(
        "既往|曾(?:经|有|患|因|于|行)?|过去|以前|早年|年轻时|幼时|[年月](?:余|多)?前|"
        r"(?:19|20)\d\d年(?:\d{1,2}月)?(?:因|患|行|曾)"
    ),
    past_after=_any("^[^，。；]{0,12}?(?<!家族)(?:病史|手术史|外伤史|中毒史|史)"),
)

_RULES: Mapping[str, _Rules] = {"en": _ENGLISH, "zh": _CHINESE}

_HEADING = re.compile(
    r"(?:^|\n|[.。；;])[ \t]*(?:\#+[ \t]*(?P<hash>[^\n:：]{1,40})[:：]?|"
    r"【(?P<box>[^】\n]{1,20})】[：:]?|"
    r"(?P<latin>[A-Z][A-Za-z/&,' -]{1,48}):|(?P<han>[\u3400-\u9fff]{2,10})[：:])"
)
_FAMILY_HEADING = _any(r"family (?:\w+ )?history|^(?:fhx?|family)$|家族史|家族")
_PAST_HEADING = _any(
    r"(?:past|previous|prior) (?:\w+ )*history|^(?:\w+ )?medical history$|"
    r"^(?:pmhx?|psh|background)$|既往|过去史|手术史|外伤史"
)
_NEW_PARAGRAPH = re.compile(r"\S[^\n]*\n[ \t]*\n")


def context_of(text: str, start: int, end: int, language: str = "en") -> Context:
    """Say what the words around a mention make of it.

    Args:
        text: A note or a sentence.
        start: Where the mention begins, in characters.
        end: Where it ends.
        language: ``zh`` for Chinese rules; anything else reads as English.

    Returns:
        Its context; all False for what the patient has now.

    Example:
        >>> note = "No tremor, but gait is slow. Her mother had dementia."
        >>> context_of(note, 3, 9).negated, context_of(note, 15, 19).negated
        (True, False)
        >>> context_of("否认幻觉。", 2, 4, "zh")
        Context(negated=True, family=False, historical=False, uncertain=False)
    """
    rules = _RULES.get(language, _ENGLISH)
    before, after = _scope(rules, *_sentence_around(text, start, end))
    near_before, near_after = _clause(rules, before, text[start:end], after)
    heading = _heading_before(text, start)
    family = _is_family(rules, before, after) or bool(_FAMILY_HEADING.search(heading))
    past = _is_past(rules, before, after) or bool(_PAST_HEADING.search(heading))
    unlikely = bool(rules.unlikely_after.search(near_after))
    doubt = bool(rules.doubt_before.search(near_before) or rules.doubt_after.search(near_after))
    return Context(
        negated=unlikely or _is_negated(rules, near_before, near_after),
        family=family,
        historical=past and not family,
        uncertain=unlikely or doubt,
    )


def _sentence_around(text: str, start: int, end: int) -> tuple[str, str]:
    """What stands before and after the mention in its sentence."""
    left = max(0, start - _BACK)
    window = text[left : end + _AHEAD]
    for first, last in sentences(window):
        if first <= start - left < last:
            break
    else:  # a bare heading, or a mention that is no part of any sentence
        first, last = start - left, end - left
    return window[first : start - left], window[end - left : max(last, end - left)]


def _scope(rules: _Rules, before: str, after: str) -> tuple[str, str]:
    """Cut both sides at the stop nearest to the mention."""
    stops = list(rules.stop.finditer(before))
    begin = stops[-1].end() if stops else 0
    stop = rules.stop.search(after)
    return before[begin:], after[: stop.start()] if stop else after


def _clause(rules: _Rules, before: str, mention: str, after: str) -> tuple[str, str]:
    """Cut further at a comma that begins a clause of its own, for negation and doubt."""
    comma = max(before.rfind(","), before.rfind("，"))
    rest = re.split("[,，]", after, maxsplit=1)[0]
    if comma >= 0 and rules.new_clause.search(before[comma + 1 :].lstrip() + mention + rest):
        before = before[comma + 1 :]
    ends = list(rules.clause.finditer(before))
    return before[ends[-1].end() if ends else 0 :], after


def _is_negated(rules: _Rules, before: str, after: str) -> bool:
    if rules.doubt_after.search(after):  # "cannot be excluded" is no "excluded"
        after = ""
    plain = rules.no_cue.sub(" ", rules.doubt_before.sub(" ", before))
    return bool(rules.negated_before.search(plain) or rules.negated_after.search(after))


def _is_family(rules: _Rules, before: str, after: str) -> bool:
    """Whether a relative is named and neither tells of the patient nor gives way to them."""
    told = rules.informant.sub(" ", before)
    back = list(rules.patient.finditer(told))
    own = told[back[-1].end() if back else 0 :]
    return bool(rules.family_before.search(own) or rules.family_after.search(after))


def _is_past(rules: _Rules, before: str, after: str) -> bool:
    if rules.onset.search(before) or rules.onset.search(after):
        return False
    return bool(rules.past_before.search(before) or rules.past_after.search(after))


def _heading_before(text: str, start: int) -> str:
    """The heading that the mention stands under; empty where a paragraph has ended it."""
    window = text[max(0, start - _HEADING_BACK) : start]
    found = list(_HEADING.finditer(window))
    if not found or _NEW_PARAGRAPH.search(window, found[-1].end()):
        return ""
    return next(filter(None, found[-1].groups()), "").strip()
