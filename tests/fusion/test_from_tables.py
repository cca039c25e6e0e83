"""Rows of a table become cases of a site, and a network learns from the record alone."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from clinical.diagnoses import load_scheme
from clinical.mapping import load_mapping
from fusion.develop import develop, evaluate_folder
from fusion.intake import IntakeError, Source, Tools, prepare_case, register, table_sources
from fusion.store import SCHEME, Site
from fusion.train import TrainConfig

MAPPINGS = Path(__file__).parents[2] / "sample_data" / "mappings"
MEANING = MAPPINGS / "heart_uci.toml"
HEART = load_scheme(MAPPINGS / "heart_uci_diagnoses.toml")


@pytest.fixture(scope="module")
def tools() -> Tools:
    """The text encoder, loaded once."""
    return Tools()


def clinic(path: Path, n: int) -> Path:
    """A made-up table in UCI's form: the ill have a low heart rate and angina."""
    rng = random.Random(3)
    lines = []
    for k in range(n):
        ill = k % 2
        rate, angina = (rng.gauss(120 if ill else 170, 12), int(rng.random() < 0.2 + 0.6 * ill))
        cells = [rng.randint(40, 70), rng.randint(0, 1), rng.randint(1, 4), 130, "?", 0, 0,
                 round(rate), angina, 1.0, -9, "?", 3, ill * rng.randint(1, 4)]  # fmt: skip
        lines.append(",".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def table(tmp_path) -> Path:
    """Four rows."""
    return clinic(tmp_path / "clinic.csv", 4)


def heart_site(folder: Path) -> Site:
    """A site that diagnoses heart disease."""
    site = Site.create(folder)
    (site.folder / SCHEME).write_text((MAPPINGS / "heart_uci_diagnoses.toml").read_text())
    return site


def rows_of(site: Site, table: Path) -> list[Source]:
    """The sources of a table."""
    return table_sources(site, table, load_mapping(MEANING), MEANING)[0]


def test_a_row_is_the_same_case_wherever_and_whenever_it_comes(tmp_path, table) -> None:
    """Its id is of its content and tells nothing; a second import changes nothing."""
    here, there = (heart_site(tmp_path / name) for name in ("here", "there"))
    first = [register(here, source, HEART) for source in rows_of(here, table)]
    again = [register(here, source, HEART) for source in rows_of(here, table)]
    other = [register(there, source, HEART) for source in rows_of(there, table)]

    ids = [registered.case_id for registered in first]
    assert len(set(ids)) == 4
    assert ids == [r.case_id for r in again] == [r.case_id for r in other]
    assert not any(registered.changed for registered in again)
    assert all(len(i) == 12 and i.isalnum() for i in ids)
    assert len({row.patient_key for row in [*here.cases(), *there.cases()]}) == 8


def test_the_table_and_the_meaning_of_its_columns_are_kept(tmp_path, table) -> None:
    """Whoever doubts a case finds its line in the bytes that came."""
    site = heart_site(tmp_path / "site")
    case_id = register(site, rows_of(site, table)[2], HEART).case_id

    report = site.import_report(case_id)
    assert site.original("tables", report["table_sha256"]).read_bytes() == table.read_bytes()
    assert site.original("tables", report["mapping_sha256"]).read_bytes() == MEANING.read_bytes()
    assert report["lines"] == [3]
    assert report["accepted"]["Observation"] > 5


def test_known_diagnoses_stay_out_of_the_record(tmp_path, table, tools) -> None:
    """They are the case's labels and no evidence (decision 4)."""
    site = heart_site(tmp_path / "site")
    case_id = register(site, rows_of(site, table)[1], HEART).case_id
    prepare_case(site, case_id, tools, HEART)

    folder = site.case_folder(case_id)
    assert site.row(case_id).diagnoses == ["CAD"]
    assert "CAD" not in (folder / "record.json").read_text()
    pointers = json.dumps([str(p) for t in site.case(case_id).tokens.values() for p in t.pointers])
    assert "num" not in pointers.replace("number", "").replace("Number", "")
    assert {"labs", "history"} == set(site.case(case_id).tokens)


def test_a_source_of_nothing_is_refused(tmp_path) -> None:
    """No file and no record."""
    with pytest.raises(IntakeError, match="nothing to import"):
        register(Site.create(tmp_path / "site"), Source(), HEART)


def test_a_network_learns_from_a_table_and_is_scored_on_patients_it_never_saw(
    tmp_path, tools
) -> None:
    """From rows to a model folder and back, with a scheme of the site's own."""
    site = heart_site(tmp_path / "site")
    for source in rows_of(site, clinic(tmp_path / "clinic.csv", 100)):
        prepare_case(site, register(site, source, HEART).case_id, tools, HEART)
    cases = site.training_cases(site.scheme)
    config = TrainConfig(epochs=8, batch_size=4, learning_rate=1e-3, fractions=(0.5, 0.1, 0.1, 0.3))
    out = tmp_path / "model"
    developed = develop(
        cases, site.scheme, out, config, trained_on="made up", text_encoder=tools.encoder.name,
        text_encoder_sha256=tools.encoder.sha256,
    )  # fmt: skip

    scores = {score.key: score for score in developed.evaluation.labels}
    assert set(scores) == {"NO_CAD", "CAD"}
    assert scores["CAD"].auroc > 0.9
    again = {score.key: score.auroc for score in evaluate_folder(out, cases).evaluation.labels}
    assert again["CAD"] == scores["CAD"].auroc


def test_a_missing_cell_is_absent_and_no_value(tmp_path, table, tools) -> None:
    """A cell that says nothing makes no token; the others stay what they were."""
    site = heart_site(tmp_path / "site")
    full = table.read_text().splitlines()[0]
    (tmp_path / "less.csv").write_text(full.replace(",130,", ",?,", 1) + "\n")
    found = []
    for path in (table, tmp_path / "less.csv"):
        case_id = register(site, rows_of(site, path)[0], HEART).case_id
        prepare_case(site, case_id, tools, HEART)
        found.append(site.case(case_id))

    told = [{p.loinc for p in case.tokens["labs"].pointers} for case in found]
    assert told[0] - told[1] == {"8480-6"}
    assert told[1] < told[0]
    history = [case.tokens["history"].features for case in found]
    np.testing.assert_array_equal(*history)
