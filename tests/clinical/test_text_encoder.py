"""The text encoders: what runs is what is said, and every sentence keeps its place."""

import datetime as dt
import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from clinical import text_encoder
from clinical.evidence import SentencePointer
from clinical.notes import sentences
from clinical.record import Coding, Note
from clinical.text_encoder import EncoderError, TextEncoder, load_text_encoder

ENGLISH = (
    "Her daughter reports a slow decline of memory over two years. She repeats questions within "
    "minutes. She gets lost in her own street. Gait is normal. No hallucinations were reported. "
)
CHINESE = "患者近两年记忆力逐渐下降，反复提问。否认幻觉。步态正常。"
BOS = "<｜begin▁of▁sentence｜>"


def note(text: str, note_id: str = "n1", language: str = "en") -> Note:
    """A note without a kind."""
    return Note(note_id, Coding("", "", ""), text, language=language)


def save_decoder(folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """A random miniature of DeepSeek-R1-Distill-Qwen, with the files that it has."""
    torch.manual_seed(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([ENGLISH, CHINESE], trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BOS).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"add_bos_token": True, "tokenizer_class": "LlamaTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = Qwen2Config(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
    )
    Qwen2ForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def stand_in() -> TextEncoder:
    """The offline stand-in."""
    return load_text_encoder()


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a hospital would copy it."""
    return save_decoder(tmp_path_factory.mktemp("models") / "mini-qwen")


@pytest.fixture(scope="module")
def decoder(decoder_folder: Path) -> TextEncoder:
    """The miniature, made bidirectional."""
    return load_text_encoder(decoder_folder)


@pytest.fixture(scope="module", params=["stand_in", "decoder"])
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    """Both, since they go through the same code."""
    found: TextEncoder = request.getfixturevalue(request.param)
    return found


def states(encoder: TextEncoder, text: str) -> torch.Tensor:
    """The states of one text's tokens."""
    ids = torch.tensor([encoder.tokenizer.encode(text).ids])
    return encoder._states(ids, torch.ones_like(ids, dtype=torch.bool))[0]


def test_sentences_of_similar_meaning_are_closer_than_unrelated_ones(stand_in: TextEncoder) -> None:
    """Forgetting names and forgetting talks are one complaint, potassium is another matter."""
    names, talks, potassium = stand_in.encode(
        [
            "She forgets the names of her grandchildren.",
            "He cannot remember recent conversations.",
            "Serum potassium was within normal limits.",
        ]
    )
    assert names @ talks > names @ potassium + 0.2


def test_the_report_never_says_r1_where_the_stand_in_ran(stand_in: TextEncoder) -> None:
    """A physician must not take a small sentence model for a large reasoning one."""
    assert stand_in.name == "all-MiniLM-L6-v2 (stand-in)"
    assert "R1" not in repr(stand_in).upper().replace(stand_in.sha256.upper(), "")


def test_altered_stand_in_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One changed byte in the weights is a different model."""
    shutil.copytree(text_encoder._stand_in_folder(), tmp_path / "model")
    with (tmp_path / "model" / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x01")
    monkeypatch.setattr(text_encoder, "_stand_in_folder", lambda: tmp_path / "model")

    with pytest.raises(EncoderError, match="SHA-256"):
        load_text_encoder()


def test_the_stand_in_pools_as_its_model_card_says(stand_in: TextEncoder) -> None:
    """The mean of all states, special tokens included, scaled to length 1."""
    text = "MMSE was 21 of 30."
    mean = states(stand_in, text).mean(dim=0)

    torch.testing.assert_close(stand_in.encode([text])[0], mean / mean.norm(), atol=1e-3, rtol=0.02)


def test_the_fast_type_keeps_the_direction_of_every_sentence(
    stand_in: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What bfloat16 saves in time it must not cost in meaning."""
    monkeypatch.setattr(text_encoder, "_fast_dtype", lambda: torch.float32)
    exact = load_text_encoder().note_tokens([note(ENGLISH)])
    fast = stand_in.note_tokens([note(ENGLISH)])

    assert exact is not None
    assert fast is not None
    assert (exact.features * fast.features).sum(dim=1).min() > 0.999


def test_pointers_lead_back_to_the_sentences(encoder: TextEncoder) -> None:
    """What the network attends to is what the physician can read in the note."""
    text = ENGLISH * 5
    tokens = encoder.note_tokens([note("Gait is slow.", "a"), note(text, "b")])

    assert tokens is not None
    assert tokens.features.shape == (26, encoder.dim)
    assert tokens.pointers[0] == SentencePointer("a", 0, 13)
    assert [(p.start, p.end) for p in tokens.pointers[1:]] == list(sentences(text))


def test_every_sentence_of_a_long_note_is_read(encoder: TextEncoder) -> None:
    """A sentence in the ninth chunk counts as much as one in the first."""
    text = " ".join(f"Sentence number {i} speaks of falls." for i in range(120))
    tokens = encoder.note_tokens([note(text)])

    assert tokens is not None
    torch.testing.assert_close(tokens.features.norm(dim=1), torch.ones(120))


def test_a_sentence_vector_is_the_mean_of_its_own_tokens(encoder: TextEncoder) -> None:
    """In a note of one chunk the second sentence is pooled from the second half alone."""
    text = "Memory is poor. Gait is normal."
    offsets = encoder.tokenizer.encode(text).offsets
    own = [row for row, (start, end) in enumerate(offsets) if end > 16 and end > start]
    expected = states(encoder, text)[own].mean(dim=0)
    tokens = encoder.note_tokens([note(text)])

    assert tokens is not None
    torch.testing.assert_close(tokens.features[1], expected / expected.norm(), atol=1e-3, rtol=0.02)


def test_a_sentence_in_two_chunks_is_taken_where_more_surrounds_it() -> None:
    """At the end of one chunk it would be read without what follows."""
    text = " ".join(f"This is sentence number {i:02d} of the note." for i in range(30))
    shares = dict(text_encoder._shares(text))
    first, second = list(shares)[:2]
    repeated = [span for span in sentences(text) if second[0] <= span[0] and span[1] <= first[1]]

    assert len(repeated) >= 2
    assert repeated[0] in shares[first]
    assert repeated[-1] in shares[second]
    assert [span for owned in shares.values() for span in owned] == list(sentences(text))


def test_company_in_a_batch_does_not_change_a_vector(decoder: TextEncoder) -> None:
    """Padding is never attended to."""
    short, long = "Gait is normal.", ENGLISH * 3
    alone = decoder._pool([short], [None])[0]
    together = decoder._pool([long, short], [None, None])[1]

    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_an_unchanged_text_is_encoded_once(
    decoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time the vector comes from memory."""
    first = decoder.encode(["Condition: Epilepsy", "Condition: Gout"])
    monkeypatch.setattr(TextEncoder, "_states", lambda *_: pytest.fail("was encoded again"))

    assert torch.equal(decoder.encode(["Condition: Gout"]), first[1:])


def test_chinese_is_not_trusted_to_an_english_model(
    stand_in: TextEncoder, decoder: TextEncoder
) -> None:
    """The stand-in makes a vector of it, but one of low quality."""
    notes = [note(CHINESE, language="zh")]
    english, both = stand_in.note_tokens(notes), decoder.note_tokens(notes)

    assert english is not None
    assert both is not None
    assert english.quality.tolist() == pytest.approx([0.2] * 3)
    assert both.quality.tolist() == [1.0] * 3


def test_a_sentence_copied_forward_is_one_token_of_the_earliest_note(encoder: TextEncoder) -> None:
    """A copy is no second witness; what was added beside it is read."""
    first = replace(note("She forgets names. Gait is normal.", "old"), date=dt.date(2024, 1, 5))
    later = replace(
        note("She forgets  names. Gait is normal. Now she gets lost.", "new"),
        date=dt.date(2025, 1, 5),
    )
    tokens = encoder.note_tokens([later, first])
    assert tokens is not None
    assert [(p.note_id, p.start) for p in tokens.pointers] == [("new", 36), ("old", 0), ("old", 19)]
    assert len(tokens.features) == len(tokens.quality) == len(tokens.kinds) == 3
    alone = encoder.note_tokens([first])
    assert alone is not None
    torch.testing.assert_close(tokens.features[1:], alone.features, rtol=0, atol=1e-2)


def test_an_identical_note_twice_counts_once(encoder: TextEncoder) -> None:
    """Exports repeat documents under new ids."""
    once = encoder.note_tokens([note(ENGLISH, "a")])
    twice = encoder.note_tokens([note(ENGLISH, "a"), note(ENGLISH, "b")])
    assert once is not None
    assert twice is not None
    assert twice.pointers == once.pointers
    torch.testing.assert_close(twice.features, once.features, rtol=0, atol=0)


def test_notes_without_a_sentence_make_no_tokens(encoder: TextEncoder) -> None:
    """An empty note is an absent one."""
    assert encoder.note_tokens([note(""), note(" \n ", "n2")]) is None
    assert encoder.note_tokens([]) is None
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_an_empty_text_has_a_finite_vector(encoder: TextEncoder) -> None:
    """A fact without a name must not become NaN."""
    assert bool(encoder.encode(["", "Gait is normal."]).isfinite().all())


def test_a_later_word_changes_an_earlier_state(decoder: TextEncoder) -> None:
    """'Memory is not impaired' must be known at 'Memory'."""
    poor, good = states(decoder, "Memory is poor."), states(decoder, "Memory is normal.")
    assert (poor[1] - good[1]).norm() > 1e-3 * poor[1].norm()


def test_left_causal_a_later_word_changes_nothing_before_it(decoder_folder: Path) -> None:
    """The comparison that shows what the mask does."""
    causal = load_text_encoder(decoder_folder, causal=True)
    poor, good = states(causal, "Memory is poor."), states(causal, "Memory is normal.")

    torch.testing.assert_close(poor[1], good[1])
    with pytest.raises(EncoderError, match="stayed causal"):
        causal.verify_bidirectional()


def test_a_decoder_says_its_folder_and_architecture(decoder: TextEncoder) -> None:
    """The report names what was read, not what was hoped for."""
    assert decoder.name == "mini-qwen (Qwen2Model)"
    assert decoder.languages == {"en", "zh"}
    assert decoder.dim == 32


def test_a_decoder_keeps_its_stored_type_and_never_trains(tmp_path: Path) -> None:
    """A folder in bfloat16 must not double in memory."""
    stored = load_text_encoder(save_decoder(tmp_path / "bf16", dtype=torch.bfloat16))

    assert stored.model.dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in stored.model.parameters())
    assert stored.encode(["Gait is normal."]).dtype == torch.float32


def test_spaces_survive_the_tokenizer_class_that_r1_names(decoder: TextEncoder) -> None:
    """Taken at its word, LlamaTokenizerFast would join all words to one."""
    encoding = decoder.tokenizer.encode("Gait is normal.")

    assert encoding.tokens[0] == BOS
    assert decoder.tokenizer.decode(encoding.ids) == "Gait is normal."


def test_a_special_token_typed_into_a_note_is_text(decoder: TextEncoder) -> None:
    """A note cannot speak to the model in the model's own marks."""
    ids = decoder.tokenizer.encode(f"Memory {BOS} is poor.").ids
    assert ids.count(decoder.tokenizer.token_to_id(BOS)) == 1


def test_loading_opens_no_connection(decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hospital's machine has no way out, and must not look for one."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("opened a connection"))

    assert load_text_encoder().dim == 384
    assert load_text_encoder(decoder_folder).dim == 32


def test_pickled_weights_are_refused(decoder_folder: Path, tmp_path: Path) -> None:
    """A pickle can run code when it is read."""
    shutil.copytree(decoder_folder, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").rename(tmp_path / "old" / "pytorch_model.bin")

    with pytest.raises(EncoderError, match="safetensors"):
        load_text_encoder(tmp_path / "old")


def test_an_incomplete_checkpoint_is_refused(decoder_folder: Path, tmp_path: Path) -> None:
    """Missing weights would be random ones, and nobody would notice."""
    shutil.copytree(decoder_folder, tmp_path / "cut")
    settings = json.loads((tmp_path / "cut" / "config.json").read_text())
    settings |= {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    (tmp_path / "cut" / "config.json").write_text(json.dumps(settings))

    with pytest.raises(EncoderError, match="lacks 12 weights"):
        load_text_encoder(tmp_path / "cut")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(decoder_folder: Path, tmp_path: Path, name: str) -> None:
    """Whoever copied the folder must learn what was forgotten."""
    shutil.copytree(decoder_folder, tmp_path / "part")
    (tmp_path / "part" / name).unlink()

    with pytest.raises(EncoderError, match=name):
        load_text_encoder(tmp_path / "part")


def test_another_architecture_is_refused() -> None:
    """An encoder that was never checked here cannot pass for R1."""
    with pytest.raises(EncoderError, match="'bert'"):
        load_text_encoder(text_encoder._stand_in_folder())
