"""What runs the segmentation network: torch trains it, OpenVINO or ONNX Runtime may name voxels.

A window is looked at four times: as it is, mirrored, so that left and right are measured alike (a
mirrored head has exactly the mirrored regions), and both again moved by one voxel, so that no
border depends on where the blocks happen to lie. The looks are seen one after another and named
slab by slab, since probabilities of all labels at all voxels would take gigabytes. The network's
parts run wherever `Parts` says, so that engines can be held against each other
(`benchmarks/scan_speed.py`, which chose the default).
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from imaging.closeup import CLOSE_WINDOW, CloseNet, CloseView, other_side
from imaging.grid import corner_of, cut
from imaging.regions import Side, mirrored_labels
from imaging.segment import BLOCK, WEIGHTS, WINDOW, Engine, Named, RegionNet, in_place, rows

SHIFT = (1, 1, 1)  # voxels by which the second look is moved: the blocks then fall otherwise
SLAB = 8  # blocks along the first axis that are named at once
# Voxels by which the looks at a temporal lobe are moved.
CLOSE_SHIFTS = ((0, 0, 0), (1, -1, 1), (-1, 1, -1), (1, 1, -1))

Shapes = tuple[tuple[int, ...], ...]
Run = Callable[..., Sequence[np.ndarray]]  # arrays in, arrays out


class Seeing(nn.Module):
    """One look at a window: the fine and the coarse features (``1 channel i j k``)."""

    def __init__(self, net: RegionNet) -> None:
        super().__init__()
        self.net = net
        self.shapes: Shapes = ((1, 1, *WINDOW),)

    def forward(self, window: Float[Tensor, "1 1 i j k"]) -> tuple[Tensor, Tensor]:
        """Features of the blocks, and of the level below."""
        fine, coarse = self.net.features(window)
        return fine.float(), coarse.float()


class Naming(nn.Module):
    """What four looks together call the voxels of a slab."""

    def __init__(self, net: RegionNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("other_side", torch.tensor(mirrored_labels()), persistent=False)
        self.shapes: Shapes = (_slab_shape(net, SLAB), _slab_shape(net, SLAB + 1)) * 2

    def forward(
        self,
        plain: Float[Tensor, "1 fine i2 j2 k2"],
        moved: Float[Tensor, "1 fine i3 j2 k2"],
        mirrored: Float[Tensor, "1 fine i2 j2 k2"],
        mirrored_moved: Float[Tensor, "1 fine i3 j2 k2"],
    ) -> tuple[Tensor, Tensor]:
        """Winning label and its probability (``i j k``).

        Args:
            plain: Features of the slab as it is.
            moved: Of the moved window; one block more, since its blocks begin a voxel earlier.
            mirrored: Of the mirrored slab.
            mirrored_moved: Of the mirrored window, moved.
        """
        here = self._two_looks(plain, moved)
        there = self._two_looks(mirrored, mirrored_moved)
        there = there.flip(0).index_select(3, self.get_buffer("other_side"))
        probability, label = (here + there).max(dim=-1)
        return label.to(torch.uint8), probability.float() / 4

    def _two_looks(self, plain: Tensor, moved: Tensor) -> Tensor:
        """Probabilities of a slab by itself and by the moved look, summed."""
        i, j, k = SHIFT
        back = self._probabilities(moved)[i : i + BLOCK * plain.shape[2]].roll((-j, -k), (1, 2))
        return self._probabilities(plain) + back

    def _probabilities(self, fine: Float[Tensor, "1 fine i2 j2 k2"]) -> Tensor:
        """Of every label at every voxel: ``i j k label``."""
        return in_place(self.net.name(rows(fine)).softmax(dim=-1), fine)


class Finding(nn.Module):
    """One look, only to see where in a slab there is brain."""

    def __init__(self, net: RegionNet) -> None:
        super().__init__()
        self.net = net
        self.shapes: Shapes = (_slab_shape(net, SLAB),)

    def forward(self, fine: Float[Tensor, "1 fine i2 j2 k2"]) -> tuple[Tensor]:
        """1 where a voxel is named, else 0: ``i j k``."""
        named = self.net.name(rows(fine)).argmax(dim=-1, keepdim=True)
        return (in_place((named > 0).to(torch.uint8), fine)[..., 0],)


class Closing(nn.Module):
    """What looks at the right medial temporal lobe, each moved a little, together call it."""

    def __init__(self, net: CloseNet) -> None:
        super().__init__()
        self.net = net
        self.shapes: Shapes = ((len(CLOSE_SHIFTS), 1, *CLOSE_WINDOW),)

    def forward(self, windows: Float[Tensor, "look 1 i j k"]) -> tuple[Tensor, Tensor]:
        """Winning label and its probability (``i j k``)."""
        looks = self.net(windows).softmax(dim=1).unbind()
        back = [
            look.roll(shift, (1, 2, 3)) for look, shift in zip(looks, CLOSE_SHIFTS, strict=True)
        ]
        probability, label = torch.stack(back).mean(dim=0).max(dim=0)
        return label.to(torch.uint8), probability.float()


def _slab_shape(net: RegionNet, blocks: int) -> tuple[int, ...]:
    """Shape of the features of so many blocks along the first axis."""
    return (1, net.config.init_filters, blocks, WINDOW[1] // BLOCK, WINDOW[2] // BLOCK)


@dataclass(frozen=True)
class Parts:
    """An engine: whatever runs `Seeing`, `Naming`, `Finding` and `Closing`."""

    seeing: Run
    naming: Run
    finding: Run
    closing: Run

    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel of one window."""
        plain, moved, coarse = self._look(window)
        mirrored, mirrored_moved, mirrored_coarse = self._look(window[::-1])
        slabs = [
            self.naming(*(part for look in looks for part in look))
            for looks in zip(
                _slabs(plain, moved), reversed(list(_slabs(mirrored, mirrored_moved))), strict=True
            )
        ]
        labels, probability = (np.concatenate(part) for part in zip(*slabs, strict=True))
        return Named(
            labels.astype(np.uint8),
            probability.astype(np.float32),
            (plain[0] + mirrored[0, :, ::-1]) / 2,
            (coarse[0] + mirrored_coarse[0, :, ::-1]) / 2,
        )

    def find(self, window: Float32[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
        """Where there is brain, at one look."""
        fine, _ = self.seeing(np.ascontiguousarray(window)[None, None])
        return np.concatenate([self.finding(slab)[0] for slab, _ in _slabs(fine, fine)]) > 0

    def look_closely(
        self, window: Float32[np.ndarray, "i j k"], middle: Sequence[int], side: Side
    ) -> CloseView:
        """Name what lies around a voxel of one side, on the full grid."""
        mirrored = -1 if side == "left" else 1
        looks = []
        for shift in CLOSE_SHIFTS:
            moved = [m + mirrored * s if n == 0 else m + s
                     for n, (m, s) in enumerate(zip(middle, shift, strict=True))]  # fmt: skip
            looks.append(cut(window, moved, CLOSE_WINDOW)[::mirrored])
        labels, probability = (np.asarray(part) for part in self.closing(np.stack(looks)[:, None]))
        if side == "left":
            labels = other_side(labels)
        corner = corner_of(middle, CLOSE_WINDOW)
        return CloseView(corner, labels[::mirrored].astype(np.uint8), probability[::mirrored])

    def _look(self, window: Float32[np.ndarray, "i j k"]) -> tuple[np.ndarray, ...]:
        """Fine features of a window and of the same moved, and the former's coarse ones."""
        moved = np.roll(window, SHIFT, (0, 1, 2))
        # Copied, as an engine may write its next result where this one lies.
        fine, coarse = (
            np.array(part) for part in self.seeing(np.ascontiguousarray(window)[None, None])
        )
        return fine, np.array(self.seeing(moved[None, None])[0]), coarse


def _slabs(
    plain: Float32[np.ndarray, "1 fine i2 j2 k2"], moved: Float32[np.ndarray, "1 fine i2 j2 k2"]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Slabs of two looks, the moved one with a block more; its blocks go round."""
    around = np.concatenate([moved, moved[:, :, :1]], axis=2)
    for start in range(0, plain.shape[2], SLAB):
        yield (
            np.ascontiguousarray(plain[:, :, start : start + SLAB]),
            np.ascontiguousarray(around[:, :, start : start + SLAB + 1]),
        )


@dataclass(frozen=True)
class Networks:
    """Both networks: of the whole brain and of the closer look."""

    whole: RegionNet
    close: CloseNet

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> "Networks":
        """The trained ones of a folder."""
        return cls(RegionNet.load(folder), CloseNet.load(folder))


def parts_of(nets: Networks, run: Callable[[nn.Module], Run]) -> Parts:
    """An engine of both networks, each part made to run by `run`."""
    whole = nets.whole
    return Parts(
        run(Seeing(whole)), run(Naming(whole)), run(Finding(whole)), run(Closing(nets.close))
    )


def torch_engine(nets: Networks, *, bfloat16: bool = True) -> Parts:
    """PyTorch, in bfloat16 unless told otherwise, on the device of the weights."""
    device = next(nets.whole.parameters()).device

    def ready(part: nn.Module) -> Run:
        part = part.eval().to(device)

        @torch.inference_mode()
        def run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
                out = part(*(torch.from_numpy(array).to(device) for array in arrays))
            return [tensor.cpu().numpy() for tensor in out]

        return run

    return parts_of(nets, ready)


def openvino_engine(
    nets: Networks,
    precision: str = "bf16",
    seeing: Callable[[Any], Any] = lambda model: model,
) -> Parts:
    """OpenVINO on the CPU.

    Args:
        nets: The networks.
        precision: In which it computes: ``bf16`` or ``f32``.
        seeing: What to make of the model of `Seeing` first, such as a quantized one.
    """
    core = openvino().Core()
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}

    def ready(part: nn.Module) -> Run:
        model = to_openvino(part)
        model = seeing(model) if isinstance(part, Seeing) else model
        compiled = core.compile_model(model, "CPU", settings)
        return lambda *arrays: compiled(list(arrays)).to_tuple()

    return parts_of(nets, ready)


def onnx_engine(nets: Networks) -> Parts:
    """ONNX Runtime on the CPU."""
    import onnxruntime as ort

    def ready(part: nn.Module) -> Run:
        session = ort.InferenceSession(to_onnx(part), providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))

    return parts_of(nets, ready)


def openvino() -> Any:
    """The package, without the report that importing it would send to its makers."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it then takes its stub
    import openvino

    return openvino


def to_openvino(part: nn.Module) -> Any:
    """A part of the network as an OpenVINO model of fixed shapes.

    By its frontend, as `openvino.convert_model` takes three times as long for the same.
    """
    openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    shapes = _shapes(part)
    # Traced small, as the graph is the same for every size.
    small = tuple(torch.zeros([min(n, 64) for n in shape]) for shape in shapes)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        traced = torch.jit.trace(part.eval(), small, check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    model = frontend.convert(frontend.load(decoder))
    model.reshape({n: list(shape) for n, shape in enumerate(shapes)})
    return model


def to_onnx(part: nn.Module) -> bytes:
    """A part of the network as an ONNX model of fixed shapes."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "part.onnx"
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            part.eval(),
            tuple(torch.zeros(shape) for shape in _shapes(part)),
            path,
            dynamo=False,  # the other exporter needs onnxscript
        )
        return path.read_bytes()


def _shapes(part: nn.Module) -> Shapes:
    """Shapes of what goes into a part."""
    shapes = part.shapes
    assert isinstance(shapes, tuple)
    return shapes


def load_engine(folder: Path = WEIGHTS) -> Engine:
    """The fastest engine that is installed, with the weights of a folder.

    OpenVINO in bfloat16, as ``benchmarks/scan_speed.py`` found; torch without it.
    """
    nets = Networks.load(folder)
    return torch_engine(nets) if find_spec("openvino") is None else openvino_engine(nets)
