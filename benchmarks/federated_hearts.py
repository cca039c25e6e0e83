"""Four real hospitals of UCI Heart Disease: the federation's network, and logistic regression.

A third of each hospital's patients tests and chose nothing: settings were chosen on the other two
thirds (docs/log.md). The seeds give first weights, order, and which of the two thirds stop the
training. The last rows average the probabilities of the five seeds' networks.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.federated_scores import ALONE, POOLED, Kept, Predictions, draws, mean_of
from benchmarks.federated_ways import Study, ways
from benchmarks.tables import FOLDER, MAPPINGS, cells_of
from clinical.diagnoses import Scheme, load_scheme
from clinical.lab_encoder import history_tokens, lab_tokens
from clinical.mapping import load_mapping
from clinical.record import PatientRecord
from clinical.tables import read_table
from clinical.text_encoder import TextEncoder, load_text_encoder
from federated.task import Plan, SiteCases
from fusion.case import Case
from fusion.network import ModelConfig
from fusion.store import labels_of
from fusion.train import TrainConfig, split_by_patient

HEARTS = ("cleveland", "hungarian", "switzerland", "va")
TESTED = 1 / 3  # of each hospital's patients
VALID = 0.15  # of the persons that the network may learn from
ROUNDS = 30
MODEL = ModelConfig(n_syndromes=2, n_causes=0, dim=48, heads=4)
TRAIN = TrainConfig(epochs=1, learning_rate=1e-3, warmup_steps=5, modality_dropout=0.1)
LOGISTIC = "logistic regression, "
ASKED = 10  # first columns of the table, all known of each patient of the published comparison
PUBLISHED = "pooled 0.795, best single hospital 0.784, FedAvg 0.748, best federated 0.785"


@dataclass(frozen=True)
class Heart:
    """One hospital's patients.

    Attributes:
        cases: What the network sees.
        cells: What logistic regression sees.
        ill: Whether an artery is narrowed.
        complete: Whether the first ten columns are known.
        test: Whether the patient is of the third that tests.
    """

    cases: Sequence[Case]
    cells: np.ndarray
    ill: np.ndarray
    complete: np.ndarray
    test: np.ndarray


@functools.cache
def load(folder: Path = FOLDER) -> dict[str, Heart]:
    """The four hospitals."""
    encoder, scheme = load_text_encoder(), load_scheme(MAPPINGS / "heart_uci_diagnoses.toml")
    mapping = load_mapping(MAPPINGS / "heart_uci.toml")
    rows = {
        hospital: read_table(
            (folder / "heart_uci" / f"{hospital}.csv").read_bytes(), mapping, f"{hospital}.csv"
        )[0]
        for hospital in HEARTS
    }
    cells = np.split(
        cells_of([row for hospital in HEARTS for row in rows[hospital]]),
        np.cumsum([len(rows[hospital]) for hospital in HEARTS])[:-1],
    )
    found = {}
    for hospital, table in zip(HEARTS, cells, strict=True):
        cases = [
            case_of(row.record, row.diagnoses or (), f"{hospital}{n}", encoder, scheme)
            for n, row in enumerate(rows[hospital])
        ]
        ill = np.array([case.labels is not None and case.labels.syndrome == 1 for case in cases])
        lines = (folder / "heart_uci" / f"{hospital}.csv").read_text().splitlines()
        asked = [lines[row.lines[-1] - 1].split(",")[:ASKED] for row in rows[hospital]]
        complete = np.array([not {"?", "-9"} & set(line) for line in asked])
        _, test = train_test_split(
            np.arange(len(cases)), test_size=TESTED, stratify=ill, random_state=0
        )
        found[hospital] = Heart(cases, table, ill, complete, np.isin(np.arange(len(cases)), test))
    return found


def case_of(
    record: PatientRecord, keys: Sequence[str], name: str, encoder: TextEncoder, scheme: Scheme
) -> Case:
    """A row's evidence, as `consilium import` makes it."""
    made = {
        "labs": lab_tokens(record),
        "history": history_tokens(record, encoder, exclude=scheme.codes),
    }
    tokens = {modality: t for modality, t in made.items() if t is not None}
    return Case(name, name, tokens, labels_of(list(keys), scheme))


def study(hearts: Mapping[str, Heart], seed: int) -> Study:
    """How the hospitals train, of one seed."""
    cases, tests = {}, {}
    for name, heart in hearts.items():
        mine = [case for case, out in zip(heart.cases, heart.test, strict=True) if not out]
        learning, stopping = split_by_patient(mine, (1 - VALID, VALID), seed)
        cases[name] = SiteCases(learning, stopping, (), ())
        tests[name] = [case for case, out in zip(heart.cases, heart.test, strict=True) if out]
    scheme = load_scheme(MAPPINGS / "heart_uci_diagnoses.toml")
    plan = Plan("heart", MODEL, TrainConfig(**{**vars(TRAIN), "seed": seed}), scheme)
    return Study(cases, tests, plan, ROUNDS)


def logistic(hearts: Mapping[str, Heart]) -> Predictions:
    """Probabilities of illness by logistic regression on the rows' own cells."""
    pooled = _logistic(list(hearts.values()))
    return {
        f"{LOGISTIC}{POOLED}": {
            name: pooled.predict_proba(heart.cells[heart.test])[:, 1]
            for name, heart in hearts.items()
        },
        f"{LOGISTIC}{ALONE}": {
            name: _logistic([heart]).predict_proba(heart.cells[heart.test])[:, 1]
            for name, heart in hearts.items()
        },
    }


def _logistic(hearts: Sequence[Heart]) -> LogisticRegression:
    """Fitted to the training patients; a column that none of them has is left out."""
    model = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True),
        StandardScaler(),
        LogisticRegression(max_iter=5000),
    )
    cells = np.concatenate([heart.cells[~heart.test] for heart in hearts])
    return model.fit(cells, np.concatenate([heart.ill[~heart.test] for heart in hearts]))


def train(kept: Kept, seed: int) -> Predictions:
    """Probabilities of illness by every way, of one seed."""
    made = study(load(), seed)
    found: Predictions = {}
    for name, way in ways(made).items():
        for trained, by in kept.get(f"hearts-{seed}-{name}", made.settings, way).items():
            found[trained] = {h: softmax(rows, axis=1)[:, 1] for h, rows in by.items()}
    return found


def accuracy(
    predictions: Sequence[Predictions], hearts: Mapping[str, Heart], *, published: bool = False
) -> dict[str, dict[str, np.ndarray]]:
    """Share of patients on the right side of one half, by way, hospital, seed and draw.

    Args:
        predictions: Of each seed.
        hearts: The hospitals.
        published: Only the patients of the published comparison.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for way in predictions[0]:
        for n, (name, heart) in enumerate(hearts.items()):
            weights = draws(int(heart.test.sum()), n)
            if published:
                weights = weights * heart.complete[heart.test]
            right = [
                mean_of(((of[way][name] > 0.5) == heart.ill[heart.test]).astype(float), weights)
                for of in predictions
            ]
            found.setdefault(way, {})[name] = np.array(right)
    return found


def averaged(predictions: Sequence[Predictions], ways: Sequence[str]) -> Predictions:
    """Probabilities averaged over the seeds' networks."""
    return {
        f"{way}, mean of the seeds": {
            name: np.mean([of[way][name] for of in predictions], axis=0)
            for name in predictions[0][way]
        }
        for way in ways
    }


def words(predictions: Sequence[Predictions], hearts: Mapping[str, Heart]) -> str:
    """What the table is of, and the figures beside the published ones."""
    both = [accuracy(predictions, hearts, published=asked) for asked in (False, True)]
    counted = [
        {
            name: int((heart.test & (heart.complete | (not asked))).sum())
            for name, heart in hearts.items()
        }
        for asked in (False, True)
    ]
    heads = ("trained", "all patients, mean of hospitals", "all patients",
             "published patients, mean of hospitals", "published patients")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---|--:|--:|--:|--:|"]
    for way in predictions[0]:
        cells = []
        for found, n in zip(both, counted, strict=True):
            right = {name: float(found[way][name][:, 0].mean()) for name in hearts}
            cells.append(f"{np.mean(list(right.values())):.3f}")
            cells.append(f"{sum(right[h] * n[h] for h in n) / sum(n.values()):.3f}")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    people = ", ".join(f"{h} {int((~x.test).sum())} and {n}" for (h, x), n in
                       zip(hearts.items(), counted[0].values(), strict=True))  # fmt: skip
    return (
        f"Patients to train and to test on: {people}. {ROUNDS} rounds of {TRAIN.epochs} epoch; "
        "logistic regression sees the same cells.\n\n"
        f"Published (FLamby, accuracy, logistic regression, five seeds): {PUBLISHED}; on the "
        f"{sum(int(x.complete.sum()) for x in hearts.values())} patients whose first {ASKED} "
        f"columns are known, of whom {sum(counted[1].values())} are among our test patients; "
        "another division, and without slope, ca and thal, which our network sees. Ours:\n\n"
        + "\n".join(lines)
    )
