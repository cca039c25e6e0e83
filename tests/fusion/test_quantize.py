"""INT8 of the network: what is said to be whole numbers is, and the diagnoses hardly move."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fusion.case import Case, collate
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig, infer
from fusion.train import TrainConfig

pytest.importorskip("torchao")
from fusion import quantize
from fusion.quantize import QuantizeError, check_int8, fit_int8, prepare, to_int8, unprepare

SHAPE = ModelConfig(text_dim=16, dim=48, heads=4, memory=True)


@pytest.fixture
def cases(make_case: Callable[..., Case], labels: Callable[..., object]) -> list[Case]:
    """A few with labels."""
    return [make_case(n, labels=labels(n % 3, n % 10)) for n in range(12)]


def network(seed: int = 0) -> DiagnosticModel:
    """Untrained but seeded, the memory and all gates away from zero."""
    torch.manual_seed(seed)
    made = DiagnosticModel(SHAPE)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return made.eval()


def matrices(model: nn.Module) -> list[nn.Linear]:
    """The layers that are to be INT8."""
    return [m for m in model.modules() if isinstance(m, nn.Linear) and quantize._is_worth_it(m, "")]


def test_quantized_after_training_every_matrix_is_int8_and_runs_so(cases: list[Case]) -> None:
    """Neither the type alone nor the operators alone would prove it."""
    model = network()
    exact, _ = infer(model, cases)
    to_int8(model)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found, _ = infer(model, cases)
    assert len(matrices(model)) > 10
    assert all(layer.weight.qdata.dtype == torch.int8 for layer in matrices(model))
    ran = [event.name for event in profile.events()]
    assert ran.count("aten::_int_mm") >= len(matrices(model)) - 1  # all but unused ones
    assert 0 < np.abs(found - exact).max() < 0.1 * exact.std()


def test_the_memory_of_the_chunks_is_quantized_too() -> None:
    """It is a part of the network as any other."""
    model = network()
    to_int8(model)
    assert model.memory is not None
    assert {type(layer.weight).__name__ for layer in matrices(model.memory)} == {"Int8Tensor"}


def test_pretending_is_what_int8_does(cases: list[Case]) -> None:
    """The rounding that training knows of is the rounding that comes."""
    model = network()
    prepare(model)
    pretended, _ = infer(model, cases)
    unprepare(model)
    exact, _ = infer(model, cases)
    to_int8(model)
    found, _ = infer(model, cases)
    assert np.abs(found - exact).max() > 1e-3
    np.testing.assert_allclose(found, pretended, atol=1e-4)


def test_trained_with_the_rounding_it_ends_in_int8(cases: list[Case]) -> None:
    """And learned on the way: every weight has moved, though rounding has no gradient."""
    model = network()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    history = fit_int8(model, cases, [], TrainConfig(epochs=4, batch_size=6))
    check_int8(model)
    assert len(history.train_loss) == 1
    moved = model.layers[0].attention.value.weight.dequantize()
    assert (moved - before["layers.0.attention.value.weight"]).abs().max() > 1e-4


def test_gradients_pass_through_the_rounding(cases: list[Case]) -> None:
    """Otherwise the last epochs would teach nothing."""
    model = network().train()
    prepare(model)
    model(collate(cases)).logits.square().sum().backward()
    query = model.layers[0].attention.query
    assert type(query).__name__ == "FakeQuantizedLinear"
    assert query.weight.grad is not None
    assert query.weight.grad.abs().max() > 0


def test_a_layer_left_in_floating_point_is_an_error() -> None:
    """As torchao once left all of them."""
    model = network()
    with pytest.raises(QuantizeError, match=r"float32"):
        check_int8(model)
    prepare(model)
    with pytest.raises(QuantizeError, match="pretends"):
        check_int8(model)


def test_a_file_gives_back_the_same_network_and_is_smaller(
    cases: list[Case], tmp_path: Path
) -> None:
    """To the bit; a half or less of the file is what is not quantized."""
    model = network()
    float_bytes = sum(weight.nbytes for weight in model.state_dict().values())
    to_int8(model)
    quantize.write_int8(tmp_path / "int8.safetensors", model)
    other = network(seed=1)
    quantize.read_int8(tmp_path / "int8.safetensors", other)
    np.testing.assert_array_equal(infer(other, cases)[0], infer(model, cases)[0])
    assert (tmp_path / "int8.safetensors").stat().st_size < 0.8 * float_bytes
