"""Cases and batches."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fusion.case import MODALITIES, UNKNOWN, Case, CaseError, Labels, collate

MakeCase = Callable[..., Case]


def test_a_case_needs_evidence() -> None:
    """A patient of whom nothing is known cannot be diagnosed."""
    with pytest.raises(CaseError, match="no evidence"):
        Case("c", "p", {})


def test_a_value_that_is_not_finite_is_refused_at_the_border(make_case: MakeCase) -> None:
    """NaN must not reach the network; the message names the modality."""
    tokens = make_case(1).tokens["labs"]
    spoiled = replace(tokens, features=tokens.features * float("nan"))
    with pytest.raises(CaseError, match="labs"):
        Case("c", "p", {"labs": spoiled})


def test_padding_is_absent_and_zero(make_case: MakeCase) -> None:
    """A case of two tokens beside one of five has three absent ones."""
    labs = collate([make_case(1, n=2), make_case(2, n=5)]).modalities["labs"]
    assert labs.present.sum(axis=1).tolist() == [2, 5]
    assert not labs.features[0, 2:].any()
    assert not labs.quality[0, 2:].any()


def test_courses_of_different_length_are_padded(make_case: MakeCase) -> None:
    """One patient was seen three times, another five; the latest visits stand side by side."""
    case = make_case(1, ("labs",), n=2)
    longer = replace(case.tokens["labs"], features=np.ones((2, 5, 3), np.float32))
    batch = collate([case, Case("c", "p", {"labs": longer})]).modalities["labs"]
    assert batch.features.shape == (2, 2, 5, 3)
    assert not batch.features[0, :, :2].any()


def test_a_modality_nobody_has_is_one_absent_token(make_case: MakeCase) -> None:
    """All four modalities are keys of every batch."""
    batch = collate([make_case(1, ("scan",))])
    assert batch.present.tolist() == [[True, False, False, False]]
    assert set(batch.modalities) == set(MODALITIES)


def test_unknown_labels_are_marked(make_case: MakeCase) -> None:
    """What nobody knows is neither true nor false."""
    cases = [make_case(1, labels=Labels(None, (True, None))), make_case(2)]
    batch = collate(cases)
    assert batch.syndrome.tolist() == [UNKNOWN, UNKNOWN]
    assert batch.causes.tolist() == [[1, UNKNOWN], [UNKNOWN, UNKNOWN]]


def test_widths_that_disagree_are_refused(make_case: MakeCase) -> None:
    """Notes of two text encoders cannot stand in one batch."""
    case = make_case(1, ("notes",))
    other = replace(case.tokens["notes"], features=np.zeros((4, 5), np.float32))
    with pytest.raises(CaseError, match="width of notes"):
        collate([case, Case("c", "p", {"notes": other})])


def test_a_batch_of_nothing_is_refused() -> None:
    """There is no empty batch."""
    with pytest.raises(CaseError, match="needs a case"):
        collate([])
