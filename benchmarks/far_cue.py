"""The retrieval task of `benchmarks.long_notes`: a fact, and 8,000 characters away what it is for.

A document begins or ends with a note that says of four findings whether they are there, two are and
two are not; at its other end, a note asks for one of the four. The label is whether that one is
there, so that neither end alone says anything. What lies between is drawn from ordinary sentences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from clinical.evidence import SentencePointer
from clinical.memory import ChunkMemory
from clinical.record import Coding, Note
from clinical.text_encoder import TextEncoder
from fusion.attention import DynamicWeightedAttention
from sample_data.phrases import DAILY, FINDINGS, PADDING_EN

Arm = Literal["truncation", "chunks", "memory", "full"]
ARMS: dict[Arm, str] = {
    "truncation": "truncation to what the encoder reads at once",
    "chunks": "chunks without memory",
    "memory": "chunks with memory",
    "full": "every sentence attends to every sentence",
}
TOPICS = {
    "memory": "memory", "lost": "finding the way", "hallucinations": "hallucinations",
    "parkinsonism": "stiffness and slowness", "dream": "sleep and dreaming", "gait": "walking",
    "bladder": "continence", "mood": "mood",
}  # fmt: skip
ASKED = 4  # findings of a document
APART = 8_000  # characters between the two ends
READ_AT_ONCE = 2_000  # characters; 512 tokens of the stand-in
POOL = 80  # ordinary notes, of which each document draws some
ENDS = 160  # notes with facts, and as many with a question
DIM, HEADS = 64, 8
EPOCHS, BATCH, RATE = 30, 32, 2e-3
TESTS = 400  # documents


@dataclass(frozen=True)
class Document:
    """Sentences of a document, encoded.

    Attributes:
        features: ``sentence dim``.
        chunks: Number of each sentence's chunk.
        begins: Characters before each sentence.
        label: Whether the finding that is asked for is there.
    """

    features: NDArray[np.float32]
    chunks: NDArray[np.int64]
    begins: NDArray[np.int64]
    label: bool


def ordinary(rng: np.random.Generator) -> str:
    """A note that says nothing of what may be asked."""
    others = [finding for name, finding in FINDINGS.items() if name not in TOPICS]
    lines = [
        str(rng.choice(f.en)).capitalize() + "." for f in rng.permutation(np.array(others))[:5]
    ]
    lines += [str(rng.choice(daily[0])).capitalize() + "." for daily in DAILY.values()]
    lines += [str(line) for line in rng.choice(PADDING_EN, 4, replace=False)]
    return " ".join(rng.permutation(lines))


@dataclass(frozen=True)
class Encoded:
    """A note, encoded: its sentences, their chunks, where they begin, how long it is."""

    features: NDArray[np.float32]
    chunks: NDArray[np.int64]
    begins: NDArray[np.int64]
    length: int


def facts(rng: np.random.Generator) -> tuple[str, dict[str, bool]]:
    """A note that says of some findings whether they are there; half of them are."""
    topics = [str(name) for name in rng.permutation(list(TOPICS))[:ASKED]]
    there = [bool(n % 2) for n in rng.permutation(ASKED)]
    said = [
        str(rng.choice(FINDINGS[t].en)) if here else FINDINGS[t].absent[0]
        for t, here in zip(topics, there, strict=True)
    ]
    padding = [str(line) for line in rng.choice(PADDING_EN, 3, replace=False)]
    lines = rng.permutation([*(f"{line.capitalize()}." for line in said), *padding])
    return " ".join(lines), dict(zip(topics, there, strict=True))


def question(topic: str, rng: np.random.Generator) -> str:
    """A note that asks for one finding."""
    padding = [str(line) for line in rng.choice(PADDING_EN, 3, replace=False)]
    return " ".join(rng.permutation([f"The question is {TOPICS[topic]}.", *padding]))


def documents(encoder: TextEncoder, n: int, seed: int) -> list[Document]:
    """Some of them, as many with either label, give or take chance.

    Their notes come from pools that are encoded once; documents of two seeds share no pool.
    """
    rng = np.random.default_rng(seed)

    def encoded(text: str) -> Encoded:
        tokens = encoder.note_tokens([Note("n", Coding("", "", ""), text)])
        assert tokens is not None
        begins = [p.start for p in tokens.pointers if isinstance(p, SentencePointer)]
        return Encoded(
            tokens.features.astype(np.float32), tokens.kinds, np.array(begins), len(text) + 1
        )

    said = [(encoded(text), there) for text, there in (facts(rng) for _ in range(ENDS))]
    asked = {t: [encoded(question(t, rng)) for _ in range(ENDS // len(TOPICS))] for t in TOPICS}
    pool = [encoded(ordinary(rng)) for _ in range(POOL)]
    made = []
    for _ in range(n):
        first, there = said[rng.integers(ENDS)]
        topic = list(there)[rng.integers(ASKED)]
        last = asked[topic][rng.integers(len(asked[topic]))]
        between: list[Encoded] = []
        while sum(note.length for note in between) < APART:
            between.append(pool[rng.integers(POOL)])
        notes = [first, *between, last]
        made.append(_joined(notes if rng.random() < 0.5 else notes[::-1], label=there[topic]))
    return made


def _joined(notes: Sequence[Encoded], *, label: bool) -> Document:
    """Notes one after the other as one document."""
    chunk = np.cumsum([0, *(int(note.chunks.max()) + 1 for note in notes)])
    place = np.cumsum([0, *(note.length for note in notes)])
    return Document(
        np.concatenate([note.features for note in notes]),
        np.concatenate([note.chunks + k for note, k in zip(notes, chunk, strict=False)]),
        np.concatenate([note.begins + k for note, k in zip(notes, place, strict=False)]),
        label,
    )


class Reader(nn.Module):
    """The network's own parts for one question: project, remember, attend, decide."""

    def __init__(self, width: int, arm: Arm, longest: int) -> None:
        super().__init__()
        self.arm = arm
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, DIM)
        self.norm_token = nn.LayerNorm(DIM)
        slots = {"memory": 64, "full": longest}.get(arm)
        self.memory = ChunkMemory(DIM, HEADS, slots) if slots else None
        self.query = nn.Parameter(torch.randn(1, DIM) * 0.5)
        self.attention = DynamicWeightedAttention(DIM, HEADS, 1)
        self.think = nn.Sequential(
            nn.LayerNorm(DIM), nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, 1)
        )

    def forward(self, features: Tensor, chunks: Tensor, present: Tensor) -> Tensor:
        """A logit a document."""
        tokens = self.norm_token(self.project(self.norm(features)))
        quality = present.float()
        if self.memory is not None:
            if self.arm == "full":  # each sentence is its own summary
                chunks = torch.arange(chunks.shape[1]).expand_as(chunks)
            tokens = self.norm_token(self.memory(tokens, chunks, present, quality))
        modality = torch.zeros(tokens.shape[1], dtype=torch.int64)
        queries = self.query.expand(len(tokens), -1, -1)
        answer, _ = self.attention(queries, tokens, modality, quality, present)
        logit: Tensor = self.think(answer[:, 0])[:, 0]
        return logit


def padded(found: Sequence[Document], arm: Arm) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, chunks, who is present, and labels; what truncation cuts off is absent."""
    longest = max(len(d.chunks) for d in found)
    features = torch.zeros(len(found), longest, found[0].features.shape[1])
    chunks = torch.zeros(len(found), longest, dtype=torch.int64)
    present = torch.zeros(len(found), longest, dtype=torch.bool)
    for n, d in enumerate(found):
        size = len(d.chunks)
        features[n, :size], chunks[n, :size] = map(torch.from_numpy, (d.features, d.chunks))
        seen = d.begins < READ_AT_ONCE if arm == "truncation" else np.ones(size, bool)
        present[n, :size] = torch.from_numpy(seen)
    return features, chunks, present, torch.tensor([float(d.label) for d in found])


def accuracy(arm: Arm, train: Sequence[Document], test: Sequence[Document], seed: int) -> float:
    """Train one reader and ask it about documents it never saw."""
    torch.manual_seed(seed)
    *inputs, labels = padded(train, arm)
    *unseen, wanted = padded(test, arm)
    longest = max(inputs[0].shape[1], unseen[0].shape[1])
    reader = Reader(inputs[0].shape[2], arm, longest)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=RATE, weight_decay=0.02)
    steps = EPOCHS * (len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for rows in _batches(len(train), seed):
        logits = reader(*(part[rows] for part in inputs))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        said = torch.cat(
            [reader(*(p[n : n + 100] for p in unseen)) for n in range(0, len(test), 100)]
        )
    return float(((said > 0) == (wanted > 0)).float().mean())


def _batches(n: int, seed: int) -> Iterator[Tensor]:
    """Rows of every step of all epochs."""
    drawn = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        order = torch.randperm(n, generator=drawn)
        yield from order[: n - n % BATCH].split(BATCH)


def compare(
    encoder: TextEncoder, seeds: Sequence[int], n_train: int, n_test: int = TESTS
) -> dict[Arm, list[float]]:
    """Accuracy of every arm, a number a seed; all arms of a seed read the same documents."""
    found: dict[Arm, list[float]] = {arm: [] for arm in ARMS}
    for seed in tqdm(seeds, "retrieval", disable=None):
        train = documents(encoder, n_train, 2 * seed)
        test = documents(encoder, n_test, 2 * seed + 1)
        for arm in ARMS:
            found[arm].append(accuracy(arm, train, test, seed))
    return found
