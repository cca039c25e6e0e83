"""In which type matrix multiplications really ran, as the engines themselves tell.

"int8" that silently stays floating point is common: a profile, a graph after its optimization and
an experiment tell, a setting does not.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from clinical.text_model import States

ROWS = 16  # tokens of the experiment
_FLOATS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
_ONNX_INT8 = ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm")
_ONNX_FLOAT = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm")
_TORCH_INT8 = ("aten::_int_mm", "onednn::qlinear_pointwise")
_TORCH_FLOAT = ("aten::addmm", "aten::mm", "aten::_addmm_activation")


def openvino() -> Any:
    """The package, without the report that importing it would send to its makers."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it then takes its stub
    import openvino

    return openvino


@cache
def core() -> Any:
    """OpenVINO's devices."""
    return openvino().Core()


def openvino_types(compiled: Any, settings: Mapping[str, str]) -> Counter[str]:
    """Multiplications by weights in a compiled model.

    The graph tells the type of the weights, and of the rest by the name of the kernel. Whether
    activations are quantized it does not tell: that is found out by experiment for each width.

    Args:
        compiled: The model.
        settings: With which it was compiled.
    """
    types: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        about = {key: value.astype(str) for key, value in node.get_rt_info().items()}
        if about.get("layerType") != "FullyConnected":
            continue
        weights = node.input(1)
        whole = weights.get_element_type().to_string() in ("i8", "u8")
        if whole and quantizes(weights.get_shape()[-1], tuple(settings.items())):
            types["int8"] += 1
        else:
            types[_FLOATS.get(about["primitiveType"].rpartition("_")[2], "unknown")] += 1
    return types


@cache
def quantizes(width: int, settings: tuple[tuple[str, str], ...]) -> bool:
    """Whether OpenVINO quantizes activations of this width: whether they are then others."""
    model = _one_multiplication(width)
    tokens = np.random.default_rng(0).standard_normal((1, ROWS, width)).astype(np.float32)
    never = dict(settings) | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    found, exact = (
        np.array(core().compile_model(model, "CPU", how)([tokens])[0])
        for how in (dict(settings), never)
    )
    return not np.array_equal(found, exact)


def _one_multiplication(width: int) -> Any:
    """By INT8 weights, as NNCF writes them."""
    ov = openvino()
    from openvino import opset13 as op

    weights = np.random.default_rng(1).integers(0, 256, (32, width), dtype=np.uint8)
    middle, scale = np.full((32, 1), 128, np.uint8), np.full((32, 1), 0.01, np.float32)
    tokens = op.parameter([-1, -1, width], np.float32)
    shifted = op.subtract(
        op.convert(op.constant(weights), "f32"), op.convert(op.constant(middle), "f32")
    )
    product = op.matmul(
        tokens, op.multiply(shifted, op.constant(scale)), transpose_a=False, transpose_b=True
    )
    return ov.Model([op.result(product)], [tokens])


def onnx_types(model: Path) -> Counter[str]:
    """Multiplications in the profile of a run of an ONNX model, those of attention included."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as scratch:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        ids = np.ones((1, 4), dtype=np.int64)
        session.run(None, {"ids": ids, "present": np.ones_like(ids, dtype=np.bool_)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = Counter(event.get("args", {}).get("op_name") for event in events)
    types = Counter(
        int8=sum(ran[name] for name in _ONNX_INT8), float32=sum(ran[name] for name in _ONNX_FLOAT)
    )
    return +types


def torch_types(states: States, dtype: str) -> Counter[str]:
    """Multiplications by weights in torch's profile of a run; `dtype` is theirs if not INT8."""
    import torch

    ids = np.ones((2, ROWS), dtype=np.int64)
    present = np.ones_like(ids, dtype=np.bool_)
    states(ids, present)  # compiled now, where it is to be
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        states(ids, present)
    ran = Counter(event.name for event in profile.events())
    types = Counter({"int8": sum(ran[name] for name in _TORCH_INT8)})
    types[dtype] += sum(ran[name] for name in _TORCH_FLOAT)
    return +types
