"""What a neurologist sees first must be right: sides, places, scale, and nothing of the patient."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from phantoms import affine_of, world_of

from imaging import pictures
from imaging.norms import load_norms
from imaging.pictures import (
    COLOURS,
    Measured,
    Slice,
    choose_slices,
    draw_overlay,
    draw_volumes,
    plotted_regions,
    sample,
    volume_caption,
    volume_plot,
    volume_plots,
)
from imaging.read import write_clean, write_region_map
from imaging.regions import REGIONS
from imaging.scan import Scan

NORMS = load_norms()
SHAPE = (60, 72, 60)
# Centres of the hippocampi in the world; a ball of water glows on the patient's right.
RIGHT_MM, LEFT_MM, LAMP_MM = (27.0, -21.0, -14.0), (-23.0, -19.0, -12.0), (44.0, -20.0, 10.0)


def ball(world: np.ndarray, centre: tuple[float, ...], radius_mm: float) -> np.ndarray:
    """Where the world is near a point."""
    return np.linalg.norm(world - centre, axis=-1) < radius_mm


def tilted(axes: str, spacing_mm: tuple[float, ...], degrees: float = 0.0) -> np.ndarray:
    """An affine whose grid is turned about all axes."""
    affine = affine_of(axes, SHAPE, spacing_mm)
    for axis in range(3):
        a, b = (n for n in range(3) if n != axis)
        turn = np.eye(4)
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cos, -sin, sin, cos
        affine = turn @ affine
    return affine


def head(affine: np.ndarray) -> Scan:
    """A head with a lamp on the patient's right."""
    world = world_of(SHAPE, affine)
    voxels = 40.0 * (np.linalg.norm(world / [70, 85, 65], axis=-1) < 1) + 60.0 * ball(
        world, LAMP_MM, 9.0
    )
    return Scan(voxels.astype(np.float32), affine)


def regions(affine: np.ndarray, *, without: str = "") -> np.ndarray:
    """White matter with two hippocampi."""
    world = world_of(SHAPE, affine)
    label = {key: n for n, key in enumerate((r.key for r in REGIONS), start=1)}
    found = np.where(ball(world, (2.0, -10.0, 0.0), 50.0), label["left cerebral white matter"], 0)
    for key, centre in (("right hippocampus", RIGHT_MM), ("left hippocampus", LEFT_MM)):
        if key != without:
            found[ball(world, centre, 9.0)] = label[key]
    return found.astype(np.uint8)


GRIDS = [("RAS", 0.0), ("LPI", 0.0), ("PSR", 0.0), ("RAS", 17.0), ("LAS", 17.0)]


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Figures instead of PNGs."""
    figures: list[Figure] = []
    monkeypatch.setattr(pictures, "png", lambda figure: figures.append(figure) or b"")
    return figures


@pytest.mark.parametrize(("axes", "degrees"), GRIDS)
def test_a_plane_of_the_world_is_the_same_from_every_grid(axes, degrees):
    """Whatever order and angle the voxels are stored in, the lamp shines at its place."""
    scan, millimetres = head(tilted(axes, (2.5, 2.0, 3.0), degrees)), np.arange(-60.0, 61.0)
    seen = sample(scan.voxels, scan.affine, Slice(1, LAMP_MM[1]), millimetres, millimetres)
    rows, columns = np.nonzero(seen > 80)
    middle = millimetres[columns].mean(), millimetres[rows].mean()
    assert np.allclose(middle, (LAMP_MM[0], LAMP_MM[2]), atol=1.0)


@pytest.mark.parametrize(("axes", "degrees"), GRIDS)
def test_slices_go_through_the_hippocampi(axes, degrees):
    """Coronal and axial through the middle of both, sagittal through each."""
    affine = tilted(axes, (2.5, 2.0, 3.0), degrees)
    coronal, right, left, axial = choose_slices(regions(affine), affine)
    assert [s.axis for s in (coronal, right, left, axial)] == [1, 0, 0, 2]
    places = [s.at_mm for s in (coronal, right, left, axial)]
    assert np.allclose(places, [-20.0, RIGHT_MM[0], LEFT_MM[0], -13.0], atol=1.0)
    assert (right.position, right.side) == ("R 27 mm", "right")


def test_a_missing_hippocampus_is_looked_for_across_the_midline():
    """The slice still lies on its side of the brain."""
    affine = tilted("RAS", (2.5, 2.0, 3.0))
    _, right, left, _ = choose_slices(regions(affine, without="left hippocampus"), affine)
    assert left.at_mm < 0 < right.at_mm


def test_an_empty_region_map_still_gives_slices_of_the_scan():
    """Nothing was found: the middle of the grid is drawn, without borders."""
    affine = tilted("RAS", (2.5, 2.0, 3.0))
    assert draw_overlay(head(affine), np.zeros(SHAPE, np.uint8), affine).startswith(b"\x89PNG")


@pytest.mark.parametrize(("axes", "degrees"), GRIDS)
def test_the_patients_right_is_on_the_left_of_the_picture_and_says_so(axes, degrees):
    """In pixels: the lamp on the right of the head shines left of the middle of the coronal."""
    affine = tilted(axes, (2.5, 2.0, 3.0), degrees)
    labels = tilted("RAS", (2.0, 2.0, 2.0))
    picture = draw_overlay(head(affine), regions(labels), labels, legend=())
    pixels = imread(io.BytesIO(picture))[..., :3]
    coronal = pixels[pixels.shape[0] // 2 :, : pixels.shape[1] // 5]  # below, without borders
    white = np.ptp(coronal, axis=2) < 0.02
    lamp = (coronal.mean(axis=2) > 0.95) & white
    lamp[int(lamp.shape[0] * 0.7) :] = False  # the bar of 20 mm and the caption
    assert np.nonzero(lamp)[1].mean() < 0.4 * pixels.shape[1] / 4.4


def test_every_slice_carries_its_letters_its_place_and_a_scale(drawn):
    """R and L at the ends of coronal and axial slices, the side itself on the sagittal ones."""
    affine = tilted("RAS", (2.5, 2.0, 3.0))
    draw_overlay(head(affine), regions(affine), affine)
    written = [{text.get_text() for text in axes.texts} for axes in drawn[0].axes]
    coronal, right, left, axial = written[::2]
    assert coronal >= {"R", "L", "P 20 mm", "20 mm"}
    assert axial >= {"R", "L", "I 13 mm", "20 mm"}
    assert right >= {"R", "A", "P", "R 27 mm"}
    assert left >= {"L", "A", "P", "L 23 mm"}
    assert "L" not in right
    assert all("20 mm" in words for words in written)
    for axes in drawn[0].axes:
        x, _ = next(t for t in axes.texts if t.get_text() in "RA" and t.get_position()[1] == 0.5
                    ).get_position()  # fmt: skip
        assert x < 0.5
        assert axes.get_xlim()[0] > axes.get_xlim()[1]  # + (right, front) on the left


def test_a_millimetre_is_as_long_in_every_slice_and_direction(drawn):
    """The bar means the same everywhere."""
    affine = tilted("RAS", (2.5, 2.0, 3.0))
    draw_overlay(head(affine), regions(affine), affine)
    inches = drawn[0].get_size_inches()
    scales = [
        (abs(np.ptp(axes.get_xlim())), abs(np.ptp(axes.get_ylim())))
        / (axes.get_position().size * inches)
        for axes in drawn[0].axes
    ]
    assert np.allclose(scales, pictures.MM_PER_INCH)


def test_a_border_runs_where_the_region_ends(drawn):
    """In mm, on a scan and a map of different, oblique grids."""
    labels = tilted("LAS", (2.0, 2.0, 2.0), 17.0)
    draw_overlay(head(tilted("RAS", (2.5, 2.0, 3.0))), regions(labels), labels)
    coronal = drawn[0].axes[0]
    paths = [path for c in coronal.collections for path in c.get_paths() if len(path.vertices)]
    radii = [
        np.linalg.norm(path.vertices - [centre[0], centre[2]], axis=1)
        for path, centre in zip(paths, sorted((RIGHT_MM, LEFT_MM)), strict=True)
    ]
    assert all(abs(radius.mean() - 9.0) < 1.0 for radius in radii)


def test_regions_that_touch_have_different_colours(data):
    """In a real brain, so that a border can be seen from both sides."""
    from imaging.labelled import read_pair

    _, found = read_pair(data / "ixi_t1_2mm", "IXI012-HH-1211")
    touching: dict[frozenset[str], int] = {}
    names = ["", *(region.name for region in REGIONS)]
    for axis in range(3):
        first, second = np.swapaxes(found, 0, axis)[:-1], np.swapaxes(found, 0, axis)[1:]
        counts = np.bincount(first.ravel().astype(int) * 64 + second.ravel(), minlength=64 * 64)
        for (a, b), n in np.ndenumerate(counts.reshape(64, 64)):
            if n and a and b and names[a] != names[b]:
                pair = frozenset((names[a], names[b]))
                touching[pair] = touching.get(pair, 0) + int(n)
    same = {p for p, n in touching.items() if n > 300 and len({COLOURS[name] for name in p}) == 1}
    assert {p for p in same if not any("ventricle" in name for name in p)} == set()


def brain(age_years: float | None = 72.0, sex: str = "female") -> Measured:
    """Volumes in the middle of the norms of a woman of 72, but for a small left hippocampus."""
    asked = (50.0, NORMS.middle_head_mm3, "female", np.array([72.0]))
    volumes = {key: float(NORMS.curve(key, *asked)[0][0]) for key in NORMS.regions}
    return Measured({**volumes, "left hippocampus": 0.7 * volumes["left hippocampus"]},
                    age_years, sex)  # fmt: skip


def test_the_usual_structures_are_plotted_and_those_farthest_from_the_norm():
    """A fourth ventricle of three times its size is worth a plot."""
    wide = replace(brain(), volumes_mm3={**brain().volumes_mm3, "fourth ventricle": 9000.0})
    shown = plotted_regions(wide, NORMS)
    always = {f"{side} {name}" for side in ("left", "right") for name in pictures.MEASURED}
    assert set(shown) > always
    assert shown[len(always)] == "fourth ventricle"
    assert len(shown) == len(always) + pictures.N_DEVIANT


def test_the_patients_point_lies_among_the_curves_where_its_centile_says():
    """Below the fifth curve at a centile below five, with the curves in their order."""
    plot = volume_plot("left hippocampus", brain(), [], NORMS)
    at = int(np.abs(plot.ages - 72).argmin())
    values = [curve.mm3[at] for curve in plot.curves]
    assert values == sorted(values)
    assert plot.centile is not None
    assert plot.centile < 5
    assert plot.points[-1][1] < values[0]
    assert all(curve.low[at] < curve.mm3[at] < curve.high[at] for curve in plot.curves)


def test_an_earlier_scan_is_drawn_with_a_line_to_this_one(drawn):
    """Two points, the older one first."""
    plots = volume_plots(brain(72.0), [brain(70.0)], NORMS)
    draw_volumes(plots)
    assert [age for age, _ in plots[0].points] == [70.0, 72.0]
    lines = [list(line.get_xdata()) for line in drawn[0].axes[0].lines]
    assert [70.0, 72.0] in lines


@pytest.mark.parametrize(
    ("age", "sex", "said", "n_curves"),
    [(99.0, "female", "reach from", 5), (None, "male", "age at the scan is unknown", 5),
     (70.0, "other", "need the sex", 0)],
)  # fmt: skip
def test_without_a_norm_the_picture_says_why(age, sex, said, n_curves):
    """No centile is invented outside the people who were measured."""
    patient = brain(age, sex)
    plots = volume_plots(patient, [], NORMS)
    assert said in volume_caption(patient, NORMS)
    assert {plot.centile for plot in plots} == {None}
    assert {len(plot.curves) for plot in plots} == {n_curves}
    assert draw_volumes(plots, volume_caption(patient, NORMS)).startswith(b"\x89PNG")


def test_two_threads_draw_the_same_pictures_as_one():
    """The page draws for several physicians at a time."""
    affine = tilted("RAS", (2.5, 2.0, 3.0))
    scan, labels = head(affine), regions(affine)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: draw_overlay(scan, labels, affine), range(4)))
    assert set(made) == {draw_overlay(scan, labels, affine)}


def test_the_command_writes_both_pictures_and_nothing_of_the_file_names(tmp_path, monkeypatch):
    """A file may be called after the patient; a picture is not."""
    affine = tilted("RAS", (2.5, 2.0, 3.0))
    folder = tmp_path / "Ada_Example"
    folder.mkdir()
    write_clean(head(affine), folder / "t1.nii.gz")
    write_region_map(regions(affine), affine, folder / "map.nii.gz")
    monkeypatch.setattr("sys.argv", ["pictures", str(folder / "t1.nii.gz"),
                        str(folder / "map.nii.gz"), "--age", "72", "--sex", "female",
                        "--out", str(tmp_path / "out")])  # fmt: skip
    pictures.main()
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(made) == {"overlay.png", "volumes.png"}
    assert not any(re.search(rb"Ada|tEXt|iTXt|zTXt|tIME", content) for content in made.values())


def test_every_region_has_a_colour():
    """The page's viewer takes its colours from here."""
    assert set(COLOURS) == {region.name for region in REGIONS}
