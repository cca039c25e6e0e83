"""The networks cut into the graphs that an engine runs, and their conversion; needs torch."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from imaging.closeup import CLOSE_WINDOW
from imaging.looks import CLOSE_SHIFTS, PARTS, SHIFT, SLAB, Parts, Run
from imaging.network import CloseNet, Networks, RegionNet, in_place, rows
from imaging.regions import mirrored_labels
from imaging.runtimes import onnx_run, openvino, openvino_run
from imaging.segment import BLOCK, WINDOW

Shapes = tuple[tuple[int, ...], ...]


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


def graphs_of(nets: Networks) -> dict[str, nn.Module]:
    """The graphs of both networks, by the names of `imaging.looks.PARTS`."""
    whole = nets.whole
    graphs = (Seeing(whole), Naming(whole), Finding(whole), Closing(nets.close))
    return dict(zip(PARTS, graphs, strict=True))


def parts_of(nets: Networks, run: Callable[[nn.Module], Run]) -> Parts:
    """An engine of both networks, each graph made to run by `run`."""
    return Parts(**{name: run(graph) for name, graph in graphs_of(nets).items()})


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
    """OpenVINO on the CPU, from memory.

    Args:
        nets: The networks.
        precision: In which it computes: ``bf16`` or ``f32``.
        seeing: What to make of the model of `Seeing` first, such as a quantized one.
    """

    def ready(part: nn.Module) -> Run:
        model = to_openvino(part)
        return openvino_run(seeing(model) if isinstance(part, Seeing) else model, precision)

    return parts_of(nets, ready)


def onnx_engine(nets: Networks) -> Parts:
    """ONNX Runtime on the CPU, from memory."""
    return parts_of(nets, lambda part: onnx_run(to_onnx(part)))


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


def write_openvino(part: nn.Module, stem: Path) -> None:
    """Write a part as OpenVINO's files, weights as float16, which is how they ship."""
    openvino().save_model(to_openvino(part), stem.with_suffix(".xml"), compress_to_fp16=True)


def write_onnx(part: nn.Module, stem: Path) -> None:
    """Write a part as an ONNX file."""
    stem.with_suffix(".onnx").write_bytes(to_onnx(part))


def _shapes(part: nn.Module) -> Shapes:
    """Shapes of what goes into a part."""
    shapes = part.shapes
    assert isinstance(shapes, tuple)
    return shapes


IN_MEMORY: dict[str, Callable[[Networks], Parts]] = {
    "torch": torch_engine,
    "openvino": openvino_engine,
    "onnx": onnx_engine,
}
EXPORTS = {"openvino": write_openvino, "onnx": write_onnx}
