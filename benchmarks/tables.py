"""The network on tables, beside logistic regression and gradient boosting on the same splits.

OASIS-2 (CDR above 0 against 0, with and without MMSE) and each hospital of UCI Heart Disease. Each
table goes through `clinical.mapping`, `clinical.tables`, the encoders, `fusion.train.fit` and
`fusion.network.infer`, as `consilium import` and `consilium train` do it, with their default
settings. Five folds, all visits of a person in the same one; of the other four, a part of the
persons stops the network's training early. The two others see the row's own cells (numbers
imputed by their median with a flag, categories one-hot), with scikit-learn's default settings, and
are fitted on all of the four folds.

Usage: python -m benchmarks.tables [FOLDER] [--repeats N] [--only NAME]
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from clinical.diagnoses import load_scheme
from clinical.lab_encoder import history_tokens, lab_tokens
from clinical.mapping import load_mapping
from clinical.record import PatientRecord
from clinical.tables import TableCase, read_table
from clinical.text_encoder import TextEncoder, load_text_encoder
from fusion.case import Case
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig, infer
from fusion.store import labels_of
from fusion.train import TrainConfig, fit, split_by_patient

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT.parent / "shared" / "data"
MAPPINGS = ROOT / "sample_data" / "mappings"
FOLDS = 5
VALID = 0.15  # of the persons that the network may learn from
RESAMPLES = 1000
METHODS = ("network", "logistic regression", "gradient boosting")


@dataclass(frozen=True)
class Question:
    """One table and what is asked of it."""

    name: str
    table: str
    mapping: str
    without: tuple[str, ...] = ()


QUESTIONS = (
    Question("OASIS-2, with MMSE", "oasis2/oasis_longitudinal.csv", "oasis2"),
    Question("OASIS-2, without MMSE", "oasis2/oasis_longitudinal.csv", "oasis2", ("MMSE",)),
    *(
        Question(f"heart, {hospital}", f"heart_uci/{hospital}.csv", "heart_uci")
        for hospital in ("cleveland", "hungarian", "switzerland", "va")
    ),
)


@dataclass(frozen=True)
class Data:
    """One question's cases, three ways.

    Attributes:
        cases: What the network sees.
        cells: What the others see: a row a case, NaN where a number is missing.
        truth: Whether the second syndrome of the scheme is true.
        persons: Whose case it is.
    """

    cases: Sequence[Case]
    cells: np.ndarray
    truth: np.ndarray
    persons: np.ndarray


def load(question: Question, folder: Path, encoder: TextEncoder) -> Data:
    """Read a table and make its evidence."""
    mapping = load_mapping(MAPPINGS / f"{question.mapping}.toml").without(*question.without)
    scheme = load_scheme(MAPPINGS / f"{question.mapping}_diagnoses.toml")
    path = folder / question.table
    rows, _ = read_table(path.read_bytes(), mapping, path.name)
    known = [row for row in rows if row.diagnoses is not None]
    cases = []
    for n, row in enumerate(known):
        made = {
            "labs": lab_tokens(row.record),
            "history": history_tokens(row.record, encoder, exclude=scheme.codes),
        }
        tokens = {modality: t for modality, t in made.items() if t is not None}
        labels = labels_of(list(row.diagnoses or ()), scheme)
        cases.append(Case(f"case{n}", row.record.patient_id, tokens, labels))
    truth = np.array([case.labels is not None and case.labels.syndrome == 1 for case in cases])
    return Data(cases, cells_of(known), truth, np.array([case.patient_key for case in cases]))


def cells_of(rows: Sequence[TableCase]) -> np.ndarray:
    """The cells of the rows themselves as numbers, categories one-hot."""
    told = [dict(_cells(row.record)) for row in rows]
    columns = sorted({column for cells in told for column in cells})
    table = np.full((len(rows), len(columns)), np.nan)
    for row, cells in enumerate(told):
        for n, column in enumerate(columns):
            table[row, n] = cells.get(column, 0.0 if "=" in column else np.nan)
    return table[:, ~np.isnan(table).all(axis=0)]


def _cells(record: PatientRecord) -> Iterator[tuple[str, float]]:
    """The latest row of a record."""
    yield "sex", float(record.sex == "male")
    for name, number in (("age", record.age_years), ("education", record.education_years)):
        if number is not None:
            yield name, number
    for seen in record.observations:
        if seen.date != record.index_date:
            continue
        if seen.value is not None:
            yield seen.loinc, seen.value
        else:
            yield f"{seen.loinc}={seen.text}", 1.0


def network(data: Data, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities of a network that stopped early on some persons of the training part."""
    learning, stopping = split_by_patient([data.cases[n] for n in train], (1 - VALID, VALID), seed)
    torch.manual_seed(seed)
    model = DiagnosticModel(ModelConfig(n_syndromes=2, n_causes=0))
    fit(model, learning, stopping, TrainConfig(seed=seed))
    logits, _ = infer(model, [data.cases[n] for n in test])
    return np.asarray(softmax(logits, axis=1)[:, 1])


def baseline(make: Callable[[], object]) -> Callable[..., np.ndarray]:
    """Probabilities of a classifier of scikit-learn."""

    def predict(data: Data, train: np.ndarray, test: np.ndarray, _: int) -> np.ndarray:
        fitted = make().fit(data.cells[train], data.truth[train])  # type: ignore[attr-defined]
        return np.asarray(fitted.predict_proba(data.cells[test])[:, 1])

    return predict


PREDICT: dict[str, Callable[..., np.ndarray]] = {
    "network": network,
    "logistic regression": baseline(
        lambda: make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True),
            StandardScaler(),
            LogisticRegression(max_iter=5000),
        )
    ),
    "gradient boosting": baseline(lambda: HistGradientBoostingClassifier(random_state=0)),
}


def out_of_fold(data: Data, repeats: int, progress: tqdm) -> dict[str, np.ndarray]:
    """Probability of every case by a model that never saw its person, for each repeat."""
    found = {method: np.zeros((repeats, len(data.truth))) for method in METHODS}
    for repeat in range(repeats):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=repeat)
        for train, test in folds.split(data.cells, data.truth, data.persons):
            for method in METHODS:
                found[method][repeat, test] = PREDICT[method](data, train, test, repeat)
            progress.update()
    return found


def auroc(truth: np.ndarray, probability: np.ndarray) -> float:
    """AUROC."""
    return float(roc_auc_score(truth, probability))


def accuracy(truth: np.ndarray, probability: np.ndarray) -> float:
    """Share of cases on the right side of one half."""
    return float(((probability > 0.5) == truth).mean())


def scores(
    measure: Callable[[np.ndarray, np.ndarray], float], data: Data, found: dict[str, np.ndarray]
) -> list[str]:
    """Cells of a line: each method, and the network against the better of the others."""

    def score(rows: np.ndarray) -> np.ndarray:
        return np.array([
            np.mean([measure(data.truth[rows], repeat[rows]) for repeat in found[method]])
            for method in METHODS
        ])  # fmt: skip

    whole = score(np.arange(len(data.truth)))
    drawn = np.array([score(rows) for rows in resampled(data)])
    better = 1 + int(whole[1:].argmax())
    lines = [_span(whole[n], drawn[:, n]) for n in range(len(METHODS))]
    gap = _span(whole[0] - whole[better], drawn[:, 0] - drawn[:, better], sign="+")
    return [*lines, f"{gap} against {METHODS[better]}"]


def resampled(data: Data) -> Iterator[np.ndarray]:
    """Rows of the bootstrap over persons; draws with one class are drawn again."""
    rng = np.random.default_rng(0)
    people = [np.flatnonzero(data.persons == person) for person in np.unique(data.persons)]
    made = 0
    while made < RESAMPLES:
        rows = np.concatenate([people[n] for n in rng.integers(len(people), size=len(people))])
        if 0 < data.truth[rows].sum() < len(rows):
            made += 1
            yield rows


def _span(value: float, drawn: np.ndarray, sign: str = "") -> str:
    """A value with its 95 % interval."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def main() -> None:
    """Print one table for the AUROC and one for the accuracy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", default="", help="questions with this in their name")
    args = parser.parse_args()
    asked = [question for question in QUESTIONS if args.only in question.name]
    torch.set_num_threads(1)  # small batches: more threads only wait for each other
    encoder = load_text_encoder()
    lines: dict[str, list[str]] = {"AUROC": [], "accuracy": []}
    with tqdm(total=len(asked) * args.repeats * FOLDS, unit="fold", disable=None) as progress:
        for question in asked:
            data = load(question, args.folder, encoder)
            found = out_of_fold(data, args.repeats, progress)
            told = [f"{m} {auroc(data.truth, found[m][0]):.3f}" for m in METHODS]
            print(question.name, *told, file=sys.stderr, flush=True)
            head = [question.name, f"{len(data.truth)} of {len(set(data.persons))} persons"]
            head.append(str(int(data.truth.sum())))
            for name, measure in (("AUROC", auroc), ("accuracy", accuracy)):
                row = " | ".join([*head, *scores(measure, data, found)])
                lines[name].append(f"| {row} |")
    print(f"{FOLDS} folds by person, {args.repeats} repeats; text encoder {encoder.name}; 95 %")
    print(f"intervals by {RESAMPLES} bootstrap samples of persons.")
    for name, rows in lines.items():
        print(
            f"\n| {name} | cases | ill | {' | '.join(METHODS)} | network - better of the others |"
        )
        print("|---|---|--:|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
