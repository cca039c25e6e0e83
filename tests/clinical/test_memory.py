"""The hierarchical memory: context for every sentence, and none from what is not there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clinical.memory import ChunkMemory, slots_of

DIM = 16


def memory(slots: int = 4) -> ChunkMemory:
    """One that was trained: its output layer is not zero."""
    torch.manual_seed(0)
    made = ChunkMemory(DIM, heads=2, slots=slots)
    nn.init.normal_(made.out.weight, std=0.5)
    return made.eval()


def document(n: int = 12, per_chunk: int = 3, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Sentences, their chunks and their quality, of one case."""
    drawn = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, n, DIM, generator=drawn)
    return tokens, torch.arange(n)[None] // per_chunk, torch.ones(1, n)


def everything(n: int = 12) -> Tensor:
    """No sentence is missing."""
    return torch.ones(1, n, dtype=torch.bool)


def test_before_training_it_adds_nothing() -> None:
    """A network that gets a memory begins as the network it was."""
    tokens, chunks, quality = document()
    untrained = ChunkMemory(DIM, heads=2, slots=4)
    assert torch.equal(untrained(tokens, chunks, everything(), quality), tokens)


def test_a_sentence_learns_what_a_far_chunk_says() -> None:
    """Another last chunk, another meaning of the first sentence."""
    tokens, chunks, quality = document()
    other = tokens.clone()
    other[0, 9:] += 1.0 + torch.arange(DIM) / DIM
    first, second = (memory()(t, chunks, everything(), quality)[0, 0] for t in (tokens, other))
    assert (first - second).norm() > 0.05


def test_the_context_is_the_attention_of_the_formula() -> None:
    """Softmax over chunks of scores plus the log of their sizes, written out."""
    tokens, chunks, quality = document(n=5, per_chunk=2)  # chunks of 2, 2 and 1
    made = memory()
    means = torch.stack([tokens[0, :2].mean(0), tokens[0, 2:4].mean(0), tokens[0, 4]])
    told = made.norm_summary(means)
    query, key = made.query(made.norm_sentence(tokens[0])), made.key(told)
    heads = []
    for h in range(2):
        part = slice(h * DIM // 2, (h + 1) * DIM // 2)
        scores = query[:, part] @ key[:, part].T / (DIM // 2) ** 0.5
        shares = (scores + torch.tensor([2.0, 2.0, 1.0]).log()).softmax(dim=1)
        heads.append(shares @ made.value(told)[:, part])
    expected = tokens[0] + made.out(torch.cat(heads, dim=1))
    found = made(tokens, chunks, everything(5), quality)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_deleted_sentence_is_deleted_from_the_memory_too() -> None:
    """Deleting leaves what a case without that sentence would have given."""
    tokens, chunks, quality = document()
    kept = everything()
    kept[0, 4] = False
    rows = torch.tensor([n for n in range(12) if n != 4])
    deleted = memory()(tokens, chunks, kept, quality)
    never = memory()(tokens[:, rows], chunks[:, rows], everything(11), quality[:, rows])
    torch.testing.assert_close(deleted[:, rows], never, atol=1e-6, rtol=1e-5)
    assert not deleted[0, 4].any()


def test_one_case_under_many_deletions_equals_each_alone() -> None:
    """An explanation deletes in one batch."""
    tokens, chunks, quality = document()
    kept = ~torch.eye(12, dtype=torch.bool)
    together = memory()(tokens, chunks, kept, quality)
    alone = torch.cat([memory()(tokens, chunks, row[None], quality) for row in kept])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("placeholder", [0.0, 1e6, float("nan")])
def test_an_absent_sentence_contributes_exactly_nothing(placeholder: float) -> None:
    """Neither its content nor the number of its chunk is seen, and it gets no gradient."""
    tokens, chunks, quality = document()
    kept = everything()
    kept[0, 10:] = False
    odd, moved = tokens.clone(), chunks.clone()
    odd[0, 10:], moved[0, 10:] = placeholder, 999
    odd.requires_grad_()
    made = memory()
    found = made(odd, moved, kept, quality)
    assert torch.equal(found, made(tokens, chunks, kept, quality))
    found.square().sum().backward()  # type: ignore[no-untyped-call]
    assert odd.grad is not None
    assert not odd.grad[0, 10:].any()
    assert all(bool(p.grad.isfinite().all()) for p in made.parameters() if p.grad is not None)


def test_quality_0_is_absence_and_half_quality_half_the_weight() -> None:
    """A doubted sentence weighs as little in a summary as in the attention."""
    tokens, chunks, quality = document(n=4, per_chunk=2)
    made, doubted, hidden = memory(), quality.clone(), everything(4)
    doubted[0, 1], hidden[0, 1] = 0.0, False
    absent = made(tokens, chunks, hidden, quality)
    assert torch.equal(made(tokens, chunks, everything(4), doubted), absent)
    doubted[0, 1] = 0.5
    weights = made._summaries(tokens, chunks, everything(4), doubted)[1]
    torch.testing.assert_close(weights[0, :2], torch.tensor([1.5, 2.0]))


def test_a_case_without_notes_gets_zeros_and_finite_gradients() -> None:
    """Absence is normal."""
    tokens, chunks, quality = document()
    tokens.requires_grad_()
    found = memory()(tokens, chunks, torch.zeros_like(everything()), quality)
    found.sum().backward()
    assert not found.any()
    assert tokens.grad is not None
    assert not tokens.grad.any()


def test_neighbouring_chunks_share_a_slot_beyond_the_limit() -> None:
    """Order is kept, no slot is beyond the last, and few borders ever move."""
    chunks, seen = torch.arange(100)[None], everything(100)
    assert slots_of(chunks[:, :4], seen[:, :4], 4)[0].tolist() == [0, 1, 2, 3]
    many = slots_of(chunks, seen, 4)[0]
    assert many.tolist() == [n // 32 for n in range(100)]
    seen[0, 99] = False
    assert torch.equal(slots_of(chunks, seen, 4)[0][:99], many[:99])


def test_memory_grows_with_the_sentences_and_not_with_their_square() -> None:
    """Four times the sentences, four times the peak."""
    made = memory(slots=8)

    def peak(n: int) -> int:
        with torch.profiler.profile(profile_memory=True) as seen, torch.inference_mode():
            made(*document(n)[:2], everything(n), torch.ones(1, n))
        return sum(max(0, event.self_cpu_memory_usage) for event in seen.key_averages())

    small, large = peak(1000), peak(4000)
    assert large < 4.5 * small


def test_two_engines_give_what_torch_gives_at_any_length(tmp_path: Path) -> None:
    """Traced once with a dynamic number of rows and sentences, it runs everywhere."""
    import onnxruntime
    import openvino

    made = memory()
    shown = (*document()[:2], everything(), document()[2])
    axes = {0: "case", 1: "token"}
    names = ["tokens", "chunks", "present", "quality"]
    torch.onnx.export(
        made,
        shown,
        tmp_path / "memory.onnx",
        dynamo=False,
        input_names=names,
        dynamic_axes=dict.fromkeys(names, axes) | {"present": {0: "row", 1: "token"}},
    )
    converted = openvino.convert_model(made, example_input=shown)
    ovs = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ort = onnxruntime.InferenceSession(tmp_path / "memory.onnx")
    tokens, chunks, quality = document(n=50)
    for kept in (
        everything(50),
        torch.rand(7, 50, generator=torch.Generator().manual_seed(2)) > 0.5,
    ):
        feeds = [x.numpy() for x in (tokens, chunks, kept, quality)]
        with torch.inference_mode():
            wanted = made(tokens, chunks, kept, quality).numpy()
        np.testing.assert_allclose(
            ort.run(None, dict(zip(names, feeds, strict=True)))[0], wanted, atol=1e-5
        )
        np.testing.assert_allclose(ovs(feeds)[0], wanted, atol=1e-4)


def test_it_exports_with_dynamic_axes() -> None:
    """Nothing in it depends on data, which `torch.export` would refuse."""
    row, token = torch.export.Dim("row"), torch.export.Dim("token")
    tokens, chunks, quality = document()
    kept = ~torch.eye(12, dtype=torch.bool)
    shapes = ({1: token}, {1: token}, {0: row, 1: token}, {1: token})
    program = torch.export.export(memory(), (tokens, chunks, kept, quality), dynamic_shapes=shapes)
    longer = (*document(30)[:2], everything(30).expand(3, -1), torch.ones(1, 30))
    torch.testing.assert_close(program.module()(*longer), memory()(*longer))


def test_heads_must_share_the_width() -> None:
    """One clear error."""
    with pytest.raises(ValueError, match="dim 16 cannot be shared by 3 heads"):
        ChunkMemory(DIM, heads=3)
