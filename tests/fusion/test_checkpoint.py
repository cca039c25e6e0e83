"""A model folder comes back as it was, or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clinical.diagnoses import load_scheme
from fusion.calibrate import Calibrator
from fusion.checkpoint import Checkpoint, CheckpointError, ModelCard, load, save
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig

CARD = ModelCard("random numbers", 60, "made-up", "ab" * 32, "2026-11-23", notes={"dice": 0.5})


@pytest.fixture
def folder(tmp_path: Path, model: DiagnosticModel, calibrator: Calibrator) -> Path:
    """A saved model."""
    save(tmp_path / "model", Checkpoint(model, calibrator, load_scheme(), CARD))
    return tmp_path / "model"


def test_a_model_comes_back_exactly(
    folder: Path, model: DiagnosticModel, calibrator: Calibrator
) -> None:
    """Every weight, setting, temperature, diagnosis and word."""
    found = load(folder, CARD.text_encoder_sha256)
    torch.testing.assert_close(found.model.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert found.model.config == model.config
    assert found.calibrator.to_json() == calibrator.to_json()
    assert found.scheme == load_scheme()
    assert found.card == CARD


def test_a_model_of_before_there_was_a_memory_has_none(
    tmp_path: Path, model: DiagnosticModel, calibrator: Calibrator
) -> None:
    """Its settings do not speak of one, and it answers as it did."""
    older = DiagnosticModel(replace(model.config, memory=False))
    save(tmp_path, Checkpoint(older, calibrator, load_scheme(), CARD))
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings.pop("memory") is False
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert load(tmp_path).model.config == older.config


def test_a_folder_holds_plain_files_only(folder: Path) -> None:
    """Nothing in it can run."""
    assert {p.name for p in folder.iterdir()} == {
        "model.safetensors",
        "config.json",
        "calibration.json",
        "diagnoses.toml",
        "model_card.json",
    }


def test_another_text_encoder_is_refused(folder: Path) -> None:
    """Its sentences would mean something else to this network."""
    with pytest.raises(CheckpointError, match="made-up"):
        load(folder, "cd" * 32)


def test_another_table_of_analytes_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows would be other analytes to this network."""
    monkeypatch.setattr("fusion.checkpoint.table_version", lambda: "another")
    with pytest.raises(CheckpointError, match="another table of analytes"):
        load(folder)


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "calibration.json", "diagnoses.toml", "model_card.json"],
)
@pytest.mark.parametrize("content", [None, b"", b"[1]", b"\xff\xfe"])
def test_a_missing_or_damaged_file_is_one_clear_error(
    folder: Path, name: str, content: bytes | None
) -> None:
    """Whatever is wrong with whichever file."""
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=str(folder)):
        load(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    """The first that does not fit is named."""
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "bias": torch.zeros(5)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="bias first"):
        load(folder)


def test_a_weight_that_is_not_finite_is_refused(folder: Path) -> None:
    """A network ruined in training must not diagnose."""
    weights = load_file(folder / "model.safetensors")
    weights["bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        load(folder)


def test_a_setting_of_another_version_is_refused(folder: Path) -> None:
    """Unknown settings are not silently dropped."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "depth": 9}))
    with pytest.raises(CheckpointError, match="other fields"):
        load(folder)


def test_a_network_its_scheme_cannot_name_is_not_saved(
    tmp_path: Path, calibrator: Calibrator
) -> None:
    """Two causes cannot be named by ten."""
    model = DiagnosticModel(replace(ModelConfig(), n_causes=2))
    with pytest.raises(CheckpointError, match="10"):
        save(tmp_path, Checkpoint(model, calibrator, load_scheme(), CARD))
