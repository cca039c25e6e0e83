"""Was this patient in the training? Asked of a round's average, and of one site's update.

Several federations are trained, each on a random half of each hospital's patients, so that every
patient is in some and not in others. For each federation the others are the attacker's shadow
models: he knows the code, the settings and patients of the same kind.

* loss: members have the smaller loss.
* likelihood ratio (Carlini et al., IEEE S&P 2022): is the loss more like that of models
  which saw this patient, or of those which did not? One variance for all, as for few models.

Updates pass the site's own guard (`federated.site.guard.protected`), so clipping and noise are the
real ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from jaxtyping import Bool, Float
from scipy.special import expit, log_softmax, softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from federated import task
from federated.site import guard
from federated.site.local_scores import mean_auroc
from federated.site.policy import SitePolicy
from federated.task import Plan, SiteCases
from federated.wire import ARRAYS, PACKED
from fusion.case import Case, label_arrays
from fusion.network import infer

Floats = Float[np.ndarray, " case"]


@dataclass(frozen=True)
class Outcome:
    """One federation, as its attacker sees it.

    Attributes:
        member: Whether each case was in the training.
        average: Loss of each case under the last round's average.
        update: Loss of each case under what its own site sent in the last round.
        auroc: Of the average on cases that nobody trained on.
    """

    member: Bool[np.ndarray, " case"]
    average: Floats
    update: Floats
    auroc: float


@dataclass(frozen=True)
class Attacked:
    """How well members are told from others.

    Attributes:
        auroc: 0.5 is guessing.
        found: Share of the members found where 1 % of others are called members.
    """

    auroc: float
    found: float


def halves(pools: Mapping[str, Sequence[Case]], seed: int) -> dict[str, Bool[np.ndarray, " case"]]:
    """A random half of each hospital's cases."""
    rng = np.random.default_rng(seed)
    drawn = {name: rng.permutation(len(pool)) for name, pool in pools.items()}
    return {name: order < len(order) // 2 for name, order in drawn.items()}


def federation(
    plan: Plan, pools: Mapping[str, Sequence[Case]], policy: SitePolicy, rounds: int, seed: int
) -> Outcome:
    """Train one federation behind its guards, and score every case.

    Args:
        plan: Network and training of a round.
        pools: All cases, by hospital.
        policy: Of every site; its clipping and noise are used.
        rounds: Of federated averaging.
        seed: Of who is a member, of training and of noise.
    """
    inside, rng = halves(pools, seed), np.random.default_rng(seed)
    plan = replace(plan, train=replace(plan.train, seed=seed))
    members = {
        name: SiteCases(tuple(np.array(pool, object)[inside[name]]), (), (), ())
        for name, pool in pools.items()
    }
    average = task.pack(task.new_network(plan))
    sent: dict[str, np.ndarray] = {}
    for current in range(1, rounds + 1):
        for name, cases in members.items():
            network = task.new_network(plan)
            task.unpack(average, network, sender="the hub")
            trained = task.train(network, cases, plan, current)
            sent[name] = protected(average, trained, policy, rng)
        sizes = [len(cases.train) for cases in members.values()]
        average = np.average([*sent.values()], axis=0, weights=sizes).astype(np.float32)
    everybody = [case for pool in pools.values() for case in pool]
    logits = logits_of(average, plan, everybody)
    member = np.concatenate([*inside.values()])
    own = [losses(logits_of(sent[n], plan, pool), pool) for n, pool in pools.items()]
    return Outcome(
        member, losses(logits, everybody), np.concatenate(own),
        _auroc(logits[~member], [c for c, m in zip(everybody, member, strict=True) if not m]),
    )  # fmt: skip


def protected(
    before: np.ndarray, after: np.ndarray, policy: SitePolicy, rng: np.random.Generator
) -> np.ndarray:
    """What a site's guard lets out of an update."""
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    asked, reply = (
        Message(RecordDict({ARRAYS: ArrayRecord({PACKED: Array(weights)})}), 7, "train")
        for weights in (before, after)
    )
    return guard.protected(asked, reply, replace(policy, numbers=before.size), rng)


def logits_of(packed: np.ndarray, plan: Plan, cases: Sequence[Case]) -> np.ndarray:
    """What weights say of cases."""
    network = task.new_network(plan)
    task.unpack(packed, network, sender="the average")
    return infer(network.eval(), cases)[0]


def losses(logits: np.ndarray, cases: Sequence[Case]) -> Floats:
    """Of each case, as the training counts it."""
    syndrome, causes = label_arrays(cases)
    n = logits.shape[1] - causes.shape[1]
    logits = np.clip(np.nan_to_num(logits.astype(np.float64)), -1e3, 1e3)
    first = -log_softmax(logits[:, :n], axis=1)[np.arange(len(cases)), syndrome]
    signed = np.where(causes == 1, logits[:, n:], -logits[:, n:])
    return np.asarray(first + np.logaddexp(0, -signed).sum(axis=1))


def _auroc(logits: np.ndarray, cases: Sequence[Case]) -> float:
    """Mean over the diagnoses; 0.5 where noise has made the weights useless."""
    syndrome, causes = label_arrays(cases)
    n = logits.shape[1] - causes.shape[1]
    logits = np.nan_to_num(logits.astype(np.float64))
    stated = np.concatenate([softmax(logits[:, :n], axis=1), expit(logits[:, n:])], axis=1)
    truth = np.concatenate([syndrome[:, None] == np.arange(n), causes == 1], axis=1)
    return mean_auroc(truth.astype(float), stated)


# -- the attacks ---------------------------------------------------------------------------


def by_loss(member: Bool[np.ndarray, " case"], loss: Floats) -> Attacked:
    """Call those with the smallest loss members."""
    return attacked(member, -loss)


def by_likelihood(
    member: Bool[np.ndarray, " case"],
    loss: Floats,
    shadow_members: Bool[np.ndarray, "shadow case"],
    shadow_losses: Float[np.ndarray, "shadow case"],
) -> Attacked:
    """Call those members whose loss is that of shadow models which saw them.

    Args:
        member: The truth.
        loss: Under the model that is attacked.
        shadow_members: Who was in the training of each shadow model.
        shadow_losses: Under these.
    """
    said, shadows = np.log(loss + 1e-9), np.log(shadow_losses + 1e-9)
    seen = _mean(shadows, shadow_members)
    unseen = _mean(shadows, ~shadow_members)
    gap = np.nanmean(seen - unseen)
    seen = np.where(np.isnan(seen), unseen + gap, seen)  # in none of the shadows, or in all
    unseen = np.where(np.isnan(unseen), seen - gap, unseen)
    rest = np.where(shadow_members, shadows - seen, shadows - unseen)
    spread = float(rest.std()) + 1e-9
    ratio = norm.logpdf(said, seen, spread) - norm.logpdf(said, unseen, spread)
    return attacked(member, ratio)


def _mean(values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Mean of each column over what is shown; NaN where nothing is."""
    count = shown.sum(axis=0)
    return np.where(count > 0, np.where(shown, values, 0.0).sum(axis=0) / np.maximum(count, 1),
                    np.nan)  # fmt: skip


def attacked(member: Bool[np.ndarray, " case"], score: Floats) -> Attacked:
    """Scores of an attack whose higher numbers mean a member."""
    false, true, _ = roc_curve(member, score)
    return Attacked(float(roc_auc_score(member, score)), float(true[false <= 0.01].max()))


def attacks(outcomes: Sequence[Outcome], view: str) -> dict[str, list[Attacked]]:
    """Both attacks on each federation, the others being the shadows.

    Args:
        outcomes: Of federations under the same protection.
        view: ``average`` or ``update``.
    """
    found: dict[str, list[Attacked]] = {"loss": [], "likelihood": []}
    for target in outcomes:
        others = [other for other in outcomes if other is not target]
        loss = getattr(target, view)
        found["loss"].append(by_loss(target.member, loss))
        found["likelihood"].append(
            by_likelihood(
                target.member, loss, np.stack([o.member for o in others]),
                np.stack([getattr(o, view) for o in others]),
            )
        )  # fmt: skip
    return found


def one_thread() -> None:
    """So that figures repeat."""
    torch.set_num_threads(1)
