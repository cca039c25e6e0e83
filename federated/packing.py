"""What of a network leaves a hospital, and how it travels.

The trainable parameters travel as one flat float32 array, because a message of many small
tensors takes far longer than one of the same size in one piece. What does not travel: buffers,
normalisation layers that keep statistics of their hospital (chosen by type, not by name), parts
that the plan leaves to each hospital, frozen parameters, and the text encoder, which is no part of
the network.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from federated.errors import FederationError as FederationError

Packed = Float32[np.ndarray, " number"]

PERSONAL = "personal"  # attribute of a network: the parts that stay at home


@dataclass(frozen=True)
class Layout:
    """How the flat array is cut into parameters.

    Attributes:
        names: Of the parameters, in order.
        shapes: Of each.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Numbers in the flat array."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def sha256(self) -> str:
        """SHA-256 of names and shapes: equal where two sites mean the same network."""
        return hashlib.sha256(json.dumps([self.names, self.shapes]).encode()).hexdigest()

    def check(self, packed: np.ndarray, *, sender: str) -> None:
        """Refuse an array that is not this network's, or would spoil it.

        Args:
            packed: What arrived.
            sender: Who sent it, for the message.

        Raises:
            FederationError: Type, shape or a value is wrong.
        """
        if packed.dtype != np.float32 or packed.shape != (self.size,):
            raise FederationError(
                f"{sender} sent {packed.dtype} {packed.shape} where float32 ({self.size},) is "
                "expected; hub and sites must run the same version and configuration"
            )
        if not np.isfinite(packed).all():
            raise FederationError(
                f"{sender} sent weights that are not finite; its training diverged: "
                "lower the learning rate or look at its data"
            )


def travelling(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that leave the hospital, by name.

    Example:
        >>> list(travelling(nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))))
        ['0.weight']
    """
    local = {
        id(parameter)
        for layer in network.modules()
        if isinstance(layer, _NormBase)
        for parameter in layer.parameters(recurse=False)
    }
    home = tuple(getattr(network, PERSONAL, ()))
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and id(parameter) not in local and not is_in(name, home)
    }


def is_in(name: str, parts: Sequence[str]) -> bool:
    """Whether a parameter belongs to one of some parts of a network."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def layout(network: nn.Module) -> Layout:
    """Names and shapes of what travels."""
    parameters = travelling(network)
    return Layout(tuple(parameters), tuple(tuple(p.shape) for p in parameters.values()))


def pack(network: nn.Module) -> Packed:
    """What travels, as one array; a copy, so that training on does not change it."""
    flat = [p.detach().float().flatten().cpu() for p in travelling(network).values()]
    return torch.cat(flat).numpy()


@torch.no_grad()
def unpack(packed: np.ndarray, network: nn.Module, *, sender: str) -> None:
    """Write a packed array into a network, and leave alone what does not travel.

    Raises:
        FederationError: The array is not this network's, or not finite; nothing was written.
    """
    layout(network).check(packed, sender=sender)
    flat, start = torch.from_numpy(packed.copy()), 0
    for parameter in travelling(network).values():
        parameter.copy_(flat[start : start + parameter.numel()].view_as(parameter))
        start += parameter.numel()


def local_state(network: nn.Module) -> dict[str, Tensor]:
    """What a hospital keeps between rounds: buffers, own normalisation layers, personal parts."""
    away = travelling(network)
    return {n: t.detach().clone() for n, t in network.state_dict().items() if n not in away}


def restore(network: nn.Module, kept: dict[str, Tensor]) -> None:
    """Put back what `local_state` kept."""
    network.load_state_dict(kept, strict=False)
