"""The network's view of a course: attention over visits that lie months or years apart."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from clinical.lab_encoder import CHANNELS
from clinical.units import ANALYTES

SUMMARY = 5  # numbers of `course_summary`
SLOPE_PRIOR = 0.25  # years squared: two visits a month apart say little of a year's change


class LabEncoder(nn.Module):
    """Temporal attention over the visits of an analyte.

    The latest visit asks and all visits answer. A visit is known by its value, its years before
    the case and its years before the latest visit; each head forgets with time at a pace that it
    learns. The course's slope and gaps are added as they are, so that they need not be guessed.
    """

    def __init__(self, dim: int, n_kinds: int = len(ANALYTES), heads: int = 4) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} must be a multiple of heads={heads}")
        self.heads = heads
        self.kind = nn.Embedding(n_kinds, dim)
        self.visit = nn.Sequential(nn.Linear(CHANNELS + 1, dim), nn.GELU(), nn.Linear(dim, dim))
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        # From a head that hardly forgets to one that looks at the last months.
        self.forget = nn.Parameter(torch.linspace(-4.0, 1.0, heads))
        self.course = nn.Linear(SUMMARY, dim)
        self.out = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(
        self,
        features: Float[Tensor, "batch token visit channel"],
        kinds: Int64[Tensor, "batch token"],
    ) -> Float[Tensor, "batch token dim"]:
        """Encode analytes.

        Args:
            features: As `lab_tokens` makes them, visits right-aligned; zeros where padded.
            kinds: Rows of the table of analytes.

        Returns:
            A vector for each token, finite and the same for every padded one of a kind.
        """
        present = features[..., 2:]
        z, years = features[..., :1] * present, features[..., 1:2] * present
        before = (years - years[..., -1:, :]).clamp(min=0) * present
        seen = torch.cat([z / 2, years.clamp(min=0).log1p(), before.log1p(), present], dim=-1)
        states = (self.visit(seen) + self.kind(kinds)[..., None, :]) * present
        latest = states[..., -1:, :]
        query = self.query(latest).unflatten(-1, (self.heads, -1))
        key, value = (
            (self.key_value(states) * present).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        )
        scores = (query * key).sum(dim=-1) / key.shape[-1] ** 0.5  # batch token visit head
        scores = scores - nn.functional.softplus(self.forget) * before
        # A large number, not infinity: a token without any visit must stay finite.
        weights = (scores - 1e4 * (1 - present)).softmax(dim=-2)
        answer = (weights[..., None] * value).sum(dim=-3).flatten(-2)
        summary = self.course(course_summary(features))
        token: Tensor = self.out(latest.squeeze(-2) + answer + summary)
        return token


def course_summary(
    features: Float[Tensor, "*batch visit channel"],
) -> Float[Tensor, "*batch number"]:
    """Slope and gaps of a course, all of them 0 for a single visit.

    Args:
        features: As `lab_tokens` makes them, visits right-aligned; zeros where padded.

    Returns:
        Change of z in a year, drawn to 0 where the visits lie close together; how certain that
        is, from 0 to 1; logarithms of the years spanned, of the longest gap and of the visits.
    """
    z, years, present = features.unbind(dim=-1)
    z, ago = z * present, years * present
    count = present.sum(dim=-1, keepdim=True)
    known = count.clamp(min=1)
    time = -(ago - ago.sum(dim=-1, keepdim=True) / known) * present
    level = (z - z.sum(dim=-1, keepdim=True) / known) * present
    spread = time.square().sum(dim=-1, keepdim=True)
    slope = (time * level).sum(dim=-1, keepdim=True) / (spread + SLOPE_PRIOR)
    both = present[..., 1:] * present[..., :-1]
    gaps = ((ago[..., :-1] - ago[..., 1:]) * both).clamp(min=0)
    return torch.cat(
        [
            slope,
            spread / (spread + SLOPE_PRIOR),
            gaps.sum(dim=-1, keepdim=True).log1p(),
            gaps.amax(dim=-1, keepdim=True).log1p(),
            count.clamp(min=1).log(),
        ],
        dim=-1,
    )
