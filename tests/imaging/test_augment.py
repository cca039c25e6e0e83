"""Training scans are changed in ways that a brain and a scanner can change."""

import numpy as np
import pytest
import torch

from imaging.augment import AugmentConfig, atrophy_field, augment
from imaging.regions import REGION_INDEX

SHAPE = (64, 64, 64)
WINDOW = (48, 48, 48)
VENTRICLE = REGION_INDEX["third ventricle"] + 1  # in the midline, so that a mirror keeps its label
LEFT, RIGHT = (REGION_INDEX[f"{side} hippocampus"] + 1 for side in ("left", "right"))
STILL = AugmentConfig(rotation=0.0, scale=0.0, shear=0.0, shift=0.0, bend=0.0)


@pytest.fixture
def labels() -> np.ndarray:
    """A ventricle in the middle and a hippocampus on each side, as boxes."""
    made = np.zeros(SHAPE, dtype=np.uint8)
    made[26:38, 26:38, 40:50] = VENTRICLE
    made[16:24, 26:38, 20:28] = LEFT
    made[40:48, 26:38, 20:28] = RIGHT
    return made


def volumes(config: AugmentConfig, labels: np.ndarray, seed: int) -> tuple[int, int]:
    """Voxels of ventricle and of both hippocampi after one change."""
    _, changed = augment(
        np.zeros(SHAPE, np.float32), labels, WINDOW, np.random.default_rng(seed), config
    )
    return int((changed == VENTRICLE).sum()), int(((changed == LEFT) | (changed == RIGHT)).sum())


def test_atrophy_widens_ventricles_and_shrinks_hippocampi(labels: np.ndarray) -> None:
    """Over many draws the ventricle's mean grows, and hippocampi are smaller more than larger."""
    before = np.array([(labels == VENTRICLE).sum(), (labels == LEFT).sum() * 2])
    after = np.array([volumes(STILL, labels, seed) for seed in range(40)])
    change = after / before - 1
    assert change[:, 0].mean() > 0.05
    assert change[:, 0].max() > 0.5
    assert change[:, 1].min() < -0.2
    assert change[:, 1].mean() < 0


def test_without_atrophy_a_still_head_keeps_its_labels(labels: np.ndarray) -> None:
    """Nothing else moves a border."""
    calm = AugmentConfig(
        rotation=0.0, scale=0.0, shear=0.0, shift=0.0, bend=0.0, widen=0.0, shrink=0.0
    )
    for seed in range(4):
        assert volumes(calm, labels, seed) == ((labels == VENTRICLE).sum(), 2 * 8 * 12 * 8)


def test_picture_and_labels_move_together(labels: np.ndarray) -> None:
    """Where a bright ventricle goes, its label goes too."""
    bright = (labels == VENTRICLE).astype(np.float32)
    quiet = AugmentConfig(tissue=0.0, bias=0.0, noise=0.0, gamma=0.0, coarsest=1.0)
    overlaps = []
    for seed in range(6):
        volume, changed = augment(bright, labels, WINDOW, np.random.default_rng(seed), quiet)
        seen, named = volume[0] > 0.3, changed == VENTRICLE
        overlaps.append(float((seen & named).sum() / (seen | named).sum().clamp(min=1)))
    assert np.median(overlaps) > 0.8


def test_a_mirrored_head_has_its_sides_exchanged(labels: np.ndarray) -> None:
    """The left hippocampus stays at lower i, whichever way a draw flips the head."""
    for seed in range(8):
        _, changed = augment(
            np.zeros(SHAPE, np.float32), labels, WINDOW, np.random.default_rng(seed), STILL
        )
        left, right = (torch.nonzero(changed == v)[:, 0].float().mean() for v in (LEFT, RIGHT))
        assert left + 10 < right


def test_the_same_seed_draws_the_same_head(labels: np.ndarray) -> None:
    """All chance comes from the generator."""
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    one, two = (augment(image, labels, WINDOW, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_a_head_without_these_regions_is_not_bent() -> None:
    """A label map of background only gives a field of zeros, or none."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        field = atrophy_field(np.zeros(SHAPE, np.uint8), rng, AugmentConfig())
        assert field is None or not field.any()
