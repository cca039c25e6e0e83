"""Tables and FHIR servers by the command line: counted, named by line, never quoted."""

from pathlib import Path

import pytest

from fusion import intake
from fusion.store import Site
from tests.clinical.fhir_server import MRN, PATIENT, FhirServer, busy
from ui.cli import main

MAPPINGS = Path(__file__).parents[2] / "sample_data" / "mappings"
HEART = ["--mapping", str(MAPPINGS / "heart_uci.toml")]
DIAGNOSES = ["--diagnoses", str(MAPPINGS / "heart_uci_diagnoses.toml")]
ROWS = "63,1,1,145,233,1,2,150,0,2.3,3,0,6,0\n67,1,4,160,-9,0,2,108,1,1.5,2,3,3,2\nZweig,1\n"


@pytest.fixture
def table(tmp_path) -> Path:
    """Two rows and one that is none."""
    path = tmp_path / "clinic.csv"
    path.write_text(ROWS)
    return path


@pytest.fixture
def no_networks(monkeypatch) -> None:
    """Preparing is left out."""
    monkeypatch.setattr(intake, "unprepared", lambda *_: [])


def test_a_table_is_imported_row_by_row(tmp_path, table, no_networks, capsys) -> None:
    """Each row and column is accounted for; the site knows what it diagnoses."""
    call = ["import", str(tmp_path / "site"), str(table), *HEART, *DIAGNOSES]

    assert main(call) == 1  # one row was refused
    said = capsys.readouterr()
    assert "2 rows accepted, 1 refused" in said.out
    assert "refused  line 3: has 2 cells, the table 14 columns" in said.out
    assert "column chol: 1 used, 1 missing" in said.out
    assert "Zweig" not in said.out + said.err
    site = Site.open(tmp_path / "site")
    assert [row.diagnoses for row in site.cases()] in ([["NO_CAD"], ["CAD"]], [["CAD"], ["NO_CAD"]])
    assert [label.key for label in site.scheme.labels] == ["NO_CAD", "CAD"]

    assert main(["import", str(site.folder), str(table), *HEART]) == 1
    assert "already here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["{table}"], "--mapping FILE"),
        (["{table}", "--mapping", "{site}.toml"], "cannot be read"),
        (["{table}", *HEART, "--without", "colour"], "cannot be left out"),
        (["--server", "https://fhir.example.org"], "--patient"),
        (["--patient", "7"], "--server"),
        (["--server", "http://fhir.example.org", "--patient", "7"], "https://"),
    ],
)
def test_a_mistake_is_one_clear_line(call, said, tmp_path, table, capsys) -> None:
    """Before a site is made."""
    places = {"site": str(tmp_path / "site"), "table": str(table)}
    code = main(["import", places["site"], *(part.format(**places) for part in call)])

    error = capsys.readouterr().err.strip()
    assert (code, said in error, "\n" in error) == (2, True, False)
    assert not (tmp_path / "site").exists()


def test_a_site_keeps_to_what_it_diagnoses(tmp_path, table, no_networks, capsys) -> None:
    """A site with cases does not change its question, and sites of two questions do not mix."""
    heart, memory = str(tmp_path / "heart"), str(tmp_path / "memory")
    main(["import", heart, str(table), *HEART, *DIAGNOSES])
    Site.create(Path(memory))

    other = ["--diagnoses", str(MAPPINGS / "oasis2_diagnoses.toml")]
    assert main(["import", heart, str(table), *HEART, *other]) == 2
    assert "diagnoses something else" in capsys.readouterr().err
    assert main(["train", heart, memory, "--out", str(tmp_path / "model")]) == 2
    assert "different things" in capsys.readouterr().err


@pytest.fixture
def hospital():
    """A running FHIR server."""
    made = FhirServer()
    running = made.start()
    yield made
    running.shutdown()
    running.server_close()


def test_a_patient_is_fetched_from_a_server(tmp_path, hospital, no_networks, capsys, monkeypatch):
    """By the command, with the token of the environment; no output has the identifier."""
    hospital.token = "sesame"
    monkeypatch.setenv("CONSILIUM_FHIR_TOKEN", "sesame")
    call = ["import", str(tmp_path / "site"), "--server", hospital.url, "--patient", MRN]

    assert main(call) == 0
    said = capsys.readouterr()
    assert "patient 1 of 1: 5 pages" in said.out
    assert not any(secret in said.out + said.err for secret in (MRN, PATIENT, "sesame", "Zweig"))
    site = Site.open(tmp_path / "site")
    assert len(site.record(site.cases()[0].case_id).observations) == 5
    assert not any((site.folder / "downloads").iterdir())
    assert main(call) == 0
    assert len(site.cases()) == 1


def test_a_patient_that_cannot_be_had_costs_only_itself(tmp_path, hospital, no_networks, capsys):
    """The next call goes on with the other; no page is left with a telling name."""
    listed = tmp_path / "patients.txt"
    listed.write_text(f"99-4711\n{PATIENT}\n")
    hospital.faults["$everything 2"] = [busy(401)]
    call = ["import", str(tmp_path / "site"), "--server", hospital.url, "--patients", str(listed)]

    assert main(call) == 1
    error = capsys.readouterr().err
    assert "refused: patient 1 of 2: the server has no patient" in error
    assert "refused: patient 2 of 2: $everything page 2: the server wants a valid token" in error
    assert not any(PATIENT in str(path) for path in (tmp_path / "site").rglob("*"))
    assert main(call) == 1
    assert len(Site.open(tmp_path / "site").cases()) == 1
