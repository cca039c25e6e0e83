"""Canaries in notes: which identifiers does `clinical.deidentify` overlook, and what does it cost?

Names, places, numbers and dates drawn from Faker (en_US, zh_CN) are put into sentences of notes.
A canary counts as found only when no word and no figure of it is left, but for the year of a date.
`Open` sentences lay beside the rules while they were written, or were held out once and then
learned from; `held-out` ones were written after the rules, which learned nothing from them. The
rules' lists of names are those of the United States census of 1990, so Faker's English names are
mostly on them: names of other countries, mostly on no list, stand beside them.

Below: the words lost from text that holds no identifier.

Usage: python -m benchmarks.deidentify [--show]
"""

import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from faker import Faker

from benchmarks.deidentify_templates import HELD_OUT, KEPT, OPEN
from benchmarks.import_public_fhir import FOLDER, members
from clinical.deidentify import deidentify
from clinical.fhir import read_bundle
from clinical.record import PatientRecord, Personal
from sample_data.hospitals import hospital_of
from sample_data.notes import write_notes
from sample_data.patients import case_rng, draw_patient
from sample_data.phrases import DAILY, FINDINGS, PADDING_EN, PADDING_ZH

SEED = 2026
A_TEMPLATE = 16  # canaries
ENGLISH, CHINESE = Faker("en_US"), Faker("zh_CN")
OTHERS = Faker(["en_IN", "es_MX", "fr_FR", "de_DE", "pl_PL", "it_IT"])
DATES_EN = (
    "%Y-%m-%d",
    "%m/%d/%Y",
    "%d %B %Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%m/%d/%y",
    "%d.%m.%Y",
    "%Y%m%d",
)
DATES_ZH = ("%Y年%m月%d日", "%Y-%m-%d", "%Y.%m.%d", "%Y/%m/%d", "%m月%d日")
Draw = Callable[[], str]


def draws() -> dict[str, Draw]:
    """How each kind of canary is drawn."""

    def day(form: tuple[str, ...], fake: Faker) -> str:
        return fake.date_object().strftime(fake.random_element(form))

    return {
        "name": lambda: f"{ENGLISH.first_name()} {ENGLISH.last_name()}",
        "name of another country": lambda: f"{OTHERS.first_name()} {OTHERS.last_name()}",
        "surname after a title": ENGLISH.last_name,
        "relative": ENGLISH.first_name,
        "place": lambda: f"{ENGLISH.city()}",
        "address": lambda: ENGLISH.address().replace("\n", ", "),
        "number": lambda: ENGLISH.bothify(
            ENGLISH.random_element(("#######", "??######", "###-##-####", "?#########"))
        ).upper(),
        "date": lambda: day(DATES_EN, ENGLISH),
        "phone": ENGLISH.phone_number,
        "e-mail": ENGLISH.email,
        "age over 89": lambda: str(ENGLISH.random_int(90, 104)),
        "姓名": CHINESE.name,
        "姓 + 称谓": CHINESE.last_name,
        "亲属": CHINESE.name,
        "地名": lambda: CHINESE.random_element(
            (
                CHINESE.province() + CHINESE.city(),
                CHINESE.city(),
                CHINESE.city_name() + "市" + CHINESE.district() + "区",
            )
        ),
        "地址": CHINESE.address,
        "身份证号": CHINESE.ssn,
        "编号": lambda: CHINESE.bothify(CHINESE.random_element(("########", "?#######"))).upper(),
        "日期": lambda: day(DATES_ZH, CHINESE),
        "电话": CHINESE.phone_number,
    }


def leftover(template: str, canary: str, output: str, kind: str) -> bool:
    """Whether any part of a canary is still in the output."""
    if kind == "e-mail":
        parts = re.split(r"[@.]", canary)[:1]
    elif re.search(r"[\u3400-\u9fff]", canary) and kind not in ("日期", "出生日期"):
        plain = re.sub("(?:先生|女士|某某)$", "", canary)
        parts = re.findall(r"[\u3400-\u9fff]+|\d+", plain)
        parts = [p[n : n + 2] for p in parts for n in range(len(p) - 1)] or [plain]
    else:
        parts = re.findall(r"[^\W\d_]+|\d+", canary)
        years = (
            re.findall(r"(?<!\d)(?:19|20)\d\d(?=\D|$|\d{4})", canary)
            if kind in ("date", "日期")
            else []
        )
        parts = [p for p in parts if p not in (*years, "年", "月", "日") and len(p) > 1]
    output, frame = re.sub(r"\[[A-Z0-9 +]+\]", " ", output), template.replace("{}", " ")
    if re.search(r"[\u3400-\u9fff]", canary) and kind not in ("日期", "出生日期"):
        return any(output.count(part) > frame.count(part) for part in parts)
    words = [Counter(re.findall(r"[^\W\d_\u3400-\u9fff]+|\d+", text)) for text in (output, frame)]
    return any(words[0][part] > words[1][part] for part in parts)


def scores(templates: dict[str, tuple[str, ...]], *, show: bool) -> dict[str, tuple[int, int]]:
    """Found and all, by kind."""
    result = {}
    for kind, draw in draws().items():
        found = total = 0
        for template in templates.get(kind, ()):
            for _ in range(A_TEMPLATE):
                canary = draw()
                text = template.replace("{}", canary)
                missed = leftover(template, canary, deidentify(text), kind)
                found, total = found + (not missed), total + 1
                if missed and show:
                    print(f"{kind}: {text} -> {deidentify(text)}", file=sys.stderr)
        result[kind] = (found, total)
    return result


def own_scores(*, show: bool) -> dict[str, tuple[int, int]]:
    """The patient's own identifiers, known from the record, in sentences that announce nothing."""
    found: dict[str, list[bool]] = defaultdict(list)
    for _ in range(60):
        for kind, record, canary in own_identifiers():
            for template in ("Then {} sat down.", "stable; {} (see above)", "随后{}离开诊室。"):
                text = template.replace("{}", canary)
                output = deidentify(text, record)
                missed = leftover(template, canary, output, kind)
                found[kind].append(not missed)
                if missed and show:
                    print(f"own {kind}: {text} -> {output}", file=sys.stderr)
    return {kind: (sum(hits), len(hits)) for kind, hits in found.items()}


def own_identifiers() -> Iterator[tuple[str, PatientRecord, str]]:
    """One English and one Chinese person, and every form in which a note may name them."""
    first, middle, last = ENGLISH.first_name(), ENGLISH.first_name(), ENGLISH.last_name()
    born = ENGLISH.date_of_birth(minimum_age=60, maximum_age=88)
    mrn, phone = ENGLISH.bothify("??-######").upper(), ENGLISH.phone_number()
    street, city = ENGLISH.street_address(), ENGLISH.city()
    personal = Personal(
        (f"{first} {middle} {last}", last, first, middle),
        ("Zoraida Quill",),
        (street, city),
        (phone,),
    )
    record = PatientRecord(
        "p-77812", "female", f"{first} {last}", born, identifiers=(mrn,), personal=personal
    )
    for form in (f"{first} {last}", f"{last}, {first}", f"{last.upper()}, {first.upper()}",
                 f"{first} {middle[0]}. {last}", f"{first[0]}. {last}", last, first,
                 f"{first} {middle} {last}", f"{first} {last}".lower()):  # fmt: skip
        yield "name", record, form
    yield "contact", record, "Zoraida"
    for form in (mrn, mrn.replace("-", ""), mrn.replace("-", " "), "p-77812"):
        yield "number", record, form
    yield "phone", record, phone
    yield "address", record, f"{street}, {city}"
    for form in DATES_EN[:-1]:
        yield "birth date", record, born.strftime(form)
    name = CHINESE.name()
    record = PatientRecord(
        "zh-1",
        "male",
        name,
        born,
        identifiers=("440305",),
        personal=Personal(addresses=(CHINESE.address(),)),
    )
    for form in (
        name,
        f"{name[0]}先生",
        f"{name[0]}女士",
        name[1:] if len(name) > 2 else name,
        f"{name[0]}某某",
    ):
        yield "姓名", record, form
    for form in DATES_ZH[:-1]:
        yield "出生日期", record, born.strftime(form)


def table(title: str, *columns: dict[str, tuple[int, int]]) -> None:
    """Print one table of recalls."""
    print(f"\n{title}\n")
    heads = ("open", "held-out")[: len(columns)] if len(columns) > 1 else ("found",)
    print(
        "| identifier | "
        + " | ".join(f"{head} found | of" for head in heads).replace("found found", "found")
        + " |"
    )
    print("|---|" + "---:|---:|" * len(columns))
    for kind in columns[0]:
        cells = [f"{share(*column[kind])} | {column[kind][1]}" for column in columns]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    sums = [tuple(map(sum, zip(*column.values(), strict=True))) for column in columns]
    print("| **all** | " + " | ".join(f"**{share(*pair)}** | {pair[1]}" for pair in sums) + " |")


def share(found: int, total: int) -> str:
    """A share in per cent."""
    return f"{100 * found / total:.1f} %" if total else "-"


def sample_notes() -> list[str]:
    """Notes of the synthetic cohort: no identifier is in them."""
    notes = []
    for index in range(240):
        hospital = hospital_of(index)
        patient, rng = draw_patient(hospital, SEED, index), case_rng(SEED, index, "notes")
        notes += [note.text for note in write_notes(patient, hospital, rng)]
    return notes


def phrases() -> list[str]:
    """Every phrase those notes are made of, once."""
    found = [text for f in FINDINGS.values() for text in (*f.en, *f.zh, *f.absent)]
    found += [text for pair in DAILY.values() for side in pair for text in side]
    return [*found, *PADDING_EN, *PADDING_ZH]


def synthea_names() -> list[str]:
    """Names of codes and medications of the Synthea bundles, which hold no note."""
    path = FOLDER / "fhir_synthea_r4.tar.xz"
    if not path.exists():
        return []
    names: Counter[str] = Counter()
    for _, raw in members(path):
        record, _ = read_bundle(raw)
        names.update(entry.code.display for entry in (*record.conditions, *record.medications))
        names.update(entry.name for entry in record.observations)
    return sorted(names)


def lost(texts: list[str], *, show: bool) -> tuple[int, int]:
    """Words (a Han character is one) that are gone from texts without an identifier, and all."""
    gone = total = 0
    for text in texts:
        before = Counter(re.findall(r"[\u3400-\u9fff]|[^\W\d_]+|\d+", text))
        output = deidentify(text)
        after = Counter(
            re.findall(r"[\u3400-\u9fff]|[^\W\d_]+|\d+", re.sub(r"\[[A-Z0-9 +]+\]", "", output))
        )
        gone, total = gone + (before - after).total(), total + before.total()
        if show and output != text:
            print(f"lost: {text} -> {output}", file=sys.stderr)
    return gone, total


def main() -> None:
    """Print the tables."""
    show = "--show" in sys.argv
    for fake in (ENGLISH, CHINESE, OTHERS):
        fake.seed_instance(SEED)
    random.seed(SEED)
    table(
        "Anybody's identifiers, by rules alone",
        scores(OPEN, show=show),
        scores(HELD_OUT, show=show),
    )
    table(
        "The patient's own, known from the record, where nothing announces them",
        own_scores(show=show),
    )
    print("\n| text without identifiers | words | lost |\n|---|---:|---:|")
    kinds = {
        "notes of the synthetic cohort": sample_notes(),
        "its phrases, each once": phrases(),
        "names of Synthea's codes (its bundles hold no note)": synthea_names(),
        "eponyms, drugs, scores, short histories": list(KEPT),
    }
    for name, texts in kinds.items():
        gone, total = lost(texts, show=show)
        if total:
            print(f"| {name} | {total} | {100 * gone / total:.2f} % |")


if __name__ == "__main__":
    main()
