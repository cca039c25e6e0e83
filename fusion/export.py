"""The network cut into the two graphs that an engine runs, and their conversion; needs torch.

The axes of cases, rows and tokens are left open, so that one pair of graphs serves every case.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from fusion.case import MODALITIES
from fusion.engines import ENCODING, FUSING, widths
from fusion.model import DiagnosticModel, EncodedTensors
from imaging.runtimes import openvino

OPSET = 17  # of ONNX


class Input(NamedTuple):
    """What goes into a graph: an example, and names of the axes that are left open."""

    example: Tensor
    open: dict[int, str]


class Encoding(nn.Module):
    """Features and kinds of each modality in; tokens and what each says by itself out."""

    outputs = ("tokens", "alone")

    def __init__(self, model: DiagnosticModel) -> None:
        super().__init__()
        self.model = model
        self.inputs: dict[str, Input] = {}
        for n, (modality, width) in enumerate(widths(model.config).items(), 2):
            axes = {0: "case", 1: f"{modality} token"}
            self.inputs[f"{modality}_features"] = Input(torch.ones(2, n, *width), axes)
            self.inputs[f"{modality}_kinds"] = Input(torch.zeros(2, n, dtype=torch.int64), axes)

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """All modalities side by side; `given` are features and kinds in turn."""
        pairs = zip(given[::2], given[1::2], strict=True)
        parts = [
            self.model.encode_modality(n, modality, *pair)
            for n, (modality, pair) in enumerate(zip(MODALITIES, pairs, strict=True))
        ]
        tokens, alone = zip(*parts, strict=True)
        return torch.cat(tokens, dim=1), torch.cat(alone, dim=1)


class Fusing(nn.Module):
    """One case's encoded tokens in, seen under each row of `present`; the network's answer out."""

    outputs = ("logits", "attention", "shares")

    def __init__(self, model: DiagnosticModel) -> None:
        super().__init__()
        self.model = model
        n, config = 9, model.config
        whole, token = {1: "token"}, {0: "token"}
        self.inputs = {
            "tokens": Input(torch.ones(1, n, config.dim), whole),
            "modality": Input(torch.zeros(n, dtype=torch.int64), token),
            "quality": Input(torch.ones(1, n), whole),
            "alone": Input(torch.ones(1, n, config.n_labels), whole),
            "present": Input(torch.ones(3, n, dtype=torch.bool), {0: "row", 1: "token"}),
        }
        if config.memory:
            self.inputs |= {
                "chunks": Input(torch.zeros(1, n, dtype=torch.int64), whole),
                "notes": Input(torch.tensor([2, 5]), {}),
            }

    def forward(
        self,
        tokens: Float[Tensor, "1 token dim"],
        modality: Int64[Tensor, " token"],
        quality: Float[Tensor, "1 token"],
        alone: Float[Tensor, "1 token diagnosis"],
        present: Bool[Tensor, "row token"],
        *notes: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, attention and the modalities' shares.

        Args:
            tokens: As in `fusion.network.Encoded`, like what follows.
            modality: The same.
            quality: The same.
            alone: The same.
            present: Which tokens to see.
            *notes: For a network with a memory: kinds; where the sentences begin and end.
        """
        kinds, span = notes or (torch.zeros_like(quality, dtype=torch.int64), torch.zeros(2))
        evidence = EncodedTensors(
            tokens, kinds, modality, quality, present[:1], alone, (span[0], span[1])
        )
        found = self.model.fuse_tensors(evidence, present, need_weights=True)
        assert found.attention is not None
        assert found.shares is not None
        return found.logits, found.attention, found.shares


Graph = Encoding | Fusing


def graphs_of(model: DiagnosticModel) -> dict[str, Graph]:
    """Both graphs of a network, by name."""
    model.eval().cpu().requires_grad_(requires_grad=False)
    return {ENCODING: Encoding(model), FUSING: Fusing(model)}


def to_openvino(graph: Graph) -> Any:
    """A graph as an OpenVINO model."""
    vino = openvino()
    examples = tuple(given.example for given in graph.inputs.values())
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(graph, examples, check_trace=False)
    model = vino.convert_model(traced, example_input=examples)
    for (name, given), port in zip(graph.inputs.items(), model.inputs, strict=True):
        port.get_tensor().set_names({name})
        shape = [-1 if n in given.open else size for n, size in enumerate(given.example.shape)]
        port.get_node().set_partial_shape(vino.PartialShape(shape))
    model.validate_nodes_and_infer_types()
    return model


def to_onnx(graph: Graph) -> bytes:
    """A graph as an ONNX model."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "graph.onnx"
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        torch.onnx.export(
            graph,
            tuple(given.example for given in graph.inputs.values()),
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: given.open for name, given in graph.inputs.items()},
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs onnxscript
        )
        return path.read_bytes()


def write_openvino(graph: Graph, stem: Path) -> None:
    """Write a graph as OpenVINO's files, its weights as they are."""
    openvino().save_model(to_openvino(graph), stem.with_suffix(".xml"), compress_to_fp16=False)


def write_onnx(graph: Graph, stem: Path) -> None:
    """Write a graph as an ONNX file."""
    stem.with_suffix(".onnx").write_bytes(to_onnx(graph))


EXPORTS = {"openvino": write_openvino, "onnx": write_onnx}
