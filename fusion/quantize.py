"""The network in INT8: quantized after training, or trained to bear it in its last epochs.

Weights of the linear layers become INT8, each output by its own scale, once and for all; what goes
into them becomes INT8 token by token as it comes. The rest (norms, softmax, the embeddings) stays
as it is. Training that knows of it (QAT) rounds on the way forward as INT8 will, and learns as if
it had not rounded.

Nothing uses this by default: `benchmarks/quantized_network.py` says what it costs and gains.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fusion.case import Case
from fusion.model import DiagnosticModel
from fusion.train import History, TrainConfig, fit

NARROWEST = 16  # inputs and outputs of a layer that is worth it
AWARE = 0.2  # share of the epochs that know of the rounding
SLOWER = 0.1  # their learning rate, as a share of the others'
_WHOLE, _SCALE = ".int8", ".scale"  # what a quantized weight is kept as


class QuantizeError(RuntimeError):
    """A layer that was to be in INT8 is not."""


def fit_int8(
    model: DiagnosticModel,
    train_cases: Sequence[Case],
    valid_cases: Sequence[Case],
    config: TrainConfig,
) -> History:
    """Fit a network, its last epochs with the rounding of INT8, and leave it in INT8.

    Args:
        model: Changed in place.
        train_cases: Cases with labels.
        valid_cases: For early stopping, of both parts; empty for none.
        config: How to train; the last `AWARE` of its epochs know of the rounding.

    Returns:
        What happened in these last epochs.

    Raises:
        QuantizeError: A layer stayed in floating point.
    """
    aware = max(1, round(AWARE * config.epochs))
    fit(model, train_cases, valid_cases, replace(config, epochs=max(1, config.epochs - aware)))
    prepare(model)
    slower = replace(
        config, epochs=aware, learning_rate=SLOWER * config.learning_rate, warmup_steps=0
    )
    history = fit(model, train_cases, valid_cases, slower)
    unprepare(model)
    to_int8(model)
    return history


def prepare(model: nn.Module) -> None:
    """Let the layers round as INT8 will, and learn as if they had not; the weights stay."""
    from torchao.quantization import quantize_
    from torchao.quantization.granularity import PerAxis, PerToken
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

    seen = IntxFakeQuantizeConfig(torch.int8, PerToken(), is_symmetric=False)
    weights = IntxFakeQuantizeConfig(torch.int8, PerAxis(0), is_symmetric=True)
    quantize_(
        model, QATConfig(activation_config=seen, weight_config=weights), filter_fn=_is_worth_it
    )


def unprepare(model: nn.Module) -> None:
    """Undo `prepare`; what was learned stays."""
    from torchao.quantization import quantize_
    from torchao.quantization.qat import FakeQuantizedLinear, QATConfig

    quantize_(
        model,
        QATConfig(step="convert"),
        filter_fn=lambda layer, _: isinstance(layer, FakeQuantizedLinear),
    )


def to_int8(model: nn.Module) -> None:
    """Quantize the linear layers of a trained network, in place.

    Raises:
        QuantizeError: A layer stayed in floating point.
    """
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    from torchao.quantization.quant_primitives import MappingType

    # Asymmetric, as `prepare` pretends: torchao 0.18 has no training for the symmetric form.
    how = Int8DynamicActivationInt8WeightConfig(act_mapping_type=MappingType.ASYMMETRIC)
    quantize_(model, how, filter_fn=_is_worth_it)
    check_int8(model)
    model.eval()


def check_int8(model: nn.Module) -> None:
    """See that every layer that is worth it holds INT8 weights, and is a plain one otherwise.

    A conversion that leaves the weights as they were computes right and gains nothing, and nobody
    notices (torchao issue 1290).

    Raises:
        QuantizeError: It does not.
    """
    from torchao.quantization.qat import FakeQuantizedLinear

    for name, layer in model.named_modules():
        if isinstance(layer, FakeQuantizedLinear):
            raise QuantizeError(f"layer {name} still only pretends to be INT8; call unprepare")
        if _is_worth_it(layer, name) and not _is_int8(layer.weight):
            raise QuantizeError(f"layer {name} was to be INT8 and is {layer.weight.dtype}")


def write_int8(path: Path, model: DiagnosticModel) -> None:
    """Write the weights of a network in INT8; the quantized ones as whole numbers and scales.

    Raises:
        QuantizeError: It is not in INT8.
    """
    check_int8(model)
    parts: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        if _is_int8(weight):
            parts[name + _WHOLE], parts[name + _SCALE] = weight.qdata, weight.scale
        else:
            parts[name] = weight
    partial = path.with_suffix(".partial")
    save_file({name: part.cpu().contiguous() for name, part in parts.items()}, partial)
    partial.replace(path)


def read_int8(path: Path, model: DiagnosticModel) -> None:
    """Read what `write_int8` wrote into a network of the same shape, in place."""
    parts = load_file(path)
    plain = {name: part for name, part in parts.items() if not name.endswith((_WHOLE, _SCALE))}
    wholes = {name.removesuffix(_WHOLE): p for name, p in parts.items() if name.endswith(_WHOLE)}
    model.load_state_dict(
        plain | {name: p.float() * parts[name + _SCALE].float() for name, p in wholes.items()}
    )
    to_int8(model)
    for name, whole in wholes.items():  # to the bit, whatever the rounding made of them
        weight = model.get_parameter(name)
        weight.qdata.copy_(whole)  # type: ignore[attr-defined]
        weight.scale.copy_(parts[name + _SCALE])  # type: ignore[attr-defined]


def _is_worth_it(layer: nn.Module, _name: str) -> bool:
    """Whether a layer multiplies matrices that are not all but vectors."""
    if not isinstance(layer, nn.Linear):
        return False
    return min(layer.in_features, layer.out_features) >= NARROWEST


def _is_int8(weight: Tensor) -> bool:
    """Whether torchao keeps a weight as whole numbers."""
    return getattr(getattr(weight, "qdata", None), "dtype", None) == torch.int8
