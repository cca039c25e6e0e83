"""Read a scan from a file that nobody vouches for, and write one that tells nothing personal.

NIfTI-1 (``.nii``, ``.nii.gz``) only. The header is checked before anything is unpacked, so a
broken or hostile file costs milliseconds; nibabel sees what passed, without its extensions.
Messages name the header's field and never the file, whose name may be a patient's.
"""

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from jaxtyping import Float, UInt8
from nibabel.spatialimages import HeaderDataError

from imaging.scan import AGAIN, Scan, ScanError, check_affine, check_shape, check_values

HEADER_BYTES = 348
LARGEST_BYTES = 1 << 28  # of all voxels; 512 x 512 x 512 of int16
LARGEST_EXTENSION = 1 << 20  # bytes between header and voxels
LARGEST_TAIL = 1 << 16  # bytes after the voxels, which some writers pad
SMALL_BYTES = 1 << 24  # of voxels, which may be packed as tightly as they will
TIGHTEST = 100  # bytes of a larger volume that one packed byte may stand for
MOST_MEMBERS = 1 << 14  # pieces of a gzip file, each with a header of its own
CHUNK = 1 << 18  # packed bytes read at once
# code: bytes a voxel
DATATYPES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}


@dataclass(frozen=True)
class _Layout:
    """Where the voxels lie in a file whose header passed."""

    offset: int  # bytes before the first voxel
    length: int  # bytes of all voxels


def read_nifti(path: Path, sequence: str = "T1w") -> Scan:
    """Read one three-dimensional scan.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.
        sequence: What it shows; the header does not say.

    Returns:
        The voxels exactly as nibabel reads them, ``float32``, in stored order.

    Raises:
        ScanError: The file is not a NIfTI-1 volume of a head, or is damaged.
    """
    if not path.is_file():
        raise ScanError("scan file: there is none at the given path; check the path")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ScanError("scan file: not .nii or .nii.gz; convert it with dcm2niix")
    try:
        content = _read_checked(path)
    except (zlib.error, EOFError):
        raise ScanError("scan file: its compression is damaged; copy it again") from None
    except OSError:  # whose text would name the file
        raise ScanError("scan file: the system cannot read it; check its permissions") from None
    try:
        image = nib.Nifti1Image.from_bytes(content)
        affine = np.asarray(image.affine, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            voxels = np.asarray(image.get_fdata(caching="unchanged", dtype=np.float32))
    except (HeaderDataError, ValueError, OverflowError):
        raise ScanError(f"scan header: nibabel refuses it; {AGAIN}") from None
    check_affine(affine)
    check_values(voxels)
    return Scan(voxels.reshape(voxels.shape[:3]), affine, sequence)


def _read_checked(path: Path) -> bytes:
    """Header and voxels of a file whose header passes, without what lies between or behind."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed != path.name.lower().endswith(".gz"):
            raise ScanError("scan file: its ending and its compression disagree; rename it")
        stream = _Gunzip(raw) if packed else raw
        header = stream.read(HEADER_BYTES)
        layout = _check_header(header)
        _check_size(os.fstat(raw.fileno()).st_size, layout, packed=packed)
        _skip(stream, layout.offset - HEADER_BYTES)
        voxels = stream.read(layout.length)
        if len(voxels) < layout.length:
            raise ScanError("scan file: it ends before its last voxel; copy it again")
        if len(stream.read(LARGEST_TAIL + 1)) > LARGEST_TAIL:  # reaches gzip's last checksum
            raise ScanError(f"scan file: unpacks to more than its header says; {AGAIN}")
    order = _byte_order(header)
    plain = header[:108] + struct.pack(order + "f", HEADER_BYTES + 4) + header[112:]
    return plain + bytes(4) + voxels


class _Gunzip:
    """A gzip file unpacked as far as it is read, its checksums compared.

    Unlike `gzip.GzipFile` it takes the same time whatever the pieces' headers hold: that reads
    a file name byte by byte, and any number of empty pieces.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._ahead = b""  # packed bytes not yet used
        self._members = 0
        self._member = zlib.decompressobj(wbits=31)

    def read(self, count: int, /) -> bytes:
        """The next unpacked bytes, fewer only at the end."""
        content = bytearray()
        while len(content) < count:
            self._ahead = self._ahead or self._raw.read(CHUNK)
            if self._member.eof and not self._next_member():
                break
            waiting = len(self._ahead)
            piece = self._member.decompress(self._ahead, count - len(content))
            if not (piece or waiting or self._member.eof):
                raise EOFError
            content += piece
            self._ahead = self._member.unconsumed_tail or self._member.unused_data
        return bytes(content)

    def _next_member(self) -> bool:
        """Start on what follows a piece; zeros may pad it. False at the end of the file."""
        while self._ahead and not (packed := self._ahead.lstrip(b"\0")):
            self._ahead = self._raw.read(CHUNK)
        if not self._ahead:
            return False
        self._ahead = packed
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise ScanError("scan file: packed in too many pieces; pack it again")
        self._member = zlib.decompressobj(wbits=31)
        return True


def _check_size(size: int, layout: _Layout, *, packed: bool) -> None:
    """Can a file of this many bytes hold these voxels and little else?"""
    if size > layout.offset + layout.length + LARGEST_TAIL:
        raise ScanError(f"scan file: longer than its header says; {AGAIN}")
    if not packed and size < layout.offset + layout.length:
        raise ScanError("scan file: it ends before its last voxel; copy it again")
    if layout.length > max(SMALL_BYTES, TIGHTEST * size):
        raise ScanError(f"scan file: packed too tightly to hold a picture; {AGAIN}")


def _skip(stream: BinaryIO | _Gunzip, count: int) -> None:
    """Pass over the header's extensions, which may hold anything."""
    if len(stream.read(count)) < count:
        raise ScanError("scan file: it ends before its first voxel; copy it again")


def _byte_order(header: bytes) -> str:
    """``<`` or ``>``, by the first field."""
    return "<" if header[:4] == struct.pack("<i", HEADER_BYTES) else ">"


def _check_header(header: bytes) -> _Layout:
    """Refuse what is not a plain volume; say where its voxels lie."""
    _check_format(header)
    order = _byte_order(header)
    dims = struct.unpack(order + "8h", header[40:56])
    code, bits = struct.unpack(order + "2h", header[70:74])
    (offset,) = struct.unpack(order + "f", header[108:112])
    length = _check_dims(dims) * DATATYPES.get(code, 1)
    if code not in DATATYPES or bits != 8 * DATATYPES[code]:
        raise ScanError(
            f"scan header: datatype {code} with {bits} bits; save it as int16 or float32"
        )
    if length > LARGEST_BYTES:
        raise ScanError(f"scan header: {length >> 20} MiB of voxels; resample it to 1 mm")
    if not (HEADER_BYTES + 4 <= offset <= HEADER_BYTES + LARGEST_EXTENSION) or offset % 1:
        raise ScanError(f"scan header: vox_offset {offset:g} is out of range; {AGAIN}")
    _check_scaling(*struct.unpack(order + "2f", header[112:120]))
    _check_geometry(header, order)
    return _Layout(int(offset), length)


def _check_format(header: bytes) -> None:
    """Is it NIfTI-1 with voxels in the same file?"""
    if header[128:132] == b"DICM":
        raise ScanError("scan file: this is DICOM; convert the series with dcm2niix")
    if header[4:8] in (b"n+2\0", b"ni2\0"):
        raise ScanError("scan file: this is NIfTI-2; save it as NIfTI-1")
    if header[344:348] == b"ni1\0":
        raise ScanError("scan file: its voxels are in another file; save it as one .nii.gz")
    sizes = (struct.pack("<i", HEADER_BYTES), struct.pack(">i", HEADER_BYTES))
    if len(header) < HEADER_BYTES or header[:4] not in sizes or header[344:348] != b"n+1\0":
        raise ScanError("scan file: this is not NIfTI-1; convert the series with dcm2niix")


def _check_dims(dims: tuple[int, ...]) -> int:
    """How many voxels a volume of these ``dim`` fields has."""
    n_axes, shape = dims[0], dims[1:4]
    if not 3 <= n_axes <= 7 or any(n != 1 for n in dims[4 : n_axes + 1]):
        raise ScanError(f"scan header: {dims} is not one 3D volume; choose one volume of it")
    return check_shape(shape)


def _check_scaling(slope: float, intercept: float) -> None:
    """A slope of 0 or NaN means that there is none, as nibabel has it."""
    if math.isnan(slope) or slope == 0:
        return
    if math.isinf(slope) or not math.isfinite(intercept):
        raise ScanError(f"scan header: scl_slope {slope} with scl_inter {intercept}; {AGAIN}")


def _check_geometry(header: bytes, order: str) -> None:
    """Is the place in the head given, and given once? Left must be left."""
    qform, sform = struct.unpack(order + "2h", header[252:256])
    quaternion = struct.unpack(order + "6f", header[256:280])
    pixdim = struct.unpack(order + "8f", header[76:108])
    rows = np.array(struct.unpack(order + "12f", header[280:328])).reshape(3, 4)
    if sform <= 0 and qform <= 0:
        raise ScanError("scan header: no sform and no qform, so left is unknown; convert it again")
    if sform > 0:
        check_affine(np.vstack([rows, [0, 0, 0, 1]]))
    if qform > 0:
        usable = np.isfinite([*quaternion, *pixdim[:4]]).all() and min(pixdim[1:4]) > 0
        if not usable or sum(q * q for q in quaternion[:3]) > 1.001:
            raise ScanError(f"scan header: its qform is not a rotation; {AGAIN}")
    if sform > 0 and qform > 0 and (np.linalg.det(rows[:, :3]) < 0) != (pixdim[0] < 0):
        raise ScanError(
            "scan header: sform and qform disagree which side is left; convert it again"
        )


def write_clean(scan: Scan, path: Path) -> None:
    """Write a scan as NIfTI-1 with voxels and geometry and nothing else.

    Whole numbers that fit are stored as ``int16``, all others as ``float32``; neither loses
    anything. Free text, dates, extensions and the file's name in gzip's header are not written.
    """
    voxels = scan.voxels.astype(np.float32)
    if np.abs(voxels).max() < 1 << 15 and (voxels == np.round(voxels)).all():
        _write(voxels.astype(np.int16), scan.affine, path)
    else:
        _write(voxels, scan.affine, path)


def write_region_map(
    region_map: UInt8[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"], path: Path
) -> None:
    """Write a region map as ``uint8``, on the grid that the affine gives."""
    _write(region_map, affine, path)


def _write(voxels: np.ndarray, affine: Float[np.ndarray, "4 4"], path: Path) -> None:
    """Write voxels as they are; packed where the name ends in ``.gz``."""
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content, 6, mtime=0) if path.name.endswith(".gz") else content)
