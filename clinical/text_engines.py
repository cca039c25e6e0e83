"""What runs the text encoder: OpenVINO, ONNX Runtime or torch, in full or reduced precision.

What OpenVINO and ONNX Runtime run is exported once (`clinical.text_export`, which needs torch) and
kept in a site's folder; from then on neither torch nor transformers is imported.

"int8" means that the matrix multiplications themselves are in INT8: weights once and for all,
activations as they come. A library that cannot do that usually computes in floating point without a
word, so `matrix_types` says what really ran, and a test holds every engine to it.
"""

import contextlib
import ctypes
import hashlib
import json
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from clinical.text_folder import EncoderError, read_json
from clinical.text_kernels import core, onnx_types, openvino_types, torch_types
from clinical.text_model import States, load_torch_model, torch_states

logger = logging.getLogger(__name__)

PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "openvino": ("int8", "bfloat16", "float32"),
    "onnx": ("float32", "int8"),
    "torch": ("bfloat16", "float32", "float16", "int8"),
}
MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
# What "auto" tries, in the order of `benchmarks/text_engines.py`; a test holds it to the results.
FASTEST = ("openvino", "torch")
AUTO: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("openvino", "decoder"): ("int8", "bfloat16", "float32"),
    ("openvino", "small"): ("bfloat16", "float32"),  # INT8 is hardly faster, its vectors are others
    ("torch", "decoder"): ("bfloat16", "float32"),  # INT8 compiles at every start, for little
    ("torch", "small"): ("bfloat16", "float32"),
    ("onnx", "decoder"): ("float32",),
    ("onnx", "small"): ("float32",),
}
# Of which the processor needs one, by Linux' names; without, a precision is slower than float32.
FLAGS: Mapping[str, frozenset[str]] = {
    "int8": frozenset({"avx512_vnni", "avx_vnni", "amx_int8"}),
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16"}),
    "float32": frozenset(),
}
# Activations are quantized in groups of so many. OpenVINO 2026.4 leaves them in floating point,
# without a word, where a layer is narrower than a group.
GROUP = 128
FORMAT = 1  # of what is kept; to be raised whenever an export becomes another
M_MMAP_THRESHOLD = -3  # of glibc's mallopt: bytes from which a block is mapped by itself
DONE = "engine.json"  # says what lies beside it, and how many bytes
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}


@dataclass(frozen=True)
class TextEngine:
    """A language model, ready to run.

    Attributes:
        name: "openvino", "onnx" or "torch".
        precision: "float32", "bfloat16", "float16" or "int8".
        states: Ids and who is present in, states out.
        matrix_types: How many matrix multiplications run in each type, as the engine itself tells
            after the fact. Those of attention, which has no weights, are in floating point.
    """

    name: str
    precision: str
    states: States
    matrix_types: Callable[[], Mapping[str, int]] = field(default=dict, repr=False)


def load_text_engine(
    folder: Path,
    sha256: str,
    *,
    engine: str = "auto",
    precision: str = "auto",
    kept: Path | None = None,
    causal: bool = False,
) -> TextEngine:
    """Make a language model ready to run on this machine.

    Args:
        folder: Of the model, with its config and safetensors weights.
        sha256: Of the weights.
        engine: "openvino", "onnx" or "torch"; "auto" is torch where there is a GPU, otherwise
            the fastest that is installed.
        precision: One of `PRECISIONS`; "auto" is the fastest that this processor multiplies in
            and that keeps the diagnoses.
        kept: Folder where exported files are kept; None exports anew each time.
        causal: Leave a decoder causal, for comparison only.

    Raises:
        EncoderError: The engine is not installed, or does not have the precision.
    """
    chosen = _choose_engine(engine)
    if precision == "auto":
        precision = _choose_precision(chosen, read_json(folder / "config.json"))
    if precision not in PRECISIONS[chosen]:
        raise EncoderError(
            f"engine {chosen} has no precision {precision!r}; "
            f"choose one of {', '.join(PRECISIONS[chosen])}"
        )
    logger.info("text engine: %s, %s", chosen, precision)
    if chosen == "torch":
        return _torch_engine(folder, precision, causal=causal)
    if kept is not None:
        files = _kept_files(folder, sha256, chosen, precision, kept, causal=causal)
        return _ready(files, chosen, precision)
    scratch = tempfile.TemporaryDirectory()
    _export(folder, chosen, precision, Path(scratch.name), causal=causal)
    ready = _ready(Path(scratch.name), chosen, precision)
    weakref.finalize(ready.states, scratch.cleanup)  # its weights may be read where they lie
    return ready


def _ready(files: Path, engine: str, precision: str) -> TextEngine:
    """Exported files, ready to run."""
    try:
        return _RUNNERS[engine](files, precision)
    except Exception as error:  # the engines raise nothing more specific in common
        raise EncoderError(
            f"{files.name} cannot be run by engine {engine} ({type(error).__name__}); delete the "
            f"folder {files}, and it is made again"
        ) from error


def _choose_engine(wanted: str) -> str:
    """The wanted engine, if it is here; of "auto", the fastest that is."""
    if wanted not in (*MODULES, "auto"):
        raise EncoderError(f"there is no engine {wanted!r}; choose one of {', '.join(MODULES)}")
    if wanted == "auto":
        ready = [name for name in FASTEST if find_spec(MODULES[name])]
        wanted = "torch" if _has_gpu() or not ready else ready[0]
    if find_spec(MODULES[wanted]) is None:
        raise EncoderError(
            f"engine {wanted} needs {MODULES[wanted]}; run: pip install {MODULES[wanted]}"
        )
    return wanted


def _choose_precision(engine: str, settings: Mapping[str, Any]) -> str:
    """The first of `AUTO` that the processor multiplies."""
    if engine == "torch" and _has_gpu():
        return _gpu_precision()
    flags, kind = _processor_flags(), "small" if settings.get("model_type") == "bert" else "decoder"
    return next(p for p in AUTO[engine, kind] if not FLAGS[p] or flags & FLAGS[p])


def _processor_flags() -> frozenset[str]:
    """What the processor can do, by Linux' names; elsewhere nothing is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def _has_gpu() -> bool:
    """Whether torch can use an NVIDIA GPU; it is only imported where there may be one."""
    if not Path("/dev/nvidia0").exists() or find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _gpu_precision() -> str:
    """bfloat16, in which Qwen was trained; float16 on GPUs that lack it."""
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _kept_files(
    folder: Path, sha256: str, engine: str, precision: str, kept: Path, *, causal: bool
) -> Path:
    """The folder of exported files, made if it is not there or not whole."""
    # OpenVINO computes in float32 and in bfloat16 with the same files.
    made_as = "int8" if precision == "int8" else "float"
    about = f"{FORMAT}|{sha256}|{engine}|{made_as}|{'causal' if causal else 'bidirectional'}"
    place = kept / f"text-{engine}-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
    if _is_whole(place):
        return place
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = Path(tempfile.mkdtemp(prefix=f"{place.name}.partial-", dir=kept))
    try:
        _export(folder, engine, precision, partial, causal=causal)
        sizes = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
        (partial / DONE).write_text(json.dumps({"made": about, "bytes": sizes}, indent=2) + "\n")
        if not _is_whole(place):  # nobody else was quicker
            shutil.rmtree(place, ignore_errors=True)
            _take_place(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def _take_place(partial: Path, place: Path) -> None:
    """Rename; where another process has just done so, its files serve as well."""
    try:
        partial.rename(place)
    except OSError:
        if not _is_whole(place):
            raise


def _is_whole(place: Path) -> bool:
    """Whether all files are there in full; they are too large to be read only for that."""
    try:
        sizes = json.loads((place / DONE).read_text(encoding="utf-8"))["bytes"]
        return all((place / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _export(folder: Path, engine: str, precision: str, out: Path, *, causal: bool) -> None:
    """Write the files, which needs torch, and NNCF or ONNX for INT8."""
    needed = ["torch", "transformers"]
    if engine == "onnx":
        needed += ["onnx"]
    elif precision == "int8":
        needed += ["nncf"]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise EncoderError(
            f"to make the files of engine {engine} in {precision}, this machine needs "
            f"{', '.join(missing)}; run: pip install {' '.join(missing)}"
        )
    from clinical.text_export import export

    export(folder, engine, precision, out, causal=causal)


def openvino_settings(precision: str) -> dict[str, str]:
    """How OpenVINO computes."""
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP if precision == "int8" else 0),
    }


def _openvino_engine(files: Path, precision: str) -> TextEngine:
    """Exported files on OpenVINO; a scratch folder's weights are read before it is gone."""
    settings = openvino_settings(precision)
    compiled = core().compile_model(core().read_model(files / "text.xml"), "CPU", settings)

    def states(
        ids: Int64[np.ndarray, "batch token"], present: Bool[np.ndarray, "batch token"]
    ) -> Float32[np.ndarray, "batch token dim"]:
        # Copied, since the next call writes where this one's states lie.
        return np.array(compiled([ids, present])[0], dtype=np.float32)

    return TextEngine("openvino", precision, states, lambda: openvino_types(compiled, settings))


def _onnx_engine(files: Path, precision: str) -> TextEngine:
    """Exported files on ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = _cores()
    session = ort.InferenceSession(files / "text.onnx", options, providers=["CPUExecutionProvider"])

    def states(
        ids: Int64[np.ndarray, "batch token"], present: Bool[np.ndarray, "batch token"]
    ) -> Float32[np.ndarray, "batch token dim"]:
        return np.asarray(session.run(None, {"ids": ids, "present": present})[0], dtype=np.float32)

    return TextEngine("onnx", precision, states, lambda: onnx_types(files / "text.onnx"))


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torch_engine(folder: Path, precision: str, *, causal: bool) -> TextEngine:
    """PyTorch itself, on a GPU where there is one."""
    import torch

    _use_little_memory()
    device = "cuda" if _has_gpu() else "cpu"
    dtype = torch.bfloat16 if precision == "int8" else getattr(torch, precision)
    model = load_torch_model(folder, dtype).to(device)
    if precision == "int8":
        model = _int8(model)
    states = torch_states(model, causal=causal)
    return TextEngine("torch", precision, states, lambda: torch_types(states, str(dtype)[6:]))


def _use_little_memory() -> None:
    """Give freed blocks back to the system, and keep few compiled multiplications.

    Batches of ever other lengths would otherwise leave the heap in pieces, and a multiplication
    compiled for each: four times the memory at 100,000 characters (`benchmarks/long_notes.py`).
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")  # read at its first use
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 1 << 20)


def _int8(model: Any) -> Any:
    """INT8 by torchao; compiled, since quantizing step by step is slower than not to."""
    if find_spec("torchao") is None:
        raise EncoderError("INT8 in torch needs torchao; run: pip install torchao")
    import torch
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    layers = next(part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    for layer in layers:  # all by the code compiled for one, and for every length
        layer.compile(dynamic=True)
    torch._dynamo.config.recompile_limit = max(32, torch._dynamo.config.recompile_limit)
    return model


_RUNNERS: Mapping[str, Callable[[Path, str], TextEngine]] = {
    "openvino": _openvino_engine,
    "onnx": _onnx_engine,
}
