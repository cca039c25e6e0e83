"""A bulk export: every line has a place, every patient one bundle, and nothing fills the memory."""

import gzip
import subprocess
import sys
import tracemalloc
from pathlib import Path

import orjson
import pytest
from fhir_bundles import PATIENT, Json, bundle, condition, observation

from clinical import ndjson
from clinical.bundle import BundleError
from clinical.by_patient import split_bundle
from clinical.fhir import read_bundle
from clinical.ndjson import Export, ExportError, exported, is_ndjson, read_export

ROOT = Path(__file__).parents[2]


def about(own: str, resource: Json) -> Json:
    """The resource, of another patient."""
    return resource | {"subject": {"reference": f"Patient/{own}"}}


def write(path: Path, *resources: Json | bytes) -> None:
    """One line for each resource, in gzip where the name says so."""
    lines = [line if isinstance(line, bytes) else orjson.dumps(line) for line in resources]
    raw = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of two patients in three files."""
    write(tmp_path / "Patient.ndjson", PATIENT, PATIENT | {"id": "p2", "gender": "male"})
    first, second = observation("2951-2", 140, "mmol/L"), observation("2951-2", 139, "mmol/L")
    write(tmp_path / "Observation.1.ndjson.gz", first | {"id": "a"}, about("p2", second))
    write(tmp_path / "Condition.ndjson", condition(id="c"))
    return tmp_path


def records(export: Export) -> list[tuple[str, int, int]]:
    """Sex, number of observations and of conditions of each patient."""
    read = [patient.read()[0] for patient in export.patients]
    return [(r.sex, len(r.observations), len(r.conditions)) for r in read]


def test_each_patient_has_what_is_theirs(folder: Path) -> None:
    """Lines of all files are sorted by the patient they are about."""
    export = read_export(folder)
    assert records(export) == [("female", 1, 1), ("male", 1, 0)]
    assert export.report.accepted == {"Patient": 2, "Observation": 2, "Condition": 1}
    assert not export.report.remarks


def test_the_order_of_files_and_lines_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    """A case is named by its bytes: the same export again is no new case."""
    before = [patient.bundle().raw for patient in read_export(folder).patients]
    lines = [line for f in sorted(folder.glob("*.ndjson*"), reverse=True) for line in _lines(f)]
    other = tmp_path / "again.jsonl"
    write(other, *reversed(lines))
    assert [patient.bundle().raw for patient in read_export(other).patients] == before


def _lines(path: Path) -> list[bytes]:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.name.endswith(".gz") else raw).splitlines()


def test_the_bundle_of_a_patient_is_read_like_any_other(folder: Path) -> None:
    """The kept bytes give the same record without the export."""
    patient = read_export(folder).patients[0]
    assert read_bundle(patient.bundle().raw)[0] == patient.read()[0]


def test_a_bad_line_costs_that_line_and_is_named(folder: Path) -> None:
    """File and line, but not what is in it."""
    good = condition(id="good")
    write(folder / "Condition.ndjson", b"{Zanzibar", b"[]", b"", b'{"id": "Zanzibar"}', good)
    export = read_export(folder)
    assert [refusal.source for refusal in export.report.refused] == [
        "Condition.ndjson line 1", "Condition.ndjson line 2", "Condition.ndjson line 4",
    ]  # fmt: skip
    assert records(export)[0] == ("female", 1, 1)
    assert "Zanzibar" not in repr(export.report)


def test_what_is_wrong_inside_a_line_is_named_by_file_and_line(folder: Path) -> None:
    """The patient's own report points into the export."""
    write(
        folder / "Condition.ndjson",
        condition(id="c"),
        condition(id="d", onsetDateTime="2025-02-31"),
    )
    _, report = read_export(folder).patients[0].read()
    assert str(report.refused[0]).startswith("Condition.ndjson line 2: Condition.onsetDateTime")


def test_lines_about_nobody_who_is_here_are_refused(folder: Path) -> None:
    """An unknown patient's results are not lost without a word."""
    lost = [about("p9", condition()), condition(subject={"display": "she"})]
    write(folder / "Condition.ndjson", *lost)
    write(folder / "Practitioner.ndjson", {"resourceType": "Practitioner", "id": "dr"})
    report = read_export(folder).report
    assert {(r.source, r.rule) for r in report.refused} == {
        ("Condition.ndjson line 1", "is a patient who is not here"),
        ("Condition.ndjson line 2", "does not name a Patient"),
    }
    assert report.ignored_at == {"Practitioner (of no patient)": "Practitioner.ndjson line 1"}


def test_a_drug_elsewhere_in_the_export_is_followed(folder: Path) -> None:
    """Bulk exports keep drugs in a file of their own."""
    drug = {"resourceType": "Medication", "id": "m", "code": {"text": "donepezil"}}
    request = {
        "resourceType": "MedicationRequest", "status": "active", "intent": "order",
        "subject": {"reference": "Patient/p2"},
        "medicationReference": {"reference": "Medication/m"},
    }  # fmt: skip
    write(folder / "Medication.ndjson", drug, drug | {"id": "unused"})
    write(folder / "MedicationRequest.ndjson", request)
    export = read_export(folder)
    assert export.patients[1].read()[0].medications[0].code.display == "donepezil"
    assert export.report.ignored == {"Medication (no prescription names it)": 1}


def test_the_manifest_names_what_is_missing(folder: Path) -> None:
    """A file that did not arrive looks like a patient without results."""
    base = "https://server.example/export/"
    output = [
        {"type": "Patient", "url": f"{base}Patient.ndjson", "count": 3},
        {"type": "Observation", "url": f"{base}Observation.1.ndjson", "count": 2},
        {"type": "Observation", "url": f"{base}Observation.2.ndjson"},
    ]
    (folder / "manifest.json").write_bytes(orjson.dumps({"output": output, "error": []}))
    assert [remark.rule for remark in read_export(folder).report.remarks] == [
        "says that Patient.ndjson has 3 lines; it has 2",
        "lists Observation.2.ndjson, which is not here",
        "does not list Condition.ndjson; it was read all the same",
    ]


def test_what_the_server_deleted_is_taken_out(folder: Path) -> None:
    """An export since a date lists deletions; errors of the server are no records."""
    gone = {"request": {"method": "DELETE", "url": "Condition/c"}}
    write(folder / "deleted.ndjson", {"resourceType": "Bundle", "entry": [gone]})
    write(folder / "error.ndjson", {"resourceType": "OperationOutcome", "issue": []})
    export = read_export(folder)
    assert records(export)[0] == ("female", 1, 0)
    assert export.report.ignored == {
        "Bundle (a list of deletions)": 1, "OperationOutcome (a message of the server)": 1,
        "Condition (deleted on the server)": 1,
    }  # fmt: skip


def test_a_file_that_is_cut_off_gives_what_it_has(folder: Path) -> None:
    """The rest is named as lost."""
    path = folder / "Observation.1.ndjson.gz"
    many = [observation("2951-2", 140, "mmol/L", id=f"o{n}") for n in range(500)]
    write(path, *many)
    path.write_bytes(path.read_bytes()[:-40])
    export = read_export(folder)
    assert 0 < records(export)[0][1] < 500
    assert "damaged or cut off" in export.report.refused[0].rule


def test_a_bomb_is_not_inflated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred megabytes of blanks in a file of 200 kB."""
    monkeypatch.setattr(ndjson, "FREE_BYTES", 2**20)
    monkeypatch.setattr(ndjson, "MAX_LINE", 2**20)
    (folder / "Condition.ndjson").write_bytes(gzip.compress(b" " * (200 * 2**20)))
    tracemalloc.start()
    export = read_export(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * 2**20
    assert "and the rest" in export.report.refused[-1].rule


PEAK = """
import sys, tracemalloc
from pathlib import Path
from clinical.ndjson import read_export
tracemalloc.start()
export = read_export(Path(sys.argv[1]))
print(len(export.patients), tracemalloc.get_traced_memory()[1])
"""


def test_twenty_thousand_lines_stay_out_of_memory(tmp_path: Path) -> None:
    """They wait on disk. In a process of its own: the type checker of the tests remembers calls."""
    write(tmp_path / "Patient.ndjson", *({**PATIENT, "id": f"p{n}"} for n in range(100)))
    blob = observation("2951-2", 140, "mmol/L", note=[{"text": "x" * 900}])
    lines = (about(f"p{n % 100}", blob | {"id": f"o{n}"}) for n in range(20_000))
    write(tmp_path / "Observation.ndjson", *lines)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], cwd=ROOT, capture_output=True, check=True
    )
    patients, peak = map(int, done.stdout.split())
    assert patients == 100
    assert peak < 12 * 2**20 < (tmp_path / "Observation.ndjson").stat().st_size


def test_an_empty_folder_is_no_export(tmp_path: Path) -> None:
    """And nothing is mistaken for one."""
    assert not is_ndjson(tmp_path)
    with pytest.raises(ExportError, match="an export's folder"):
        read_export(tmp_path)


def test_a_bundle_of_several_patients_is_split() -> None:
    """A searchset of a ward is many records; references by fullUrl still mean the same patient."""
    second = {"fullUrl": "urn:uuid:2", "resource": PATIENT | {"id": "p2", "gender": "male"}}
    his = {"resource": condition(subject={"reference": "urn:uuid:2"})}
    ward = orjson.loads(bundle(condition(), {"resourceType": "Organization"}, kind="searchset"))
    ward["entry"] += [second, his]
    with pytest.raises(BundleError, match="2 Patient resources"):
        read_bundle(orjson.dumps(ward))
    index, report = split_bundle(orjson.dumps(ward))
    read = [patient.read()[0] for patient in exported(index)]
    assert [(r.sex, len(r.conditions)) for r in read] == [("female", 1), ("male", 1)]
    assert report.ignored_at == {"Organization (of no patient)": "2"}
