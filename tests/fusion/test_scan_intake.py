"""DICOM studies and BIDS datasets become cases; whose scan it is must be beyond doubt."""

import datetime as dt
import json

import nibabel as nib
import numpy as np
import pytest
from dicom_study import PATIENT, write_study

from clinical.diagnoses import load_scheme
from clinical.record import PatientRecord
from fusion import intake
from fusion.identity import compare
from fusion.intake import Source, Tools, bids_sources, prepare_case, register
from fusion.store import BlockedError, Site, SiteError
from imaging.check import ScanCheck, ScanFinding
from imaging.regions import Segmentation
from imaging.scan import Identity

SCHEME = load_scheme()
HEADER_SECRETS = ("MRN-7", "Lovelace", "Ada", "19500504", "1950-05-04")


@pytest.fixture
def site(tmp_path) -> Site:
    """An empty site."""
    return Site.create(tmp_path / "site")


@pytest.fixture
def study(tmp_path):
    """A study of the patient of `bundle`."""
    return write_study(tmp_path / "study", PatientName="Lovelace^Ada", **PATIENT)


@pytest.fixture
def bundle(tmp_path):
    """A function that writes the bundle of a patient."""

    def write(**patient: object):
        resource = {
            "resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1950-05-04",
            "identifier": [{"value": "old-3"}, {"value": "mrn-7"}], **patient,
        }  # fmt: skip
        path = tmp_path / "bundle.json"
        content = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": resource}],
        }
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def blocked(site, study, bundle, make_case) -> str:
    """A prepared case whose scan says another sex."""
    case_id = register(site, Source(bundle(gender="male"), study, ("DE",)), SCHEME).case_id
    made = make_case(1).tokens
    site.save_tokens(case_id, dict(made), findings=["No note."], encoder="e", scan_findings=["Dim"])
    return case_id


def test_a_study_alone_is_a_case_and_the_same_one_twice(site, study) -> None:
    """The id comes from the voxels, whatever the names of the files."""
    first = register(site, Source(scan=study), SCHEME)
    for path in study.iterdir():
        path.rename(study / f"renamed-{path.name}")
    again = register(site, Source(scan=study), SCHEME)

    assert first.changed
    assert again == intake.Registered(first.case_id, changed=False)
    assert any("series 3" in remark for remark in first.remarks)


def test_of_a_header_only_what_matters_is_kept(site, study, bundle) -> None:
    """Neither name, number nor birth date of a header is anywhere in the site."""
    case_id = register(site, Source(scan=study), SCHEME).case_id
    acquisition = site.row(case_id).facts.acquisition

    assert acquisition.manufacturer == "Siemens"
    assert acquisition.field_strength_t == 3
    assert acquisition.acquired_on == dt.date(2024, 3, 9)
    kept = b"".join(path.read_bytes() for path in site.folder.rglob("*") if path.is_file())
    assert not [secret for secret in HEADER_SECRETS if secret.encode() in kept]


def test_a_study_alone_tells_sex_and_age_for_the_norms(site, study) -> None:
    """To half a year; the header's birth date is cut to its year."""
    record = site.record(register(site, Source(scan=study), SCHEME).case_id)

    assert record.sex == "female"
    assert record.age_years == pytest.approx(73.8, abs=0.6)


def test_two_studies_of_one_patient_are_tied_and_two_nameless_ones_are_not(site, tmp_path) -> None:
    """De-identified scans share an id such as ANON."""
    named = [write_study(tmp_path / f"n{s}", seed=s, **PATIENT) for s in (1, 2)]
    nameless = [write_study(tmp_path / f"a{s}", seed=s, PatientID="ANON") for s in (3, 4)]
    keys = [
        site.row(register(site, Source(scan=study), SCHEME).case_id).patient_key
        for study in (*named, *nameless)
    ]

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_scan_that_fits_its_record_blocks_nothing(site, study, bundle) -> None:
    """Any of the record's identifiers will do, in either case of letters."""
    row = site.row(register(site, Source(bundle(), study), SCHEME).case_id)

    assert not row.is_blocked
    assert row.scan_sha256
    assert site.scan_time(row.case_id).age_years == pytest.approx(73.85, abs=0.01)


@pytest.mark.parametrize(
    ("patient", "said"),
    [
        ({"gender": "male"}, "sex: record male, scan header female"),
        ({"birthDate": "1962"}, "birth year: record and scan header are 12 years apart"),
        (
            {"identifier": [{"value": "X1"}]},
            "identifier: the scan header's is none of the record's",
        ),
    ],
)
def test_each_fact_that_disagrees_blocks_the_case_by_itself(
    site, study, bundle, patient, said
) -> None:
    """And is told without a number, a name or a date of birth."""
    row = site.row(register(site, Source(bundle(**patient), study), SCHEME).case_id)

    assert row.is_blocked
    assert [str(found) for found in row.facts.disagreements] == [said]


def test_a_scan_that_names_nobody_is_a_finding_and_no_block(site, bundle, tmp_path) -> None:
    """A de-identified study can be of anybody; the physician is told."""
    nameless = write_study(tmp_path / "nameless")
    row = site.row(register(site, Source(bundle(), nameless), SCHEME).case_id)

    assert not row.is_blocked
    assert "nothing to compare" in str(row.facts.findings[0])


def test_a_record_without_numbers_is_no_contradiction() -> None:
    """The server's own id of a patient is not a hospital number."""
    record = PatientRecord("f81d4fae", "female")

    assert compare(Identity("MRN-7", "female"), record) == ()
    assert compare(Identity("MRN-7"), record) is None


def test_a_blocked_case_has_no_evidence_for_anyone(site, blocked) -> None:
    """Neither a diagnosis nor training nor a signature."""
    with pytest.raises(BlockedError, match="sex"):
        site.case(blocked)
    with pytest.raises(BlockedError):
        site.add_review(blocked, user="dr", agrees=False, labels=("DE",), reason="seen")
    assert site.training_cases(SCHEME) == []
    assert "sex: record male, scan header female" in site.findings(blocked)


def test_a_scan_found_to_be_the_patients_opens_the_case(site, blocked, study, tmp_path) -> None:
    """The finding stays, and importing again asks nobody twice."""
    site.decide_identity(blocked, same=True, user="dr.lee", reason="entered wrongly at the desk")
    register(site, Source(tmp_path / "bundle.json", study), SCHEME)

    assert "scan" in site.case(blocked).tokens
    assert site.findings(blocked) == (
        "No note.",
        "sex: record male, scan header female; found to be this patient's scan",
        "Dim",
    )
    assert (site.audit_trail()[-1].user, site.audit_trail()[-1].action) == (
        "dr.lee",
        "identity: same",
    )


def test_a_scan_found_to_be_anothers_leaves_no_trace(site, blocked, study, tmp_path) -> None:
    """Evidence, files and findings of it go; the case goes on; the same scan stays out."""
    (site.case_folder(blocked) / "T1w.nii.gz").write_bytes(b"scan")
    site.decide_identity(blocked, same=False, user="dr.lee", reason="scans swapped")
    again = register(site, Source(tmp_path / "bundle.json", study), SCHEME)

    assert set(site.case(blocked).tokens) == {"notes", "labs", "history"}
    assert site.scan_path(blocked) is None
    assert list((site.folder / "scans").iterdir()) == []
    assert [f for f in site.findings(blocked) if f in ("No note.", "Dim")] == ["No note."]
    assert not again.changed
    assert site.row(blocked).scan_sha256 is None


def test_a_scan_taken_away_by_mistake_can_come_back(site, blocked, study, tmp_path) -> None:
    """The later decision counts."""
    site.decide_identity(blocked, same=False, user="a", reason="looked wrong")
    site.decide_identity(blocked, same=True, user="b", reason="asked the radiographer")
    register(site, Source(tmp_path / "bundle.json", study), SCHEME)

    assert site.row(blocked).scan_sha256
    assert not site.row(blocked).is_blocked
    assert [decision.user for decision in site.identity_decisions(blocked)] == ["a", "b"]


def test_a_decision_needs_a_reason_and_a_question(site, blocked) -> None:
    """And it is not taken twice."""
    with pytest.raises(SiteError, match="reason"):
        site.decide_identity(blocked, same=True, user="dr", reason=" ")
    site.decide_identity(blocked, same=True, user="dr", reason="asked")
    with pytest.raises(SiteError, match="nothing to decide"):
        site.decide_identity(blocked, same=True, user="dr", reason="asked")


def test_a_study_that_cannot_be_read_costs_only_the_scan(site, bundle, tmp_path) -> None:
    """The record goes on, with a finding."""
    empty = tmp_path / "empty"
    empty.mkdir()
    row = site.row(register(site, Source(bundle(), empty), SCHEME).case_id)

    assert row.scan_sha256 is None
    assert "could not be used" in str(row.facts.findings[0])


def write_dataset(root, sessions=("1", "2")):
    """A BIDS dataset of one subject with a session a year from 2010 on, and a broken subject."""
    rng = np.random.default_rng(0)
    for name in ("sub-01", "sub-02"):
        lines = ["session_id\tacq_time"]
        for n, session in enumerate(sessions):
            anat = root / name / f"ses-{session}" / "anat"
            anat.mkdir(parents=True)
            path = anat / f"{name}_ses-{session}_T1w.nii.gz"
            voxels = rng.integers(0, 900, (20, 20, 20)).astype(np.int16)
            nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 3.0, 3.0, 1.0])), path)
            if name == "sub-02":
                path.write_bytes(b"broken")
            lines.append(f"ses-{session}\t{2010 + n}-03-01T09:00:00")
        (root / name / f"{name}_sessions.tsv").write_text("\n".join(lines))
    (root / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t70\tF\n")
    return root


def test_sessions_of_a_bids_subject_are_cases_of_one_patient(site, tmp_path) -> None:
    """With the age at each, so that there are centiles and a change per year."""
    sources, _ = bids_sources(write_dataset(tmp_path / "bids"))
    first, second = (register(site, source, SCHEME).case_id for source in sources[:2])
    rows = [site.row(case_id) for case_id in (first, second)]

    assert rows[0].patient_key == rows[1].patient_key
    assert [row.age_years for row in rows] == pytest.approx([70, 71], abs=0.01)
    assert site.prior_scan(second) is None  # it has no evidence yet
    with pytest.raises(ValueError, match="scan file"):
        register(site, sources[2], SCHEME)


def test_the_prior_scan_is_the_latest_one_before(site, tmp_path, make_case) -> None:
    """Neither a later one nor the case itself."""
    sources, _ = bids_sources(write_dataset(tmp_path / "bids", sessions="123"))
    ids = [register(site, source, SCHEME).case_id for source in sources[:3]]
    for case_id in ids:
        site.save_tokens(case_id, dict(make_case(1).tokens), findings=[], encoder="e")

    assert site.prior_scan(ids[0]) is None
    assert site.prior_scan(ids[2]).case_id == ids[1]
    assert site.prior_scan(ids[2]).day == dt.date(2011, 3, 1)


@pytest.mark.parametrize(("quality", "has_scan"), [(1.0, True), (0.0, False)])
def test_norms_get_the_age_at_the_scan_and_an_unusable_scan_is_absent(
    site, study, bundle, make_case, monkeypatch, quality, has_scan
) -> None:
    """The record may end years after the scan."""
    case_id = register(site, Source(bundle(), study), SCHEME).case_id
    nothing = np.zeros((50, 1), np.float32)
    segmentation = Segmentation(np.zeros((8, 8, 8), np.uint8), np.eye(4), nothing, nothing[:, 0])
    seen = []
    monkeypatch.setattr(intake, "segment", lambda net, prepared: segmentation)
    useless = ScanFinding("contrast", "The scan cannot be used and counts as absent.")
    found = ScanCheck(() if has_scan else (useless,), quality)
    monkeypatch.setattr(intake, "check_scan", lambda *_: found)
    monkeypatch.setattr(
        intake, "region_tokens",
        lambda _, age, sex, quality: seen.append((age, sex)) or make_case(1).tokens["scan"],
    )  # fmt: skip
    tools = Tools()
    tools.__dict__["segmenter"] = None
    prepare_case(site, case_id, tools, SCHEME)

    assert ("scan" in site.case(case_id).tokens) == has_scan
    assert seen == ([(pytest.approx(73.85, abs=0.01), "female")] if has_scan else [])
    assert any("counts as absent" in finding for finding in site.findings(case_id)) != has_scan
