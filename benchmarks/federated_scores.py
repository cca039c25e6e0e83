"""What the tables of the federation share: kept predictions, intervals, and lines of a table.

Patients are drawn anew within each hospital, the same draws for every way of training, so that a
difference is one of the same patients. A score over several hospitals is the mean of theirs: each
hospital counts the same, as it is the hospital that asks whether it gains.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.special import expit, softmax
from scipy.stats import t as student

from fusion.case import UNKNOWN, Case, label_arrays
from fusion.evaluate import FEWEST

RESAMPLES = 1000
POOLED, ALONE = "pooled", "each hospital alone"
WAYS_ALONE = " alone, at all"  # after a hospital's name: its own model at every hospital

Draws = Float[np.ndarray, "draw patient"]  # how often each patient counts; in the first, once
Drawn = Float[np.ndarray, " draw"]
Predictions = dict[str, dict[str, np.ndarray]]  # by way of training and hospital, a row a patient


def draws(patients: int, seed: int, resamples: int = RESAMPLES) -> Draws:
    """How often each patient counts: once each, then as the bootstrap draws them."""
    even = np.full(patients, 1 / patients)
    drawn = np.random.default_rng(seed).multinomial(patients, even, size=resamples)
    return np.concatenate([np.ones((1, patients)), drawn.astype(float)])


def mean_of(values: Float[np.ndarray, " patient"], weights: Draws) -> Drawn:
    """Mean of a number that each patient has, such as an error."""
    return np.asarray((weights @ values) / weights.sum(axis=1))


def mean_auroc(
    probability: Float[np.ndarray, "patient diagnosis"],
    truth: Float[np.ndarray, "patient diagnosis"],
    weights: Draws,
) -> Drawn:
    """Mean AUROC over the diagnoses that `FEWEST` patients have and as many have not."""
    found = []
    for said, true in zip(probability.T, truth.T, strict=True):
        yes, no = true == 1, true == 0
        if min(yes.sum(), no.sum()) < FEWEST:
            continue
        above = (said[yes, None] > said[no]) + 0.5 * (said[yes, None] == said[no])
        pairs = weights[:, yes].sum(axis=1) * weights[:, no].sum(axis=1)
        won = ((weights[:, yes] @ above) * weights[:, no]).sum(axis=1)
        found.append(np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan))
    return np.asarray(np.nanmean(found, axis=0))


def diagnoses(
    logits: Float[np.ndarray, "patient diagnosis"], cases: Sequence[Case], syndromes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probability and truth of every diagnosis; a syndrome nobody knows is `UNKNOWN`."""
    said = [softmax(logits[:, :syndromes], axis=1), expit(logits[:, syndromes:])]
    syndrome, causes = label_arrays(cases)
    one_hot = np.where(syndrome[:, None] == np.arange(syndromes), 1.0, 0.0)
    one_hot[syndrome == UNKNOWN] = UNKNOWN
    return np.concatenate(said, axis=1), np.concatenate([one_hot, causes], axis=1)


@dataclass(frozen=True)
class Kept:
    """Predictions of finished trainings, so that an interrupted run goes on.

    A file is named by what was trained and with which settings, not by the code: delete the folder
    after a change of the code that changes what is trained.

    Attributes:
        folder: Of the files.
        seconds: That each training took which was asked for.
    """

    folder: Path
    seconds: list[float] = field(default_factory=list)

    def get(
        self, name: str, settings: Mapping[str, object], make: Callable[[], Predictions]
    ) -> Predictions:
        """Predictions of one training, made where they are not there yet.

        Args:
            name: For a person who looks into the folder.
            settings: All that the predictions depend on.
            make: Makes them.
        """
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{name}-{digest[:12]}.npz"
        if not path.exists():
            began = time.perf_counter()
            found = make()
            named = {f"{w}|{h}": rows for w, by in found.items() for h, rows in by.items()}
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, seconds=time.perf_counter() - began, **named)
            partial.replace(path)
        with np.load(path) as kept:
            made: Predictions = {}
            for key in (key for key in kept.files if key != "seconds"):
                way, _, hospital = key.partition("|")
                made.setdefault(way, {})[hospital] = kept[key]
            self.seconds.append(float(kept["seconds"]))
        return made


@dataclass(frozen=True)
class Scores:
    """One question's scores.

    Attributes:
        title: What was asked.
        measure: Of what the numbers are.
        sign: 1 where more is better, -1 for errors.
        digits: Behind the point.
        ways: By way of training and hospital, a row a seed and a column a draw of patients.
        seconds: That the training took, on one core.
    """

    title: str
    measure: str
    sign: int
    digits: int
    ways: Mapping[str, Mapping[str, Float[np.ndarray, "seed draw"]]]
    seconds: float

    @property
    def hospitals(self) -> list[str]:
        """Their names."""
        return list(self.ways[POOLED])

    def at(self, way: str, hospital: str) -> Drawn:
        """At one hospital, mean over seeds."""
        return np.asarray(self.ways[way][hospital].mean(axis=0))

    def mean(self, way: str) -> Drawn:
        """Mean of the hospitals and of the seeds."""
        return np.asarray(np.mean([self.at(way, h) for h in self.hospitals], axis=0))

    def by_seed(self, way: str) -> Float[np.ndarray, " seed"]:
        """Mean of the hospitals on all patients, of each seed."""
        return np.asarray(np.mean([self.ways[way][h][:, 0] for h in self.hospitals], axis=0))

    def gain(self, way: str, hospital: str) -> Drawn:
        """How much better a way is at a hospital than the hospital alone."""
        return self.sign * (self.at(way, hospital) - self.at(ALONE, hospital))

    def number(self, value: float, sign: str = "") -> str:
        """As it is printed."""
        return f"{value:{sign}.{self.digits}f}"

    def span(self, drawn: Drawn, sign: str = "") -> str:
        """A value with its 95 % interval over patients."""
        low, high = np.nanpercentile(drawn[1:], [2.5, 97.5])
        numbers = [self.number(float(v), sign) for v in (drawn[0], low, high)]
        return "{} ({} to {})".format(*numbers)

    def over_seeds(self, way: str) -> str:
        """Half the 95 % interval over seeds, by Student's t."""
        values = self.by_seed(way)
        if len(values) < 2 or values.std() < 1e-9:
            return ""
        half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        return f"± {self.number(float(half))}"

    def better(self, way: str) -> str:
        """At which hospitals a way is better than the hospital alone; a star is beyond chance."""
        told: dict[bool, list[str]] = {True: [], False: []}
        for hospital in self.hospitals:
            gain = self.gain(way, hospital)
            low, high = np.nanpercentile(gain[1:], [2.5, 97.5])
            star = "*" if low > 0 or high < 0 else ""
            words = f"{hospital} {self.number(float(gain[0]), '+')}{star}"
            told[bool(gain[0] > 0)].append(words)
        yes, no = ", ".join(told[True]), ", ".join(told[False])
        return f"{yes or 'nowhere'}{f'; **not** {no}' if no else ''}"

    def count_better(self, way: str) -> str:
        """At how many hospitals a way is better than the hospital alone."""
        n = sum(bool(self.gain(way, h)[0] > 0) for h in self.hospitals)
        return f"{n} of {len(self.hospitals)}"

    def table(self) -> str:
        """A line a way of training."""
        hospitals = self.hospitals
        heads = ["trained", *hospitals, "mean of hospitals", "seeds", "minus pooled",
                 "better than alone"]  # fmt: skip
        lines = [f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 2) + "|---|"]
        for way in self.ways:
            cells = [self.span(self.at(way, h)) for h in hospitals]
            mean, pooled = self.mean(way), self.mean(POOLED)
            beside = "" if way == POOLED else self.span(mean - pooled, "+")
            cells += [self.span(mean), self.over_seeds(way), beside]
            cells.append("" if way == ALONE or way.endswith(WAYS_ALONE) else self.better(way))
            lines.append(f"| {way} | {' | '.join(cells)} |")
        return "\n".join(lines)
