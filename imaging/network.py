"""What the imaging networks have in common: their weights are kept as safetensors and JSON."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

WEIGHTS = Path(__file__).parent / "weights"  # what ships

N = TypeVar("N", bound="Network")


class Network(nn.Module):
    """A network that can be kept in a folder; abstract.

    Attributes:
        file_name: Of its files, without their ending.
        config_type: Dataclass of its shape.
        config: Its shape.
    """

    file_name: ClassVar[str]
    config_type: ClassVar[type]
    config: Any

    def save(self, folder: Path) -> None:
        """Write its weights, as float16, and its shape as JSON into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half().contiguous() for k, v in self.state_dict().items()}
        save_file(weights, folder / f"{self.file_name}.safetensors")
        shape = json.dumps(asdict(self.config), indent=2)
        (folder / f"{self.file_name}.json").write_text(shape + "\n")

    @classmethod
    def load(cls: type[N], folder: Path = WEIGHTS) -> N:
        """Read what `save` wrote; ready to infer, in float32."""
        settings = json.loads((folder / f"{cls.file_name}.json").read_text())
        for field in fields(cls.config_type):
            if isinstance(settings.get(field.name), list):
                settings[field.name] = tuple(settings[field.name])
        net = cls(cls.config_type(**settings))
        net.load_state_dict(load_file(folder / f"{cls.file_name}.safetensors"))
        net.channels_last()
        return net.eval()

    def channels_last(self: N) -> N:
        """Store the weights so that convolutions run channel by channel, faster on CPUs."""
        for weight in self.parameters():
            if weight.ndim == 5:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
        return self
