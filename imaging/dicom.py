"""Read the T1w series out of a DICOM study: choose it, check its slices, stack them.

Reasons name a series by its number, never by its label, its UIDs or the names of its files.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from imaging.dicom_file import Picture, read_picture
from imaging.dicom_header import (
    acquisition,
    check_kind,
    check_weighting,
    has_contrast,
    identity,
    is_timed,
    labelled_t1w,
    sequence,
)
from imaging.dicom_pixels import check_pixels, read_pixels
from imaging.scan import (
    AXIS_VOXELS,
    Acquisition,
    Identity,
    Scan,
    ScanError,
    check_affine,
    check_shape,
    check_values,
)

MOST_FILES = 20_000
DEEPEST_FOLDER = 8
MOST_REASONS = 20  # printed
MOST_STACKS = 8  # in one series
THICKEST_MM = 3.0
LEAST_COVER_MM = 100.0  # from the first slice to the last; a head is longer, a slab is not
UNEVEN = 0.02  # of the distance of two slices, from one to the next
FINEST_LABELLED_MM = 1.5  # longest voxel edge of a series that only its label calls T1w
SAME_DIRECTION = 1e-3  # difference of two direction cosines

ALIKE = {  # what all slices of a volume share
    "kind": ("ImageType", "EchoTime"),
    "size": ("Rows", "Columns", "PixelSpacing"),
    "rescale": ("RescaleSlope", "RescaleIntercept"),
    "pixel type": ("BitsAllocated", "BitsStored", "PixelRepresentation"),
}
REGRETS = (  # why a usable series comes after another, in the order of `_Candidate.rank`
    "it has a contrast agent",
    "it was computed from another",
    "its voxels are larger",
    "it has no inversion pulse",
    "its label does not say T1w",
    "it comes later",
)


@dataclass(frozen=True)
class DicomScan:
    """The chosen series of a study.

    Attributes:
        scan: Voxels (column, row, slice) with their place.
        acquisition: How it was taken.
        identity: Whose it says it is.
        chosen: One sentence on the chosen series.
        refused: One sentence on each other series, and on damaged files.
    """

    scan: Scan
    acquisition: Acquisition
    identity: Identity
    chosen: str
    refused: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """Slices in order that make a T1w volume."""

    name: str
    pictures: tuple[Picture, ...]
    affine: Float[np.ndarray, "4 4"]
    description: str
    rank: tuple[float, ...]  # least is best


def read_dicom(source: Path) -> DicomScan:
    """Read the best T1w series of one study of one patient.

    Args:
        source: A folder, which may hold folders, other series and other files; or one file,
            which stands for its folder.

    Returns:
        The series with why it was chosen and the others were not.

    Raises:
        ScanError: No series can be used; the message says why for each.
    """
    folder = source if source.is_dir() else source.parent
    if not source.exists():
        raise ScanError("DICOM folder: there is none at the given path; check the path")
    pictures, damaged = _read_pictures(folder)
    _check_one_patient(pictures)
    candidates, unfit = _candidates(pictures)
    refused = damaged + unfit
    for index, best in enumerate(candidates):
        try:
            scan = _assemble(best)
        except ScanError as error:
            refused.append(f"{best.name} refused: {error}")
            continue
        refused += [_second(best, other) for other in candidates[index + 1 :]]
        first = best.pictures[0]
        said = f"{best.name}: {best.description}"
        return DicomScan(scan, acquisition(first), identity(first), said, tuple(refused))
    raise ScanError(
        f"DICOM folder: no T1w series can be used ({_some(refused) or 'no picture in it'}); "
        "export a 3D T1w series with all its slices"
    )


def _candidates(pictures: Sequence[Picture]) -> tuple[list[_Candidate], list[str]]:
    """The volumes that are T1w, the best first, and why the others are not."""
    usable: list[_Candidate] = []
    refused: list[str] = []
    originals = any(p.word("ImageType") == "ORIGINAL" for p in pictures)
    for name, stack, there in _stacks(pictures):
        try:
            if originals and "SECONDARY" in stack[0].words("ImageType")[:2]:
                raise ScanError("computed from series that lie beside it")
            if (announced := stack[0].number("ImagesInAcquisition") or 0) > there:
                raise ScanError(f"{announced:.0f} pictures announced and {there} there")
            usable.append(_candidate(name, stack))
        except ScanError as error:
            refused.append(f"{name} refused: {error}")
    return sorted(usable, key=lambda candidate: candidate.rank), refused


def _some(reasons: Sequence[str]) -> str:
    """The first reasons, and how many more there are."""
    more = len(reasons) - MOST_REASONS
    return "; ".join(reasons[:MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _read_pictures(folder: Path) -> tuple[list[Picture], list[str]]:
    """The headers of all files below a folder, and what is wrong with the damaged ones."""
    pictures: list[Picture] = []
    damaged: Counter[str] = Counter()
    for path in _files(folder):
        try:
            picture = read_picture(path)
        except ScanError as error:
            damaged[str(error)] += 1
            continue
        if picture is not None:
            pictures.append(picture)
    return pictures, [f"{count} files refused: {reason}" for reason, count in damaged.items()]


def _files(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, in a fixed order; links to folders are not followed."""
    count = 0
    for root, folders, names in os.walk(folder):
        folders.sort()
        if len(Path(root).relative_to(folder).parts) > DEEPEST_FOLDER:
            raise ScanError("DICOM folder: folders lie too deep; choose the folder of one study")
        count += len(names)
        if count > MOST_FILES:
            raise ScanError(
                f"DICOM folder: more than {MOST_FILES} files; choose the folder of one study"
            )
        yield from (path for name in sorted(names) if (path := Path(root, name)).is_file())


def _check_one_patient(pictures: Sequence[Picture]) -> None:
    """Two patients' pictures must never become one case, nor two visits' one visit."""
    for keyword in ("PatientID", "PatientSex", "PatientBirthDate"):
        if len({p.words(keyword) for p in pictures if p.words(keyword)}) > 1:
            raise ScanError(
                f"DICOM folder: pictures with different {keyword}; choose the folder of one patient"
            )
    studies = {p.word("StudyInstanceUID") for p in pictures if p.word("Modality") == "MR"}
    if len(studies) > 1:
        raise ScanError(
            f"DICOM folder: {len(studies)} MR studies; choose the folder of one of them"
        )


def _stacks(pictures: Iterable[Picture]) -> Iterator[tuple[str, list[Picture], int]]:
    """Names and pictures of the volumes, and how many pictures their series has."""
    series: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        series[picture.word("SeriesInstanceUID")].append(picture)
    for members in series.values():
        number = members[0].number("SeriesNumber")
        name = "a series without number" if number is None else f"series {number:.0f}"
        stacks = _divide(members)
        for index, stack in enumerate(stacks, start=1):
            part = "" if len(stacks) == 1 else f" part {index}"
            yield name + part, stack, len(members)


def _divide(series: list[Picture]) -> list[list[Picture]]:
    """The volumes of a series: one, unless each of several is large enough to be meant."""
    stacks: list[list[Picture]] = []
    for picture in series:
        for stack in stacks[:MOST_STACKS]:
            if _same_kind(stack[0], picture) and _same_orientation(stack[0], picture):
                stack.append(picture)
                break
        else:
            stacks.append([picture])
    return stacks if all(len(stack) >= AXIS_VOXELS[0] for stack in stacks) else [series]


def _same_kind(one: Picture, other: Picture) -> bool:
    """Are two pictures of one kind and one echo?"""
    return all(one.fields.get(k) == other.fields.get(k) for k in ("ImageType", "EchoTime"))


def _same_orientation(one: Picture, other: Picture) -> bool:
    """Do two pictures lie parallel, turned the same way?"""
    a, b = (p.numbers("ImageOrientationPatient", 6) for p in (one, other))
    if a is None or b is None:
        return a == b
    return all(abs(x - y) < SAME_DIRECTION for x, y in zip(a, b, strict=True))


def _candidate(name: str, stack: list[Picture]) -> _Candidate:
    """A stack as a volume, or the reason why it is none."""
    first = stack[0]
    check_kind(first)
    prepared = check_weighting(first)
    _check_alike(stack)
    ordered, affine = _place(stack)
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    labelled, timed = labelled_t1w(first), is_timed(first)
    if not timed and not (labelled and voxel_mm.max() <= FINEST_LABELLED_MM):
        raise ScanError("no timing in its header, and shape and label do not show that it is T1w")
    contrast = has_contrast(first)
    computed = bool({"DERIVED", "SECONDARY"} & set(first.words("ImageType")[:2]))
    sizes = [f"{size:.2f}" for size in voxel_mm]
    parts = [
        sequence(first) or "T1w" if timed else "T1w by its shape and label, without timing",
        " x ".join(sizes if len(set(sizes)) > 1 else sizes[:1]) + " mm",
        f"{len(ordered)} slices",
        *(["contrast agent"] if contrast else []),
        *(["marked as computed"] if computed else []),
    ]
    number = first.number("SeriesNumber") or 0.0
    size = round(float(voxel_mm.max()), 1)
    rank = (contrast, computed, size, not prepared, not labelled, number)
    return _Candidate(name, ordered, affine, ", ".join(parts), tuple(map(float, rank)))


def _second(best: _Candidate, other: _Candidate) -> str:
    """Why a usable series was not chosen."""
    pairs = zip(best.rank, other.rank, REGRETS, strict=True)
    regret = next((regret for mine, its, regret in pairs if mine != its), REGRETS[-1])
    return f"{other.name} not chosen: also T1w, but {regret}"


def _check_alike(stack: list[Picture]) -> None:
    """Refuse slices that are not of one kind."""
    first = stack[0]
    for picture in stack:
        if not _same_orientation(first, picture):
            raise ScanError("slices of mixed orientation")
        for what, keywords in ALIKE.items():
            if any(first.fields.get(k) != picture.fields.get(k) for k in keywords):
                raise ScanError(f"slices of mixed {what}")
        check_pixels(picture)


def _place(stack: list[Picture]) -> tuple[tuple[Picture, ...], Float[np.ndarray, "4 4"]]:
    """Slices in order along their normal, and the affine of (column, row, slice) to RAS+."""
    directions = stack[0].numbers("ImageOrientationPatient", 6)
    spacing = stack[0].numbers("PixelSpacing", 2)
    places = [p.numbers("ImagePositionPatient", 3) for p in stack]
    if directions is None or spacing is None or None in places:
        raise ScanError("slices without position, orientation or pixel spacing")
    if len(stack) < AXIS_VOXELS[0]:
        raise ScanError(f"only {len(stack)} slices")
    axes = np.array(directions).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=0.01):
        raise ScanError("an orientation that is not two directions at right angles")
    along_row, along_column = axes
    normal = np.cross(along_row, along_column)
    positions = np.array(places)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    _check_spacing(np.diff(positions @ normal), stack[0])
    if max(spacing) > THICKEST_MM:
        raise ScanError(f"pixels of {max(spacing):.3g} mm")
    step = (positions[-1] - positions[0]) / (len(stack) - 1)
    line = positions[0] + np.arange(len(stack))[:, None] * step
    aside = np.linalg.norm(np.cross(step, normal)) / np.linalg.norm(step)
    if aside > UNEVEN or np.abs(positions - line).max() > 0.1:
        raise ScanError("slices shifted against each other")
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along_row * spacing[1], along_column * spacing[0], step], axis=1)
    affine[:3, 3] = positions[0]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # DICOM's LPS to RAS
    check_affine(affine)
    rows, columns = stack[0].shape
    check_shape((columns, rows, len(stack)))
    return tuple(stack[index] for index in order), affine


def _check_spacing(steps_mm: Float[np.ndarray, " step"], first: Picture) -> None:
    """Refuse a series with slices twice, missing, uneven, thick or of a slab only."""
    typical = float(np.median(steps_mm))
    twice = int((steps_mm < 0.1 * typical).sum() if typical > 0.01 else len(steps_mm))
    if twice:
        raise ScanError(f"{twice} slices there twice")
    thickness = max(typical, first.number("SliceThickness") or 0.0)
    if thickness > THICKEST_MM:
        raise ScanError(f"slices of {thickness:.3g} mm")
    gaps = np.round(steps_mm / typical) - 1
    if (gaps > 0).any():
        raise ScanError(f"{gaps.clip(0).sum():.0f} slices missing")
    if np.abs(steps_mm - typical).max() > UNEVEN * typical + 0.01:
        raise ScanError(
            f"slices unevenly spaced, {steps_mm.min():.2f} to {steps_mm.max():.2f} mm apart"
        )
    if (cover := typical * (len(steps_mm) + 1)) < LEAST_COVER_MM:
        raise ScanError(f"a slab of {cover:.0f} mm")


def _assemble(candidate: _Candidate) -> Scan:
    """The volume of a series whose headers passed."""
    rows, columns = candidate.pictures[0].shape
    voxels = np.empty((columns, rows, len(candidate.pictures)), np.float32, order="F")
    for index, picture in enumerate(candidate.pictures):
        voxels[:, :, index] = read_pixels(picture).T
    check_values(voxels)
    return Scan(voxels, candidate.affine)
