"""What a check found: a sentence for the physician, both sides to look at, and what is in doubt.

A finding holds pointers and never what they point to, so that it may be logged. Its sentence is a
template of `MESSAGES` in English and Chinese; what goes in are names of analytes and regions,
units, limits and factors of tables, never a patient's value, name, date or text.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from clinical.units import analyte

Kind = Literal[
    "missing", "implausible", "date", "unit", "duplicate", "derived", "neighbour", "sex", "age",
    "birth date", "side", "score", "value", "medication", "diagnosis", "atrophy", "header", "scan",
    "import", "instruction",
]  # fmt: skip
SourceKind = Literal[
    "note", "observation", "condition", "medication", "patient", "region", "header"
]
Verdict = Literal["first", "second", "unfounded"]

VERDICTS: tuple[Verdict, ...] = ("first", "second", "unfounded")
PLAIN = "plain"  # the template of a sentence that was written elsewhere
UNSURE = 0.5  # what is left of the weight of evidence that another source contradicts
DOUBTFUL = 0.25  # and of evidence that is the likelier of both to be wrong
IMPOSSIBLE = 0.05  # and of a value that no patient can have
# These say that a whole note may be somebody else's, not one sentence of it.
WHOLE_NOTE: tuple[Kind, ...] = ("sex", "age", "birth date")
Naming = Callable[[str, str], str]
_ANNOTATION = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True)
class Source:
    """One entry that a finding is about, to be looked up.

    Attributes:
        kind: Where to look.
        id: Id of the note or resource; ``sex`` or ``birth date`` of the patient; key of a region
            of the scan; fact of the scan's header.
        start: Where in the text of a note it begins.
        end: And where it ends; 0 where all of the note is meant.
    """

    kind: SourceKind
    id: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        kind: Sort of finding.
        template: Key of its sentence in `MESSAGES`.
        values: Name and value of what goes into the sentence.
        first: What is doubted, or one side of a contradiction; empty where something is missing.
        second: The other side; empty where general knowledge contradicts.
        doubts: What is left of the weight of each side until a person has decided, 0..1.
    """

    kind: Kind
    template: str
    values: tuple[tuple[str, str], ...] = ()
    first: tuple[Source, ...] = ()
    second: tuple[Source, ...] = ()
    doubts: tuple[float, float] = (1.0, 1.0)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything it is about."""
        return (*self.first, *self.second)

    @property
    def can_be_resolved(self) -> bool:
        """Whether there is anything for a person to decide."""
        return bool(self.first)

    @property
    def key(self) -> str:
        """The same for the same finding on the same record."""
        said = json.dumps(dump([self]), sort_keys=True).encode()
        return hashlib.sha256(said).hexdigest()[:12]

    @property
    def message(self) -> str:
        """Its sentence in English."""
        return self.say("en")

    def __str__(self) -> str:
        """Its sentence in English."""
        return self.message

    def say(self, language: str, naming: Naming | None = None) -> str:
        """Its sentence.

        Args:
            language: ``en`` or ``zh``.
            naming: From a value's name, such as ``analyte``, and the value to the reader's word
                for it; the English one where None.

        Example:
            >>> found = Finding("missing", "missing", (("part", "note"),))
            >>> found.say("en"), found.say("zh", lambda _, part: "病历文本")
            ('The record has no note.', '记录中没有病历文本。')
        """
        words = {name: (naming or english)(name, value) for name, value in self.values}
        if self.template not in MESSAGES:  # of another version, or written elsewhere
            return words.get("text", self.template)
        said = MESSAGES[self.template][language == "zh"].format(**words)
        return re.sub(r" (?=[,。])", "", said)  # of a unit that is not named

    def left(self, verdict: Verdict | None) -> tuple[float, float]:
        """What is left of the weight of each side after a person's decision.

        Example:
            >>> found = Finding("score", "score", first=(Source("observation", "o1"),),
            ...                 second=(Source("note", "n1", 0, 9),), doubts=(0.5, 0.5))
            >>> found.left(None), found.left("first"), found.left("unfounded")
            ((0.5, 0.5), (1.0, 0.0), (1.0, 1.0))
        """
        if verdict is None:
            return self.doubts
        return {"first": (1.0, 0.0), "second": (0.0, 1.0), "unfounded": (1.0, 1.0)}[verdict]


_LIST = TypeAdapter(tuple[Finding, ...])


def plain(text: str, kind: Kind = "import") -> Finding:
    """A finding whose sentence was written elsewhere, or by an earlier version.

    Example:
        >>> str(plain("No scan."))
        'No scan.'
    """
    return Finding(kind, PLAIN, (("text", text),))


def dump(findings: Iterable[Finding]) -> list[Any]:
    """Findings as JSON."""
    return list(_LIST.dump_python(tuple(findings), mode="json"))


def load(kept: Iterable[Any]) -> tuple[Finding, ...]:
    """Findings from JSON or as they are; one that an earlier version kept is a bare sentence."""
    return _LIST.validate_python([plain(f) if isinstance(f, str) else f for f in kept])


def english(name: str, value: str) -> str:
    """A word that goes into an English sentence; a score has no unit to name."""
    if name == "unit":
        return _ANNOTATION.sub("", value)
    known = analyte(value) if name.startswith("analyte") else None
    return f"{known.name} ({known.loinc})" if known else value


MESSAGES: dict[str, tuple[str, str]] = {
    "missing": ("The record has no {part}.", "记录中没有{part}。"),
    "implausible": (
        "{analyte} lies outside {low} to {high} {unit}, which no patient has.",
        "{analyte}超出患者可能的范围 {low} 至 {high} {unit}。",
    ),
    "age outside": (
        "The age lies outside 0 to {high} years.", "年龄超出 0 至 {high} 岁。"
    ),
    "future": (
        "A date of this {entry} lies in the future.", "该{entry}的日期在未来。"
    ),
    "before birth": (
        "A date of this {entry} lies before birth.", "该{entry}的日期早于出生日期。"
    ),
    "unit unknown": (
        "{analyte} came in a unit that is not known: its value is missing.",
        "{analyte}的单位无法识别：该结果缺失。",
    ),
    "unit slip": (
        "{analyte} is not plausible as sent, but is with a factor of {factor}: check its unit.",
        "{analyte}的数值不合理，但按单位换算系数 {factor} 则合理：请核对单位。",
    ),
    "unit course": (
        "{analyte} leaves the patient's course by a factor of {factor}: check its unit.",
        "{analyte}与患者以往数值相差约 {factor} 倍，恰为两种单位的换算系数：请核对单位。",
    ),
    "duplicate": (
        "{analyte} has two different values on one day.", "{analyte}在同一天有两个不同的结果。"
    ),
    "derived": (
        "{analyte} does not follow from {analyte_2} of the same day.",
        "{analyte}与同日的{analyte_2}不相符。",
    ),
    "neighbour": (
        "Many values of one day leave the patient's own course: check whose blood it was.",
        "同一天的多项结果与患者本人以往结果差异过大，似来自不同的人：请核对标本归属。",
    ),
    "sex of entry": (
        "An entry that only the other sex can have stands in this record: check whose it is.",
        "记录中有仅见于另一性别的条目：请核对其归属。",
    ),
    "sex of note": (
        "A note speaks of a patient of the other sex: check whose it is.",
        "病历文本描述的患者性别与记录不符：请核对其归属。",
    ),
    "age": (
        "The age that a note states does not fit the birth date and the note's date.",
        "病历文本所述年龄与出生日期及病历日期不符。",
    ),
    "birth date": (
        "The birth date that a note states is not the record's: check whose note it is.",
        "病历文本所述出生日期与记录不符：请核对其归属。",
    ),
    "handedness": (
        "Two notes disagree about the hand the patient writes with.", "两份病历对利手的描述不一致。"
    ),
    "side": (
        "A note names the other side than the coded condition.",
        "病历文本所述侧别与编码诊断的侧别不一致。",
    ),
    "score": (
        "A note gives another {analyte} than the coded one of that day.",
        "病历文本中的{analyte}与同日编码结果不一致。",
    ),
    "score impossible": (
        "A note gives a {analyte} outside its scale.", "病历文本中的{analyte}超出量表范围。"
    ),
    "value": (
        "A note gives another {analyte} than the coded one of that day.",
        "病历文本中的{analyte}与同日编码结果不一致。",
    ),
    "medication": (
        "A note says that a drug is not taken which the record has as active.",
        "病历文本称未使用某药，而记录中该药为在用状态。",
    ),
    "indication": (
        "A drug is active whose disease a note denies.",
        "记录中有在用药物，而病历文本否认其适应症。",
    ),
    "diagnosis": (
        "A note denies a diagnosis that is coded as active.",
        "病历文本否认某诊断，而记录中该诊断为活动状态。",
    ),
    "atrophy absent": (
        "A note reports marked atrophy, but the measured volume is not small: {region}.",
        "病历文本称明显萎缩，而测得体积并不小：{region}。",
    ),
    "atrophy missed": (
        "A note reports a normal size, but the measured volume is very small: {region}.",
        "病历文本称大小正常，而测得体积很小：{region}。",
    ),
    "ventricle absent": (
        "A note reports enlarged ventricles, but the measured ones are not large: {region}.",
        "病历文本称脑室扩大，而测得脑室并不大：{region}。",
    ),
    "ventricle missed": (
        "A note reports ventricles of normal size, but the measured ones are very large: {region}.",
        "病历文本称脑室大小正常，而测得脑室很大：{region}。",
    ),
    "atrophy side": (
        "A note names one side as the smaller, but by measure it is clearly the other: {region}.",
        "病历文本所述较小一侧与测量结果相反：{region}。",
    ),
    "scan future": (
        "The day in the scan's header lies in the future.",
        "影像文件头中的检查日期在未来。",
    ),
    "scan before birth": (
        "The day in the scan's header lies before birth.",
        "影像文件头中的检查日期早于出生日期。",
    ),
    "header identifier": (
        "identifier: the scan header's is none of the record's",
        "标识号：影像文件头中的标识号不属于该病历",
    ),
    "header sex": (
        "sex: record {sex}, scan header {sex_2}",
        "性别：病历为{sex}，影像文件头为{sex_2}",
    ),
    "header birth year": (
        "birth year: record and scan header are {years} years apart",
        "出生年份：病历与影像文件头相差 {years} 年",
    ),
    "nothing to compare": (
        "The scan names no patient: nothing to compare with the record.",
        "影像未注明患者：无法与病历核对。",
    ),
    "scan unusable": ("The scan could not be used: {text}", "影像无法使用：{text}"),
    "unread notes": (
        "{n} of {total} notes are in a language that {encoder} does not read; they weigh little.",
        "{total} 份病历中有 {n} 份为 {encoder} 不能阅读的语言；其权重很低。",
    ),
    "addressed": (
        "A note has sentences that address a reader or a machine and do not describe the patient.",
        "病历文本中有针对读者或机器、而非描述患者的语句。",
    ),
    "rules only": (
        "Read by rules only: {n} of {total} notes, in a language that {encoder} does not read.",
        "仅按规则读取：{total} 份病历中有 {n} 份为 {encoder} 不能阅读的语言。",
    ),
    # Of `imaging.check`, whose own sentence has the measure and what to do.
    "scan resolution": ("{text}", "影像层厚过大，小结构（如海马）模糊：请选用 1 mm 层厚的序列。"),
    "scan coverage": ("{text}", "影像未覆盖全脑，体积与颅腔大小偏小：请扩大视野后重新扫描。"),
    "scan contrast": ("{text}", "灰白质对比度低，皮层难以勾画：请选用带反转准备的 T1 加权序列。"),
    "scan sequence": ("{text}", "该序列不像 T1 加权（脑室内液体不够暗）：请选择 T1 加权序列。"),
    "scan noise": ("{text}", "影像噪声高，小结构的体积不可靠：请增加平均次数或更换线圈。"),
    "scan motion": ("{text}", "影像有运动伪影或模糊：请查看影像，必要时重新扫描。"),
    "scan segmentation": ("{text}", "脑区分割的置信度低：使用体积前请核对叠加图。"),
}  # fmt: skip
_DECIDED = {
    "same": ("found to be this patient's scan", "经确认为该患者的影像"),
    "other": (
        "found to be another patient's scan and taken away",
        "经确认为其他患者的影像，已移除",
    ),
}
for _word, _said in _DECIDED.items():
    MESSAGES[f"scan {_word}"] = _said
    for _fact in ("identifier", "sex", "birth year"):
        _held = MESSAGES[f"header {_fact}"]
        MESSAGES[f"header {_fact} {_word}"] = (f"{_held[0]}; {_said[0]}", f"{_held[1]}；{_said[1]}")
