"""Frozen language models that turn clinical text into vectors and notes into sentence tokens.

Two kinds of model go through the same code: a decoder such as DeepSeek-R1-Distill-Qwen, made
bidirectional by an explicit mask, and the offline stand-in all-MiniLM-L6-v2, which reads English
only. The encoder's `name` says which one ran. What runs it is `clinical.text_engines`; nothing here
imports torch.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int64
from tokenizers import Encoding, Tokenizer

from clinical.addressed import addressed, without
from clinical.evidence import ClinicalTokens, SentencePointer
from clinical.notes import chunks, copied_forward, has_han, language, sentences
from clinical.plain_characters import readable
from clinical.record import Note
from clinical.rules_only import READ_BY_RULES, RULES_ONLY_QUALITY, rule_sentences
from clinical.text_engines import TextEngine, load_text_engine
from clinical.text_folder import (
    EncoderError,
    describe,
    find_folder,
    read_settings,
    settings_sha256,
)
from clinical.text_model import load_tokenizer
from clinical.vectors import VectorCache

logger = logging.getLogger(__name__)

Span = tuple[int, int]  # start and end, in characters
Block = Float16[np.ndarray, "span dim"]

VERSION = 1  # to be raised whenever this module makes other vectors of the same states
TOKEN_BUDGET = 1024  # padded tokens a batch: more takes memory and saves no time
WINDOW = 512  # chunks whose tokens are held at a time, out of which batches are made
UNREAD_LANGUAGE_QUALITY = 0.2  # of a fact in a language the model was not trained on
SMALLEST_CHANGE = 1e-3  # of the earlier states, relative, when the last word is another
NOISE_MARGIN = 3  # times the change between two runs of the same text
PROBE = "The patient could not recall any of the three words after a delay of five minutes"


class _Piece(NamedTuple):
    """What is encoded at once: a readable text, and its wanted spans; () is the whole."""

    text: str
    wanted: tuple[Span, ...] = ()


class _Part(NamedTuple):
    """Sentences of one chunk that become tokens.

    What is encoded is the chunk, with all sentences that it owns, of which `new` are no copies;
    or, where only rules can read it, an English sentence for each.
    """

    pointers: tuple[SentencePointer, ...]
    pieces: tuple[_Piece, ...]
    new: tuple[bool, ...]
    quality: float


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A frozen language model; made by `load_text_encoder`.

    Attributes:
        name: What ran, for the report: the stand-in, or the model and its architecture.
        sha256: Of the weights; of the shards' hashes in order of their names if there are several.
        license: Of the weights, as their folder says.
        dim: Length of a vector.
        languages: Languages the model was trained on, as `Note.language` spells them.
        engine: What runs it, and in which precision.
        tokenizer: As the model's ``tokenizer.json`` has it, without padding.
        settings: SHA-256 of what else decides a vector.
        vectors: What was encoded before.
        pools_special: True where the model's mean includes its special tokens.
        causal: True leaves a decoder causal, for comparison only.
    """

    name: str
    sha256: str
    license: str
    dim: int
    languages: frozenset[str]
    engine: TextEngine = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    settings: str = field(repr=False)
    vectors: VectorCache = field(default_factory=VectorCache, repr=False)
    pools_special: bool = False
    causal: bool = False

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "text dim"]:
        """Encode short texts, each on its own.

        Args:
            texts: Sentences or names of facts; what exceeds the model's length is not read.

        Returns:
            A vector of length 1 for each, the mean of its tokens' states.
        """
        return self._joined(self._blocks(_Piece(readable(text)) for text in texts))

    def note_tokens(self, notes: Sequence[Note]) -> ClinicalTokens | None:
        """Encode notes into one token a sentence.

        A sentence is the mean of its tokens' states within the chunk that shows most of what
        surrounds it, scaled to length 1. One that was copied from an earlier note is no further
        token: the evidence is the earliest note, in which somebody saw it. A note in a language
        that the model does not read gives what `clinical.rules_only` finds in it, and no more.

        Args:
            notes: In the order in which their tokens shall follow each other.

        Returns:
            Features ``sentence dim``; None where no note has a sentence. Kinds number the chunks
            over all notes. Quality is 1, `RULES_ONLY_QUALITY` where rules read the sentence, 0
            where the model's length left nothing of it.
        """
        copied = map(frozenset, copied_forward(notes))
        parts = [
            part for note, old in zip(notes, copied, strict=True) for part in self._parts(note, old)
        ]
        if not parts:
            return None
        blocks = self._blocks(piece for part in parts for piece in part.pieces)
        features = self._joined(
            np.concatenate(list(islice(blocks, len(part.pieces))))[np.array(part.new)]
            for part in parts
        )
        counts = [len(part.pointers) for part in parts]
        trust = np.repeat(np.array([part.quality for part in parts], dtype=np.float32), counts)
        return ClinicalTokens(
            features=features,
            kinds=np.repeat(np.arange(len(parts)), counts),
            quality=trust * features.any(axis=1),
            pointers=tuple(pointer for part in parts for pointer in part.pointers),
        )

    def _parts(self, note: Note, old: frozenset[Span]) -> Iterator[_Part]:
        """The parts of a note that have a sentence which is no copy, with what is encoded."""
        unread, spoken = self.unread(note), addressed(note)
        said = rule_sentences(replace(note, language="zh")) if unread else ()
        # Rules read what is said of the patient, and nothing in what speaks to a machine.
        english = {span: words for span, words in said if span in unread and span not in spoken}
        alone = [span for span in spoken if span not in unread]
        apart = unread.union(alone)
        plain = without(readable(note.text), sorted(apart))
        for (start, end), owned in shares(note.text):
            here = [span for span in owned if span not in apart]
            new = tuple(span not in old for span in here)
            if any(new):  # the text of a whole copy is not even read
                spans = tuple((s - start, e - start) for s, e in here)
                pointers = tuple(SentencePointer(note.id, *span) for span in compress(here, new))
                yield _Part(pointers, (_Piece(plain[start:end], spans),), new, 1.0)
            ruled = [span for span in owned if span in english and span not in old]
            if ruled:
                pointers = tuple(SentencePointer(note.id, *span, by_rules=True) for span in ruled)
                pieces = tuple(_Piece(english[span]) for span in ruled)
                yield _Part(pointers, pieces, (True,) * len(ruled), RULES_ONLY_QUALITY)
        for span in alone:  # what speaks to a machine is read apart, so that it colours nothing
            if span not in old:
                piece = _Piece(readable(note.text[slice(*span)]))
                yield _Part((SentencePointer(note.id, *span),), (piece,), (True,), 1.0)

    def unread(self, note: Note) -> frozenset[Span]:
        """Sentences in a language that the model does not read.

        Decided sentence by sentence, so that a note is not lost to a paragraph in another
        language; of a Chinese note every sentence with a Han character is Chinese.
        """
        if self.languages >= READ_BY_RULES:
            return frozenset()
        spans = sentences(note.text)
        if note.language in READ_BY_RULES:
            return frozenset(span for span in spans if has_han(note.text[slice(*span)]))
        return frozenset(s for s in spans if language(note.text[slice(*s)]) in READ_BY_RULES)

    def trust(self, language: str) -> float:
        """How far a vector of a text in this language can be relied upon, 0..1."""
        return 1.0 if language in self.languages else UNREAD_LANGUAGE_QUALITY

    def verify_bidirectional(self) -> None:
        """Prove that a later word changes an earlier state, on the engine that runs.

        The words are compared within one batch, where a quantized engine scales all rows alike,
        and against what two runs of the same text differ by.

        Raises:
            EncoderError: It does not: the model reads from left to right only.
        """
        encoding = self.tokenizer.encode(PROBE)
        last = int(_words(encoding).nonzero()[0][-1])
        ids = np.tile(np.array(encoding.ids, dtype=np.int64), (3, 1))
        ids[1, last] = ids[0, last - 1]
        states = self.engine.states(ids, np.ones_like(ids, dtype=np.bool_))[:, :last]
        first, other, again = states.reshape(3, -1)
        change, noise = (np.linalg.norm(row - first) for row in (other, again))
        if not change > max(SMALLEST_CHANGE * np.linalg.norm(first), NOISE_MARGIN * noise):
            raise EncoderError(
                f"{self.name} stayed causal: a later word changes no earlier state. Engine "
                f"{self.engine.name} ignores the bidirectional mask; install the pinned versions"
            )

    def _joined(self, blocks: Iterable[Block]) -> Float32[np.ndarray, "token dim"]:
        """Blocks as one array."""
        rows = [np.empty((0, self.dim), dtype=np.float16), *blocks]
        joined: np.ndarray = np.concatenate(rows, dtype=np.float32)
        return joined

    def _blocks(self, pieces: Iterable[_Piece]) -> Iterator[Block]:
        """The vectors of each piece: known ones by their key, new ones encoded and kept.

        Half precision, whether they come from the cache or not, so that it makes no difference.
        """
        rest = iter(pieces)
        while some := list(islice(rest, WINDOW)):
            keys = [self._key(piece) for piece in some]
            known = self.vectors.get(keys)
            new = {key: piece for key, piece in zip(keys, some, strict=True) if key not in known}
            fresh = dict(zip(new, self._pool(list(new.values())), strict=True))
            self.vectors.put(fresh)
            known |= fresh
            yield from (known[key] for key in keys)

    def _key(self, piece: _Piece) -> bytes:
        """Of everything that decides the vectors of a piece."""
        model = (VERSION, self.sha256, self.settings, self.engine.name, self.engine.precision)
        return self.vectors.key(*model, self.causal, piece.text, piece.wanted)

    def _pool(self, pieces: Sequence[_Piece]) -> list[Block]:
        """Mean state over each wanted span of each piece; its states are dropped at once."""
        encodings = self.tokenizer.encode_batch([piece.text for piece in pieces])
        pooled: dict[int, Block] = {}
        for rows in batches([len(encoding.ids) for encoding in encodings]):
            ids, present = _pad([encodings[row] for row in rows])
            for row, states in zip(rows, self.engine.states(ids, present), strict=True):
                within = self._within(encodings[row], pieces[row].wanted)
                total = within.astype(np.float32) @ states[: within.shape[1]]
                length = np.linalg.norm(total, axis=1, keepdims=True)
                pooled[row] = (total / np.maximum(length, 1e-12)).astype(np.float16)
        return [pooled[row] for row in range(len(pieces))]

    def _within(self, encoding: Encoding, spans: Sequence[Span]) -> Bool[np.ndarray, "span token"]:
        """Which tokens belong to each span."""
        words = _words(encoding)
        if not spans:
            return (np.ones_like(words) if self.pools_special else words)[None]
        offsets = np.array(encoding.offsets).reshape(-1, 2)
        limits = np.array(spans).reshape(-1, 2, 1)
        overlaps = (offsets[:, 0] < limits[:, 1]) & (offsets[:, 1] > limits[:, 0])
        belongs: np.ndarray = overlaps & words
        return belongs


def load_text_encoder(
    path: Path | str | None = None,
    *,
    engine: str = "auto",
    precision: str = "auto",
    kept: Path | None = None,
    vectors: VectorCache | None = None,
    causal: bool = False,
) -> TextEncoder:
    """Load a frozen text encoder from this machine; never from the network.

    Args:
        path: Folder of a DeepSeek-R1-Distill-Qwen or another Qwen or Llama decoder, with
            ``config.json``, ``tokenizer.json`` and safetensors weights; or its name in the local
            Hugging Face cache. None loads the stand-in all-MiniLM-L6-v2.
        engine: "openvino", "onnx", "torch", or "auto", the fastest that is installed.
        precision: As `clinical.text_engines.load_text_engine` has it.
        kept: Folder of a site's engines, where what is exported and hashed is kept.
        vectors: What was encoded before; None begins anew, in memory.
        causal: Leave a decoder causal, to compare with; nothing else uses this.

    Returns:
        The encoder, proved to be bidirectional unless `causal`.

    Raises:
        EncoderError: A file is missing or altered, the architecture is not one that is read
            here, or the decoder could not be made bidirectional.
    """
    folder = find_folder(path)
    settings = read_settings(folder, decoder=path is not None)
    about = describe(path, kept=kept)
    tokenizer = load_tokenizer(folder, settings["max_position_embeddings"])
    encoder = TextEncoder(
        name=about.name,
        sha256=about.sha256,
        license=about.license,
        dim=settings["hidden_size"],
        languages=frozenset({"en"} if path is None else {"en", "zh"}),
        engine=load_text_engine(
            folder, about.sha256, engine=engine, precision=precision, kept=kept, causal=causal
        ),
        tokenizer=tokenizer,
        settings=settings_sha256(folder),
        vectors=vectors if vectors is not None else VectorCache(),
        pools_special=path is None,
        causal=causal,
    )
    if not causal:
        encoder.verify_bidirectional()
    logger.info("text encoder: %s, sha256 %s", encoder.name, encoder.sha256[:12])
    return encoder


def shares(text: str) -> Iterator[tuple[Span, list[Span]]]:
    """Share the sentences of a note among its chunks: each to that which shows most around it.

    Returns:
        Chunks that own a sentence, in order, with their sentences. Linear in the text's length.
    """
    shown = chunks(text)
    owned: list[list[Span]] = [[] for _ in shown]
    first = 0
    for start, end in sentences(text):
        while shown[first][1] < end:  # both ends of the chunks ascend
            first += 1
        holders = range(first, len(shown))
        best, most = first, -1
        for n in holders:
            if shown[n][0] > start:
                break
            around = min(start - shown[n][0], shown[n][1] - end)
            if around > most:
                best, most = n, around
        owned[best].append((start, end))
    yield from ((chunk, spans) for chunk, spans in zip(shown, owned, strict=True) if spans)


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
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
) -> tuple[Int64[np.ndarray, "batch token"], Bool[np.ndarray, "batch token"]]:
    """Pad on the right; returns the ids and which of them are present."""
    length = max(1, *(len(encoding.ids) for encoding in encodings))
    ids = np.zeros((len(encodings), length), dtype=np.int64)
    present = np.zeros((len(encodings), length), dtype=np.bool_)
    present[:, 0] = True  # an empty text still needs something to attend to
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = encoding.ids
        present[row, : len(encoding.ids)] = True
    return ids, present


def _words(encoding: Encoding) -> Bool[np.ndarray, " token"]:
    """Which tokens stand for characters of the text."""
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    return offsets[:, 1] > offsets[:, 0]
