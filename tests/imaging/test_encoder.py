"""A region becomes a token only where it was found, and says where it comes from."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from imaging.encoder import FEATURES, POOLED, head_mm3, region_tokens
from imaging.region_encoder import RegionEncoder
from imaging.regions import REGION_INDEX, REGIONS, Segmentation

SIZE, Z, CONFIDENCE, KNOWN = range(POOLED, FEATURES)
HIPPOCAMPUS = REGION_INDEX["left hippocampus"]
MATTER = REGION_INDEX["left cerebral white matter"]


def brain(hippocampus_voxels: int = 437, head_voxels: int = 175_000) -> Segmentation:
    """A map of two regions on the 2 mm grid, with features that count up."""
    region_map = np.zeros((64, 64, 64), np.uint8)
    flat = region_map.reshape(-1)
    flat[:head_voxels] = MATTER + 1
    flat[:hippocampus_voxels] = HIPPOCAMPUS + 1
    features = np.zeros((len(REGIONS), POOLED), np.float32)
    confidence = np.zeros(len(REGIONS), np.float32)
    features[[HIPPOCAMPUS, MATTER]] = np.arange(2 * POOLED).reshape(2, POOLED)
    confidence[[HIPPOCAMPUS, MATTER]] = 0.8, 0.5
    return Segmentation(region_map, np.diag([2.0, 2.0, 2.0, 1.0]), features, confidence)


def test_every_region_that_was_found_is_a_token() -> None:
    """With its name, its volume and the features pooled inside it."""
    tokens = region_tokens(brain(), 65.0, "female")
    assert [p.region for p in tokens.pointers] == ["left hippocampus", "left cerebral white matter"]
    assert tokens.kinds.tolist() == [HIPPOCAMPUS, MATTER]
    assert tokens.pointers[0].volume_mm3 == 437 * 8
    assert (tokens.features[1, :POOLED] == np.arange(POOLED) + POOLED).all()
    assert tokens.features[0, SIZE] == pytest.approx(np.log(437 / 175_000))
    assert tokens.features[0, CONFIDENCE] == pytest.approx(0.8)


def test_a_head_is_all_that_has_a_name() -> None:
    """Its size is the sum of its regions."""
    assert head_mm3(brain()) == pytest.approx(175_000 * 8)


@pytest.mark.parametrize(
    ("age_years", "sex"), [(None, "female"), (65.0, "unknown"), (20.0, "male")]
)
def test_without_a_norm_there_is_no_deviation(age_years: float | None, sex: str) -> None:
    """Zero, a flag that says so, and a pointer without a centile."""
    tokens = region_tokens(brain(), age_years, sex)
    assert (tokens.features[:, [Z, KNOWN]] == 0).all()
    assert all(pointer.centile is None for pointer in tokens.pointers)


def test_a_small_hippocampus_has_a_low_centile() -> None:
    """And the smaller one a lower deviation; an impossible one is limited."""
    normal, small, gone = (region_tokens(brain(n), 65.0, "female") for n in (437, 330, 3))
    assert small.features[0, Z] < normal.features[0, Z] - 2
    assert small.pointers[0].centile is not None
    assert small.pointers[0].centile < 5
    assert gone.features[0, Z] == -6
    assert (gone.features[:, KNOWN] == 1).all()


def test_a_poor_scan_counts_for_less() -> None:
    """Quality is the scan's grade times the confidence in the region."""
    tokens = region_tokens(brain(), 65.0, "female", quality=0.5)
    np.testing.assert_allclose(tokens.quality, [0.4, 0.25], rtol=1e-6)


def test_an_empty_map_has_no_token() -> None:
    """Nothing found is nothing said."""
    tokens = region_tokens(brain(0, 0), 65.0, "female")
    assert tokens.features.shape == (0, FEATURES)
    assert tokens.pointers == ()


def test_padding_is_finite_and_changes_no_real_token() -> None:
    """Each token is encoded by itself; zeros give no NaN, nor does their gradient."""
    torch.manual_seed(0)
    encoder = RegionEncoder(24)
    tokens = region_tokens(brain(), 65.0, "female")
    features, kinds = torch.from_numpy(tokens.features)[None], torch.from_numpy(tokens.kinds)[None]
    padded = torch.nn.functional.pad(features, (0, 0, 0, 3)).requires_grad_()
    encoded = encoder(padded, torch.nn.functional.pad(kinds, (0, 3)))
    encoded.sum().backward()
    alone = encoder(features, kinds)
    torch.testing.assert_close(encoded[:, :2], alone)
    assert encoded.shape == (1, 5, 24)
    assert encoded.isfinite().all()
    assert padded.grad is not None
    assert padded.grad.isfinite().all()


def test_fusion_can_use_tokens_without_the_imaging_libraries() -> None:
    """Importing the encoder loads neither MONAI nor nibabel, which take seconds."""
    code = "import sys, imaging.encoder; sys.exit(bool({'monai', 'nibabel'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
