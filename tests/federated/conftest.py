"""Tiny hospitals: real site folders whose few notes tell the diagnosis, noisily."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clinical.evidence import ClinicalTokens, SentencePointer
from clinical.record import PatientRecord
from federated.task import Plan
from fusion.network import ModelConfig
from fusion.store import CaseRow, Site, now
from fusion.train import TrainConfig

ENCODER = "e" * 64  # stands for the SHA-256 of a text encoder
WIDTH = 8


def write_site(folder: Path, n_cases: int = 24, *, seed: int = 0, encoder: str = ENCODER) -> Path:
    """A site in which the first number of each sentence is higher with dementia."""
    site, rng = Site.create(folder), np.random.default_rng(seed)
    for n in range(n_cases):
        sick = n % 2 == 0
        features = rng.standard_normal((3, WIDTH), dtype=np.float32)
        features[:, 0] += 2.0 * sick
        pointers = tuple(SentencePointer("note", i, i + 1) for i in range(3))
        kinds, quality = np.zeros(3, np.int64), np.ones(3, np.float32)
        tokens = ClinicalTokens(features, kinds, quality, pointers)
        row = CaseRow(
            case_id=f"case{seed:02d}{n:04d}",
            patient_key=f"patient{n:04d}",
            imported_at=now(),
            sex="unknown",
            diagnoses=["DE", "AD"] if sick else ["NC"],
        )
        site.add_case(row, PatientRecord(f"p{n}", "unknown"), {})
        site.save_tokens(row.case_id, {"notes": tokens}, findings=[], encoder=encoder)
    return folder


@pytest.fixture(scope="session")
def make_site() -> Callable[..., Path]:
    """`write_site`."""
    return write_site


@pytest.fixture(scope="session")
def plan() -> Plan:
    """A network small enough to train in a moment."""
    return Plan(
        ENCODER,
        ModelConfig(text_dim=WIDTH, dim=16, heads=2, layers=1),
        TrainConfig(
            epochs=2,
            batch_size=8,
            learning_rate=1e-3,
            warmup_steps=2,
            fractions=(0.5, 0.15, 0.15, 0.2),
        ),
    )


@pytest.fixture
def hospital(tmp_path: Path) -> Callable[..., Path]:
    """Makes a hospital by name."""
    return lambda name, **settings: write_site(tmp_path / name, **settings)
