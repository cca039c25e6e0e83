"""Will the CDR be worse at the next visit? The course so far against the last visit alone.

OASIS-2, one prediction for each visit that has a next one. Two ways, each shown both:

* logistic regression on the last visit's values, or on these and each value's slope, gaps and
  earlier mean (`clinical.trend.course`);
* the project's `clinical.temporal.LabEncoder` with temporal attention, trained from scratch on the
  courses, or on the same courses with all but the last visit hidden.

People who come again are those who fare better, so the bare number of visits so far foretells the
next one. Each way is therefore also run with that number given to both sides: what is left is the
course itself.

Folds are by person; every prediction is made by models that never saw the person, and is the mean
over several divisions into folds. Intervals resample persons. Nothing was tuned on these results.

Usage: python -m benchmarks next_visit [FOLDER]
"""

import csv
import datetime as dt
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from clinical.lab_encoder import CHANNELS, VISITS, lab_tokens
from clinical.record import DAYS_PER_YEAR, Observation, PatientRecord, Sex
from clinical.temporal import LabEncoder
from clinical.trend import course
from clinical.units import ANALYTE_INDEX, analyte

FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "oasis2/oasis_longitudinal.csv"
COLUMNS = {
    "CDR": "72088-8", "MMSE": "72106-8", "nWBV": "X-BRAIN-FRACTION",
    "eTIV": "X-INTRACRANIAL-VOLUME",
}  # fmt: skip
FIRST_DAY = dt.date(2000, 1, 1)  # the file has days since the first visit and no date
FOLDS, DIVISIONS, RESAMPLES = 5, 5, 2000
DIM, STEPS, DROPOUT = 16, 150, 0.2
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """What was known at a visit, and what the next one showed."""

    person: str
    record: PatientRecord  # up to and with this visit
    worse: bool
    years: float  # to the next visit


def read_pairs(path: Path) -> Iterator[Pair]:
    """One for each visit that has a next one."""
    people: dict[str, list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            people.setdefault(row["Subject ID"], []).append(row)
    for person, rows in people.items():
        rows.sort(key=lambda row: int(row["MR Delay"]))
        for n in range(1, len(rows)):
            days = int(rows[n]["MR Delay"]) - int(rows[n - 1]["MR Delay"])
            worse = float(rows[n]["CDR"]) > float(rows[n - 1]["CDR"])
            yield Pair(person, record(rows[:n]), worse, days / DAYS_PER_YEAR)


def record(rows: Sequence[dict[str, str]]) -> PatientRecord:
    """The visits so far as the project keeps them."""
    sex: Sex = "female" if rows[0]["M/F"] == "F" else "male"
    return PatientRecord(
        rows[0]["Subject ID"],
        sex,
        birth_date=FIRST_DAY - dt.timedelta(days=round(int(rows[0]["Age"]) * DAYS_PER_YEAR)),
        education_years=float(rows[0]["EDUC"]),
        observations=tuple(seen for n, row in enumerate(rows) for seen in values(n, row)),
    )


def values(visit: int, row: dict[str, str]) -> Iterator[Observation]:
    """What was measured at one visit."""
    day = FIRST_DAY + dt.timedelta(days=int(row["MR Delay"]))
    for column, loinc in COLUMNS.items():
        known = analyte(loinc)
        if row[column] and known:
            number = float(row[column])
            yield Observation(f"{column}{visit}", loinc, known.name, number, known.unit, date=day)


def visits(pair: Pair) -> int:
    """How often the person has come."""
    return len({seen.date for seen in pair.record.observations})


def last_visit(pair: Pair) -> list[float]:
    """Age, sex, schooling and the newest value of each analyte."""
    own = pair.record
    numbers = [own.age_years or np.nan, float(own.sex == "male"), own.education_years or np.nan]
    for loinc in COLUMNS.values():
        found = course(seen for seen in own.observations if seen.loinc == loinc)
        numbers.append(np.nan if found is None else found.latest)
    return numbers


def whole_course(pair: Pair) -> list[float]:
    """The same, and the course of each analyte but the size of the head, which does not change."""
    numbers = last_visit(pair)
    for loinc in COLUMNS.values():
        mine = [seen for seen in pair.record.observations if seen.loinc == loinc]
        found = course(mine)
        if found is None or loinc == COLUMNS["eTIV"]:
            continue
        numbers += [found.slope_per_year or 0.0, found.longest_gap_years]
    return [*numbers, float(visits(pair))]


def regression() -> Pipeline:
    """Logistic regression with a ridge, the same for both arms."""
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(C=0.1, max_iter=1000),
    )


def fit_regression(x: Floats, worse: Floats, train: NDArray[np.intp]) -> Floats:
    """Probabilities of every pair from a model of the training pairs."""
    model = regression().fit(x[train], worse[train])
    return np.asarray(model.predict_proba(x)[:, 1])


class Network(nn.Module):
    """The project's encoder of courses, a mean over analytes, and one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = LabEncoder(DIM)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(DIM + 4, 1)

    def forward(self, features: Tensor, kinds: Tensor, person: Tensor) -> Tensor:
        """A logit a pair; analytes that were not measured do not count."""
        present = features[..., -1, 2:]
        tokens = self.encoder(features, kinds) * present
        mean = tokens.sum(dim=1) / present.sum(dim=1).clamp(min=1)
        logit: Tensor = self.head(torch.cat([self.dropout(mean), person], dim=1))[:, 0]
        return logit


def tensors(
    pairs: Sequence[Pair], *, last_only: bool, counted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Courses, kinds and the person; all but the last visit hidden where asked for."""
    rows = [ANALYTE_INDEX[loinc] for loinc in COLUMNS.values()]
    features = torch.zeros(len(pairs), len(rows), VISITS, CHANNELS)
    for n, pair in enumerate(pairs):
        tokens = lab_tokens(pair.record)
        assert tokens is not None
        for kind, course_of in zip(tokens.kinds.tolist(), tokens.features, strict=True):
            features[n, rows.index(kind)] = torch.from_numpy(course_of)
    if last_only:
        features[..., :-1, :] = 0.0
    person = [
        [((p.record.age_years or 75) - 75) / 10, float(p.record.sex == "male"),
         ((p.record.education_years or 12) - 12) / 4, float(counted) * (visits(p) - 1)]
        for p in pairs
    ]  # fmt: skip
    return features, torch.tensor(rows).expand(len(pairs), -1), torch.tensor(person)


def fit_network(
    inputs: tuple[Tensor, Tensor, Tensor], worse: Floats, train: NDArray[np.intp], seed: int
) -> Floats:
    """Probabilities of every pair from a network of the training pairs, trained from scratch."""
    torch.manual_seed(seed)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    chosen = torch.from_numpy(train)
    shown = [part[chosen] for part in inputs]
    wanted = torch.from_numpy(worse[train]).float()
    weight = (1 - wanted.mean()) / wanted.mean()
    for _ in range(STEPS):
        loss = nn.functional.binary_cross_entropy_with_logits(
            network(*shown), wanted, pos_weight=weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.inference_mode():
        return network(*inputs).sigmoid().double().numpy()


Fit = Callable[[NDArray[np.intp], int], Floats]


def out_of_fold(fit: Fit, people: NDArray[np.str_]) -> Floats:
    """The mean prediction of each pair over the divisions, never by a model that saw the person."""
    found = np.zeros((DIVISIONS, len(people)))
    for division in range(DIVISIONS):
        folds = GroupKFold(FOLDS, shuffle=True, random_state=division)
        for train, test in folds.split(people, groups=people):
            found[division, test] = fit(train, division)[test]
    return found.mean(axis=0)


def predict(
    pairs: Sequence[Pair], people: NDArray[np.str_], worse: Floats
) -> dict[str, tuple[Floats, Floats]]:
    """What the last visit and what the course foretell, by model."""

    def regress(numbers: Callable[[Pair], list[float]]) -> Floats:
        x = np.array([numbers(pair) for pair in pairs])
        return out_of_fold(lambda train, _: fit_regression(x, worse, train), people)

    def train_network(*, last_only: bool, counted: bool) -> Floats:
        inputs = tensors(pairs, last_only=last_only, counted=counted)
        return out_of_fold(lambda train, seed: fit_network(inputs, worse, train, seed), people)

    course_of = regress(whole_course)
    return {
        "logistic regression": (regress(last_visit), course_of),
        "logistic regression, number of visits on both sides": (
            regress(lambda pair: [*last_visit(pair), float(visits(pair))]),
            course_of,
        ),
        "LabEncoder": (
            train_network(last_only=True, counted=False),
            train_network(last_only=False, counted=False),
        ),
        "LabEncoder, number of visits on both sides": (
            train_network(last_only=True, counted=True),
            train_network(last_only=False, counted=True),
        ),
    }


def auroc(worse: Floats, predicted: Floats) -> float:
    """Chance that a pair that gets worse is ranked above one that does not."""
    yes = worse.sum()
    ranks = rankdata(predicted)[worse == 1].sum()
    return float((ranks - yes * (yes + 1) / 2) / (yes * (len(worse) - yes)))


def resamples(people: NDArray[np.str_], worse: Floats) -> Iterator[NDArray[np.intp]]:
    """Pairs of persons drawn with replacement, with at least one of each outcome."""
    rng = np.random.default_rng(0)
    mine = {person: np.flatnonzero(people == person) for person in sorted(set(people))}
    names = list(mine)
    made = 0
    while made < RESAMPLES:
        drawn = np.concatenate([mine[names[n]] for n in rng.integers(len(names), size=len(names))])
        if 0 < worse[drawn].sum() < len(drawn):
            made += 1
            yield drawn


def interval(numbers: Sequence[float]) -> str:
    """The middle 95 %."""
    low, high = np.percentile(numbers, [2.5, 97.5])
    return f"{low:.3f} to {high:.3f}"


def compare(
    title: str, people: NDArray[np.str_], worse: Floats, arms: dict[str, tuple[Floats, Floats]]
) -> None:
    """Print one table: both arms of every model, and their paired difference."""
    events = int(worse.sum())
    print(f"\n### {title}\n\n{len(worse)} visits of {len(set(people))} people, {events} events.\n")
    print("| model | last visit | 95 % | course | 95 % | course - last | 95 % |")
    print("|---|---:|---|---:|---|---:|---|")
    draws = list(resamples(people, worse))
    for name, (last, whole) in arms.items():
        one = [auroc(worse[d], last[d]) for d in draws]
        other = [auroc(worse[d], whole[d]) for d in draws]
        difference = [b - a for a, b in zip(one, other, strict=True)]
        points = auroc(worse, last), auroc(worse, whole)
        print(
            f"| {name} | {points[0]:.3f} | {interval(one)} | {points[1]:.3f} | {interval(other)} "
            f"| {points[1] - points[0]:+.3f} | {interval(difference)} |"
        )


def main() -> None:
    """Predict, compare, print."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    if not path.exists():
        print("OASIS-2 is not here: the benchmark was skipped.")
        return
    begin = time.process_time()
    torch.set_num_threads(1)  # the network is too small to share out
    pairs = list(read_pairs(path))
    people = np.array([pair.person for pair in pairs])
    worse = np.array([float(pair.worse) for pair in pairs])
    seen = np.array([float(visits(pair)) for pair in pairs])
    arms = predict(pairs, people, worse)
    print("## CDR worse at the next visit (OASIS-2): AUROC of the course and of the last visit\n")
    years = np.array([pair.years for pair in pairs])
    print(
        f"The next visit is {np.median(years):.1f} years later (median; "
        f"{years.min():.1f} to {years.max():.1f}). {FOLDS} folds by person, {DIVISIONS} divisions; "
        f"intervals from {RESAMPLES} resamples of persons."
    )
    compare("All visits that have a next one", people, worse, arms)
    later = seen > 1
    print(
        f"\n{int(worse[~later].sum())} of the events follow a first visit, where there is no "
        f"course: {worse[~later].mean():.0%} of first visits are followed by a worse CDR, "
        f"{worse[later].mean():.0%} of later ones."
    )
    part = {name: (a[later], b[later]) for name, (a, b) in arms.items()}
    compare("Only where there is a course: two visits or more", people[later], worse[later], part)
    print(f"\nTook {time.process_time() - begin:.0f} s of one core.")


if __name__ == "__main__":
    main()
