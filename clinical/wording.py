"""How notes word what `clinical.statements` reads, in English and Chinese."""

# ruff: noqa: E501 - a pattern that breaks over lines is harder to read
# fmt: off
import re

PERSON = r"(?:woman|man|lady|gentleman|female|male|patient|person|retired|right-handed|left-handed|teacher|farmer|engineer|nurse|clerk)"
AGES = (
    re.compile(rf"\b(?P<n>\d{{1,3}})[- ]years?[- ]old,? (?:\w+[- ]){{0,2}}{PERSON}\b", re.I),
    re.compile(rf"\b(?P<n>\d{{1,3}})[- ]?y(?:/o|\.o\.|o) {PERSON}\b", re.I),
    re.compile(r"\b(?:[Tt]he|[Tt]his) patient (?:is|was) (?P<n>\d{1,3})(?: years old)?(?=[ ,.;])"),
    re.compile(r"\bAge: ?(?P<n>\d{1,3})\b"),
    re.compile(r"(?:患者|病人)[^。；\n]{0,6}?[，,、]?(?P<n>\d{1,3})岁"),
    re.compile(r"[男女]性?[，,、 ](?P<n>\d{1,3})岁"),
    re.compile(r"年龄[：:]?(?P<n>\d{1,3})岁?"),
)
RELATIVE = re.compile(
    r"\b(?:mother|father|sister|brother|wife|husband|daughter|son|aunt|uncle|partner|caregiver|carer|spouse|"
    r"neighbou?r|grand\w+)\b|母|父|妻|夫|儿子|女儿|兄|弟|姐|妹|配偶|家属|护工|孙",
    re.I,
)
SEXES: dict[str, tuple[re.Pattern[str], ...]] = {
    "female": (
        re.compile(r"\b(?:\d{1,3}[- ]year[- ]old,? (?:[\w-]+ )?|[Tt]his (?:[\w-]+ )?|\b[Aa]n? (?:elderly |pleasant |retired )?)(?P<w>woman|lady|female)\b"),
        re.compile(r"\b(?P<w>Mrs|Ms)\.? (?=[A-Z])"),
        re.compile(r"(?P<w>女性患者|患者女性|患者为女性|老年女性)|(?:患者|病人)[，,、]?(?P<x>女)(?=[，,、性])|性别[：:]?(?P<y>女)"),
    ),
    "male": (
        re.compile(r"\b(?:\d{1,3}[- ]year[- ]old,? (?:[\w-]+ )?|[Tt]his (?:[\w-]+ )?|\b[Aa]n? (?:elderly |pleasant |retired )?)(?P<w>man|gentleman|male)\b"),
        re.compile(r"\b(?P<w>Mr)\.? (?=[A-Z])"),
        re.compile(r"(?P<w>男性患者|患者男性|患者为男性|老年男性)|(?:患者|病人)[，,、]?(?P<x>男)(?=[，,、性])|性别[：:]?(?P<y>男)"),
    ),
}
SUBJECT = {
    "female": re.compile(r"(?:^|(?<=[.!?] )|(?<=\n))She\b"),
    "male": re.compile(r"(?:^|(?<=[.!?] )|(?<=\n))He\b"),
}
PRONOUN = {"female": re.compile(r"\b(?:she|her|hers|herself)\b|她", re.I),
            "male": re.compile(r"\b(?:he|him|his|himself)\b", re.I)}
ENOUGH_PRONOUNS = 2  # at the head of sentences, with none of the other sex in the note
BORN = re.compile(
    r"\b(?:DOB|date of birth|born(?: on)?)[: ]{1,2}(?P<date>[\w ,./-]{8,20})|出生(?:日期|于)?[：:]?(?P<zh>[\d年月日.-]{8,12})",
    re.I,
)
HAND = {"right": re.compile(r"\bright[- ]handed\b|右利手", re.I),
         "left": re.compile(r"\bleft[- ]handed\b|左利手", re.I)}
STOPPED = re.compile(r"\b(?:stopped|discontinued|ceased|off)\b|停用|停服|已停", re.I)
ASKED = re.compile(
    r"\b(?:consider|start(?:ed)?|if|discuss\w*|recommend\w*|allerg\w+|option|trial|risk|rule out|screen\w*|intoleran\w+)\b|考虑|建议|过敏|拟|如|排除|筛查",
    re.I,
)
SIDED_STROKE = re.compile(
    r"\b(?P<a>left|right)[- ](?:sided |hemispheric |middle cerebral artery |MCA |cerebral |frontal |parietal |temporal |occipital )*(?:stroke|infarct(?:ion)?)\b"
    r"|\b(?:stroke|infarct(?:ion)?) (?:in|of|on) the (?P<b>left|right)\b|(?P<c>左|右)侧?(?:大脑半球|大脑中动脉区?|额叶|颞叶|顶叶)?(?:脑梗死|脑梗塞|梗死|卒中)",
    re.I,
)
TESTS = {"72106-8": "MMSE|Mini-Mental(?: State Examination)?|简易精神状态检查|简易智能状态检查",
          "72172-0": "MoCA|Montreal Cognitive Assessment|蒙特利尔认知评估",
          "48545-8": "GDS-15"}  # GDS alone may be the Global Deterioration Scale
SCORES = {
    loinc: re.compile(
        rf"(?<![A-Za-z])(?:{words})(?:（[^）]*）|量表)?(?: ?(?:total )?score|评分|得分|总分)?(?: (?:today|was|is|of|at|came to|dropped to|fell to)|今日|为|[:：=])*\s*"
        rf"(?P<n>\d{{1,3}}(?:\.5)?)(?:\s*/\s*(?P<of>\d+))?(?!\d|[./]\d)(?:\s*(?:points?|分|out of \d+))?",
        re.I,
    )
    for loinc, words in TESTS.items()
}
NUMBER_FIRST = re.compile(
    r"\b(?:scored|scores) (?P<n>\d{1,3})(?:\s*/\s*\d+)?(?: points)? (?:on|in) the (?P<test>MMSE|MoCA)\b"
    r"|\bon the (?P<named>MMSE|MoCA) (?:the|her|his) (?:total )?score was (?P<second>\d{1,3})\b",
    re.I,
)
BY_TEST = {"mmse": "72106-8", "moca": "72172-0"}
ANOTHER_DAY = re.compile(
    r"\b(?:previous(?:ly)?|last|prior|earlier|ago|before|was \d+ in|in \d{4}|in (?:January|February|March|April|May|June|July|August|September|October|November|December)|baseline|from \d)\b"
    r"|去年|前次|上次|既往|此前|以前|年前|月前|曾",
    re.I,
)
VALUE_NAMES = {
    "2345-7": "(?:fasting )?(?:blood )?glucose|血糖", "2160-0": "creatinine|肌酐", "718-7": "ha?emoglobin|Hb|血红蛋白",
    "3016-3": "TSH|促甲状腺激素", "2132-9": "vitamin B ?12|B12|维生素B12", "4548-4": "HbA1c|糖化血红蛋白",
    "2951-2": "sodium|血钠", "2823-3": "potassium|血钾", "2093-3": "total cholesterol|总胆固醇",
}
VALUES = {
    loinc: re.compile(rf"(?<![A-Za-z])(?:{words})(?: (?:was|is|of|at|level)|为|[:：=])*\s*(?P<n>\d+(?:\.\d+)?)\s*(?P<unit>[a-zA-Zµμ%/0-9*\[\]]{{1,12}})", re.I)
    for loinc, words in VALUE_NAMES.items()
}
STRUCTURES = {
    "hippocampus": r"hippocamp(?:us|i|al)|mesial temporal|medial temporal|海马|内侧颞叶",
    "frontal cortex": r"frontal(?: lobes?| cortex| cortical)?|额叶",
    "parietal cortex": r"parietal(?: lobes?| cortex| cortical)?|顶叶",
    "lateral ventricle": r"(?:lateral )?ventric(?:les?|ular)|ventriculomegaly|侧脑室|脑室",
}
STRUCTURE = {key: re.compile(words, re.I) for key, words in STRUCTURES.items()}
MARKED = re.compile(
    r"(?<!more )\b(?:marked(?:ly)?|severe(?:ly)?|pronounced|advanced|striking)\b|明显|显著|重度|严重", re.I
)
SHRUNK = re.compile(r"\b(?:atroph\w+|volume loss|shrunken|shrinkage)\b|萎缩", re.I)
WIDE = re.compile(
    r"\b(?:enlarged?|enlargement|dilat\w+|widened|ventriculomegaly)\b|扩大|扩张|增宽", re.I
)
NORMAL = re.compile(
    r"\b(?:normal (?:size|volume)s?|normal in size|of normal size|volumes? (?:is|are|was|were) (?:normal|preserved)|(?:well )?preserved)\b|大小正常|体积正常|未见异常",
    re.I,
)
NO_LOSS = re.compile(
    r"\b(?:no|without)(?: (?:significant|definite|evidence of|relevant|appreciable))* (?:\w+ ){0,3}?(?:atrophy|volume loss|enlargement|dilatation)\b"
    r"|\b(?:is|are|was|were) not (?:atrophic|shrunken|enlarged|dilated|widened)\b|(?:无|未见|没有)(?:明显|显著|明确)?(?:萎缩|扩大|扩张|海马萎缩|脑室扩大)",
    re.I,
)
LEAN = re.compile(
    r"\b(?:smaller|worse|greater|more (?:marked|pronounced|severe|atrophic)?|predominantly|mainly) ?(?:on|in)? ?(?:the )?(?P<a>left|right)\b"
    r"|\b(?P<b>left|right)[- ](?:greater than|more than|worse than|> ?)|\b(?:the )?(?P<c>left|right) (?:hippocampus )?(?:is |was )?(?:clearly |distinctly )?smaller"
    r"|(?P<d>左|右)侧?(?:为著|为重|较[左右对]侧?小|明显小于|更明显|更重|较小)",
    re.I,
)
ONE_SIDE = re.compile(r"\b(left|right)\b|(左|右)侧", re.I)
MONTHS = {m: n for n, m in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)}
MONTH = r"(?P<month>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
EARLIER_SCAN = re.compile(r"\b(?:previous|prior|earlier)\b|既往|此前", re.I)
CLAUSE = re.compile(r"; |；|, (?:but|while|whereas|and the) |，(?=[^，。]{0,8}(?:无|未见|正常))")
DATES = (
    re.compile(r"(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})"),
    re.compile(r"(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})日?"),
    re.compile(rf"\b(?P<d>\d{{1,2}}) {MONTH} (?P<y>\d{{4}})\b"),
    re.compile(rf"\b{MONTH} (?P<d>\d{{1,2}}), ?(?P<y>\d{{4}})\b"),
)
