"""Random miniatures of the decoders that can read notes, with the files that real ones have."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as byte_decoders
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

ENGLISH = (
    "Her daughter reports a slow decline of memory over two years. She repeats questions within "
    "minutes. She gets lost in her own street. Gait is normal. No hallucinations were reported. "
)
CHINESE = "患者近两年记忆力逐渐下降，反复提问。否认幻觉。步态正常。"
BOS = "<｜begin▁of▁sentence｜>"
KINDS: dict[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),  # DeepSeek-R1-Distill-Qwen
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def save_tokenizer(folder: Path) -> int:
    """A byte-level tokenizer trained on sample notes, with R1's settings; returns its size."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = byte_decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([ENGLISH, CHINESE], trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BOS).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"add_bos_token": True, "tokenizer_class": "LlamaTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(bpe.get_vocab_size())


def save_decoder(
    folder: Path,
    kind: str = "qwen2",
    *,
    dtype: torch.dtype = torch.float32,
    shard_size: str = "5GB",
    **changes: object,
) -> Path:
    """A random miniature of a decoder.

    Args:
        folder: Made, with the weights as safetensors.
        kind: One of `KINDS`.
        dtype: In which the weights are stored.
        shard_size: Largest file of weights.
        changes: To the settings.
    """
    torch.manual_seed(0)
    vocabulary = save_tokenizer(folder)
    config, model = KINDS[kind]
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 1024,
    }
    made = model(config(**(settings | changes))).to(dtype)
    made.save_pretrained(folder, max_shard_size=shard_size)
    (folder / "README.md").write_text(
        "---\nlicense: mit\nlibrary_name: transformers\n---\n# Mini\n"
    )
    return folder
