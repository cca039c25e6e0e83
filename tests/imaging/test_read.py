"""A file that nobody vouches for is read exactly or refused in one sentence."""

import gzip
import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imaging.read import read_nifti, write_clean, write_region_map
from imaging.scan import Scan, ScanError

SHAPE = (20, 18, 16)
AFFINE = np.array([[-2.0, 0, 0, 20], [0, 1.5, 0, -15], [0, 0, 1, -8], [0, 0, 0, 1]])
NAME = "Lovelace_Ada_18151210"  # a file name that identifies its patient


def nifti(dtype: str = "<i2", affine: np.ndarray = AFFINE) -> bytes:
    """A small healthy file."""
    voxels = np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(voxels.dtype)
    header["descrip"] = NAME.encode()
    image = nib.Nifti1Image(voxels, affine, header)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    return image.to_bytes()


def put(offset: int, layout: str, *values: float) -> Callable[[bytes], bytes]:
    """Overwrite fields of the header."""

    def change(content: bytes) -> bytes:
        packed = struct.pack("<" + layout, *values)
        return content[:offset] + packed + content[offset + len(packed) :]

    return change


def both(*changes: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """One change after the other."""

    def change(content: bytes) -> bytes:
        for step in changes:
            content = step(content)
        return content

    return change


def voxels_of(value: float) -> Callable[[bytes], bytes]:
    """Make it a float32 file whose first voxels hold this value."""
    return lambda _: put(352, "100f", *[value] * 100)(nifti("<f4"))


def sform(*rows: float) -> Callable[[bytes], bytes]:
    """Replace the sform and leave no qform to fall back to."""
    return both(put(252, "2h", 0, 1), put(280, "12f", *rows))


def damage(content: bytes) -> bytes:
    """A gzip file whose checksum does not fit its content."""
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1
    return bytes(packed)


DIMS, DATATYPE, OFFSET, SLOPE, CODES = 40, 70, 108, 112, 252
TURNED = (2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0)
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "only half a header": lambda content: content[:100],
    "a letter": lambda _: b"Dear colleague, " * 100,
    "DICOM": lambda _: bytes(128) + b"DICM" + bytes(400),
    "NIfTI-2": put(0, "i4s", 540, b"n+2\0"),
    "a header whose voxels are elsewhere": put(344, "4s", b"ni1\0"),
    "Analyze": put(344, "4s", b"\0\0\0\0"),
    "no slices": put(DIMS, "4h", 3, 20, 18, 0),
    "a negative axis": put(DIMS, "4h", 3, 20, -18, 16),
    "a short axis": put(DIMS, "4h", 3, 20, 18, 3),
    "a long axis": put(DIMS, "4h", 3, 20, 18, 4096),
    "too many voxels": put(DIMS, "4h", 3, 1024, 1024, 1024),
    "too many bytes": both(put(DIMS, "4h", 3, 512, 512, 512), put(DATATYPE, "2h", 64, 64)),
    "one slice": put(DIMS, "3h", 2, 20, 18),
    "a time series": put(DIMS, "5h", 4, 20, 18, 8, 2),
    "nine axes": put(DIMS, "h", 9),
    "colour": put(DATATYPE, "2h", 128, 24),
    "complex numbers": put(DATATYPE, "2h", 32, 64),
    "no known datatype": put(DATATYPE, "2h", 77, 16),
    "a datatype that contradicts its bits": put(DATATYPE, "2h", 4, 32),
    "an offset inside the header": put(OFFSET, "f", 12),
    "an offset that is no number": put(OFFSET, "f", np.nan),
    "an offset beyond the file": put(OFFSET, "f", 1e9),
    "an endless slope": put(SLOPE, "2f", np.inf, 0),
    "an intercept that is no number": put(SLOPE, "2f", 2, np.nan),
    "a slope that overflows": put(SLOPE, "2f", 3e38, 0),
    "no orientation": put(CODES, "2h", 0, 0),
    "an affine that is no number": sform(np.nan, *TURNED[1:]),
    "an endless affine": sform(2, 0, 0, np.inf, *TURNED[4:]),
    "a head ten kilometres away": sform(2, 0, 0, 1e7, *TURNED[4:]),
    "an affine of zeros": sform(*[0] * 12),
    "two axes that are one": sform(2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0),
    "axes almost in one plane": sform(2, 1.99, 0, 0, 0, 0.2, 0, 0, 0, 0, 2, 0),
    "voxels of a metre": sform(1000, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0),
    "voxels of a micrometre": sform(0.001, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0),
    "a qform that is no rotation": both(put(CODES, "2h", 1, 0), put(256, "3f", 1, 1, 1)),
    "a qform that is no number": both(put(CODES, "2h", 1, 0), put(256, "f", np.nan)),
    "a qform without size": both(put(CODES, "2h", 1, 0), put(80, "3f", 0, 0, 0)),
    "two opinions about left": put(280, "12f", *TURNED),
    "half of its voxels": lambda content: content[: len(content) // 2],
    "more than its voxels": lambda content: content + bytes(1 << 17),
    "voxels that are no number": voxels_of(np.nan),
    "an endless voxel": voxels_of(np.inf),
    "one grey value": lambda content: content[:352] + bytes(len(content) - 352),
}
HOSTILE_GZIP: dict[str, Callable[[bytes], bytes]] = {
    "not packed": lambda content: content,
    "a wrong checksum": damage,
    "half a gzip file": lambda content: gzip.compress(content)[:2000],
    "a gzip file of nothing": lambda _: gzip.compress(b""),
    "a broken gzip stream": lambda content: gzip.compress(content)[:10] + bytes(range(256)),
}
ALL = [(".nii", *case) for case in HOSTILE.items()]
ALL += [(".nii.gz", *case) for case in HOSTILE_GZIP.items()]


@pytest.mark.parametrize(("ending", "change"), [c[::2] for c in ALL], ids=[c[1] for c in ALL])
def test_a_hostile_file_is_refused_at_once_and_without_naming_its_patient(
    ending: str, change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """One kind of error, a sentence with advice, in less than a second."""
    path = tmp_path / f"{NAME}{ending}"
    path.write_bytes(change(nifti()))
    began = time.perf_counter()
    with pytest.raises(ScanError) as refused:
        read_nifti(path)
    assert time.perf_counter() - began < 1.0
    assert "Lovelace" not in str(refused.value)
    assert str(refused.value).startswith("scan ")


@pytest.mark.parametrize("copies", [3, 64])
def test_a_bomb_is_refused_in_little_memory(copies: int, tmp_path: Path) -> None:
    """Neither 50 megabytes of zeros behind a small volume nor a gigabyte are unpacked."""
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(nifti()) + gzip.compress(bytes(1 << 24), 9) * copies)
    tracemalloc.start()
    with pytest.raises(ScanError, match="than its header says"):
        read_nifti(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A missing path, a folder and a pipe, which would block for ever."""
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "folder.nii").mkdir()
    for name in ("pipe.nii", "folder.nii", "nothing.nii"):
        with pytest.raises(ScanError, match="check the path"):
            read_nifti(tmp_path / name)


@pytest.mark.parametrize(
    "dtype",
    [
        "u1",
        "i1",
        "<i2",
        ">i2",
        "<u2",
        ">u2",
        "<i4",
        ">i4",
        "<u4",
        "<i8",
        ">u8",
        "<f4",
        ">f4",
        "<f8",
    ],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_voxels_are_exactly_those_of_nibabel(dtype: str, ending: str, tmp_path: Path) -> None:
    """In every datatype and byte order, scaled by a slope."""
    order = ">" if dtype[0] == ">" else "<"
    content = bytearray(nifti(dtype))
    content[SLOPE : SLOPE + 8] = struct.pack(order + "2f", 13.895223617553711, -3.0)
    path = tmp_path / f"scan{ending}"
    path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    theirs = nib.load(path)
    ours = read_nifti(path)
    np.testing.assert_array_equal(ours.voxels, theirs.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(ours.affine, theirs.affine)


def test_a_real_scan_is_exactly_that_of_nibabel(data: Path, unseen: list[str]) -> None:
    """Also behind the kilobytes of extension that its header carries."""
    path = data / "ixi_t1_2mm" / "t1" / f"{unseen[0]}.nii.gz"
    theirs = nib.load(path)
    np.testing.assert_array_equal(read_nifti(path).voxels, theirs.get_fdata(dtype=np.float32))


def test_a_series_of_one_volume_is_that_volume(tmp_path: Path) -> None:
    """Some scanners export a fourth axis of length one."""
    path = tmp_path / "scan.nii"
    path.write_bytes(put(DIMS, "5h", 4, *SHAPE, 1)(nifti()))
    assert read_nifti(path).voxels.shape == SHAPE


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_a_clean_copy_keeps_voxels_and_geometry_and_nothing_else(
    scale: float, tmp_path: Path
) -> None:
    """Neither free text nor the file's own name is left in the bytes."""
    path = tmp_path / f"{NAME}.nii.gz"
    source = tmp_path / "source.nii"
    source.write_bytes(nifti())
    scan = read_nifti(source)
    write_clean(Scan(scan.voxels * np.float32(scale), scan.affine), path)
    again = read_nifti(path)
    np.testing.assert_array_equal(again.voxels, scan.voxels * np.float32(scale))
    np.testing.assert_allclose(again.affine, scan.affine, atol=1e-5)
    assert b"Lovelace" not in path.read_bytes() + gzip.decompress(path.read_bytes())


def test_a_region_map_comes_back_as_written(tmp_path: Path) -> None:
    """Bytes, on its scan's grid."""
    regions = np.random.default_rng(0).integers(0, 50, SHAPE).astype(np.uint8)
    write_region_map(regions, AFFINE, tmp_path / "regions.nii.gz")
    image = nib.load(tmp_path / "regions.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), regions)
    np.testing.assert_allclose(image.affine, AFFINE)
