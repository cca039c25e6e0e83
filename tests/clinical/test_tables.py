"""Rows become records by a mapping; what cannot be read is counted by line and column, unquoted."""

import datetime as dt
import random
from pathlib import Path

import pytest

from clinical.diagnoses import load_scheme
from clinical.lab_encoder import FACT_KINDS, history_tokens, lab_tokens
from clinical.mapping import MappingError, TableMapping, load_mapping
from clinical.tables import NO_DAY, TableError, read_table

MAPPINGS = Path(__file__).parents[2] / "sample_data" / "mappings"
DATA = Path(__file__).parents[3] / "shared" / "data"
CLINIC = """
patient = "id"
age = "age"
education = "school"
missing = ["", "?", "-9"]
[time]
days = "day"
[sex]
column = "sex"
values = { 0 = "female", 1 = "male" }
[[analyte]]
column = "glucose"
loinc = "2345-7"
unit = "mmol/L"
missing = ["0"]
[[number]]
column = "volume"
name = "Brain volume"
unit = "%"
low = 70
high = 80
minimum = 40
maximum = 100
[[fact]]
column = "pain"
name = "Chest pain"
values = { 1 = "typical angina", 2 = "none" }
[[fact]]
column = "smokes"
kind = "condition"
system = "http://snomed.info/sct"
values = { yes = "Smoker", no = "" }
codes = { yes = "77176002" }
[[diagnosis]]
column = "cdr"
values = { 0 = ["NC"], "0.5" = ["MCI"], 1 = ["DE", "AD"] }
"""
HEADER = "id,day,age,school,sex,glucose,volume,pain,smokes,cdr,unused\n"


@pytest.fixture
def mapping(tmp_path) -> TableMapping:
    """What the columns of a made-up clinic mean."""
    return mapped(tmp_path, CLINIC)


def mapped(folder: Path, text: str) -> TableMapping:
    """A mapping from its text."""
    path = folder / "mapping.toml"
    path.write_text(text)
    return load_mapping(path)


def read(mapping: TableMapping, *rows: str, header: str = HEADER):
    """Cases and report of some rows."""
    return read_table((header + "\n".join(rows)).encode(), mapping, "clinic.csv")


class Words:
    """A text encoder that only counts."""

    dim = 4

    def encode(self, texts):
        """One vector a text."""
        import torch

        return torch.ones(len(texts), self.dim)

    def trust(self, language) -> float:
        """All languages are read."""
        return 1.0


def test_a_row_becomes_a_record(mapping) -> None:
    """Every cell in its place, in canonical units, and the diagnosis outside the record."""
    (case,), report = read(mapping, "p1,0,71,12,0,5.0,75,1,yes,1.0,x")

    record = case.record
    glucose, volume, pain = record.observations
    assert (record.sex, record.age_years, record.education_years) == ("female", 71.0, 12.0)
    assert glucose.loinc == "2345-7"
    assert round(glucose.value, 1) == 90.1
    assert (volume.loinc, volume.value, volume.reference.high) == ("local:volume", 75.0, 80.0)
    assert (pain.name, pain.text, pain.value) == ("Chest pain", "typical angina", None)
    assert record.conditions[0].code.code == "77176002"
    assert case.diagnoses == ("DE", "AD")
    assert "AD" not in repr(record)
    assert report.accepted == 1
    assert report.ignored == ("unused",)


def test_each_visit_is_a_case_with_the_course_up_to_it(mapping) -> None:
    """Whatever the order of the rows; nothing of a later visit is known."""
    rows = ["p1,400,72,12,0,6,74,2,no,1,", "p2,0,60,9,1,5,79,2,no,0,", "p1,0,71,12,0,5,75,2,no,0,"]
    cases, _ = read(mapping, *rows)

    by_line = {case.lines[-1]: case for case in cases}
    assert by_line[2].lines == (4, 2)
    assert [o.date for o in by_line[2].record.observations if o.loinc == "2345-7"] == [
        NO_DAY, NO_DAY + dt.timedelta(days=400)
    ]  # fmt: skip
    assert len(by_line[4].record.observations) == len(by_line[2].record.observations) / 2
    assert (by_line[2].diagnoses, by_line[4].diagnoses) == (("DE", "AD"), ("NC",))
    assert by_line[2].record.patient_id == by_line[4].record.patient_id


def test_a_person_can_be_one_case(tmp_path) -> None:
    """With the whole course and the last diagnosis."""
    mapping = mapped(tmp_path, 'cases = "person"' + CLINIC)
    (case,), report = read(mapping, "p1,0,71,12,0,5,75,1,no,0,", "p1,365,72,12,0,5,75,1,no,0.5,")

    assert case.diagnoses == ("MCI",)
    assert case.record.age_years == 72.0
    assert report.accepted == 2


def test_what_a_cell_cannot_say_is_counted_by_column(mapping) -> None:
    """Missing, no number, impossible, unknown; the row goes on without the cell."""
    rows = ["p1,0,?,12,0,0,75,1,no,0,", "p2,0,70,12,7,<5,999,1,no,3,", "p3,0,70,-9.0,1,5,7x,,no,0,"]
    cases, report = read(mapping, *rows)

    assert len(cases) == report.accepted == 3
    assert dict(report.missing) == {"age": 1, "glucose": 1, "pain": 1, "school": 1}
    assert dict(report.first_lines) == {
        ("sex", "is not among the mapping's values"): 3,
        ("glucose", "is not a number"): 3,
        ("volume", "lies beyond the mapping's minimum or maximum"): 3,
        ("cdr", "is not among the mapping's values"): 3,
        ("volume", "is not a number"): 4,
    }
    assert cases[1].diagnoses is None
    assert report.used["volume"] == 1


@pytest.mark.parametrize(
    ("row", "where", "rule"),
    [
        (",0,70,12,0,5,75,1,no,0,", "id", "names no patient"),
        ("p9,soon,70,12,0,5,75,1,no,0,", "day", "is not a time"),
        ("p9,-4,70,12,0,5,75,1,no,0,", "day", "is not a time"),
        ("p9,0,70,12,0,5,75", "", "has 7 cells, the table 11 columns"),
        ("p1,0,70,12,0,5,75,1,no,0,", "day", "second row of one person and time"),
        ("p1,90,70,12,1,5,75,1,no,0,", "sex", "differs from another row"),
    ],
)
def test_a_row_that_cannot_be_trusted_is_refused_alone(mapping, row, where, rule) -> None:
    """The line and the column are named, and the next row goes on."""
    rows = ["p1,0,71,12,0,5,75,1,no,0,", row, "p3,0,71,12,0,5,75,1,no,0,"]
    cases, report = read(mapping, *rows)

    (refusal,) = report.refused
    assert (refusal.line, refusal.column) == (3, where)
    assert rule in refusal.rule
    assert [case.lines[-1] for case in cases] == [2, 4]
    assert report.used["cdr"] == 2


def test_no_report_quotes_a_cell(mapping) -> None:
    """Seeded nonsense in every column: nothing of it comes back, and nothing raises."""
    rng = random.Random(7)
    words = [f"Zweig{n}" for n in range(50)]
    rows = [",".join(rng.choice([*words, "1", "", "p1"]) for _ in range(11)) for _ in range(200)]
    _, report = read(mapping, *rows)

    said = "\n".join(report.summary())
    assert len(report.refused) + report.accepted == 200
    assert "Zweig" not in said
    assert "more" in said


def test_a_table_without_its_header_gives_no_patient_away(mapping) -> None:
    """Its first line is somebody's; the message names the mapping's columns only."""
    with pytest.raises(TableError, match="which the mapping reads") as error:
        read(mapping, "p2,0,70,12,0,5,75,1,no,0,", header="Zweig,0,70,12,0,5,75,1,no,0,\n")
    assert "Zweig" not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (HEADER.encode() + b"\xff\xfe", "not text in utf-8-sig"),
        (HEADER.encode() + b'p1,"open', "line 2 is no line of a table"),
        (HEADER.replace("unused", "age").encode(), "twice"),
    ],
)
def test_a_file_that_is_no_table_is_one_clear_error(mapping, raw, said) -> None:
    """What, where and what to do."""
    with pytest.raises(TableError, match=said):
        read_table(raw, mapping, "clinic.csv")


def test_a_participants_file_is_separated_by_tabs(tmp_path) -> None:
    """As BIDS has it: n/a is missing, and a person has one row."""
    mapping = mapped(tmp_path, 'patient = "participant_id"\nage = "age"\n'
                     '[sex]\ncolumn = "sex"\nvalues = { F = "female", M = "male" }\n')  # fmt: skip
    raw = b"participant_id\tage\tsex\nsub-01\t34.5\tF\nsub-02\tn/a\tM\nsub-02\t40\tM\n"
    cases, report = read_table(raw, mapping, "participants.tsv")

    assert [case.record.age_years for case in cases] == [34.5, None]
    assert "name the column of the time" in report.refused[0].rule


def test_decimal_commas_and_dates_are_read_as_the_mapping_says(tmp_path) -> None:
    """A table as many hospitals of the continent export it."""
    mapping = mapped(tmp_path, 'delimiter = ";"\ndecimal = ","\nencoding = "cp1252"\npatient = "id"'
                     '\n[time]\ndate = "Tag"\nformat = "%d.%m.%Y"\n[[analyte]]\ncolumn = "Größe"\n'
                     'loinc = "8302-2"\nunit = "cm"\n')  # fmt: skip
    raw = "id;Tag;Größe\n1;03.02.2024;171,5\n2;31.02.2024;180\n".encode("cp1252")
    (case,), report = read_table(raw, mapping, "t.csv")

    assert case.record.observations[0].value == 171.5
    assert case.record.observations[0].date == dt.date(2024, 2, 3)
    assert (report.refused[0].column, report.remarks) == ("Tag", ())


def test_visits_can_be_numbered_only(tmp_path) -> None:
    """Then the mapping says how far apart they lie."""
    text = CLINIC.replace('days = "day"', 'visit = "day"\ndays_between_visits = 180')
    cases, _ = read(mapped(tmp_path, text), "p1,1,71,12,0,5,75,1,no,0,", "p1,3,72,1,0,5,75,1,no,0,")

    assert cases[1].record.index_date == NO_DAY + dt.timedelta(days=360)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (CLINIC.replace("2345-7", "9999-9"), "not in clinical.units"),
        (CLINIC.replace('"mmol/L"', '"furlong"'), "no conversion"),
        (CLINIC.replace("low = 70", "low = 90"), "low must be below high"),
        (CLINIC.replace('column = "cdr"', 'column = "glucose"'), "two meanings"),
        (CLINIC.replace('name = "Chest pain"', ""), "needs a name"),
        (CLINIC.replace('days = "day"', 'days = "day"\nvisit = "v"'), "one of date, days"),
        (CLINIC.replace('days = "day"', 'visit = "day"'), "go together"),
        (CLINIC.replace('age = "age"', 'aeg = "age"'), "aeg"),
        (CLINIC.replace('"female"', '"f"'), "sex"),
        ('patient = "id"', "nothing is read"),
        ("not toml", "not TOML"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_place(tmp_path, wrong, said) -> None:
    """Before anything is read from a table."""
    with pytest.raises(MappingError, match=said):
        mapped(tmp_path, wrong)


def test_a_column_can_be_left_out(mapping) -> None:
    """To see what a network learns without it."""
    (case,), report = read(mapping.without("volume"), "p1,0,71,12,0,5,75,1,no,0,")

    assert "volume" in report.ignored
    assert all(o.loinc != "local:volume" for o in case.record.observations)
    with pytest.raises(MappingError, match="cannot be left out"):
        mapping.without("cdr")


def test_the_same_table_gives_equal_records(mapping) -> None:
    """And a row more changes nothing of the others."""
    rows = ["p1,0,71,12,0,5,75,1,no,0,", "p1,365,72,12,0,5,75,1,no,1,"]
    first, _ = read(mapping, *rows)
    second, _ = read(mapping, "p0,0,50,12,1,5,75,1,no,0,", *rows)

    assert [case.record for case in second[1:]] == [case.record for case in first]


def test_own_numbers_and_findings_become_evidence(mapping) -> None:
    """The number stands where it is in its usual range; the finding is told in words."""
    (case,), _ = read(mapping, "p1,0,71,12,0,5,80,1,no,0,")
    tokens = history_tokens(case.record, Words())

    kinds = [FACT_KINDS[kind] for kind in tokens.kinds]
    volume, pain = kinds.index("measurement"), kinds.index("finding")
    assert tokens.features[volume, -3:].tolist() == [1.0, 0.0, 1.0]
    assert tokens.pointers[volume].display == "Brain volume: 80 %"
    assert tokens.pointers[pain].display == "Chest pain: typical angina"
    assert [pointer.loinc for pointer in lab_tokens(case.record).pointers] == ["2345-7"]


@pytest.mark.parametrize("name", ["oasis2", "heart_uci"])
def test_the_mappings_that_ship_are_sound(name) -> None:
    """Each diagnosis that a mapping names is in the scheme beside it."""
    mapping = load_mapping(MAPPINGS / f"{name}.toml")
    scheme = load_scheme(MAPPINGS / f"{name}_diagnoses.toml")

    keys = {k for column in mapping.diagnosis for ks in column.values.values() for k in ks}
    assert keys == {label.key for label in scheme.labels}


@pytest.mark.skipif(not DATA.exists(), reason="the public tables are not here")
@pytest.mark.parametrize(
    ("name", "table", "rows", "ill"),
    [
        ("oasis2", "oasis2/oasis_longitudinal.csv", 373, 167),
        ("heart_uci", "heart_uci/cleveland.csv", 303, 139),
        ("heart_uci", "heart_uci/hungarian.csv", 294, 106),
        ("heart_uci", "heart_uci/switzerland.csv", 123, 115),
        ("heart_uci", "heart_uci/va.csv", 200, 149),
    ],
)
def test_the_public_tables_are_accounted_for_row_by_row(name, table, rows, ill) -> None:
    """As many rows and as many diagnoses as their owners state."""
    mapping = load_mapping(MAPPINGS / f"{name}.toml")
    cases, report = read_table((DATA / table).read_bytes(), mapping, table)

    assert (len(cases), report.accepted, len(report.refused)) == (rows, rows, 0)
    assert sum(case.diagnoses in (("IMPAIRED",), ("CAD",)) for case in cases) == ill
    for column in mapping.used:
        cells = report.used.get(column, 0) + report.missing.get(column, 0)
        assert cells + sum(n for (c, _), n in report.unusable.items() if c == column) == rows
