"""Adapters for a hospital's language: they learn, they go on, and the base stays as it is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2Model

from clinical import adapt as adapting
from clinical.adapt import adapt, lessons_of
from clinical.adapters import (
    STATE,
    AdaptConfig,
    AdaptError,
    Learning,
    Lessons,
    blanked,
    with_adapters,
)
from clinical.diagnoses import load_scheme
from clinical.text_encoder import load_text_encoder
from clinical.text_folder import EncoderError
from fusion.intake import Source, register
from fusion.store import Site
from sample_data.phrases import FINDINGS, PADDING_EN
from ui.cli import main

QUICK = AdaptConfig(
    epochs=3, learning_rate=1e-2, warmup_steps=2, rank=8, held_out=0.2, token_budget=256,
    save_every=3,
)  # fmt: skip


def hospital_notes(n_patients: int = 12) -> dict[str, list[str]]:
    """Notes in which the same few phrases come again and again, as in one hospital's."""
    rng = np.random.default_rng(0)
    phrases = [wording for finding in FINDINGS.values() for wording in finding.en]
    return {
        f"patient{n}": [
            " ".join(f"Seen in clinic, {rng.choice(phrases)}." for _ in range(6))
            + f" {rng.choice(PADDING_EN)}"
            for _ in range(2)
        ]
        for n in range(n_patients)
    }


def save_decoder(folder: Path, kind: type = Qwen2ForCausalLM) -> Path:
    """A random miniature of DeepSeek-R1-Distill-Qwen."""
    torch.manual_seed(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<b>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([t for texts in hospital_notes().values() for t in texts], trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<b>").save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,  # so that a frozen head of this width can be sure of a word
    )
    kind(config).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decoder as it was bought."""
    return save_decoder(tmp_path_factory.mktemp("models") / "mini-qwen")


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, adapted to the hospital."""
    out = tmp_path_factory.mktemp("adapted") / "ours"
    adapt(base, hospital_notes(), out, QUICK)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def test_the_loss_on_held_out_patients_notes_falls(adapted: Path) -> None:
    """What was learnt holds for patients whose notes were not read."""
    done = json.loads((adapted / "adapted.json").read_text())
    before, *after = done["held_out_loss"]
    assert after[done["best_epoch"] - 1] == min(after) < before - 0.5
    assert min(after) < np.log(400)  # of guessing among all tokens alike


def test_the_base_is_untouched_and_only_adapters_learn(base: Path, tmp_path: Path) -> None:
    """Whoever else uses the base must not notice."""
    before = contents(base)
    model = with_adapters(base, QUICK)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    lessons = lessons_of(base, hospital_notes(), QUICK)
    learning = Learning(model, lessons, QUICK, tmp_path / "state.safetensors", "key")
    learning.run()
    assert contents(base) == before
    assert all("lora_" in name for name in learning.weights)
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)


def test_the_merged_folder_is_an_encoder_like_any_other(base: Path, adapted: Path) -> None:
    """It is another encoder than the base: another hash, other vectors, the same licence."""
    ours, theirs = load_text_encoder(adapted), load_text_encoder(base)
    texts = ["Seen in clinic, repeats the same question within minutes."]
    assert ours.sha256 != theirs.sha256
    assert ours.name.startswith("ours (Qwen2")
    assert np.abs(np.asarray(ours.encode(texts)) - np.asarray(theirs.encode(texts))).max() > 1e-3
    assert "license: mit" in (adapted / "README.md").read_text()
    kinds = {p.suffix for p in adapted.rglob("*") if p.is_file()}
    assert kinds <= {".json", ".safetensors", ".md", ".txt", ".jinja"}
    assert str(base.parent) not in (adapted / "adapter" / "adapter_config.json").read_text()


def test_merged_weights_say_what_base_and_adapters_said(base: Path, adapted: Path) -> None:
    """Merging is arithmetic, not another model."""
    from peft import PeftModel

    decoder = Qwen2ForCausalLM.from_pretrained(base)
    apart = PeftModel.from_pretrained(decoder, adapted / "adapter").eval()
    merged = Qwen2ForCausalLM.from_pretrained(adapted).eval()
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        torch.testing.assert_close(apart(ids).logits, merged(ids).logits, atol=1e-4, rtol=1e-4)


def test_interrupted_it_goes_on_as_if_it_had_not_been(
    base: Path, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step for step the same, to the last bit of the weights."""
    step, taken = Learning._step, []

    def interrupted(learning: Learning) -> float:
        if len(taken) == 4:
            raise KeyboardInterrupt
        taken.append(learning.progress.step)
        return step(learning)

    with monkeypatch.context() as patch:
        patch.setattr(Learning, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapt(base, hospital_notes(), tmp_path / "ours", QUICK)
    assert not (tmp_path / "ours").exists()
    progress = adapt(base, hospital_notes(), tmp_path / "ours", QUICK)
    assert len(progress.train_loss) == progress.step
    assert contents(tmp_path / "ours") == contents(adapted)
    assert [p.name for p in tmp_path.iterdir()] == ["ours"]


def test_progress_of_other_notes_is_not_gone_on_with(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would mix two hospitals without a word."""
    with monkeypatch.context() as patch:
        patch.setattr(Learning, "_step", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt(base, hospital_notes(), tmp_path / "ours", QUICK)
    with pytest.raises(AdaptError, match="another adaptation"):
        adapt(base, hospital_notes(9), tmp_path / "ours", QUICK)
    (tmp_path / "ours.unfinished" / STATE).write_bytes(b"cut")
    with pytest.raises(AdaptError, match="damaged"):
        adapt(base, hospital_notes(), tmp_path / "ours", QUICK)


def test_learning_nothing_is_said_and_leaves_no_folder(base: Path, tmp_path: Path) -> None:
    """An encoder that is no better must not look like one that is."""
    lazy = AdaptConfig(epochs=1, learning_rate=0.0, rank=4, held_out=0.2)
    with pytest.raises(AdaptError, match="nothing was learnt"):
        adapt(base, hospital_notes(), tmp_path / "ours", lazy)
    assert not (tmp_path / "ours").exists()


def test_a_blanked_token_is_predicted_from_the_state_before_it() -> None:
    """The first has none before it, and padding is nothing to predict."""
    rows = [[5, 6, 7, 8], [5, 6]]
    drawn = torch.Generator().manual_seed(0)
    read, true, present, wanted = blanked(rows, 1, 0.9, drawn)
    assert not wanted[:, 0].any()
    assert not (wanted & ~present).any()
    assert torch.equal(read, torch.where(wanted, 1, true))
    assert blanked(rows, 1, 0.0, drawn)[3].sum() == 1


def test_notes_of_one_patient_are_never_on_both_sides(base: Path) -> None:
    """Copied sentences would tell the held-out ones."""
    with pytest.raises(AdaptError, match="1 patients with notes are too few"):
        lessons_of(base, {"one": ["Gait is normal."] * 9}, QUICK)


def test_what_cannot_be_adapted_is_refused(base: Path, adapted: Path, tmp_path: Path) -> None:
    """Each in one sentence that says what to do."""
    with pytest.raises(AdaptError, match="there already"):
        adapt(base, hospital_notes(), adapted, QUICK)
    headless = save_decoder(tmp_path / "headless", Qwen2Model)
    settings = json.loads((headless / "config.json").read_text())
    settings["tie_word_embeddings"] = False
    (headless / "config.json").write_text(json.dumps(settings))
    with pytest.raises(EncoderError, match="lm_head"):
        adapt(headless, hospital_notes(), tmp_path / "out", QUICK)
    shutil.copytree(base, tmp_path / "bert")
    settings["model_type"] = "bert"
    (tmp_path / "bert" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(EncoderError, match="'bert'"):
        adapt(tmp_path / "bert", hospital_notes(), tmp_path / "out", QUICK)


def test_the_command_learns_from_a_site_without_its_identifiers(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that was never read cannot be remembered."""
    seen: list[str] = []
    lessons = adapting.lessons_of

    def watched(folder: Path, texts: dict[str, list[str]], config: AdaptConfig) -> Lessons:
        seen.extend(text for notes in texts.values() for text in notes)
        return lessons(folder, texts, config)

    monkeypatch.setattr(adapting, "lessons_of", watched)
    site, scheme = Site.create(tmp_path / "site"), load_scheme()
    for bundle in sorted((Path(__file__).parents[2] / "sample_data/site_cases/bundles").iterdir()):
        register(site, Source(bundle), scheme)
    where = ["--text-encoder", str(base), "--out", str(tmp_path / "ours"), "--epochs", "2"]
    code = main(["adapt", str(tmp_path / "site"), *where])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "held-out patients" in said.out
    assert load_text_encoder(tmp_path / "ours").dim == 32
    names = {site.record(row.case_id).name for row in site.cases()}
    assert seen
    assert not any(part in text for text in seen for name in names for part in name.split())
