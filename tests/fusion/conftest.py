"""Small synthetic cases: random tokens, and labels that need two modalities."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from clinical.evidence import AnalytePointer, ClinicalTokens, FactPointer, SentencePointer
from fusion.calibrate import Calibrator
from fusion.case import MODALITIES, Case, Labels, Modality, Tokens
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig
from fusion.train import TrainConfig, Trained, train
from imaging.encoder import FEATURES, RegionPointer, RegionTokens

TEXT = 16  # width of a made-up text encoder
SMALL = ModelConfig(text_dim=TEXT, dim=48, heads=4, layers=2, dropout=0.1, memory=True)


def draw(*shape: int, seed: int) -> np.ndarray:
    """Standard normal numbers from a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).numpy()


def make_tokens(modality: Modality, n: int, seed: int, text_dim: int = TEXT) -> Tokens:
    """Random tokens of a modality, in its real format."""
    kinds, quality = np.arange(n), np.linspace(0.5, 1.0, n, dtype=np.float32)
    if modality == "scan":
        regions = tuple(RegionPointer(f"region {k}", 1000.0, None) for k in range(n))
        return RegionTokens(draw(n, FEATURES, seed=seed), kinds, quality, regions)
    if modality == "notes":
        sentences = tuple(SentencePointer("note", 10 * k, 10 * k + 9) for k in range(n))
        features = draw(n, text_dim, seed=seed)
        return ClinicalTokens(features, kinds // 2, quality, sentences)  # two in a chunk
    if modality == "labs":
        analytes = tuple(AnalytePointer(f"{k}-0", (f"o{k}",), ("2026-01-01",)) for k in range(n))
        features = draw(n, 3, 3, seed=seed)
        features[..., 2] = 1.0
        return ClinicalTokens(features, kinds, quality, analytes)
    facts = tuple(FactPointer(f"f{k}", "http://snomed.info/sct", str(k), "") for k in range(n))
    features = draw(n, text_dim + 3, seed=seed)
    return ClinicalTokens(features, np.zeros_like(kinds), quality, facts)


def make_case(
    seed: int,
    modalities: Sequence[Modality] = MODALITIES,
    n: int = 4,
    labels: Labels | None = None,
    patient: str | None = None,
) -> Case:
    """A case of random tokens."""
    tokens = {m: make_tokens(m, n, seed * 10 + k) for k, m in enumerate(modalities)}
    return Case(f"case{seed}", patient or f"patient{seed}", tokens, labels)


def labels(syndrome: int | None = 0, *true: int) -> Labels:
    """Labels with some causes true and the rest false."""
    return Labels(syndrome, tuple(n in true for n in range(10)))


@pytest.fixture(name="make_case")
def _make_case() -> Callable[..., Case]:
    """See `make_case`."""
    return make_case


@pytest.fixture(name="labels")
def _labels() -> Callable[..., Labels]:
    """See `labels`."""
    return labels


@pytest.fixture
def model() -> DiagnosticModel:
    """A small network with seeded weights, every parameter away from its start."""
    torch.manual_seed(0)
    made = DiagnosticModel(SMALL)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made.eval()


@pytest.fixture
def calibrator() -> Calibrator:
    """A calibration learned from random logits."""
    logits = draw(60, 13, seed=1)
    syndrome = draw(60, 3, seed=2).argmax(axis=1)
    causes = (draw(60, 10, seed=3) > 0).astype(np.float32)
    return Calibrator(3).fit(logits, draw(60, 4, seed=4) > -9, syndrome, causes)


def planted(n: int, seed: int = 0) -> list[Case]:
    """Cases whose first cause needs two modalities: true where signs in labs and notes differ.

    The syndrome follows from the scan alone. One of three tokens of a modality carries the sign;
    all else is the same for everybody but for a little noise.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (n, 3), generator=generator) * 2 - 1
    usual = make_case(0, n=3)
    cases = []
    for k, (a, b, c) in enumerate(signs.tolist()):
        true = labels(int(c > 0), *([0] if a != b else []))
        case = make_case(seed * 100_000 + k + 1, n=3, labels=true)
        for modality, tokens in case.tokens.items():
            tokens.features[:] = tokens.features * 0.1 + usual.tokens[modality].features
        case.tokens["labs"].features[1, :, 0] = 2.0 * a
        case.tokens["notes"].features[2, :4] = 2.0 * b
        case.tokens["scan"].features[0, -4:-2] = 2.0 * c
        cases.append(case)
    return cases


@pytest.fixture(scope="session", name="planted")
def _planted() -> Callable[..., list[Case]]:
    """See `planted`."""
    return planted


@pytest.fixture(scope="session")
def trained() -> Trained:
    """A network trained on planted cases."""
    config = TrainConfig(
        epochs=16,
        patience=16,
        learning_rate=3e-3,
        modality_dropout=0.0,
        fractions=(0.7, 0.1, 0.1, 0.1),
    )
    return train(planted(400), config, SMALL)
