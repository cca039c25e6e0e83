"""Brain age at three real hospitals (IXI) from regional volumes: absolute errors in years.

A line in the shares that regions have of the head. Pooled and alone it is ridge regression, the
penalty chosen by leaving one out, as in `benchmarks.brain_age`. A federation cannot solve it in
one go: each round is some full gradient steps at each hospital, through the same strategies,
checks and messages as the network's; the round is chosen by a fifth of each hospital's training
patients, and the federation run again with all of them. Mean and mean square of each share are
averaged first, so that all scale alike; or, as the personal part, each hospital scales by its own
(a normalisation layer, which stays at home by its type) and has its own intercept.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from jaxtyping import Float, Float32
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from benchmarks.brain_age import INTRACRANIAL, PENALTIES
from benchmarks.federated_scores import ALONE, POOLED, WAYS_ALONE, Kept, Predictions, draws, mean_of
from benchmarks.federated_ways import NAMES, PERSONAL, TUNED, chosen
from benchmarks.hospitals_in_process import FIRST, Round, rounds_of
from benchmarks.tables import FOLDER
from federated import task
from federated.hub.strategies import Registered, Rules, strategy
from federated.in_process import Node
from federated.packing import PERSONAL as AT_HOME
from federated.site.client_app import LOCAL, proximal_of
from federated.wire import ARRAYS, CONFIG, COUNT, LOSS, METRICS, PACKED, ROUND

FOLDS = 5
ROUNDS, STEPS = 40, 10  # of a federation; full gradient steps at each hospital in a round
HELD_OUT = 0.2  # of a hospital's training patients, to choose the round by
MORE_STEPS = (0, 10, 30, 100, 300)  # among which a hospital chooses, to fine-tune
MIDDLE, SPREAD = 60.0, 10.0  # years; agreed on, so that no hospital's mean leaves it
MOMENTS = "moments"  # what a request says that asks for means and mean squares


@dataclass(frozen=True)
class Brains:
    """Some people of one hospital.

    Attributes:
        shares: Volume of each region by that of the head.
        years: Their ages.
    """

    shares: Float32[np.ndarray, "person region"]
    years: Float32[np.ndarray, " person"]

    def some(self, rows: np.ndarray) -> "Brains":
        """Those of some rows."""
        return Brains(self.shares[rows], self.years[rows])

    def divided(self, seed: int) -> tuple["Brains", "Brains"]:
        """Those to learn from, and those to choose by."""
        rows = np.arange(len(self.years))
        return tuple(map(self.some, train_test_split(rows, test_size=HELD_OUT, random_state=seed)))


def load(folder: Path = FOLDER) -> dict[str, Brains]:
    """The three hospitals, by the middle of the id."""
    with (folder / "ixi_volumes" / "IXI_demog.csv").open() as file:
        ages = {row["ID"]: float(row["Age"]) for row in csv.DictReader(file)}
    found: dict[str, list[tuple[float, list[float]]]] = {}
    with (folder / "ixi_volumes" / "IXI_DLMUSE.csv").open() as file:
        for row in csv.DictReader(file):
            person = row.pop("ID")
            head = float(row.pop(INTRACRANIAL))
            shares = [float(volume) / head for volume in row.values()]
            if person in ages:
                found.setdefault(person.split("-")[1], []).append((ages[person], shares))
    return {
        hospital: Brains(
            np.array([shares for _, shares in rows], dtype=np.float32),
            np.array([age for age, _ in rows], dtype=np.float32),
        )
        for hospital, rows in found.items()
    }


class AgeLine(nn.Module):
    """Age as a line in scaled shares.

    Args:
        regions: How many.
        own: Whether each hospital scales by its own mean and deviation, and has its own intercept.
    """

    def __init__(self, regions: int, *, own: bool) -> None:
        super().__init__()
        self.own = nn.BatchNorm1d(regions, affine=False, momentum=None) if own else None
        if not own:  # parameters, so that they travel
            self.mean = nn.Parameter(torch.zeros(regions))
            self.square = nn.Parameter(torch.zeros(regions))
        self.line = nn.Linear(regions, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)
        setattr(self, AT_HOME, ("line.bias",) if own else ())

    def forward(self, shares: Float[Tensor, "person region"]) -> Float[Tensor, " person"]:
        """Age, counted from `MIDDLE` in units of `SPREAD`."""
        if self.own is not None:
            scaled = self.own(shares)
        else:
            least = 1e-8 * self.mean**2 + 1e-30
            spread = torch.maximum(self.square - self.mean**2, least).sqrt()
            scaled = ((shares - self.mean) / spread).detach()
        told: Tensor = self.line(scaled)
        return told.squeeze(-1)

    @torch.no_grad()
    def measure(self, shares: Float[Tensor, "person region"]) -> None:
        """Set mean and mean square to those of some people."""
        self.mean.copy_(shares.mean(dim=0))
        self.square.copy_((shares**2).mean(dim=0))

    def learn(self, brains: Brains, steps: int, pull: float = 0.0) -> None:
        """Some full gradient steps, short enough for any scaled shares."""
        shares = torch.from_numpy(brains.shares)
        wanted = (torch.from_numpy(brains.years) - MIDDLE) / SPREAD
        optimizer = torch.optim.SGD(self.line.parameters(), lr=1 / (shares.shape[1] + 1))
        self.train()
        with task.held(task.travelling(self), pull):
            for _ in range(steps):
                optimizer.zero_grad()
                (0.5 * ((self(shares) - wanted) ** 2).mean()).backward()
                optimizer.step()

    @torch.inference_mode()
    def years(self, shares: np.ndarray) -> Float32[np.ndarray, " person"]:
        """Ages."""
        told: np.ndarray = self.eval()(torch.from_numpy(shares)).numpy()
        return MIDDLE + SPREAD * told

    def error(self, brains: Brains) -> float:
        """Mean absolute, in years."""
        return float(np.abs(self.years(brains.shares) - brains.years).mean())


@dataclass
class Clinic:
    """A hospital's app.

    Attributes:
        learning: To train on.
        choosing: To tell the error of; None where the round is chosen already.
        own: See `AgeLine`.
        kept: What stayed at home after each round.
    """

    learning: Brains
    choosing: Brains | None
    own: bool
    kept: dict[int, dict[str, Tensor]]

    def __call__(self, message: Message, context: Context) -> Message:
        """Measure, train or evaluate."""
        told = message.content.config_records[CONFIG]
        network = self.network(message.content[ARRAYS][PACKED].numpy(), context)
        count = MetricRecord({COUNT: len(self.learning.years)})
        if message.metadata.message_type != "train":
            count[LOSS] = network.error(self.choosing) if self.choosing else 0.0
            return Message(RecordDict({METRICS: count}), reply_to=message)
        if told[MOMENTS]:
            network.measure(torch.from_numpy(self.learning.shares))
        else:
            network.learn(self.learning, STEPS, proximal_of(message))
        if home := task.local_state(network):
            context.state[LOCAL] = ArrayRecord(home)
            self.kept[int(told[ROUND])] = home
        weights = ArrayRecord({PACKED: Array(task.pack(network))})
        return Message(RecordDict({ARRAYS: weights, METRICS: count}), reply_to=message)

    def network(self, packed: np.ndarray, context: Context | None = None) -> AgeLine:
        """With the weights that arrived, and what stayed at home."""
        made = AgeLine(self.learning.shares.shape[1], own=self.own)
        if context is not None and LOCAL in context.state:
            task.restore(made, context.state.array_records[LOCAL].to_torch_state_dict())
        task.unpack(packed, made, sender="the hub")
        return made

    def after(self, made: Round) -> AgeLine:
        """Its network after a round."""
        network = self.network(made.packed)
        if self.own:
            task.restore(network, self.kept[made.number])
        return network


def federated(
    learning: Mapping[str, Brains],
    choosing: Mapping[str, Brains],
    name: str,
    rounds: int,
    *,
    own: bool = False,
) -> tuple[list[Round], list[Clinic]]:
    """All rounds of a federation, and its hospitals.

    Args:
        learning: To train on, by hospital.
        choosing: To tell errors of; empty where no round is to be chosen.
        name: Of the strategy.
        rounds: How many.
        own: See `AgeLine`.
    """
    clinics = [Clinic(brains, choosing.get(h), own, {}) for h, brains in learning.items()]
    network = clinics[0].network(_first(learning, own=own))
    layout, first = task.layout(network), task.pack(network)
    known = {FIRST + n: Registered(h, len(b.years)) for n, (h, b) in enumerate(learning.items())}
    nodes = {FIRST + n: Node(clinic, {}) for n, clinic in enumerate(clinics)}
    everybody = len(clinics)
    if not own:  # not clipped: these are no updates
        hub = strategy("fedavg", Rules(layout, known, min_sites=everybody, clip=False))
        first = rounds_of(nodes, hub, first, 1, ConfigRecord({MOMENTS: True}))[-1].packed
    rules = Rules(layout, known, min_sites=everybody, leave_out_opposed=False)  # all are honest
    hub = strategy(name, rules)
    return rounds_of(nodes, hub, first, rounds, ConfigRecord({MOMENTS: False})), clinics


def _first(learning: Mapping[str, Brains], *, own: bool) -> np.ndarray:
    """The weights before the first round."""
    regions = next(iter(learning.values())).shares.shape[1]
    return task.pack(AgeLine(regions, own=own))


@dataclass(frozen=True)
class Fold:
    """One division into people to learn from and people to test on.

    Attributes:
        learning: By hospital; all that may be learnt from.
        inner: Of those, the part to learn from while the round is chosen, and that to choose by.
        seed: Of the division.
    """

    learning: Mapping[str, Brains]
    inner: Mapping[str, tuple[Brains, Brains]]

    def averaged(self, name: str, *, own: bool = False) -> tuple[dict[str, AgeLine], int]:
        """Each hospital's network after the chosen round, and which that is."""
        learning, choosing = ({h: pair[n] for h, pair in self.inner.items()} for n in (0, 1))
        best = chosen(federated(learning, choosing, name, ROUNDS, own=own)[0]).number
        rounds, clinics = federated(self.learning, {}, name, best, own=own)
        return {
            h: clinic.after(rounds[-1]) for h, clinic in zip(self.learning, clinics, strict=True)
        }, best

    def tuned(self, network: AgeLine, best: int) -> dict[str, AgeLine]:
        """A federated network, trained on at each hospital as long as its own people say.

        How long is chosen on a federation that did not see them.
        """
        learning = {h: pair[0] for h, pair in self.inner.items()}
        rounds, clinics = federated(learning, {}, "fedavg", best)
        before, found = clinics[0].after(rounds[-1]), {}
        for hospital, (mine, choosing) in self.inner.items():
            missed = {n: _more(before, mine, n).error(choosing) for n in MORE_STEPS}
            steps = min(MORE_STEPS, key=missed.__getitem__)
            found[hospital] = _more(network, self.learning[hospital], steps)
        return found


def _more(network: AgeLine, brains: Brains, steps: int) -> AgeLine:
    """A copy, some steps further."""
    tuned = AgeLine(brains.shares.shape[1], own=False)
    tuned.load_state_dict(network.state_dict())
    tuned.learn(brains, steps)
    return tuned


Reader = Callable[[np.ndarray], np.ndarray]


def ridge(brains: Sequence[Brains]) -> Reader:
    """Ridge regression, its penalty chosen by leaving one person out."""
    shares = np.concatenate([b.shares for b in brains]).astype(np.float64)
    years = np.concatenate([b.years for b in brains])
    width = shares.shape[1] ** 0.5
    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES * width**2)).fit(shares, years)
    return lambda asked: np.asarray(model.predict(asked))


def readers(fold: Fold) -> dict[str, dict[str, Reader]]:
    """What reads the age at each hospital, by way of training."""
    hospitals = list(fold.learning)
    alone = {hospital: ridge([fold.learning[hospital]]) for hospital in hospitals}
    found: dict[str, dict[str, Reader]] = {
        POOLED: dict.fromkeys(hospitals, ridge(list(fold.learning.values()))),
        ALONE: alone,
        **{f"{h}{WAYS_ALONE}": dict.fromkeys(hospitals, alone[h]) for h in hospitals},
    }
    for name, words in NAMES.items():
        networks, best = fold.averaged(name)
        found[words] = {hospital: networks[hospital].years for hospital in hospitals}
        if name == "fedavg":
            tuned = fold.tuned(networks[hospitals[0]], best)
            found[TUNED] = {hospital: tuned[hospital].years for hospital in hospitals}
    personal, _ = fold.averaged("fedavg", own=True)
    found[PERSONAL] = {hospital: personal[hospital].years for hospital in hospitals}
    return found


def predicted(hospitals: Mapping[str, Brains], seed: int) -> Predictions:
    """Age of everybody by every way, by a model that did not see them."""
    found: Predictions = {}
    splits = {
        h: list(KFold(FOLDS, shuffle=True, random_state=seed).split(b.years))
        for h, b in hospitals.items()
    }
    for n in range(FOLDS):
        learning = {h: b.some(splits[h][n][0]) for h, b in hospitals.items()}
        fold = Fold(learning, {h: b.divided(seed) for h, b in learning.items()})
        for way, by in readers(fold).items():
            for hospital, reader in by.items():
                asked = splits[hospital][n][1]
                years = np.full(len(hospitals[hospital].years), np.nan)
                years = found.setdefault(way, {}).setdefault(hospital, years)
                years[asked] = reader(hospitals[hospital].shares[asked])
    return found


def train(kept: Kept, seed: int) -> Predictions:
    """Ages by every way, of one seed."""
    settings = {"folds": FOLDS, "rounds": ROUNDS, "steps": STEPS, "seed": seed}
    return kept.get(f"ages-{seed}", settings, lambda: predicted(load(), seed))


def errors(
    predictions: Sequence[Predictions], hospitals: Mapping[str, Brains]
) -> dict[str, dict[str, np.ndarray]]:
    """Mean absolute error by way, hospital, seed and draw."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for way in predictions[0]:
        for n, (name, brains) in enumerate(hospitals.items()):
            weights = draws(len(brains.years), n)
            missed = [np.abs(of[way][name] - brains.years) for of in predictions]
            found.setdefault(way, {})[name] = np.array([mean_of(m, weights) for m in missed])
    return found
