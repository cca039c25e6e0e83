"""Every patient of an export or of a large bundle becomes a case, and again changes nothing."""

from pathlib import Path

import orjson
import pytest

from fusion.exports import bundle_sources, export_sources
from fusion.intake import IntakeError, register
from fusion.store import Site
from ui.cli import main

PATIENTS = [
    {"resourceType": "Patient", "id": own, "gender": gender, "birthDate": "1944"}
    for own, gender in (("p1", "female"), ("p2", "male"))
]
CONDITIONS = [
    {
        "resourceType": "Condition",
        "subject": {"reference": f"Patient/{own}"},
        "code": {"text": what},
    }
    for own, what in (("p1", "falls"), ("p2", "gout"))
]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """The folder of a bulk export."""
    folder = tmp_path / "export"
    folder.mkdir()
    for name, resources in (("Patient", PATIENTS), ("Condition", CONDITIONS)):
        (folder / f"{name}.ndjson").write_bytes(b"\n".join(map(orjson.dumps, resources)))
    return folder


def test_each_patient_of_an_export_is_a_case(tmp_path: Path, export: Path) -> None:
    """With the patient's own bytes kept; a second import finds them all here."""
    site = Site.create(tmp_path / "site")
    sources, report = export_sources(export)
    first = [register(site, source, site.scheme) for source in sources]
    again = [register(site, source, site.scheme) for source in export_sources(export)[0]]

    assert report.total == 4
    assert [done.changed for done in first + again] == [True, True, False, False]
    kept = [site.record(done.case_id).conditions[0].code.display for done in first]
    assert kept == ["falls", "gout"]
    assert not any("p1" in str(source) for source in sources)


def test_a_bundle_of_two_patients_is_two_cases(tmp_path: Path) -> None:
    """And a bundle of one stays the file it is."""
    path = tmp_path / "ward.json"
    for patients, cases in ((PATIENTS, 2), (PATIENTS[:1], 1)):
        held = [{"resource": resource} for resource in (*patients, *CONDITIONS)]
        path.write_bytes(orjson.dumps({"resourceType": "Bundle", "type": "batch", "entry": held}))
        assert len(bundle_sources(path)[0]) == cases
    with pytest.raises(IntakeError, match="No such file"):
        bundle_sources(tmp_path / "none.json")


def test_the_command_says_what_became_of_an_export(
    tmp_path: Path, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is enough; a bad line is named."""
    with (export / "Condition.ndjson").open("ab") as file:
        file.write(b"\n{broken\n")
    assert main(["import", str(tmp_path / "site"), str(export)]) == 0
    said = capsys.readouterr().out
    assert "NDJSON export: 2 patients" in said
    assert "Condition.ndjson line 3: unknown type is no JSON object" in said
    assert len(Site.open(tmp_path / "site").cases()) == 2
