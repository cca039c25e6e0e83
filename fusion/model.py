"""The network: encoders, dynamic-weighted cross attention, one logit a diagnosis."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn

from clinical.lab_encoder import FACT_EXTRAS, FACT_KINDS
from clinical.memory import ChunkMemory
from clinical.temporal import LabEncoder
from clinical.units import ANALYTES
from fusion.attention import DynamicWeightedAttention
from fusion.case import MODALITIES, CaseBatch, Modality, ModalityBatch
from fusion.network import Encoded, ModelConfig, Output, side_by_side
from imaging.encoder import POOLED
from imaging.region_encoder import RegionEncoder
from imaging.regions import REGIONS

ALONE_GAIN = 3.0  # so that these few weights learn at the pace that a logit needs
TEXT_GAIN = 0.1  # a fact's words are hundreds of numbers, each of which learns


@dataclass(frozen=True)
class Tensors:
    """The tokens of one modality as `ModalityBatch` has them, on the network's device."""

    features: Float32[Tensor, "batch token *feature"]
    kinds: Int64[Tensor, "batch token"]
    quality: Float32[Tensor, "batch token"]
    present: Bool[Tensor, "batch token"]


@dataclass(frozen=True)
class EncodedTensors:
    """What `fusion.network.Encoded` is in NumPy, with gradients."""

    tokens: Float[Tensor, "batch token dim"]
    kinds: Int64[Tensor, "batch token"]
    modality: Int64[Tensor, " token"]
    quality: Float[Tensor, "batch token"]
    present: Bool[Tensor, "batch token"]
    alone: Float[Tensor, "batch token diagnosis"]
    notes: tuple[int, int] | tuple[Tensor, Tensor]


@dataclass(frozen=True)
class OutputTensors:
    """What `fusion.network.Output` is in NumPy, with gradients."""

    logits: Float[Tensor, "row diagnosis"]
    attention: Float[Tensor, "row diagnosis token"] | None = None
    shares: Float[Tensor, "row modality"] | None = None


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
        tokens: Float[Tensor, "seen token dim"],
        evidence: EncodedTensors,
        present: Bool[Tensor, "row token"],
        *,
        need_weights: bool,
    ) -> tuple[Float[Tensor, "row query dim"], Float[Tensor, "row query token"] | None]:
        """Queries that know more, and what they looked at."""
        answer, attention = self.attention(
            self.norm_query(queries),
            tokens,
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
        self.memory = ChunkMemory(dim) if config.memory else None

    def forward(self, batch: CaseBatch, *, need_weights: bool = False) -> OutputTensors:
        """Diagnose, with gradients.

        Args:
            batch: Cases with at least one token each.
            need_weights: Also return attention and modality shares.
        """
        evidence = self.encode_tensors(self.tensors(batch))
        return self.fuse_tensors(evidence, evidence.present, need_weights=need_weights)

    @torch.inference_mode()
    def encode(self, batch: CaseBatch) -> Encoded:
        """Bring all tokens of some cases to one width and side by side, in evaluation mode."""
        found = self.eval().encode_tensors(self.tensors(batch))
        return side_by_side(batch, _array(found.tokens), _array(found.alone))

    @torch.inference_mode()
    def fuse(
        self,
        evidence: Encoded,
        present: Bool[np.ndarray, "row token"],
        *,
        need_weights: bool = False,
    ) -> Output:
        """Diagnose from what `encode` made; see `fusion.network.Network`."""
        whole = EncodedTensors(
            self._tensor(evidence.tokens),
            self._tensor(evidence.kinds),
            self._tensor(evidence.modality),
            self._tensor(evidence.quality),
            self._tensor(evidence.present),
            self._tensor(evidence.alone),
            evidence.notes,
        )
        found = self.fuse_tensors(whole, self._tensor(present), need_weights=need_weights)
        if found.attention is None or found.shares is None:
            return Output(_array(found.logits))
        return Output(*map(_array, (found.logits, found.attention, found.shares)))

    def tensors(self, batch: CaseBatch) -> dict[Modality, Tensors]:
        """A batch on the network's device."""
        names = [field.name for field in fields(ModalityBatch)]
        return {
            m: Tensors(*(self._tensor(getattr(batch.modalities[m], name)) for name in names))
            for m in MODALITIES
        }

    def encode_tensors(self, batch: Mapping[Modality, Tensors]) -> EncodedTensors:
        """Bring all tokens to one width and side by side."""
        parts = [batch[m] for m in MODALITIES]
        encoded = [self._encode(n, m, batch[m]) for n, m in enumerate(MODALITIES)]
        columns = [torch.full(p.present.shape[1:], n) for n, p in enumerate(parts)]
        tokens, alone = zip(*encoded, strict=True)
        first = batch["scan"].present.shape[1]
        return EncodedTensors(
            torch.cat(tokens, dim=1),
            torch.cat([torch.where(p.present, p.kinds, 0) for p in parts], dim=1),
            torch.cat(columns).to(self.bias.device),
            torch.cat([torch.where(p.present, p.quality, 0.0) for p in parts], dim=1),
            torch.cat([p.present for p in parts], dim=1),
            torch.cat(alone, dim=1),
            (first, first + batch["notes"].present.shape[1]),
        )

    def _encode(
        self, column: int, modality: Modality, batch: Tensors
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch token diagnosis"]]:
        """One modality; an absent token's placeholder is replaced before anything is computed."""
        shape = batch.present.shape
        if batch.features.shape[-1] == 0:  # no case of the batch has it
            nothing = self.bias.new_zeros(*shape, self.config.dim + self.config.n_labels)
            return nothing[..., : self.config.dim], nothing[..., self.config.dim :]
        here = batch.present.view(*batch.present.shape, *[1] * (batch.features.ndim - 2))
        features = torch.where(here, batch.features, 0.0)
        kinds = torch.where(batch.present, batch.kinds, 0)
        return self.encode_modality(column, modality, features, kinds)

    def encode_modality(
        self,
        column: int,
        modality: Modality,
        features: Float[Tensor, "batch token *feature"],
        kinds: Int64[Tensor, "batch token"],
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch token diagnosis"]]:
        """The tokens of one modality, and what each says by itself; padding is zero."""
        tokens = self.encoders[modality](features, kinds)
        encoded: Tensor = self.norm_token(tokens + self.modality[column])
        dropped: Tensor = self.token_dropout(encoded)
        return dropped, self.alone(modality, features, kinds)

    def fuse_tensors(
        self,
        evidence: EncodedTensors,
        present: Bool[Tensor, "row token"],
        *,
        need_weights: bool = False,
    ) -> OutputTensors:
        """Diagnose from encoded tokens; see `fusion.network.Network.fuse`."""
        tokens = self._remember(evidence, present)
        queries = self.queries.expand(present.shape[0], -1, -1)
        seen = []
        for layer in self.layers:
            queries, attention = layer(
                queries, tokens, evidence, present, need_weights=need_weights
            )
            seen.append(attention)
        weight = (evidence.quality * present)[..., None]
        alone = torch.where(present[..., None], evidence.alone * weight, 0.0).sum(dim=1)
        together = (self.norm_answer(queries) * self.readout).sum(dim=-1)
        logits = together + alone + self.bias
        if not need_weights:
            return OutputTensors(logits)
        mean = torch.stack(seen).mean(dim=0)
        columns = torch.nn.functional.one_hot(evidence.modality, len(MODALITIES)).to(mean.dtype)
        return OutputTensors(logits, mean, (mean @ columns).mean(dim=1))

    def _remember(
        self, evidence: EncodedTensors, present: Bool[Tensor, "row token"]
    ) -> Float[Tensor, "seen token dim"]:
        """The tokens, of which each sentence knows the other chunks that its row shows."""
        if self.memory is None:
            return evidence.tokens
        start, stop = evidence.notes
        around = evidence.tokens.expand(present.shape[0], -1, -1)
        told = self.memory(
            evidence.tokens[:, start:stop],
            evidence.kinds[:, start:stop],
            present[:, start:stop],
            evidence.quality[:, start:stop],
        )
        return torch.cat([around[:, :start], told, around[:, stop:]], dim=1)

    def _tensor(self, array: np.ndarray) -> Tensor:
        """An array on the network's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.bias.device)


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor's numbers."""
    return np.asarray(tensor.cpu().numpy())
