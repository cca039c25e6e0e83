"""A decoder's weights and tokenizer: every sort goes through the same path, as it is stored."""

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from decoders import BOS, CHINESE, ENGLISH, KINDS, save_decoder
from safetensors.torch import load_file

from clinical.record import Coding, Note
from clinical.text_encoder import TextEncoder, load_text_encoder
from clinical.text_folder import EncoderError, weights
from clinical.text_model import load_tokenizer, load_torch_model, torch_states

PEAK = """
import sys
from pathlib import Path
import numpy as np
from clinical.text_model import load_torch_model, torch_states

def peak(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def run(folder):
    model = load_torch_model(Path(folder))
    torch_states(model)(np.ones((1, 8), dtype=np.int64), np.ones((1, 8), dtype=np.bool_))
    return sum(weight.nbytes for weight in model.parameters()) / 1024

run(sys.argv[1])  # whatever is loaded once
before = peak("VmRSS")
size = run(sys.argv[2])
print(size, peak("VmHWM") - before)
"""


def note(text: str, language: str) -> Note:
    """A note without a kind."""
    return Note("n1", Coding("", "", ""), text, language=language)


def load(folder: Path, *, causal: bool = False) -> TextEncoder:
    """The encoder on the engine that every other is held against."""
    return load_text_encoder(folder, engine="torch", causal=causal)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a hospital would copy it."""
    return save_decoder(tmp_path_factory.mktemp("models") / "mini-qwen")


@pytest.mark.parametrize("shard_size", ["5GB", "30KB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_decoder_reads_both_languages_in_both_directions(
    tmp_path: Path, kind: str, dtype: torch.dtype, shard_size: str
) -> None:
    """Whether its weights are one file or parts; loading has proved both directions."""
    folder = save_decoder(tmp_path / "mini", kind, dtype=dtype, shard_size=shard_size)
    encoder = load(folder)
    tokens = encoder.note_tokens([note(ENGLISH, "en"), note(CHINESE, "zh")])

    assert len(weights(folder)) == 1 if shard_size == "5GB" else len(weights(folder)) > 2
    assert encoder.name.startswith("mini (")
    assert encoder.name.lower() == f"mini ({kind})"
    assert encoder.license == "MIT"
    assert tokens is not None
    assert tokens.features.shape == (8, 32)
    assert tokens.quality.tolist() == [1.0] * 8


@pytest.mark.parametrize("kind", KINDS)
def test_left_causal_a_later_word_changes_nothing_before_it(tmp_path: Path, kind: str) -> None:
    """The comparison that shows what the mask does; the proof tells the two apart."""
    causal = load(save_decoder(tmp_path / "mini", kind), causal=True)

    with pytest.raises(EncoderError, match="stayed causal"):
        causal.verify_bidirectional()


def test_parts_hold_the_same_model_as_one_file(mini: Path, tmp_path: Path) -> None:
    """The layout of the files decides nothing."""
    parts = save_decoder(tmp_path / "parts", shard_size="30KB")
    texts = ["Gait is normal.", CHINESE]

    np.testing.assert_array_equal(load(mini).encode(texts), load(parts).encode(texts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_stay_as_they_are_stored_and_never_train(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """A folder in bfloat16 must not double in memory."""
    folder = save_decoder(tmp_path / "mini", dtype=dtype)
    model = load_torch_model(folder)
    stored = load_file(folder / "model.safetensors")

    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert not any(weight.requires_grad for weight in model.parameters())
    assert torch.equal(model.embed_tokens.weight, stored["model.embed_tokens.weight"])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_loading_makes_no_second_copy(mini: Path, tmp_path: Path) -> None:
    """Where memory is short, the model fits if its weights do, in loading and in its first use."""
    wide = {"hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 12}
    big = save_decoder(tmp_path / "big", dtype=torch.bfloat16, shard_size="40MB", **wide)
    gc.collect()
    said = subprocess.run(
        [sys.executable, "-c", PEAK, str(mini), str(big)],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    size, grown = map(float, said)  # KiB

    assert size > 100_000  # of which the libraries' own movements are a small part
    assert 0.5 * size < grown < 1.4 * size


def test_a_mask_of_four_axes_hides_the_padding(mini: Path) -> None:
    """What stands where nothing is present reaches no state."""
    states = torch_states(load_torch_model(mini))
    ids = np.array([[5, 6, 7, 8], [5, 6, 7, 99]])
    present = np.array([[True, True, True, False]] * 2)
    first, second = states(ids, present)

    np.testing.assert_array_equal(first[:3], second[:3])
    assert first.dtype == np.float32


def test_an_incomplete_checkpoint_is_refused(mini: Path, tmp_path: Path) -> None:
    """Missing weights would be random ones, and nobody would notice."""
    shutil.copytree(mini, tmp_path / "cut")
    settings = json.loads((tmp_path / "cut" / "config.json").read_text())
    settings |= {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    (tmp_path / "cut" / "config.json").write_text(json.dumps(settings))

    with pytest.raises(EncoderError, match="lacks 12 weights"):
        load(tmp_path / "cut")


def test_a_file_cut_short_is_refused(mini: Path, tmp_path: Path) -> None:
    """A copy that was interrupted."""
    shutil.copytree(mini, tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])

    with pytest.raises(EncoderError, match="cut cannot be loaded"):
        load(tmp_path / "cut")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(mini: Path, tmp_path: Path, name: str) -> None:
    """Whoever copied the folder must learn what was forgotten."""
    shutil.copytree(mini, tmp_path / "part")
    (tmp_path / "part" / name).unlink()

    with pytest.raises(EncoderError, match=name):
        load(tmp_path / "part")


def test_spaces_survive_the_tokenizer_class_that_r1_names(mini: Path) -> None:
    """Taken at its word, LlamaTokenizerFast would join all words to one."""
    tokenizer = load_tokenizer(mini, 1024)
    encoding = tokenizer.encode("Gait is normal.")

    assert encoding.tokens[0] == BOS
    assert tokenizer.decode(encoding.ids) == "Gait is normal."


def test_a_special_token_typed_into_a_note_is_text(mini: Path) -> None:
    """A note cannot speak to the model in the model's own marks."""
    tokenizer = load_tokenizer(mini, 1024)
    ids = tokenizer.encode(f"Memory {BOS} is poor.").ids
    assert ids.count(tokenizer.token_to_id(BOS)) == 1
