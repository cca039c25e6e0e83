"""Dynamic-weighted cross attention against its formula."""

import pytest
import torch

from fusion.attention import DynamicWeightedAttention, Form, eager_attention, fast_attention

FORMS: tuple[Form, ...] = ("plain", "soft", "hard")


def parts(seed: int = 0, rows: int = 3, tokens: int = 7) -> dict[str, torch.Tensor]:
    """Random queries, keys, weights and who is present."""
    torch.manual_seed(seed)
    present = torch.rand(rows, tokens) > 0.4
    present[:, 0] = True
    return {
        "query": torch.randn(rows, 2, 5, 8),
        "key": torch.randn(rows, 2, tokens, 8),
        "weights": torch.rand(rows, tokens) * 3 + 0.1,
        "quality": torch.rand(rows, tokens) * 0.9 + 0.1,
        "present": present,
    }


@pytest.mark.parametrize("form", FORMS)
def test_the_fast_path_is_the_formula(form: Form) -> None:
    """Scaling queries and one fused call give what the written-out rows give."""
    given, value = parts(), torch.randn(3, 2, 7, 8)
    fast = fast_attention(value=value, form=form, **given)
    torch.testing.assert_close(fast, eager_attention(form=form, **given) @ value)


@pytest.mark.parametrize("form", FORMS)
def test_the_fast_path_learns_as_the_formula_does(form: Form) -> None:
    """Gradients agree, not only values."""
    given, value = parts(1), torch.randn(3, 2, 7, 8)
    grads = []
    for fast in (True, False):
        inputs = [given[k].clone().requires_grad_() for k in ("query", "key", "weights")]
        q, k, w = inputs
        out = (
            fast_attention(q, k, value, w, given["quality"], given["present"], form)
            if fast
            else eager_attention(q, k, w, given["quality"], given["present"], form) @ value
        )
        out.square().sum().backward()
        grads.append([torch.zeros(1) if x.grad is None else x.grad for x in inputs])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_equal_weights_of_one_are_ordinary_attention(form: Form) -> None:
    """A gate that says 1 for every token changes nothing."""
    given = parts() | {"weights": torch.ones(3, 7)}
    torch.testing.assert_close(
        eager_attention(form=form, **given), eager_attention(form="plain", **given)
    )


def test_the_hard_form_takes_the_weight_of_the_top_token() -> None:
    """By hand: scores 2 and 0, weights 3 and 9; the row is multiplied by 3."""
    q, k = torch.full((1, 1, 1, 1), 2.0), torch.tensor([[[[1.0], [0.0]]]])
    found = eager_attention(
        q, k, torch.tensor([[3.0, 9.0]]), torch.ones(1, 2), torch.ones(1, 2).bool(), "hard"
    )
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([6.0, 0.0]).softmax(dim=0))


def test_the_soft_form_takes_the_expected_weight() -> None:
    """By hand: equal scores, weights 1 and 3; the factor is 2 and the row stays even."""
    q, k = torch.full((1, 1, 1, 1), 1.0), torch.tensor([[[[1.0], [1.0]]]])
    given = (q, k, torch.tensor([[1.0, 3.0]]), torch.ones(1, 2), torch.ones(1, 2).bool())
    torch.testing.assert_close(eager_attention(*given, "soft")[0, 0, 0], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("need_weights", [True, False])
def test_an_absent_token_has_no_weight_and_no_gradient(form: Form, need_weights: bool) -> None:
    """Whatever its placeholder holds: the result is the same and nothing flows back into it."""
    torch.manual_seed(0)
    attention = DynamicWeightedAttention(8, 2, 4, form)
    torch.nn.init.normal_(attention.gate_out.weight)
    queries, present = torch.randn(1, 5, 8), torch.tensor([[True, True, False]])
    modality, found = torch.tensor([0, 1, 2]), []
    for placeholder in (0.0, 1e4):
        tokens = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(1))
        tokens[0, 2] = placeholder
        tokens.requires_grad_()
        out, weights = attention(
            queries, tokens, modality, torch.ones(1, 3), present, need_weights=need_weights
        )
        grad = torch.autograd.grad(
            out.square().sum(), [tokens, *attention.parameters()], allow_unused=True
        )
        found.append((out, *(g for g in grad[1:] if g is not None)))
        assert grad[0][0, 2].eq(0).all()
        assert grad[0][0, :2].ne(0).any()
        if weights is not None:
            assert weights[0, :, 2].eq(0).all()
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_a_case_without_any_token_is_answered_with_nothing(form: Form) -> None:
    """Deleting the only evidence must leave a finite answer that no placeholder decides."""
    torch.manual_seed(0)
    attention = DynamicWeightedAttention(8, 2, 4, form)
    answers = [
        attention(
            torch.ones(1, 5, 8),
            torch.full((1, 2, 8), x),
            torch.tensor([0, 1]),
            torch.ones(1, 2),
            torch.zeros(1, 2).bool(),
        )[0]
        for x in (0.0, 5.0)
    ]
    assert answers[0].isfinite().all()
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=0)


def test_a_new_gate_gives_every_token_the_weight_one() -> None:
    """Before training, the dynamic forms are ordinary attention."""
    attention = DynamicWeightedAttention(8, 2, 4)
    weights = attention.weights(torch.randn(2, 3, 8), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(weights, torch.ones(2, 3))


def test_heads_must_share_the_width() -> None:
    """24 heads cannot share 100 numbers."""
    with pytest.raises(ValueError, match="100 cannot be shared by 24 heads"):
        DynamicWeightedAttention(100, 24, 4)
