"""Of a DICOM study the T1w series is chosen, placed in the head as others place it, or refused."""

import subprocess
import tarfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel as nib
import numpy as np
import pytest
from dicom_studies import AXIAL, NAME, SPACING_MM, STEP_MM, headers, slices, write
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from imaging.dicom import read_dicom
from imaging.scan import Acquisition, Identity, Scan, ScanError

SAGITTAL, CORONAL = (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
TURN, TILT = np.cos(0.3), np.sin(0.3)
OBLIQUE = tuple(np.round((TURN, TILT, 0, -TILT * 0.8, TURN * 0.8, 0.6), 6))
ORIENTATIONS = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE}
SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
]
T2W: dict[str, Any] = {
    "ScanningSequence": "SE",
    "SequenceVariant": "SK",
    "RepetitionTime": "3000",
    "EchoTime": "90",
    "InversionTime": None,
}


def assert_same_head(scan: Scan, folder: Path, out: Path) -> None:
    """The same grey value at the same place as in the NIfTI that dcm2niix makes."""
    out.mkdir()
    subprocess.run(
        [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "made", "-o", out, folder],
        check=True,
        capture_output=True,
    )
    theirs = nib.as_closest_canonical(nib.load(out / "made.nii"))
    ours = nib.as_closest_canonical(nib.Nifti1Image(scan.voxels, scan.affine))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
    np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_series_lies_where_dcm2niix_puts_it(
    orientation: tuple[float, ...], tmp_path: Path
) -> None:
    """Left is left in every plane a scanner may have sliced."""
    folder = write(headers(orientation=orientation), tmp_path / "in")
    assert_same_head(read_dicom(folder).scan, folder, tmp_path / "out")


def test_a_real_series_lies_where_dcm2niix_puts_it(data: Path, tmp_path: Path) -> None:
    """384 oblique slices among files of other kinds, without any timing."""
    with tarfile.open(data / "dicom_t1_studyforrest.tar.xz") as archive:
        archive.extractall(tmp_path / "in", filter="data")
    found = read_dicom(tmp_path / "in")
    assert found.chosen == (
        "series 401: T1w by its shape and label, without timing, 0.70 x 0.67 x 0.67 mm, "
        "384 slices, marked as computed"
    )
    assert found.identity == Identity("02", "female", 1966)
    assert_same_head(found.scan, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("syntax", SYNTAXES, ids=[s.name for s in SYNTAXES])
def test_voxels_are_exactly_the_rescaled_pixels(syntax: UID, tmp_path: Path) -> None:
    """However they are packed; columns come first, and slices in the order of the head."""
    folder = write(headers(RescaleSlope="0.5", RescaleIntercept="-7"), tmp_path, syntax)
    scan = read_dicom(folder).scan
    np.testing.assert_array_equal(scan.voxels, slices().transpose(2, 1, 0) * 0.5 - 7)
    np.testing.assert_allclose(scan.spacing_mm, (*SPACING_MM[::-1], STEP_MM), atol=1e-4)


def test_bits_above_the_stored_ones_are_no_grey_values(tmp_path: Path) -> None:
    """Old scanners kept an overlay there; a signed pixel is signed by its own highest bit."""
    datasets = headers(PixelRepresentation=1)
    for dataset, pixels in zip(datasets, slices(), strict=True):
        dataset.PixelData = (pixels | 0x8000).tobytes()
    expected = slices().transpose(2, 1, 0).astype(np.float32)
    expected[expected > 2047] -= 4096
    np.testing.assert_array_equal(read_dicom(write(datasets, tmp_path)).scan.voxels, expected)


def test_only_listed_facts_leave_the_header(tmp_path: Path) -> None:
    """An impossible study date is passed over; a name is nowhere."""
    found = read_dicom(write(headers(), tmp_path))
    assert found.acquisition == Acquisition(
        field_strength_t=3.0,
        manufacturer="Siemens",
        sequence="3D inversion-recovery gradient echo",
        repetition_time_ms=2300.0,
        echo_time_ms=2.98,
        inversion_time_ms=900.0,
        flip_angle_deg=9.0,
        acquired_on=date(2024, 2, 29),
    )
    assert found.identity == Identity("MRN 7", "female", 1939)
    assert NAME not in repr((found.acquisition, found.identity, found.chosen, found.refused))


def test_what_a_header_does_not_say_is_none(tmp_path: Path) -> None:
    """Absent, broken and unknown values alike; free text is never passed on."""
    said = {"Manufacturer": NAME, "PatientSex": "O", "PatientID": None, "PatientBirthDate": None}
    datasets = headers(**said, MagneticFieldStrength=None, StudyDate="", AcquisitionDate=None)
    found = read_dicom(write(datasets, tmp_path))
    assert found.identity == Identity()
    assert found.acquisition.manufacturer == "other"
    assert found.acquisition.field_strength_t is None
    assert found.acquisition.acquired_on is None


def test_of_a_mixed_study_the_finest_native_t1w_series_is_read(tmp_path: Path) -> None:
    """From nested folders with other files, whichever of them is named."""
    write(headers(3), tmp_path / "a" / "deep")
    write(headers(2, PixelSpacing=[2.9, 2.9]), tmp_path / "a")
    write(headers(1, ContrastBolusAgent=NAME), tmp_path / "b")
    write(headers(4, **T2W), tmp_path / "c")
    write(headers(5, Modality="CT"), tmp_path / "d")
    (tmp_path / "letter.txt").write_text(NAME)
    found = read_dicom(tmp_path / "letter.txt")
    assert found.chosen == (
        "series 3: 3D inversion-recovery gradient echo, 1.25 x 1.50 x 2.75 mm, 40 slices"
    )
    assert sorted(found.refused) == [
        "series 1 not chosen: also T1w, but it has a contrast agent",
        "series 2 not chosen: also T1w, but its voxels are larger",
        "series 4 refused: an echo time of 90 ms, too long for T1w",
        "series 5 refused: not MR",
    ]


def each(**tags: Any) -> Callable[[list[Dataset]], list[Dataset]]:
    """Change tags of every slice."""

    def change(datasets: list[Dataset]) -> list[Dataset]:
        for dataset in datasets:
            for keyword, value in tags.items():
                setattr(dataset, keyword, value)
        return datasets

    return change


def one(**tags: Any) -> Callable[[list[Dataset]], list[Dataset]]:
    """Change tags of the slice in the middle."""
    return lambda d: [*d[:20], *each(**tags)(d[20:21]), *d[21:]]


def stretched(by: float) -> Callable[[list[Dataset]], list[Dataset]]:
    """Lay the slices further apart."""

    def change(datasets: list[Dataset]) -> list[Dataset]:
        for index, dataset in enumerate(datasets):
            dataset.ImagePositionPatient = [0, 0, index * by]
        return datasets

    return change


def sheared(datasets: list[Dataset]) -> list[Dataset]:
    """Shift each slice against the one below."""
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [index, 0, index * STEP_MM]
    return datasets


UNTIMED = dict.fromkeys(["EchoTime", "RepetitionTime", "InversionTime"])
REFUSED: dict[str, Callable[[list[Dataset]], list[Dataset]]] = {
    "1 slices missing": lambda d: d[:20] + d[21:],
    "3 slices missing": lambda d: d[:20] + d[23:],
    "40 pictures announced and 39 there": lambda d: each(ImagesInAcquisition=40)(d[:-1]),
    "1 slices there twice": one(ImagePositionPatient=[-50, -50, -50 + STEP_MM * 19]),
    "unevenly spaced": one(ImagePositionPatient=[-50, -50, -50 + STEP_MM * 20.2]),
    "shifted against each other": sheared,
    "slices of 3.2 mm": stretched(3.2),
    "slices of 5 mm": each(SliceThickness=5),
    "a slab of 80 mm": stretched(2.0),
    "only 12 slices": lambda d: d[:12],
    "mixed orientation": one(ImageOrientationPatient=[0, 1, 0, -1, 0, 0]),
    "not two directions": each(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
    "without position": one(ImagePositionPatient=None),
    "mixed size": one(PixelSpacing=[1, 1]),
    "mixed rescale": one(RescaleSlope=2),
    "mixed kind": one(EchoTime=5),
    "pixels of 4 mm": each(PixelSpacing=[4, 4]),
    "a localizer": each(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "reformatted": each(ImageType=["DERIVED", "SECONDARY", "MPR"]),
    "a phase image": each(ImageType=["ORIGINAL", "PRIMARY", "P", "ND"]),
    "angiography": each(AngioFlag="Y"),
    "not MR": each(Modality="PT"),
    "several slices in one file": each(NumberOfFrames=40),
    "echo planar": each(ScanningSequence="EP"),
    "inversion time of 2500 ms": each(InversionTime=2500),
    "repetition time of 3000 ms": each(**T2W | {"EchoTime": 12}),
    "flip angle of 3 degrees": each(
        ScanningSequence="GR",
        SequenceVariant="SP",
        InversionTime=None,
        FlipAngle=3,
        RepetitionTime=8,
    ),
    "without spoiling": each(
        ScanningSequence="GR",
        SequenceVariant="SS",
        InversionTime=None,
        FlipAngle=40,
        RepetitionTime=8,
    ),
    "no timing in its header": each(**UNTIMED, SeriesDescription="T2 space"),
    "different PatientID": one(PatientID="MRN 8"),
    "2 MR studies": one(StudyInstanceUID="1.2.4"),
    "not plain grey values": each(PhotometricInterpretation="MONOCHROME1"),
    "other than 8 or 16 bits": each(BitsAllocated=32),
    "pixel data of 700 bytes where 720 belong": one(PixelData=bytes(700)),
    "all have the same value": each(PixelData=bytes(720)),
}


@pytest.mark.parametrize(("reason", "change"), REFUSED.items(), ids=REFUSED)
def test_a_series_that_would_mislead_is_refused_with_its_reason(
    reason: str, change: Callable[[list[Dataset]], list[Dataset]], tmp_path: Path
) -> None:
    """In a sentence that says what to do and names nobody."""
    folder = write(change(headers()), tmp_path)
    with pytest.raises(ScanError, match=reason) as refused:
        read_dicom(folder)
    assert NAME not in str(refused.value)
    assert "export" in str(refused.value) or "choose" in str(refused.value)


def test_a_copy_is_not_read_where_its_original_cannot_be(tmp_path: Path) -> None:
    """A computed series may be resampled from one with thick or missing slices."""
    write(headers(3)[:20] + headers(3)[22:], tmp_path / "original")
    write(headers(9, ImageType=["DERIVED", "SECONDARY"]), tmp_path / "copy")
    with pytest.raises(ScanError, match=r"series 9 refused: computed.*series 3 refused: 2 slices"):
        read_dicom(tmp_path)
    assert "marked as computed" in read_dicom(tmp_path / "copy").chosen


def test_a_series_of_two_volumes_gives_the_better_one(tmp_path: Path) -> None:
    """Magnitude and phase often share a series."""
    phase = headers(3, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
    write(headers(3), tmp_path / "magnitude")
    write(phase, tmp_path / "phase")
    found = read_dicom(tmp_path)
    assert found.chosen.startswith("series 3 part 1: 3D")
    assert found.refused == ("series 3 part 2 refused: a phase image",)


def test_a_compression_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """And a series that can be read is still read."""
    write(headers(3), tmp_path / "plain")
    for path in write(headers(1), tmp_path / "packed").iterdir():
        content = path.read_bytes()
        length = len(JPEG2000Lossless) + len(JPEG2000Lossless) % 2
        assert length > 20
        old = b"\x02\x00\x10\x00UI\x14\x00" + ExplicitVRLittleEndian.encode() + b"\0"
        new = b"\x02\x00\x10\x00UI" + bytes([length, 0]) + JPEG2000Lossless.encode()
        path.write_bytes(content.replace(old, new.ljust(8 + length, b"\0"), 1))
    assert "packed in JPEG 2000" in read_dicom(tmp_path).refused[0]


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    """As does one that is not there."""
    with pytest.raises(ScanError, match="no picture in it"):
        read_dicom(tmp_path)
    with pytest.raises(ScanError, match="check the path"):
        read_dicom(tmp_path / "nothing")
