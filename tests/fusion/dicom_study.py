"""A DICOM study of a phantom, written slice by slice."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
PATIENT = {"PatientID": "MRN-7", "PatientSex": "F", "PatientBirthDate": "19500504"}


def write_study(folder: Path, *, seed: int = 0, **header: str) -> Path:
    """One T1w series of 40 slices of 3 mm, sagittal; ``header`` adds to it or changes it."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 900, (40, 64, 64), dtype=np.uint16)
    for index, pixels in enumerate(voxels):
        slice_ = Dataset()
        slice_.SOPClassUID = MR_IMAGE
        slice_.SOPInstanceUID = generate_uid(entropy_srcs=[f"{seed} {index}"])
        slice_.StudyInstanceUID = generate_uid(entropy_srcs=[f"study {seed}"])
        slice_.SeriesInstanceUID = generate_uid(entropy_srcs=[f"series {seed}"])
        slice_.Modality, slice_.SeriesNumber, slice_.InstanceNumber = "MR", 3, index + 1
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        slice_.Manufacturer, slice_.MagneticFieldStrength = "SIEMENS", 3
        slice_.ScanningSequence, slice_.MRAcquisitionType = ["GR", "IR"], "3D"
        slice_.SequenceVariant = "SP"
        slice_.RepetitionTime, slice_.EchoTime, slice_.InversionTime = 2300, 3, 900
        slice_.FlipAngle, slice_.SliceThickness, slice_.PixelSpacing = 9, 3, [3, 3]
        slice_.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        slice_.ImagePositionPatient = [60 - 3 * index, -96, 96]
        slice_.AcquisitionDate = "20240309"
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
        slice_.PixelRepresentation, slice_.PixelData = 0, pixels.tobytes()
        for keyword, value in header.items():
            setattr(slice_, keyword, value)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = MR_IMAGE
        meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.file_meta = meta
        slice_.save_as(folder / f"{index:03d}.dcm", enforce_file_format=True)
    return folder
