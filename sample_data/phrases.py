"""What notes are made of: findings in several wordings, English and Chinese, and padding.

No phrase names a diagnosis the model is asked for. A finding that is present is worded by one of
its phrases, one that was asked for and is absent by its negation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """A symptom, a sign or a piece of history.

    Attributes:
        causes: Probability at severity 1 by cause or variant; MCI and dementia scale it.
        base: Probability in anybody.
        en: Wordings in English.
        zh: Wordings in Chinese.
        absent: Its negation in English and Chinese.
    """

    causes: Mapping[str, float]
    base: float
    en: tuple[str, ...]
    zh: tuple[str, ...]
    absent: tuple[str, str]
    noted: float = field(default=0.3)  # probability that its absence is written down


FINDINGS: Mapping[str, Finding] = {
    "memory": Finding(
        {"AD": 1.3, "VD": 0.5, "LBD": 0.4, "NPH": 0.4, "SEF": 0.6, "PSY": 0.6, "PRD": 0.7,
         "TBI": 0.6, "ODE": 0.4, "FTD": 0.2}, 0.22,
        ("repeats the same question within minutes",
         "forgets recent conversations and appointments",
         "misplaces the keys and cannot retrace where they were left",
         "cannot recall what was served for lunch"),
        ("反复问同一个问题", "记不住刚说过的话和约好的事", "经常找不到钥匙等物品",
         "想不起中午吃了什么"),
        ("remembers recent events in detail", "近期记忆保持良好")),
    "cueing": Finding(
        {"AD": 0.9, "VD": 0.1, "PSY": 0.05}, 0.04,
        ("delayed recall of a word list is poor and cues do not help",
         "loses new information within a few minutes even with prompting"),
        ("词语延迟回忆差，提示后无改善", "新学的内容几分钟后即遗忘，提示无效"),
        ("recalls the word list with a category cue", "经线索提示可回忆词语")),
    "lost": Finding(
        {"AD": 0.7, "LBD": 0.5, "PRD": 0.4, "VD": 0.2}, 0.03,
        ("got lost on the way home from the market",
         "takes wrong turns in a familiar neighbourhood",
         "copies the cube poorly"),
        ("从菜场回家时迷路", "在熟悉的小区里走错路", "临摹立方体困难"),
        ("finds the way without help", "外出不会迷路")),
    "hallucinations": Finding(
        {"LBD": 1.0, "PRD": 0.3, "AD": 0.08, "PSY": 0.1}, 0.02,
        ("sees children and small animals in the living room",
         "describes people standing by the bed at dusk who are not there",
         "well-formed visual hallucinations most evenings"),
        ("看见客厅里有小孩和小动物", "傍晚看到床边站着不存在的人", "几乎每晚有成形的幻视"),
        ("no hallucinations", "否认幻觉")),
    "fluctuation": Finding(
        {"LBD": 0.95, "SEF:drugs": 0.6, "VD": 0.1, "PRD": 0.2}, 0.03,
        ("alertness varies from hour to hour",
         "clear in the morning and confused by noon, then clear again",
         "long spells of staring and drowsiness by day"),
        ("一天之内清醒程度时好时坏", "上午清楚，中午糊涂，之后又恢复", "白天常发呆、嗜睡"),
        ("attention is steady through the day", "全天注意力平稳")),
    "parkinsonism": Finding(
        {"LBD": 0.85, "VD": 0.15, "NPH": 0.2, "FTD": 0.1}, 0.03,
        ("mild cogwheel rigidity at both wrists", "slow movements and a soft voice",
         "short steps with reduced arm swing"),
        ("双腕轻度齿轮样强直", "动作缓慢，说话声音低", "步幅小，摆臂减少"),
        ("tone is normal and there is no tremor", "肌张力正常，无震颤")),
    "dream": Finding(
        {"LBD": 0.8}, 0.05,
        ("shouts and kicks while dreaming, the bed partner reports",
         "has fallen out of bed acting out dreams for years"),
        ("家属诉睡梦中喊叫、踢打", "多年来做梦时从床上跌落"),
        ("sleep is quiet", "睡眠安静")),
    "disinhibition": Finding(
        {"FTD:behaviour": 1.1, "TBI": 0.35, "ODE:huntington": 0.3, "AD": 0.06}, 0.02,
        ("makes tactless remarks to strangers", "has begun to shoplift sweets and laughs about it",
         "lost all sense of embarrassment, the family says"),
        ("对陌生人说话不得体", "在商店拿糖果不付钱，还觉得好笑", "家人说其不再有羞耻感"),
        ("manners are unchanged", "待人接物如常")),
    "apathy": Finding(
        {"FTD:behaviour": 0.8, "PSY": 0.5, "VD": 0.4, "NPH": 0.5, "LBD": 0.3, "AD": 0.3}, 0.05,
        ("sits in front of the television all day", "no longer takes the initiative in anything",
         "indifferent to the grandchildren"),
        ("整天坐在电视机前", "做什么都不主动", "对孙辈漠不关心"),
        ("keeps up hobbies", "兴趣爱好保持")),
    "sweets": Finding(
        {"FTD:behaviour": 0.8, "AD": 0.05}, 0.02,
        ("craves sweets and eats until the plate is empty",
         "insists on the same lunch every day at the same minute"),
        ("特别爱吃甜食，不停地吃", "每天必须在同一时间吃同样的午饭"),
        ("eating habits are unchanged", "饮食习惯无改变")),
    "language": Finding(
        {"FTD:language": 1.15, "AD": 0.15, "PRD": 0.1, "VD": 0.12}, 0.03,
        ("asks what a colander is when the word comes up",
         "speech is halting and grammar breaks down",
         "names few pictures and calls most things 'that one'"),
        ("听到常用词会问“这是什么意思”", "说话断断续续，语法混乱",
         "叫不出图片名称，多以“那个”代替"),
        ("speech is fluent and naming is intact", "言语流利，命名正常")),
    "stepwise": Finding(
        {"VD": 0.85}, 0.02,
        ("got worse in steps, each followed by a plateau",
         "declined abruptly after an episode of left-sided weakness",
         "was stable for months, then worse from one day to the next"),
        ("病情呈阶梯样加重，其间平稳", "一次左侧肢体无力后突然变差", "稳定数月后一夜之间加重"),
        ("the decline has been gradual", "病情缓慢进展")),
    "focal": Finding(
        {"VD": 0.6, "ODE:mass": 0.5, "TBI": 0.2}, 0.03,
        ("pronator drift on the left", "brisk reflexes on the right with an upgoing toe",
         "slurred speech since an episode two years ago"),
        ("左侧轻瘫试验阳性", "右侧腱反射亢进，病理征阳性", "两年前发作后言语含糊"),
        ("no focal neurological deficit", "无神经系统局灶体征")),
    "gait": Finding(
        {"NPH": 1.15, "VD": 0.3, "LBD": 0.25, "ODE:huntington": 0.3}, 0.04,
        ("walks with feet as if glued to the floor",
         "broad-based, shuffling gait and turns in many steps",
         "gait was the first thing to change"),
        ("走路像脚粘在地上", "步基宽、拖步，转身需多步", "最先出现的是走路不稳"),
        ("gait is brisk and steady", "步态轻快稳健")),
    "bladder": Finding(
        {"NPH": 0.95, "VD": 0.2, "AD": 0.08, "LBD": 0.15}, 0.06,
        ("urinary urgency with accidents most weeks", "has started to wear pads for urine leakage"),
        ("尿急，几乎每周有尿失禁", "因漏尿开始使用护垫"),
        ("continent", "无尿失禁")),
    "mood": Finding(
        {"PSY": 1.1, "LBD": 0.25, "VD": 0.2, "TBI": 0.25, "SEF:thyroid": 0.3}, 0.08,
        ("low mood and loss of pleasure for months", "tearful, sleeps badly and blames themself",
         "answers 'I don't know' without trying"),
        ("数月来情绪低落，兴趣减退", "常流泪、失眠、自责", "未作尝试便回答“不知道”"),
        ("mood is even", "情绪平稳")),
    "episodes": Finding(
        {"PSY": 0.7}, 0.04,
        ("was admitted for mood in midlife and recovered fully",
         "complains far more about memory than the family does"),
        ("中年时曾因情绪问题住院并痊愈", "本人诉记忆差，家属却不觉得"),
        ("no psychiatric history", "既往无精神科病史")),
    "injury": Finding(
        {"TBI": 1.2}, 0.04,
        ("struck the head in a road accident and was unconscious for an hour",
         "years of amateur boxing with several knockouts",
         "never the same since falling from the scaffold"),
        ("车祸中头部受伤，昏迷约一小时", "业余拳击多年，数次被击昏", "自从脚手架上摔下后判若两人"),
        ("no blow to the head", "无头部外伤史")),
    "alcohol": Finding(
        {"SEF:alcohol": 1.2, "PSY": 0.08, "TBI": 0.1}, 0.04,
        ("drinks a bottle of spirits every two days",
         "evening drinking began after retirement and has not stopped"),
        ("每两天喝一瓶白酒", "退休后每晚饮酒至今"),
        ("drinks no alcohol", "不饮酒")),
    "tingling": Finding(
        {"SEF:b12": 0.9, "SEF:alcohol": 0.4}, 0.07,
        ("tingling in both feet and loss of vibration sense",
         "has eaten no meat or eggs for years"),
        ("双足麻木，振动觉减退", "多年不吃肉蛋"),
        ("vibration sense is preserved", "振动觉正常")),
    "cold": Finding(
        {"SEF:thyroid": 0.9}, 0.05,
        ("always cold, slow and hoarse, and has gained weight",
         "dry skin, constipation and puffy eyes"),
        ("怕冷、反应慢、声音嘶哑、体重增加", "皮肤干燥、便秘、眼睑浮肿"),
        ("no cold intolerance", "无怕冷")),
    "pills": Finding(
        {"SEF:drugs": 1.1}, 0.05,
        ("takes a sleeping tablet and two bladder tablets from three doctors",
         "worse since the dose of the sedative was raised"),
        ("同时服用安眠药及多种药物，由三位医生开具", "镇静药加量后变差"),
        ("takes no sedatives", "未服用镇静药")),
    "rapid": Finding(
        {"PRD": 1.2, "ODE:mass": 0.3}, 0.01,
        ("independent eight weeks ago and now needs help with everything",
         "went downhill from week to week"),
        ("八周前尚能自理，现一切需人照料", "病情逐周恶化"),
        ("change has been slow", "变化缓慢")),
    "myoclonus": Finding(
        {"PRD": 0.95, "AD": 0.04, "LBD": 0.06}, 0.01,
        ("jerks of the arms when startled", "unsteady with brief shock-like twitches"),
        ("受惊时双臂抽动", "走路不稳，伴短促触电样抽动"),
        ("no involuntary movements", "无不自主运动")),
    "chorea": Finding(
        {"ODE:huntington": 1.2}, 0.01,
        ("restless, dance-like movements of the fingers and face", "cannot keep the tongue out"),
        ("手指和面部有舞蹈样动作", "伸舌不能持久"),
        ("no involuntary movements", "无不自主运动")),
    "seizures": Finding(
        {"ODE:seizures": 1.2, "ODE:mass": 0.3, "TBI": 0.15, "AD": 0.03}, 0.01,
        ("spells of lip smacking and blank stare, with no memory of them",
         "a convulsion on waking last spring"),
        ("发作性咂嘴、凝视，事后不能回忆", "去年春天清晨醒来时抽搐一次"),
        ("no seizures", "无抽搐发作")),
    "headache": Finding(
        {"ODE:mass": 0.9, "TBI": 0.25}, 0.08,
        ("new morning headaches with nausea", "headache that wakes from sleep"),
        ("新发晨起头痛伴恶心", "夜间被头痛惊醒"),
        ("no headache", "无头痛")),
}  # fmt: skip

# Daily life tells the syndrome: what people still do, by how much they have lost.
DAILY: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "NC": (
        ("manages money, medication and travel alone", "independent in everything",
         "still does the accounts of the choir",
         "worries about memory but nothing has been missed"),
        ("财务、服药、出行均能独立完成", "日常生活完全自理", "仍负责合唱团的账目",
         "担心记忆，但未误过事")),
    "MCI": (
        ("independent, but bills take longer than they used to", "uses lists and reminders to cope",
         "has given up chess because it became too much", "cooks well if not interrupted"),
        ("生活自理，但付账比以前慢", "靠便签和提醒应付日常", "下棋觉得吃力，已不再下",
         "不受打扰时能做好饭")),
    "DE": (
        ("the daughter has taken over the finances", "needs prompting to wash and dress",
         "left the stove on twice and no longer cooks", "cannot be left alone for a weekend",
         "medication is put out by a nurse"),
        ("财务已由女儿接管", "洗漱穿衣需人提醒", "两次忘关煤气，已不再做饭", "周末不能独自在家",
         "服药由护士安排")),
}  # fmt: skip

PADDING_EN = (
    "Lives in a second-floor flat with a lift.", "Vaccinations are up to date.",
    "Wears glasses for reading; hearing is adequate.", "The heart is regular, lungs are clear.",
    "Mild pain in the knees on stairs.", "Weight has been stable.",
    "A cataract was removed on the right.", "Enjoys gardening in the summer.",
    "Will return with the results in four weeks.", "Blood was taken today.",
    "Worked as a teacher until retirement.", "No known drug allergies.", "Appetite is fair.",
    "Driving was discussed.", "The family asked about home help.", "Sleeps about seven hours.",
)  # fmt: skip
PADDING_ZH = (
    "与配偶同住，有电梯。", "预防接种按时完成。", "阅读需戴眼镜，听力尚可。",
    "心律齐，双肺呼吸音清。",
    "上下楼时膝关节轻度疼痛。", "体重稳定。", "右眼曾行白内障手术。", "夏天喜欢种花。",
    "四周后带结果复诊。",
    "今日已抽血。", "退休前任教师。", "否认药物过敏史。", "食欲尚可。", "家属询问居家护理。",
    "睡眠约七小时。",
)  # fmt: skip
