"""A language model's tokenizer, and its weights as torch runs them.

torch is imported where weights are loaded, so that an engine which was exported once runs
without it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64
from tokenizers import Tokenizer, processors
from tokenizers.processors import TemplateProcessing

from clinical.text_folder import MAX_TOKENS, EncoderError, model_name, read_json

States = Callable[
    [Int64[np.ndarray, "batch token"], Bool[np.ndarray, "batch token"]],
    Float32[np.ndarray, "batch token dim"],
]


def load_tokenizer(folder: Path, positions: int) -> Tokenizer:
    """Load ``tokenizer.json`` itself.

    The class that DeepSeek-R1-Distill-Qwen names in its settings would replace the byte-level
    splitting by another and lose every space (transformers issue 45488).

    Args:
        folder: Of the model.
        positions: How many tokens the model can tell apart by place.
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing more specific
        raise EncoderError(f"{model_name(folder)}/tokenizer.json is missing or damaged") from error
    settings = read_json(folder / "tokenizer_config.json")
    if settings.get("add_bos_token"):
        _begin_with(tokenizer, settings.get("bos_token"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(positions, MAX_TOKENS))
    tokenizer.encode_special_tokens = True  # "[SEP]" typed into a note is text
    return tokenizer


def _begin_with(tokenizer: Tokenizer, token: str | dict[str, Any] | None) -> None:
    """Begin every text with this token, if the tokenizer does not do so by itself."""
    name = token["content"] if isinstance(token, dict) else token
    number = None if name is None else tokenizer.token_to_id(name)
    if name is None or number is None or tokenizer.encode("a").ids[:1] == [number]:
        return
    begin = TemplateProcessing(single=[name, "$A"], special_tokens=[(name, number)])
    own = tokenizer.post_processor
    tokenizer.post_processor = begin if own is None else processors.Sequence([own, begin])


def load_torch_model(  # torch is not imported above
    folder: Path, dtype: Any = "auto", *, head: bool = False
) -> Any:
    """Load every weight of the architecture, and freeze them.

    The weights are read part by part into their places; there is no second copy of the model.

    Args:
        folder: Of the model.
        dtype: A ``torch.dtype`` or its name; "auto" is the type in which they are stored.
        head: Load the head that predicts tokens, too, which adapting needs.

    Returns:
        A ``transformers.PreTrainedModel``.

    Raises:
        EncoderError: A weight is missing or a file is damaged.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.utils import logging as transformers_log
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    transformers_log.set_verbosity_error()  # the report of unused heads helps nobody here
    try:
        kind: Any = AutoModelForCausalLM if head else AutoModel
        model, loaded = kind.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise EncoderError(
            f"{model_name(folder)} cannot be loaded: {type(error).__name__}"
        ) from error
    missing = loaded["missing_keys"]
    if missing:
        raise EncoderError(
            f"{model_name(folder)} lacks {len(missing)} weights of its architecture, "
            f"such as {min(missing)}; copy the folder again, complete"
        )
    return model.eval().requires_grad_(requires_grad=False)


def torch_states(model: Any, *, causal: bool = False) -> States:
    """A model's states as a function of NumPy arrays; every token sees every present one.

    Args:
        model: Of `load_torch_model`.
        causal: Leave a decoder causal, for comparison.
    """
    import torch

    def states(
        ids: Int64[np.ndarray, "batch token"], present: Bool[np.ndarray, "batch token"]
    ) -> Float32[np.ndarray, "batch token dim"]:
        # A mask of four axes is taken as it is; with two, or none, a decoder's own is causal.
        there = torch.from_numpy(present).to(model.device)
        mask = there if causal else there[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        words = torch.from_numpy(ids).to(model.device)
        with torch.inference_mode():
            output = model(input_ids=words, attention_mask=mask, use_cache=False)
        found: np.ndarray = output.last_hidden_state.float().cpu().numpy()
        return found

    return states
