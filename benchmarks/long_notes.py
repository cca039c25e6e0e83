"""Long records: memory and time of the hierarchical encoding, and what it costs in quality.

Notes of 1,000 to 1,000,000 characters are read three ways by the same encoder:

* hierarchical: chunks of 512 characters in batches, one vector a sentence, then a cross attention
  to the summaries of the chunks (`clinical.text_encoder`, `clinical.memory`);
* full attention: the whole text in one piece, every token attending to every other, without a mask
  and by torch's flash attention, which never writes the attention out: the strongest opponent;
* truncation: what the encoder reads at once, the rest is lost.

The decoder has the width of DeepSeek-R1-Distill-Qwen-1.5B and a few of its layers with random
weights, which cost what trained ones cost: of short texts as many as can be afforded, since what is
paid once a text, such as the tokenizer and the compilation of a multiplication for a new length, is
shared among them. Peak memory is what the process needed above what it
held with the weights loaded and a short text read; every row runs in a process of its own, in turn.

What is lost or gained in quality: `benchmarks.far_cue`.

Usage: python -m benchmarks long_notes [--layers 8 8 2 1] [--limit 300]
"""

import argparse
import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from clinical.notes import sentences
from clinical.record import Coding, Note

LENGTHS = (1_000, 10_000, 100_000, 1_000_000)  # characters
LAYERS = (8, 8, 2, 1)  # of R1's 28, at each length
ROUNDS = (3, 3, 1, 1)  # likewise
WAYS = ("hierarchical", "full attention", "truncation")
R1 = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
      "num_key_value_heads": 2, "max_position_embeddings": 131_072}  # fmt: skip
VOCABULARY = 1_000  # makes tokens of the sample notes as long as Qwen's of English notes
FUSION_DIM = 192
TARGETS = {10_000: (0.5, 1.1), 100_000: (0.1, 0.6)}  # of full attention's memory and time
FAILED = {"peak_mb": float("nan"), "seconds": float("nan")}
Figures = dict[str, float]


def sample_text(n_chars: int, seed: int = 0) -> str:
    """So many characters of synthetic notes in English, one after the other.

    Every sentence has a number, since one that is repeated word for word is read only once.
    """
    from sample_data.hospitals import HOSPITALS
    from sample_data.notes import write_notes
    from sample_data.patients import draw_patient

    rng, parts, length, index = np.random.default_rng(seed), list[str](), 0, 0
    while length < n_chars:
        for note in write_notes(draw_patient(HOSPITALS[0], seed, index), HOSPITALS[0], rng):
            for start, end in sentences(note.text):
                parts.append(f"Entry {len(parts)}, {note.text[start:end]}")
                length += len(parts[-1]) + 1
        index += 1
    return " ".join(parts)[:n_chars]


def make_decoder(folder: Path, layers: int) -> None:
    """Write a decoder of R1's width with random weights, with a tokenizer of the sample notes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

    torch.manual_seed(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([sample_text(200_000, seed=1)], trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe).save_pretrained(folder)
    config = Qwen2Config(vocab_size=bpe.get_vocab_size(), num_hidden_layers=layers, **R1)
    Qwen2Model(config).to(torch.bfloat16).save_pretrained(folder)


Read = Callable[[str], int]  # reads a text; returns how many sentences have a vector


def hierarchical(folder: Path | None) -> Read:
    """As the project does it."""
    import torch

    from clinical.memory import ChunkMemory
    from clinical.text_encoder import load_text_encoder

    encoder = load_text_encoder(folder, engine="torch", precision="bfloat16")
    project, memory = torch.nn.Linear(encoder.dim, FUSION_DIM), ChunkMemory(FUSION_DIM)

    def read(text: str) -> int:
        tokens = encoder.note_tokens([Note("n", Coding("", "", ""), text)])
        assert tokens is not None
        with torch.inference_mode():
            projected = project(torch.from_numpy(tokens.features))[None]
            chunks, quality = (torch.from_numpy(x)[None] for x in (tokens.kinds, tokens.quality))
            return int(memory(projected, chunks, quality > 0, quality).shape[1])

    return read


def in_one_piece(folder: Path | None, longest: int | None) -> Read:
    """All tokens of a text, or the first so many, in one sequence, pooled to sentences."""
    import torch

    from clinical.text_folder import find_folder
    from clinical.text_model import load_tokenizer, load_torch_model

    place = find_folder(folder)
    model = load_torch_model(place, "bfloat16")
    positions = model.config.max_position_embeddings
    tokenizer = load_tokenizer(place, positions)
    tokenizer.no_truncation()
    _without_mask(model)

    def read(text: str) -> int:
        encoding = tokenizer.encode(text)
        ids, offsets = encoding.ids[:longest], np.array(encoding.offsets[:longest])
        if len(ids) > positions:
            raise SystemExit(f"{len(ids)} tokens, {positions} positions")
        with torch.inference_mode():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        spans = np.array(sentences(text))
        of = np.searchsorted(spans[:, 0], offsets[:, 0], side="right") - 1
        pooled = torch.zeros(len(spans), states.shape[1])
        pooled.index_add_(0, torch.from_numpy(of.clip(min=0)), states.float())
        return int((pooled.norm(dim=1) > 0).sum())

    return read


def _without_mask(model: Any) -> None:
    """Make every token attend to every token, with no mask to be held in memory."""
    import torch
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def everything(*given: Any, scaling: float, **_: Any) -> tuple[Any, None]:
        query, key, value = given[1:4]
        shared = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling)
        return found.transpose(1, 2).contiguous(), None

    AttentionInterface.register("everything", everything)
    AttentionMaskInterface.register("everything", lambda *_, **__: None)
    model.set_attn_implementation("everything")


def read_once(way: str, folder: Path | None, n_chars: int) -> Figures:
    """Load, warm up, and read one text; seconds and peak memory above the weights."""
    longest = None if way != "truncation" else 2048 if folder else 512
    read = hierarchical(folder) if way == "hierarchical" else in_one_piece(folder, longest)
    read(sample_text(600, seed=2))
    text = sample_text(n_chars)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status_mb("VmRSS")
    began = time.perf_counter()
    found = read(text)
    took = time.perf_counter() - began
    peak_mb = _status_mb("VmHWM") - before
    return {"seconds": took, "peak_mb": peak_mb, "sentences": found, "of": len(sentences(text))}


def _status_mb(field: str) -> float:
    """One line of what Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measured(way: str, folder: Path | None, n_chars: int, limit_s: float) -> Figures | str:
    """One row in a process of its own; a word where it could not be done."""
    command = [sys.executable, "-m", "benchmarks.long_notes", "--way", way, "--chars", str(n_chars)]
    command += ["--folder", str(folder)] if folder else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"not in {limit_s:.0f} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return last if "positions" in last else f"failed ({last[:60]})"
    return dict(json.loads(done.stdout.splitlines()[-1]))


def all_rows(
    folders: Mapping[int, Path | None], rounds: Mapping[int, int], limit_s: float
) -> dict[tuple[int, str], Figures | str]:
    """Every way at every length, in turn; medians. What failed once is not tried again."""
    runs: dict[tuple[int, str], list[Figures]] = {}
    failed: dict[tuple[int, str], str] = {}
    for n_chars, folder in folders.items():
        for _ in range(rounds[n_chars]):
            for way in WAYS:
                if (n_chars, way) in failed:
                    continue
                found = measured(way, folder, n_chars, limit_s)
                print(n_chars, way, found, file=sys.stderr, flush=True)
                if isinstance(found, str):
                    failed[n_chars, way] = found
                else:
                    runs.setdefault((n_chars, way), []).append(found)
    medians: dict[tuple[int, str], Figures | str] = {
        row: {name: statistics.median(f[name] for f in figures) for name in figures[0]}
        for row, figures in runs.items()
    }
    return medians | failed


def rows(found: Mapping[tuple[int, str], Figures | str], lengths: Sequence[int]) -> Iterator[str]:
    """The table of one encoder."""
    yield "| characters | way | sentences read | peak above the weights, MB | seconds | memory / full | time / full |"  # noqa: E501
    yield "|--:|---|--:|--:|--:|--:|--:|"
    for n in lengths:
        full = found[n, "full attention"]
        for way in WAYS:
            mine = found[n, way]
            if isinstance(mine, str):
                yield f"| {n:,} | {way} | {mine} | | | | |"
                continue
            ratios = ["", ""]
            if not isinstance(full, str) and way == "hierarchical":
                ratios = [f"{mine[key] / full[key]:.2f}" for key in ("peak_mb", "seconds")]
            yield (
                f"| {n:,} | {way} | {mine['sentences']:.0f} of {mine['of']:.0f} "
                f"| {mine['peak_mb']:.0f} | {mine['seconds']:.2f} | {' | '.join(ratios)} |"
            )


def verdicts(found: Mapping[tuple[int, str], Figures | str]) -> Iterator[str]:
    """Each target and whether it was met."""
    for n, targets in TARGETS.items():
        mine, full = found.get((n, "hierarchical")), found.get((n, "full attention"))
        if not isinstance(mine, dict) or not isinstance(full, dict):
            continue
        for what, key, wanted in zip(
            ("memory", "time"), ("peak_mb", "seconds"), targets, strict=True
        ):
            ratio = mine[key] / full[key]
            met = "met" if ratio <= wanted else "not met"
            yield f"* {what} at {n:,} characters: {ratio:.2f} of full attention's; target {wanted}: {met}."  # noqa: E501


def main() -> None:
    """Print the tables; with --way, read one text and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--chars", type=int, nargs="+", default=LENGTHS)
    parser.add_argument(
        "--layers", type=int, nargs="+", default=LAYERS, help="of R1's 28, at each length"
    )
    parser.add_argument("--rounds", type=int, nargs="+", default=ROUNDS, help="at each length")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a row may take")
    args, _ = parser.parse_known_args()
    if args.way:
        print(json.dumps(read_once(args.way, args.folder, args.chars[0])))
        return
    with tempfile.TemporaryDirectory() as name:
        deep = {layers: Path(name) / f"r1-width-{layers}" for layers in set(args.layers)}
        for layers, folder in deep.items():
            make_decoder(folder, layers)
        at = dict(zip(args.chars, args.layers, strict=True))
        rounds = dict(zip(args.chars, args.rounds, strict=True))
        found = all_rows({n: deep[layers] for n, layers in at.items()}, rounds, args.limit)
    depths = ", ".join(f"{at[n]} at {n:,} (median of {rounds[n]})" for n in at)
    print(f"A decoder of R1-1.5B's width, of its 28 layers {depths} characters, random weights, "
          "bfloat16 on torch.\n")  # fmt: skip
    print("\n".join([*rows(found, args.chars), "", *verdicts(found)]))
    print("\n<!-- more -->\n\nThe stand-in, whose positions end at 512 tokens:\n")
    found = all_rows(dict.fromkeys(args.chars), rounds, args.limit)
    print("\n".join(rows(found, args.chars)))
    print(f"\nTwo cores, {platform.machine()}; torch {version('torch')}, "
          f"transformers {version('transformers')}.")  # fmt: skip


if __name__ == "__main__":
    main()
