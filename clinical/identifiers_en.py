"""Names and places in English text, by what stands around them and by lists of names.

A title, a relative, a signature or a word such as "called" announces a name; two capital words of
which one is on the lists are one as well.
"""

import re
from collections.abc import Iterator

from clinical.identifiers import NAME, PLACE, Rule
from clinical.name_words import (
    CAPITALS,
    INITIAL,
    NAME_WORDS,
    TOKEN,
    WORD,
    Pick,
    both,
    leading,
    leading_place,
    listed,
    month_name,
    picked,
    reversed_name,
    titled,
    trailing,
    trailing_place,
)  # fmt: skip

_KIN = (
    r"(?:(?:grand|step|half-|great-|god)?(?:mother|father|parents?|brothers?|sisters?|siblings?|"
    r"aunts?|"
    r"uncles?|cousins?|sons?|daughters?|child(?:ren)?|nieces?|nephews?|twin)(?:-in-law)?|wife|"
    r"husband|"
    r"spouse|partner|fianc[ée]e?|widow(?:er)?|friend|neighbou?r|roommate|care ?giver|carer|aide|"
    r"companion|boyfriend|girlfriend|guardian|landlord|landlady|mom|mum|dad|grandma|grandpa|boss|"
    r"colleague|coworker|priest|pastor|neurologist|(?:neuro)?psychologist|psychiatrist|"
    r"geriatrician|"
    r"physician|doctor|therapist|surgeon|pharmacist|radiologist|cardiologist|resident|specialist|"
    r"social worker|case manager|nurse practitioner|interpreter|teacher|lawyer|supervisor)"
)
_CREDENTIAL = (
    r"(?:M\.?D\.?|Ph\.?D\.?|R\.?N\.?|N\.?P\.?|D\.?O\.?|PA-C|MBBS|MBChB|FRCP|MRCP|FRCPC|LCSW|MSW|"
    r"LPN|"
    r"APRN|OTR|PsyD|DPT|BSN|MPH|ABPP|FAAN|DNP|CNP|SLP|CCC-SLP|RPh|PharmD|DDS|Esq)\b"
)
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|"
    "NM|NY|"
    "NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC|PR|GU|VI|AS|MP|FM|MH|PW|AA|AE|AP"
)
_STATE_NAMES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|"
    "Hawaii|"
    "Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|"
    "Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|"
    "New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|"
    "South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|"
    "Wisconsin|Wyoming"
)
_STREET = (
    "Street|St|Avenue|Ave|Road|Rd|Drive|Dr|Lane|Ln|Court|Ct|Boulevard|Blvd|Place|Pl|Square|Sq|"
    "Terrace|"
    "Ter|Way|Circle|Cir|Highway|Hwy|Parkway|Pkwy|Trail|Close|Crescent|Row|Alley|Loop|Path|Pike|"
    "Plaza|"
    "Point|Points|Ridge|Ridges|Route|Run|Station|Summit|Track|Turnpike|Union|Unions|Valley|Valleys|"
    "Via|Viaduct|View|Views|Village|Villages|Ville|Vista|Walk|Walks|Well|Wells|Bypass|Cape|"
    "Causeway|"
    "Center|Centers|Circles|Cliff|Cliffs|Club|Common|Corner|Corners|Course|Courts|Cove|Coves|Creek|"
    "Crest|Crossing|Crossroad|Curve|Dale|Dam|Divide|Drives|Estate|Estates|Expressway|Extension|"
    "Extensions|Fall|Falls|Ferry|Field|Fields|Flat|Flats|Ford|Fords|Forest|Forge|Forges|Fork|Forks|"
    "Fort|Freeway|Garden|Gardens|Gateway|Glen|Glens|Green|Greens|Grove|Groves|Harbor|Harbors|Haven|"
    "Heights|Hill|Hills|Hollow|Inlet|Island|Islands|Isle|Junction|Junctions|Key|Keys|Knoll|Knolls|"
    "Lake|Lakes|Land|Landing|Light|Lights|Loaf|Lock|Locks|Lodge|Mall|Manor|Manors|Meadow|Meadows|"
    "Mews|"
    "Mill|Mills|Mission|Motorway|Mount|Mountain|Mountains|Neck|Orchard|Oval|Overpass|Park|Parks|"
    "Parkways|Pass|Passage|Pine|Pines|Plain|Plains|Plazas|Port|Ports|Prairie|Radial|Ramp|Ranch|"
    "Rapid|"
    "Rapids|Rest|River|Roads|Rue|Shoal|Shoals|Shore|Shores|Skyway|Spring|Springs|Spur|Spurs|"
    "Squares|"
    "Stravenue|Stream|Streets|Throughway|Trace|Trafficway|Tunnel|Underpass|Wall|Walls|Burg|Burgs|"
    "Bluff|Bluffs|"
    "Bottom|Branch|Bridge|Brook|Brooks|Bayou|Beach|Bend|Annex|Arcade|Camp|Canyon|Mews"
)
_HOUSE = (
    "Hospital|Hospitals|Clinic|Medical Cent(?:er|re)|Health Cent(?:er|re)|Infirmary|Hospice|"
    "Nursing Home|Nursing Cent(?:er|re)|Care Home|Care Cent(?:er|re)|Rehabilitation Cent(?:er|re)|"
    "Institute|University|College|Church|Pharmacy|Assisted Living|Manor|Healthcare|Health System|"
    "Foundation Trust|Medical Group|Surgery|Practice|Community Cent(?:er|re)|Senior Cent(?:er|re)|"
    "Day Cent(?:er|re)|High School|Elementary School|School|Synagogue|Mosque|Temple|Parish"
)
_STAYS = (
    r"(?:li(?:ves|ved|ving|ve)|resid(?:es|ed|ing|ent)|born|raised|grew up|grown up|moved?|retired|"
    r"relocated|stays?|staying|settled|native|immigrated|emigrated|came|comes|originally|"
    r"travell?ed|"
    r"trip|flew|flown|visit(?:ing|ed)|works?|worked|working|employed|admitted|transferred|treated|"
    r"hospitali[sz]ed|home|house|flat|apartment|farm|shop|office|studied|taught|teaches|stationed|"
    r"vacation|holiday|cottage|drove|drives|driving|lost|wandered|returned|went|found)"
)


def _announced(lead: str, pick: Pick = leading) -> Rule:
    return re.compile(rf"(?i:{lead})(?P<name>{NAME_WORDS})"), picked(pick, NAME)


def _place(lead: str) -> Rule:
    return re.compile(rf"(?i:{lead})(?P<name>{NAME_WORDS})"), picked(leading_place, PLACE)


def _rules() -> Iterator[Rule]:
    capital = rf"(?:{WORD}|St\.?|Mt\.?|Ft\.?|{CAPITALS})"
    yield re.compile(rf"\b(?:April|May|June|August|Christian) (?P<name>{WORD})"), month_name
    yield re.compile(rf"\bUS(?:S|NS|NV|CGC) {WORD}"), PLACE
    # Places first: a street may bear a name.
    yield (
        re.compile(
            r"(?<![\w/.])\d{1,6}[A-Z]?(?:-\d{1,4})? (?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|"
            r"West)\.? )?"
            rf"(?:(?:{WORD}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}(?:{_STREET})\b\.?"
            r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Room|No|#)\.? ?#?[\w-]{1,6})?"
        ),
        PLACE,
    )
    yield (
        re.compile(
            rf"(?<![\w/.-])\d{{1,6}}[A-Z]? {WORD}(?: {WORD}){{0,2}},"
            rf"(?= (?:{WORD} ?){{1,4}},? (?:{_STATES})\b)"
        ),
        PLACE,
    )
    yield (
        re.compile(
            r"\b(?:P\.? ?O\.? Box|PSC|Unit|Apt\.?|Suite) \d{1,6}(?:,? Box \d{1,6})?\b", re.I
        ),
        PLACE,
    )
    yield (
        re.compile(
            rf"\b(?:{capital} ){{0,3}}{capital},? (?:{_STATES})\.?,? \d{{5}}(?:-\d{{4}})?\b"
        ),
        PLACE,
    )
    yield (
        re.compile(
            rf"\b(?:{_STATES}) \d{{5}}(?:-\d{{4}})?\b|\b[A-Z]{{1,2}}\d[A-Z\d]? \d[A-Z]{{2}}\b"
        ),
        PLACE,
    )
    yield (
        re.compile(
            rf"\b(?P<name>{NAME_WORDS})(?=, (?:{_STATES}|{_STATE_NAMES})\b(?!\.? ?(?:is|was)\b))"
        ),
        picked(trailing, PLACE),
    )
    yield (
        re.compile(
            rf"\b(?P<name>{capital}(?:['’]s)?(?: (?:{capital}(?:['’]s)?|of|and|the|&)){{0,4}})"
            rf"(?= (?:{_HOUSE})\b)"
        ),
        picked(trailing_place, PLACE),
    )
    yield re.compile(rf"\[PLACE\] (?:{_HOUSE})\b(?: (?:of|at|in) {WORD}(?: {WORD})?)?"), PLACE
    yield re.compile(rf"\b(?:{_HOUSE}) (?:of|at) (?:the )?{WORD}(?: {WORD}){{0,2}}"), PLACE
    yield _place(
        rf"\b{_STAYS}\b[^.;:\n\ue000\[]{{0,28}}?\b(?:in|at|from|to|near|of|outside|around|"
        rf"for)\s(?:the |downtown )?"
    )
    yield _place(
        r"\b(?:[Tt]own|[Cc]ity|[Vv]illage|[Cc]ounty|[Ss]uburb|[Dd]istrict|[Hh]ometown) of "
    )
    yield (
        re.compile(rf"\b(?P<name>{NAME_WORDS}) (?:County|City|Township|Village)\b"),
        picked(trailing, PLACE),
    )
    # Names that something announces.
    yield _announced(
        r"\b(?:(?:dr|mr|mrs|ms|mx|prof|rev|fr|capt|sgt|messrs)\b\.?|miss|professor|doctor|nurse|"
        r"sister|"
        r"sir|dame|reverend|rabbi|pastor|father|judge|captain)\s",
        titled,
    )
    yield (
        re.compile(rf"\b(?P<name>{NAME_WORDS})(?=,? {_CREDENTIAL})"),
        picked(trailing, NAME),
    )
    yield _announced(
        r"\b(?:patient(?: name)?|name|attending(?: physician)?|(?:referring|primary care|"
        r"treating|family)"
        r"(?: physician| doctor| provider)?|(?:referred|dictated|transcribed|signed|reported|"
        r"reviewed|"
        r"examined|seen|prepared|verified|authored|ordered|performed|interpreted|entered|"
        r"tested) by|author|"
        r"provider|pcp|gp|physician|consultant|neurologist|psychologist|psychiatrist|"
        r"neuropsychologist|"
        r"nurse|resident|surgeon|therapist|radiologist|case manager|social worker|next of kin|nok|"
        r"(?:emergency )?contact(?: person)?|care ?giver|carer|informant|examiner|cc|to|from|re|"
        r"poa|hcp|"
        r"power of attorney|proxy|guardian|interpreter|witness|signature|clinician|rater|"
        r"technologist|"
        r"spouse|next-of-kin)\s?(?:\([^)\n]{1,20}\))?:\s{0,3}(?:(?:dr|mr|mrs|ms)\.? )?"
    )
    yield _announced(
        r"\b(?:(?:seen|referred|examined|signed|dictated|accompanied|reported|reviewed|interviewed|"
        r"brought(?: in)?|driven|assessed|evaluated|tested|transcribed|prepared|followed|treated|"
        r"given|"
        r"provided|confirmed|performed|written|supervised|visited|helped|looked after|"
        r"cared for) (?:today )?by|"
        r"(?:spoke|speaking|spoken|discussed|met|talked|lives|living|live|married|conversation|"
        r"call|visit|"
        r"appointment|stays|staying|interview|consultation|session) (?:with|to)|called|"
        r"telephoned|phoned|"
        r"contacted|e?mailed|thank(?:ed|s)?|asked|told|informed|named|nicknamed|known as|goes by|"
        r"prefers|"
        r"dear|attention|attn|addressed as|answers to|married|letter (?:to|from)|per|thanks to)"
        r"(?: (?:his|her|their|the|a|an|our)(?: [a-z-]+){1,3},?)?[ ,:]\s?(?:(?:dr|mr|mrs|ms)\.? )?"
    )
    yield _announced(
        rf"\b{_KIN}(?:'s)?(?:,? (?:is |was )?(?:called|named)|,| is| was| and| \(|:| -|"
        rf"\()?\s?(?:(?:dr|mr|mrs|ms)\.? )?"
    )
    yield (
        re.compile(
            rf"\b(?P<name>{NAME_WORDS})(?=(?:, | \(| - )(?:(?:his|her|the|their|an?|"
            rf"(?:the )?patient['’]s) )?"
            r"(?:(?:elder|younger|eldest|youngest|only|older|oldest|late|second|first|adult|twin|"
            r"home|"
            rf"next-door|long-time|close|former) )?{_KIN}\b)"
        ),
        picked(trailing, NAME),
    )
    yield re.compile(rf"(?<=\[NAME\] and )(?P<name>{NAME_WORDS})"), picked(leading, NAME)
    yield (
        re.compile(r"\b[A-Z]\.[A-Z]\.(?:[A-Z]\.)?(?= (?:is|was|has|had|reports|denies|states)\b)"),
        NAME,
    )
    yield (
        re.compile(
            rf"(?<!\w)(?P<name>{WORD}(?: {INITIAL})? {WORD})(?= (?:came|comes|reports|"
            rf"reported|denies|"
            "denied|says|said|attended|presented|called|visited|returned|lives|asked|told|"
            "described|"
            "described|states|stated|complains|complained|arrived|was (?:seen|referred|born|"
            "brought)|is an?|"
            "is \\d|could|cannot|can|has|had|did|does|will|would|was|is|who|sat|walks|speaks|"
            "spoke)\\b)"
        ),
        picked(both, NAME),
    )
    yield (
        re.compile(
            r"\b(?:seeing|referring|regarding|with|for|by|from|to|about|of|and|saw|met|see|via|"
            r"per|between|"
            r"recommended|introduced|evaluated|examined|interviewed|tested|visited|helped|"
            r"reached?|[Aa]sk|"
            rf"contact|is|was|as|than) (?P<name>{WORD}(?: {INITIAL})? {WORD})"
        ),
        picked(both, NAME),
    )
    yield (
        re.compile(rf"(?<![\w\ue000/-])(?P<name>{WORD}(?: {INITIAL})? {WORD})(?![\w:/-]| [A-Z])"),
        picked(both, NAME),
    )
    # Names that the lists know, wherever they stand.
    yield re.compile(rf"\b(?P<name>{TOKEN}), (?P<given>{TOKEN})(?: [A-Z]\b\.?)?"), reversed_name
    yield re.compile(rf"(?<![\w\ue000])(?P<name>{NAME_WORDS})"), picked(listed, NAME)


RULES_EN: tuple[Rule, ...] = tuple(_rules())
