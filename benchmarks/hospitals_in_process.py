"""What the benchmarks of the federation share: hospitals in one process, and one score.

The network is a smaller one than ships (48 wide, four heads, no memory of other chunks) with larger
steps, so that a table of many federations takes minutes; everything else is the product's own code.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score

from federated import task
from federated.hub.strategies import Checked, Registered
from federated.in_process import InProcessGrid, Node
from federated.site.client_app import LOCAL, proximal_of, round_of, weights_of
from federated.task import Plan, SiteCases
from federated.wire import ARRAYS, COUNT, FINGERPRINT, LOSS, METRICS, PACKED
from fusion.case import UNKNOWN, Case, label_arrays
from fusion.model import DiagnosticModel
from fusion.network import infer
from fusion.store import Site

RUNS = Path(__file__).parents[1] / "runs"
HOSPITALS = ("north", "river", "harbour")
ENOUGH = 10  # test patients with and without a diagnosis, for an AUROC of it to count
FIRST = 7  # node id of the first site


def small_plan(epochs: int, seed: int = 0) -> Plan:
    """The standard plan with a smaller network."""
    plan = task.plan_for(RUNS / "sites" / HOSPITALS[0], seed)
    model = replace(plan.model, dim=48, heads=4, memory=False)
    train = replace(plan.train, epochs=epochs, learning_rate=2e-3, warmup_steps=5)
    return replace(plan, model=model, train=train)


def hospitals(plan: Plan) -> dict[str, SiteCases]:
    """The cases of the three synthetic hospitals, split by patient."""
    return {name: task.site_cases((RUNS / "sites" / name).resolve(), plan) for name in HOSPITALS}


def test_cases(plan: Plan) -> list[Case]:
    """Cases of a second synthetic cohort, of which nobody saw any."""
    folders = [RUNS / "test_sites" / name for name in HOSPITALS]
    return [case for f in folders for case in Site.open(f).training_cases(plan.scheme)]


@dataclass
class Hospital:
    """An app that trains on cases in memory, and remembers what it answered.

    Attributes:
        cases: The hospital's.
        plan: What was agreed on.
        known: Answers to training, by the weights that arrived; shared by runs that begin alike.
            Not used where parts stay at home, which are no part of what arrives.
        generator: Of the noise of patient-level privacy, seeded so that the table repeats.
        tells_loss: Whether it evaluates when it is asked to; 0 is told otherwise.
        kept: What stayed at home after each round, where the plan leaves parts there.
    """

    cases: SiteCases
    plan: Plan
    known: dict[str, np.ndarray] = field(default_factory=dict)
    generator: torch.Generator | None = None
    tells_loss: bool = False
    kept: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)

    def __call__(self, message: Message, context: Context) -> Message:
        """Train, or evaluate."""
        packed = weights_of(message, self.plan)
        if message.metadata.message_type == "train":
            made = self._answer(packed, round_of(message), proximal_of(message), context)
            count = MetricRecord({COUNT: len(self.cases.train)})
            weights = ArrayRecord({PACKED: Array(made)})
            return Message(RecordDict({ARRAYS: weights, METRICS: count}), reply_to=message)
        loss = self._loss(packed, context) if self.tells_loss else 0.0
        told = MetricRecord({COUNT: len(self.cases.train), LOSS: loss})
        return Message(RecordDict({METRICS: told}), reply_to=message)

    def _answer(
        self, packed: np.ndarray, current: int, proximal: float, context: Context
    ) -> np.ndarray:
        """The weights after a round."""
        if self.plan.personal:
            return self._trained(packed, current, proximal, context)
        said = f"{current} {proximal} ".encode() + packed.tobytes()
        key = hashlib.sha256(said).hexdigest()
        if key not in self.known:
            self.known[key] = self._trained(packed, current, proximal, context)
        return self.known[key]

    def _trained(
        self, packed: np.ndarray, current: int, proximal: float, context: Context
    ) -> np.ndarray:
        """The weights after a round of training; what stays at home is kept as a real node does."""
        network = self._network(packed, context)
        made = task.train(
            network, self.cases, self.plan, current, proximal=proximal, generator=self.generator
        )
        if home := task.local_state(network):
            context.state[LOCAL] = ArrayRecord(home)
            self.kept[current] = home
        return made

    def _loss(self, packed: np.ndarray, context: Context) -> float:
        """On the hospital's validation cases."""
        return task.evaluate(self._network(packed, context), self.cases, self.plan)

    def _network(self, packed: np.ndarray, context: Context) -> DiagnosticModel:
        """The hospital's network, with the weights that arrived."""
        network = task.new_network(self.plan)
        if LOCAL in context.state:
            home = context.state.array_records[LOCAL]
            task.restore(network, home.to_torch_state_dict())
        task.unpack(packed, network, sender="the hub")
        return network


@dataclass(frozen=True)
class Round:
    """What a round led to.

    Attributes:
        number: Counted from 1.
        packed: The weights.
        loss: Over the hospitals that told one; infinite where none did.
    """

    number: int
    packed: np.ndarray
    loss: float


def rounds_of(
    nodes: Mapping[int, Node],
    strategy: Checked,
    first: np.ndarray,
    rounds: int,
    told: ConfigRecord,
    timeout: float = 1.0,
) -> list[Round]:
    """All rounds of a federation, by the grid of this process.

    Args:
        nodes: The hospitals.
        strategy: Of the hub.
        first: The weights to begin with.
        rounds: How many.
        told: What every request says.
        timeout: Seconds; nothing is waited for in one process.
    """
    seen: dict[int, np.ndarray] = {}

    def keep(current: int, arrays: ArrayRecord) -> None:
        seen[current] = arrays[PACKED].numpy()

    first_arrays = ArrayRecord({PACKED: Array(first)})
    grid = InProcessGrid(nodes)
    result = strategy.start(grid, first_arrays, rounds, timeout, told, told, keep)
    losses = {n: float(m[LOSS]) for n, m in result.evaluate_metrics_clientapp.items()}
    return [Round(n, p, losses.get(n, np.inf)) for n, p in seen.items() if n > 0]


def federate(
    nodes: Mapping[int, Node], strategy: Checked, plan: Plan, rounds: int, timeout: float = 1.0
) -> np.ndarray:
    """The weights after some rounds, by the grid of this process."""
    told = ConfigRecord({FINGERPRINT: plan.fingerprint})
    first = task.pack(task.new_network(plan))
    return rounds_of(nodes, strategy, first, rounds, told, timeout)[-1].packed


def registered(cases: Mapping[str, SiteCases]) -> dict[int, Registered]:
    """The sites as the hub's administrator would register them."""
    return {FIRST + n: Registered(name, len(c.train)) for n, (name, c) in enumerate(cases.items())}


def auroc(packed: np.ndarray, plan: Plan, tests: Sequence[Case]) -> float:
    """Mean AUROC over the diagnoses with enough test patients; 0.5 where weights are not finite.

    Calibration would change the AUROC of no cause, and next to none of a syndrome.
    """
    if not np.isfinite(packed).all():
        return 0.5
    network = task.new_network(plan)
    task.unpack(packed.astype(np.float32), network, sender="the average")
    logits, _ = infer(network, tests)
    if not np.isfinite(logits).all():
        return 0.5
    n = plan.model.n_syndromes
    probability = np.concatenate([softmax(logits[:, :n], axis=1), expit(logits[:, n:])], axis=1)
    syndrome, causes = label_arrays(tests)
    truth = np.concatenate([syndrome[:, None] == np.arange(n), causes == 1], axis=1)
    known = np.concatenate([np.repeat(syndrome[:, None] != UNKNOWN, n, 1), causes != UNKNOWN], 1)
    found = [
        roc_auc_score(truth[rows, label], probability[rows, label])
        for label in range(truth.shape[1])
        for rows in (known[:, label],)
        if ENOUGH <= truth[rows, label].sum() <= rows.sum() - ENOUGH
    ]
    return float(np.mean(found))


def machine() -> str:
    """Where and with what the figures were made."""
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "flwr", "numpy"))
    return f"{platform.machine()}, Python {platform.python_version()}, {names}"


Measure = Callable[[np.ndarray], float]
