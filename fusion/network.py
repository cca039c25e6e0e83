"""A network as whoever runs it sees it: NumPy in, NumPy out, whatever computes in between.

`fusion.model.DiagnosticModel` is one, on torch; `fusion.engines` has those that need no torch. A
case is encoded once and then answered as often as it takes, each time under another row of
`present`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from clinical.units import table_version
from fusion.case import MODALITIES, Case, CaseBatch, collate

Form = Literal["soft", "hard", "plain"]  # of the dynamic weighting, see `fusion.attention`


class CheckpointError(ValueError):
    """A model folder that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network."""

    n_syndromes: int = 3  # of the scheme; exclude each other
    n_causes: int = 10  # of the scheme; independent
    text_dim: int = 384  # width of the text encoder's sentences
    dim: int = 192  # width of a token inside the network
    heads: int = 24  # of the attention; divides dim
    layers: int = 1  # times each diagnosis asks the evidence
    form: Form = "soft"  # of the dynamic weighting; hard, plain
    dropout: float = 0.3  # of what is read from the evidence
    memory: bool = False  # whether sentences know what the other chunks of the notes say
    analytes: str = field(default_factory=table_version)  # by which laboratory tokens are counted

    @property
    def n_labels(self) -> int:
        """Length of the axis ``diagnosis``: syndromes, then causes."""
        return self.n_syndromes + self.n_causes


@dataclass(frozen=True)
class Encoded:
    """Encoded tokens of all modalities side by side, in the order of `MODALITIES`.

    Attributes:
        tokens: Encoded; what stands where a token is absent means nothing.
        kinds: Row of each token's table of kinds; of a sentence, the chunk it was read in.
        modality: Position in `MODALITIES` of each token.
        quality: 0..1.
        present: True where there is a token.
        alone: What each token adds to each logit by itself.
        notes: Where the sentences begin and end along the axis ``token``.
    """

    tokens: Float32[np.ndarray, "batch token dim"]
    kinds: Int64[np.ndarray, "batch token"]
    modality: Int64[np.ndarray, " token"]
    quality: Float32[np.ndarray, "batch token"]
    present: Bool[np.ndarray, "batch token"]
    alone: Float32[np.ndarray, "batch token diagnosis"]
    notes: tuple[int, int]


@dataclass(frozen=True)
class Output:
    """What the network says.

    Attributes:
        logits: Syndromes (softmax over them), then causes (a sigmoid each).
        attention: Share of each token, averaged over heads and layers; rows sum to 1. None
            unless asked for.
        shares: Attention by modality, averaged over diagnoses; None unless asked for.
    """

    logits: Float32[np.ndarray, "row diagnosis"]
    attention: Float32[np.ndarray, "row diagnosis token"] | None = None
    shares: Float32[np.ndarray, "row modality"] | None = None


@runtime_checkable
class Network(Protocol):
    """What diagnosing and explaining need of a network."""

    @property
    def config(self) -> ModelConfig:
        """Its shape."""

    def encode(self, batch: CaseBatch) -> Encoded:
        """Bring all tokens of some cases to one width and side by side."""

    def fuse(
        self,
        evidence: Encoded,
        present: Bool[np.ndarray, "row token"],
        *,
        need_weights: bool = False,
    ) -> Output:
        """Diagnose from encoded tokens.

        Args:
            evidence: Of as many cases as `present` has rows, or of one case that is then seen
                under each row: with a token left out, for instance.
            present: Which tokens to see.
            need_weights: Also return attention and modality shares.
        """


def side_by_side(
    batch: CaseBatch,
    tokens: Float32[np.ndarray, "batch token dim"],
    alone: Float32[np.ndarray, "batch token diagnosis"],
) -> Encoded:
    """What is known of encoded tokens besides what a network made of them."""
    parts = [batch.modalities[m] for m in MODALITIES]
    first = batch.modalities["scan"].present.shape[1]
    return Encoded(
        tokens,
        np.concatenate([np.where(p.present, p.kinds, 0) for p in parts], axis=1),
        np.repeat(np.arange(len(MODALITIES)), [p.present.shape[1] for p in parts]),
        np.concatenate([np.where(p.present, p.quality, np.float32(0)) for p in parts], axis=1),
        np.concatenate([p.present for p in parts], axis=1),
        alone,
        (first, first + batch.modalities["notes"].present.shape[1]),
    )


def infer(
    network: Network, cases: Sequence[Case], batch_size: int = 32
) -> tuple[Float32[np.ndarray, "case diagnosis"], Bool[np.ndarray, "case modality"]]:
    """Logits of many cases, and which modalities each has.

    Args:
        network: To be asked.
        cases: Any number but none.
        batch_size: Cases at a time.
    """
    logits, present = [], []
    for start in range(0, len(cases), batch_size):
        batch = collate(cases[start : start + batch_size])
        evidence = network.encode(batch)
        logits.append(network.fuse(evidence, evidence.present).logits)
        present.append(batch.present)
    return np.concatenate(logits), np.concatenate(present)
