"""The network: encoders, dynamic-weighted cross attention, one logit a diagnosis."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clinical.lab_encoder import FACT_KINDS
from clinical.temporal import LabEncoder
from clinical.units import ANALYTES, table_version
from fusion.attention import DynamicWeightedAttention, Form
from fusion.case import MODALITIES, Case, CaseBatch, Modality, ModalityBatch, collate
from imaging.encoder import POOLED, RegionEncoder
from imaging.regions import REGIONS

ALONE_GAIN = 3.0  # so that these few weights learn at the pace that a logit needs
TEXT_GAIN = 0.1  # a fact's words are hundreds of numbers, each of which learns
FACT_EXTRAS = 3  # numeric value, years before index, whether there is a number


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
        modality: Position in `MODALITIES` of each token.
        quality: 0..1.
        present: True where there is a token.
        alone: What each token adds to each logit by itself.
    """

    tokens: Float[Tensor, "batch token dim"]
    modality: Int64[Tensor, " token"]
    quality: Float[Tensor, "batch token"]
    present: Bool[Tensor, "batch token"]
    alone: Float[Tensor, "batch token diagnosis"]


@dataclass(frozen=True)
class Output:
    """What the network says.

    Attributes:
        logits: Syndromes (softmax over them), then causes (a sigmoid each).
        attention: Share of each token, averaged over heads and layers; rows sum to 1. None
            unless asked for.
        shares: Attention by modality, averaged over diagnoses; None unless asked for.
    """

    logits: Float[Tensor, "batch diagnosis"]
    attention: Float[Tensor, "batch diagnosis token"] | None = None
    shares: Float[Tensor, "batch modality"] | None = None


class NoteEncoder(nn.Module):
    """Bring sentences to the width of the network; all sentences are of one kind."""

    def __init__(self, dim: int, text_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(text_dim)
        self.project = nn.Linear(text_dim, dim)

    def forward(
        self, features: Float[Tensor, "batch token text"], kinds: Int64[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token dim"]:
        """One vector a sentence."""
        del kinds
        projected: Tensor = self.project(self.norm(features))
        return projected


class HistoryEncoder(nn.Module):
    """Bring coded facts to the width of the network.

    What a number means depends on what it is a number of: it scales a vector that is made of the
    fact's own words, so that a brain volume and an age need not speak in the same direction.
    """

    def __init__(self, dim: int, text_dim: int, n_kinds: int = len(FACT_KINDS)) -> None:
        super().__init__()
        self.text = nn.LayerNorm(text_dim)
        self.project = nn.Linear(text_dim + FACT_EXTRAS, dim)
        self.slope = nn.Linear(text_dim, dim)
        self.kind = nn.Embedding(n_kinds, dim)
        self.kind_slope = nn.Embedding(n_kinds, dim)

    def forward(
        self, features: Float[Tensor, "batch token feature"], kinds: Int64[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token dim"]:
        """One vector a fact."""
        text, numbers = self.text(features[..., :-FACT_EXTRAS]), features[..., -FACT_EXTRAS:]
        projected: Tensor = self.project(torch.cat([text, numbers], dim=-1))
        slope: Tensor = self.slope(text) + self.kind_slope(kinds)
        kind: Tensor = self.kind(kinds)
        return projected + kind + numbers[..., :1] * slope


class Alone(nn.Module):
    """What each number says by itself: a logistic regression over the named evidence.

    With a few hundred cases attention has too much to learn; this part has one weight for each
    analyte, region or number and diagnosis, begins at nothing, and is part of the same sum of
    evidence that deleting a token takes its share out of. Words say nothing here, neither
    sentences nor facts without a number: they would learn by heart who has which.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.labs = nn.Embedding(len(ANALYTES), 2 * config.n_labels)
        self.scan = nn.Embedding(len(REGIONS), 2 * config.n_labels)
        self.text = nn.LayerNorm(config.text_dim)
        self.history = nn.Linear(config.text_dim, config.n_labels, bias=False)
        for weight in (self.labs.weight, self.scan.weight, self.history.weight):
            nn.init.zeros_(weight)

    def forward(
        self, modality: Modality, features: Tensor, kinds: Int64[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token diagnosis"]:
        """What each token of a modality adds to the logit of each diagnosis."""
        if modality == "notes":
            return features.new_zeros(*kinds.shape, self.labs.weight.shape[1] // 2)
        if modality == "labs":
            number, weights = features[..., -1, 0] / 2, self.labs(kinds)
        elif modality == "scan":
            number, weights = features[..., POOLED + 1] / 2, self.scan(kinds)
        else:
            slope = self.history(self.text(features[..., :-FACT_EXTRAS])) * TEXT_GAIN
            counted: Tensor = ALONE_GAIN * slope * features[..., -FACT_EXTRAS, None]
            return counted
        base, slope = (ALONE_GAIN * weights).chunk(2, dim=-1)
        said: Tensor = base + number[..., None] * slope
        return said


class Layer(nn.Module):
    """Ask the evidence once and think about the answer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm_query = nn.LayerNorm(dim)
        self.attention = DynamicWeightedAttention(dim, config.heads, len(MODALITIES), config.form)
        self.norm_answer = nn.LayerNorm(dim)
        self.think = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        queries: Float[Tensor, "row query dim"],
        evidence: Encoded,
        present: Bool[Tensor, "row token"],
        *,
        need_weights: bool,
    ) -> tuple[Float[Tensor, "row query dim"], Float[Tensor, "row query token"] | None]:
        """Queries that know more, and what they looked at."""
        answer, attention = self.attention(
            self.norm_query(queries),
            evidence.tokens,
            evidence.modality,
            evidence.quality,
            present,
            need_weights=need_weights,
        )
        queries = queries + self.dropout(answer)
        return queries + self.dropout(self.think(self.norm_answer(queries))), attention


class DiagnosticModel(nn.Module):
    """From evidence of any subset of modalities to one logit a diagnosis."""

    def __init__(
        self, config: ModelConfig, encoders: Mapping[Modality, nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        dim, text = config.dim, config.text_dim
        standard: dict[Modality, nn.Module] = {
            "scan": RegionEncoder(dim),
            "notes": NoteEncoder(dim, text),
            "labs": LabEncoder(dim),
            "history": HistoryEncoder(dim, text),
        }
        self.encoders = nn.ModuleDict(dict({**standard, **(encoders or {})}.items()))
        self.alone = Alone(config)
        self.modality = nn.Parameter(torch.randn(len(MODALITIES), dim) * 0.02)
        self.norm_token = nn.LayerNorm(dim)
        self.token_dropout = nn.Dropout(config.dropout)
        self.queries = nn.Parameter(torch.randn(config.n_labels, dim) * 0.5)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm_answer = nn.LayerNorm(dim)
        self.readout = nn.Parameter(torch.randn(config.n_labels, dim) * dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(config.n_labels))

    def forward(self, batch: CaseBatch, *, need_weights: bool = False) -> Output:
        """Diagnose.

        Args:
            batch: Cases with at least one token each.
            need_weights: Also return attention and modality shares.
        """
        evidence = self.encode(batch)
        return self.fuse(evidence, evidence.present, need_weights=need_weights)

    def encode(self, batch: CaseBatch) -> Encoded:
        """Bring all tokens to one width and side by side."""
        parts = [self._encode(n, m, batch.modalities[m]) for n, m in enumerate(MODALITIES)]
        batches = [batch.modalities[m] for m in MODALITIES]
        columns = [torch.full(b.present.shape[1:], n) for n, b in enumerate(batches)]
        tokens, alone = zip(*parts, strict=True)
        return Encoded(
            torch.cat(tokens, dim=1),
            torch.cat(columns).to(self.bias.device),
            torch.cat([torch.where(b.present, b.quality, 0.0) for b in batches], dim=1),
            torch.cat([b.present for b in batches], dim=1),
            torch.cat(alone, dim=1),
        )

    def _encode(
        self, column: int, modality: Modality, batch: ModalityBatch
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch token diagnosis"]]:
        """One modality; an absent token's placeholder is replaced before anything is computed."""
        shape = batch.present.shape
        if batch.features.shape[-1] == 0:  # no case of the batch has it
            nothing = self.bias.new_zeros(*shape, self.config.dim + self.config.n_labels)
            return nothing[..., : self.config.dim], nothing[..., self.config.dim :]
        here = batch.present.view(*batch.present.shape, *[1] * (batch.features.ndim - 2))
        features = torch.where(here, batch.features, 0.0)
        kinds = torch.where(batch.present, batch.kinds, 0)
        tokens = self.encoders[modality](features, kinds)
        encoded: Tensor = self.norm_token(tokens + self.modality[column])
        dropped: Tensor = self.token_dropout(encoded)
        return dropped, self.alone(modality, features, kinds)

    def fuse(
        self,
        evidence: Encoded,
        present: Bool[Tensor, "row token"],
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
        queries = self.queries.expand(present.shape[0], -1, -1)
        seen = []
        for layer in self.layers:
            queries, attention = layer(queries, evidence, present, need_weights=need_weights)
            seen.append(attention)
        weight = (evidence.quality * present)[..., None]
        alone = torch.where(present[..., None], evidence.alone * weight, 0.0).sum(dim=1)
        together = (self.norm_answer(queries) * self.readout).sum(dim=-1)
        logits = together + alone + self.bias
        if not need_weights:
            return Output(logits)
        mean = torch.stack(seen).mean(dim=0)
        columns = torch.nn.functional.one_hot(evidence.modality, len(MODALITIES)).to(mean.dtype)
        return Output(logits, mean, (mean @ columns).mean(dim=1))


@torch.inference_mode()
def infer(
    model: DiagnosticModel, cases: Sequence[Case], batch_size: int = 32, device: str = "cpu"
) -> tuple[Float[Tensor, "case diagnosis"], Bool[Tensor, "case modality"]]:
    """Logits of many cases, and which modalities each has.

    Args:
        model: The network; left in evaluation mode.
        cases: Any number but none.
        batch_size: Cases at a time.
        device: Where to compute.
    """
    model.to(device).eval()
    found = [(model(b.to(device)).logits.cpu(), b.present) for b in _batches(cases, batch_size)]
    logits, present = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(present)


def _batches(cases: Sequence[Case], batch_size: int) -> Iterator[CaseBatch]:
    """Cases, some at a time, in their order."""
    for start in range(0, len(cases), batch_size):
        yield collate(cases[start : start + batch_size])
