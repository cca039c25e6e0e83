"""A hospital's side of the federation: Flower's ClientApp around `federated.task`.

The site's folder comes from the hospital's own node configuration, never from a message. A reply
holds the packed weights and the number of cases, or the number of cases and a loss, and nothing
else; an error tells the hub its type, while its text stays in the hospital's own log.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from federated import task
from federated.evaluation import site_histograms
from federated.plan_file import PLAN, read_plan
from federated.task import FederationError, Plan, SiteCases
from federated.wire import (
    ARRAYS,
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
    SUMS,
)
from fusion.model import DiagnosticModel

log = logging.getLogger(__name__)

ACTION = SCORES.partition(".")[2]
LOCAL = "local"  # record of the node's own state, which no message holds


def client_app(plan: Plan, folders: Sequence[Path] = ()) -> ClientApp:
    """The app of a hospital, or of several in a simulation.

    Args:
        plan: What hub and sites agreed on.
        folders: In a simulation, the sites by partition; a real node names its own in its
            configuration, as ``site="/path"``.
    """
    app = ClientApp()
    # Functions of the module rather than of this call, so that a worker process finds them.
    app.train()(functools.partial(_reply, _train, plan, tuple(folders)))
    app.evaluate()(functools.partial(_reply, _evaluate, plan, tuple(folders)))
    app.evaluate(ACTION)(functools.partial(_reply, _score, plan, tuple(folders)))
    return app


def site_app() -> ClientApp:
    """The app of a real node: folder and plan are the hospital's own."""
    app = ClientApp()
    for register, work in (
        (app.train(), _train), (app.evaluate(), _evaluate), (app.evaluate(ACTION), _score)
    ):  # fmt: skip
        register(functools.partial(_reply_here, work))
    return app


def _reply_here(work: "Work", message: Message, context: Context) -> Message:
    """Do the work by the plan that lies in the hospital's folder."""
    plan = read_plan(site_of(context.node_config, ()) / PLAN)
    return _reply(work, plan, (), message, context)


def site_of(node_config: Mapping[str, object], folders: Sequence[Path]) -> Path:
    """The folder of this node's hospital.

    Raises:
        FederationError: The node names none.

    Example:
        >>> site_of({"partition-id": 1}, [Path("north"), Path("south")]).name
        'south'
    """
    named, partition = node_config.get("site"), node_config.get("partition-id")
    if isinstance(named, str):
        return Path(named)
    if isinstance(partition, int) and 0 <= partition < len(folders):
        return folders[partition]
    raise FederationError('this node has no site: give it site="/path" in its node configuration')


def weights_of(message: Message, plan: Plan) -> np.ndarray:
    """The packed weights of a message from the hub; `federated.task.unpack` checks them.

    Raises:
        FederationError: The hub follows another plan, or sent something else.
    """
    content = message.content
    told = content.config_records.get(CONFIG, ConfigRecord())
    if told.get(FINGERPRINT) != plan.fingerprint:
        raise FederationError(
            "the hub follows another plan than this site (network, labels, text encoder or "
            "training settings differ); compare the two plans"
        )
    arrays = content.array_records.get(ARRAYS, ArrayRecord())
    if set(arrays) != {PACKED}:
        raise FederationError(f"the hub sent {len(arrays)} arrays where one is expected")
    return np.asarray(arrays[PACKED].numpy())


def round_of(message: Message) -> int:
    """Which round it is.

    Raises:
        FederationError: The message does not say, or says nonsense.
    """
    current = message.content.config_records[CONFIG].get(ROUND)
    if not isinstance(current, int) or not 1 <= current <= MAX_ROUNDS:
        raise FederationError(f"the hub named a round that is not between 1 and {MAX_ROUNDS}")
    return current


def proximal_of(message: Message) -> float:
    """How strongly FedProx holds the weights near the hub's; 0 for other strategies.

    Raises:
        FederationError: It is no such number.
    """
    strength = message.content.config_records[CONFIG].get(PROXIMAL, 0.0)
    if not isinstance(strength, float) or not 0 <= strength <= MAX_PROXIMAL:
        raise FederationError(
            f"the hub named a {PROXIMAL} that is not between 0 and {MAX_PROXIMAL}"
        )
    return strength


def _train(message: Message, context: Context, plan: Plan, folders: Sequence[Path]) -> RecordDict:
    """Train on the hospital's cases, from the weights that arrived."""
    cases, network = _load(message, context, plan, folders)
    pull = proximal_of(message)
    packed = task.train(network, cases, plan, round_of(message), proximal=pull)
    if kept := task.local_state(network):
        context.state[LOCAL] = ArrayRecord(kept)
    weights = ArrayRecord({PACKED: Array(packed)})
    return RecordDict({ARRAYS: weights, METRICS: MetricRecord({COUNT: len(cases.train)})})


def _evaluate(
    message: Message, context: Context, plan: Plan, folders: Sequence[Path]
) -> RecordDict:
    """Loss of the weights that arrived on the hospital's validation cases."""
    cases, network = _load(message, context, plan, folders)
    loss = task.evaluate(network, cases, plan)
    return RecordDict({METRICS: MetricRecord({COUNT: len(cases.valid), LOSS: loss})})


def _score(message: Message, context: Context, plan: Plan, folders: Sequence[Path]) -> RecordDict:
    """Histograms of scores, for the guard: what leaves of them, the guard makes."""
    cases, network = _load(message, context, plan, folders)
    counts, sums = site_histograms(network, cases)
    arrays = ArrayRecord({COUNTS: Array(counts), SUMS: Array(sums)})
    told = MetricRecord({COUNT: int(counts[0].sum()), EXCLUSIVE: plan.model.n_syndromes})
    return RecordDict({HISTOGRAMS: arrays, METRICS: told})


def _load(
    message: Message, context: Context, plan: Plan, folders: Sequence[Path]
) -> tuple[SiteCases, DiagnosticModel]:
    """The hospital's cases, and its network with the weights that arrived."""
    packed = weights_of(message, plan)
    cases = task.site_cases(site_of(context.node_config, folders), plan)
    network = task.new_network(plan)
    if LOCAL in context.state:
        task.restore(network, context.state.array_records[LOCAL].to_torch_state_dict())
    task.unpack(packed, network, sender="the hub")
    return cases, network


Work = Callable[[Message, Context, Plan, Sequence[Path]], RecordDict]


def _reply(
    work: Work, plan: Plan, folders: Sequence[Path], message: Message, context: Context
) -> Message:
    """Do the work and answer; of an unforeseen error the hub learns no more than its type."""
    try:
        return Message(work(message, context, plan, folders), reply_to=message)
    except FederationError:
        raise
    except Exception as error:
        log.exception("the round failed at this site")
        raise FederationError(
            f"the round failed at a site ({type(error).__name__}); its own log says more"
        ) from None
