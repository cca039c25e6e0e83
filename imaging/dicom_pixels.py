"""The grey values of one DICOM picture: checked before anything is unpacked, then decoded."""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from imaging.dicom_file import COPY, LIBRARY_ERRORS, Picture, pixel_bytes
from imaging.scan import AXIS_VOXELS, ScanError

READABLE = {
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
}
RLE_OVERHEAD = 1 << 12  # bytes; a packed picture is hardly larger than a plain one


def check_pixels(picture: Picture) -> None:
    """Refuse pixels that cannot be decoded or are not as many as the header says."""
    syntax = picture.syntax
    if syntax not in READABLE:
        name = UID(syntax).name if syntax in AllTransferSyntaxes else "an unknown way"
        raise ScanError(
            f"pixels packed in {name}; export the series uncompressed or convert it to NIfTI "
            "with dcm2niix"
        )
    rows, columns = picture.shape
    low, high = AXIS_VOXELS
    if not (low <= rows <= high and low <= columns <= high):
        raise ScanError(f"pictures of {rows} x {columns} pixels")
    length = rows * columns * _bits(picture) // 8
    packed = syntax == RLELossless and picture.length <= length + length // 64 + RLE_OVERHEAD
    if picture.offset is None or not (packed or picture.length in (length, length + length % 2)):
        raise ScanError(f"pixel data of {picture.length} bytes where {length} belong")


def _bits(picture: Picture) -> int:
    """Bits of one pixel, refused if it is no plain grey value."""
    allocated = int(picture.number("BitsAllocated") or 0)
    stored, highest = picture.number("BitsStored") or 0, picture.number("HighBit")
    if allocated not in ((16,) if picture.syntax == ExplicitVRBigEndian else (8, 16)):
        raise ScanError("pixels of other than 8 or 16 bits")
    plain = picture.number("SamplesPerPixel") == 1 and picture.word("PhotometricInterpretation")
    if plain != "MONOCHROME2" or not 1 <= stored <= allocated or highest != stored - 1:
        raise ScanError("pixels that are not plain grey values")
    return allocated


def read_pixels(picture: Picture) -> Float[np.ndarray, "rows columns"]:
    """The grey values of a picture that `check_pixels` passed, rescaled.

    Raises:
        ScanError: The file is not what its header promised.
    """
    content = pixel_bytes(picture)
    stored = (_unpack if picture.syntax == RLELossless else _plain)(picture, content)
    slope, intercept = picture.number("RescaleSlope"), picture.number("RescaleIntercept")
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = stored * (1.0 if slope is None else slope) + (intercept or 0.0)
        return scaled.astype(np.float32)


def _plain(picture: Picture, content: bytes) -> np.ndarray:
    """Uncompressed pixels without the bits above the stored ones, which may hold an overlay."""
    rows, columns = picture.shape
    order = ">" if picture.syntax == ExplicitVRBigEndian else "<"
    kind = "i" if picture.number("PixelRepresentation") == 1 else "u"
    dtype = np.dtype(f"{order}{kind}{_bits(picture) // 8}")
    pixels = np.frombuffer(content, dtype, rows * columns).reshape(rows, columns)
    spare = _bits(picture) - int(picture.number("BitsStored") or 0)
    return pixels << spare >> spare if spare else pixels


def _unpack(picture: Picture, content: bytes) -> np.ndarray:
    """Run-length coded pixels, by pydicom."""
    rows, columns = picture.shape
    options: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "number_of_frames": 1,
        "bits_allocated": _bits(picture),
        "bits_stored": int(picture.number("BitsStored") or 0),
        "pixel_representation": int(picture.number("PixelRepresentation") or 0),
        "pixel_keyword": "PixelData",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels, _ = get_decoder(RLELossless).as_array(content, **options)
            return np.asarray(pixels).reshape(rows, columns)
        except LIBRARY_ERRORS:
            raise ScanError(f"DICOM file: its run-length coding is damaged; {COPY}") from None
