"""Read one DICOM file that nobody vouches for, as far as it is needed.

The elements are walked without entering a sequence, and of them only those named in `FIELDS` are
kept: neither private elements nor free text but one label leave this module. pydicom sees the
kept values and compressed pixels, and nothing before its size is known.
"""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pydicom
from pydicom.charset import convert_encodings, python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from imaging.scan import ScanError

FIELDS = (
    "SpecificCharacterSet",
    "ImageType",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "Modality",
    "Manufacturer",
    "SeriesDescription",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "ContrastBolusAgent",
    "AngioFlag",
    "ScanningSequence",
    "SequenceVariant",
    "MRAcquisitionType",
    "SliceThickness",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "MagneticFieldStrength",
    "FlipAngle",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "ImagesInAcquisition",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
)
TAGS = {tag_for_keyword(keyword): keyword for keyword in FIELDS}
TRANSFER_SYNTAX, STORAGE_CLASS = 0x00020010, 0x00020002
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXELS = 0x7FE00010
UNDEFINED = 0xFFFFFFFF  # a length that only a delimiter ends
LARGEST_NUMBER = 1e9  # of any kept field; NaN is not below it either
LONGEST_VALUE = 4096  # bytes of a kept element
MOST_META = 64  # elements of the file's own header
MOST_ELEMENTS = 20_000
DEEPEST = 32  # sequences and their items within each other
LARGEST_INFLATED = 1 << 24  # bytes of a deflated file: one picture and its header
LONG_VRS = {vr.encode() for vr in EXPLICIT_VR_LENGTH_32}
KNOWN_VRS = {vr.value.encode() for vr in VR if len(vr.value) == 2}
LIBRARY_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)  # what pydicom raises at values that are not what they should be
COPY = "copy the series again"

# What pydicom would say about a broken value quotes it.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

Fields = Mapping[str, tuple[Any, ...]]
Stream = BinaryIO | BytesIO


@dataclass(frozen=True)
class Picture:
    """One file's kept fields and the place of its pixels."""

    path: Path
    syntax: str  # UID of the transfer syntax
    fields: Fields  # by DICOM keyword; absent, empty and unreadable ones are missing
    offset: int | None  # of the pixels, in the inflated file; None where there are none
    length: int  # of the pixels, in bytes

    def number(self, keyword: str) -> float | None:
        """The only value of a field, where it is a sane number."""
        numbers = self.numbers(keyword, 1)
        return numbers[0] if numbers else None

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """All values of a field, where they are this many sane numbers."""
        values = self.fields.get(keyword, ())
        sane = (isinstance(v, int | float) and abs(v) < LARGEST_NUMBER for v in values)
        return tuple(map(float, values)) if len(values) == count and all(sane) else None

    def words(self, keyword: str) -> tuple[str, ...]:
        """The values of a field as capital words."""
        return tuple(str(value).strip().upper() for value in self.fields.get(keyword, ()))

    def word(self, keyword: str) -> str:
        """The first value of a field as a capital word, empty where there is none."""
        return next(iter(self.words(keyword)), "")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.number("Rows") or 0), int(self.number("Columns") or 0)


class _Element(NamedTuple):
    tag: int
    length: int
    position: int  # of the value


def read_picture(path: Path) -> Picture | None:
    """Read the header of one file, stopping before its pixels.

    Args:
        path: Any regular file.

    Returns:
        What it says of a picture; None if it is not DICOM or an index of other files.

    Raises:
        ScanError: It is DICOM, but damaged or hostile.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
            meta, start = _read_meta(stream)
            if meta.get(STORAGE_CLASS) == MediaStorageDirectoryStorage:
                return None
            syntax = meta.get(TRANSFER_SYNTAX, "")
            if syntax == DeflatedExplicitVRLittleEndian:
                return _read_header(path, syntax, _inflate(stream, start), 0)
            return _read_header(path, syntax, stream, start)
    except OSError:  # whose text would name the file
        raise ScanError("DICOM file: the system cannot read it; check its permissions") from None


def _read_meta(stream: Stream) -> tuple[dict[int, str], int]:
    """The text of the file's own header, which is always explicit, and where it ends."""
    found: dict[int, str] = {}
    position = 132
    for _ in range(MOST_META):
        stream.seek(position)
        if stream.read(2) != b"\2\0":
            return found, position
        stream.seek(position)
        tag, length, size, _ = _head(stream, implicit=False, order="<")
        if tag in (TRANSFER_SYNTAX, STORAGE_CLASS):
            value = _value(stream, _Element(tag, length, position + size))
            found[tag] = value.rstrip(b"\0 ").decode("latin-1")
        position += size + length
    raise ScanError(f"DICOM file: more than {MOST_META} elements before the first; {COPY}")


def _inflate(stream: Stream, start: int) -> BytesIO:
    """A deflated file's elements, if they are not more than one picture can need."""
    stream.seek(start)
    inflater = zlib.decompressobj(wbits=-15)
    try:
        content = inflater.decompress(stream.read(LARGEST_INFLATED), LARGEST_INFLATED)
    except zlib.error:
        raise ScanError(f"DICOM file: its compression is damaged; {COPY}") from None
    if len(content) == LARGEST_INFLATED:
        raise ScanError(f"DICOM file: it inflates to {len(content) >> 20} MiB; export it plainly")
    return BytesIO(content)


def _read_header(path: Path, syntax: str, stream: Stream, start: int) -> Picture:
    """The kept fields and the place of the pixels."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    kept: dict[int, bytes] = {}
    for element in _walk(stream, start, implicit=syntax == ImplicitVRLittleEndian, order=order):
        if element.tag == PIXELS:
            length = element.length
            if length == UNDEFINED:
                length = stream.seek(0, 2) - element.position
            return Picture(path, syntax, _convert(kept, order), element.position, length)
        if element.tag in kept:
            raise ScanError(f"DICOM file: it gives {TAGS[element.tag]} twice; {COPY}")
        if element.tag in TAGS:
            kept[element.tag] = _value(stream, element)
    return Picture(path, syntax, _convert(kept, order), None, 0)


def _walk(stream: Stream, start: int, *, implicit: bool, order: str) -> Iterator[_Element]:
    """The elements of the outermost level, through the pixels; what they hold is skipped."""
    end = stream.seek(0, 2)
    position = start
    outside: list[bool] = []  # of each open sequence or item: was the level around it implicit?
    for _ in range(MOST_ELEMENTS):
        if position == end and not outside:
            return
        stream.seek(position)
        tag, length, size, opaque = _head(stream, implicit=implicit, order=order)
        position += size
        if tag in (ITEM_END, SEQUENCE_END):
            if not outside:
                raise ScanError(f"DICOM file: a sequence ends that never began; {COPY}")
            implicit = outside.pop()
            continue
        if not outside and tag != ITEM:
            yield _Element(tag, length, position)
        if length == UNDEFINED:
            outside.append(implicit)
            implicit = implicit or opaque
            if len(outside) > DEEPEST:
                raise ScanError(f"DICOM file: sequences nested deeper than {DEEPEST}; {COPY}")
            continue
        position += length
        if position > end:
            raise ScanError(f"DICOM file: it ends within an element; {COPY}")
    raise ScanError(f"DICOM file: more than {MOST_ELEMENTS} elements; {COPY}")


def _head(stream: Stream, *, implicit: bool, order: str) -> tuple[int, int, int, bool]:
    """Tag, length of the value, bytes before it, and whether its inside is of unknown kind."""
    head = stream.read(12)
    if len(head) < 8:
        raise ScanError(f"DICOM file: it ends within an element; {COPY}")
    group, number = struct.unpack(order + "HH", head[:4])
    tag, vr = group << 16 | number, head[4:6]
    if implicit or group == 0xFFFE:
        return tag, struct.unpack(order + "L", head[4:8])[0], 8, False
    if vr not in KNOWN_VRS:
        raise ScanError(f"DICOM file: element {group:04X},{number:04X} has no known type; {COPY}")
    if vr not in LONG_VRS:
        return tag, struct.unpack(order + "H", head[6:8])[0], 8, False
    if len(head) < 12:
        raise ScanError(f"DICOM file: it ends within an element; {COPY}")
    return tag, struct.unpack(order + "L", head[8:12])[0], 12, vr == b"UN"


def _value(stream: Stream, element: _Element) -> bytes:
    """The bytes of a kept element."""
    if element.length > LONGEST_VALUE:
        raise ScanError(f"DICOM file: a field of {element.length} bytes; {COPY}")
    stream.seek(element.position)
    value = stream.read(element.length)
    if len(value) < element.length:
        raise ScanError(f"DICOM file: it ends within an element; {COPY}")
    return value


def _convert(kept: Mapping[int, bytes], order: str) -> Fields:
    """Values as pydicom understands them; what it cannot counts as absent.

    The type is the dictionary's and not the file's, so that no number arrives as a sequence.
    """
    charset = kept.get(tag_for_keyword("SpecificCharacterSet") or 0, b"").decode("latin-1")
    names = [name.strip() for name in charset.split("\\")]
    encodings = convert_encodings(names if all(n in python_encoding for n in names) else [""])
    fields: dict[str, tuple[Any, ...]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, raw in kept.items():
            vr = dictionary_VR(tag)
            element = RawDataElement(
                BaseTag(tag),
                vr,
                len(raw),
                raw,
                0,
                is_implicit_VR=False,
                is_little_endian=order == "<",
            )
            try:
                value = convert_raw_data_element(element, encoding=encodings).value
            except LIBRARY_ERRORS:
                continue
            if value is not None and value != "":
                fields[TAGS[tag]] = tuple(value) if isinstance(value, MultiValue) else (value,)
    return fields


def pixel_bytes(picture: Picture) -> bytes:
    """The pixels as they are stored, as many bytes as the header said.

    Raises:
        ScanError: The file is shorter, or not there any more.
    """
    assert picture.offset is not None
    try:
        with picture.path.open("rb") as stream:
            source: Stream = stream
            if picture.syntax == DeflatedExplicitVRLittleEndian:
                source = _inflate(stream, _read_meta(stream)[1])
            source.seek(picture.offset)
            content = source.read(picture.length)
    except OSError:
        raise ScanError("DICOM file: the system cannot read it; check its permissions") from None
    if len(content) < picture.length:
        raise ScanError(f"DICOM file: it ends before its last pixel; {COPY}")
    return content
