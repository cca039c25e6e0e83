"""What runs the segmentation networks: OpenVINO, ONNX Runtime, or torch, which trains them.

`load_engine` gives the fastest that is installed. What OpenVINO and ONNX Runtime run is exported
from the trained weights once (`imaging.graphs`, which needs torch and MONAI) and kept in a folder;
whoever loads it later imports neither. What is kept is held against its SHA-256 each time, and
made again where it was damaged. OpenVINO's compiled graphs are kept too, for this processor and
version, as they are ready in half the time; `benchmarks/scan_speed.py` has the figures.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from imaging.kept import network_digest
from imaging.looks import PARTS, Parts
from imaging.runtimes import compiled_run, compiler, keep_compiled, onnx_run
from imaging.segment import WEIGHTS, Engine
from imaging.whole_files import whole_files

# Engines and the packages they need, the fastest first.
PACKAGES = {"openvino": "openvino", "torch": "torch", "onnx": "onnxruntime"}


class EngineError(ValueError):
    """No such engine, or its package is not installed."""


def load_engine(folder: Path = WEIGHTS, engine: str = "auto", kept: Path | None = None) -> Engine:
    """The segmentation networks, ready to run.

    Args:
        folder: Of their weights.
        engine: ``openvino`` and ``torch`` compute in bfloat16, ``onnx`` in float32; ``auto`` is
            the fastest that is installed.
        kept: Where what was exported is kept, such as a site's ``engines``; None to export it
            again each time, in memory.

    Raises:
        EngineError: There is no such engine, or it is not installed.
    """
    name = _chosen(engine)
    if name == "torch" or kept is None:
        from imaging.graphs import IN_MEMORY
        from imaging.network import Networks

        return IN_MEMORY[name](Networks.load(folder))
    return _kept_openvino(folder, kept) if name == "openvino" else _kept_onnx(folder, kept)


def _chosen(engine: str) -> str:
    """Name of an engine that is installed."""
    if engine == "auto":
        return next(name for name, package in PACKAGES.items() if find_spec(package))
    if engine not in PACKAGES:
        known = ", ".join(("auto", *PACKAGES))
        raise EngineError(f"there is no engine {engine!r} for scans; choose one of {known}")
    if find_spec(PACKAGES[engine]) is None:
        raise EngineError(
            f"the engine {engine!r} needs the package {PACKAGES[engine]}, which is not installed: "
            f"pip install {PACKAGES[engine]}, or choose another engine"
        )
    return engine


def _kept_openvino(weights: Path, kept: Path) -> Parts:
    """From graphs that were compiled before; from files of OpenVINO, or else from the weights."""
    exported = kept / f"scan-openvino-bfloat16-{network_digest(weights)}"

    def compile_all(out: Path) -> None:
        graphs = whole_files(exported, _export("openvino", weights))
        for part in PARTS:
            keep_compiled(graphs / f"{part}.xml", out / f"{part}.blob")

    ready = whole_files(exported.with_name(f"{exported.name}-{compiler()}"), compile_all)
    return Parts(**{part: compiled_run(ready / f"{part}.blob") for part in PARTS})


def _kept_onnx(weights: Path, kept: Path) -> Parts:
    """From files of ONNX, or else from the weights."""
    exported = kept / f"scan-onnx-float32-{network_digest(weights)}"
    graphs = whole_files(exported, _export("onnx", weights))
    return Parts(**{part: onnx_run(str(graphs / f"{part}.onnx")) for part in PARTS})


def _export(engine: str, weights: Path) -> Callable[[Path], None]:
    """What writes an engine's files into a folder."""

    def write(out: Path) -> None:
        from imaging.graphs import EXPORTS, graphs_of
        from imaging.network import Networks

        for part, graph in graphs_of(Networks.load(weights)).items():
            EXPORTS[engine](graph, out / part)

    return write
