"""A site's last word on what it answers, whatever the app says.

Everything here runs outside the app that the hub sent, and looks at messages only. A reply is
never passed on: a new one is made, of the numbers that the policy lets through and of nothing else
that the app wrote. So an app without any protection, or one that cheats, cannot send more than the
policy allows. What it cannot see: whatever an app hides within the clip norm of an update that
gets no noise. That is why the app is pinned by its SHA-256, and what noise is for.
"""

import logging
import math
from collections.abc import Callable

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.common.constant import ErrorCode

from federated.cells import BINS, Counts, Sums, releasable
from federated.site.ledger import Kind, Ledger, Packed
from federated.site.policy import PolicyError, SitePolicy
from federated.wire import (
    ARRAYS,
    CELLS,
    CONFIG,
    COUNT,
    COUNTS,
    EXCLUSIVE,
    FINGERPRINT,
    HISTOGRAMS,
    LOSS,
    MAX_PROXIMAL,
    MAX_ROUNDS,
    METRICS,
    PACKED,
    PROXIMAL,
    ROUND,
    SCORES,
    STATED,
    SUMS,
)

log = logging.getLogger(__name__)

KINDS: dict[str, Kind] = {
    MessageType.TRAIN: "train",
    MessageType.EVALUATE: "evaluate",
    SCORES: "scores",
}
RECORDS: dict[Kind, set[str]] = {  # of the app's reply
    "train": {ARRAYS, METRICS},
    "evaluate": {METRICS},
    "scores": {HISTOGRAMS, METRICS},
}
TOLD: dict[Kind, set[str]] = {  # its metrics
    "train": {COUNT},
    "evaluate": {COUNT, LOSS},
    "scores": {COUNT, EXCLUSIVE},
}
MAX_DIAGNOSES = 1000
HEADER_BYTES = 1024  # more than the header of an array in NumPy's format
MAX_LOSS = 1e6  # a larger one is no loss

Run = Callable[[Message, Context], Message]


class GuardError(PolicyError):
    """A message that is outside the site's policy."""


def answer(
    request: Message,
    context: Context,
    policy: SitePolicy,
    ledger: Ledger,
    generator: np.random.Generator,
    run: Run,
) -> Message:
    """Answer a request as the policy allows, or say why not.

    Args:
        request: From the hub.
        context: Of the node; handed to the app.
        policy: The site's.
        ledger: The site's.
        generator: Of the noise, seeded by the operating system.
        run: The app, in whatever cage it runs in.

    Returns:
        The reply that may leave; an error in the policy's own words where nothing may.
    """
    try:
        check_request(request, policy)
        if earlier := _earlier(request, policy, ledger):
            return earlier
        ledger.check(kind_of(request), policy)
        return release(request, run(request, context), policy, ledger, generator)
    except PolicyError as error:
        return refusal(request, error)


def refusal(request: Message, error: PolicyError) -> Message:
    """The reply that says why there is none."""
    log.warning("refused: %s", error)
    return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, str(error)), reply_to=request)


def kind_of(request: Message) -> Kind:
    """What a request asks for.

    Raises:
        GuardError: Neither training nor evaluation.
    """
    kind = KINDS.get(request.metadata.message_type)
    if kind is None:
        raise GuardError("the hub asks for something other than training and evaluation")
    return kind


def check_request(message: Message, policy: SitePolicy) -> None:
    """Refuse a request that the site has not agreed to.

    Raises:
        GuardError: It asks for something else, follows another plan, holds other records than
            weights and settings, or this site takes no part.
    """
    kind = kind_of(message)
    if policy.cases < policy.smallest_cohort:
        raise GuardError("this site has fewer cases than its policy requires, and only receives")
    if kind == "evaluate" and not policy.may_share_loss:
        raise GuardError("this site's policy keeps its losses at home")
    if kind == "scores" and not policy.may_share_scores:
        raise GuardError("this site's policy keeps its scores at home")
    if not message.has_content() or set(message.content) != {ARRAYS, CONFIG}:
        raise GuardError("the hub sent other records than weights and settings")
    told = message.content.config_records.get(CONFIG, ConfigRecord())
    if not policy.plan or told.get(FINGERPRINT) != policy.plan:
        raise GuardError("the hub follows another plan than this site agreed to; compare plan.json")
    if set(told) - {FINGERPRINT, ROUND, PROXIMAL}:
        raise GuardError("the hub sent settings that this site does not know")
    current, proximal = told.get(ROUND), told.get(PROXIMAL, 0.0)
    if type(current) is not int or not 1 <= current <= MAX_ROUNDS:
        raise GuardError(f"the hub named a round that is not between 1 and {MAX_ROUNDS}")
    if type(proximal) is not float or not 0 <= proximal <= MAX_PROXIMAL:
        raise GuardError(f"the hub named a {PROXIMAL} that is not between 0 and {MAX_PROXIMAL:g}")
    packed_of(message, policy, sender="the hub")


def packed_of(message: Message, policy: SitePolicy, *, sender: str) -> Packed:
    """The packed weights of a message.

    Raises:
        GuardError: They are not what the policy lets travel, or not finite.
    """
    arrays = message.content.array_records.get(ARRAYS, ArrayRecord())
    if set(arrays) != {PACKED}:
        raise GuardError(f"{sender} sent other arrays than one of packed weights")
    array = arrays[PACKED]
    size = policy.numbers * np.float32().nbytes
    if not size <= len(array.data) <= size + HEADER_BYTES:  # before it is unpacked
        raise GuardError(f"{sender} sent {len(array.data)} bytes where {size} are allowed")
    try:
        packed = array.numpy()
        dtype, shape = packed.dtype, packed.shape
    except Exception as error:  # bytes that are no array
        raise GuardError(f"{sender} sent no array ({type(error).__name__})") from None
    if dtype != np.float32 or shape != (policy.numbers,):
        raise GuardError(f"{sender} sent {dtype} {shape}, not float32 ({policy.numbers},)")
    if not np.isfinite(packed).all():
        raise GuardError(f"{sender} sent weights that are not finite")
    return np.ascontiguousarray(packed)


def release(
    request: Message,
    reply: Message,
    policy: SitePolicy,
    ledger: Ledger,
    generator: np.random.Generator,
) -> Message:
    """Make the message that leaves, of what the app answered.

    An update (weights of the reply minus weights of the request) is clipped and gets its noise
    here; the number of cases is the registered one. The ledger is written first.

    Args:
        request: What was asked, and passed `check_request`.
        reply: What the app answered.
        policy: The site's.
        ledger: The site's.
        generator: Of the noise.

    Raises:
        PolicyError: Nothing may leave; see `refusal`.
    """
    kind = kind_of(request)
    content = _content(reply, kind)
    with ledger.locked():
        if earlier := _earlier(request, policy, ledger):
            return earlier
        if kind != "train":
            made = (_evaluated if kind == "evaluate" else _scored)(content, policy)
            ledger.record(kind, request.metadata.message_id, policy, None)
        else:
            _check_cohort(content, policy)
            packed = protected(request, reply, policy, generator)
            made = trained(packed, policy)
            ledger.record(kind, request.metadata.message_id, policy, packed)
    return Message(made, reply_to=request)


def protected(
    request: Message, reply: Message, policy: SitePolicy, generator: np.random.Generator
) -> Packed:
    """The weights of a reply with the update clipped and noise added.

    Raises:
        GuardError: One of them holds no usable weights.
    """
    before = packed_of(request, policy, sender="the hub").astype(np.float64)
    update = packed_of(reply, policy, sender="the app") - before
    update *= min(1.0, policy.clip_norm / max(float(np.linalg.norm(update)), 1e-30))
    if policy.noise_multiplier:
        scale = policy.noise_multiplier * policy.clip_norm
        update += generator.normal(0.0, scale, update.shape)
    return (before + update).astype(np.float32)


def trained(packed: Packed, policy: SitePolicy) -> RecordDict:
    """What a reply to training holds."""
    count = MetricRecord({COUNT: policy.announced_cases})
    return RecordDict({ARRAYS: ArrayRecord({PACKED: Array(packed)}), METRICS: count})


def _evaluated(content: RecordDict, policy: SitePolicy) -> RecordDict:
    """What a reply to evaluation holds."""
    loss = content.metric_records[METRICS].get(LOSS)
    if type(loss) is not float or not math.isfinite(loss) or abs(loss) > MAX_LOSS:
        raise GuardError("the app answered with a loss that is none")
    # Six digits, so that a number cannot carry a message in what nobody reads.
    rounded = float(f"{loss:.6g}")
    return RecordDict({METRICS: MetricRecord({COUNT: policy.announced_cases, LOSS: rounded})})


def _scored(content: RecordDict, policy: SitePolicy) -> RecordDict:
    """What a reply to the question for scores holds: cells, none of which is small.

    The app tells fine histograms; which cells they are put together to is decided here.

    Raises:
        GuardError: They are none, or so small that nothing may leave.
    """
    counts, sums = _histograms(content, policy)
    exclusive = content.metric_records[METRICS][EXCLUSIVE]
    if type(exclusive) is not int or not 0 <= exclusive <= len(counts):
        raise GuardError("the app answered with histograms that are none")
    cells = releasable(counts, sums, exclusive, policy.smallest_cell)
    if not cells:
        raise GuardError("no cell of this site's scores is as large as its policy requires")
    told = [number for c in cells for number in (c.diagnosis, int(c.has), c.stop, c.cases)]
    record = MetricRecord(
        {COUNT: policy.announced_cases, CELLS: told, STATED: [c.stated for c in cells]}
    )
    return RecordDict({METRICS: record})


def _histograms(content: RecordDict, policy: SitePolicy) -> tuple[Counts, Sums]:
    """The histograms of an app's reply.

    Raises:
        GuardError: They are none.
    """
    arrays = content.array_records[HISTOGRAMS]
    try:
        counts, sums = (arrays[name].numpy() for name in (COUNTS, SUMS))
        n, *rest = counts.shape
        if not 1 <= n <= MAX_DIAGNOSES or rest != [2, BINS] or sums.shape != counts.shape:
            raise ValueError
        if counts.dtype != np.int64 or sums.dtype != np.float64 or (counts < 0).any():
            raise ValueError
        if counts.sum(axis=(1, 2)).max() > policy.cases or not np.isfinite(sums).all():
            raise ValueError
        if (sums < 0).any() or (sums > counts + 1e-6).any():
            raise ValueError
    except Exception:  # bytes that are no array, too
        raise GuardError("the app answered with histograms that are none") from None
    return counts, sums


def _content(reply: Message, kind: Kind) -> RecordDict:
    """The records of an app's reply, if they are those of the contract.

    Raises:
        GuardError: The app failed, or answered with other records or metrics.
    """
    if reply.has_error():  # its reason is the app's own text, so it stays here
        log.warning("the app failed: %s", reply.error.reason)
        raise GuardError("the app failed at this site; its own log says more")
    content = reply.content
    if set(content) != RECORDS[kind] or set(content.metric_records) != {METRICS}:
        raise GuardError("the app answered with other records than this site's policy allows")
    if set(content[METRICS]) != TOLD[kind]:
        raise GuardError("the app answered with other metrics than this site's policy allows")
    return content


def _check_cohort(content: RecordDict, policy: SitePolicy) -> None:
    """Refuse an update of too few cases, as far as the app says the truth about them."""
    count = content.metric_records[METRICS][COUNT]
    if not isinstance(count, int) or count < policy.smallest_cohort:
        raise GuardError("the app trained on fewer cases than this site's policy requires")


def _earlier(request: Message, policy: SitePolicy, ledger: Ledger) -> Message | None:
    """The reply that a request already got: the same numbers, at no further cost."""
    packed = ledger.released(request.metadata.message_id)
    return None if packed is None else Message(trained(packed, policy), reply_to=request)
