"""What runs the segmentation network: torch trains it, OpenVINO or ONNX Runtime may name voxels.

All engines run one graph, a window in and labels, probabilities and features out, so that they can
be held against each other (`benchmarks/scan_speed.py`, which chose the default).
"""

import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Shaped
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from imaging.regions import mirrored_labels
from imaging.segment import BLOCK, WEIGHTS, WINDOW, Engine, Named, RegionNet

SHIFT = (1, 1, 1)  # voxels by which the second look is moved: the blocks then fall otherwise


class WindowGraph(nn.Module):
    """The network's four looks at a window, averaged, as one graph for every engine.

    It sees the window and its mirror image, so that left and right are measured alike: a mirrored
    head has exactly the mirrored regions. And it sees both again moved by one voxel, so that no
    border depends on where the blocks happen to lie.
    """

    def __init__(self, net: RegionNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("other_side", torch.tensor(mirrored_labels()), persistent=False)

    def forward(self, window: Float[Tensor, "1 1 i j k"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What becomes of a window.

        Returns:
            Winning label and its probability (``i j k``), the fine and the coarse features
            (``1 channel i j k``).
        """
        here, fine, coarse = self._two_looks(window)
        there, mirrored_fine, mirrored_coarse = self._two_looks(window.flip(2))
        there = there.flip(0).index_select(3, self.get_buffer("other_side"))
        probability, label = (here + there).max(dim=-1)
        fine, coarse = fine + mirrored_fine.flip(2), coarse + mirrored_coarse.flip(2)
        return label.to(torch.uint8), probability.float() / 4, fine.float() / 2, coarse.float() / 2

    def _two_looks(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities of a window and of the same moved, summed, and the former's features."""
        fine, coarse = self.net.features(window)
        moved, _ = self.net.features(window.roll(SHIFT, (2, 3, 4)))
        back = [-n for n in SHIFT]
        looks = self._probabilities(fine) + self._probabilities(moved).roll(back, (0, 1, 2))
        return looks, fine, coarse

    def _probabilities(self, fine: Float[Tensor, "1 fine i2 j2 k2"]) -> Tensor:
        """Of every label at every voxel: ``i j k label``."""
        blocks = self.net.name(fine.movedim(1, -1).flatten(0, -2)).softmax(dim=-1)
        return in_place(blocks, fine)


class BrainGraph(nn.Module):
    """One look at a window, only to see where there is brain."""

    def __init__(self, net: RegionNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, window: Float[Tensor, "1 1 i j k"]) -> Tensor:
        """1 where a voxel is named, else 0: ``i j k``."""
        fine, _ = self.net.features(window)
        blocks = self.net.name(fine.movedim(1, -1).flatten(0, -2)).argmax(dim=-1, keepdim=True)
        return in_place((blocks > 0).to(torch.uint8), fine)[..., 0]


def in_place(
    blocks: Shaped[Tensor, "block voxel value"], fine: Float[Tensor, "1 fine i2 j2 k2"]
) -> Shaped[Tensor, "i j k value"]:
    """Values of the blocks' voxels at their places in the window."""
    i, j, k = fine.shape[2:]
    whole = blocks.view(i, j, k, BLOCK, BLOCK, BLOCK, -1).permute(0, 3, 1, 4, 2, 5, 6)
    return whole.reshape(BLOCK * i, BLOCK * j, BLOCK * k, -1)


def named(
    labels: np.ndarray, probability: np.ndarray, fine: np.ndarray, coarse: np.ndarray
) -> Named:
    """What a graph put out."""
    return Named(
        np.ascontiguousarray(labels, dtype=np.uint8),
        np.ascontiguousarray(probability, dtype=np.float32),
        np.ascontiguousarray(fine[0], dtype=np.float32),
        np.ascontiguousarray(coarse[0], dtype=np.float32),
    )


def openvino() -> Any:
    """The package, without the report that importing it would send to its makers."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it then takes its stub
    import openvino

    return openvino


class TorchEngine:
    """PyTorch, in bfloat16 unless told otherwise."""

    def __init__(self, net: RegionNet, *, bfloat16: bool = True) -> None:
        self.graph, self.brain = WindowGraph(net).eval(), BrainGraph(net).eval()
        self.bfloat16 = bfloat16

    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel of one window."""
        return named(*(part.cpu().numpy() for part in self._run(self.graph, window)))

    def find(self, window: Float32[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
        """Where there is brain, at one look."""
        return np.asarray(self._run(self.brain, window).cpu().numpy() > 0)

    @torch.inference_mode()
    def _run(self, graph: nn.Module, window: Float32[np.ndarray, "i j k"]) -> Any:
        device = next(graph.parameters()).device
        volume = torch.from_numpy(window)[None, None].to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            return graph(volume)


class OpenVinoEngine:
    """OpenVINO on the CPU."""

    def __init__(self, graph: Any, brain: Any, precision: str = "bf16") -> None:
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        core = openvino().Core()
        self.graph, self.brain = (core.compile_model(m, "CPU", settings) for m in (graph, brain))

    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel of one window."""
        out = self.graph([window[None, None]])
        return named(*(out[n] for n in range(4)))

    def find(self, window: Float32[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
        """Where there is brain, at one look."""
        return np.asarray(self.brain([window[None, None]])[0] > 0)


class OnnxEngine:
    """ONNX Runtime on the CPU."""

    def __init__(self, graph: bytes, brain: bytes) -> None:
        import onnxruntime as ort

        self.graph, self.brain = (
            ort.InferenceSession(model, providers=["CPUExecutionProvider"])
            for model in (graph, brain)
        )

    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel of one window."""
        return named(*self.graph.run(None, {"window": window[None, None]}))

    def find(self, window: Float32[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
        """Where there is brain, at one look."""
        return np.asarray(self.brain.run(None, {"window": window[None, None]})[0] > 0)


def to_openvino(graph: nn.Module) -> Any:
    """A graph as an OpenVINO model of fixed shape.

    By its frontend, as `openvino.convert_model` takes three times as long for the same.
    """
    openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    small = torch.zeros(1, 1, 32, 32, 32)  # the graph is the same for every size
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        traced = torch.jit.trace(graph.eval(), (small,), check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    model = frontend.convert(frontend.load(decoder))
    model.reshape([1, 1, *WINDOW])
    return model


def to_onnx(graph: nn.Module) -> bytes:
    """A graph as an ONNX model of fixed shape."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "segment.onnx"
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            graph.eval(),
            (torch.zeros(1, 1, *WINDOW),),
            path,
            input_names=["window"],
            dynamo=False,  # the other exporter needs onnxscript
        )
        return path.read_bytes()


def load_engine(folder: Path = WEIGHTS) -> Engine:
    """The fastest engine that is installed, with the weights of a folder.

    OpenVINO in bfloat16, as ``benchmarks/scan_speed.py`` found; torch without it.
    """
    net = RegionNet.load(folder)
    if find_spec("openvino") is None:
        return TorchEngine(net)
    return OpenVinoEngine(to_openvino(WindowGraph(net)), to_openvino(BrainGraph(net)))
