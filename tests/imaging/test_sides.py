"""Left is the patient's left, however a scan is stored: 48 orders of axes, one lopsided brain."""

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from phantoms import affine_of, world_of
from scipy.ndimage import affine_transform, binary_dilation
from scipy.spatial.transform import Rotation

from imaging.prepare import prepare, resample, to_ras
from imaging.read import read_nifti
from imaging.regions import REGION_INDEX, Segmentation, region_volumes_mm3
from imaging.scan import Scan
from imaging.segment import Engine, segment

HEAD = Path(__file__).parents[2] / "sample_data" / "site_cases" / "scans" / "fca26c04ed7d.nii.gz"
AXES = ["".join(p) for three in product("RL", "AP", "SI") for p in permutations(three)]
TILT = Rotation.from_euler("xyz", [9, -6, 12], degrees=True).as_matrix()
BLOB_MM = np.array([-21.0, 15.0, 9.0])  # left, front, up
COMPARED = ("lateral ventricle", "hippocampus", "thalamus", "cerebellum", "temporal cortex")


def brightest_mm(scan: Scan) -> np.ndarray:
    """World coordinates of the middle of what is brightest."""
    weight = np.clip(scan.voxels - 0.5 * scan.voxels.max(), 0, None)
    voxel = np.array([np.average(n, weights=weight) for n in np.indices(weight.shape)])
    middle: np.ndarray = scan.affine[:3, :3] @ voxel + scan.affine[:3, 3]
    return middle


@pytest.mark.parametrize("axes", AXES)
def test_a_blob_stays_where_it_is_in_the_world(axes: str, tmp_path: Path) -> None:
    """Written, read, reoriented, resampled and prepared, straight and oblique: within 0.3 mm."""
    shape = (44, 50, 40)
    for turn in (np.eye(3), TILT):
        affine = affine_of(axes, shape, (2.5, 2.2, 3.0))
        affine[:3] = turn @ affine[:3]
        distance = np.linalg.norm(world_of(shape, affine) - BLOB_MM, axis=-1)
        voxels = 20 + 200 * np.exp(-(distance**2) / (2 * 5.0**2))
        nib.Nifti1Image(voxels.astype(np.float32), affine).to_filename(tmp_path / "head.nii")
        scan = read_nifti(tmp_path / "head.nii")
        for step in (to_ras, resample, prepare):
            seen = step(scan)
            assert np.linalg.norm(brightest_mm(seen) - BLOB_MM) < 0.3, step.__name__
        assert (np.diag(seen.affine)[:3] > 1.7).all()  # the axes grow to the right, front and top


@pytest.fixture(scope="module")
def lopsided(engine: Engine) -> nib.Nifti1Image:
    """A synthetic head whose ventricle is far wider on the side where world x is negative."""
    scan = read_nifti(HEAD)
    seen = segment(engine, prepare(scan))
    keys = ("left lateral ventricle", "right lateral ventricle")
    ventricles = np.isin(seen.region_map, [REGION_INDEX[key] + 1 for key in keys])
    x_mm = world_of(seen.region_map.shape, seen.affine)[..., 0]
    middle_mm = x_mm[seen.region_map > 0].mean()
    wide = binary_dilation(ventricles & (x_mm < middle_mm - 2), iterations=2)
    wide &= (x_mm < middle_mm - 2) & (seen.region_map > 0)
    step = np.linalg.inv(seen.affine) @ scan.affine
    where = affine_transform(
        wide.astype(np.float32), step[:3, :3], step[:3, 3], scan.voxels.shape, order=1
    )
    inside = affine_transform(
        ventricles.astype(np.float32), step[:3, :3], step[:3, 3], scan.voxels.shape, order=1
    )
    fluid = np.median(scan.voxels[inside > 0.9])
    return nib.Nifti1Image(scan.voxels * (1 - where) + fluid * where, scan.affine)


def stored(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    """The same head in another order of axes; ``oblique`` is a grid at an angle, stored LPS."""
    voxels, affine = np.asarray(image.dataobj), image.affine
    if axes == "oblique":
        turned = np.eye(4)
        turned[:3, :3] = TILT @ affine[:3, :3]
        half = (np.array(voxels.shape) - 1) / 2
        turned[:3, 3] = affine[:3, :3] @ half + affine[:3, 3] - turned[:3, :3] @ half
        step = np.linalg.inv(affine) @ turned
        voxels = affine_transform(voxels, step[:3, :3], step[:3, 3], order=3).clip(min=0)
        image, axes = nib.Nifti1Image(voxels, turned), "LPS"
    here = nib.io_orientation(image.affine)
    there = nib.orientations.axcodes2ornt(tuple(axes))
    return image.as_reoriented(nib.orientations.ornt_transform(here, there))


def volumes_of(engine: Engine, image: nib.Nifti1Image, folder: Path) -> dict[str, float]:
    """Volume of every region of a head that takes the way from a file."""
    image.to_filename(folder / "head.nii.gz")
    seen: Segmentation = segment(engine, prepare(read_nifti(folder / "head.nii.gz")))
    return region_volumes_mm3(seen.region_map, seen.spacing_mm)


@pytest.fixture(scope="module")
def as_ras(
    engine: Engine, lopsided: nib.Nifti1Image, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, float]:
    """The lopsided head's volumes when it is stored RAS."""
    return volumes_of(engine, stored(lopsided, "RAS"), tmp_path_factory.mktemp("ras"))


def test_the_wide_ventricle_of_a_lopsided_head_is_the_left_one(as_ras: dict[str, float]) -> None:
    """The ventricle was widened where the world's x is negative, which is the patient's left."""
    assert as_ras["left lateral ventricle"] > 1.4 * as_ras["right lateral ventricle"]


@pytest.mark.parametrize(
    ("axes", "tolerance"), [("LAS", 0.01), ("LPS", 0.01), ("PSR", 0.01), ("oblique", 0.12)]
)
def test_a_lopsided_head_is_measured_alike_however_it_is_stored(
    engine: Engine,
    lopsided: nib.Nifti1Image,
    as_ras: dict[str, float],
    axes: str,
    tolerance: float,
    tmp_path: Path,
) -> None:
    """Each side keeps its name and its volume; an angle costs one interpolation more."""
    volumes = volumes_of(engine, stored(lopsided, axes), tmp_path)
    for name in COMPARED:
        for key in (f"left {name}", f"right {name}"):
            assert volumes[key] == pytest.approx(as_ras[key], rel=tolerance), key
