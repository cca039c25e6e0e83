"""A model's folder: what is there is what is said, and nothing else is taken."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from decoders import save_decoder
from huggingface_hub import constants

from clinical import text_folder
from clinical.text_folder import (
    EncoderError,
    describe,
    find_folder,
    read_license,
    read_settings,
    stand_in_folder,
    weights_sha256,
)

R1 = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a hospital would copy it."""
    return save_decoder(tmp_path_factory.mktemp("models") / "mini-qwen")


@pytest.fixture
def copy(mini: Path, tmp_path: Path) -> Path:
    """The same folder, to be altered."""
    return Path(shutil.copytree(mini, tmp_path / "copied"))


def change(file: Path, **settings: object) -> None:
    """Change settings in a file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def cache(folder: Path, mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hugging Face cache with one model in it, as ``hf download`` leaves it."""
    repository = folder / "models--deepseek-ai--DeepSeek-R1-Distill-Qwen-1.5B"
    shutil.copytree(mini, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))


def test_a_name_of_the_hub_is_found_in_the_local_cache(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched once is read, under the name of its repository and not of a revision."""
    cache(tmp_path, mini, monkeypatch)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("opened a connection"))

    assert find_folder(R1) == find_folder(Path(R1))
    assert describe(R1).name == "DeepSeek-R1-Distill-Qwen-1.5B (Qwen2)"


def test_a_name_that_is_not_in_the_cache_says_how_to_fetch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched by itself, and whoever asked learns what to do."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("opened a connection"))

    with pytest.raises(EncoderError, match=f"Nothing is fetched by itself.*hf download {R1}"):
        find_folder(R1)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A slip in a path is not looked up anywhere."""
    with pytest.raises(EncoderError, match="nowhere is no folder"):
        find_folder(tmp_path / "nowhere")


def test_a_description_loads_no_model(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking which encoder is in use must not take its gigabytes."""
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", lambda *_: pytest.fail("loaded"))

    assert describe(mini) == ("mini-qwen (Qwen2)", "MIT", weights_sha256(mini))
    assert describe() == (
        "all-MiniLM-L6-v2 (stand-in)",
        "Apache-2.0",
        text_folder.STAND_IN_SHA256,
    )


@pytest.mark.parametrize(
    ("readme", "license_file", "config", "expected"),
    [
        ("---\nlicense: mit\n---\n", "Apache License\nVersion 2.0", "x", "MIT"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", None, "x", "qwen-research"),
        ("# A model\nlicense: mit\n", "\n   Apache License\n   Version 2.0", "x", "Apache-2.0"),
        (None, "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\n", "x",
         "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT"),
        (None, None, "apache-2.0", "Apache-2.0"),
        (None, None, None, "unknown"),
    ],
)  # fmt: skip
def test_the_licence_is_what_the_folder_says(
    tmp_path: Path, readme: str | None, license_file: str | None, config: str | None, expected: str
) -> None:
    """The front matter first, then the licence, then the settings; it is never guessed."""
    said = {"README.md": readme, "LICENSE": license_file}
    for name, text in said.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    (tmp_path / "config.json").write_text(json.dumps({"license": config} if config else {}))

    assert read_license(tmp_path) == expected


def test_a_folder_of_parts_has_one_hash_and_every_part_in_it(tmp_path: Path) -> None:
    """One changed byte in any part is another model."""
    folder = save_decoder(tmp_path / "parts", shard_size="30KB")
    before, parts = weights_sha256(folder), text_folder.weights(folder)
    assert len(parts) > 2
    raw = bytearray(parts[1].read_bytes())
    raw[-1] ^= 1
    parts[1].write_bytes(raw)

    assert weights_sha256(folder) != before


def test_a_part_that_was_not_copied_is_named(tmp_path: Path) -> None:
    """Found by the list of parts, before anything is read."""
    folder = save_decoder(tmp_path / "parts", shard_size="30KB")
    last = text_folder.weights(folder)[-1]
    last.unlink()

    with pytest.raises(EncoderError, match=f"lacks {last.name}"):
        weights_sha256(folder)


def test_a_hash_is_kept_until_the_file_changes(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a change that keeps the size and the time of writing is seen."""
    kept, file = tmp_path / "engines", copy / "model.safetensors"
    first = weights_sha256(copy, kept)
    with monkeypatch.context() as patch:
        patch.setattr(text_folder, "_file_sha256", lambda _: pytest.fail("was read again"))
        assert weights_sha256(copy, kept) == first
    before = file.stat()
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert weights_sha256(copy, kept) == weights_sha256(copy) != first


def test_a_damaged_list_of_hashes_is_made_again(mini: Path, tmp_path: Path) -> None:
    """It only saves time."""
    (tmp_path / "hashes.json").write_text('{"half')
    assert weights_sha256(mini, tmp_path) == weights_sha256(mini)
    assert len(json.loads((tmp_path / "hashes.json").read_text())) == 1
    assert not list(tmp_path.glob("*.partial"))


def test_a_window_that_would_cut_attention_is_refused(copy: Path) -> None:
    """Sentences beyond the window would not be seen, and nothing would say so."""
    change(copy / "config.json", use_sliding_window=True, sliding_window=512, max_window_layers=1)
    change(copy / "config.json", layer_types=None)
    with pytest.raises(EncoderError, match="attends to 512 tokens at a time"):
        read_settings(copy, decoder=True)
    change(copy / "config.json", layer_types=["full_attention", "sliding_attention"])
    with pytest.raises(EncoderError, match="attends to 512 tokens at a time"):
        read_settings(copy, decoder=True)


def test_a_window_that_cuts_nothing_is_taken(copy: Path) -> None:
    """R1's own settings name a window that no layer has; a wide one sees every text whole."""
    change(copy / "config.json", layer_types=None, num_hidden_layers=28)
    change(copy / "config.json", sliding_window=512, max_window_layers=21)
    assert read_settings(copy, decoder=True)["sliding_window"] == 512
    change(copy / "config.json", use_sliding_window=True, sliding_window=4096)
    assert read_settings(copy, decoder=True)["sliding_window"] == 4096


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "bert"}, "of type 'bert'"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized already"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(
    copy: Path, settings: dict[str, object], message: str
) -> None:
    """An encoder that was never checked here cannot pass for R1."""
    change(copy / "config.json", **settings)
    with pytest.raises(EncoderError, match=message):
        describe(copy)


def test_pickled_weights_are_refused(copy: Path) -> None:
    """A pickle can run code when it is read."""
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="safetensors"):
        describe(copy)


def test_an_adapter_alone_is_refused(copy: Path) -> None:
    """Its base would be read without it."""
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(EncoderError, match="merge it"):
        describe(copy)


def test_altered_stand_in_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One changed byte in the weights is a different model."""
    shutil.copytree(stand_in_folder(), tmp_path / "model")
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    monkeypatch.setattr(text_folder, "stand_in_folder", lambda: tmp_path / "model")

    with pytest.raises(EncoderError, match="SHA-256"):
        describe()
