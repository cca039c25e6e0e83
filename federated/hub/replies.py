"""What a site's reply holds, once it has been checked; `federated.hub.strategies` aggregates it."""

import hashlib
import math
from dataclasses import dataclass
from statistics import median_low
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict

from federated.task import FederationError, Layout, Packed
from federated.wire import ARRAYS, COUNT, LOSS, METRICS, PACKED


@dataclass(frozen=True)
class Update:
    """What a usable reply holds.

    Attributes:
        site: Its node id.
        name: For logs.
        change: Its weights minus those of the hub.
        claimed: The number of cases it claims.
    """

    site: int
    name: str
    change: np.ndarray
    claimed: float


def capped(counts: list[float], cap: float) -> list[float]:
    """Numbers of cases as weights, none above `cap` times their low median.

    A site that exaggerates its number gains a bounded share, and an honest large one loses
    little: its update counts for less, not for nothing.

    Example:
        >>> capped([100.0, 60.0, 1e9], 3.0)
        [100.0, 60.0, 300.0]
    """
    ceiling = cap * median_low(counts)
    return [min(float(count), ceiling) for count in counts]


def check_count(count: object, *, sender: str) -> None:
    """Refuse a number of cases that is none.

    Raises:
        FederationError: It is not a positive whole number.
    """
    whole = isinstance(count, int | float) and math.isfinite(count) and count == int(count)
    if not whole or isinstance(count, bool) or count < 1:  # type: ignore[operator]
        raise FederationError(f"{sender} sent a number of cases that is no positive whole number")


def read_update(reply: Message, before: Packed, layout: Layout, name: str) -> tuple[Update, str]:
    """What a reply to training holds, and the SHA-256 of its weights.

    Args:
        reply: From a site, no error.
        before: The weights that the site got.
        layout: What its weights must be like.
        name: Of the site, for the message.

    Raises:
        FederationError: It must not be aggregated.
    """
    content = reply.content
    if set(content) != {ARRAYS, METRICS} or set(content[ARRAYS]) != {PACKED}:
        raise FederationError(f"{name} sent other records than weights and a count")
    array = content.array_records[ARRAYS][PACKED]
    try:
        packed = array.numpy()
    except Exception as error:  # bytes that are no array
        raise FederationError(f"{name} sent what cannot be read ({type(error).__name__})") from None
    layout.check(packed, sender=name)
    claimed = content.metric_records[METRICS].get(COUNT)
    check_count(claimed, sender=name)
    change = packed.astype(np.float64) - before
    update = Update(reply.metadata.src_node_id, name, change, float(cast(float, claimed)))
    return update, hashlib.sha256(array.data).hexdigest()


def checked_reply(packed: np.ndarray, weight: float) -> Message:
    """A checked reply as Flower's strategies want it."""
    content = RecordDict(
        {
            ARRAYS: ArrayRecord({PACKED: Array(packed.astype(np.float32))}),
            METRICS: MetricRecord({COUNT: weight}),
        }
    )
    return Message(content, dst_node_id=1, message_type=MessageType.TRAIN)


def loss_of(reply: Message) -> tuple[float, float] | None:
    """The loss and the count of a reply to evaluation; None where they cannot be averaged."""
    if reply.has_error():
        return None
    record = reply.content.metric_records.get(METRICS, MetricRecord())
    loss, count = record.get(LOSS), record.get(COUNT)
    try:
        check_count(count, sender="a site")
    except FederationError:
        return None
    if set(record) != {COUNT, LOSS} or not isinstance(loss, float) or not math.isfinite(loss):
        return None
    return loss, float(cast(float, count))
