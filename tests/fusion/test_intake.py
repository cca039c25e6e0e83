"""Files become a case; the same files twice change nothing; a bad scan costs only itself."""

import json
from pathlib import Path

import numpy as np
import pytest

from clinical.diagnoses import load_scheme
from fusion.intake import IntakeError, Source, Tools, prepare_case, read_pairs, register, unprepared
from fusion.store import Site, SiteError

CASES = Path(__file__).parents[2] / "sample_data" / "site_cases"
BUNDLES = sorted((CASES / "bundles").glob("*.json"))
SCHEME = load_scheme()


@pytest.fixture(scope="module")
def tools() -> Tools:
    """Both frozen networks, loaded once."""
    return Tools()


@pytest.fixture
def site(tmp_path) -> Site:
    """An empty site."""
    return Site.create(tmp_path / "site")


@pytest.fixture
def pair() -> Source:
    """A bundled case that has a scan."""
    return next(source for source in read_pairs(CASES / "cases.csv") if source.scan)


def test_importing_the_same_files_twice_changes_nothing(site, pair) -> None:
    """A second import neither adds a case nor touches the database."""
    first, second = (register(site, pair, SCHEME) for _ in range(2))

    assert first.changed
    assert not second.changed
    assert len(site.cases()) == 1
    assert len(site.audit_trail()) == 1


def test_the_imported_bytes_are_kept(site, pair) -> None:
    """Whoever doubts the import can look at what came."""
    row = site.row(register(site, pair, SCHEME).case_id)

    assert site.original("bundles", row.bundle_sha256).read_bytes() == pair.bundle.read_bytes()
    assert site.original("scans", row.scan_sha256).read_bytes() == pair.scan.read_bytes()


def test_record_and_scan_become_evidence_of_four_modalities(site, pair, tools) -> None:
    """The bundled case has everything, and each token names its source."""
    case_id = register(site, pair, SCHEME).case_id
    prepare_case(site, case_id, tools, SCHEME)

    tokens = site.case(case_id).tokens
    assert set(tokens) == {"scan", "notes", "labs", "history"}
    regions = [pointer.region for pointer in tokens["scan"].pointers]
    assert {"left hippocampus", "right hippocampus"} <= set(regions)
    note = {note.id: note.text for note in site.record(case_id).notes}
    sentence = tokens["notes"].pointers[0]
    assert note[sentence.note_id][sentence.start : sentence.end].strip()


def test_a_scan_can_follow_its_record(site, pair) -> None:
    """The same bundle with a scan is the same case, now with a scan."""
    alone = register(site, Source(bundle=pair.bundle), SCHEME)
    both = register(site, pair, SCHEME)

    assert alone.case_id == both.case_id
    assert site.row(both.case_id).scan_sha256


def test_a_scan_that_follows_loses_no_known_diagnosis(site, pair) -> None:
    """Labels come with one import and the scan with the next."""
    case_id = register(site, Source(bundle=pair.bundle, diagnoses=("DE", "AD")), SCHEME).case_id
    register(site, Source(pair.bundle, pair.scan), SCHEME)

    assert site.row(case_id).diagnoses == ["DE", "AD"]
    assert site.row(case_id).scan_sha256


def test_known_diagnoses_can_follow_their_case(site, pair) -> None:
    """A list of labels is never ignored because the files are already here."""
    case_id = register(site, Source(pair.bundle, pair.scan), SCHEME).case_id
    labelled = Source(pair.bundle, pair.scan, ("MCI", "VD"))

    assert register(site, labelled, SCHEME).changed
    assert not register(site, labelled, SCHEME).changed
    assert site.row(case_id).diagnoses == ["MCI", "VD"]


def test_a_second_scan_of_the_same_case_is_refused(site, pair, tmp_path) -> None:
    """Nothing is replaced behind the physician's back."""
    register(site, pair, SCHEME)
    other = tmp_path / "other.nii.gz"
    other.write_bytes(b"another scan")

    with pytest.raises(IntakeError, match="another scan"):
        register(site, Source(pair.bundle, other), SCHEME)


def test_a_broken_scan_becomes_a_finding_and_the_case_goes_on(site, pair, tools, tmp_path) -> None:
    """One bad file costs its modality, not the case."""
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a scan")
    case_id = register(site, Source(pair.bundle, broken), SCHEME).case_id
    prepare_case(site, case_id, tools, SCHEME)

    assert "scan" not in site.case(case_id).tokens
    assert any("could not be used" in finding for finding in site.findings(case_id))


def test_an_interrupted_import_resumes(site, pair, tools) -> None:
    """What is registered and has no evidence is known to be waiting."""
    case_id = register(site, pair, SCHEME).case_id
    assert unprepared(site, tools.encoder.sha256) == [case_id]

    prepare_case(site, case_id, tools, SCHEME)
    assert unprepared(site, tools.encoder.sha256) == []
    assert unprepared(site, "another encoder") == [case_id]


def test_a_scan_is_segmented_once(site, pair, tools, monkeypatch) -> None:
    """Evidence counted by another table of analytes is made anew, the segmentation is not."""
    case_id = register(site, pair, SCHEME).case_id
    prepare_case(site, case_id, tools, SCHEME)
    before = site.case(case_id).tokens["scan"]

    monkeypatch.setattr("fusion.store.table_version", lambda: "another")
    assert unprepared(site, tools.encoder.sha256) == [case_id]
    with pytest.raises(SiteError, match="import"):
        site.case(case_id)

    monkeypatch.setattr("fusion.intake.segment", lambda *_: pytest.fail("segmented again"))
    prepare_case(site, case_id, tools, SCHEME)
    again = site.case(case_id).tokens["scan"]
    np.testing.assert_array_equal(again.features, before.features)
    assert again.pointers == before.pointers


def test_a_list_without_its_columns_is_refused(tmp_path) -> None:
    """The message says which columns are needed."""
    table = tmp_path / "pairs.csv"
    table.write_text("file,mri\na.json,b.nii.gz\n")

    with pytest.raises(IntakeError, match="bundle and scan"):
        read_pairs(table)


def test_no_derived_file_name_holds_anything_of_the_patient(site, pair, tools) -> None:
    """Names of files and folders are hashes and fixed words."""
    case_id = register(site, pair, SCHEME).case_id
    prepare_case(site, case_id, tools, SCHEME)
    patient = next(
        entry["resource"]
        for entry in json.loads(pair.bundle.read_bytes())["entry"]
        if entry["resource"]["resourceType"] == "Patient"
    )
    private = {patient["id"], patient["birthDate"], patient["name"][0]["family"]}

    names = " ".join(str(path.relative_to(site.folder)) for path in site.folder.rglob("*"))
    assert not [word for word in private if word.lower() in names.lower()]
