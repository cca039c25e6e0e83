"""What runs the segmentation network: torch trains it, OpenVINO or ONNX Runtime may name voxels.

All engines run one graph, a window in and labels, probabilities and features out, so that they can
be held against each other (`benchmarks/scan_speed.py`, which chose the default).
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from imaging.regions import mirrored_labels
from imaging.segment import BLOCK, WEIGHTS, WINDOW, Engine, Named, RegionNet


class WindowGraph(nn.Module):
    """The network and its mirror image as one graph for every engine.

    A window and its mirror image are named together and averaged, so that left and right are
    measured alike: a mirrored head has exactly the mirrored regions.
    """

    def __init__(self, net: RegionNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("other_side", torch.tensor(mirrored_labels()), persistent=False)

    def forward(self, window: Float[Tensor, "1 1 i j k"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What becomes of a window.

        Returns:
            Winning label and its probability (``block voxel``), the fine and the coarse features
            (``1 channel i j k``).
        """
        fine, coarse = self.net.features(window)
        mirrored_fine, mirrored_coarse = (f.flip(2) for f in self.net.features(window.flip(2)))
        there = self._probabilities(mirrored_fine).unflatten(1, (BLOCK, BLOCK**2)).flip(1)
        there = there.flatten(1, 2).index_select(2, self.get_buffer("other_side"))
        probability, label = (self._probabilities(fine) + there).max(dim=-1)
        fine, coarse = (fine + mirrored_fine).float() / 2, (coarse + mirrored_coarse).float() / 2
        return label.to(torch.uint8), probability / 2, fine, coarse

    def _probabilities(self, fine: Float[Tensor, "1 fine i2 j2 k2"]) -> Tensor:
        """Of every label at every voxel of every block: ``block voxel label``."""
        return self.net.name(fine.movedim(1, -1).flatten(0, -2)).float().softmax(dim=-1)


def named(
    labels: np.ndarray, probability: np.ndarray, fine: np.ndarray, coarse: np.ndarray
) -> Named:
    """What a graph put out, with the blocks' voxels back in their places."""
    return Named(
        _from_blocks(labels, fine.shape[2:]).astype(np.uint8),
        _from_blocks(probability, fine.shape[2:]).astype(np.float32),
        np.ascontiguousarray(fine[0], dtype=np.float32),
        np.ascontiguousarray(coarse[0], dtype=np.float32),
    )


def _from_blocks(values: np.ndarray, blocks: tuple[int, ...]) -> np.ndarray:
    """Rows of eight voxels a block, as a volume."""
    i, j, k = blocks
    whole = values.reshape(i, j, k, 2, 2, 2).transpose(0, 3, 1, 4, 2, 5)
    return whole.reshape(2 * i, 2 * j, 2 * k)


class TorchEngine:
    """PyTorch, in bfloat16 unless told otherwise."""

    def __init__(self, net: RegionNet, *, bfloat16: bool = True) -> None:
        self.graph = WindowGraph(net).eval()
        self.bfloat16 = bfloat16

    @torch.inference_mode()
    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel of one window."""
        device = next(self.graph.parameters()).device
        volume = torch.from_numpy(window)[None, None].to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            out = self.graph(volume)
        return named(*(part.cpu().numpy() for part in out))


class OpenVinoEngine:
    """OpenVINO on the CPU."""

    def __init__(self, model: Any, precision: str = "bf16") -> None:
        import openvino as ov

        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        self.compiled = ov.Core().compile_model(model, "CPU", settings)

    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel of one window."""
        out = self.compiled([window[None, None]])
        return named(*(out[n] for n in range(4)))


class OnnxEngine:
    """ONNX Runtime on the CPU."""

    def __init__(self, model: bytes) -> None:
        import onnxruntime as ort

        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel of one window."""
        return named(*self.session.run(None, {"window": window[None, None]}))


def to_openvino(net: RegionNet) -> Any:
    """The network's graph as an OpenVINO model of fixed shape."""
    import openvino as ov

    example = torch.zeros(1, 1, *WINDOW)
    return ov.convert_model(WindowGraph(net).eval(), example_input=example, input=[(1, 1, *WINDOW)])


def to_int8(model: Any, windows: Iterable[Float32[np.ndarray, "i j k"]]) -> Any:
    """An OpenVINO model quantized after training (NNCF), calibrated on some windows."""
    import nncf

    batches = [window[None, None] for window in windows]
    return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))


def to_onnx(net: RegionNet) -> bytes:
    """The network's graph as an ONNX model of fixed shape."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment.onnx"
        torch.onnx.export(
            WindowGraph(net).eval(),
            (torch.zeros(1, 1, *WINDOW),),
            path,
            input_names=["window"],
            dynamo=False,  # the other exporter needs onnxscript
        )
        return path.read_bytes()


def load_engine(folder: Path = WEIGHTS) -> Engine:
    """The engine that `benchmarks/scan_speed.py` chose, with the weights of a folder."""
    return TorchEngine(RegionNet.load(folder))
