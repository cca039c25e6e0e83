"""What runs the network: OpenVINO, ONNX Runtime, or torch, which trains it.

What OpenVINO and ONNX Runtime run is exported from a model folder once (`fusion.export`, which
needs torch) and kept; whoever loads it later imports no torch.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from clinical.lab_encoder import CHANNELS, FACT_EXTRAS, VISITS
from fusion.case import CaseBatch, CaseError, Modality, ModalityBatch
from fusion.network import CheckpointError, Encoded, ModelConfig, Network, Output, side_by_side
from imaging.encoder import FEATURES
from imaging.runtimes import onnx_run, openvino_run
from imaging.whole_files import whole_files

WEIGHTS = "model.safetensors"
ENCODING, FUSING = "encoding", "fusing"  # the two graphs
VERSION = 1  # to be raised whenever `fusion.export` or `fusion.model` makes other graphs
# Engines and the packages they need, the fastest first (`benchmarks/review_start.py`).
PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
EXTRAS = {"onnx": "edge"}  # of this distribution, with which a package comes

Run = Callable[..., Sequence[np.ndarray]]  # arrays in, arrays out


class EngineError(ValueError):
    """No such engine, or its package is not installed; says what to do."""


def engine_named(engine: str) -> str:
    """An engine that is installed; of ``auto``, the fastest.

    Raises:
        EngineError: There is no such engine, or it is not installed.
    """
    if engine == "auto":
        return next(name for name, package in PACKAGES.items() if find_spec(package))
    if engine not in PACKAGES:
        raise EngineError(f"no engine {engine!r}; choose one of {', '.join(('auto', *PACKAGES))}")
    if find_spec(PACKAGES[engine]) is None:
        source = f"consilium[{EXTRAS[engine]}]" if engine in EXTRAS else PACKAGES[engine]
        raise EngineError(
            f"the engine {engine!r} needs the package {PACKAGES[engine]}, which is not installed: "
            f"pip install '{source}', or choose another engine"
        )
    return engine


def load_network(
    folder: Path, config: ModelConfig, *, engine: str = "auto", kept: Path | None = None
) -> Network:
    """The network of a model folder, ready to run.

    Args:
        folder: With its weights.
        config: Its shape.
        engine: One of `PACKAGES`, or ``auto`` for the fastest that is installed.
        kept: Where what was exported is kept, such as a site's ``engines``; None to export it
            again each time.

    Raises:
        EngineError: There is no such engine, or it is not installed.
        CheckpointError: The weights cannot be used.
    """
    name = engine_named(engine)
    if name == "torch":
        from fusion.weights import read_model

        return read_model(folder / WEIGHTS, config)
    if kept is None:
        with tempfile.TemporaryDirectory() as scratch:
            return load_network(folder, config, engine=name, kept=Path(scratch))
    graphs = whole_files(
        kept / f"fusion-{name}-float32-{_digest(folder, config)}", _export(name, folder, config)
    )
    run = {"openvino": _openvino_run, "onnx": _onnx_run}[name]
    return Exported(config, run(graphs / ENCODING), run(graphs / FUSING))


def _digest(folder: Path, config: ModelConfig) -> str:
    """Short name of weights and of the way they are used."""
    used = json.dumps([VERSION, asdict(config)], sort_keys=True)
    digest = hashlib.sha256(used.encode())
    try:
        digest.update((folder / WEIGHTS).read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} cannot be read ({error}); copy or train it again"
        ) from None
    return digest.hexdigest()[:16]


def _export(engine: str, folder: Path, config: ModelConfig) -> Callable[[Path], None]:
    """What writes an engine's files into a folder."""

    def write(out: Path) -> None:
        from fusion.export import EXPORTS, graphs_of
        from fusion.weights import read_model

        for name, graph in graphs_of(read_model(folder / WEIGHTS, config)).items():
            EXPORTS[engine](graph, out / name)

    return write


def _openvino_run(stem: Path) -> Run:
    """A kept graph on OpenVINO."""
    return openvino_run(str(stem.with_suffix(".xml")), "f32")


def _onnx_run(stem: Path) -> Run:
    """A kept graph on ONNX Runtime."""
    return onnx_run(str(stem.with_suffix(".onnx")))


def widths(config: ModelConfig) -> dict[Modality, tuple[int, ...]]:
    """What follows the axis ``token`` in the features of each modality, in their order."""
    text = config.text_dim
    return {
        "scan": (FEATURES,),
        "notes": (text,),
        "labs": (VISITS, CHANNELS),
        "history": (text + FACT_EXTRAS,),
    }


@dataclass(frozen=True)
class Exported:
    """A network as two graphs that an engine runs.

    Attributes:
        config: Its shape.
        encoding: Runs `fusion.export.Encoding`.
        fusing: Runs `fusion.export.Fusing`.
    """

    config: ModelConfig
    encoding: Run
    fusing: Run

    def encode(self, batch: CaseBatch) -> Encoded:
        """Bring all tokens of some cases to one width and side by side."""
        given = [
            array
            for modality, width in widths(self.config).items()
            for array in _filled(batch.modalities[modality], width, modality)
        ]
        tokens, alone = (np.array(part) for part in self.encoding(*given))
        return side_by_side(batch, tokens, alone)

    def fuse(
        self,
        evidence: Encoded,
        present: Bool[np.ndarray, "row token"],
        *,
        need_weights: bool = False,
    ) -> Output:
        """Diagnose from encoded tokens; see `fusion.network.Network`."""
        if len(evidence.tokens) == 1:
            found = self._seen(evidence, present)
        else:
            alone = [self._seen(case, present[[n]]) for n, case in enumerate(_each(evidence))]
            found = [np.concatenate(part) for part in zip(*alone, strict=True)]
        return Output(*found) if need_weights else Output(found[0])

    def _seen(self, case: Encoded, present: Bool[np.ndarray, "row token"]) -> list[np.ndarray]:
        """Logits, attention and shares of one case under each row."""
        given = [case.tokens, case.modality, case.quality, case.alone, present]
        if self.config.memory:
            given += [case.kinds, np.array(case.notes)]
        # Copied, as an engine may write its next result where this one lies.
        return [np.array(part) for part in self.fusing(*map(np.ascontiguousarray, given))]


def _each(evidence: Encoded) -> Iterator[Encoded]:
    """The cases of encoded evidence, one by one."""
    for n in range(len(evidence.tokens)):
        yield Encoded(
            evidence.tokens[[n]],
            evidence.kinds[[n]],
            evidence.modality,
            evidence.quality[[n]],
            evidence.present[[n]],
            evidence.alone[[n]],
            evidence.notes,
        )


def _filled(
    part: ModalityBatch, width: tuple[int, ...], modality: Modality
) -> tuple[np.ndarray, np.ndarray]:
    """Features and kinds of a modality, zero where absent; visits stand before the latest.

    Raises:
        CaseError: They are wider than the network reads.
    """
    here = part.present
    shape = (*here.shape, *width)
    features = np.zeros(shape, np.float32)
    if part.features.shape[-1]:
        given = part.features.shape[2:]
        if len(given) != len(width) or given[-1] != width[-1] or given[0] > width[0]:
            raise CaseError(f"{modality} is encoded {given}, the network reads {width}")
        seen = here.reshape(*here.shape, *[1] * len(width))
        latest = (..., slice(-given[0], None), slice(None)) if len(width) > 1 else (...,)
        features[latest] = np.where(seen, part.features, np.float32(0))
    return features, np.where(here, part.kinds, 0)
