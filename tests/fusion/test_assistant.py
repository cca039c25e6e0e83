"""The sample assistant on a bundled case: every subset is a case, and it says what it is."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion.assistant import Assistant
from fusion.case import MODALITIES, Case, CaseError
from fusion.intake import Tools, prepare_case, read_pairs, register
from fusion.store import Site

SAMPLE = Path(__file__).parents[2] / "sample_data"
SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)]


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    """The model that ships."""
    return Assistant.load(SAMPLE / "model")


@pytest.fixture(scope="module")
def case(assistant, tmp_path_factory) -> Case:
    """A bundled case with all four modalities."""
    site = Site.create(tmp_path_factory.mktemp("assistant") / "site")
    pairs = read_pairs(SAMPLE / "site_cases" / "cases.csv")
    case_id = register(site, next(p for p in pairs if p.scan), assistant.scheme).case_id
    prepare_case(site, case_id, Tools(), assistant.scheme)
    return site.case(case_id)


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_every_subset_of_modalities_is_diagnosed(assistant, case, subset) -> None:
    """What is missing is named and has no share; syndromes sum to one."""
    found = assistant.diagnose(case.only(*subset))

    syndromes = [found.probabilities[label.key] for label in assistant.scheme.syndromes]
    assert sum(syndromes) == pytest.approx(1.0)
    assert set(found.missing) == set(MODALITIES) - set(subset)
    assert all(found.shares[modality] == 0.0 for modality in found.missing)
    assert sum(found.shares.values()) == pytest.approx(1.0, abs=1e-5)


def test_it_says_that_it_learned_from_synthetic_cases(assistant, case) -> None:
    """Nobody may take the sample model for one that has seen patients."""
    assert "synthetic" in assistant.diagnose(case).trained_on


def test_history_alone_is_too_little(assistant, case) -> None:
    """Age and sex give a number, but no diagnosis."""
    assert assistant.diagnose(case.only("history")).abstains == "abstains_history_only"


def test_every_piece_of_evidence_leads_to_its_source(assistant, case) -> None:
    """The ranking holds each token once, with the pointer it was made with."""
    evidence = assistant.diagnose(case).evidence["DE"]

    assert len(evidence) == sum(len(tokens.kinds) for tokens in case.tokens.values())
    assert all(case.tokens[e.modality].pointers[e.index] == e.pointer for e in evidence)


def test_notes_of_another_encoder_are_refused(assistant, case) -> None:
    """Sentences of another width mean nothing to this network."""
    notes = case.tokens["notes"]
    wider = replace(notes, features=np.zeros((len(notes.kinds), 1536), np.float32))

    with pytest.raises(CaseError, match="1536 wide"):
        assistant.diagnose(replace(case, tokens={**case.tokens, "notes": wider}))
