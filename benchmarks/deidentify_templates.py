"""Sentences of notes with a place for a canary, by kind; and text that must come through."""

OPEN: dict[str, tuple[str, ...]] = {
    "name": (
        "Referred by Dr. {} for memory loss.",
        "Spoke with {} about driving.",
        "Her daughter, {}, reports word-finding problems.",
        "Electronically signed by: {}, MD",
        "{} came to the memory clinic with her husband.",
        "Patient: {}\nMMSE 21/30.",
        "The neuropsychologist, {}, found impaired recall.",
        "I had the pleasure of seeing {} today.",
    ),
    "surname after a title": (
        "Mrs. {} repeats questions.",
        "Mr {} was alert and oriented.",
        "Discussed with Dr {} by telephone.",
        "Dear Professor {},",
    ),
    "relative": (
        "Lives with her son {} and two cats.",
        "His wife {} manages the finances.",
        "{}, her daughter, says that she repeats herself.",
        "Her sister ({}) had dementia.",
        "Accompanied by his brother, {}.",
    ),
    "place": (
        "Lives in {} with her husband.",
        "Born in {}, worked as a teacher.",
        "He moved from {} last year.",
        "She was admitted to {} General Hospital with delirium.",
    ),
    "address": (
        "Lives at {}.",
        "Address: {}\nPhone: none",
        "Home visit at {} was done.",
    ),
    "number": (
        "MRN: {}",
        "Medical record number {}, seen today.",
        "Hospital no. {}; MMSE 24.",
        "Insurance ID: {}",
    ),
    "date": (
        "Seen on {} in the memory clinic.",
        "MRI of {} shows hippocampal atrophy.",
        "Date of birth: {}.",
        "Since {} she has been taking donepezil.",
        "Fell ({}) without injury.",
    ),
    "phone": (
        "Call the daughter at {}.",
        "Phone: {}",
        "Reachable under {} in the evening.",
        "Fax {}, attention clinic.",
    ),
    "e-mail": ("Write to {} with results.", "E-mail: {}", "Contact ({}) for records."),
    "age over 89": (
        "This {}-year-old woman has memory loss.",
        "He is {} years old and lives alone.",
        "Aged {}, she still drives.",
    ),
    "姓名": (
        "患者{}，男，72岁。",
        "姓名：{}",
        "患者{}因记忆力下降就诊。",
        "医师签名：{}",
        "由{}医生接诊。",
        "联系人：{}",
        "{}近一年来反复问同一个问题。",
    ),
    "姓 + 称谓": ("{}医生查房。", "{}先生神志清楚。", "{}女士由家属陪同。", "请{}主任会诊。"),
    "亲属": (
        "女儿{}陪同就诊。",
        "其子{}诉患者记忆力差。",
        "家属（{}）代诉病史。",
        "与妻子{}同住。",
        "丈夫{}，身体健康。",
    ),
    "地名": ("家住{}。", "出生于{}，久居当地。", "患者来自{}。", "户籍：{}"),
    "地址": ("住址：{}", "家庭住址：{}，电话无。", "现住{}。"),
    "身份证号": ("身份证号：{}", "患者身份证{}已核对。", "证件号码为{}。"),
    "编号": ("住院号：{}", "病案号{}。", "门诊号：{}，MMSE 21分。", "医保卡号：{}"),
    "日期": ("{}行头颅MRI检查。", "患者于{}入院。", "出生日期：{}", "末次就诊{}，病情平稳。"),
    "电话": ("联系电话：{}", "电话{}，请回访。", "女儿手机号{}。", "可拨打{}联系家属。"),
}
OPEN["name of another country"] = OPEN["name"]

# Written after the rules had learned from the open ones; then learned from as well.
SECOND: dict[str, tuple[str, ...]] = {
    "name": (
        "Thank you for referring {}, who presents with progressive forgetfulness.",
        "Follow-up letter to {} was sent.",
        "{} is a retired teacher with two years of memory loss.",
        "Power of attorney is held by {}.",
        "Per {}, symptoms began after surgery.",
        "Next of kin: {} (daughter)",
        "Tested by {}, PhD, on two occasions.",
        "We reviewed the scan together with {}.",
        "Mini-Cog 2/5. {} could not draw the clock.",
    ),
    "surname after a title": (
        "Ms. {}'s gait is slow.",
        "cc: Dr. {}",
        "Nurse {} visits twice a week.",
        "Mr. and Mrs. {} attended together.",
    ),
    "relative": (
        "Her granddaughter {} set up a pill box.",
        "His son-in-law {} drove him here.",
        "Daughters {} and Susan alternate.",
        "Neighbour {} found him wandering.",
        "He lost his wife {} in the spring.",
    ),
    "place": (
        "A retired farmer from {}.",
        "Got lost driving to {}.",
        "Seen at {} Memorial Hospital before.",
        "Resident of {} since retirement.",
    ),
    "address": ("Mail to {}.", "She has lived at {} for years."),
    "number": ("Chart #{}", "Account number: {}", "Accession {} (MRI).", "Passport no. {}"),
    "date": (
        "Last seen {}; next visit in six months.",
        "Surgery ({}) was uneventful.",
        "DOB {}",
        "Note dictated {}.",
    ),
    "phone": ("Her cell is {}.", "Pharmacy tel. {}", "Son: {}"),
    "e-mail": ("Results go to {}, please.", "<{}>"),
    "age over 89": ("Pleasant {} yo man.", "She turned {} last week.", "{}F with falls."),
    "姓名": (
        "病人{}，女，退休教师。",
        "病史由{}提供。",
        "主治医师：{}",
        "责任护士：{}",
        "已告知{}检查结果。",
        "{}，男，68岁，因健忘就诊。",
        "转诊医生{}建议复查。",
    ),
    "姓 + 称谓": ("嘱{}护士测血压。", "{}阿姨近来常走错路。", "与{}教授讨论。"),
    "亲属": (
        "大女儿{}负责照料。",
        "老伴{}诉其夜间喊叫。",
        "由儿媳{}陪同来诊。",
        "孙子{}发现其走失。",
        "哥哥{}有痴呆。",
    ),
    "地名": ("现居{}，退休工人。", "从{}转来我院。", "老家在{}。"),
    "地址": ("家住{}，独居。", "寄往{}。"),
    "身份证号": ("公民身份号码{}", "（{}）"),
    "编号": ("登记号：{}", "影像号{}", "就诊卡号：{}"),
    "日期": ("（{}）本院MRI未见异常。", "{}起服用多奈哌齐。", "记录日期：{}"),
    "电话": ("家属手机：{}", "（{}）", "请致电{}。"),
}
SECOND["name of another country"] = SECOND["name"]
for _kind, _more in SECOND.items():
    OPEN[_kind] += _more

# The third set; of these, 94 % were found at the first run, and then learned from.
THIRD: dict[str, tuple[str, ...]] = {
    "name": (
        "Collateral history was obtained from {} over the telephone.",
        "{} (the patient's niece) confirmed this.",
        "Copy of this letter: {}.",
        "Mr. {} has noticed that he misplaces keys.",
        "Dictated but not read by {}, M.D.",
        "The bus driver, {}, brought her home.",
        "She introduced herself as {}.",
        "Consent was given by {} on the patient's behalf.",
    ),
    "surname after a title": (
        "As Dr. {} noted, the tremor is mild.",
        "Mrs {}: no new concerns.",
        "Under the care of Prof. {}.",
    ),
    "relative": (
        "Grandson {} installed door alarms.",
        "Her late husband {} had been a baker.",
        "Since her sister {} died, she has been low.",
        "He did not recognise his daughter {}.",
    ),
    "place": (
        "She grew up in {} and never left.",
        "Was found by police near {}.",
        "Transferred from {} Community Hospital.",
    ),
    "address": ("Current residence: {}", "Please send the report to {}."),
    "number": ("Record no: {}", "Policy number {} was charged.", "Specimen ID {} (CSF)."),
    "date": (
        "On {} he got lost.",
        "Lumbar puncture {}: normal cell count.",
        "The visit of {} was cancelled.",
    ),
    "phone": ("Emergency contact {}.", "He can be reached by phone, {}.", "Ring {} before noon."),
    "e-mail": ("cc {}", "Her niece ({}) wants a copy."),
    "age over 89": ("At {} years of age she lives alone.", "Age: {}"),
    "姓名": (
        "现病史由{}代述。",
        "记录者：{}",
        "{}，女，75岁，退休工人。",
        "经{}同意后行腰穿。",
        "心理测评由{}完成。",
        "今日{}来院复诊。",
    ),
    "姓 + 称谓": ("{}大夫建议停药。", "{}老师既往体健。", "转{}主任医师门诊。"),
    "亲属": (
        "小儿子{}代为取药。",
        "外甥{}发现其不认路。",
        "配偶{}已去世。",
        "其女{}拒绝腰穿。",
    ),
    "地名": ("长期居住于{}。", "曾在{}工作三十年。", "去年从{}搬来。"),
    "地址": ("现住址：{}", "救护车自{}接回。"),
    "身份证号": ("身份证：{}", "证件{}已登记。"),
    "编号": ("病历号{}", "检查号：{}", "社保卡号{}。"),
    "日期": ("自{}以来反复跌倒。", "{}腰穿结果正常。", "下次复诊：{}"),
    "电话": ("紧急联系电话：{}", "其子{}（手机）。", "可联系{}。"),
}
THIRD["name of another country"] = THIRD["name"]
for _kind, _more in THIRD.items():
    OPEN[_kind] += _more

# The fourth set, learned from as well.
FOURTH: dict[str, tuple[str, ...]] = {
    "name": (
        "Background information came from {}, who runs the day centre.",
        "At the end {} thanked us and left.",
        "Plan discussed with both {} and the family.",
        "{} scored 18 on the MoCA.",
        "The bank manager {} noticed unusual withdrawals.",
        "Report requested by: {}",
    ),
    "surname after a title": (
        "We agree with Dr. {}.",
        "Ms {}, aged 71, is a widow.",
        "Dear Mrs. {}:",
    ),
    "relative": (
        "Her eldest son {} holds the keys.",
        "He mistakes his wife for his sister {}.",
        "Her cousin {} was also present.",
        "The twins' mother, his daughter {}, phoned.",
    ),
    "place": (
        "Her house in {} was sold.",
        "He used to work at {} Regional Medical Center.",
        "Originally from {}, she came here in her forties.",
    ),
    "address": ("Visiting nurse goes to {} daily.", "Home address - {}"),
    "number": ("His file, record # {}, is missing.", "Order no. {} (CT head)", "Member ID {}"),
    "date": ("Onset around {}.", "The EEG dated {} is normal.", "Next review: {}"),
    "phone": ("Leave a message at {}.", "Contact number: {}", "Daughter ({}), evenings."),
    "e-mail": ("Reply to {} only.", "Portal login {}"),
    "age over 89": ("Her {}-year-old sister is healthy.", "He is aged {}."),
    "姓名": (
        "病史陈述者：{}",
        "患者{}神志清，对答切题。",
        "请{}签署知情同意书。",
        "{}于门诊完成MoCA评估。",
        "昨日由{}护送入院。",
        "会诊意见见{}记录。",
    ),
    "姓 + 称谓": ("{}主任查房后指示复查MRI。", "听{}先生讲述病情。", "交由{}护士长处理。"),
    "亲属": ("次女{}在国外。", "侄子{}陪诊。", "妹妹{}患帕金森病。", "其夫{}三年前去世。"),
    "地名": ("近十年在{}居住。", "回{}探亲后加重。", "原籍{}。"),
    "地址": ("联系地址：{}", "随子女居住于{}。"),
    "身份证号": ("身份证号码 {}", "证号{}，已登记。"),
    "编号": ("标本号：{}", "床旁腕带编号{}。", "住院号 {}"),
    "日期": ("发病日期{}。", "{}复查头颅CT。", "报告时间：{}"),
    "电话": ("回访电话{}。", "手机 {}", "微信同号：{}"),
}
FOURTH["name of another country"] = FOURTH["name"]
for _kind, _more in FOURTH.items():
    OPEN[_kind] += _more

# Written last of all. After their first run only words were taken off the lists of names, so that
# fewer clinical words are lost; nothing was added to find more of these.
HELD_OUT: dict[str, tuple[str, ...]] = {
    "name": (
        "The alarm was raised by {} after two missed calls.",
        "Both {} and her lawyer were present.",
        "Today {} brought a list of questions.",
        "Responsible clinician: {}",
    ),
    "surname after a title": (
        "Thanks to Dr {} for the slides.",
        "Mr {}'s MMSE fell.",
        "(Prof. {})",
    ),
    "relative": (
        "Her niece {} does the shopping.",
        "His younger brother {} has Parkinson's disease.",
        "She calls her granddaughter {} by the wrong name.",
    ),
    "place": (
        "Returned from {} with a cough.",
        "Works at {} Elementary School.",
        "Lived near {} until 2010.",
    ),
    "address": ("Discharged to {}.", "Her mail from {} piled up."),
    "number": ("Encounter number {}", "Slide and specimen no. {}."),
    "date": ("He stopped driving on {}.", "PET ({}) positive."),
    "phone": ("Office {}, ask for the nurse.", "Text reminders to {}."),
    "e-mail": ("Family e-mail {}.", "Send forms: {}"),
    "age over 89": ("A {} year old widow.", "aged {} years"),
    "姓名": (
        "申请医师：{}",
        "病人{}对答切题。",
        "上午{}行腰椎穿刺。",
        "嘱{}按时服药。",
    ),
    "姓 + 称谓": ("{}医师已阅。", "邻床{}大爷诉其夜间吵闹。"),
    "亲属": ("三女儿{}述其多疑。", "弟弟{}亦有类似症状。", "外孙{}教其用手机。"),
    "地名": ("从{}来京就医。", "常年居住在{}。"),
    "地址": ("单位地址：{}", "搬至{}。"),
    "身份证号": ("身份证号为{}。", "持{}办理入院。"),
    "编号": ("影像号：{}", "门诊病历号{}"),
    "日期": ("{}开始出现幻觉。", "检查日期：{}"),
    "电话": ("家中电话{}。", "拨打{}无人接听。"),
}
HELD_OUT["name of another country"] = HELD_OUT["name"]

KEPT: tuple[str, ...] = (
    "Parkinson's disease, Hoehn and Yahr stage 2.",
    "Alzheimer's disease with Lewy body pathology.",
    "Probable Lewy body dementia; no Creutzfeldt-Jakob disease.",
    "Babinski sign absent, Romberg negative, Hoffmann reflex absent.",
    "Aricept 10 mg daily, Namenda 10 mg twice daily, Exelon patch stopped.",
    "Montreal Cognitive Assessment 18/30, Boston Naming Test 12/15, Clinical Dementia Rating 1.",
    "Huntington's disease in the family; Wernicke encephalopathy excluded.",
    "Pick's disease was considered. Steele-Richardson-Olszewski syndrome is unlikely.",
    "Fazekas grade 2, Scheltens score 3, white matter lesions.",
    "MMSE 24/30, MoCA 18/30, GDS 3/15, CDR 0.5, BP 120/80, pulse 72.",
    "He walks with a walker and may fall in the long hall.",
    "Mark the clock; she will read the price and cook rice.",
    "May take donepezil 5 mg. Will return or call later.",
    "APOE e4/e4, rs429358, plasma p-tau217 0.42 pg/mL, LOINC 57133-1, ICD-10 G30.9.",
    "Trail Making Test A 45 s, B 120 s; Rey Auditory Verbal Learning Test delayed recall 3.",
    "Mother had dementia, father had a stroke, brother Parkinson's disease.",
    "帕金森病，Hoehn-Yahr 2期，巴宾斯基征阴性。",
    "阿尔茨海默病，路易体痴呆待排，额颞叶痴呆可能性小。",
    "高血压10年，糖尿病5年，白内障术后，安静时震颤。",
    "否认高血压、黄疸、黄斑变性，常流泪，易怒，时常迷路。",
    "MMSE 21分，MoCA 18分，多奈哌齐5mg每晚一次，安理申。",
    "母亲高血压，父亲曾患脑梗死，女儿和儿子体健。",
    "头颅MRI示双侧海马萎缩，颞区为主，脑白质高信号。",
    "外出迷路两次，在超市走失，回家路上摔倒，小区内散步。",
    "全科医生随访，康复医师指导，责任护士宣教，主任医师查房。",
    "既往于当地医院就诊，无明显诱因出现记忆力下降2年3月。",
    "左侧肢体无力，关节疼痛，温度觉减退，应用安眠药。",
)
