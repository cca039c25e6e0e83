"""Whatever a file holds, it ends as a scan or as one kind of error, soon and in little memory.

Memory is what Python and numpy allocate, by `tracemalloc`; time has only a guard against hanging.
"""

import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_studies import NAME, SLICES, headers, write
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from imaging.dicom import read_dicom
from imaging.dicom_file import read_picture
from imaging.dicom_pixels import check_pixels, read_pixels
from imaging.read import read_nifti
from imaging.scan import ScanError

pytestmark = pytest.mark.timeout(900)  # a guard against hanging, not a measure
SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
]
EXTREMES = [
    bytes(4),
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    np.float32(np.nan).tobytes(),
    np.float32(np.inf).tobytes(),
    np.float32(1e38).tobytes(),
    b"SQ\0\0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fail a test that holds more than 64 MiB at once."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, insert, delete or cut; most often in the header."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        reach = len(changed) if rng.random() < 0.3 else min(len(changed), 1200)
        at = int(rng.integers(0, max(reach, 1)))
        match rng.integers(0, 5):
            case 0:
                changed[at : at + 1] = rng.bytes(1)
            case 1:
                value = EXTREMES[rng.integers(len(EXTREMES))][: rng.choice([2, 4, 8])]
                changed[at : at + len(value)] = value
            case 2:
                changed[at:at] = rng.bytes(int(rng.integers(1, 64)))
            case 3:
                del changed[at : at + int(rng.integers(1, 64))]
            case 4 if rng.random() < 0.3:
                del changed[at:]
    return bytes(changed)


def small_nifti(dtype: str, *, packed: bool) -> bytes:
    """A healthy file with 16 voxels along each axis."""
    voxels = np.random.default_rng(1).integers(0, 100, (16, 16, 16)).astype(dtype)
    image = nib.Nifti1Image(voxels, np.diag([2, 2, 2, 1]), dtype=voxels.dtype)
    content = image.to_bytes()
    return gzip.compress(content, 1) if packed else content


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_750_mutations_of_nifti_are_read_or_refused(
    ending: str, tmp_path: Path, little_memory: None
) -> None:
    """Half of the packed ones are mutated inside, where the checksum does not see it."""
    rng = np.random.default_rng(3)
    path = tmp_path / f"scan{ending}"
    read = 0
    for turn in range(750):
        outside = ending == ".nii.gz" and turn % 2 == 0
        content = mutated(small_nifti(("u1", "<i2", "<f4")[turn % 3], packed=outside), rng)
        path.write_bytes(gzip.compress(content, 1) if ending[4:] and not outside else content)
        try:
            scan = read_nifti(path)
        except ScanError:
            continue
        read += 1
        assert np.isfinite(scan.voxels).all()
        assert np.isfinite(scan.affine).all()
    assert 0 < read < 750


@pytest.mark.parametrize("syntax", SYNTAXES, ids=[s.name for s in SYNTAXES])
def test_300_mutations_of_a_dicom_file_are_read_or_refused(
    syntax: UID, tmp_path: Path, little_memory: None
) -> None:
    """As header and as pixels, in each way of writing them."""
    rng = np.random.default_rng(4)
    path = next(write(headers()[:1], tmp_path, syntax).iterdir())
    content = path.read_bytes()
    read = 0
    for _ in range(300):
        path.write_bytes(mutated(content, rng))
        try:
            picture = read_picture(path)
            if picture is not None:
                check_pixels(picture)
                assert read_pixels(picture).shape == picture.shape
                read += 1
        except ScanError:
            continue
    assert 0 < read < 300


def test_60_studies_with_a_mutated_file_are_read_or_refused(
    tmp_path: Path, little_memory: None
) -> None:
    """What a single file says must not mislead the choice or the order of the slices."""
    rng = np.random.default_rng(5)
    paths = sorted(write(headers(), tmp_path).iterdir())
    read = 0
    for turn in range(60):
        path = paths[turn % len(paths)]
        content = path.read_bytes()
        path.write_bytes(mutated(content, rng))
        with contextlib.suppress(ScanError):
            assert np.isfinite(read_dicom(tmp_path).scan.voxels).all()
            read += 1
        path.write_bytes(content)
    assert 0 < read < 60


def headers_with(**tags: object) -> Callable[[Path], None]:
    """Write two slices with these tags."""

    def build(folder: Path) -> None:
        write(headers(**tags)[:2], folder)

    return build


def files_with(
    change: Callable[[bytes], bytes], syntax: UID = ExplicitVRLittleEndian, count: int = 2
) -> Callable[[Path], None]:
    """Write slices and change the bytes of each file."""

    def build(folder: Path) -> None:
        for path in write(headers()[:count], folder, syntax).iterdir():
            path.write_bytes(change(path.read_bytes()))

    return build


def deflated_bomb(folder: Path) -> None:
    """700 kB that inflate to 700 MB."""
    path = next(write(headers()[:1], folder, DeflatedExplicitVRLittleEndian).iterdir())
    content = path.read_bytes()
    start = 132 + 12 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(9, wbits=-15)
    private = b"\x09\x00\x10\x00OB\0\0" + (700 << 20).to_bytes(4, "little")
    bomb = packer.compress(private) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(700))
    path.write_bytes(content[:start] + bomb + packer.flush())


def run_length_bomb(content: bytes) -> bytes:
    """Fragments that repeat one byte over and over."""
    start = content.index(b"\xe0\x7f\x10\x00") + 12
    header = np.array([2, 64, 2000, *[0] * 13], "<u4").tobytes()
    fragment = header + b"\x81\x07" * 2000
    items = [b"", fragment]
    packed = b"".join(b"\xfe\xff\x00\xe0" + len(i).to_bytes(4, "little") + i for i in items)
    return content[:start] + packed + b"\xfe\xff\xdd\xe0" + bytes(4)


def before_pixels(insert: bytes) -> Callable[[bytes], bytes]:
    """Put bytes where the pixels' element begins."""

    def change(content: bytes) -> bytes:
        at = content.rindex(b"\xe0\x7f\x10\x00O")
        return content[:at] + insert + content[at:]

    return change


SEQUENCE = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
HOSTILE: dict[str, Callable[[Path], None]] = {
    "it inflates to 16 MiB": deflated_bomb,
    "all have the same value": files_with(run_length_bomb, RLELossless, SLICES),
    "nested deeper than 32": files_with(before_pixels(SEQUENCE * 100_000)),
    "more than 20000 elements": files_with(before_pixels(b"\x09\x00\x10\x00LO\0\0" * 21_000)),
    "pictures of 65535 x 65535": headers_with(Rows=65535, Columns=65535),
    "pixel data of 720 bytes where 1920000": headers_with(Rows=1000, Columns=960),
    "several slices in one file": headers_with(NumberOfFrames=2**31 - 1),
    "ends before its last pixel": files_with(lambda content: content[:-100], count=SLICES),
    "ends within an element": files_with(lambda content: content[:700]),
    "gives PatientID twice": files_with(before_pixels(b"\x10\x00\x20\x00LO\2\0ab")),
    "a field of 60000 bytes": files_with(before_pixels(b"\x18\0\x25\0CS\x60\xea")),
    "has no known type": files_with(before_pixels(b"\x09\x00\x10\x00@@\0\0")),
    "a sequence ends that never began": files_with(before_pixels(b"\xfe\xff\xdd\xe0" + bytes(4))),
}


@pytest.mark.parametrize(("reason", "build"), HOSTILE.items(), ids=HOSTILE)
def test_a_hostile_study_is_refused_in_little_memory(
    reason: str, build: Callable[[Path], None], tmp_path: Path, little_memory: None
) -> None:
    """With the reason, and without the name that its headers and files carry."""
    build(tmp_path)
    tracemalloc.reset_peak()
    with pytest.raises(ScanError, match=reason) as refused:
        read_dicom(tmp_path)
    assert NAME not in str(refused.value)


def test_what_pydicom_would_say_of_a_value_is_not_said(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Its warnings and its log quote what they cannot understand."""
    folder = write(headers(), tmp_path)
    for path in folder.iterdir():
        content = path.read_bytes().replace(b"2300", NAME[:4].encode())
        path.write_bytes(content.replace(b"19391210", NAME.encode()))
    found = read_dicom(folder)
    assert found.acquisition.repetition_time_ms is None
    assert found.identity.birth_year is None
    assert not [w for w in recwarn if NAME[:4] in str(w.message)]
    assert NAME[:4] not in caplog.text


def test_empty_pieces_of_gzip_without_end_are_refused(tmp_path: Path, little_memory: None) -> None:
    """Each takes twenty bytes and no place in the result."""
    path = tmp_path / "scan.nii.gz"
    whole = small_nifti("<i2", packed=False)
    path.write_bytes(gzip.compress(whole[:-10]) + gzip.compress(b"", mtime=0) * 3000)
    with pytest.raises(ScanError, match="ends before its last voxel"):
        read_nifti(path)
    path.write_bytes(gzip.compress(b"", mtime=0) * 40_000 + gzip.compress(whole))
    with pytest.raises(ScanError, match="too many pieces"):
        read_nifti(path)


def test_a_volume_packed_too_tightly_is_not_unpacked(tmp_path: Path, little_memory: None) -> None:
    """128 MiB of one grey value in 130 kB."""
    path = tmp_path / "scan.nii.gz"
    header = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([1, 1, 1, 1])).to_bytes()
    dims = np.array([3, 512, 512, 256], "<i2").tobytes()
    with gzip.open(path, "wb", 1) as stream:
        stream.write(header[:40] + dims + header[48:352])
        for _ in range(128):
            stream.write(bytes(1 << 20))
    with pytest.raises(ScanError, match="too tightly"):
        read_nifti(path)


def test_pieces_of_gzip_are_read_as_one(tmp_path: Path) -> None:
    """As block-wise packers write them, also with zeros behind."""
    content = small_nifti("<i2", packed=False)
    path = tmp_path / "scan.nii.gz"
    blocks = [gzip.compress(content[i : i + 500]) for i in range(0, len(content), 500)]
    path.write_bytes(b"".join(blocks) + bytes(300))
    expected = nib.Nifti1Image.from_bytes(content).get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(read_nifti(path).voxels, expected)
