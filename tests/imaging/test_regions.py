"""Regions cover the brain once, and left is the patient's left."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np

from imaging.regions import REGIONS, from_muse, mirrored_labels, region_volumes_mm3

COMPOSITES = 300  # MUSE labels from here on are sums of others


def test_every_muse_label_belongs_to_exactly_one_region(data: Path) -> None:
    """None is forgotten and none is counted twice."""
    grouped = [label for region in REGIONS for label in region.muse]
    with (data / "ixi_t1_2mm" / "region_names.csv").open() as file:
        single = {int(row["Index"]) for row in csv.DictReader(file)}
    assert sorted(grouped) == sorted(label for label in single if 0 < label < COMPOSITES)


def test_names_of_the_atlas_agree_about_the_side(data: Path) -> None:
    """A label that MUSE calls right lies in a region that we call right."""
    with (data / "ixi_t1_2mm" / "region_names.csv").open() as file:
        names = {int(row["Index"]): row["Name"].lower() for row in csv.DictReader(file)}
    for region in REGIONS:
        for label in region.muse:
            words = names[label].replace("_", " ").split()
            sides = {"left", "right", "l", "r"} & set(words)
            assert {"left": "l", "right": "r"}.get(region.side, "") == "".join(s[0] for s in sides)


def test_what_a_brain_mirrored_twice_shows_is_the_brain() -> None:
    """Mirroring exchanges sides and leaves the middle."""
    mirror = mirrored_labels()
    assert [mirror[m] for m in mirror] == list(range(len(REGIONS) + 1))
    for value, region in enumerate(REGIONS, start=1):
        assert (mirror[value] == value) == (region.side == "midline")
        assert REGIONS[mirror[value] - 1].name == region.name


def test_volumes_count_voxels_in_cubic_millimetres() -> None:
    """Three voxels of 2 x 2 x 3 mm are 36 mm3; an absent region has none."""
    region_map = np.zeros((4, 4, 4), np.uint8)
    region_map[0, 0, :3] = 1
    volumes = region_volumes_mm3(region_map, (2.0, 2.0, 3.0))
    assert volumes[REGIONS[0].key] == 36.0
    assert sum(volumes.values()) == 36.0


def test_the_atlas_of_a_real_head_has_its_left_on_the_left(data: Path, unseen: list[str]) -> None:
    """Every paired region lies further to the right than its partner, in RAS+ coordinates."""
    image = nib.load(data / "ixi_t1_2mm" / "seg" / f"{unseen[0]}.nii.gz")
    region_map = from_muse(np.asarray(image.dataobj).astype(np.int32))
    x = {
        region.key: (np.argwhere(region_map == value).mean(0) @ image.affine[0, :3])
        for value, region in enumerate(REGIONS, start=1)
    }
    for region in REGIONS:
        if region.side == "left":
            assert x[region.key] < x[f"right {region.name}"], region.name
