"""A trained model as a folder of plain files.

model.safetensors   weights
config.json         `ModelConfig`
calibration.json    `Calibrator`
diagnoses.toml      what it diagnoses
model_card.json     what it was trained on, by which text encoder, and when
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from clinical.diagnoses import Scheme, SchemeError, dump_scheme, load_scheme
from clinical.units import table_version
from fusion.calibrate import Calibrator
from fusion.engines import WEIGHTS, load_network
from fusion.network import CheckpointError, ModelConfig, Network

T = TypeVar("T")


@dataclass(frozen=True)
class ModelCard:
    """Where a model comes from.

    Attributes:
        trained_on: In words; says synthetic where it was.
        n_cases: How many cases it was fitted to.
        text_encoder: Name of the text encoder its evidence was made with.
        text_encoder_sha256: SHA-256 of that encoder's weights.
        date: ISO 8601.
        license: SPDX identifier, of the weights.
        notes: Anything else that can be written as JSON, such as measured scores.
    """

    trained_on: str
    n_cases: int
    text_encoder: str
    text_encoder_sha256: str
    date: str
    license: str = "Apache-2.0"
    notes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """Everything a model folder holds."""

    model: Network
    calibrator: Calibrator
    scheme: Scheme
    card: ModelCard


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a model folder; the weights last, so that a folder with weights is whole.

    Raises:
        CheckpointError: Network and scheme do not belong together.
        TypeError: The network is not the one on torch, which alone has weights to write.
    """
    from fusion.model import DiagnosticModel
    from fusion.weights import write_weights

    model, scheme = checkpoint.model, checkpoint.scheme
    if not isinstance(model, DiagnosticModel):
        raise TypeError(f"a {type(model).__name__} has no weights; load with engine='torch'")
    _check_scheme(folder, model.config, scheme)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    _write_json(folder / "config.json", asdict(model.config))
    _write_json(folder / "calibration.json", checkpoint.calibrator.to_json())
    _write_json(folder / "model_card.json", asdict(checkpoint.card))
    (folder / "diagnoses.toml").write_text(dump_scheme(scheme), encoding="utf-8")
    write_weights(folder / WEIGHTS, model)


def load(
    folder: Path,
    text_encoder_sha256: str | None = None,
    *,
    engine: str = "torch",
    kept: Path | None = None,
) -> Checkpoint:
    """Read a model folder.

    Args:
        folder: What `save` wrote.
        text_encoder_sha256: Of the encoder in use; None where none is, as for a scan alone.
        engine: What shall run the network, see `fusion.engines.load_network`.
        kept: Folder for what is exported; None keeps nothing.

    Raises:
        CheckpointError: A file is missing or damaged, shapes disagree, a weight is not finite, or
            the text encoder is not the one the model was trained with.
    """
    card = _card(folder, text_encoder_sha256)
    config = _made(ModelConfig, folder / "config.json")
    try:
        scheme = load_scheme(folder / "diagnoses.toml")
        calibrator = Calibrator.from_json(_read_json(folder / "calibration.json"))
    except (SchemeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: {error}") from None
    _check_scheme(folder, config, scheme)
    if config.analytes != table_version():
        raise CheckpointError(
            f"{folder} was trained with another table of analytes ({config.analytes or 'older'}, "
            f"now {table_version()}); import its cases again and train again"
        )
    network = load_network(folder, config, engine=engine, kept=kept)
    return Checkpoint(network, calibrator, scheme, card)


def _card(folder: Path, text_encoder_sha256: str | None) -> ModelCard:
    """Where a model comes from; refuses one that another text encoder goes with."""
    card = _made(ModelCard, folder / "model_card.json")
    if text_encoder_sha256 not in (None, card.text_encoder_sha256):
        raise CheckpointError(
            f"{folder} was trained with the text encoder {card.text_encoder} "
            f"({card.text_encoder_sha256[:12]}…), not with the one in use "
            f"({text_encoder_sha256[:12]}…); choose that encoder or train again"
        )
    return card


def _check_scheme(folder: Path, config: ModelConfig, scheme: Scheme) -> None:
    """Refuse a network whose outputs the scheme cannot name."""
    named = (len(scheme.syndromes), len(scheme.causes))
    if named != (config.n_syndromes, config.n_causes):
        raise CheckpointError(
            f"{folder}: the network has {config.n_syndromes} syndromes and {config.n_causes} "
            f"causes, diagnoses.toml names {named[0]} and {named[1]}"
        )


def _made(kind: type[T], path: Path) -> T:
    """A dataclass from the JSON of its fields."""
    try:
        return kind(**_read_json(path))
    except TypeError:
        raise CheckpointError(
            f"{path} has other fields than a {kind.__name__}; it is of another version"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise CheckpointError(f"{path} is missing; {path.parent} is not a model folder") from None
    except (ValueError, TypeError):
        raise CheckpointError(f"{path} is damaged; copy the folder again") from None


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
