"""A FHIR bulk export (NDJSON, plain or gzip) becomes one bundle for each of its patients.

A bad line costs that line, a damaged or swollen file the rest of that file; both are named by
file and line. Files that the export's manifest lists and that are not here are named too.
"""

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import orjson

from clinical.by_patient import PatientBundle, PatientIndex
from clinical.elements import Json
from clinical.fhir import read_bundle
from clinical.import_report import ImportReport, Place
from clinical.record import PatientRecord

SUFFIXES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
MAX_LINE = 64 * 2**20  # bytes of one resource
MAX_MANIFEST = 16 * 2**20  # bytes
# Records compress to a twentieth, sometimes a hundredth; a bomb to a thousandth.
MAX_RATIO = 250
FREE_BYTES = 256 * 2**20  # any file may grow to this

Lines = io.BufferedReader | gzip.GzipFile

_DELETION = ("Bundle", "a list of deletions")
_OUTCOME = ("OperationOutcome", "a message of the server")


class ExportError(ValueError):
    """There is nothing in the folder that could be an export."""


@dataclass(frozen=True)
class ExportedPatient:
    """One patient of an export.

    Attributes:
        number: Counts the patients from 1, for messages: an id may identify.
    """

    number: int
    _id: str = field(repr=False)
    _index: PatientIndex = field(repr=False)

    def bundle(self) -> PatientBundle:
        """The patient's canonical bundle."""
        return self._index.bundle(self._id)

    def read(self) -> tuple[PatientRecord, ImportReport]:
        """The record and what became of each of its lines.

        Raises:
            clinical.bundle.BundleError: The Patient cannot be read.
        """
        bundle = self.bundle()
        return read_bundle(bundle.raw, bundle.places)


@dataclass(frozen=True)
class Export:
    """An export sorted by patient.

    Attributes:
        patients: The patients in order of their ids.
        report: What became of each line: accepted means that its patient is known; what was
            then made of it is in the patient's own report.
    """

    patients: tuple[ExportedPatient, ...]
    report: ImportReport


def is_ndjson(path: Path) -> bool:
    """Whether a path is a file of an export, or a folder with one in it."""
    return path.name.lower().endswith(SUFFIXES) if path.is_file() else bool(_files(path))


def read_export(*paths: Path) -> Export:
    """Read an export.

    Args:
        paths: Its folder, or its files.

    Raises:
        ExportError: There is no NDJSON file.
        OSError: A file cannot be opened.
    """
    files = [file for path in paths for file in (_files(path) if path.is_dir() else [path])]
    if not files:
        raise ExportError("there is no .ndjson or .ndjson.gz file here; give an export's folder")
    index, lines = PatientIndex(), Counter[str]()
    deletions: list[Json] = []
    for file in files:
        deletions += _take_file(file, index, lines)
    for manifest in filter(None, map(_manifest, {file.parent for file in files})):
        _compare(manifest, lines, index)
    for kind, own in _deleted(deletions):
        index.delete(kind, own)
    report = index.close()
    return Export(exported(index), report)


def exported(index: PatientIndex) -> tuple[ExportedPatient, ...]:
    """The patients of an index, numbered."""
    return tuple(ExportedPatient(n, own, index) for n, own in enumerate(index.patients(), 1))


def _files(folder: Path) -> list[Path]:
    """The NDJSON files of a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.name.lower().endswith(SUFFIXES) and p.is_file())


def _take_file(path: Path, index: PatientIndex, lines: Counter[str]) -> list[Json]:
    """Take every line of a file; returns those that list deletions."""
    deletions = []
    for place, line in _lines(path, index):
        lines[path.name] += 1
        resource = _resource(line)
        kind = resource.get("resourceType") if resource else None
        if resource is None:
            index.refuse(place, "", "is no JSON object")
        elif kind == _DELETION[0]:
            deletions.append(resource)
            index.ignore(place, *_DELETION)
        elif kind == _OUTCOME[0]:
            index.ignore(place, *_OUTCOME)
        else:
            index.add(resource, place)
    lines[path.name] += 0  # an empty file is here, too
    return deletions


def _resource(line: bytes) -> Json | None:
    """The JSON object of a line; None where there is none."""
    try:
        resource = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return resource if isinstance(resource, dict) else None


def _lines(path: Path, index: PatientIndex) -> Iterator[tuple[Place, bytes]]:
    """The lines of a file that are not empty; what stops the reading is booked."""
    number, most = 0, max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
    try:
        with _opened(path) as file:
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if file.tell() > most:
                    index.refuse((path.name, number), "", f"and the rest: over {MAX_RATIO}:1")
                    return
                if len(line) > MAX_LINE and not line.endswith(b"\n"):
                    index.refuse((path.name, number), "", f"is longer than {MAX_LINE} bytes")
                    _skip_line(file, most)
                elif text := line.removeprefix(b"\xef\xbb\xbf").strip():
                    yield (path.name, number), text
    except (EOFError, zlib.error, gzip.BadGzipFile):
        index.refuse((path.name, number + 1), "", "and the rest: the file is damaged or cut off")


def _skip_line(file: Lines, most: int) -> None:
    """Go on to the next line, without keeping this one."""
    while file.tell() <= most:
        rest = file.readline(2**20)
        if not rest or rest.endswith(b"\n"):
            return


@contextmanager
def _opened(path: Path) -> Iterator[Lines]:
    """A file, inflated where it is gzip, whatever its name says."""
    with path.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        if zipped:
            with gzip.open(plain) as inflated:
                yield inflated
        else:
            yield plain


def _manifest(folder: Path) -> Json | None:
    """The export's manifest; None where there is none."""
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_size <= MAX_MANIFEST:
            found = _resource(path.read_bytes())
            if found is not None and isinstance(found.get("output"), list):
                return found
    return None


def _compare(manifest: Json, lines: Counter[str], index: PatientIndex) -> None:
    """Hold the files that are here against those that the manifest lists."""
    listed: set[str] = set()
    for section in ("output", "deleted", "error"):
        for item in _items(manifest.get(section)):
            name = _file_name(item.get("url"))
            here = next((n for n in (name, f"{name}.gz", f"{name}.ndjson") if n in lines), None)
            listed.add(here or name)
            count = item.get("count")
            if here is None:
                index.remark("manifest", section, f"lists {name}, which is not here")
            elif isinstance(count, int) and count != lines[here]:
                said = f"says that {name} has {count} lines; it has {lines[here]}"
                index.remark("manifest", section, said)
    for name in sorted(set(lines) - listed):
        index.remark("manifest", "output", f"does not list {name}; it was read all the same")


def _items(section: object) -> Sequence[Json]:
    """The objects of a list."""
    return [item for item in section if isinstance(item, dict)] if isinstance(section, list) else []


def _file_name(url: object) -> str:
    """The last part of a URL's path."""
    return unquote(urlsplit(str(url)).path).rsplit("/", 1)[-1] or "a file without a name"


def _deleted(bundles: Iterable[Json]) -> Iterator[tuple[str, str]]:
    """Type and id of every resource that an export says was deleted."""
    for bundle in bundles:
        for entry in _items(bundle.get("entry")):
            request = entry.get("request")
            if isinstance(request, dict) and request.get("method") == "DELETE":
                kind, _, own = str(request.get("url", "")).rpartition("/")
                yield kind.rpartition("/")[2], own
