"""OpenVINO and ONNX Runtime: a graph, of a file or of memory, as a function of arrays."""

import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from imaging.looks import Run


def openvino() -> Any:
    """The package, without the report that importing it would send to its makers."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it then takes its stub
    import openvino

    return openvino


@cache
def _core() -> Any:
    """OpenVINO's devices."""
    return openvino().Core()


def _settings(precision: str) -> dict[str, str]:
    """How OpenVINO computes: ``bf16`` or ``f32``, for one answer as soon as possible."""
    return {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}


def openvino_run(model: Any, precision: str = "bf16") -> Run:
    """A model of OpenVINO, compiled for the CPU.

    Args:
        model: The model, or its ``.xml`` file.
        precision: In which it computes: ``bf16`` or ``f32``.
    """
    return _runs(_core().compile_model(model, "CPU", _settings(precision)))


def keep_compiled(model: Path, out: Path, precision: str = "bf16") -> None:
    """Write what compiling a model makes, which is loaded in half the time or less.

    Args:
        model: Its ``.xml`` file.
        out: File for `compiled_run`; good for this machine and version only (`compiler`).
        precision: As of `openvino_run`.
    """
    compiled = _core().compile_model(str(model), "CPU", _settings(precision))
    out.write_bytes(compiled.export_model().getvalue())


def compiled_run(path: Path, precision: str = "bf16") -> Run:
    """What `keep_compiled` wrote, ready to run; its bytes must be known to be whole."""
    content = openvino().Tensor(np.fromfile(path, dtype=np.uint8))
    return _runs(_core().import_model(content, "CPU", _settings(precision)))


def compiler() -> str:
    """Short name of OpenVINO's version and of this processor: another one compiles otherwise."""
    kinds = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    about = [openvino().__version__, *(str(_core().get_property("CPU", kind)) for kind in kinds)]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:8]


def _runs(compiled: Any) -> Run:
    """A compiled model as a function of arrays."""
    return lambda *arrays: compiled(list(arrays)).to_tuple()


def onnx_run(model: bytes | str) -> Run:
    """A model, or its ``.onnx`` file, by ONNX Runtime on the CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.enable_mem_pattern = False  # which costs half as much memory again
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))
