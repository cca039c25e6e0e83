"""A text model as OpenVINO or ONNX files, made once by torch and run without it afterwards.

The mask is part of the graph: ids and who is present go in, states come out, for batches and
lengths of any size. Weights that are stored in 16 bits stay so on the way: nothing is traced by
running it, and no step holds the model twice but the quantization itself.
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clinical.text_model import load_torch_model

IR = "text.xml"  # and text.bin beside it
ONNX = "text.onnx"
_PATCHED = "_openvino_module_extension_patch_orig_forward"  # OpenVINO's name for what it replaces


class MaskedStates(nn.Module):
    """A model with its mask: every token sees every present one."""

    def __init__(self, model: nn.Module, *, causal: bool = False) -> None:
        super().__init__()
        self.model = model
        self.causal = causal

    def forward(
        self, ids: Int64[Tensor, "batch token"], present: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token dim"]:
        """States of all tokens; a mask of four axes is taken by the model as it is."""
        length = ids.shape[1]
        mask = present[:, None, None, :].expand(-1, 1, length, -1)
        if self.causal:
            place = torch.arange(length, device=ids.device)
            mask = mask & (place[None, :] <= place[:, None])
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=False)
        states: Tensor = output.last_hidden_state.float()
        return states


def export(folder: Path, engine: str, precision: str, out: Path, *, causal: bool) -> None:
    """Write a model as files of an engine.

    Args:
        folder: Of the model, as `load_torch_model` reads it.
        engine: "openvino" or "onnx".
        precision: "int8" quantizes the weights; OpenVINO's "float32" and "bfloat16" are the same
            file, computed with differently.
        out: An empty folder.
        causal: Leave a decoder causal.

    Raises:
        clinical.text_folder.EncoderError: The model cannot be loaded.
    """
    if engine == "openvino":
        _export_openvino(folder, out, causal=causal, int8=precision == "int8")
    else:
        _export_onnx(folder, out, causal=causal, int8=precision == "int8")


def _export_openvino(folder: Path, out: Path, *, causal: bool, int8: bool) -> None:
    """Trace, convert, compress by NNCF, save."""
    from clinical.text_kernels import openvino

    model = _to_openvino(MaskedStates(load_torch_model(folder), causal=causal).eval())
    if int8:
        import nncf

        with contextlib.redirect_stdout(sys.stderr):  # its progress bars
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    openvino().save_model(model, out / IR, compress_to_fp16=False)


def _to_openvino(states: MaskedStates) -> Any:
    """The graph; 16-bit weights become its constants as they are."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with _traceable(states):
        decoder = TorchScriptPythonDecoder(_trace(states))  # must outlive the conversion
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape({0: [-1, -1], 1: [-1, -1]})
    return model


def _trace(states: MaskedStates) -> Any:
    """The graph as torch records it; it is the same for every size."""
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is fixed by tracing is meant to be
        return torch.jit.trace(states, _example(), check_trace=False)


@contextlib.contextmanager
def _traceable(states: MaskedStates) -> Iterator[None]:
    """Let 16-bit weights be constants of a graph that computes in what the engine is told to.

    Otherwise the graph itself would be in bfloat16, norms and softmax included.
    """
    if all(weight.dtype == torch.float32 for weight in states.parameters()):
        yield
        return
    from openvino.frontend.pytorch import patch_model

    patch_model.__make_16bit_traceable(states)
    try:
        yield
    finally:
        patch_model.unpatch_model(states, _PATCHED)


def _export_onnx(folder: Path, out: Path, *, causal: bool, int8: bool) -> None:
    """Export in single precision; quantize what came of it."""
    states = MaskedStates(load_torch_model(folder, "float32"), causal=causal).eval()
    names = ("ids", "present", "states")
    # The other exporter needs onnxscript.
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            # As a string: of a path the exporter believes that it cannot hold more than 2 GB.
            states, _example(), str(out / ("float32.onnx" if int8 else ONNX)), dynamo=False,
            opset_version=17, input_names=names[:2], output_names=names[2:],
            dynamic_axes={name: {0: "batch", 1: "token"} for name in names},
        )  # fmt: skip
    if int8:
        del states
        _quantize_onnx(out / "float32.onnx", out / ONNX)


def _quantize_onnx(source: Path, out: Path) -> None:
    """Weights to INT8, each output channel by its own scale; then the source is removed."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    beside = [path for path in source.parent.iterdir() if path != source]
    large = bool(beside)  # a graph of more than 2 GB has its weights in files beside it
    quantize_dynamic(
        source,
        out,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        use_external_data_format=large,
    )
    for path in (source, *beside):
        path.unlink()


def _example() -> tuple[Tensor, Tensor]:
    """Two short texts, the second one shorter."""
    present = torch.ones(2, 9, dtype=torch.bool)
    present[1, 6:] = False
    return torch.arange(1, 19).view(2, 9), present
