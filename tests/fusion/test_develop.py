"""From cases to a model folder, and no score on patients the model has seen."""

from dataclasses import replace

import pytest

from clinical.diagnoses import load_scheme
from fusion.develop import develop, evaluate_folder
from fusion.train import PARTS, TrainConfig, TrainError

SCHEME = load_scheme()
CONFIG = TrainConfig(epochs=1)
CARD = {"trained_on": "noise", "text_encoder": "none", "text_encoder_sha256": "0"}


@pytest.fixture(scope="module")
def cases(planted):
    """Sixty patients, a case each."""
    return planted(60)


@pytest.fixture(scope="module")
def developed(tmp_path_factory, cases):
    """A folder with a network trained for one epoch, and what it scored."""
    folder = tmp_path_factory.mktemp("develop") / "model"
    return folder, develop(cases, SCHEME, folder, CONFIG, **CARD)


def test_the_folder_scores_as_its_training_said(developed, cases) -> None:
    """The same test patients are found again."""
    folder, first = developed
    assert evaluate_folder(folder, cases).evaluation == first.evaluation


def test_the_card_counts_the_cases_of_each_part(developed, cases) -> None:
    """Nobody has to guess how many cases a model was tested on."""
    counts = developed[1].checkpoint.card.notes["cases_by_part"]
    assert set(counts) == set(PARTS)
    assert sum(counts.values()) == len(cases)


def test_other_cases_than_those_of_training_are_not_split_again(developed, cases) -> None:
    """A site that has grown would mix trained patients into the test."""
    with pytest.raises(TrainError, match="train again"):
        evaluate_folder(developed[0], cases[:-1])


def test_nothing_to_learn_from_is_said(tmp_path, cases) -> None:
    """Cases without labels, or none at all, are no training set."""
    with pytest.raises(TrainError):
        develop([], SCHEME, tmp_path, CONFIG, **CARD)
    unlabelled = [replace(case, labels=None) for case in cases]
    with pytest.raises(TrainError):
        develop(unlabelled, SCHEME, tmp_path, CONFIG, **CARD)
