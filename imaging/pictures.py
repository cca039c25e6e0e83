"""Pictures of a scan: its regions drawn over its slices, and its volumes against age.

    python -m imaging.pictures SCAN.nii.gz REGIONS.nii.gz --age 72 --sex female --out FOLDER

writes ``overlay.png`` (slices through the hippocampi, with and without the borders of the
regions) and ``volumes.png`` (volumes among the centile curves of healthy adults). With
``--earlier REGIONS.nii.gz AGE`` the volumes of an earlier scan are drawn too.

Slices are planes of the world (RAS+ mm), so scan and region map may lie on different and on
oblique grids. They are seen as radiologists see them, the patient's right on the picture's
left and the front on the left of a sagittal slice. Nothing in a picture names the patient.
"""

import argparse
import io
import logging
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.ndimage import gaussian_filter, map_coordinates

from imaging.norms import SEXES, Norms, load_norms
from imaging.read import read_nifti
from imaging.regions import REGIONS, Side, region_volumes_mm3
from imaging.scan import Scan

log = logging.getLogger(__name__)

CAPTION = "Research software, not a medical device"

# Okabe and Ito's colours, which people with any kind of colour vision tell apart. Both sides
# of a structure share one; structures that touch have different ones.
YELLOW, ORANGE, VERMILION, PURPLE = "#f0e442", "#e69f00", "#d55e00", "#cc79a7"
SKY, BLUE, GREEN, GREY = "#56b4e9", "#0072b2", "#009e73", "#bbbbbb"
COLOURS = {
    "hippocampus": YELLOW, "amygdala": VERMILION, "parahippocampal gyrus": PURPLE,
    "lateral ventricle": SKY, "inferior lateral ventricle": SKY, "caudate": ORANGE,
    "putamen": GREEN, "pallidum": YELLOW, "accumbens": VERMILION, "thalamus": PURPLE,
    "ventral diencephalon": ORANGE, "basal forebrain": SKY, "insula": ORANGE,
    "anterior cingulate": SKY, "posterior cingulate": ORANGE, "precuneus": YELLOW,
    "frontal cortex": GREEN, "parietal cortex": VERMILION, "temporal cortex": SKY,
    "occipital cortex": PURPLE, "cerebral white matter": GREY, "cerebellum": GREEN,
    "third ventricle": SKY, "fourth ventricle": SKY, "brain stem": VERMILION,
    "cerebellar vermis": YELLOW, "corpus callosum": YELLOW, "cortical cerebrospinal fluid": BLUE,
}  # fmt: skip
EMPHASIZED = (
    "hippocampus", "amygdala", "parahippocampal gyrus", "lateral ventricle",
    "inferior lateral ventricle",
)  # fmt: skip
LEGEND = EMPHASIZED[:4]  # the last one has the colour of the other ventricle
# Their borders are the outside of all that is drawn.
_UNDRAWN = ("cerebral white matter", "cortical cerebrospinal fluid")

MARGIN_MM = 14.0  # of head around the brain
IMAGE_STEP_MM = 0.5  # of the picture's samples of the scan
BORDER_STEP_MM = 1.0  # of its samples of the region map, half a voxel of it
SMOOTH = 0.8  # of a border's steps, in those samples: less than half a voxel of the region map
MM_PER_INCH = 42.0
_ACROSS = {0: (1, 2), 1: (0, 2), 2: (0, 1)}  # horizontal and vertical world axis of a slice
_ENDS = ("LR", "PA", "IS")  # of the world's axes, the negative one first

CENTILES = (5, 25, 50, 75, 95)
MEASURED = ("hippocampus", "amygdala", "lateral ventricle")  # always drawn against age
DRAWN_AGES = (20.0, 90.0)  # where the sex, and so the norm, is unknown
N_DEVIANT = 2  # more regions drawn: those farthest from the norm

Interval = tuple[float, float]


# -- slices ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """A plane of the world.

    Attributes:
        axis: World axis that is constant: 0 sagittal, 1 coronal, 2 axial.
        at_mm: Where on it, RAS+.
        side: Of the structure that a sagittal slice goes through.
    """

    axis: int
    at_mm: float
    side: Side = "midline"

    @property
    def position(self) -> str:
        """Where it lies, in the letters of the viewer.

        Example:
            >>> Slice(0, -24.3).position
            'L 24 mm'
        """
        return f"{_ENDS[self.axis][int(self.at_mm >= 0)]} {abs(self.at_mm):.0f} mm"


def sample(
    volume: Shaped[np.ndarray, "i j k"],
    affine: Float[np.ndarray, "4 4"],
    plane: Slice,
    horizontal_mm: Float[np.ndarray, " column"],
    vertical_mm: Float[np.ndarray, " row"],
    order: int = 1,
) -> Shaped[np.ndarray, "row column"]:
    """A volume's values on a plane of the world; 0 outside the volume.

    Args:
        volume: On any grid.
        affine: Voxel index to RAS+ mm; may be oblique.
        plane: Which plane.
        horizontal_mm: World coordinates of the columns.
        vertical_mm: World coordinates of the rows.
        order: 1 interpolates, which intensities want; 0 takes the nearest voxel, which labels want.
    """
    horizontal, vertical = _ACROSS[plane.axis]
    world = np.empty((4, len(vertical_mm), len(horizontal_mm)))
    world[plane.axis], world[3] = plane.at_mm, 1.0
    world[horizontal], world[vertical] = horizontal_mm[None, :], vertical_mm[:, None]
    index = np.tensordot(np.linalg.inv(affine)[:3], world, axes=1)
    sampled: Shaped[np.ndarray, "row column"] = map_coordinates(volume, index, order=order)
    return sampled


def choose_slices(
    region_map: UInt8[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]
) -> tuple[Slice, ...]:
    """Coronal through both hippocampi, sagittal through the right and the left, axial.

    A hippocampus that was not found is looked for where the other one's mirror image would be,
    and both in the middle of the brain.
    """
    found = {
        region.side: centre_mm(region_map == n, affine)
        for n, region in enumerate(REGIONS, start=1)
        if region.name == "hippocampus" and (region_map == n).any()
    }
    brain = centre_mm(region_map > 0, affine)
    mirror = np.array([-1.0, 1.0, 1.0])
    right = found.get("right", found.get("left", brain) * mirror + [2 * brain[0], 0, 0])
    left = found.get("left", right * mirror + [2 * brain[0], 0, 0])
    middle = (left + right) / 2
    return (
        Slice(1, float(middle[1])),
        Slice(0, float(right[0]), "right"),
        Slice(0, float(left[0]), "left"),
        Slice(2, float(middle[2])),
    )


def centre_mm(
    inside: Bool[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, " 3"]:
    """Mean world position of some voxels; of the whole grid where there are none."""
    voxels = np.argwhere(inside)
    index = voxels.mean(axis=0) if len(voxels) else (np.array(inside.shape) - 1) / 2
    centre: Float[np.ndarray, " 3"] = affine[:3, :3] @ index + affine[:3, 3]
    return centre


def _box_mm(
    region_map: UInt8[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "2 3"]:
    """Lowest and highest world coordinates of the brain with a margin; of the grid without one."""
    voxels = np.argwhere(region_map > 0)
    if not len(voxels):
        voxels = np.argwhere(np.ones((2, 2, 2))) * (np.array(region_map.shape) - 1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    box: Float[np.ndarray, "2 3"] = np.stack(
        [world.min(axis=0) - MARGIN_MM, world.max(axis=0) + MARGIN_MM]
    )
    return box


# -- the overlay -------------------------------------------------------------------------


def draw_overlay(
    scan: Scan,
    region_map: UInt8[np.ndarray, "i j k"],
    region_affine: Float[np.ndarray, "4 4"],
    caption: str = CAPTION,
    legend: Sequence[str] = LEGEND,
) -> bytes:
    """Slices through the hippocampi, above with the borders of the regions, below without.

    Args:
        scan: As read, on any grid.
        region_map: Its regions, on any other grid.
        region_affine: Of the region map; voxel index to RAS+ mm.
        caption: Printed below; nothing in it may name the patient.
        legend: Structures whose names are printed beside it in their colours.

    Returns:
        A PNG.
    """
    box = _box_mm(region_map, region_affine)
    sizes = (box[1] - box[0]) / MM_PER_INCH
    slices = choose_slices(region_map, region_affine)
    widths = [sizes[_ACROSS[plane.axis][0]] for plane in slices]
    gap, row, foot = 0.06, float(sizes.max()), 0.42
    figure = Figure((sum(widths) + gap * (len(slices) - 1), 2 * row + gap + foot), 100)
    figure.set_facecolor("black")
    window = _grey_window(scan, slices[0], box)
    left = 0.0
    for plane, width in zip(slices, widths, strict=True):
        for bottom, bordered in ((foot + row + gap, True), (foot, False)):
            height = sizes[_ACROSS[plane.axis][1]]
            panel = _panel(figure, (left, bottom + (row - height) / 2, width, height))
            _draw_slice(panel, scan, plane, box, window)
            if bordered:
                _draw_borders(panel, region_map, region_affine, plane, box)
            _draw_letters(panel, plane)
        left += width + gap
    _write_foot(figure, caption, legend)
    return png(figure)


def _write_foot(figure: Figure, caption: str, legend: Sequence[str]) -> None:
    """The caption on the left, the legend on the right."""
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, 0.12 / height, caption, color="#dddddd", fontsize=9)
    right = 1.0 - 0.1 / width
    for name in reversed(legend):
        figure.text(right, 0.12 / height, name, color=COLOURS[name], fontsize=9, ha="right")
        right -= (0.075 * len(name) + 0.15) / width  # a letter of this size is narrower


def _panel(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    """Empty axes at a place given in inches: left, bottom, width, height."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = inches
    panel = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    panel.set_axis_off()
    return panel


def _grey_window(scan: Scan, plane: Slice, box: Float[np.ndarray, "2 3"]) -> tuple[float, float]:
    """Intensities shown as black and as white: the coronal slice's, without its brightest fat."""
    columns, rows = (_steps(box, axis, 2.0) for axis in _ACROSS[plane.axis])
    shown = sample(scan.voxels, scan.affine, plane, columns, rows)
    head = shown[shown > shown.mean()]
    if not head.size:
        return float(shown.min()), float(shown.max()) + 1.0
    return float(np.percentile(shown, 2)), 1.1 * float(np.percentile(head, 98))


def _steps(box: Float[np.ndarray, "2 3"], axis: int, step_mm: float) -> Float[np.ndarray, " step"]:
    """World coordinates of samples along one axis of the box."""
    steps: Float[np.ndarray, " step"] = np.arange(box[0, axis], box[1, axis] + step_mm / 2, step_mm)
    return steps


def _draw_slice(
    panel: Axes,
    scan: Scan,
    plane: Slice,
    box: Float[np.ndarray, "2 3"],
    window: tuple[float, float],
) -> None:
    """The scan in axes that count world mm, from right to left and from front to back."""
    horizontal, vertical = _ACROSS[plane.axis]
    columns, rows = (_steps(box, axis, IMAGE_STEP_MM) for axis in (horizontal, vertical))
    shown = sample(scan.voxels, scan.affine, plane, columns, rows)
    edges = (columns[0], columns[-1], rows[0], rows[-1])
    panel.imshow(
        shown, cmap="gray", vmin=window[0], vmax=window[1], extent=edges, origin="lower",
        interpolation="bilinear", aspect="auto",
    )  # fmt: skip
    panel.set_xlim(box[1, horizontal], box[0, horizontal])
    panel.set_ylim(box[0, vertical], box[1, vertical])


def _draw_borders(
    panel: Axes,
    region_map: UInt8[np.ndarray, "i j k"],
    affine: Float[np.ndarray, "4 4"],
    plane: Slice,
    box: Float[np.ndarray, "2 3"],
) -> None:
    """A line around every region, stronger around those that matter most."""
    columns, rows = (_steps(box, axis, BORDER_STEP_MM) for axis in _ACROSS[plane.axis])
    labels = sample(region_map, affine, plane, columns, rows, order=0)
    for n in np.unique(labels[labels > 0]):
        name = REGIONS[n - 1].name
        if name not in _UNDRAWN:
            strong = name in EMPHASIZED
            panel.contour(
                columns, rows, gaussian_filter((labels == n).astype(np.float32), SMOOTH),
                levels=[0.5], colors=[COLOURS[name]], linewidths=1.4 if strong else 0.7,
            )  # fmt: skip


def _draw_letters(panel: Axes, plane: Slice) -> None:
    """Where right and left are, where the slice lies, and a bar of 20 mm."""
    across = _ENDS[_ACROSS[plane.axis][0]]
    _write(panel, 0.02, 0.5, across[1], 15.0)
    _write(panel, 0.98, 0.5, across[0], 15.0, ha="right")
    side = {"right": "R", "left": "L"}.get(plane.side, "")
    _write(panel, 0.02, 0.97, side, 15.0, va="top")
    _write(panel, 0.98, 0.97, plane.position, 10.0, ha="right", va="top")
    right, bottom = panel.get_xlim()[1] + 5.0, panel.get_ylim()[0] + 5.0
    panel.plot([right, right + 20.0], [bottom, bottom], color="white", linewidth=2)
    panel.text(right + 10.0, bottom + 2.0, "20 mm", color="white", fontsize=8, ha="center")


def _write(
    panel: Axes, x: float, y: float, text: str, size: float, *, ha: str = "left", va: str = "center"
) -> None:
    """A word at a place in shares of the panel, readable on black and on white."""
    outline = [withStroke(linewidth=2.5, foreground="black")]
    panel.text(
        x, y, text, transform=panel.transAxes, color=YELLOW, fontsize=size, fontweight="bold",
        ha=ha, va=va, path_effects=outline,
    )  # fmt: skip


# -- volumes against age -----------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """The volumes of one scan and what norms need to know of the patient.

    Attributes:
        volumes_mm3: By region key of `REGIONS`; a region that was not found is not a key.
        age_years: At the scan; None where unknown.
        sex: ``female`` or ``male``; anything else counts as unknown.
    """

    volumes_mm3: Mapping[str, float]
    age_years: float | None
    sex: str | None

    @property
    def head_mm3(self) -> float:
        """Head size: all regions together."""
        return sum(self.volumes_mm3.values())


@dataclass(frozen=True, eq=False)
class Curve:
    """One centile of healthy people over age, with the 95 % interval of the curve itself.

    Attributes:
        centile: 0..100.
        mm3: Volume at each age.
        low: Lower end of the interval.
        high: Upper end.
    """

    centile: int
    mm3: Float[np.ndarray, " age"]
    low: Float[np.ndarray, " age"]
    high: Float[np.ndarray, " age"]


@dataclass(frozen=True, eq=False)
class VolumePlot:
    """A region's volume among those of healthy people of the same sex and head size.

    Attributes:
        region: Its key.
        ages: Of the curves, years; the ages that the norms cover.
        curves: By rising centile; none where the sex is unknown.
        points: Age and volume in cubic mm of each scan whose age is known, this one last.
        volume_mm3: This scan's.
        centile: This scan's; None where there is no norm.
        interval: Where the centile lies with 95 % confidence.
    """

    region: str
    ages: Float[np.ndarray, " age"]
    curves: tuple[Curve, ...]
    points: tuple[tuple[float, float], ...]
    volume_mm3: float
    centile: float | None
    interval: Interval | None


def plotted_regions(measured: Measured, norms: Norms) -> tuple[str, ...]:
    """Hippocampi, amygdalae, lateral ventricles, and the regions farthest from the norm."""
    always = [r.key for r in REGIONS if r.name in MEASURED and r.key in measured.volumes_mm3]
    others = [key for key in measured.volumes_mm3 if key not in always]
    z = {key: _z(key, measured, norms) for key in others}
    far = sorted((key for key in others if z[key] is not None), key=lambda k: -abs(z[k] or 0.0))
    return (*always, *far[:N_DEVIANT])


def _z(region: str, measured: Measured, norms: Norms) -> float | None:
    """Deviation of one region."""
    volume = measured.volumes_mm3[region]
    return norms.z(region, volume, measured.head_mm3, measured.age_years, measured.sex)


def volume_plot(
    region: str, measured: Measured, earlier: Sequence[Measured], norms: Norms
) -> VolumePlot:
    """Put one region among healthy people's.

    Args:
        region: Key of a region that was found.
        measured: This scan.
        earlier: The patient's earlier scans, oldest first.
        norms: Of healthy people.
    """
    head, sex, volume = measured.head_mm3, measured.sex, measured.volumes_mm3[region]
    youngest, oldest = norms.ages.get(sex or "", DRAWN_AGES)
    ages, curves = np.linspace(youngest, oldest, 60), []
    if sex is not None and sex in norms.ages:
        curves = [Curve(c, *norms.curve(region, float(c), head, sex, ages)) for c in CENTILES]
    points = tuple(
        (m.age_years, m.volumes_mm3[region])
        for m in (*earlier, measured)
        if m.age_years is not None and region in m.volumes_mm3
    )
    asked = (region, volume, head, measured.age_years, sex)
    return VolumePlot(
        region, ages, tuple(curves), points, volume, norms.centile(*asked), norms.interval(*asked)
    )


def volume_plots(
    measured: Measured, earlier: Sequence[Measured], norms: Norms
) -> tuple[VolumePlot, ...]:
    """One plot for each of `plotted_regions`."""
    return tuple(
        volume_plot(region, measured, earlier, norms) for region in plotted_regions(measured, norms)
    )


def draw_volumes(plots: Sequence[VolumePlot], caption: str = CAPTION) -> bytes:
    """Volumes among the centile curves, one small plot a region.

    Args:
        plots: At least one.
        caption: Printed below; nothing in it may name the patient.

    Returns:
        A PNG.
    """
    columns = min(4, len(plots))
    rows = -(-len(plots) // columns)
    lines = textwrap.wrap(caption, 45 * columns)
    foot = 0.25 + 0.2 * len(lines)
    figure = Figure((3.6 * columns, 3.0 * rows + foot), 110)
    for n, plot in enumerate(plots, start=1):
        _draw_plot(figure.add_subplot(rows, columns, n), plot)
    figure.tight_layout(rect=(0, foot / figure.get_figheight(), 1, 1))
    figure.text(0.01, 0.12 / figure.get_figheight(), "\n".join(lines), color="#444444", fontsize=9)
    return png(figure)


def _draw_plot(axes: Axes, plot: VolumePlot) -> None:
    """Curves with the band of the outer ones, and the patient's points joined by a line."""
    for curve in plot.curves:
        if curve.centile in (CENTILES[0], CENTILES[-1]):
            axes.fill_between(
                plot.ages, curve.low / 1000, curve.high / 1000, color=GREY, alpha=0.5, lw=0
            )
        axes.plot(
            plot.ages, curve.mm3 / 1000, color="#555555", lw=1.6 if curve.centile == 50 else 0.8
        )
        axes.annotate(
            str(curve.centile), (plot.ages[-1], curve.mm3[-1] / 1000), (3, 0), fontsize=7,
            textcoords="offset points", va="center", color="#555555",
        )  # fmt: skip
    if plot.points:
        ages, volumes = np.array(plot.points).T
        axes.plot(ages, volumes / 1000, "-o", color=VERMILION, mfc="white", ms=5)
        axes.plot(ages[-1:], volumes[-1:] / 1000, "o", color=VERMILION, ms=8)
    axes.set_title(f"{plot.region.capitalize()}\n{said(plot)}", fontsize=9.5, loc="left")
    axes.set_xlabel("age, years", fontsize=8)
    axes.set_ylabel("mL", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def said(plot: VolumePlot) -> str:
    """Volume and centile in words.

    Example:
        >>> said(VolumePlot("left hippocampus", np.zeros(1), (), (), 2310.0, 2.4, (0.6, 7.0)))
        '2.31 mL, centile 2 (<1 to 7)'
    """
    volume = millilitres(plot.volume_mm3)
    if plot.centile is None:
        return f"{volume}, no centile"
    return f"{volume}, centile {whole(plot.centile)}{between(plot.interval, ' to ')}"


def millilitres(volume_mm3: float) -> str:
    """A volume to three digits.

    Example:
        >>> millilitres(3204.0), millilitres(15_720.0), millilitres(1_423_100.0)
        ('3.20 mL', '15.7 mL', '1,423 mL')
    """
    digits = 2 if volume_mm3 < 9995 else 1 if volume_mm3 < 99_950 else 0
    return f"{volume_mm3 / 1000:,.{digits}f} mL"


def whole(centile: float) -> str:
    """A centile that never says 0 or 100.

    Example:
        >>> whole(0.3), whole(42.4), whole(99.7)
        ('<1', '42', '>99')
    """
    return "<1" if centile < 1 else ">99" if centile > 99 else f"{centile:.0f}"


def between(interval: Interval | None, to: str) -> str:
    """An interval of a centile in brackets; nothing where both ends read the same.

    Example:
        >>> between((0.6, 7.0), "–"), between((99.4, 99.9), "–")
        (' (<1–7)', '')
    """
    ends = [whole(end) for end in interval] if interval else []
    return f" ({to.join(ends)})" if len(set(ends)) == 2 else ""


def volume_caption(measured: Measured, norms: Norms) -> str:
    """Whose curves these are, and why there are no centiles where there are none."""
    said = [norms.why_not(measured.age_years, measured.sex)]
    said.append(norms.caution(measured.age_years, measured.sex))
    if measured.sex in norms.ages:
        said.append(
            f"curves: centiles {', '.join(map(str, CENTILES))} of {norms.n} healthy adults, for "
            f"this sex and head size ({millilitres(measured.head_mm3)})"
        )
        said.append("grey: 95 % interval of the outer curves")
    sentences = [part[0].upper() + part[1:] for part in (*said, CAPTION) if part]
    return ". ".join(sentences) + "."


def png(figure: Figure) -> bytes:
    """A figure's pixels, without a word about who drew it when."""
    file = io.BytesIO()
    figure.savefig(
        file, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return file.getvalue()


# -- the command -------------------------------------------------------------------------


def measure(path: Path, age_years: float | None, sex: str | None) -> Measured:
    """Volumes of a region map in a file."""
    found = read_nifti(path)
    volumes = region_volumes_mm3(found.voxels.astype(np.uint8), found.spacing_mm)
    return Measured({key: mm3 for key, mm3 in volumes.items() if mm3}, age_years, sex)


def main() -> None:
    """Draw both pictures of one scan."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("scan", type=Path)
    parser.add_argument("regions", type=Path, help="its region map")
    parser.add_argument("--age", type=float, help="at the scan, years")
    parser.add_argument("--sex", choices=sorted(SEXES))
    parser.add_argument(
        "--earlier", nargs=2, action="append", default=[], metavar=("REGIONS", "AGE"),
        help="an earlier scan of the same person",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    regions, norms = read_nifti(args.regions), load_norms()
    measured = measure(args.regions, args.age, args.sex)
    earlier = [measure(Path(path), float(age), args.sex) for path, age in args.earlier]
    args.out.mkdir(parents=True, exist_ok=True)
    overlay = draw_overlay(read_nifti(args.scan), regions.voxels.astype(np.uint8), regions.affine)
    (args.out / "overlay.png").write_bytes(overlay)
    plots = volume_plots(measured, earlier, norms)
    (args.out / "volumes.png").write_bytes(draw_volumes(plots, volume_caption(measured, norms)))
    log.info("overlay.png and volumes.png are written")


if __name__ == "__main__":
    main()
