"""The weights of a model folder, read into and written from the network on torch."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fusion.model import DiagnosticModel
from fusion.network import CheckpointError, ModelConfig


def write_weights(path: Path, model: DiagnosticModel) -> None:
    """Write a network's weights, whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file({k: v.cpu().contiguous() for k, v in model.state_dict().items()}, partial)
    partial.replace(path)


def read_model(path: Path, config: ModelConfig) -> DiagnosticModel:
    """The network with its weights, each checked.

    Raises:
        CheckpointError: The file cannot be read, does not fit, or holds a weight that is not
            finite.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy or train it again") from None
    try:
        model = DiagnosticModel(config)
    except (ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path.parent / 'config.json'}: {error}") from None
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    found = {name: value.shape for name, value in weights.items()}
    wrong = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(
            f"{path} does not fit config.json: {len(wrong)} weights are missing, unexpected or of "
            f"another shape, {wrong[0]} first; copy the folder again as a whole"
        )
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise CheckpointError(f"{path} holds a weight that is not finite; train it again")
    model.load_state_dict(weights)
    return model.eval()
