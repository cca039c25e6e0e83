"""A worse scan weighs less in a diagnosis, whatever was learned; a useless one is absent."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion.attention import DynamicWeightedAttention, Form
from fusion.case import Case, collate
from fusion.model import DiagnosticModel, OutputTensors

FORMS: tuple[Form, ...] = ("plain", "soft", "hard")
SCAN = 0  # column of the scan in `OutputTensors.shares`


def graded(case: Case, grade: float) -> Case:
    """The same case with a scan of another grade."""
    scan = case.tokens["scan"]
    worse = replace(scan, quality=scan.quality * grade)  # type: ignore[type-var]
    return replace(case, tokens={**case.tokens, "scan": worse})


def asked(model: DiagnosticModel, case: Case) -> OutputTensors:
    """The network's answer with its attention."""
    with torch.inference_mode():
        output: OutputTensors = model(collate([case]), need_weights=True)
    return output


def test_a_lower_grade_lowers_the_share_of_the_scan(
    model: DiagnosticModel, make_case: Callable[..., Case]
) -> None:
    """Step by step down to nothing, for every one of several networks and cases."""
    for seed in range(5):
        case = make_case(seed)
        outputs = [asked(model, graded(case, g)) for g in (1.0, 0.7, 0.4, 0.1, 0.0)]
        shares = [float(o.shares[0, SCAN]) for o in outputs if o.shares is not None]
        assert shares == sorted(shares, reverse=True)
        assert len(set(shares)) == len(outputs)
        assert shares[-1] == 0.0


@pytest.mark.parametrize("form", FORMS)
def test_half_the_quality_is_half_the_odds(form: Form) -> None:
    """In every row of attention, and whatever the gate makes of the tokens."""
    torch.manual_seed(0)
    attention = DynamicWeightedAttention(8, 1, 4, form)
    torch.nn.init.normal_(attention.gate_out.weight)
    queries, tokens, modality = torch.randn(1, 5, 8), torch.randn(1, 3, 8), torch.tensor([0, 1, 2])
    odds = []
    for quality in (1.0, 0.5):
        given = torch.tensor([[quality, 1.0, 0.8]])
        present = torch.ones(1, 3, dtype=torch.bool)
        _, share = attention(queries, tokens, modality, given, present, need_weights=True)
        assert share is not None
        odds.append(share[0, :, 0] / (1.0 - share[0, :, 0]))
    torch.testing.assert_close(odds[1], odds[0] / 2, rtol=1e-4, atol=1e-5)


def test_a_scan_of_quality_0_is_no_scan(
    model: DiagnosticModel, make_case: Callable[..., Case]
) -> None:
    """The diagnosis, and the pattern of modalities it is calibrated by, are those without it."""
    case = make_case(3)
    useless, without = graded(case, 0.0), case.only("notes", "labs", "history")
    np.testing.assert_array_equal(collate([useless]).present, collate([without]).present)
    torch.testing.assert_close(asked(model, useless).logits, asked(model, without).logits)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("need_weights", [True, False])
def test_the_attention_itself_takes_quality_0_for_absence(form: Form, need_weights: bool) -> None:
    """On both paths, also where nothing else is there."""
    torch.manual_seed(0)
    attention = DynamicWeightedAttention(8, 2, 4, form)
    torch.nn.init.normal_(attention.gate_out.weight)
    given = torch.randn(1, 5, 8), torch.randn(1, 2, 8), torch.tensor([0, 1])
    for quality in ([0.0, 0.6], [0.0, 0.0]):
        grade = torch.tensor([quality])
        useless, _ = attention(*given, grade, torch.ones(1, 2).bool(), need_weights=need_weights)
        absent, _ = attention(*given, torch.ones(1, 2) * 0.6, grade > 0, need_weights=need_weights)
        torch.testing.assert_close(useless, absent, rtol=0, atol=0)
        assert useless.isfinite().all()
