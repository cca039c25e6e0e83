"""The network on engines without torch: the same diagnoses, the same explanations."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion import engines
from fusion.calibrate import Calibrator
from fusion.case import MODALITIES, Case, CaseError, Modality, collate
from fusion.engines import EngineError, engine_named, load_network
from fusion.explain import explain
from fusion.model import DiagnosticModel
from fusion.network import CheckpointError, Form, ModelConfig, Network, infer
from fusion.weights import write_weights

EXPORTED = ("openvino", "onnx")
SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)]
CLOSE = 1e-3  # in probability and in attention share
MakeCase = Callable[..., Case]
Shape = tuple[Form, bool]  # and whether sentences remember the other chunks
SHAPES: list[Shape] = [("soft", True), ("hard", True), ("plain", False)]


def stored(folder: Path, form: Form = "soft", *, memory: bool = True) -> ModelConfig:
    """A network whose every weight matters, in a folder."""
    torch.manual_seed(0)
    config = ModelConfig(text_dim=16, dim=48, heads=4, layers=2, form=form, memory=memory)
    model = DiagnosticModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder.mkdir(exist_ok=True)
    write_weights(folder / engines.WEIGHTS, model)
    return config


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape[0]}-{shape[1]}")
def networks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Network]:
    """The same network on every engine."""
    folder = tmp_path_factory.mktemp("model")
    config = stored(folder, request.param[0], memory=request.param[1])
    return {
        name: load_network(folder, config, engine=name, kept=folder / "engines")
        for name in ("torch", *EXPORTED)
    }


@pytest.mark.parametrize("engine", EXPORTED)
@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_every_subset_is_diagnosed_and_explained_alike(
    networks: dict[str, Network],
    engine: str,
    subset: tuple[Modality, ...],
    make_case: MakeCase,
    calibrator: Calibrator,
) -> None:
    """Probability, attention and the effect of every token, to within a thousandth."""
    case = make_case(3, subset, n=5)
    wanted, found = (explain(networks[name], calibrator, case) for name in ("torch", engine))
    np.testing.assert_allclose(found.probability, wanted.probability, atol=CLOSE)
    assert found.shares == pytest.approx(wanted.shares, abs=CLOSE)
    for mine, theirs in zip(found.evidence, wanted.evidence, strict=True):
        by_token = {(e.modality, e.index): e for e in theirs}
        for e in mine:
            same = by_token[e.modality, e.index]
            assert e.share == pytest.approx(same.share, abs=CLOSE)
            assert e.effect == pytest.approx(same.effect, abs=CLOSE)


@pytest.mark.parametrize("engine", EXPORTED)
def test_many_cases_are_asked_together_as_one_by_one(
    networks: dict[str, Network], engine: str, make_case: MakeCase
) -> None:
    """Padded to a larger neighbour, with modalities that some lack."""
    cases = [make_case(n, MODALITIES[n % 4 :], n=2 + n) for n in range(5)]
    wanted, present = infer(networks["torch"], cases)
    found, same = infer(networks[engine], cases, batch_size=3)
    np.testing.assert_allclose(found, wanted, atol=CLOSE)
    np.testing.assert_array_equal(present, same)


@pytest.mark.parametrize("engine", EXPORTED)
def test_what_stands_where_a_token_is_absent_does_not_matter(
    networks: dict[str, Network], engine: str, make_case: MakeCase
) -> None:
    """Not even where it is no number."""
    batch = collate([make_case(1, n=3)])
    notes = batch.modalities["notes"]
    present = notes.present.copy()
    present[0, 1] = False
    answers = []
    for placeholder in (0.0, np.nan):
        features = notes.features.copy()
        features[0, 1] = placeholder
        spoiled = replace(notes, features=features, present=present)
        evidence = networks[engine].encode(
            replace(batch, modalities={**batch.modalities, "notes": spoiled})
        )
        answers.append(networks[engine].fuse(evidence, evidence.present).logits)
    assert np.isfinite(answers[1]).all()
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("engine", EXPORTED)
def test_evidence_of_another_width_is_refused(
    networks: dict[str, Network], engine: str, make_case: MakeCase
) -> None:
    """Said in words, not by the engine."""
    case = make_case(1, ("notes",))
    wider = replace(case.tokens["notes"], features=np.zeros((4, 20), np.float32))
    with pytest.raises(CaseError, match="notes is encoded"):
        networks[engine].encode(collate([replace(case, tokens={"notes": wider})]))


@pytest.mark.parametrize("engine", EXPORTED)
def test_a_kept_network_is_loaded_without_torch(tmp_path: Path, engine: str) -> None:
    """Exported once with it; afterwards neither it nor what reads its weights is imported."""
    config = stored(tmp_path)
    load_network(tmp_path, config, engine=engine, kept=tmp_path / "engines")
    code = (
        "import sys; from pathlib import Path; from fusion.engines import load_network; "
        "from fusion.network import ModelConfig; folder = Path(sys.argv[1]); "
        f"load_network(folder, {config!r}, engine={engine!r}, kept=folder / 'engines'); "
        "print(sorted({'torch', 'monai', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_other_weights_are_exported_anew(tmp_path: Path) -> None:
    """And neither takes the other's place; damaged files are made again."""
    config, kept = stored(tmp_path), tmp_path / "engines"
    for form in ("soft", "hard", "soft"):
        load_network(tmp_path, replace(config, form=form), engine="onnx", kept=kept)
    assert len(list(kept.iterdir())) == 2
    first = next(kept.iterdir()) / "fusing.onnx"
    whole = first.read_bytes()
    first.write_bytes(whole[:-100])
    for form in ("soft", "hard"):
        load_network(tmp_path, replace(config, form=form), engine="onnx", kept=kept)
    assert len(first.read_bytes()) == len(whole)


def test_nothing_is_kept_that_nobody_asked_for(tmp_path: Path) -> None:
    """Without a folder the graphs are made in a temporary one."""
    network = load_network(tmp_path, stored(tmp_path), engine="onnx")
    assert isinstance(network, engines.Exported)
    assert [path.name for path in tmp_path.iterdir()] == [engines.WEIGHTS]


def test_weights_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    """Whatever the engine."""
    config = stored(tmp_path)
    (tmp_path / engines.WEIGHTS).unlink()
    for engine in ("torch", *EXPORTED):
        with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
            load_network(tmp_path, config, engine=engine, kept=tmp_path / "engines")


def test_the_fastest_engine_that_is_installed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO first; what is missing is passed over, and said where it was asked for."""
    assert engine_named("auto") == "openvino"
    assert engine_named("torch") == "torch"
    monkeypatch.setattr(engines, "find_spec", lambda package: package == "torch" or None)
    assert engine_named("auto") == "torch"
    with pytest.raises(EngineError, match=r"pip install 'consilium\[edge\]'"):
        engine_named("onnx")
    with pytest.raises(EngineError, match="no engine 'tensorrt'"):
        engine_named("tensorrt")
