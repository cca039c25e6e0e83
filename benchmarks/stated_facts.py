"""How the notes of `benchmarks.consistency` state facts: wordings in English and Chinese.

Several wordings of each fact, and distractors: what relatives have, what once was, what is only
considered. None of them is a contradiction.
"""

from clinical.concepts import DIAGNOSES, DRUGS

PEOPLE = {
    ("en", "female"): "woman", ("en", "male"): "man", ("zh", "female"): "女", ("zh", "male"): "男",
}  # fmt: skip
OPENING = {
    "en": ("This {age}-year-old {person} was seen in clinic.",
           "A {age}-year-old {person} referred for memory complaints.",
           "I saw this {age}-year-old {person} today."),
    "zh": ("患者{person}，{age}岁，因记忆力下降就诊。", "{person}性患者，{age}岁，今日复诊。",
           "患者，{person}，{age}岁。"),
}  # fmt: skip
HANDS = {"en": ("{hand}-handed.", "The patient is {hand}-handed."), "zh": ("{hand}利手。",)}
SCORES = {
    "en": ("{test} was {n}/30 today.", "{test} {n}/30.", "On the {test} the score was {n}.",
           "{test} score: {n} points."),
    "zh": ("{test}评分{n}分。", "今日{test} {n}分。", "{test}：{n}/30。"),
}  # fmt: skip
EARLIER = {
    "en": ("On {day:%-d %B %Y} the {test} was {n}/30.", "{test} {n}/30 on {day:%Y-%m-%d}."),
    "zh": ("{day.year}年{day.month}月{day.day}日{test} {n}分。",),
}
HAS = {
    "en": ("Known {what}.", "Past medical history includes {what}.", "There is {what}."),
    "zh": ("有{what}。", "患有{what}。"),
}
HAS_NOT = {
    "en": ("No {what}.", "Denies {what}.", "There is no history of {what}.", "No known {what}."),
    "zh": ("否认{what}。", "无{what}。", "无{what}病史。"),
}
TAKES = {"en": ("Takes {what}.", "Continues {what}."), "zh": ("服用{what}。", "继续服用{what}。")}
TAKES_NOT = {
    "en": ("Takes no {what}.", "Is not on {what}.", "{what} was stopped.", "Not taking {what}."),
    "zh": ("未服用{what}。", "{what}已停用。"),
}
STROKES = {
    "en": ("Old infarct in the {side} hemisphere.", "{side} hemispheric stroke in the past.",
           "MRI shows a {side} middle cerebral artery infarct."),
    "zh": ("{side}侧大脑半球脑梗死。",),
}  # fmt: skip
MARKED = {
    ("en", "hippocampus"): ("MRI shows marked hippocampal atrophy.",
                            "The hippocampi are severely atrophic.",
                            "There is pronounced medial temporal atrophy."),
    ("zh", "hippocampus"): ("MRI示双侧海马明显萎缩。", "海马重度萎缩。"),
    ("en", "lateral ventricle"): ("The lateral ventricles are markedly enlarged.",
                                  "Severe ventricular enlargement."),
    ("zh", "lateral ventricle"): ("侧脑室明显扩大。",),
}  # fmt: skip
NORMAL = {
    ("en", "hippocampus"): ("No hippocampal atrophy.", "Hippocampal volumes are preserved.",
                            "The hippocampi are of normal size."),
    ("zh", "hippocampus"): ("海马未见明显萎缩。", "海马体积正常。"),
    ("en", "lateral ventricle"): ("The ventricles are of normal size.",
                                  "The ventricles are not enlarged."),
    ("zh", "lateral ventricle"): ("脑室大小正常。", "侧脑室未见扩大。"),
}  # fmt: skip
LEANS = {
    "en": ("The {side} hippocampus is smaller than the other.",
           "Hippocampal atrophy is more pronounced on the {side}."),
    "zh": ("海马萎缩以{side}侧为著。",),
}  # fmt: skip
SIDES = {
    ("en", "left"): "left",
    ("en", "right"): "right",
    ("zh", "left"): "左",
    ("zh", "right"): "右",
}
DISTRACTORS = {
    "en": ("The mother had Alzheimer's disease and died at 84 years of age.",
           "A brother has diabetes, hypertension and epilepsy.",
           "The husband of a neighbour was treated for prostate cancer.",
           "A sister, 79 years old, takes donepezil.",
           "The MMSE had been 29 some years ago.",
           "Consider donepezil if the decline goes on.",
           "No family history of epilepsy or stroke.",
           "Screening for diabetes is due in spring.",
           "Allergic to aspirin as a child, tolerated since.",
           "Next visit on 3 May 2031.",
           "There was a question of hypothyroidism, which the laboratory is to rule out.",
           "The left knee is worse than the right.",
           "Chest pain is denied."),
    "zh": ("母亲患阿尔茨海默病，84岁去世。", "其弟有糖尿病、高血压。", "数年前MMSE为29分。",
           "如继续下降，可考虑多奈哌齐。", "否认癫痫家族史。", "建议筛查糖尿病。", "否认胸痛。",
           "其姐79岁，服用多奈哌齐。", "左膝疼痛较右侧明显。"),
}  # fmt: skip
ENGLISH_NAME = {c.key: c.key for c in (*DIAGNOSES, *DRUGS)} | {
    "coronary disease": "coronary artery disease", "parkinson": "Parkinson's disease",
    "alzheimer": "Alzheimer's disease", "kidney disease": "chronic kidney disease",
    "reflux": "gastroesophageal reflux", "sleep apnea": "sleep apnoea",
}  # fmt: skip
