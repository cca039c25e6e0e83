"""Retrieval over a long record: facts, and 8,000 characters away which of them is meant.

A document begins or ends with a note that speaks of two findings; at its other end, a note asks for
one of them. The two sentences are to say which of them is asked for, which neither end alone can
tell: without memory, and where one end was cut off, that is a guess. What lies between is drawn
from ordinary sentences.

Usage: python -m benchmarks far_cue [--seeds 5] [--documents 1200]
"""

import argparse
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor, nn
from tqdm import tqdm

from clinical.evidence import SentencePointer
from clinical.memory import SLOTS, ChunkMemory
from clinical.record import Coding, Note
from clinical.text_encoder import TextEncoder, load_text_encoder
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
STATED = 2  # findings of a document, of which one is asked for
APART = 8_000  # characters between the two ends
READ_AT_ONCE = 2_000  # characters; 512 tokens of the stand-in
POOL = 80  # ordinary notes, of which each document draws some
ENDS = 160  # notes with facts, and as many with a question
DIM, HEADS = 64, 8
EPOCHS, BATCH, RATE = 15, 32, 2e-3  # chosen on seed 100, which is not reported
TESTS = 400  # documents


@dataclass(frozen=True)
class Document:
    """Sentences of a document, encoded.

    Attributes:
        features: ``sentence dim``.
        chunks: Number of each sentence's chunk.
        begins: Characters before each sentence.
        stated: Where the sentences are that state a finding.
        asked: Which of them is asked for.
    """

    features: NDArray[np.float32]
    chunks: NDArray[np.int64]
    begins: NDArray[np.int64]
    stated: NDArray[np.int64]
    asked: int


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


def facts(rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A note that speaks of some findings, there or not; and the sentence of each."""
    topics = [str(name) for name in rng.permutation(list(TOPICS))[:STATED]]
    said = {
        topic: str(rng.choice([*FINDINGS[topic].en, FINDINGS[topic].absent[0]])) for topic in topics
    }
    said = {topic: f"{line[0].upper()}{line[1:]}." for topic, line in said.items()}
    padding = [str(line) for line in rng.choice(PADDING_EN, 3, replace=False)]
    return " ".join(rng.permutation([*said.values(), *padding])), said


def question(topic: str, rng: np.random.Generator) -> str:
    """A note that asks for one finding."""
    padding = [str(line) for line in rng.choice(PADDING_EN, 3, replace=False)]
    return " ".join(rng.permutation([f"The question is {TOPICS[topic]}.", *padding]))


def documents(encoder: TextEncoder, n: int, seed: int) -> list[Document]:
    """Some of them, whose either fact is asked for, give or take chance.

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

    stated = [(encoded(text), text, said) for text, said in (facts(rng) for _ in range(ENDS))]
    asked = {t: [encoded(question(t, rng)) for _ in range(ENDS // len(TOPICS))] for t in TOPICS}
    pool = [encoded(ordinary(rng)) for _ in range(POOL)]
    made = []
    for _ in range(n):
        first, text, said = stated[rng.integers(ENDS)]
        which = int(rng.integers(STATED))
        questions = asked[list(said)[which]]
        between: list[Encoded] = []
        while sum(note.length for note in between) < APART:
            between.append(pool[rng.integers(POOL)])
        notes = [first, *between, questions[rng.integers(len(questions))]]
        begins = [text.index(sentence) for sentence in said.values()]
        places = np.searchsorted(first.begins, begins)
        made.append(_joined(notes, places, which, turned=bool(rng.random() < 0.5)))
    return made


def _joined(
    notes: Sequence[Encoded], stated: NDArray[np.int64], asked: int, *, turned: bool
) -> Document:
    """Notes one after the other as one document, whose first, or if turned last, has the facts."""
    notes = notes[::-1] if turned else notes
    before = sum(len(note.begins) for note in notes[:-1]) if turned else 0
    chunk = np.cumsum([0, *(int(note.chunks.max()) + 1 for note in notes)])
    place = np.cumsum([0, *(note.length for note in notes)])
    return Document(
        np.concatenate([note.features for note in notes]),
        np.concatenate([note.chunks + k for note, k in zip(notes, chunk, strict=False)]),
        np.concatenate([note.begins + k for note, k in zip(notes, place, strict=False)]),
        stated + before,
        asked,
    )


class Reader(nn.Module):
    """The network's own parts: project, remember; and a score for each sentence that is asked."""

    def __init__(self, width: int, arm: Arm, longest: int) -> None:
        super().__init__()
        self.arm = arm
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, DIM)
        self.norm_token = nn.LayerNorm(DIM)
        slots = {"memory": SLOTS, "full": longest}.get(arm)
        self.memory = ChunkMemory(DIM, HEADS, slots) if slots else None
        self.score = nn.Sequential(
            nn.LayerNorm(DIM), nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, 1)
        )

    def forward(self, features: Tensor, chunks: Tensor, present: Tensor, stated: Tensor) -> Tensor:
        """A logit for each sentence that states something."""
        tokens = self.norm_token(self.project(self.norm(features)))
        tokens = torch.where(present[..., None], tokens, 0.0)
        if self.memory is not None:
            if self.arm == "full":  # each sentence is its own summary
                chunks = torch.arange(chunks.shape[1]).expand_as(chunks)
            tokens = self.memory(tokens, chunks, present, present.float())
        rows = torch.arange(len(tokens))[:, None]
        logits: Tensor = self.score(tokens[rows, stated])[..., 0]
        return logits


def padded(found: Sequence[Document], arm: Arm) -> tuple[Tensor, ...]:
    """Features, chunks, who is present, who states something; and which of these is asked for.

    What truncation cuts off is absent.
    """
    longest = max(len(d.chunks) for d in found)
    features = torch.zeros(len(found), longest, found[0].features.shape[1])
    chunks = torch.zeros(len(found), longest, dtype=torch.int64)
    present = torch.zeros(len(found), longest, dtype=torch.bool)
    for n, d in enumerate(found):
        size = len(d.chunks)
        features[n, :size], chunks[n, :size] = map(torch.from_numpy, (d.features, d.chunks))
        seen = d.begins < READ_AT_ONCE if arm == "truncation" else np.ones(size, bool)
        present[n, :size] = torch.from_numpy(seen)
    stated = torch.from_numpy(np.stack([d.stated for d in found]))
    return features, chunks, present, stated, torch.tensor([d.asked for d in found])


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
        loss = nn.functional.cross_entropy(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        said = torch.cat(
            [reader(*(p[n : n + 100] for p in unseen)) for n in range(0, len(test), 100)]
        )
    return float((said.argmax(dim=1) == wanted).float().mean())


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=1200, help="to learn on")
    args = parser.parse_args()
    encoder = load_text_encoder()
    found = compare(encoder, range(args.seeds), args.documents)
    print(
        f"{STATED} findings and, {APART:,} characters away, which of them is asked for "
        f"({encoder.name}; {args.documents} synthetic documents to train on, {TESTS} others to "
        f"test on; truncation to {READ_AT_ONCE:,} characters; a guess is right in "
        f"{1 / STATED:.2f}):\n"
    )
    print(f"| way | right, mean of {args.seeds} seeds (95 % interval) |\n|---|--:|")
    for arm, name in ARMS.items():
        mean, spread = statistics.mean(found[arm]), statistics.stdev(found[arm])
        half = student.ppf(0.975, args.seeds - 1) * spread / args.seeds**0.5
        print(f"| {name} | {mean:.3f} ({mean - half:.3f} to {mean + half:.3f}) |")
    print(f"\n{platform.machine()}, torch {version('torch')}, numpy {version('numpy')}.")


if __name__ == "__main__":
    main()
