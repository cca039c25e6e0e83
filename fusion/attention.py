"""Dynamic-weighted cross attention: every diagnosis asks all the evidence at once.

Scores are S = Q Kᵀ / √d. Each token j has a dynamic weight w_j > 0 from a gate that sees the
token and its modality, and each query's row of scores is scaled before the softmax:

    hard    r = w[argmax_j S_j]          the weight of the token that scores highest
    soft    r = Σ_j softmax(S)_j w_j     its expectation, differentiable everywhere
    plain   r = 1                        ordinary attention, for comparison

so a row that looks at telling evidence becomes sharper. A token's quality q_j, 0..1, multiplies
its attention, q_j exp(r S_j) / Σ_i q_i exp(r S_i), and no score or weight depends on it: half the
quality of a scan is half the odds of its share in every row, whatever was learned, and quality 0 is
absence. Values carry the quality, so that an answer knows how reliable all it saw is.

Scaling a row of S is scaling that query, hence one call of `scaled_dot_product_attention` with
ln q added; and r of the soft form is itself attention with w as its values. The functions
without a class are the formulas, which tests compare with.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, softplus

from fusion.network import Form

GATE = 32  # hidden units of the gate
FAINTEST = 1e-30  # quality whose logarithm is still finite; stands where no evidence is
UNIT_WEIGHT = math.log(math.e - 1.0)  # softplus of it is 1: a new gate changes nothing


def scores_of(
    query: Float[Tensor, "batch head query width"],
    key: Float[Tensor, "batch head token width"],
    present: Bool[Tensor, "batch token"],
) -> Float[Tensor, "batch head query token"]:
    """S = Q Kᵀ / √d, minus infinity where a token is absent."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.masked_fill(~present[:, None, None, :], -torch.inf)


def log_quality(
    quality: Float[Tensor, "batch token"], present: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch 1 1 token"]:
    """What is added to scaled scores: ln q, minus infinity where a token is absent."""
    logarithm = quality.clamp_min(FAINTEST).log().masked_fill(~present, -torch.inf)
    return logarithm[:, None, None, :]


def soft_factor(
    scores: Float[Tensor, "batch head query token"], weights: Float[Tensor, "batch token"]
) -> Float[Tensor, "batch head query 1"]:
    """Expected weight under each row's own attention: Σ_j softmax(S)_j w_j."""
    return (scores.softmax(dim=-1) * weights[:, None, None, :]).sum(dim=-1, keepdim=True)


def hard_factor(
    scores: Float[Tensor, "batch head query token"], weights: Float[Tensor, "batch token"]
) -> Float[Tensor, "batch head query 1"]:
    """Weight of each row's top-scoring token: w[argmax_j S_j]."""
    top = scores.argmax(dim=-1)
    return weights[:, None, None, :].expand_as(scores).gather(-1, top[..., None])


def eager_attention(
    query: Float[Tensor, "batch head query width"],
    key: Float[Tensor, "batch head token width"],
    weights: Float[Tensor, "batch token"],
    quality: Float[Tensor, "batch token"],
    present: Bool[Tensor, "batch token"],
    form: Form,
) -> Float[Tensor, "batch head query token"]:
    """Attention by the formula, every intermediate written out.

    Args:
        query: Queries.
        key: Keys.
        weights: Dynamic weight of each token, positive.
        quality: Above 0, at most 1.
        present: True where there is a token; at least one per case.
        form: How rows are scaled.

    Returns:
        Rows that sum to 1 over the tokens that are present and are 0 elsewhere.

    Example:
        >>> q, k = torch.ones(1, 1, 1, 4), torch.tensor([[[[1.0] * 4, [0.0] * 4, [9.0] * 4]]])
        >>> weights, present = torch.tensor([[2.0, 1.0, 7.0]]), torch.tensor([[True, True, False]])
        >>> eager_attention(q, k, weights, torch.tensor([[0.5, 1.0, 1.0]]), present, "hard")
        tensor([[[[0.9647, 0.0353, 0.0000]]]])
    """
    scores, prior = scores_of(query, key, present), log_quality(quality, present)
    if form == "plain":
        return (scores + prior).softmax(dim=-1)
    factor = (soft_factor if form == "soft" else hard_factor)(scores, weights)
    scaled = scores.masked_fill(~present[:, None, None, :], 0.0) * factor
    return (scaled + prior).softmax(dim=-1)


def fast_attention(
    query: Float[Tensor, "batch head query width"],
    key: Float[Tensor, "batch head token width"],
    value: Float[Tensor, "batch head token width"],
    weights: Float[Tensor, "batch token"],
    quality: Float[Tensor, "batch token"],
    present: Bool[Tensor, "batch token"],
    form: Form,
) -> Float[Tensor, "batch head query width"]:
    """What `eager_attention` gives times the values, without writing the attention out.

    Only the hard form needs the scores themselves, for their argmax.
    """
    if form == "soft":
        spread, seen = weights[:, None, :, None], present[:, None, None, :]
        spread = spread.expand(-1, key.shape[1], -1, 1)
        query = query * scaled_dot_product_attention(query, key, spread, attn_mask=seen)
    elif form == "hard":
        query = query * hard_factor(scores_of(query, key, present), weights)
    prior = log_quality(quality, present).to(query.dtype)
    return scaled_dot_product_attention(query, key, value, attn_mask=prior)


class DynamicWeightedAttention(nn.Module):
    """Cross attention from diagnoses to evidence, its rows scaled by dynamic weights."""

    def __init__(self, dim: int, heads: int, n_modalities: int, form: Form = "soft") -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} cannot be shared by {heads} heads; choose a multiple")
        self.heads = heads
        self.form = form
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.value_quality = nn.Linear(1, dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.gate_token = nn.Linear(dim, GATE)
        self.gate_modality = nn.Embedding(n_modalities, GATE)
        self.gate_out = nn.Linear(GATE, 1)
        nn.init.zeros_(self.value_quality.weight)
        nn.init.zeros_(self.gate_out.weight)
        nn.init.constant_(self.gate_out.bias, UNIT_WEIGHT)

    def weights(
        self,
        tokens: Float[Tensor, "case token dim"],
        modality: Int64[Tensor, " token"],
    ) -> Float[Tensor, "case token"]:
        """Dynamic weight of each token, positive; 1 before training."""
        hidden = self.gate_token(tokens) + self.gate_modality(modality)
        return softplus(self.gate_out(torch.nn.functional.gelu(hidden)))[..., 0]

    def forward(
        self,
        queries: Float[Tensor, "batch query dim"],
        tokens: Float[Tensor, "seen token dim"],
        modality: Int64[Tensor, " token"],
        quality: Float[Tensor, "case token"],
        present: Bool[Tensor, "batch token"],
        *,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch query dim"], Float[Tensor, "batch query token"] | None]:
        """Ask the evidence.

        Args:
            queries: One per diagnosis.
            tokens: Evidence; where there is one case but many rows of `present`, the case is seen
                under each of them (which is how evidence is deleted). Its tokens may be the same
                in every row, and then are given once, or not.
            modality: Row of `fusion.case.MODALITIES` of each token.
            quality: 0..1; a token of quality 0 is absent.
            present: True where there is a token; a row without any is answered with nothing.
            need_weights: Also return the attention, averaged over heads.
        """
        rows = present.shape[0]
        query = self._split(self.query(queries))
        graded = self.value(tokens) + self.value_quality(quality[..., None])
        key, value = (
            self._split(part).expand(rows, -1, -1, -1) for part in (self.key(tokens), graded)
        )
        weights = self.weights(tokens, modality).expand(rows, -1)
        present = present & (quality > 0)
        any_present = present.any(dim=1)
        # A row without evidence looks at everything, so that no softmax is empty, and is zeroed.
        seen = present | ~any_present[:, None]
        quality, attention = quality.expand(rows, -1), None
        if need_weights:
            spread = eager_attention(query, key, weights, quality, seen, self.form)
            found = spread @ value
            attention = spread.mean(dim=1) * any_present[:, None, None]
        else:
            found = fast_attention(query, key, value, weights, quality, seen, self.form)
        joined = found.transpose(1, 2).flatten(2) * any_present[:, None, None]
        return self.out(joined), attention

    def _split(self, x: Float[Tensor, "case row dim"]) -> Float[Tensor, "case head row width"]:
        """Share the last axis among the heads."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
