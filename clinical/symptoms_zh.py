"""What Chinese memory-clinic notes say of symptoms and signs, and how English says it.

Made from what such notes are asked to cover (history, behaviour, daily activities, examination,
imaging), for `clinical.rules_only`. A row finds the mention; `clinical.context` says whether it is
denied, doubted, of the past or a relative's.
"""

# ruff: noqa: E501 - a row that breaks over lines cannot be compared with its neighbours
import re
from dataclasses import dataclass

_GAP = r"[^，。；、：,;\s]{0,6}?"  # a few characters of the same clause
_FINE = r"[^，。；、：,;\s不欠未无没难差异]{0,4}?"  # the same, of what is as it should be
_BAD = (
    "(?:下降|减退|衰退|变差|较差|很差|差|不好|不佳|欠佳|障碍|受损|缺损|损害|异常|困难|丧失|退步|不如从前|不如以前|减弱|"
    "明显不如|受影响)"
)
_GOOD = "(?:正常|良好|尚可|完好|完整|保留|未受损|未受累|可|佳|灵活|对称)"


# "记忆力未见明显下降": the denial stands inside the mention.
DENIED_INSIDE = re.compile(
    "(?:无|未见|未有?|没有?|未出现|不存在)(?:明显|显著|明确|任何|进一步)?"
    f"(?:的)?(?:{_BAD}|减少|改变|变化|波动|加重|进展|恶化|扩大|扩张|萎缩|增高|亢进|高信号|低落|迟缓)"
)


@dataclass(frozen=True)
class Symptom:
    """One symptom or sign.

    Attributes:
        present: English for a patient who has it.
        absent: English for one who has not.
        chinese: Finds its mention.
    """

    present: str
    absent: str
    chinese: re.Pattern[str]


def _symptom(present: str, absent: str, *chinese: str) -> Symptom:
    return Symptom(present, absent, re.compile("|".join(chinese), re.IGNORECASE))


# fmt: off
SYMPTOMS: tuple[Symptom, ...] = (
    # -- memory and other cognition
    _symptom("Memory decline", "No memory complaints", f"记忆(?:力|功能)?{_GAP}{_BAD}", f"记性{_GAP}{_BAD}", "健忘", "好忘事|爱忘事|老忘事|忘性大", "遗忘(?!症状)"),
    _symptom("Forgets recent events", "Remembers recent events", "(?:近事|近期|刚[刚才]?|昨天|当天|前一天|转眼|随后)[^，。；]{0,8}(?:忘|记不|想不起)", f"近(?:事|期|记忆){_GAP}{_BAD}", f"(?:短期|情景)记忆{_GAP}{_BAD}", "丢三落四|转头就忘|记不住(?!路)"),
    _symptom("Forgets appointments, medicines or tasks", "Keeps appointments and takes medicines reliably", "(?:忘记?|忘了|漏)(?:关|吃|服|锁|带|约|赴|预约|交|拿)[^，。；]{0,5}"),
    _symptom("Repeats the same questions", "Does not repeat questions", "(?:反复|重复|多次|不停地?)[^，。；]{0,4}(?:问|询问|提问|说同)[^，。；]{0,8}"),
    _symptom("Misplaces things", "Does not misplace things", "(?:找不到|放错|乱放|遗失|丢失|忘记)[^，。；路家]{0,3}(?:东西|物品|钥匙|眼镜|钱包|手机)", "东西[^，。；]{0,4}(?:乱放|找不到|放错)"),
    _symptom("Gets lost in familiar places", "Does not get lost", "迷路|走失|走丢|迷失方向|(?:找不到|不认识?|认不得|认不出)[^，。；人]{0,4}(?:路|家门|房间|回家)"),
    _symptom("Disoriented in time and place", "Oriented in time and place", f"定向(?:力|障碍)?{_GAP}{_BAD}", "(?:不知|不清楚|说不出|弄错|搞不清)[^，。；]{0,4}(?:日期|时间|年月|星期|地点|何处)"),
    _symptom("Oriented in time and place", "Disoriented in time and place", f"定向力?{_FINE}{_GOOD}"),
    _symptom("Memory is normal", "Memory is impaired", f"记忆(?:力|功能)?{_FINE}{_GOOD}", "记性(?:好|不错)"),
    _symptom("Cognitive impairment", "No cognitive impairment", f"认知(?:功能|能力)?{_GAP}{_BAD}"),
    _symptom("Dementia", "No dementia", "痴呆|失智|老年呆"),
    _symptom("Cognition is normal", "Cognition is impaired", f"认知(?:功能|能力)?{_FINE}{_GOOD}", f"思维{_FINE}(?:清晰|敏捷)|头脑清楚|(?:神志|意识){_FINE}清楚?"),
    _symptom("Impaired attention and concentration", "Attention is normal", f"注意力?{_GAP}(?:{_BAD}|不集中|难以集中|涣散)", "走神"),
    _symptom("Impaired planning and executive function", "Executive function is normal", f"(?:执行|计划|组织|判断|抽象|解决问题)(?:功能|能力|力)?{_GAP}{_BAD}", "(?:无法|不能|不会|难以)[^，。；]{0,3}(?:计划|组织|安排)"),
    _symptom("Slow thinking", "Thinking is not slowed", "(?:思维|反应|思考)[^，。；]{0,3}(?:迟缓|缓慢|变慢|迟钝|慢)"),
    _symptom("Cannot calculate", "Calculation is normal", f"计算(?:力|能力)?{_GAP}{_BAD}", "算(?:错|不清)账?"),
    _symptom("Visuospatial impairment", "Visuospatial function is normal", f"视(?:觉)?空间{_GAP}(?:{_BAD}|能力)", "画钟[^，。；]{0,5}(?:差|错|不能|困难|异常)", "构图(?:障碍|困难)"),
    _symptom("Word-finding difficulty", "No word-finding difficulty", "(?:找词|命名|用词)[^，。；]{0,3}(?:困难|障碍)", "词不达意|提笔忘字", "(?:叫|说|想)不(?:出|起)[^，。；]{0,6}(?:名|词|字)"),
    _symptom("Speech is reduced and effortful", "Speech is fluent", f"(?:言语|语言|说话|讲话|表达)(?:能力|功能)?{_GAP}(?:{_BAD}|减少|费力|不流利|不流畅|不清|含糊|缓慢|变少|吃力|不利)", "失语|构音|口齿不清|(?:话|言语)(?:语)?(?:变)?少|语法(?:错误|混乱)|缄默|少语"),
    _symptom("Speech is fluent", "Speech is not fluent", f"(?:言语|语言|说话|讲话|表达|对答|应答){_FINE}(?:流利|流畅|清晰|清楚|正常|切题)"),
    _symptom("Loss of word meaning", "Understands the meaning of words", "(?:不懂|不理解|不明白|忘记|丧失)[^，。；]{0,4}(?:词义|词语|单词|含义|意思)", f"(?:理解|听理解)(?:力|能力)?{_GAP}{_BAD}", "语义(?:性)?(?:障碍|痴呆)"),
    _symptom("Does not recognise familiar people", "Recognises familiar people", "(?:不认识|认不出|不认得|认错)[^，。；路]{0,4}(?:人|亲|子女|家|脸|儿|女|朋友|邻居)", "面孔失认|失认"),
    _symptom("Apraxia", "No apraxia", "失用|(?:不会|不能)(?:使用|操作)[^，。；]{0,5}(?:工具|家电|遥控|手机|筷子)"),
    # -- course
    _symptom("Gradual progressive worsening", "No progression", "(?:逐渐|渐进|缓慢|进行性|慢慢|隐匿|日益|缓)[^，。；]{0,5}(?:加重|进展|下降|起病|恶化|减退|发展|变差)"),
    _symptom("Symptoms are getting worse", "No worsening", "(?:症状|病情)[^，。；]{0,3}(?:加重|进展|恶化)"),
    _symptom("Stepwise decline with sudden worsening", "No stepwise decline", "(?:阶梯|台阶)(?:样|式|性|状)?[^，。；]{0,6}", "(?:突然|骤然|急性)[^，。；]{0,5}(?:加重|下降|变差|起病|恶化|出现)", "(?:中风|卒中|脑梗)[^，。；]{0,3}后[^，。；]{0,6}(?:下降|加重|出现|变差)"),
    _symptom("Rapid decline over weeks to months", "No rapid decline", "(?:快速|迅速|急速|急剧)[^，。；]{0,5}(?:进展|加重|恶化|下降|发展)", "[数几两三\\d][个]?(?:周|月|星期)(?:内|之内)[^，。；]{0,8}(?:加重|恶化|下降|进展|丧失|卧床|不能)"),
    _symptom("Fluctuating cognition and alertness", "No fluctuations", "(?:认知|意识|神志|症状|精神|清醒|注意力?|状态)[^，。；]{0,6}(?:波动|起伏)", "波动(?:性|明显|较大)", "时好时坏|时清时昧|时而清(?:楚|醒)|一阵[^，。；]{0,4}糊涂|清楚一阵|时清醒时"),
    _symptom("Stable since the last visit", "Not stable since the last visit", "(?:病情|症状|情况)[^，。；]{0,4}(?:稳定|平稳|无变化|无明显变化)", "较前(?:无|稳定|平稳|相仿)"),
    _symptom("Improved since the last visit", "Not improved", "(?:较前|明显|有所|逐渐)(?:好转|改善|缓解|恢复)"),
    # -- psychosis, mood, behaviour
    _symptom("Visual hallucinations", "No visual hallucinations", "幻视|视幻觉", "(?:看见|看到|见到)[^，。；]{0,10}(?:不存在|并不在|没有的|陌生人|小人|小孩|孩子|动物|虫|逝|已故)"),
    _symptom("Auditory hallucinations", "No auditory hallucinations", "幻听|听幻觉"),
    _symptom("Hallucinations", "No hallucinations", "幻觉"),
    _symptom("Misidentification and illusions", "No illusions", "错觉|错认|(?:存在|走过|经过)感"),
    _symptom("Delusions", "No delusions", "妄想|(?:怀疑|认为|疑|说)[^，。；]{0,6}(?:偷|被害|害他|害她|下毒|外遇|出轨)"),
    _symptom("Depressed mood", "No depression", "抑郁|(?:情绪|心情|心境)[^，。；]{0,3}(?:低落|低沉|差|不好|压抑|消沉)", "悲观|想哭|哭泣|流泪|伤心|绝望|自责|无价值感|内疚"),
    _symptom("Loss of interest and pleasure", "Interests are kept", "(?:兴趣|乐趣|快感)[^，。；]{0,4}(?:减退|缺乏|下降|丧失|减少|缺失|不高)", "(?:不再|失去|没有|缺乏)[^，。；]{0,4}(?:兴趣|乐趣|爱好)"),
    _symptom("Suicidal thoughts", "No suicidal thoughts", "自杀|轻生|(?:消极|厌世)(?:观念|想法|念头)?|不想活"),
    _symptom("Anxiety", "No anxiety", "焦虑|紧张不安|担心过多|坐立不安|惊恐|恐惧|心慌"),
    _symptom("Mood is normal", "Mood is abnormal", f"(?:情绪|心情|心境){_FINE}(?:稳定|正常|良好|平稳|愉快|平和)"),
    _symptom("Irritable and agitated", "No agitation", "(?:情绪|心境)[^，。；]{0,3}(?:不稳|欠稳|波动|激动)|易怒|激越|激惹|烦躁|发脾气|脾气[^，。；]{0,3}(?:大|暴躁|急)|暴躁|攻击|打人|骂人|冲动"),
    _symptom("Apathy and loss of initiative", "No apathy", "淡漠|冷漠|懒散|被动|(?:主动性|动力|积极性|动机)[^，。；]{0,4}(?:下降|减退|差|缺乏|降低|减少)", "(?:不愿|不想|懒得)[^，。；]{0,3}(?:动|出门|活动|社交|说话|交往)", "退缩|无所事事|呆坐"),
    _symptom("Socially inappropriate, disinhibited behaviour", "Behaviour is appropriate", "脱抑制|失礼|不合时宜|不分场合|(?:言行|行为|举止)[^，。；]{0,4}(?:不当|不得体|失当|怪异|异常|改变|失控|轻浮|幼稚)", "(?:开|说)[^，。；]{0,4}(?:下流|粗俗|低俗|黄色)[^，。；]{0,3}", "随地(?:大小便|小便)|当众|顺手牵羊"),
    _symptom("Change of personality", "No change of personality", "(?:性格|人格|性情|脾气)[^，。；]{0,5}(?:改变|变化|大变|变得|异常|不同)"),
    _symptom("Loss of empathy", "Empathy is kept", "(?:缺乏|没有|失去|丧失|不再)[^，。；]{0,4}(?:同情|同理|共情|关心)", "对(?:家人|亲人|他人|别人)[^，。；]{0,4}(?:漠不关心|冷淡|不关心|无动于衷)"),
    _symptom("Repetitive or compulsive behaviour", "No compulsive behaviour", "(?:刻板|强迫|仪式|重复)(?:性)?(?:行为|动作|言语|样)?(?<!重复)", "囤积|收集(?:废|垃圾|杂)|来回走动|徘徊|游走"),
    _symptom("Overeating and craving for sweets", "Eating habits are unchanged", "(?:饮食|进食|口味|食)[^，。；]{0,4}(?:改变|变化|过多|过量|偏好|亢进)", "暴食|贪食|暴饮|(?:爱|喜|嗜|偏)[^，。；]{0,2}(?:甜|吃糖)"),
    _symptom("No insight into the illness", "Insight is kept", f"自知力?{_GAP}(?:{_BAD}|缺乏|缺失|不全|无)", "(?:否认|不承认|意识不到)[^，。；]{0,3}(?:自己)?(?:有病|问题|病情)"),
    _symptom("Social withdrawal", "Social activities are kept", "(?:社交|社会|交往)(?:活动)?[^，。；]{0,3}(?:减少|退缩|回避|下降|障碍)|不与人(?:交往|来往)"),
    # -- sleep and autonomic
    _symptom("Acts out dreams in sleep", "Does not act out dreams", "(?:睡眠|睡觉|睡|梦|夜|眠)[^，。；]{0,8}(?:喊|叫|拳打|踢|挥|打人|动作|说话|坠床|摔下)", "快速(?:眼动|动眼)[^，。；]{0,6}(?:障碍|行为)?|RBD|演(?:绎)?梦|梦话|梦呓"),
    _symptom("Insomnia", "Sleeps well", "失眠|早醒|入睡困难|睡眠[^，。；]{0,3}(?:差|不好|不佳|欠佳|障碍|紊乱|颠倒|少|浅|不安)|睡不(?:着|好)|昼夜颠倒"),
    _symptom("Sleeps well", "Sleeps badly", f"睡眠{_FINE}(?:好|佳|正常|尚可|可|良好)"),
    _symptom("Daytime sleepiness", "No daytime sleepiness", "嗜睡|(?:白天|日间)[^，。；]{0,4}(?:睡|困|瞌睡)|昏昏欲睡"),
    _symptom("Snoring and sleep apnoea", "No snoring", "打鼾|打呼噜|呼吸暂停"),
    _symptom("Orthostatic hypotension, dizzy on standing", "No orthostatic hypotension", "(?:直立|体位|立位)性?低血压|(?:起立|站起|起身|站立)[^，。；]{0,4}(?:头晕|头昏|眼前发黑|晕)"),
    _symptom("Syncope", "No syncope", "晕厥|昏倒|晕倒"),
    _symptom("Constipation", "No constipation", "便秘"),
    _symptom("Loss of smell", "Sense of smell is normal", "嗅觉[^，。；]{0,3}(?:减退|丧失|下降|障碍|差)|闻不到"),
    # -- movement
    _symptom("Parkinsonism", "No parkinsonism", "帕金森(?:样|综合征|症状|症|体征|表现)+|锥体外系(?:症状|体征|表现)?"),
    _symptom("Tremor", "No tremor", "震颤|手抖|发抖|抖动"),
    _symptom("Rigidity", "No rigidity", "强直|僵硬|僵直|齿轮样|铅管样|肌张力[^，。；]{0,4}(?:增高|升高|高|亢进)"),
    _symptom("Muscle tone is normal", "Muscle tone is abnormal", f"肌张力{_FINE}正常"),
    _symptom("Slowness of movement", "No slowness of movement", "(?:运动|动作|行动|活动|走路|步行|行走)[^，。；]{0,4}(?:迟缓|缓慢|变慢|减慢|减少|笨拙|慢)", "面具(?:脸|样)|面部表情(?:减少|缺乏|呆板)|表情呆板|写字[^，。；]{0,3}(?:变小|越来越小)|小写征"),
    _symptom("Shuffling gait with small steps", "No shuffling gait", "小(?:碎)?步|碎步|慌张步态|拖步|拖曳|拖着(?:脚|腿)|冻结(?:步态)?|(?:起步|转身|转弯)[^，。；]{0,3}(?:困难|慢)"),
    _symptom("Broad-based magnetic gait", "No magnetic gait", "磁性步态|(?:宽|阔)(?:基|底)[^，。；]{0,3}|(?:脚|足|双脚)[^，。；]{0,4}(?:粘|吸|贴|黏)[^，。；]{0,6}"),
    _symptom("Unsteady gait", "Gait is steady", f"步态{_GAP}(?:{_BAD}|不稳|蹒跚|改变)", "(?:行走|走路|步行|站立|站|行动|步伐)[^，。；]{0,4}(?:不稳|困难|障碍|摇晃|费力|不便)", "平衡[^，。；]{0,4}(?:差|障碍|不好|下降)"),
    _symptom("Gait is normal", "Gait is abnormal", f"(?:步态|行走|走路|步行|步伐){_FINE}(?:正常|平稳|稳健|稳定|自如|稳)"),
    _symptom("Falls", "No falls", "跌倒|摔倒|摔跤|摔过|跌跤|摔了|跌伤|摔伤"),
    _symptom("Urinary incontinence and urgency", "No urinary incontinence", "(?:尿|小便|大小便|二便|排尿|膀胱)[^，。；]{0,4}(?:失禁|急|频|憋不住|控制不住|障碍|控制差)|(?:憋|忍|控)不住尿|尿裤|遗尿|漏尿"),
    _symptom("Focal weakness", "No focal weakness", "偏瘫|偏身|(?:单侧|一侧|左侧|右侧|半身|偏侧|左|右|侧)(?:肢体|上肢|下肢|手|腿|身)?[^，。；]{0,3}(?:无力|乏力|麻木|瘫痪|力弱|活动不灵|不遂|轻瘫|肌力下降)", "肢体(?:无力|麻木|瘫痪)|口角歪斜|面瘫|嘴歪|中枢性面|肌力[^，。；]{0,4}(?:下降|减退|[0-4Ⅰ-Ⅳ]\\s*-?级)"),
    _symptom("Muscle strength is normal", "Muscle strength is reduced", f"肌力{_FINE}(?:正常|5\\s*级|Ⅴ\\s*级|V\\s*级)"),
    _symptom("Pyramidal signs", "No pyramidal signs", "病理(?:征|反射)|巴宾斯基|巴氏征|Babinski|锥体束征|腱反射[^，。；]{0,4}(?:亢进|活跃)|假性(?:球|延髓)"),
    _symptom("Hemianopia or visual disturbance", "Vision is normal", "偏盲|视野缺损|(?:视力|视物|视觉)[^，。；]{0,4}(?:模糊|下降|减退|变形|障碍|重影|丧失|不清)|复视|皮[层质]盲"),
    _symptom("Ataxia", "No ataxia", "共济失调|指鼻[^，。；]{0,4}(?:不准|欠准|差)|小脑(?:体征|症状)|动作不协调"),
    _symptom("Myoclonus", "No myoclonus", "肌阵挛|(?:肢体|肌肉|全身)[^，。；]{0,4}(?:跳动|抽动|惊跳)|惊跳"),
    _symptom("Involuntary choreic movements", "No involuntary movements", "舞蹈(?:样|病|症)?(?:动作|运动)?|不自主(?:运动|动作|活动)|异动"),
    _symptom("Akinetic mutism", "No akinetic mutism", "无动性?缄默"),
    _symptom("Gaze palsy", "Eye movements are normal", "(?:垂直|上下|向[上下])[^，。；]{0,4}(?:凝视|注视)[^，。；]{0,4}(?:麻痹|障碍|受限)?|凝视麻痹"),
    _symptom("Trouble swallowing", "Swallows well", "吞咽困难|饮水呛咳|呛咳"),
    _symptom("Neurological examination is normal", "Neurological examination is abnormal", "(?:神经系统|神经科|体格)?(?:检查|查体|体检)[^，。；]{0,6}(?:正常|未见[^，。；]{0,4}异常|无[^，。；]{0,4}异常|阴性)"),
    # -- seizures, head, general
    _symptom("Seizures", "No seizures", "癫痫(?:发作|样)|抽搐|痫性发作|(?:发作性)[^，。；]{0,5}(?:愣神|意识|呆)|惊厥"),
    _symptom("Head injury", "No head injury", "(?:头|脑|颅)[^，。；]{0,3}(?:外伤|损伤|受伤|撞伤|挫伤|撞击)|脑震荡|颅骨骨折|硬膜下|拳击"),
    _symptom("Loss of consciousness", "No loss of consciousness", "昏迷|意识(?:丧失|不清|障碍|模糊)|不省人事"),
    _symptom("Car or traffic accident", "No traffic accident", "车祸|交通事故"),
    _symptom("Headache", "No headache", "头痛|头疼"),
    _symptom("Dizziness", "No dizziness", "头晕|眩晕|头昏"),
    _symptom("Vomiting", "No vomiting", "呕吐|恶心"),
    _symptom("Alcohol abuse", "No alcohol abuse", "酗酒|饮酒|嗜酒|喝酒|酒精|(?:白|黄)酒|酒依赖"),
    _symptom("Smoking", "Does not smoke", "吸烟|抽烟|烟龄"),
    _symptom("Takes sedatives or sleeping tablets", "Takes no sedatives", "安眠药|镇静(?:催眠)?药?|安定|苯二氮|地西泮|阿普唑仑|艾司唑仑|氯硝西泮|劳拉西泮|抗胆碱|催眠药"),
    _symptom("Vitamin B12 deficiency", "No vitamin B12 deficiency", "(?:维生素|维他命)?\\s*B\\s*12\\s*[^，。；]{0,4}(?:缺乏|低|不足|减低|降低|偏低)|恶性贫血|巨幼(?:细胞)?"),
    _symptom("Anaemia", "No anaemia", "贫血"),
    _symptom("Feels cold, tired and gains weight", "No cold intolerance", "(?:怕|畏)(?:冷|寒)|体重[^，。；]{0,3}(?:增加|上升|增长)|皮肤干燥|浮肿|黏液性水肿"),
    _symptom("Thyroid function is low", "Thyroid function is normal", "甲状腺功能(?:减退|低下|异常)|甲减"),
    _symptom("Tiredness", "No tiredness", "乏力|疲劳|疲乏|疲倦|没力气|倦怠"),
    _symptom("Weight loss", "No weight loss", "(?:体重|体质量)[^，。；]{0,3}(?:下降|减轻|减少|降低)|消瘦|变瘦"),
    _symptom("Poor appetite", "Appetite is good", "(?:食欲|胃口|纳)[^，。；]{0,3}(?:减退|下降|差|不佳|不振)"),
    _symptom("Fever", "No fever", "发热|发烧"),
    _symptom("Numb feet and tingling", "No numbness", "(?:手|足|脚|四肢|肢端|手脚|双[下手足])[^，。；]{0,3}(?:麻木|发麻|刺痛|感觉减退)|感觉异常|深感觉"),
    _symptom("Hearing loss", "Hearing is normal", "耳聋|听力[^，。；]{0,3}(?:下降|减退|差)|重听"),
    _symptom("Vascular risk factors", "No vascular risk factors", "(?:血管|脑血管|心血管)[^，。；]{0,3}(?:危险因素|高危)"),
    _symptom("Raised intracranial pressure or brain mass", "No brain mass", "占位|脑(?:肿瘤|瘤|膜瘤)|胶质瘤|颅(?:内)?(?:高压|压增高)|脑膜瘤|转移瘤"),
    _symptom("Cancer", "No cancer", "癌|肿瘤(?<!脑肿瘤)|恶性(?!贫血)"),
    _symptom("Infection of the brain", "No infection of the brain", "脑炎|脑膜炎|梅毒|HIV|艾滋"),
    # -- daily life
    _symptom("Independent in daily activities", "Not independent in daily activities", "(?:生活|日常|起居|个人)[^，。；不无难部需差]{0,6}(?:自理|独立|无需(?:他人)?(?:帮助|协助))(?!困难|能力)", "(?:能|可|会|仍|自己)[^，。；不]{0,4}(?:独立|独自|自行|单独)[^，。；]{0,10}", "独居"),
    _symptom("Needs help with daily activities", "Needs no help with daily activities", "(?:生活|日常|起居)?[^，。；]{0,3}(?:不能|无法|部分|难以|不可)[^，。；]{0,4}(?:自理|独立)", "(?:自理|生活|日常)[^，。；]{0,4}能力?[^，。；]{0,2}(?:下降|减退|差|丧失|受损|障碍)", "(?:需|要|靠|依赖|依靠)[^，。；]{0,6}(?:照顾|照料|协助|帮助|帮忙|督促|提醒|护理|看护|喂|陪)[^，。；]{0,6}", "由[^，。；]{1,6}(?:照顾|照料|代管|代劳|负责|协助|料理|穿|洗|喂)[^，。；]{0,4}"),
    _symptom("Needs help with washing, dressing or eating", "Washes, dresses and eats without help", "(?:不会|不能|无法|难以|忘记)[^，。；]{0,4}(?:穿衣|洗澡|洗漱|进食|吃饭|如厕|梳洗|穿脱|上厕所)"),
    _symptom("Trouble managing money or shopping", "Manages money and shopping", "(?:不会|不能|无法|难以|算不|弄不|困难)[^，。；]{0,5}(?:理财|管钱|账|购物|买菜|付款|算钱|找零|钱)", "(?:理财|管钱|账目|购物|算账|付款|买菜|财务)[^，。；]{0,5}(?:出错|困难|错误|混乱|障碍|不清|需|有误|不能)"),
    _symptom("Trouble with cooking and household work", "Does the cooking and household work", "(?:不会|不能|无法|难以|不再)[^，。；]{0,4}(?:做饭|烹饪|家务|烧菜|煮饭|做菜)", "(?:做饭|烹饪|烧菜|家务)[^，。；]{0,5}(?:出错|困难|费力|忘|混乱|能力下降|变差)"),
    _symptom("Makes mistakes at work or in complex tasks", "Works without mistakes", "(?:工作|复杂|职业)[^，。；]{0,6}(?:出错|困难|效率|失误|下降|吃力|不能胜任|费力|错误)"),
    _symptom("Stopped driving or drives unsafely", "Drives safely", "(?:不再|停止|不能|无法|不敢)[^，。；]{0,3}(?:开车|驾驶)|(?:开车|驾驶)[^，。；]{0,6}(?:剐蹭|事故|出错|困难|危险|迷路|刮擦)"),
    _symptom("Drives, shops and handles money without help", "Does not drive, shop or handle money", "(?<!不)(?:仍|能|可|自己|照常|正常)[^，。；不]{0,4}(?:开车|驾驶|理财|管账|管钱|购物|买菜|做饭|炒股|记账|管理财务)[^，。；]{0,4}"),
    _symptom("Bedridden", "Not bedridden", "卧床|长期卧"),
    # -- relatives
    _symptom("Family history of dementia", "No family history of dementia", "(?:痴呆|失智|阿尔茨海默)[^，。；]{0,4}家族史|家族[^，。；]{0,5}(?:痴呆|失智)"),
    # -- imaging, in words
    _symptom("White matter disease on imaging", "No white matter disease", "白质[^，。；]{0,6}(?:病变|高信号|疏松|脱髓鞘|改变|变性|损害|异常信号)|脱髓鞘|Fazekas|小血管病|微血管"),
    _symptom("Lacunar infarcts", "No lacunar infarcts", "腔隙|腔梗|(?:缺血|软化)灶|多发(?:性)?(?:脑)?梗(?:死|塞)|陈旧(?:性)?梗|微出血"),
    _symptom("Cortical atrophy", "No cortical atrophy", "(?:脑|皮[层质]|颞|额|顶|枕|全脑|弥漫)[^，。；]{0,6}萎缩"),
    _symptom("Hippocampal atrophy", "No hippocampal atrophy", "海马[^，。；]{0,8}(?:萎缩|缩小|体积(?:减小|缩小))|MTA"),
    _symptom("Enlarged ventricles", "Ventricles are not enlarged", "脑室[^，。；]{0,6}(?:扩大|扩张|增大|增宽)|脑积水"),
    _symptom("Improves after a spinal tap", "No improvement after a spinal tap", "(?:腰穿|放液|引流|分流|脑脊液)[^，。；]{0,10}(?:改善|好转|缓解|减轻)"),
    _symptom("Cortical diffusion restriction", "No diffusion restriction", "(?:DWI|弥散|扩散)[^，。；]{0,12}(?:高信号|受限)|花边|飘带|彩带征"),
    _symptom("Periodic sharp waves on EEG", "No periodic sharp waves", "(?:三相|周期性)[^，。；]{0,4}(?:波|放电|尖)"),
    _symptom("Imaging is normal", "Imaging is abnormal", "(?:MRI?|CT|磁共振|影像|核磁)[^，。；]{0,6}(?:未见[^，。；]{0,4}异常|正常|无[^，。；]{0,3}异常)"),
)
# fmt: on
