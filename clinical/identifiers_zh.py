"""Names and places in Chinese text, by family names, titles, relatives and administrative units.

Chinese has no capital letters, so a name must be announced (女儿王芳, 李医生, 签名：), or be a
family name with two characters that given names are made of. Clinical words that begin like a name
(高血压, 安静) are on a list.
"""

import re
from collections.abc import Iterator

from clinical.identifiers import NAME, PLACE, Rule, word_list

_H = "[\u3400-\u9fff]"
_TITLES = (
    "(?:副?主任(?:医师)?|(?:主治|住院|主管)?医[生师]|大夫|副?教授|护士长?|护师|技师|老师|先生|"
    "女士|小姐|太太|阿姨|叔叔|"
    "大爷|大妈|大娘|大叔|大姐|大哥|奶奶|爷爷|伯伯|同志|院长|博士|经理|师傅|老人|老太太?|老先生|"
    "律师|社工|治疗师|"
    "心理师|咨询师|药师|某某?|阿婆|阿公|婆婆)"
)
_KIN = (
    "(?:父亲|母亲|爸爸|妈妈|哥哥|弟弟|姐姐|妹妹|兄长|祖父|祖母|爷爷|奶奶|外公|外婆|姥姥|姥爷|"
    "叔叔|伯父|伯母|姑姑|姑母|"
    "姨妈|姨母|舅舅|舅妈|大?儿子|小儿子|大?女儿|小女儿|[长次三四幼]子|[长次三四幼小大]女|"
    "外?孙[子女]?|女婿|儿媳妇?|丈夫|妻子|"
    "爱人|配偶|老伴|侄[子女]|外甥女?|表[哥弟姐妹]|堂[哥弟姐妹]|嫂子|其[子女父母兄弟姐妹妻夫]|"
    "家属|联系人|陪同[人者]?|陪护|"
    "保姆|护工|照料者|照顾者|监护人|邻居|朋友|同事|患者|病人|房东|室友|代诉人|知情者|委托人)"
)
_NEXT = (
    "(?=[^\u3400-\u9fff]|$|代?[诉述]|陪|称|说|反映|电话|联系|照[顾料看]|[与和及同、]|提供|介绍|"
    "描述|担心|认为|要求|表示|"
    "告知|签[字名]|发现|觉得|同住|前来|来[院电诊]|先生|女士|因|今|男|女|于|系|在|的|补充|带|送|"
    "接|也|已|住|负责|注意|观察|补述|是)"
)
_LABELS = (
    "(?:患者姓名|病人姓名|姓名|联系人|签名|签字|签章|[主经]治医[师生]|住院医师|主任医师|"
    "副主任医师|上级医师|管床医[师生]|医师签名|"
    "记录[者人医师]{1,2}|报告[医师者]{1,2}|审核[医师者]{1,2}|检查[医师者]{1,2}|评[定估][者人师]|"
    "测评[员者]|施测者|护士|医[师生]|责任护士|"
    "监护人|申请医[师生]|操作者|翻译|委托人|代理人|病史陈述者|陈述者|供史者|知情同意人|"
    "接诊医[师生]|会诊医[师生]|紧急联系人|曾用名|"
    "转诊医[师生]|书写者|随访[者人员]|抄送|致)"
)
_UNIT = (
    "(?:自治州|自治县|开发区|新区|地区|市|区|县|盟|旗|镇|乡|街道|村|屯|庄|社区|大道|大街|"
    "胡同|路|街|巷|弄|里弄|小区|花园|新村|家园|公寓|大厦|苑|号院)"
)
_NC = "[^\\W\\d_A-Za-z在于的有为及与患就住来去到，后前因是往]"
_NUMBER = r"(?:[A-Za-z]?\d{1,5}(?:-\d{1,5})*[号弄栋幢座楼单元室层院组门]{0,2}|[A-Za-z]座)"
_STRONG = (
    "(?:家住|现住址?|家庭住址|通讯地址|居住地址|住址|地址|居住[于在]|户籍(?:所在)?地?|"
    "户口(?:所在)?地?|籍贯|出生[于地]|祖籍|现居|来自|"
    "位于|住在|生于|老家在?|定居[于在]?|迁居至?|搬[到至]|移居|工作单位|就职于|任职于|毕业于|"
    "退休于|长期居住[于在]?|住所)"
)
_HOUSE = (
    "(?:医院|卫生院|卫生所|诊所|卫生服务中心|卫生服务站|养老院|福利院|护理院|敬老院|疗养院|"
    "康复中心|大学|中学|小学|幼儿园|学院|学校|"
    "公司|工厂|集团|派出所|居委会|村委会|研究所|研究院|出版社|银行|机械厂|纺织厂|钢铁厂|化工厂|"
    "[制造电器]{1,2}厂)"
)
_GENERIC_HOUSE = re.compile(
    "^(?:[本我该外某此两各二三多家]|当地|上级|外地|社区|三甲|三级|甲等|二级|县级|市级|省级|专科|"
    "综合|基层|附近|其他|多家|到|在|"
    "大|中|小|去|往|至|由|经|于|于?我|精神专科|老年|老年病|教学|不同|乡镇|民营|公立|私立|街道|"
    "家附近|外院)+$"
)


def _surnames(*, sure: bool) -> str:
    names = word_list("family_zh") - (word_list("family_zh_words") if sure else frozenset())
    return "(?:" + "|".join(sorted(names, key=lambda name: (-len(name), name))) + ")"


_ANY, _SURE = _surnames(sure=False), _surnames(sure=True)
_GIVEN = "[" + "".join(sorted(word_list("given_zh"))) + "]"


def _person(match: re.Match[str]) -> str:
    """Replace group `name` unless it begins like a word that is none."""
    name = match["name"]
    if name[:2] in word_list("not_names_zh"):
        return match[0]
    doubtful = name[0] in word_list("family_zh_doubtful")
    if doubtful and match.re is not _TITLED and not re.fullmatch(f"{_GIVEN}+", name[1:]):
        return match[0]
    return _swap(match, NAME)


def _swap(match: re.Match[str], mark: str) -> str:
    begin, end = match.start("name") - match.start(), match.end("name") - match.start()
    return f"{match[0][:begin]}{mark}{match[0][end:]}"


def _place(match: re.Match[str]) -> str:
    """Replace group `name` unless it ends in a word such as 超市 or 病区."""
    name = match["name"]
    generic = (name[-n:] in word_list("not_places_zh") and len(name) < n + 2 for n in (2, 3))
    return match[0] if any(generic) else _swap(match, PLACE)


def _told_place(match: re.Match[str]) -> str:
    """The same after a word such as 家住, where only the word itself is no place."""
    return match[0] if match["name"] in word_list("not_places_zh") else _swap(match, PLACE)


def _house(match: re.Match[str]) -> str:
    """Replace an institution by its own name; 当地医院 and 我院 have none."""
    return match[0] if _GENERIC_HOUSE.match(match["own"]) else _swap(match, PLACE)


_TITLED = re.compile(
    f"(?<![主责经值全康])(?P<name>{_ANY}{_GIVEN}{{0,2}}|{_ANY}{_H}{{1,2}}?)(?={_TITLES})"
)


def _rules() -> Iterator[Rule]:
    cities = "|".join(sorted(word_list("cities_zh"), key=lambda name: (-len(name), name)))
    provinces = "|".join(sorted(word_list("provinces_zh")))
    chain = rf"(?:{_NC}{{1,8}}?{_UNIT}){{0,5}}(?:{_NC}{{0,3}}{_NUMBER}){{0,4}}(?: ?\d{{6}}(?!\d))?"
    inside = "(?:(?![住在于至到往由从经因后患转就及和与去送来自曾]|入住)[\u3400-\u9fff])"
    yield (
        re.compile(rf"(?P<name>(?P<own>{inside}{{2,16}}?){_HOUSE}(?:.{{0,4}}分院|附属医院)?)"),
        _house,
    )
    yield (
        re.compile(
            r"(?P<l>(?:住址|地址|籍贯|户籍|户籍地|工作单位|单位|出生地|住所|"
            r"户口)(?:所在地)?[:：]\s{0,2})(?P<name>[^，,。；;\n]{2,50})"
        ),
        _place,
    )
    yield (
        re.compile(
            rf"(?P<name>(?:{provinces}|{cities})(?:特别行政区|(?:壮族|回族|维吾尔)?自治区|省|"
            rf"市)?(?:{cities})?市?{chain})"
        ),
        _place,
    )
    yield (
        re.compile(
            rf"{_STRONG}[:：为是\s]{{0,2}}(?P<name>(?={_NC}{{1,6}}{_UNIT}|{_NC}{{1,8}}\d){chain})"
        ),
        _told_place,
    )
    yield re.compile(rf"(?P<name>{_NC}{{2,3}}?[省市县](?![场民区内里立价面外级]){chain})"), _place
    yield (
        re.compile(
            rf"(?P<name>{_NC}{{1,6}}?(?:路|街|巷|弄|大道|胡同|村|镇|乡|里|苑|园|"
            rf"小区){_NUMBER}{chain})"
        ),
        _place,
    )
    yield re.compile(rf"(?P<name>(?:\[PLACE\]){_NC}{{1,6}}?{_UNIT}{chain})"), _place
    yield re.compile(r"(?P<l>邮编|邮政编码)[:：为是\s]{0,3}\d{6}"), rf"\g<l>{PLACE}"
    yield (
        re.compile(
            rf"{_LABELS}(?:签[名字])?[:：]\s{{0,3}}(?P<name>{_H}{{2,4}}(?:·{_H}{{1,6}})?)(?={_TITLES}|[^\u3400-\u9fff]|$)"
        ),
        _person,
    )
    yield (
        re.compile(rf"{_LABELS}\s{{1,3}}(?P<name>{_ANY}{_H}{{1,2}})(?=[^\u3400-\u9fff]|$)"),
        _person,
    )
    yield _TITLED, _person
    yield (
        re.compile(
            rf"{_KIN}(?:[（(：:\s]|姓名[:：]|[为是叫]|名叫)?(?P<name>{_ANY}(?:{_GIVEN}{{1,2}}|"
            rf"{_H}{{1,2}}?)){_NEXT}"
        ),
        _person,
    )
    doubtful = "".join(sorted(word_list("family_zh_doubtful")))
    yield re.compile(rf"{_KIN}(?![{doubtful}])(?P<name>{_ANY}{_GIVEN}{{1,2}})"), _person
    yield (
        re.compile(
            rf"{_KIN}(?P<name>{_ANY}(?:{_GIVEN}{{2}}|{_GIVEN}(?=[有患现无均亦三两数近已拒代为])))"
        ),
        _person,
    )
    yield (
        re.compile(
            rf"(?:今[日天]|[昨前]日|经|由|请|让|与|和)(?P<name>{_ANY}{_GIVEN}{{1,2}})(?=来[院诊]|"
            rf"就诊|复诊|同意|完成|签|陪|护送|评估|办理|接|填写)"
        ),
        _person,
    )
    yield (
        re.compile(
            rf"(?<=[在到从于住回往去])(?P<name>{_NC}{{1,3}}?[市县](?![场民区内里立价面外级]))"
        ),
        _place,
    )
    yield (
        re.compile(
            rf"(?:(?:告知|通知|联系|询问|致电|访谈|医[生师]|大夫|教授|护士|药师|"
            rf"治疗师)(?![{doubtful}])(?={_ANY})|"
            rf"(?:嘱咐?|请|随访|交代|见|找到?|与|和|向|"
            rf"对)(?={_SURE}))(?P<name>{_ANY}{_GIVEN}{{1,2}})"
        ),
        _person,
    )
    yield (
        re.compile(rf"由(?P<name>{_ANY}{_H}{{1,2}}?)(?=提供|陪|护?送|带|介绍|转|负责|照|代)"),
        _person,
    )
    yield (
        re.compile(rf"(?:叫做?|名叫|自称|绰号|昵称|呼其)[“\"]?(?P<name>{_ANY}{_H}{{1,2}}?){_NEXT}"),
        _person,
    )
    # 脑室扩张明显, 代谢正常, 复苏成功: not before these.
    inner = "(?<![扩紧夸主舒代凋复搜荒示规])"
    yield re.compile(rf"{inner}(?P<name>{_SURE}{_GIVEN}{{1,2}})"), _person
    yield (
        re.compile(
            rf"(?:(?<=[由与和同向请找嘱给对跟及、，。：:；（(\s“,;])|^)(?P<name>{_SURE}{_GIVEN})"
            "(?=代?[诉述]|陪|来电|电话|告知|照[顾料]|联系|签[名字]|说|表示|称|，[男女]|\\d|[（(]|"
            "提供|负责|同住|一起)"
        ),
        _person,
    )
    yield (
        re.compile(
            rf"(?:^|(?<=[。；\n]))(?P<name>{_ANY}{_GIVEN}{{1,2}})"
            "(?=近|今[日天年]|于|自|因|诉|否认|目前|现年|来院|就诊|前来|，[男女]|\\d|随|每|常|的|"
            "在|两|半|最近|说|称|表示)"
        ),
        _person,
    )
    yield (
        re.compile(
            rf"(?<!{_H})(?P<name>[小老阿](?!{'[孙梁叶年时]'}){_SURE})(?![子女{_H[1:-1]}]|{_GIVEN})"
        ),
        _person,
    )
    yield re.compile(rf"(?P<name>[小老](?![孙梁叶]){_SURE})(?=代?[诉述]|陪|说|称|来|表示)"), _person
    yield re.compile(rf"(?<=\[NAME\][、和与及])(?P<name>{_ANY}{_H}{{1,2}}?){_NEXT}"), _person


RULES_ZH: tuple[Rule, ...] = tuple(_rules())
