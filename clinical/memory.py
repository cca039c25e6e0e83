"""Hierarchical memory: sentences that were read chunk by chunk get the rest of the notes back.

A chunk's summary is the mean of its sentences; every sentence attends to all summaries. There are
at most `slots` summaries, whatever the length of the notes: beyond that, neighbouring chunks share
one. So time and memory grow linearly with the number of sentences.

What is not there leaves no trace: a sentence that is deleted is gone from its chunk's summary too,
and one that is doubted weighs there what its quality says.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

SLOTS = 64  # summaries; 64 chunks are 26,000 characters, beyond which neighbours share one
DOUBLINGS = 20  # of a slot's share of chunks; enough for 64 million chunks
LIGHTEST = 1e-30  # weight whose logarithm is still finite; stands where no summary is


def slots_of(
    chunks: Int64[Tensor, "case token"], present: Bool[Tensor, "row token"], slots: int
) -> Int64[Tensor, "row token"]:
    """Which summary each sentence belongs to.

    A slot holds one chunk, or two, four, eight ... neighbouring ones, so that deleting a sentence
    hardly ever moves the borders for the others.

    Args:
        chunks: Number of each sentence's chunk, over all notes of a case.
        present: True where there is a sentence; the others count for nothing.
        slots: How many summaries there may be.

    Example:
        >>> chunks = torch.tensor([[0, 1, 2, 3, 4]])
        >>> slots_of(chunks, torch.ones(1, 5, dtype=torch.bool), 4)
        tensor([[0, 0, 1, 1, 2]])
    """
    seen = torch.where(present, chunks, 0)
    doubled = 2 ** torch.arange(DOUBLINGS, device=chunks.device)
    last = seen.amax(dim=1, keepdim=True)
    share = doubled[(last >= doubled * slots).sum(dim=1).clamp(max=DOUBLINGS - 1)]
    found: Tensor = torch.div(seen, share[:, None], rounding_mode="floor").clamp(max=slots - 1)
    return found


class ChunkMemory(nn.Module):
    """Cross attention from sentences to the summaries of chunks; adds nothing before training."""

    def __init__(self, dim: int, heads: int = 8, slots: int = SLOTS) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} cannot be shared by {heads} heads; choose a multiple")
        self.heads = heads
        self.slots = slots
        self.norm_sentence = nn.LayerNorm(dim)
        self.norm_summary = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)
        for alike in (self.query, self.key):  # begin with what resembles the sentence
            nn.init.eye_(alike.weight)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        tokens: Float[Tensor, "case token dim"],
        chunks: Int64[Tensor, "case token"],
        present: Bool[Tensor, "row token"],
        quality: Float[Tensor, "case token"],
    ) -> Float[Tensor, "row token dim"]:
        """Sentences that know what the other chunks say.

        Args:
            tokens: One vector a sentence; of one case where that is seen under each row of
                `present`, which is how sentences are deleted.
            chunks: Number of the chunk that each was read in, over all notes of its case.
            present: True where there is a sentence.
            quality: 0..1; how much each counts in its chunk's summary.

        Returns:
            The sentences, each with its context added; zero where none is.
        """
        present = present & (quality > 0)
        here = present[..., None]
        sentences = torch.where(here, tokens, 0.0)
        summaries, weight = self._summaries(sentences, chunks, present, quality)
        query = self._split(self.query(self.norm_sentence(sentences)))
        told = self.norm_summary(summaries)
        # What a summary stands for counts, so that two chunks in one slot count as two.
        prior = weight.clamp_min(LIGHTEST).log()[:, None, None, :]
        context = scaled_dot_product_attention(
            query, self._split(self.key(told)), self._split(self.value(told)), attn_mask=prior
        )
        added: Tensor = self.out(context.transpose(1, 2).flatten(2))
        return torch.where(here, sentences + added, 0.0)

    def _summaries(
        self,
        sentences: Float[Tensor, "row token dim"],
        chunks: Int64[Tensor, "case token"],
        present: Bool[Tensor, "row token"],
        quality: Float[Tensor, "case token"],
    ) -> tuple[Float[Tensor, "row slot dim"], Float[Tensor, "row slot"]]:
        """Mean of the sentences in each slot, and the sum of their qualities."""
        slot = slots_of(chunks, present, self.slots)
        belongs = slot[:, None, :] == torch.arange(self.slots, device=slot.device)[:, None]
        share = torch.where(belongs & present[:, None, :], quality[:, None, :], 0.0)
        weight = share.sum(dim=2)
        return share @ sentences / weight.clamp_min(LIGHTEST)[..., None], weight

    def _split(self, x: Float[Tensor, "row token dim"]) -> Float[Tensor, "row head token width"]:
        """Share the last axis among the heads."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
