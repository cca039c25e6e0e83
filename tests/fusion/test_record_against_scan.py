"""Record against scan, and a finding that lowers the weight of what it doubts until decided."""

import datetime as dt
import json
import sqlite3

import numpy as np
import pytest

from clinical.findings import DOUBTFUL, UNSURE, Finding, Source
from clinical.notes import language
from clinical.record import Coding, Note, PatientRecord
from fusion.consistency import of_identity, of_scan, scan_findings, weights
from fusion.explain import explain
from fusion.identity import Disagreement
from fusion.store import CaseRow, Site, SiteError, now
from imaging.check import ScanFinding
from imaging.encoder import RegionPointer
from imaging.scan import Acquisition

DAY = dt.date(2024, 3, 9)
NOWHERE = Acquisition()


def record(text: str, day: dt.date = DAY) -> PatientRecord:
    """A woman of 73 with one note."""
    note = Note("n1", Coding("", "", ""), text, day, language(text))
    return PatientRecord("p1", "female", birth_date=dt.date(1950, 5, 4), notes=(note,))


def regions(left: float, right: float, name: str = "hippocampus") -> tuple[RegionPointer, ...]:
    """A structure at two centiles, with volumes that fit them roughly."""
    return tuple(
        RegionPointer(f"{side} {name}", 2500.0 + 15.0 * centile, float(centile), 0.9)
        for side, centile in (("left", left), ("right", right))
    )


@pytest.mark.parametrize(
    ("text", "left", "right", "template"),
    [
        ("MRI shows marked hippocampal atrophy.", 60, 55, "atrophy absent"),
        ("双侧海马明显萎缩。", 60, 55, "atrophy absent"),
        ("No hippocampal atrophy.", 1, 8, "atrophy missed"),
        ("海马体积正常。", 1, 8, "atrophy missed"),
        ("The hippocampus is smaller on the left.", 80, 2, "atrophy side"),
    ],
)
def test_a_reader_who_is_contradicted_by_the_measures_is_found(text, left, right, template) -> None:
    """With the sentence and the region as its two sides."""
    (finding,) = scan_findings(record(text), regions(left, right), NOWHERE, 73.0)
    assert finding.template == template
    assert (finding.first[0].kind, finding.second[0].kind) == ("note", "region")


@pytest.mark.parametrize(
    ("text", "left", "right"),
    [
        ("MRI shows marked hippocampal atrophy.", 60, 3),  # one side is enough
        ("Mild hippocampal atrophy.", 60, 55), ("No hippocampal atrophy.", 12, 30),
        ("The hippocampus is smaller on the left.", 20, 30),
        ("Possible marked hippocampal atrophy.", 60, 55),
    ],
)  # fmt: skip
def test_a_reader_who_may_be_right_is_not(text, left, right) -> None:
    """Readers and measures differ a little."""
    assert scan_findings(record(text), regions(left, right), NOWHERE, 73.0) == ()


def test_ventricles_count_the_other_way() -> None:
    """Large ones are the loss."""
    small, large = (regions(c, c, "lateral ventricle") for c in (40, 99.5))
    wide, normal = record("Severe ventricular enlargement."), record("脑室大小正常。")
    assert [f.template for f in scan_findings(wide, small, NOWHERE)] == ["ventricle absent"]
    assert [f.template for f in scan_findings(normal, large, NOWHERE)] == ["ventricle missed"]
    assert scan_findings(wide, large, NOWHERE) == scan_findings(normal, small, NOWHERE) == ()


def test_an_old_note_or_an_unsure_segmentation_contradicts_nothing() -> None:
    """Hippocampi shrink; and a volume that is unsure is no witness."""
    old = record("No hippocampal atrophy.", dt.date(2018, 1, 1))
    unsure = tuple(RegionPointer(p.region, p.volume_mm3, p.centile, 0.4) for p in regions(1, 1))
    assert scan_findings(old, regions(1, 1), Acquisition(acquired_on=DAY)) == ()
    assert scan_findings(record("No hippocampal atrophy."), unsure, NOWHERE) == ()


def test_a_scan_before_birth_or_tomorrow_is_found() -> None:
    """By its header's day."""
    days = [dt.date(1934, 1, 1), dt.date(2090, 1, 1), DAY]
    said = [scan_findings(record("Seen."), (), Acquisition(acquired_on=day)) for day in days]
    assert [[f.template for f in found] for found in said] == [
        ["scan before birth"], ["scan future"], [],
    ]  # fmt: skip


def test_other_makers_findings_speak_both_languages() -> None:
    """Of the scan's grade and of whose it is."""
    noise = of_scan(ScanFinding("noise", "Noise is 12% of the signal."))
    sex = of_identity(Disagreement("sex", "female", "male"), "same")
    assert (str(noise), noise.say("zh")[:4]) == ("Noise is 12% of the signal.", "影像噪声")
    assert str(sex) == "sex: record female, scan header male; found to be this patient's scan"
    assert "影像" in sex.say("zh")


SCORE = Finding(
    "score", "score", (("analyte", "72106-8"),), (Source("note", "note", 0, 9),),
    (Source("observation", "o1"),), (UNSURE, DOUBTFUL),
)  # fmt: skip
AGE = Finding("age", "age", (), (Source("note", "note", 0, 3),), (Source("patient", "birth date"),),
              (UNSURE, 1.0))  # fmt: skip


def test_doubt_falls_on_the_tokens_that_rest_on_the_doubted(make_case) -> None:
    """On one sentence of four, on one analyte of four, on all of a note that may be another's."""
    tokens = make_case(1).tokens
    left = weights(tokens, [SCORE], {})
    assert (left["notes"], left["labs"]) == ((0.5, 1, 1, 1), (1, 0.25, 1, 1))
    assert set(left["scan"]) == set(left["history"]) == {1.0}
    assert weights(tokens, [AGE], {})["notes"] == (0.5,) * 4
    assert weights(tokens, [SCORE, AGE], {})["notes"] == (0.25, 0.5, 0.5, 0.5)


@pytest.fixture
def site(tmp_path, make_case) -> Site:
    """A case of random evidence with a score that its note and its codes give differently."""
    made = Site.create(tmp_path / "site")
    row = CaseRow(case_id="abc123", patient_key="k", imported_at=now(), sex="female")
    made.add_case(row, record("MMSE 27/30."), {})
    made.save_tokens("abc123", dict(make_case(1).tokens), findings=[SCORE], encoder="e")
    return made


def decide(site: Site, verdict, key: str = SCORE.key) -> None:
    """What a physician says."""
    site.resolve("abc123", key, verdict=verdict, user="dr.lee", reason="seen on the sheet")


def test_a_finding_lowers_the_attention_of_what_it_doubts(
    site, make_case, model, calibrator
) -> None:
    """From the stored case to the explanation, before and after a person has decided."""

    def share(case, modality: str, index: int) -> float:
        explained = explain(model, calibrator, case)
        pieces = explained.evidence[0]
        return sum(p.share for p in pieces if (p.modality, p.index) == (modality, index))

    untouched = share(make_case(1), "labs", 1)
    doubted = share(site.case("abc123"), "labs", 1)
    decide(site, "unfounded")
    restored = share(site.case("abc123"), "labs", 1)
    assert doubted < 0.5 * untouched
    assert restored == pytest.approx(untouched)


def test_what_is_found_wrong_is_taken_out_and_the_other_side_restored(site, make_case) -> None:
    """The note is right: the coded score goes, the sentence weighs as before."""
    decide(site, "first")
    tokens, before = site.case("abc123").tokens, make_case(1).tokens
    assert [p.observation_ids for p in tokens["labs"].pointers] == [("o0",), ("o2",), ("o3",)]
    np.testing.assert_array_equal(tokens["labs"].features, before["labs"].features[[0, 2, 3]])
    np.testing.assert_array_equal(tokens["notes"].quality, before["notes"].quality)
    assert len(site.evidence("abc123")["labs"].pointers) == 4  # nothing is lost


def test_the_later_decision_counts_and_both_are_kept(site) -> None:
    """Who, when, which and why; in the audit trail, too."""
    decide(site, "first")
    decide(site, "second")
    assert len(site.case("abc123").tokens["labs"].pointers) == 4
    assert len(site.case("abc123").tokens["notes"].pointers) == 3
    kept = [(d.user, d.verdict, d.reason) for d in site.finding_decisions("abc123")]
    assert kept == [("dr.lee", v, "seen on the sheet") for v in ("first", "second")]
    assert [entry.action for entry in site.audit_trail()] == ["finding: first", "finding: second"]


def test_a_decision_needs_a_reason_and_a_finding(site) -> None:
    """And changes nothing without."""
    with pytest.raises(SiteError, match="reason"):
        site.resolve("abc123", SCORE.key, verdict="first", user="dr", reason=" ")
    with pytest.raises(SiteError, match="no such finding"):
        decide(site, "first", AGE.key)
    assert site.finding_decisions("abc123") == []


def test_a_modality_of_which_nothing_is_left_is_missing(site, make_case) -> None:
    """Not present with weight zero, which the network must not see."""
    tokens = dict(make_case(1, n=1).tokens)
    wrong = Finding("implausible", "implausible", (), (Source("observation", "o0"),))
    site.save_tokens("abc123", tokens, findings=[wrong], encoder="e")
    decide(site, "second", wrong.key)
    assert set(site.case("abc123").tokens) == {"scan", "notes", "history"}


def test_findings_of_an_earlier_version_still_load(site) -> None:
    """They were bare sentences."""
    with sqlite3.connect(site.folder / "site.db") as database:
        database.execute("UPDATE cases SET findings = ?", (json.dumps(["No scan."]),))
    again = Site.open(site.folder)
    assert again.findings("abc123") == ("No scan.",)
    assert set(weights(again.evidence("abc123"), again.row("abc123").found, {})["labs"]) == {1.0}
