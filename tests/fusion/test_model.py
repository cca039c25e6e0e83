"""The network as a function of evidence: what may and what may not change a diagnosis."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion.case import MODALITIES, Case, CaseBatch, Modality, ModalityBatch, collate
from fusion.model import DiagnosticModel, Tensors
from fusion.network import ModelConfig, infer

SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)]
MakeCase = Callable[..., Case]


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_hiding_modalities_equals_never_having_had_them(
    model: DiagnosticModel, make_case: MakeCase, subset: tuple[Modality, ...]
) -> None:
    """For each of the 15 subsets, finite and the same as without the tensors altogether."""
    whole = make_case(1)
    kept = np.array([[m in subset for m in MODALITIES]])
    hidden = model(collate([whole]).keep(kept)).logits
    assert hidden.isfinite().all()
    torch.testing.assert_close(hidden, model(collate([whole.only(*subset)])).logits)


def test_a_case_is_diagnosed_alike_alone_and_in_company(
    model: DiagnosticModel, make_case: MakeCase
) -> None:
    """Padding to a larger neighbour, or beside modalities it lacks, changes nothing."""
    small, large = make_case(1, ("notes",), n=2), make_case(2, n=9)
    together = model(collate([small, large])).logits
    torch.testing.assert_close(together[0], model(collate([small])).logits[0])


@pytest.mark.parametrize("placeholder", [1e4, float("nan")])
def test_padding_may_hold_anything(
    model: DiagnosticModel, make_case: MakeCase, placeholder: float
) -> None:
    """Not even NaN in an absent token reaches a diagnosis or a gradient."""
    batch = collate([make_case(1, ("labs", "notes"), n=2), make_case(2, n=5)])
    spoiled = {
        m: replace(t, features=np.where(_spread(t), np.float32(placeholder), t.features))
        for m, t in batch.modalities.items()
    }
    grads = []
    for given in (batch, CaseBatch(spoiled)):
        model.zero_grad()
        logits = model(given).logits
        logits.square().sum().backward()
        grads.append([logits, *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


def _spread(tokens: ModalityBatch) -> np.ndarray:
    """Where features are padding."""
    return ~tokens.present.reshape(*tokens.present.shape, *[1] * (tokens.features.ndim - 2))


def test_the_order_of_tokens_does_not_matter(model: DiagnosticModel, make_case: MakeCase) -> None:
    """Evidence is a set."""
    batch = collate([make_case(1, n=6)])
    turned = {
        m: replace(
            t,
            features=t.features[:, ::-1],
            kinds=t.kinds[:, ::-1],
            quality=t.quality[:, ::-1],
        )
        for m, t in batch.modalities.items()
    }
    torch.testing.assert_close(
        model(CaseBatch(turned)).logits, model(batch).logits, rtol=1e-4, atol=1e-5
    )


def test_attention_is_shared_among_what_is_there(
    model: DiagnosticModel, make_case: MakeCase
) -> None:
    """Rows and modality shares sum to one; an absent modality's share is exactly zero."""
    output = model(collate([make_case(1, ("scan", "labs")), make_case(2)]), need_weights=True)
    torch.testing.assert_close(output.attention.sum(-1), torch.ones(2, 13))
    torch.testing.assert_close(output.shares.sum(-1), torch.ones(2))
    assert output.shares[0, [1, 3]].eq(0).all()
    assert output.shares[1].gt(0).all()


def test_asking_for_attention_does_not_change_the_diagnosis(
    model: DiagnosticModel, make_case: MakeCase
) -> None:
    """The written-out path and the fast path are one network."""
    batch = collate([make_case(1), make_case(2)])
    torch.testing.assert_close(
        model(batch, need_weights=True).logits, model(batch).logits, rtol=1e-4, atol=1e-5
    )


def test_quality_reaches_the_diagnosis(model: DiagnosticModel, make_case: MakeCase) -> None:
    """The same evidence in poor quality is weighed differently."""
    batch = collate([make_case(1)])
    poor = {m: replace(t, quality=t.quality * 0.1) for m, t in batch.modalities.items()}
    assert not torch.allclose(model(CaseBatch(poor)).logits, model(batch).logits)


def test_the_default_network_is_small() -> None:
    """It trains on a CPU: at most 1.5 million parameters."""
    assert sum(p.numel() for p in DiagnosticModel(ModelConfig()).parameters()) <= 1_500_000


def test_the_network_exports(model: DiagnosticModel, make_case: MakeCase) -> None:
    """`torch.export` finds no branch on a value, so other engines can run the network."""
    batch = collate([make_case(1), make_case(2)])

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tensors: dict[str, list[torch.Tensor]]) -> torch.Tensor:
            evidence = self.model.encode_tensors({m: Tensors(*t) for m, t in tensors.items()})
            return self.model.fuse_tensors(evidence, evidence.present).logits

    tensors = {
        m: [t.features, t.kinds, t.quality, t.present] for m, t in model.tensors(batch).items()
    }
    exported = torch.export.export(Plain(), (tensors,))
    torch.testing.assert_close(exported.module()(tensors), model(batch).logits)


def test_many_cases_are_inferred_in_their_order(
    model: DiagnosticModel, make_case: MakeCase
) -> None:
    """Batches of three or of one give the same."""
    cases = [make_case(n, MODALITIES[n % 4 :], n=2 + n % 3) for n in range(5)]
    logits, present = infer(model, cases, batch_size=3)
    np.testing.assert_allclose(logits, infer(model, cases, batch_size=1)[0], rtol=1e-4, atol=1e-5)
    assert present.sum(axis=1).tolist() == [4, 3, 2, 1, 4]


def test_a_number_has_a_say_of_its_own(model: DiagnosticModel, make_case: MakeCase) -> None:
    """What an analyte adds by itself is a straight line in its value; a sentence adds nothing."""
    batch = collate([make_case(1, ("labs", "notes"), n=3)])
    labs = batch.modalities["labs"]

    def said(z: float) -> torch.Tensor:
        features = torch.from_numpy(labs.features.copy())
        features[..., -1, 0] = z
        return model.alone("labs", features, torch.from_numpy(labs.kinds))

    torch.testing.assert_close(said(2.0) - said(0.0), 2 * (said(1.0) - said(0.0)))
    assert (said(1.0) != said(0.0)).all()
    notes, courses = (model.tensors(batch)[m] for m in ("notes", "labs"))
    assert not model.alone("notes", notes.features, notes.kinds).any()
    assert not DiagnosticModel(model.config).alone("labs", courses.features, courses.kinds).any()


def test_a_deleted_sentence_is_forgotten_by_the_others(
    model: DiagnosticModel, make_case: MakeCase
) -> None:
    """The network answers as if it had never been in the notes, with its memory at work."""
    batch = collate([make_case(1, ("scan", "notes"), n=6)])
    notes = batch.modalities["notes"]
    present = notes.present.copy()
    present[0, 2] = False
    hidden = {**batch.modalities, "notes": replace(notes, present=present)}
    left = [n for n in range(6) if n != 2]
    fewer = replace(
        notes,
        features=notes.features[:, left],
        kinds=notes.kinds[:, left],
        quality=notes.quality[:, left],
        present=notes.present[:, left],
    )
    never = {**batch.modalities, "notes": fewer}
    torch.testing.assert_close(model(CaseBatch(hidden)).logits, model(CaseBatch(never)).logits)
    moved = {**batch.modalities, "notes": replace(notes, kinds=notes.kinds * 0)}
    assert not torch.allclose(model(CaseBatch(moved)).logits, model(batch).logits, atol=1e-4)


def test_a_memory_that_learned_nothing_changes_nothing(make_case: MakeCase) -> None:
    """Before training the network is the one without a memory, weight by weight."""
    config = ModelConfig(text_dim=16, dim=48, heads=4)
    made = []
    for memory in (True, False):
        torch.manual_seed(0)
        made.append(DiagnosticModel(replace(config, memory=memory)).eval())
    batch = collate([make_case(1, n=5)])
    torch.testing.assert_close(made[0](batch).logits, made[1](batch).logits)
    more = {name.partition(".")[0] for name in made[0].state_dict().keys() - made[1].state_dict()}
    assert more == {"memory"}
