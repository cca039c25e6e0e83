"""Small DICOM series, written by pydicom with everything a hospital's header should not lose."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)

NAME = "Lovelace"
ROWS, COLUMNS, SLICES = 18, 20, 40
SPACING_MM = (1.5, 1.25)  # between rows, between columns
STEP_MM = 2.75
AXIAL = (1, 0, 0, 0, 1, 0)
MPRAGE: dict[str, Any] = {
    "ScanningSequence": ["GR", "IR"],
    "SequenceVariant": ["SK", "SP", "MP"],
    "MRAcquisitionType": "3D",
    "RepetitionTime": "2300",
    "EchoTime": "2.98",
    "InversionTime": "900",
    "FlipAngle": "9",
}


def slices(seed: int = 0, count: int = SLICES) -> np.ndarray:
    """Stored values (slice, row, column)."""
    return np.random.default_rng(seed).integers(0, 4000, (count, ROWS, COLUMNS)).astype(np.uint16)


def headers(number: int = 3, orientation: tuple[float, ...] = AXIAL, **tags: Any) -> list[Dataset]:
    """The slices of one series as pydicom datasets, which a test may change before writing."""
    normal = np.cross(orientation[:3], orientation[3:])
    made = []
    for index, pixels in enumerate(slices()):
        dataset = Dataset()
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.SOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = f"1.2.3.{number}.{index}"
        dataset.StudyDate, dataset.AcquisitionDate = "20240230", "20240229"
        dataset.Modality, dataset.Manufacturer = "MR", "SIEMENS Healthineers"
        dataset.SeriesDescription = f"{NAME} brain"
        dataset.PatientName, dataset.PatientID = f"{NAME}^Ada", "MRN 7"
        dataset.PatientBirthDate, dataset.PatientSex = "19391210", "F"
        dataset.MagneticFieldStrength = "3"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", f"1.2.3.{number}"
        dataset.SeriesNumber, dataset.InstanceNumber = number, index + 1
        dataset.ImagePositionPatient = [round(v, 5) for v in normal * STEP_MM * index - 50]
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ReferencedImageSequence = Sequence([Dataset()])
        dataset.ReferencedImageSequence[0].PatientComments = NAME
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = ROWS, COLUMNS
        dataset.PixelSpacing = list(SPACING_MM)
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelRepresentation = 0
        dataset.private_block(0x0029, NAME, create=True).add_new(0x10, "LO", NAME)
        dataset.PixelData = pixels.tobytes()
        for keyword, value in (MPRAGE | tags).items():
            setattr(dataset, keyword, value)
        made.append(dataset)
    return made


def write(datasets: list[Dataset], folder: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write datasets in an order that says nothing, under names that must not be repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, dataset in enumerate(datasets):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == RLELossless:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(RLELossless, generate_instance_uid=False)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.save_as(
            folder / f"{NAME}{(7 * index) % len(datasets):03d}.dcm",
            enforce_file_format=True,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
        )
    return folder
