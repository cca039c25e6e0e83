"""The command line: help with examples, and one clear line for every mistake."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from clinical.record import PatientRecord
from fusion import intake
from fusion.identity import Disagreement
from fusion.store import CaseRow, ScanFacts, Site, dump_facts, now
from imaging.dicom import DicomScan
from imaging.scan import Acquisition, Identity, Scan
from ui.accounts import Accounts
from ui.cli import guard_log, main

CASES = Path(__file__).parents[2] / "sample_data" / "site_cases"
BUNDLE = min((CASES / "bundles").iterdir())
COMMANDS = (
    "import", "train", "evaluate", "onboard", "review", "account", "federate", "identity", "adapt",
    "doctor",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys) -> None:
    """An example says more than a list of options."""
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])

    assert stop.value.code == 0
    assert f"consilium {command} " in capsys.readouterr().out.split("example:")[1]


def test_help_lists_the_commands(capsys) -> None:
    """A newcomer sees what there is."""
    with pytest.raises(SystemExit):
        main(["--help"])

    printed = capsys.readouterr().out
    assert all(command in printed for command in COMMANDS)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["import", "{site}", "{missing}.json"], "no such file"),
        (["import", "{site}"], "nothing to import"),
        (["import", "{site}", "--pairs", "{missing}.csv"], "No such file"),
        (["doctor", "{missing}"], "not a site"),
        (["review", "{missing}"], "not a site"),
        (["evaluate", "{missing}"], "not a site"),
        (["train", "{missing}", "--out", "{missing}/m"], "not a site"),
        (["import", "{site}", "--scan", __file__, "--text-encoder", "{missing}"], "is no folder"),
        (["federate", "{missing}", "{site}", "--out", "{missing}/m"], "neither a hub nor"),
        (["adapt", "{missing}", "--text-encoder", "{site}", "--out", "{missing}/m"], "not a site"),
    ],
)
def test_a_mistake_is_one_clear_line_and_a_code(call, said, tmp_path, capsys) -> None:
    """No traceback, no success."""
    places = {"site": str(tmp_path / "site"), "missing": str(tmp_path / "missing")}
    code = main([part.format(**places) for part in call])

    error = capsys.readouterr().err.strip()
    assert code == 2
    assert error.startswith("consilium: ")
    assert said in error
    assert "\n" not in error


def test_a_file_that_is_no_bundle_is_refused_and_the_rest_goes_on(tmp_path, capsys) -> None:
    """A bad file never sinks a run, and the exit code tells."""
    bad = tmp_path / "bad.json"
    bad.write_text("{ not json")
    code = main(["import", str(tmp_path / "site"), str(bad)])

    assert code == 1
    assert f"refused: {bad}" in capsys.readouterr().err


def test_an_account_is_added_by_its_password_typed_twice(tmp_path, monkeypatch) -> None:
    """The user can log in, and a slip of the finger changes nothing."""
    folder = Site.create(tmp_path / "site").folder
    typed = iter(["a long enough password"] * 2 + ["one long password", "another password"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))

    assert main(["account", str(folder), "dr.lee"]) == 0
    assert main(["account", str(folder), "dr.lee"]) == 2
    assert Accounts(folder / "accounts.json").log_in("dr.lee", "a long enough password")


def test_a_broken_scan_alone_is_refused(tmp_path, capsys) -> None:
    """Without a record there would be nothing left of the case."""
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not a scan")

    assert main(["import", str(tmp_path / "site"), "--scan", str(bad)]) == 1
    assert f"refused: {bad}" in capsys.readouterr().err
    assert Site.open(tmp_path / "site").cases() == []


def test_a_case_that_cannot_be_prepared_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    """The failing case is named, the next one gets its evidence."""
    cases = Path(__file__).parents[2] / "sample_data" / "site_cases" / "bundles"
    prepare, seen = intake.prepare_case, []

    def failing_once(site, case_id, tools, scheme):
        seen.append(case_id)
        if len(seen) == 1:
            raise ValueError("broken evidence")
        prepare(site, case_id, tools, scheme)

    monkeypatch.setattr(intake, "prepare_case", failing_once)
    bundles = [str(path) for path in sorted(cases.iterdir())[:2]]

    assert main(["import", str(tmp_path / "site"), *bundles]) == 1
    assert f"not prepared: case {seen[0]}: broken evidence" in capsys.readouterr().err
    assert Site.open(tmp_path / "site").row(seen[1]).modalities


@pytest.fixture
def no_networks(monkeypatch) -> None:
    """Preparing is left out."""
    monkeypatch.setattr(intake, "unprepared", lambda *_: [])


def test_a_bids_dataset_is_imported_by_its_folder(tmp_path, no_networks, capsys) -> None:
    """One case a session; the broken subject is named by its label, and the others go on."""
    root = tmp_path / "bids"
    for name in ("sub-01", "sub-02"):
        (root / name / "anat").mkdir(parents=True)
        path = root / name / "anat" / f"{name}_T1w.nii"
        voxels = np.arange(8000, dtype=np.int16).reshape(20, 20, 20)
        nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 3.0, 3.0, 1.0])), path)
    path.write_bytes(b"broken")

    assert main(["import", str(tmp_path / "site"), str(root)]) == 1
    said = capsys.readouterr()
    assert "BIDS dataset: 2 T1w scans" in said.out
    assert "sub-01, no record" in said.out
    assert "refused: sub-02: scan" in said.err
    assert len(Site.open(tmp_path / "site").cases()) == 1


def test_a_dicom_folder_goes_to_the_dicom_reader(tmp_path, no_networks, monkeypatch, capsys):
    """Alone or with a record; why its series was chosen is printed."""
    folder = tmp_path / "study"
    folder.mkdir()
    scan = Scan(np.arange(8000, dtype=np.float32).reshape(20, 20, 20), np.diag([3.0, 3, 3, 1]))
    found = DicomScan(
        scan, Acquisition(), Identity(), "series 3: 3D", ("series 4 refused: not MR",)
    )
    monkeypatch.setattr(intake, "read_dicom", lambda source: found)

    assert main(["import", str(tmp_path / "site"), str(folder)]) == 0
    assert main(["import", str(tmp_path / "site"), str(BUNDLE), "--scan", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("chosen: series 3: 3D") == printed.count("series 4 refused") == 2
    assert len(Site.open(tmp_path / "site").cases()) == 2


def test_a_blocked_case_is_counted_and_decided(tmp_path, capsys) -> None:
    """`doctor` names it, `identity` opens it, and the audit trail says who did."""
    site = Site.create(tmp_path / "site")
    facts = ScanFacts(disagreements=(Disagreement("sex", "female", "male"),))
    row = CaseRow(case_id="abc123", patient_key="k", imported_at=now(), sex="female",
                  scan_sha256="f" * 64, scan_facts=dump_facts(facts))  # fmt: skip
    site.add_case(row, PatientRecord("p", "female"), {})
    folder = str(site.folder)

    assert main(["doctor", folder]) == 1
    assert "blocked       1 cases" in capsys.readouterr().out
    call = ["identity", folder, "abc123", "--same", "--reason", "asked", "--user", "dr.lee"]
    assert main(call) == 0
    assert not site.row("abc123").is_blocked
    assert site.audit_trail()[-1].user == "dr.lee"
    assert main(call) == 2


def test_what_another_library_logs_loses_its_identifiers(monkeypatch) -> None:
    """A library's message goes through the rules; ours, which name a case by its id, do not."""
    seen = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    monkeypatch.setattr(logging.getLogger(), "handlers", [Kept()])
    guard_log()
    logging.getLogger("someone.else").warning("GET /Patient?phone=%s", "+44 20 7946 0958")
    logging.getLogger("fusion.intake").warning("case %s: no scan", "107f791cc275")
    assert "7946" not in seen[0]
    assert seen[1] == "case 107f791cc275: no scan"
