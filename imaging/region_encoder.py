"""The network's view of a region: its token brought to the width of the fusion network."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from imaging.encoder import FEATURES, POOLED
from imaging.regions import REGIONS


class RegionEncoder(nn.Module):
    """Bring region tokens to the width of the fusion network."""

    def __init__(self, dim: int, n_kinds: int = len(REGIONS)) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(POOLED)
        self.project = nn.Linear(FEATURES, dim)
        self.region = nn.Embedding(n_kinds, dim)

    def forward(
        self, features: Float[Tensor, "batch token 148"], kinds: Int64[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token dim"]:
        """One vector a token; padded tokens (all zero) come out finite and mean nothing."""
        pooled, measured = features[..., :POOLED], features[..., POOLED:]
        described = torch.cat([self.norm(pooled), measured], dim=-1)
        token: Tensor = self.project(described) + self.region(kinds)
        return token
