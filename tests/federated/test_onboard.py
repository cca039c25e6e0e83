"""A hospital looks at a model before it uses it, and nothing leaves."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from federated import task
from federated.errors import FederationError
from federated.site.local_scores import Answers, age_band, reliability, subgroups, thresholds
from federated.site.onboard import FOLDER, TEXT, onboard
from federated.site.onboard_text import markdown
from federated.task import Plan
from fusion.case import UNKNOWN
from fusion.checkpoint import ModelCard
from fusion.drift import DIFFERS, LIKE, profile
from fusion.network import CheckpointError
from fusion.store import CaseRow, Site
from ui.cli import main

Hospital = Callable[..., Path]
SAMPLE = Path(__file__).parents[2] / "sample_data" / "model"


@pytest.fixture(scope="module")
def model(plan: Plan, make_site: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, trained elsewhere on the same signs."""
    folder = tmp_path_factory.mktemp("model")
    better = replace(plan, train=replace(plan.train, epochs=20, learning_rate=5e-3))
    cases = task.site_cases(make_site(folder / "elsewhere", n_cases=120, seed=9), better)
    network = task.new_network(better)
    task.train(network, cases, better, 1)
    card = ModelCard(
        "made-up cases", len(cases.train), "none", plan.text_encoder, "2026-11-25",
        notes={"profile": profile(cases.train)},
    )  # fmt: skip
    task.deliver(network, cases, better, folder / "model", card)
    return folder / "model"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way out is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.mark.usefixtures("offline")
def test_the_command_says_and_keeps_what_was_found(
    hospital: Hospital, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a single connection, and for the owner's eyes alone."""
    site = hospital("north", n_cases=60, seed=1)

    assert main(["onboard", str(site), str(model)]) == 0

    printed, kept = capsys.readouterr().out, site / FOLDER
    assert (kept / TEXT).read_text().strip() in printed
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}
    figures = json.loads((kept / "report.json").read_text())
    assert figures["evaluation"]["n"] == 60
    assert "patient0" not in printed + json.dumps(figures)
    assert "case01" not in printed + json.dumps(figures)


def test_a_site_like_the_training_is_told_so(hospital: Hospital, model: Path) -> None:
    """A good model on patients like its own: high AUROC, no drift, thresholds that hold."""
    found = onboard(hospital("north", n_cases=60, seed=1), model)
    dementia = next(t for t in found.thresholds if t.key == "DE")
    scores = {score.key: score for score in found.evaluation.labels}

    assert scores["DE"].auroc > 0.9
    assert dementia.sensitivity > 0.6
    assert 0.9 <= dementia.specificity <= 1.0
    assert {d.word for d in found.drift if d.psi is not None} == {LIKE}
    assert found.suggestion.loss > 0
    assert "like the training sites" in markdown(found)


def test_a_site_that_differs_is_told_where(hospital: Hospital, model: Path) -> None:
    """Notes ten times as long are no notes that the model knows."""
    folder = hospital("river", n_cases=40, seed=2)
    site = Site.open(folder)
    for row in site.cases():
        notes = site.evidence(row.case_id)["notes"]
        longer = replace(
            notes, features=np.tile(notes.features, (10, 1)), kinds=np.tile(notes.kinds, 10),
            quality=np.tile(notes.quality, 10), pointers=notes.pointers * 10,
        )  # fmt: skip
        site.save_tokens(row.case_id, {"notes": longer}, findings=[], encoder="e" * 64)

    found = onboard(folder, model)

    words = {d.measure: d.word for d in found.drift}
    assert words["notes: sentences"] == DIFFERS
    assert "sentences: mean 30.00 here, 3.00 there" in markdown(found)


def test_eight_cases_say_little_and_the_report_says_so(hospital: Hospital, model: Path) -> None:
    """No AUROC, no threshold, no temperature, no subgroup."""
    found = onboard(hospital("small", n_cases=8, seed=3), model)
    said = " ".join(found.unsaid)

    assert (found.thresholds, found.subgroups, found.suggestion) == ((), (), None)
    assert all(score.auroc is None for score in found.evaluation.labels)
    for open_ in ("for an AUROC", "for a threshold", "no temperatures", "cannot be compared"):
        assert open_ in said
    assert "too few" in markdown(found)


def test_without_diagnoses_only_drift_is_told(hospital: Hospital, model: Path) -> None:
    """How good a model is cannot be guessed."""
    folder = hospital("new", n_cases=40, seed=4)
    with Site.open(folder).session() as session:
        for row in session.query(CaseRow):
            row.diagnoses = None

    found = onboard(folder, model)

    assert found.evaluation is None
    assert (found.n_cases, found.n_known) == (40, 0)
    assert any(d.word == LIKE for d in found.drift)
    assert "how good the model is here is unknown" in markdown(found)


def test_what_does_not_fit_is_refused(hospital: Hospital, model: Path, tmp_path: Path) -> None:
    """No case, another encoder: one clear error each."""
    with pytest.raises(FederationError, match="no case is prepared"):
        onboard(Site.create(tmp_path / "empty").folder, model)
    with pytest.raises(CheckpointError, match="text encoder"):
        onboard(hospital("other", encoder="f" * 64), model)


# -- the scores by themselves --------------------------------------------------------------


def answers(n: int = 200, seed: int = 0) -> Answers:
    """An honest forecaster of two syndromes and a cause."""
    rng = np.random.default_rng(seed)
    stated = rng.random((n, 2))
    probability = np.stack([stated[:, 0], 1 - stated[:, 0], stated[:, 1]], axis=1)
    first = rng.random(n) < stated[:, 0]
    truth = np.stack([first, ~first, rng.random(n) < stated[:, 1]], axis=1).astype(float)
    logits = np.log(probability / (1 - probability))
    present = np.ones((n, 4), bool)
    return Answers(logits, probability, truth, present, tuple(map(str, range(n))), 2)


def test_an_honest_forecaster_is_reliable_in_every_bin() -> None:
    """What is stated is what is true."""
    for row in reliability(answers(3000)):
        assert row.stated == pytest.approx(row.observed, abs=0.05)


def test_a_threshold_keeps_its_specificity_on_new_patients() -> None:
    """Found on two hundred, it holds on thousands nearly as well."""
    scheme = _scheme()
    (*_, cause) = thresholds(answers(), scheme)
    new = answers(5000, seed=1)
    healthy = new.probability[new.truth[:, 2] == 0, 2]

    assert cause.low < cause.sensitivity < cause.high
    assert np.mean(healthy <= cause.threshold) == pytest.approx(0.9, abs=0.05)


def test_small_subgroups_are_not_shown_but_counted() -> None:
    """Nine men are too few; the women are shown beside everybody."""
    sexes = ["male"] * 9 + ["female"] * 191
    shown, hidden = subgroups(answers(), sexes, [70.0] * 200)

    assert [(group.kind, group.name, group.n) for group in shown] == [("sex", "female", 191)]
    assert hidden == 1
    assert shown[0].low < shown[0].auroc < shown[0].high


def test_unknown_truth_counts_nowhere() -> None:
    """A cause that nobody looked for has no threshold."""
    told = answers()
    told.truth[:, 2] = UNKNOWN

    assert "c" not in {limit.key for limit in thresholds(told, _scheme())}
    assert age_band(None) == "unknown"


def _scheme() -> object:
    """Two syndromes and a cause."""
    from clinical.diagnoses import Label, Scheme

    return Scheme((Label("a", "a", "a"), Label("b", "b", "b")), (Label("c", "c", "c"),))
