"""The federation's network as it last reached a site: what its hospital may use."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Message, MessageType
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from federated.files import write_whole
from federated.site.guard import packed_of
from federated.site.ledger import Packed
from federated.site.policy import STATE, PolicyError, SitePolicy
from federated.wire import CONFIG, FINGERPRINT, ROUND

RECEIVED = "received.safetensors"


@dataclass(frozen=True)
class Received:
    """Weights that came from the hub.

    Attributes:
        packed: The weights.
        round: After which they are the average; 0 for those before the first.
    """

    packed: Packed
    round: int


def keep(message: Message, policy: SitePolicy, site: Path) -> None:
    """Keep the weights of a request that follows the site's plan, whatever it is answered."""
    try:
        told = message.content.config_records[CONFIG]
        if told.get(FINGERPRINT) != policy.plan:
            return
        packed = packed_of(message, policy, sender="the hub")
        current = told[ROUND]
        is_average = message.metadata.message_type != MessageType.TRAIN
        after = int(current) if is_average else int(current) - 1  # type: ignore[arg-type]
    except (PolicyError, KeyError, TypeError, ValueError):
        return
    made = save({"packed": packed, "round": np.array([after], dtype=np.int64)})
    write_whole(site / STATE / RECEIVED, made, private=True)


def read_received(site: Path) -> Received:
    """What reached a site last.

    Raises:
        PolicyError: Nothing has, or the file is damaged.
    """
    path = site / STATE / RECEIVED
    try:
        found = load_file(path)
        return Received(found["packed"], int(found["round"][0]))
    except FileNotFoundError:
        raise PolicyError(f"no network has reached {site} yet; wait for a round") from None
    except (SafetensorError, KeyError):
        raise PolicyError(f"{path} is damaged; wait for the next round") from None
