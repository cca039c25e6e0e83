"""A site keeps what it was given, says what it does not hold, and forgets no decision."""

import sqlite3
import stat

import numpy as np
import pytest

from clinical.diagnoses import load_scheme
from clinical.evidence import ClinicalTokens, SentencePointer
from clinical.record import Coding, Note, PatientRecord
from fusion.store import CaseRow, ScanFacts, Site, SiteError, labels_of, now


@pytest.fixture
def site(tmp_path):
    """A site with one case that has one note of one sentence."""
    site = Site.create(tmp_path / "site")
    note = Note("n1", Coding("http://loinc.org", "11488-4", "Consult"), "She forgets names.")
    record = PatientRecord("patient-7", "female", notes=(note,))
    row = CaseRow(case_id="abc123", patient_key=site.patient_key("patient-7"),
                  imported_at=now(), sex="female", diagnoses=["DE", "AD"])  # fmt: skip
    site.add_case(row, record, {})
    tokens = ClinicalTokens(
        np.full((1, 4), 0.5, np.float32), np.zeros(1, np.int64), np.ones(1, np.float32),
        (SentencePointer("n1", 0, 18),),
    )  # fmt: skip
    site.save_tokens("abc123", {"notes": tokens}, findings=["No scan."], encoder="e1")
    return site


def test_a_case_comes_back_as_it_was_kept(site) -> None:
    """Features, pointers and known diagnoses survive the round trip."""
    case = site.case("abc123", load_scheme())

    assert case.tokens["notes"].pointers == (SentencePointer("n1", 0, 18),)
    assert case.labels is not None
    assert case.labels.syndrome == 2
    assert case.labels.causes[0] is True
    assert sum(map(bool, case.labels.causes)) == 1


def test_the_record_comes_back_equal(site) -> None:
    """What the record says is kept to the letter."""
    assert site.record("abc123").notes[0].text == "She forgets names."


def test_only_the_owner_may_read_a_site(site) -> None:
    """Other users of the machine see nothing."""
    assert stat.S_IMODE(site.folder.stat().st_mode) == 0o700


def test_the_same_bytes_are_kept_once_and_unchanged(site) -> None:
    """The original is there for whoever doubts the import."""
    first = site.keep("bundles", b"{ }", ".json")
    assert site.keep("bundles", b"{ }", ".json") == first
    assert site.original("bundles", first).read_bytes() == b"{ }"


def test_an_override_without_a_reason_is_refused(site) -> None:
    """A physician who disagrees says why."""
    with pytest.raises(SiteError, match="reason"):
        site.add_review("abc123", user="dr", agrees=False, labels=("DE", "LBD"), reason="  ")
    assert site.reviews("abc123") == []


def test_decisions_pile_up_and_are_audited(site) -> None:
    """A second opinion does not erase the first."""
    site.add_review("abc123", user="a", agrees=True, labels=("DE", "AD"), reason="")
    site.add_review("abc123", user="b", agrees=False, labels=("DE", "LBD"), reason="visions")

    assert [r.user for r in site.reviews("abc123")] == ["a", "b"]
    assert [e.action for e in site.audit_trail()] == ["agree", "override"]
    assert site.row("abc123").reviewed


def test_patient_keys_differ_between_sites(site, tmp_path) -> None:
    """Nobody can link a patient over two hospitals by the key."""
    other = Site.create(tmp_path / "other")
    assert other.patient_key("patient-7") != site.patient_key("patient-7")
    assert site.patient_key("patient-7") == Site.open(site.folder).patient_key("patient-7")


def test_a_diagnosis_outside_the_scheme_is_refused() -> None:
    """A typing error in a label must not become a healthy patient."""
    with pytest.raises(SiteError, match="'XD'"):
        labels_of(["DE", "XD"], load_scheme())


@pytest.mark.parametrize("case_id", ["../../etc", "a/b", ""])
def test_a_case_id_cannot_leave_the_site(site, case_id) -> None:
    """An id from a URL is not a path."""
    with pytest.raises(SiteError):
        site.scan_path(case_id)


def test_a_folder_that_is_no_site_is_named(tmp_path) -> None:
    """The message says what is missing."""
    with pytest.raises(SiteError, match=r"site\.toml"):
        Site.open(tmp_path)


def test_a_site_of_an_earlier_version_opens(site) -> None:
    """Its database lacks what was added since; its cases are as they were."""
    with sqlite3.connect(site.folder / "site.db") as database:
        database.execute("ALTER TABLE cases DROP COLUMN scan_facts")
        database.execute("DROP TABLE identity_decisions")
    again = Site.open(site.folder)

    assert again.row("abc123").facts == ScanFacts()
    assert again.case("abc123").tokens
