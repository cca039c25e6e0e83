"""Secure aggregation: the hub sees the weighted sum of the sites' weights, and no site's own.

Flower's SecAgg+: `SecAggPlusWorkflow` on the hub (`federated.hub.secure_sum`), `secaggplus_mod`
here on the site. On the site, training, clipping, noise and masking happen in this order; the app
does only the first, and `answer`, outside the app, the rest, for nothing can be clipped once it is
masked. The app never sees the keys.

Its limits:

* The hub cannot look at a single update, so it can neither name nor clip a bad one. Robustness
  moves to the sites: each guard bounds its own site's update, and a site whose guard was removed
  can spoil a round.
* It protects from a hub that follows the protocol and is curious. Who hands the sites their list
  of public keys could add sites of its own; a site can only refuse a sum that is too small.
* The number of cases and who took part stay visible. Evaluation is not masked.
* Numbers are rounded to steps of ``2 * CLIPPING / STEPS``, and a round takes four exchanges.
"""

import logging
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.client.mod import secaggplus_mod
from flwr.common.secure_aggregation.secaggplus_constants import (
    RECORD_KEY_CONFIGS,
    RECORD_KEY_STATE,
    Key,
    Stage,
)
from flwr.compat.common import recorddict_compat as compat
from flwr.compat.common.typing import Code, FitRes, Parameters, Status

from federated.site import guard
from federated.site.guard import GuardError, Run
from federated.site.ledger import Ledger
from federated.site.policy import PolicyError, SitePolicy
from federated.wire import ARRAYS, CLIPPING, CONFIG, COUNT, METRICS, MODULUS, PACKED, STEPS

log = logging.getLogger(__name__)


def answer(
    request: Message,
    context: Context,
    policy: SitePolicy,
    ledger: Ledger,
    generator: np.random.Generator,
    run: Run,
) -> Message:
    """`federated.site.guard.answer`, masked where the hub asks for a sum and the policy allows it.

    Args:
        request: From the hub.
        context: Of the node; its state holds the keys, which `run` does not get to see.
        policy: The site's.
        ledger: The site's.
        generator: Of the noise.
        run: The app.
    """

    def guarded(message: Message, where: Context) -> Message:
        return guard.answer(message, where, policy, ledger, generator, run)

    if not is_masked(request):
        if (
            policy.secure_aggregation == "required"
            and guard.KINDS.get(request.metadata.message_type) != "evaluate"
        ):
            return guard.refusal(request, GuardError("this site only adds to a secure sum"))
        return guarded(request, context)
    try:
        check_stage(request, policy)
        return masked(request, context, guarded)
    except PolicyError as error:
        return guard.refusal(request, error)
    except (KeyError, TypeError, ValueError) as error:  # what Flower's own checks raise
        log.warning("secure aggregation: %s", error)
        return guard.refusal(
            request, GuardError(f"secure aggregation failed here ({type(error).__name__})")
        )


def is_masked(request: Message) -> bool:
    """Whether a request is a step of secure aggregation."""
    return request.has_content() and RECORD_KEY_CONFIGS in request.content


def masked(request: Message, context: Context, run: Run) -> Message:
    """One step of SecAgg+; `run` gets a plain request to train, and its reply is masked."""
    if not is_masked(request):
        return run(request, context)

    def train(message: Message, where: Context) -> Message:
        where.state.config_records.pop(RECORD_KEY_STATE)  # Flower's function holds the keys
        reply = run(_plain(message), where)
        if reply.has_error():
            raise GuardError(reply.error.reason)
        return Message(_result(reply.content), reply_to=message)

    try:
        made: Message = secaggplus_mod(request, context, train)
        return made
    except GuardError as error:
        return guard.refusal(request, error)


def check_stage(request: Message, policy: SitePolicy) -> None:
    """Refuse a step of secure aggregation that would not protect.

    Flower's own site checks the order of the steps, but would give both halves of another site's
    masks to a hub that names it as taking part and as lost.

    Raises:
        GuardError: The policy forbids it, the sum is too small, or the step would unmask a site.
    """
    content = request.content
    stage = content.config_records[RECORD_KEY_CONFIGS].get(Key.STAGE)
    if policy.secure_aggregation == "never":
        raise GuardError("this site takes no part in secure aggregation")
    training = {"fitins.parameters", "fitins.config"}
    expected = training if stage == Stage.COLLECT_MASKED_VECTORS else set()
    if set(content) != {RECORD_KEY_CONFIGS} | expected:
        raise GuardError("the hub sent other records than this step of secure aggregation has")
    told = cast(Any, content.config_records[RECORD_KEY_CONFIGS])
    if stage == Stage.SETUP:
        _check_setup(told, policy)
    if stage == Stage.SHARE_KEYS and len(told) - 1 < policy.smallest_sum:
        raise GuardError(f"{len(told) - 1} sites are too few for a secure sum")
    if stage == Stage.UNMASK:
        _check_unmask(told, policy, request.metadata.dst_node_id)


def _check_setup(told: ConfigRecord, policy: SitePolicy) -> None:
    """Refuse another arithmetic than ours, or shares that a minority could put together."""
    agreed = {Key.CLIPPING_RANGE: CLIPPING, Key.TARGET_RANGE: STEPS, Key.MOD_RANGE: MODULUS}
    if any(told.get(key) != value for key, value in agreed.items()):
        raise GuardError("the hub counts in other steps than this site")
    sample, shares = cast(int, told[Key.SAMPLE_NUMBER]), cast(int, told[Key.SHARE_NUMBER])
    if sample < policy.smallest_sum or 2 * cast(int, told[Key.THRESHOLD]) <= shares:
        raise GuardError("the secure sum holds too few sites, or a half of them could unmask one")
    if cast(float, told[Key.MAX_WEIGHT]) < policy.announced_cases:
        raise GuardError("the hub's largest weight is below this site's cases")


def _check_unmask(told: ConfigRecord, policy: SitePolicy, node_id: int) -> None:
    """Refuse lists that would unmask a single site."""
    active = cast(list[int], told[Key.ACTIVE_NODE_ID_LIST])
    dead = cast(list[int], told[Key.DEAD_NODE_ID_LIST])
    if len({*active, *dead}) != len(active) + len(dead) or node_id not in active:
        raise GuardError("the hub names a site twice, so that its masks would come off")
    if len(active) < policy.smallest_sum:
        raise GuardError(f"{len(active)} sites are too few for a secure sum")


def _plain(message: Message) -> Message:
    """The request to train that a step of SecAgg+ carries."""
    arrays = message.content.array_records["fitins.parameters"]
    if len(arrays) != 1:
        raise GuardError("the hub sent other arrays than one of packed weights")
    packed = ArrayRecord({PACKED: next(iter(arrays.values()))})
    config = ConfigRecord(dict(message.content.config_records["fitins.config"]))
    plain = remove_content_from_message(message)
    plain.content = RecordDict({ARRAYS: packed, CONFIG: config})
    return plain


def _result(content: RecordDict) -> RecordDict:
    """A reply to training as SecAgg+ masks it.

    Raises:
        GuardError: A weight does not fit into the range that is counted.
    """
    array = content.array_records[ARRAYS][PACKED]
    if np.abs(array.numpy()).max() > CLIPPING:
        raise GuardError(f"a weight is further than {CLIPPING:g} from 0 and cannot be masked")
    count = cast(int, content.metric_records[METRICS][COUNT])
    parameters = Parameters([array.data], array.stype)
    return compat.fitres_to_recorddict(
        FitRes(Status(Code.OK, ""), parameters, count, {}), keep_input=True
    )
