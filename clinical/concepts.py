"""Diagnoses and drugs that notes and codes can contradict each other about, in words and codes.

Only what a patient keeps once he has it: a symptom that one note denies and an older code states
is no contradiction. A word is matched whole in English and anywhere in Chinese.
"""

# ruff: noqa: E501 - a row that breaks over lines cannot be compared with its neighbours
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from clinical.record import Coding

Pattern = re.Pattern[str]

# Not a word's border: an English name may stand in Chinese text without a space.
_WHOLE = (r"(?<![A-Za-z])", r"(?![A-Za-z])")


@dataclass(frozen=True)
class Concept:
    """One diagnosis, drug or class of drugs.

    Attributes:
        key: Name in the program.
        english: Regular expression of its English names.
        chinese: Of its Chinese names.
        members: Names of the drugs of a class: coded they are of the class, but what a note says
            of one of them it does not say of the others.
        codes: SNOMED CT codes; of drugs, beginnings of ATC codes.
        icd10: Beginnings of ICD-10 codes.
        treats: Keys of diagnoses without one of which nobody takes the drug.
    """

    key: str
    english: str
    chinese: str
    codes: tuple[str, ...] = ()
    icd10: tuple[str, ...] = ()
    treats: tuple[str, ...] = ()
    members: str = ""

    @functools.cached_property
    def pattern(self) -> Pattern:
        """Finds it in a text of either language."""
        return re.compile(
            rf"{_WHOLE[0]}(?:{self.english}){_WHOLE[1]}|{self.chinese}", re.IGNORECASE
        )

    @functools.cached_property
    def coded(self) -> Pattern:
        """Finds it in the display of a code."""
        words = f"{self.english}|{self.members}" if self.members else self.english
        return re.compile(rf"{_WHOLE[0]}(?:{words}){_WHOLE[1]}|{self.chinese}", re.IGNORECASE)


def _diagnosis(key: str, english: str, chinese: str, codes: str, icd10: str) -> Concept:
    return Concept(key, english, chinese, tuple(codes.split()), tuple(icd10.split()))


def _drug(
    key: str, english: str, chinese: str, atc: str, members: str = "", treats: str = ""
) -> Concept:
    return Concept(key, english, chinese, tuple(atc.split()), (), tuple(treats.split()), members)


# fmt: off
DIAGNOSES: tuple[Concept, ...] = (
    _diagnosis("hypertension", r"(?:arterial )?hypertension|hypertensive disorder|high blood pressure", "高血压(?!视)",
               "38341003 59621000", "I10 I11 I12 I13"),
    _diagnosis("diabetes", r"(?<!pre)(?<!pre-)diabetes(?: mellitus)?|diabetic", "(?<!前期)糖尿病(?!前期)",
               "44054006 73211009 46635009", "E10 E11 E12 E13 E14"),
    _diagnosis("hyperlipidemia", r"hyperlipid(?:a)?emia|hypercholesterol(?:a)?emia|dyslipid(?:a)?emia", "高脂血症|血脂异常",
               "55822004 13644009", "E78"),
    _diagnosis("atrial fibrillation", r"atrial fibrillation|a\.?fib", "心房颤动|房颤",
               "49436004", "I48"),
    _diagnosis("stroke", r"stroke|cerebrovascular accident|cerebral infarct(?:ion)?|brain infarct(?:ion)?", "脑梗死|脑卒中|中风|脑梗塞",
               "230690007 432504007 422504002", "I63 I64"),
    _diagnosis("sleep apnea", r"(?:obstructive )?sleep apn(?:o)?ea", "睡眠呼吸暂停", "78275009 73430006", "G47.3"),
    _diagnosis("hypothyroidism", r"hypothyroid(?:ism)?|underactive thyroid", "甲状腺功能减退|甲减",
               "40930008", "E03 E89.0"),
    _diagnosis("osteoporosis", r"osteoporosis", "骨质疏松", "64859006", "M80 M81"),
    _diagnosis("epilepsy", r"epilepsy|epileptic", "癫痫", "84757009 313307000", "G40"),
    _diagnosis("parkinson", r"parkinson'?s disease|parkinson'?s", "帕金森病", "49049000", "G20"),
    _diagnosis("alzheimer", r"alzheimer'?s(?: disease)?|alzheimer disease", "阿尔茨海默病|阿尔茨海默氏病",
               "26929004", "G30 F00"),
    _diagnosis("coronary disease", r"coronary (?:heart|artery) disease|ischa?emic heart disease", "冠心病|缺血性心脏病",
               "53741008 414545008", "I20 I25"),
    _diagnosis("heart failure", r"heart failure", "心力衰竭|心衰", "84114007 42343007 88805009", "I50"),
    _diagnosis("kidney disease", r"chronic kidney disease|chronic renal (?:failure|insufficiency)", "慢性肾脏病|慢性肾功能不全",
               "709044004", "N18"),
    _diagnosis("gout", r"gout", "痛风", "90560007", "M10"),
    _diagnosis("asthma", r"asthma", "哮喘", "195967001", "J45"),
    _diagnosis("glaucoma", r"glaucoma", "青光眼", "23986001", "H40"),
    _diagnosis("osteoarthritis", r"osteoarthritis", "骨关节炎", "396275006", "M15 M16 M17 M19"),
    _diagnosis("reflux", r"g(?:o|a)?(?:e)?stro-?(?:o)?esophageal reflux(?: disease)?|gastroesophageal reflux(?: disease)?|GERD", "胃食管反流",
               "235595009", "K21"),
)
DRUGS: tuple[Concept, ...] = (
    _drug("donepezil", "donepezil|aricept", "多奈哌齐", "N06DA02"),
    _drug("rivastigmine", "rivastigmine|exelon", "卡巴拉汀|利斯的明", "N06DA03"),
    _drug("galantamine", "galantamine", "加兰他敏", "N06DA04"),
    _drug("cholinesterase inhibitor", r"(?:acetyl)?cholinesterase inhibitors?", "胆碱酯酶抑制剂",
          "N06DA", "donepezil|aricept|rivastigmine|galantamine|tacrine|多奈哌齐|卡巴拉汀"),
    _drug("memantine", "memantine", "美金刚", "N06DX01"),
    _drug("levodopa", r"levodopa|carbidopa|madopar|sinemet", "左旋多巴|多巴丝肼", "N04BA"),
    _drug("statin", "statins?", "他汀", "C10AA C10BA C10BX", r"\w+statin"),
    _drug("metformin", "metformin", "二甲双胍", "A10BA02"),
    _drug("insulin", "insulin", "胰岛素(?!抵抗)", "A10A", treats="diabetes"),
    _drug("anticoagulant", "(?:oral )?anticoagulants?", "抗凝药", "B01AA B01AE07 B01AF",
          "warfarin|apixaban|rivaroxaban|dabigatran|edoxaban|华法林|利伐沙班"),
    _drug("warfarin", "warfarin", "华法林", "B01AA03"),
    _drug("aspirin", r"aspirin|acetylsalicylic acid", "阿司匹林", "B01AC06 N02BA01"),
    _drug("levothyroxine", r"levothyroxine(?: sodium)?|l-thyroxine", "左甲状腺素|优甲乐", "H03AA01",
          treats="hypothyroidism"),
    _drug("sertraline", "sertraline", "舍曲林", "N06AB06"),
    _drug("mirtazapine", "mirtazapine", "米氮平", "N06AX11"),
    _drug("antidepressant", "antidepressants?", "抗抑郁药", "N06A",
          "sertraline|mirtazapine|(?:es)?citalopram|fluoxetine|paroxetine|venlafaxine|duloxetine"),
    _drug("quetiapine", "quetiapine", "喹硫平", "N05AH04"),
    _drug("antipsychotic", "antipsychotics?|neuroleptics?", "抗精神病药", "N05A",
          "quetiapine|olanzapine|risperidone|haloperidol|clozapine"),
    _drug("zopiclone", "zopiclone|eszopiclone", "佐匹克隆", "N05CF01 N05CF04"),
    _drug("oxybutynin", "oxybutynin", "奥昔布宁", "G04BD04"),
    _drug("levetiracetam", "levetiracetam|keppra", "左乙拉西坦", "N03AX14"),
    _drug("amlodipine", "amlodipine", "氨氯地平", "C08CA01"),
    _drug("lisinopril", "lisinopril", "赖诺普利", "C09AA03"),
    _drug("omeprazole", "omeprazole", "奥美拉唑", "A02BC01"),
)
# What only one sex can have, coded or said of the patient.
MALE_ONLY = Concept(
    "male", r"prostate(?!-specific| specific)|prostatectomy|prostatic|testic(?:le|ular)|orchi\w+|vasectomy|erectile",
    "前列腺(?!素)|睾丸|阴囊|勃起", (), ("C60", "C61", "C62", "C63", "N40", "N41", "N42", "N43", "N44", "N45", "N46", "N48", "N49", "N50"),
)
FEMALE_ONLY = Concept(
    "female", r"hysterectomy|uter(?:us|ine)|ovar(?:y|ian|ies)|cervical (?:cancer|carcinoma)|endometri\w+|post-?menopausal|menopause|"
    r"pre-?eclampsia|miscarriage|tubal pregnancy|normal pregnancy|(?:vaginal|cesarean|caesarean) delivery", "子宫|卵巢|绝经|妊娠|流产|剖宫产|孕\\d?产\\d?",
    (), ("C51", "C52", "C53", "C54", "C55", "C56", "C57", "C58", "N80", "N81", "N83", "N84", "N85", "N95", "O"),
)
# fmt: on
BY_KEY: Mapping[str, Concept] = {concept.key: concept for concept in (*DIAGNOSES, *DRUGS)}


def is_coded(concept: Concept, code: Coding) -> bool:
    """Whether a code or its display is a concept or below it.

    Example:
        >>> hypertension = BY_KEY["hypertension"]
        >>> is_coded(hypertension, Coding("http://snomed.info/sct", "38341003", ""))
        True
    """
    system = code.system.lower()
    if "icd-10" in system:
        return code.code.upper().startswith(concept.icd10) if concept.icd10 else False
    if "atc" in system:
        return code.code.startswith(concept.codes) if concept.codes else False
    return code.code in concept.codes or concept.coded.search(code.display) is not None
