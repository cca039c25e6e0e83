"""The segmentation network is trained on real folders, and an interrupted training goes on."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from imaging.labelled import dice_of, has_both_sides, held_out
from imaging.lessons import drawn_blocks, to_right
from imaging.regions import REGION_INDEX, from_muse, mirrored_labels
from imaging.train import SegmentTrainConfig, _schedule, _share_done, train

WHITE_RIGHT, WHITE_LEFT = 81, 82  # MUSE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six heads with two halves of white matter; the third has its labels on one side."""
    rng = np.random.default_rng(0)
    for n in range(6):
        labels = np.zeros((40, 48, 40), dtype=np.uint8)
        labels[8:20, 8:40, 8:32] = WHITE_LEFT
        labels[20:32, 8:40, 8:32] = WHITE_LEFT if n == 2 else WHITE_RIGHT
        voxels = (labels > 0) * 100 + rng.integers(0, 20, labels.shape)
        for kind, data in (("t1", voxels), ("seg", labels)):
            (tmp_path / kind).mkdir(exist_ok=True)
            image = nib.Nifti1Image(data.astype(np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]))
            nib.save(image, tmp_path / kind / f"person{n}.nii.gz")
    return tmp_path


def test_training_resumes_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    """Two steps, then one more: the second run does the third step only, with both averages."""
    out = tmp_path / "weights"
    config = {"warmup_steps": 1, "loss_blocks": 500, "checkpoint_every": 1}
    train(folder, out, SegmentTrainConfig(steps=2, **config))
    first = load_file(out / "segment.checkpoint.safetensors")
    train(folder, out, SegmentTrainConfig(steps=3, **config))
    second = load_file(out / "segment.checkpoint.safetensors")
    assert (int(first["step"]), int(second["step"])) == (2, 3)
    assert second["seconds"] > first["seconds"]
    moved = [k for k in first if k.startswith("net.") and not torch.equal(first[k], second[k])]
    assert moved
    assert all(v.isfinite().all() for v in load_file(out / "segment.safetensors").values())
    assert (out / "segment.safetensors").stat().st_size < 20e6


def test_time_ends_a_training_as_steps_do() -> None:
    """Whichever is further decides, and the learning rate follows it down."""
    config = SegmentTrainConfig(steps=100, minutes=10.0, warmup_steps=1)
    assert _share_done(10, 300.0, config) == 0.5
    assert _share_done(90, 300.0, config) == 0.9
    rates = [_schedule(50, share, config) for share in (0.0, 0.5, 1.0, 1.2)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0


def test_a_label_map_with_both_hemispheres_on_one_side_is_noticed(folder: Path) -> None:
    """Only the third person's."""
    maps = [np.asarray(nib.load(p).dataobj) for p in sorted((folder / "seg").iterdir())]
    good = [has_both_sides(from_muse(m.astype(np.int32))) for m in maps]
    assert good == [True, True, False, True, True, True]


def test_every_fifth_subject_is_held_out_whatever_the_order() -> None:
    """The rule looks at sorted ids only."""
    ids = [f"{n:03d}" for n in range(150)]
    train_ids, test_ids = held_out(ids[::-1])
    assert test_ids == ids[::5]
    assert set(train_ids) | set(test_ids) == set(ids)
    assert not set(train_ids) & set(test_ids)


def test_blocks_for_the_loss_are_mostly_inside_the_brain() -> None:
    """A brain that fills a tenth of the window is seen in seven of ten blocks and more."""
    target = torch.zeros(10_000, 8, dtype=torch.long)
    target[:1000, 0] = 5
    drawn = drawn_blocks(target, 2000, 0.7)
    assert len(drawn) == 2000
    assert 0.65 < float((drawn < 1000).float().mean()) < 0.8


def test_dice_counts_overlap_and_ignores_what_the_truth_lacks() -> None:
    """Half of the voxels found, none too many: 2/3; a region the truth lacks is NaN."""
    truth = np.zeros((4, 4, 4), dtype=np.uint8)
    truth[:2] = 1
    found = np.zeros_like(truth)
    found[0], found[3] = 1, 2
    dice = dice_of(found, truth)
    assert dice[0] == pytest.approx(2 / 3)
    assert np.isnan(dice[1:]).all()


def test_the_close_look_is_trained_on_right_sides_only(folder: Path, tmp_path: Path) -> None:
    """One step on a folder with hippocampi; a left one is shown mirrored, its labels with it."""
    for path in (folder / "seg").iterdir():
        image = nib.load(path)
        labels = np.asarray(image.dataobj).copy()
        labels[12:15, 20:26, 18:21], labels[25:28, 20:26, 18:21] = 48, 47
        nib.save(nib.Nifti1Image(labels, image.affine), path)
    train(folder, tmp_path, SegmentTrainConfig(steps=1, warmup_steps=1), part="closeup")
    assert all(v.isfinite().all() for v in load_file(tmp_path / "closeup.safetensors").values())

    volume, labels = torch.rand(1, 6, 6, 6), torch.zeros(6, 6, 6, dtype=torch.long)
    labels[1:3] = REGION_INDEX["left hippocampus"] + 1
    shown, named = to_right(volume, labels)
    torch.testing.assert_close(shown, volume.flip(1))
    assert set(named.unique().tolist()) == {0, mirrored_labels()[int(labels.max())]}
    assert to_right(shown, named)[1] is named
