"""Flower's strategies behind one layer that checks what they aggregate, and names who spoils it.

Flower's strategies believe every reply: one that is not finite spoils the average, a wrong shape
ends the run, a site that claims a billion cases becomes the model. Here every reply is checked,
every update is clipped to the median norm of its round, sites weigh by the cases they registered
with, and each is heard once a round.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Result,
)

from federated.hub.agreement import drift, with_majority
from federated.hub.replies import Update, capped, checked_reply, loss_of, read_update
from federated.task import FederationError, Layout, Packed
from federated.wire import ARRAYS, CONFIG, LOSS, PACKED, PROXIMAL, ROUND

log = logging.getLogger(__name__)

# Adaptive steps are about `eta` a number and round, so it is of the size of an update's numbers.
STRATEGIES: dict[str, Callable[[], FedAvg]] = {
    "fedavg": FedAvg,
    "fedprox": lambda: FedProx(proximal_mu=0.01),
    "fedadam": lambda: FedAdam(eta=0.003, tau=0.001),
    "fedyogi": lambda: FedYogi(eta=0.003, tau=0.001),
    "trimmed": lambda: FedTrimmedAvg(beta=0.34),  # of six sites the two outermost on each side
    "median": FedMedian,
}
COUNT_CAP = (
    3.0  # where nobody is registered, a site weighs this many times the (low) median at most
)
CHANCE = 5.0  # times 1 / sqrt(numbers): a cosine further from 0 is not that of random directions
SPARE_CASES = 10  # that a site may claim more than it registered with: it rounds


@dataclass(frozen=True)
class Registered:
    """A site as the hub's administrator registered it.

    Attributes:
        name: For logs.
        cases: Of its cohort, which it weighs by.
    """

    name: str
    cases: int


@dataclass(frozen=True)
class Rules:
    """What the layer holds replies against.

    Attributes:
        layout: Of the packed array.
        registered: Sites by node id; where empty, sites weigh by what they claim, capped.
        min_sites: Usable replies without which a round is not aggregated.
        clip: Whether updates are clipped to the median norm of their round.
        leave_out_opposed: Whether the updates of a site that works against the others are left
            out, from the round on in which that shows.
    """

    layout: Layout
    registered: Mapping[int, Registered] = field(default_factory=dict)
    min_sites: int = 2
    clip: bool = True
    leave_out_opposed: bool = True

    def name(self, node_id: int) -> str:
        """Of a site."""
        known = self.registered.get(node_id)
        return f"site {known.name if known else node_id}"


class Checked:
    """A strategy of Flower that sees only what passed the checks.

    Args:
        inner: Flower's.
        rules: What replies are held against.

    Attributes:
        named: By round, what was wrong with which site.
        cosines: By round, the mean cosine of each site's update with those that agree.
    """

    def __init__(self, inner: FedAvg, rules: Rules) -> None:
        self.inner = inner
        self.rules = rules
        self.named: dict[int, list[str]] = {}
        self.cosines: dict[int, dict[str, float]] = {}
        self._seen: dict[tuple[int, str], int] = {}  # round of a reply, by site and SHA-256

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int,
        timeout: float,
        train_config: ConfigRecord,
        evaluate_config: ConfigRecord,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        first_round: int = 1,
    ) -> Result:
        """Run rounds `first_round` to `num_rounds`, as Flower's `Strategy.start` does.

        Args:
            grid: To the sites.
            initial_arrays: The weights to begin with.
            num_rounds: The last round.
            timeout: Seconds that the hub waits for replies, and for sites to be there.
            train_config: What every request to train says.
            evaluate_config: What every request to evaluate says.
            evaluate_fn: Called with the weights before the first round and after each.
            first_round: After a resumption, the first that is not done.

        Raises:
            FederationError: Too few sites came, or sent something usable.
        """
        result, arrays = Result(), initial_arrays
        if evaluate_fn and first_round == 1:
            evaluate_fn(0, arrays)
        for current in range(first_round, num_rounds + 1):
            arrays = self.train_round(grid, current, arrays, train_config, timeout)
            result.arrays = arrays
            messages = self._requests(MessageType.EVALUATE, current, arrays, evaluate_config, grid)
            losses = grid.send_and_receive(messages, timeout=timeout)
            if (metrics := self.aggregate_evaluate(current, losses)) is not None:
                result.evaluate_metrics_clientapp[current] = metrics
            if evaluate_fn:
                evaluate_fn(current, arrays)
        return result

    def train_round(
        self, grid: Grid, current: int, arrays: ArrayRecord, config: ConfigRecord, timeout: float
    ) -> ArrayRecord:
        """Have the sites train, and aggregate what is usable."""
        wait_for_sites(grid, self.rules.min_sites, timeout)
        if isinstance(self.inner, FedProx):
            config = ConfigRecord({**config, PROXIMAL: self.inner.proximal_mu})
        if isinstance(self.inner, FedAdam | FedYogi):
            self.inner.current_arrays = {PACKED: arrays[PACKED].numpy()}
        asked = self._requests(MessageType.TRAIN, current, arrays, config, grid)
        replies = grid.send_and_receive(asked, timeout=timeout)
        return self.aggregate_train(current, arrays, replies)

    def aggregate_train(
        self, current: int, arrays: ArrayRecord, replies: Iterable[Message]
    ) -> ArrayRecord:
        """The weights after a round.

        Args:
            current: The round.
            arrays: The weights that were sent out.
            replies: What came back.

        Raises:
            FederationError: Fewer sites than `Rules.min_sites` sent something usable.
        """
        before = arrays[PACKED].numpy()
        updates = self._judged(current, self._usable(current, before, replies))
        if len(updates) < self.rules.min_sites:
            raise FederationError(
                f"round {current}: {len(updates)} usable replies where {self.rules.min_sites} "
                "are needed; the warnings above say what was wrong with the others"
            )
        checked = [
            checked_reply(before + update.change, weight)
            for update, weight in zip(updates, self._weights(updates), strict=True)
        ]
        averaged, _ = self.inner.aggregate_train(current, checked)
        assert averaged is not None
        packed = averaged[PACKED].numpy().astype(np.float32)
        self.rules.layout.check(packed, sender="the average")
        return ArrayRecord({PACKED: Array(packed)})

    def aggregate_evaluate(self, current: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The loss of one round over the sites that sent one, by their cases."""
        losses: dict[int, tuple[float, float]] = {}
        for reply in replies:
            site = reply.metadata.src_node_id
            loss = loss_of(reply)
            if loss is None or site in losses or not self._is_asked(current, reply):
                log.warning("round %d: no usable loss of %s", current, self.rules.name(site))
                continue
            losses[site] = loss
        if not losses:
            return None
        counts = self._counts({site: claimed for site, (_, claimed) in losses.items()})
        mean = float(np.average([loss for loss, _ in losses.values()], weights=counts))
        log.info("round %d: loss %.4f, %d sites", current, mean, len(losses))
        return MetricRecord({LOSS: mean})

    def state(self) -> dict[str, np.ndarray]:
        """What an adaptive strategy remembers from round to round, to be kept over a restart."""
        kept = {name: getattr(self.inner, name, None) or {} for name in ("m_t", "v_t")}
        return {name: value[PACKED] for name, value in kept.items() if PACKED in value}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Put back what `state` gave."""
        for name, value in state.items():
            setattr(self.inner, name, {PACKED: np.array(value)})

    def _requests(
        self, kind: str, current: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The same request to every site that is there."""
        told = ConfigRecord({**config, ROUND: current})
        content = RecordDict({ARRAYS: arrays, CONFIG: told})
        known = self.rules.registered
        sites = [site for site in grid.get_node_ids() if not known or site in known]
        return [Message(content, site, kind, group_id=str(current)) for site in sites]

    def _is_asked(self, current: int, reply: Message) -> bool:
        """Whether a reply is of a site that takes part, and to this round."""
        known = self.rules.registered
        takes_part = not known or reply.metadata.src_node_id in known
        return takes_part and reply.metadata.group_id == str(current)

    def _usable(
        self, current: int, before: Packed, replies: Iterable[Message]
    ) -> dict[int, Update]:
        """The first reply of each site, if it passes; what is wrong with the others is named."""
        found: dict[int, Update] = {}
        for reply in replies:
            try:
                update, digest = self._read(current, before, reply)
                if update.site in found:
                    raise FederationError(f"{update.name} answered twice; the first counts")
            except FederationError as error:
                self._name(current, str(error))
                continue
            found[update.site] = update
            self._seen[update.site, digest] = current
        return found

    def _read(self, current: int, before: Packed, reply: Message) -> tuple[Update, str]:
        """What a reply holds, and its SHA-256.

        Raises:
            FederationError: It must not be aggregated.
        """
        site = reply.metadata.src_node_id
        name = self.rules.name(site)
        if reply.has_error():
            raise FederationError(f"{name} failed: {reply.error.reason}")
        if not self._is_asked(current, reply):
            raise FederationError(f"{name} answered another round, or was not asked")
        update, digest = read_update(reply, before, self.rules.layout, name)
        if self._seen.get((site, digest), current) != current:
            raise FederationError(f"{name} sent the reply of an earlier round again")
        known = self.rules.registered.get(site)
        if known and update.claimed > known.cases + SPARE_CASES:  # it weighs as registered
            self._name(current, f"{name} claims more cases than the {known.cases} it has")
        return update, digest

    def _judged(self, current: int, found: Mapping[int, Update]) -> list[Update]:
        """Updates clipped to their median norm; those that stand out are named."""
        updates = list(found.values())
        if len(updates) > 1:
            updates = self._against_others(current, updates)
        norms = [float(np.linalg.norm(update.change)) for update in updates]
        if not self.rules.clip or not norms:
            return updates
        limit = float(np.median(norms))
        for update, norm in zip(updates, norms, strict=True):
            if norm > 3 * limit:
                self._name(current, f"{update.name} sent {norm / limit:.1f} times the usual update")
        factors = [min(1.0, limit / max(norm, 1e-30)) for norm in norms]
        return [
            Update(u.site, u.name, u.change * factor, u.claimed)
            for u, factor in zip(updates, factors, strict=True)
        ]

    def _against_others(self, current: int, updates: Sequence[Update]) -> list[Update]:
        """Name those who work against the others; leave them out if the rules say so."""
        chance = CHANCE / float(np.sqrt(updates[0].change.size))
        found = with_majority(np.stack([update.change for update in updates]), chance)
        if found is None:
            return list(updates)
        names = [update.name for update in updates]
        self.cosines[current] = dict(zip(names, found.tolist(), strict=True))
        kept = []
        for update in updates:
            rounds = sorted(n for n in self.cosines if n <= current)
            known = [self.cosines[n] for n in rounds if update.name in self.cosines[n]]
            against = drift(cosines[update.name] for cosines in known)
            if against < -2 * chance:
                self._name(current, f"{update.name} works against the others ({against:.2f})")
            if against >= -2 * chance or not self.rules.leave_out_opposed:
                kept.append(update)
        return kept

    def _weights(self, updates: Sequence[Update]) -> list[float]:
        """What each update weighs."""
        return self._counts({update.site: update.claimed for update in updates})

    def _counts(self, claimed: Mapping[int, float]) -> list[float]:
        """Registered numbers of cases; where nobody is registered, the claimed ones, capped."""
        known = self.rules.registered
        if known:
            return [float(known[site].cases) for site in claimed]
        return capped(list(claimed.values()), COUNT_CAP)

    def _name(self, current: int, what: str) -> None:
        """Say what was wrong, and remember it."""
        log.warning("round %d: %s", current, what)
        self.named.setdefault(current, []).append(what)


def strategy(name: str, rules: Rules) -> Checked:
    """A strategy by its name in `STRATEGIES`.

    Raises:
        FederationError: There is none of that name.
    """
    if name not in STRATEGIES:
        raise FederationError(f"{name!r} is no strategy; choose from {', '.join(STRATEGIES)}")
    return Checked(STRATEGIES[name](), rules)


def wait_for_sites(grid: Grid, min_sites: int, timeout_s: float) -> None:
    """Wait until enough sites are there, and no longer than `timeout_s`.

    Raises:
        FederationError: They did not come.
    """
    end = time.monotonic() + timeout_s
    while (there := len(list(grid.get_node_ids()))) < min_sites:
        if time.monotonic() > end:
            raise FederationError(
                f"{there} sites came within {timeout_s:.0f} s where {min_sites} are needed; "
                "start the others, then resume"
            )
        time.sleep(1.0)
