"""Every way of training one network on several hospitals' cases, from the same first weights.

Pooled, each hospital alone, federated by each strategy over `federated.in_process` (so that every
message passes Flower's serialization and the hub's checks), federated and then fine-tuned at each
hospital, and federated with heads that stay at home. All see each training case as often, at
most: pooled and alone for as many epochs as the rounds have together. All choose when to stop by
the validation cases of who trains, the federation among its rounds by the loss that it prints.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from flwr.app import ConfigRecord

from benchmarks.federated_scores import ALONE, POOLED, WAYS_ALONE, Predictions
from benchmarks.hospitals_in_process import FIRST, Hospital, Round, registered, rounds_of
from federated import task
from federated.hub.strategies import Rules, strategy
from federated.in_process import Node
from federated.task import Plan, SiteCases
from federated.wire import FINGERPRINT
from fusion.case import Case
from fusion.model import DiagnosticModel
from fusion.network import infer
from fusion.train import fit, mean_loss

NAMES = {"fedavg": "FedAvg", "fedprox": "FedProx", "fedadam": "FedAdam", "fedyogi": "FedYogi"}
TUNED = "FedAvg, fine-tuned at each"
LAST = "FedAvg, the last round"  # as the product delivers it
PERSONAL = "FedAvg, a personal part at each"
HEADS = ("readout", "bias", "alone")
GENTLE = 0.3  # of the learning rate, where a finished network is fine-tuned


@dataclass(frozen=True)
class Study:
    """Hospitals and how they train.

    Attributes:
        cases: To train on, by hospital.
        tests: Of each hospital, seen by nobody.
        plan: What hub and hospitals agreed on; its epochs are those of a round.
        rounds: Of a federation.
    """

    cases: Mapping[str, SiteCases]
    tests: Mapping[str, Sequence[Case]]
    plan: Plan
    rounds: int

    @property
    def settings(self) -> dict[str, object]:
        """All that a training depends on."""
        parts = ("train", "valid")
        ids = {h: [[c.case_id for c in getattr(cases, p)] for p in parts]
               for h, cases in self.cases.items()}  # fmt: skip
        shown = {h: [[c.case_id, *sorted(c.tokens)] for c in t] for h, t in self.tests.items()}
        return {
            "plan": self.plan.fingerprint,
            "train": asdict(self.plan.train),
            "rounds": self.rounds,
            "cases": ids,
            "tests": shown,
        }


def joined(cases: Sequence[SiteCases]) -> SiteCases:
    """The hospitals' parts put together, part by part."""
    parts = ("train", "valid", "calibration", "test")
    return SiteCases(*([c for site in cases for c in getattr(site, part)] for part in parts))


def ways(study: Study) -> dict[str, Callable[[], Predictions]]:
    """What is to be trained, by name; each yields one or more ways of the table."""
    found: dict[str, Callable[[], Predictions]] = {
        "pooled": lambda: _pooled(study),
        "alone": lambda: _alone(study),
        "personal": lambda: _personal(study),
        "fedavg": lambda: _averaged(study),
    }
    for name in NAMES:
        if name != "fedavg":
            found[name] = lambda name=name: {
                NAMES[name]: _everywhere(_network(study.plan, _federated(study, name)), study)
            }
    return found


def fitted(cases: SiteCases, study: Study) -> DiagnosticModel:
    """Ordinary training from the first weights, with early stopping where there is a way to."""
    network = task.new_network(study.plan)
    epochs = study.plan.train.epochs * study.rounds
    fit(network, cases.train, cases.valid, replace(study.plan.train, epochs=epochs))
    return network


def fine_tuned(network: DiagnosticModel, cases: SiteCases, study: Study) -> DiagnosticModel:
    """The federation's network, trained on at one hospital where its validation cases say so."""
    if not cases.valid:
        return network
    tuned, usual = copy.deepcopy(network), study.plan.train
    rate = GENTLE * usual.learning_rate
    fit(tuned, cases.train, cases.valid, replace(usual, learning_rate=rate))
    losses = [mean_loss(n, cases.valid, usual) for n in (network, tuned)]
    return tuned if losses[1] < losses[0] else network


def _pooled(study: Study) -> Predictions:
    """One training on everybody's cases."""
    return {POOLED: _everywhere(fitted(joined(list(study.cases.values())), study), study)}


def _alone(study: Study) -> Predictions:
    """Each hospital on its own cases; its model at every hospital, and at its own."""
    found = {
        f"{hospital}{WAYS_ALONE}": _everywhere(fitted(cases, study), study)
        for hospital, cases in study.cases.items()
    }
    own = {hospital: found[f"{hospital}{WAYS_ALONE}"][hospital] for hospital in study.cases}
    return {ALONE: own, **found}


def _averaged(study: Study) -> Predictions:
    """FedAvg, and what each hospital makes of it on its own."""
    rounds = _rounds(study, "fedavg", _hospitals(study))
    network, last = (_network(study.plan, r) for r in (chosen(rounds), rounds[-1]))
    tuned = {h: fine_tuned(network, cases, study) for h, cases in study.cases.items()}
    own = {h: infer(tuned[h], study.tests[h])[0] for h in study.cases}
    averaged = {NAMES["fedavg"]: network, LAST: last}
    return {TUNED: own, **{way: _everywhere(n, study) for way, n in averaged.items()}}


def _personal(study: Study) -> Predictions:
    """FedAvg of all but the heads, which each hospital trains with it and, at the end, alone."""
    study = replace(study, plan=replace(study.plan, personal=HEADS))
    hospitals = _hospitals(study)
    best = chosen(_rounds(study, "fedavg", hospitals))
    found = {}
    for name, hospital in hospitals.items():
        network = task.new_network(study.plan)
        task.restore(network, hospital.kept[best.number])
        task.unpack(best.packed, network, sender="the hub")
        found[name] = infer(_with_own_heads(network, hospital.cases, study), study.tests[name])[0]
    return {PERSONAL: found}


def _with_own_heads(network: DiagnosticModel, cases: SiteCases, study: Study) -> DiagnosticModel:
    """Its heads trained once more, where the hospital's validation cases say so."""
    if not cases.valid:
        return network
    tuned = copy.deepcopy(network)
    task.personalise(tuned, cases, study.plan)
    losses = [mean_loss(n, cases.valid, study.plan.train) for n in (network, tuned)]
    return tuned if losses[1] < losses[0] else network


def chosen(rounds: Sequence[Round]) -> Round:
    """The round after which the hospitals' validation loss was lowest."""
    return min(rounds, key=lambda r: r.loss)


def _federated(study: Study, name: str) -> Round:
    """The chosen round of a federation."""
    return chosen(_rounds(study, name, _hospitals(study)))


def _hospitals(study: Study) -> dict[str, Hospital]:
    """The hospitals' apps."""
    return {h: Hospital(c, study.plan, tells_loss=True) for h, c in study.cases.items()}


def _rounds(study: Study, name: str, hospitals: Mapping[str, Hospital]) -> list[Round]:
    """All rounds of a federation by one strategy, with the checks that the product has."""
    first = task.new_network(study.plan)
    rules = Rules(
        task.layout(first),
        registered(study.cases),
        min_sites=len(study.cases),
        leave_out_opposed=False,  # all are honest, however much their patients differ
    )
    nodes = {FIRST + n: Node(app, {}) for n, app in enumerate(hospitals.values())}
    told = ConfigRecord({FINGERPRINT: study.plan.fingerprint})
    return rounds_of(nodes, strategy(name, rules), task.pack(first), study.rounds, told)


def _network(plan: Plan, made: Round) -> DiagnosticModel:
    """The network after a round."""
    network = task.new_network(plan)
    task.unpack(made.packed, network, sender="the hub")
    return network


def _everywhere(network: DiagnosticModel, study: Study) -> dict[str, np.ndarray]:
    """What a network says of each hospital's tests."""
    return {hospital: infer(network, tests)[0] for hospital, tests in study.tests.items()}
