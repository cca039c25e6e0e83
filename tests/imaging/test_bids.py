"""A BIDS dataset says which scans it has, of whom and when; what is not taken is told."""

import datetime as dt
import json
from pathlib import Path

import pytest

from imaging.bids import BidsDataset, is_bids, read_bids
from imaging.scan import ScanError


def write(root: Path, files: dict[str, object]) -> Path:
    """Files by their relative names: text, or JSON of anything else."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def said(dataset: BidsDataset) -> str:
    """All remarks."""
    return "\n".join(dataset.remarks)


def test_sessions_of_one_subject_have_their_own_dates_and_ages(tmp_path) -> None:
    """One age at the start and two dates make the age at each."""
    dataset = read_bids(write(tmp_path, {
        "dataset_description.json": {"Name": "Ageing"},
        "participants.tsv": "participant_id\tage\tsex\nsub-01\t70\tF\n",
        "sub-01/sub-01_sessions.tsv": "session_id\tacq_time\nses-a\t2010-03-01T10:00:00\n"
                                      "ses-b\t2014-03-01T10:00:00\n",
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz": "",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz": "",
    }))  # fmt: skip
    first, second = dataset.scans

    assert dataset.name == "Ageing"
    assert (first.name, first.sex, first.age_years) == ("sub-01/ses-a", "female", 70.0)
    assert second.acquisition.acquired_on == dt.date(2014, 3, 1)
    assert second.age_years == pytest.approx(74.0, abs=0.01)
    assert "one age" in said(dataset)


def test_an_age_of_the_session_itself_counts_more(tmp_path) -> None:
    """Whoever writes an age into sessions.tsv means that session."""
    dataset = read_bids(write(tmp_path, {
        "participants.tsv": "participant_id\tage\tsex\nsub-01\t70\tmale\n",
        "sub-01/sub-01_sessions.tsv": "session_id\tage\nses-1\t71.5\n",
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii": "",
    }))  # fmt: skip

    assert dataset.scans[0].age_years == 71.5


def test_the_day_of_the_scan_itself_counts_more_than_the_sessions(tmp_path) -> None:
    """A session may span days; scans.tsv says which."""
    dataset = read_bids(write(tmp_path, {
        "sub-01/sub-01_sessions.tsv": "session_id\tacq_time\nses-1\t2010-03-01T10:00:00\n",
        "sub-01/ses-1/sub-01_ses-1_scans.tsv":
            "filename\tacq_time\nanat/sub-01_ses-1_T1w.nii\t2010-03-05T09:00:00\n",
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii": "",
    }))  # fmt: skip

    assert dataset.scans[0].acquisition.acquired_on == dt.date(2010, 3, 5)


def test_sidecars_are_inherited_and_the_nearer_one_wins(tmp_path) -> None:
    """Times are seconds in BIDS and milliseconds here; another acquisition's facts stay away."""
    dataset = read_bids(write(tmp_path, {
        "T1w.json": {"MagneticFieldStrength": 3, "RepetitionTime": 2.3, "FlipAngle": 9},
        "acq-other_T1w.json": {"InversionTime": 0.5},
        "sub-01/anat/sub-01_T1w.json": {"EchoTime": 0.003, "FlipAngle": 8, "PatientName": "Ada"},
        "sub-01/anat/sub-01_T1w.nii.gz": "",
    }))  # fmt: skip
    acquisition = dataset.scans[0].acquisition

    assert acquisition.field_strength_t == 3
    assert acquisition.repetition_time_ms == pytest.approx(2300)
    assert acquisition.echo_time_ms == pytest.approx(3)
    assert acquisition.flip_angle_deg == 8
    assert acquisition.inversion_time_ms is None


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("sub-01_run-2_T1w", "lowest run"),
        ("sub-01_rec-norm_run-1_T1w", "not a reconstruction"),
        ("sub-01_acq-defaced_run-1_T1w", "not a defaced copy"),
        ("sub-01_ce-gadolinium_run-1_T1w", "no contrast agent"),
        ("sub-01_run-1_part-phase_T1w", "magnitude"),
    ],
)
def test_of_several_scans_the_plain_first_one_is_taken(tmp_path, other, why) -> None:
    """And the operator is told which and why."""
    names = ["sub-01_run-1_T1w", other]
    dataset = read_bids(write(tmp_path, {f"sub-01/anat/{name}.nii.gz": "" for name in names}))

    assert dataset.scans[0].path.name == "sub-01_run-1_T1w.nii.gz"
    assert f"({why}), not {other}.nii.gz" in said(dataset)


def test_what_is_not_taken_is_counted_and_no_foreign_name_is_told(tmp_path) -> None:
    """A file name outside the BIDS pattern may be a patient's."""
    dataset = read_bids(write(tmp_path, {
        "participants.tsv": "participant_id\tage\tsex\tdiagnosis\nsub-01\tn/a\tn/a\tAD\n",
        "sub-01/anat/sub-01_T1w.nii.gz": "",
        "sub-01/anat/sub-01_T2w.nii.gz": "",
        "sub-01/anat/Ada_Lovelace.nii.gz": "",
        "sub-02/func/sub-02_task-rest_bold.nii.gz": "",
        "sub-03/anat/sub-01_T1w.nii.gz": "",
        "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz": "",
    }))  # fmt: skip

    assert [scan.name for scan in dataset.scans] == ["sub-01"]
    assert (dataset.scans[0].age_years, dataset.scans[0].sex) == (None, None)
    for told in ("diagnosis not imported", "1 T2w", "1 bold", "1 of no BIDS name",
                 "1 T1w under another's name", "sub-02: no T1w scan", "derivatives/",
                 "1 of 1 scans without age or sex"):  # fmt: skip
        assert told in said(dataset)
    assert "Ada" not in said(dataset)


def test_broken_tables_and_sidecars_cost_only_what_they_say(tmp_path) -> None:
    """One bad text file sinks no scan."""
    dataset = read_bids(write(tmp_path, {
        "participants.tsv": "participant_id\tage\tsex\nsub-01\nsub-02\t300\tF\n",
        "sub-01/anat/sub-01_T1w.json": "{ not json",
        "sub-01/anat/sub-01_T1w.nii.gz": "",
        "sub-02/anat/sub-02_T1w.json": {"EchoTime": "long", "FlipAngle": True},
        "sub-02/anat/sub-02_T1w.nii.gz": "",
    }))  # fmt: skip

    assert [(s.age_years, s.sex) for s in dataset.scans] == [(None, None), (None, "female")]
    assert dataset.scans[1].acquisition.flip_angle_deg is None


def test_ages_in_months_are_not_years(tmp_path) -> None:
    """participants.json says in which unit the ages are."""
    dataset = read_bids(write(tmp_path, {
        "participants.tsv": "participant_id\tage\tsex\nsub-01\t18\tF\n",
        "participants.json": {"age": {"Units": "months"}},
        "sub-01/anat/sub-01_T1w.nii.gz": "",
    }))  # fmt: skip

    assert dataset.scans[0].age_years is None
    assert "not in years" in said(dataset)


def test_a_link_whose_content_was_not_fetched_is_told(tmp_path) -> None:
    """Datasets under git-annex come as links to nothing."""
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_T1w.nii.gz").symlink_to(tmp_path / "nowhere")
    dataset = read_bids(tmp_path)

    assert dataset.scans == ()
    assert "link to nothing" in said(dataset)


def test_a_folder_without_subjects_is_no_dataset(tmp_path) -> None:
    """A folder of anything else is left to the DICOM reader; an empty dataset is an error."""
    assert not is_bids(tmp_path)
    write(tmp_path, {"dataset_description.json": {"Name": "Empty"}})

    assert is_bids(tmp_path)
    with pytest.raises(ScanError, match="sub-LABEL"):
        read_bids(tmp_path)
