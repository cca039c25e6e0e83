"""Low-rank adapters in a decoder, and the loop that learns them; see `clinical.adapt`."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from clinical.text_folder import model_name
from clinical.text_model import load_torch_model

log = logging.getLogger(__name__)

STATE = "progress.safetensors"  # adapters, optimizer and how far it came


class AdaptError(ValueError):
    """An adaptation that cannot begin, go on or be of use; the message says what to do."""


@dataclass(frozen=True)
class AdaptConfig:
    """How adapters are learnt."""

    epochs: int = 3
    learning_rate: float = 2e-4  # of AdamW, at its highest
    warmup_steps: int = 20
    rank: int = 16  # of each adapter
    alpha: int = 32  # an adapter counts alpha / rank
    dropout: float = 0.05  # of an adapter's input
    mask_share: float = 0.2  # of tokens that are blanked out
    held_out: float = 0.1  # of patients, whose notes only measure
    token_budget: int = 1024  # padded tokens a step
    save_every: int = 50  # steps after which no work is lost
    clip: float = 1.0  # largest norm of a step's gradient
    seed: int = 0
    device: str = "cpu"


@dataclass
class Progress:
    """How far an adaptation came.

    Attributes:
        key: Of base, notes and settings; another's progress is not gone on with.
        step: How many are done.
        train_loss: Of every step.
        held_out_loss: Before, and after each epoch: mean cross entropy of a blanked token.
        best_epoch: After which the held-out loss was lowest; 0 is before.
    """

    key: str
    step: int = 0
    train_loss: list[float] = field(default_factory=list)
    held_out_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0


@dataclass(frozen=True)
class Lessons:
    """Chunks of notes as token ids, in batches of similar length."""

    train: tuple[tuple[list[int], ...], ...]
    held_out: tuple[tuple[list[int], ...], ...]
    n_patients: int
    blank: int  # id of the token that stands for one to predict

    def at(self, step: int, seed: int) -> tuple[list[int], ...]:
        """The batch of a step; every epoch has its own order."""
        epoch, place = divmod(step, len(self.train))
        drawn = torch.Generator().manual_seed(seed + epoch)
        return self.train[int(torch.randperm(len(self.train), generator=drawn)[place])]


def with_adapters(folder: Path, config: AdaptConfig) -> Any:  # peft is not imported above
    """Load a decoder with its head in its stored type, frozen, and put new adapters in.

    Raises:
        AdaptError: `peft` is not installed.
        EncoderError: The folder is damaged or has no head to predict tokens with.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise AdaptError("adapters need peft; run: pip install 'consilium[adapt]'") from error
    torch.manual_seed(config.seed)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=r".*\.(q|k|v|o|gate|up|down)_proj",
    )
    model = get_peft_model(load_torch_model(folder, head=True), lora)
    lora.base_model_name_or_path = model_name(folder)  # not where it lies on this machine
    return model.to(config.device)


def blanked(
    rows: Sequence[list[int]], blank: int, share: float, drawn: torch.Generator
) -> tuple[
    Int64[Tensor, "row token"], Int64[Tensor, "row token"], Bool[Tensor, "row token"],
    Bool[Tensor, "row token"],
]:  # fmt: skip
    """Pad token ids and blank some of them out; the first is never, nothing stands before it.

    Returns:
        What is read, what is true, which tokens are present, and which are to be predicted.
    """
    true = torch.full((len(rows), max(map(len, rows))), blank)
    present = torch.zeros_like(true, dtype=torch.bool)
    for n, ids in enumerate(rows):
        true[n, : len(ids)], present[n, : len(ids)] = torch.tensor(ids), True
    luck = torch.rand(true.shape, generator=drawn).masked_fill(~present, 2.0)
    luck[:, 0] = 2.0
    wanted = luck < max(share, float(luck.min()) + 1e-6)  # one at least
    return torch.where(wanted, blank, true), true, present, wanted & present


def loss_of(
    model: Any, rows: Sequence[list[int]], blank: int, share: float, drawn: torch.Generator
) -> tuple[Float[Tensor, ""], int]:
    """Mean cross entropy of the blanked tokens, and how many there are."""
    decoder = model.get_base_model()
    device = decoder.lm_head.weight.device
    read, true, present, wanted = (x.to(device) for x in blanked(rows, blank, share, drawn))
    # Four axes, as in the encoder: taken as it is, so that every token sees every present one.
    mask = present[:, None, None, :].expand(-1, 1, read.shape[1], -1)
    states = decoder.model(input_ids=read, attention_mask=mask, use_cache=False).last_hidden_state
    # Only these states meet the vocabulary, which is far wider than they are.
    logits = decoder.lm_head(states[:, :-1][wanted[:, 1:]])
    return nn.functional.cross_entropy(logits.float(), true[wanted]), int(wanted.sum())


class Learning:
    """The loop; it can stop after any step and go on as if it had not."""

    def __init__(
        self, model: Any, lessons: Lessons, config: AdaptConfig, state: Path, key: str
    ) -> None:
        self.model, self.lessons, self.config, self.state = model, lessons, config, state
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.best = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimizer = torch.optim.AdamW(self.weights.values(), config.learning_rate)
        self.steps = config.epochs * len(lessons.train)
        self.progress = Progress(key)
        if state.exists():
            self._load()

    def run(self) -> None:
        """Take the steps that are left; the model ends with the weights of the best epoch."""
        progress = self.progress
        if not progress.held_out_loss:
            progress.held_out_loss.append(self.measure())
        bar = tqdm(total=self.steps, initial=progress.step, desc="adapting", disable=None)
        try:
            while progress.step < self.steps:
                progress.train_loss.append(self._step())
                progress.step += 1
                bar.update()
                if progress.step % len(self.lessons.train) == 0:
                    self._end_of_epoch()
                    bar.set_postfix(held_out=f"{progress.held_out_loss[-1]:.3f}")
                if progress.step % self.config.save_every == 0:
                    self._save()
        finally:
            bar.close()
            self._save()
        if not progress.best_epoch:
            raise AdaptError(
                "nothing was learnt: the loss on held-out notes went from "
                f"{progress.held_out_loss[0]:.3f} to {min(progress.held_out_loss[1:]):.3f}; "
                "use the encoder as it is, or give more notes"
            )
        self._take(self.best)

    @torch.no_grad()
    def measure(self) -> float:
        """Loss on the held-out notes, with the same tokens blanked out each time."""
        self.model.eval()
        total, count = 0.0, 0
        for n, rows in enumerate(self.lessons.held_out):
            drawn = torch.Generator().manual_seed(n)
            loss, here = self._loss(rows, drawn)
            total, count = total + loss.item() * here, count + here
        return total / count

    def _step(self) -> float:
        """Learn from one batch; its randomness depends on seed and step alone."""
        config, step = self.config, self.progress.step
        self.model.train()
        torch.manual_seed(config.seed * 1_000_003 + step)  # of the adapters' dropout
        drawn = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        loss, _ = self._loss(self.lessons.at(step, config.seed), drawn)
        if not math.isfinite(loss.item()):
            raise AdaptError(f"the loss of step {step} is not finite; lower the learning rate")
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self._rate(step)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.weights.values(), config.clip)
        self.optimizer.step()
        return loss.item()

    def _loss(
        self, rows: Sequence[list[int]], drawn: torch.Generator
    ) -> tuple[Float[Tensor, ""], int]:
        return loss_of(self.model, rows, self.lessons.blank, self.config.mask_share, drawn)

    def _rate(self, step: int) -> float:
        """Share of the highest learning rate: a rise, then a straight fall."""
        return min((step + 1) / self.config.warmup_steps, 1 - step / self.steps)

    def _end_of_epoch(self) -> None:
        """Measure, and remember the best weights."""
        losses = self.progress.held_out_loss
        losses.append(self.measure())
        if losses[-1] < min(losses[:-1]):
            self.progress.best_epoch = len(losses) - 1
            self.best = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def _take(self, values: Mapping[str, Tensor]) -> None:
        """Put weights into the model."""
        for name, weight in self.weights.items():
            weight.copy_(values[name])

    def _save(self) -> None:
        """Write everything that going on needs, in one file, at once."""
        tensors = {f"best.{name}": tensor.contiguous() for name, tensor in self.best.items()}
        for name, weight in self.weights.items():
            tensors[f"now.{name}"] = weight.detach().contiguous()
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in self.optimizer.state[weight]:
                    tensors[f"{moment}.{name}"] = self.optimizer.state[weight][moment]
        part = self.state.with_suffix(".part")
        save_file(tensors, part, {"progress": json.dumps(asdict(self.progress))})
        os.replace(part, self.state)

    def _load(self) -> None:
        """Go on where an earlier run stopped."""
        try:
            with safe_open(self.state, "pt") as file:
                progress = Progress(**json.loads(file.metadata()["progress"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise AdaptError(f"{self.state} is damaged; remove it to begin anew") from error
        if progress.key != self.progress.key:
            raise AdaptError(
                f"{self.state.parent} holds the progress of another adaptation (other notes, "
                f"settings or base); remove it, or give another folder"
            )
        self.progress = progress
        self.best = {name: tensors[f"best.{name}"] for name in self.weights}
        self._take({name: tensors[f"now.{name}"] for name in self.weights})
        for name, weight in self.weights.items() if progress.step else ():
            self.optimizer.state[weight] = {
                "step": torch.tensor(float(progress.step)),
                **{m: tensors[f"{m}.{name}"].to(weight) for m in ("exp_avg", "exp_avg_sq")},
            }
        log.info("going on after step %d of %d", progress.step, self.steps)
