"""A FHIR bundle as entries that are parsed one by one, and whose record each of them belongs to.

The text is scanned once; of each entry only type, id and subject are read. Whatever else is in
it is parsed when it is needed, so that memory does not grow with what nobody uses.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from clinical.elements import Json, UnreadableError
from clinical.r4 import MAX_DEPTH

MAX_BYTES = 256 * 2**20
BUNDLE_TYPES = ("transaction", "collection", "searchset", "batch", "document")

_CUT = 2 * MAX_DEPTH + 8  # nesting below which nothing can be read; a bundle's own levels included
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_PATIENT = re.compile(r"(?:^|/)Patient/([A-Za-z0-9.-]{1,64})$")
_CONDITIONAL = re.compile(r"^Patient\?identifier=([^|&]*)\|([^&]+)$")
_VERSION = re.compile(r"/_history/[^/]*$")


class BundleError(ValueError):
    """The bundle is refused as a whole: not JSON, not one patient's, or of an unknown kind."""


class _Wire(msgspec.Struct, rename="camel"):
    """A bundle on the wire; everything is Any or Raw, since nothing has been checked."""

    resource_type: Any = None
    type: Any = None
    link: Any = None
    entry: msgspec.Raw = msgspec.Raw(b"[]")


class _Item(msgspec.Struct, rename="camel"):
    """An entry on the wire."""

    full_url: Any = None
    request: Any = None
    resource: msgspec.Raw = msgspec.Raw(b"null")


class _Peek(msgspec.Struct, rename="camel"):
    """What must be known of every resource."""

    resource_type: Any = None
    id: Any = None
    subject: Any = None
    patient: Any = None
    beneficiary: Any = None


@dataclass(frozen=True)
class Entry:
    """One entry of a bundle before its resource is parsed.

    Attributes:
        index: Position in the bundle, from 0.
        raw: JSON of the resource.
        kind: Type of the resource; empty where there is none to read.
        id: Its id; else the last part of its URL or its position.
        subject: Reference to whom it is about, as sent.
        url: Its fullUrl.
        deletes: True where the entry asks a server to delete something.
    """

    index: int
    raw: msgspec.Raw | bytes = field(repr=False)
    kind: str
    id: str = field(repr=False)
    subject: Json = field(default_factory=dict, repr=False)
    url: str = field(default="", repr=False)
    deletes: bool = False

    @property
    def local(self) -> str:
        """Its relative reference."""
        return f"{self.kind}/{self.id}"

    def names(self) -> set[str]:
        """Every reference that means this entry."""
        return {self.local, self.url} - {""}

    def resource(self) -> Json:
        """Parse the resource.

        Raises:
            UnreadableError: It is no JSON that can be read: a number out of range, a wrong byte.
        """
        try:
            parsed = orjson.loads(memoryview(self.raw))
        except orjson.JSONDecodeError:
            raise UnreadableError("", "is not valid JSON") from None
        assert isinstance(parsed, dict)
        return parsed


def entry_of(
    index: int, raw: msgspec.Raw | bytes, url: str = "", *, deletes: bool = False
) -> Entry:
    """Look at type, id and subject of a resource."""
    try:
        peek = msgspec.json.decode(raw, type=_Peek)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        peek = _Peek()
    kind = peek.resource_type if isinstance(peek.resource_type, str) else ""
    own = peek.id if isinstance(peek.id, str) else ""
    subject = peek.subject or peek.patient or peek.beneficiary
    return Entry(
        index=index,
        raw=raw,
        kind=kind,
        id=own or re.split("[:/]", url)[-1] or f"entry-{index}",
        subject=subject if isinstance(subject, dict) else {},
        url=url,
        deletes=deletes,
    )


def entries_of(raw: bytes) -> tuple[list[Entry], bool]:
    """The entries of a bundle.

    Returns:
        All entries, and whether the bundle says that it is a page of which another follows.

    Raises:
        BundleError: It is not JSON or no bundle of a record.
    """
    if len(raw) > MAX_BYTES:
        raise BundleError(
            f"{len(raw)} bytes are more than the {MAX_BYTES} a bundle may have; split it"
        )
    wire = _wire(raw.removeprefix(b"\xef\xbb\xbf"))
    if wire.resource_type != "Bundle":
        raise BundleError("not a FHIR Bundle; put single resources into one of type collection")
    if wire.type not in BUNDLE_TYPES:
        raise BundleError(f"not a bundle of a record; its type must be one of {BUNDLE_TYPES}")
    try:
        items = msgspec.json.decode(wire.entry, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise BundleError("Bundle.entry is not a list; export the bundle again") from None
    links = wire.link if isinstance(wire.link, list) else []
    has_next = any(isinstance(link, dict) and link.get("relation") == "next" for link in links)
    return [_entry(index, item) for index, item in enumerate(items)], has_next


def _wire(raw: bytes) -> _Wire:
    """Scan a bundle's text.

    Raises:
        BundleError: It is not JSON.
    """
    for text in (raw, None):
        try:
            return msgspec.json.decode(_shallow(raw) if text is None else text, type=_Wire)
        except RecursionError:
            continue
        except msgspec.ValidationError:
            raise BundleError("not a FHIR Bundle; its JSON is no object") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            where = re.search(r"byte (\d+)", str(error))
            at = f" at byte {where[1]}" if where else ""
            raise BundleError(f"not JSON{at}; export the bundle again") from None
    raise BundleError("nested too deep to be read; export the bundle again")


def _shallow(raw: bytes) -> bytes:
    """JSON with everything cut out that is nested too deep to be read anyway.

    So an entry that is a nesting bomb costs itself: what is left of it is still too deep.
    """
    kept, depth, done, cut = [], 0, 0, None
    for token in _TOKENS.finditer(raw):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth == _CUT:
                cut = token.start()
        elif token[0] in (b"]", b"}"):
            if depth == _CUT and cut is not None:
                kept += [raw[done:cut], b'"cut"']
                done, cut = token.end(), None
            depth -= 1
    return b"".join([*kept, raw[done:]])


def _entry(index: int, item: msgspec.Raw) -> Entry:
    """One entry; with nothing in it where it is malformed."""
    try:
        read = msgspec.json.decode(item, type=_Item)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        read = _Item()
    url = read.full_url if isinstance(read.full_url, str) else ""
    request = read.request if isinstance(read.request, dict) else {}
    return entry_of(index, read.resource, url, deletes=request.get("method") == "DELETE")


@dataclass(frozen=True)
class Whose:
    """The Patient that a bundle is about, as entries may refer to them.

    Attributes:
        id: FHIR id.
        url: Its fullUrl; empty where there is none.
        identifiers: System and value of its business identifiers.
    """

    id: str = field(repr=False)
    url: str = field(default="", repr=False)
    identifiers: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)

    def is_subject_of(self, entry: Entry) -> bool | None:
        """Whether an entry is about this patient.

        Returns:
            True where its reference or its identifier says so, False where one names another
            patient, None where neither can be resolved or they contradict each other.
        """
        by_reference = self._referred(entry)
        identifier = entry.subject.get("identifier")
        by_identifier = self._identified(identifiers_of([identifier]))
        if by_reference is None or by_identifier is None:
            return by_identifier if by_reference is None else by_reference
        return by_reference if by_reference == by_identifier else None

    def _referred(self, entry: Entry) -> bool | None:
        reference = entry.subject.get("reference")
        if not isinstance(reference, str):
            return None
        if reference.startswith("#"):
            return self._identified(_identifiers_of_contained(entry, reference[1:]))
        if conditional := _CONDITIONAL.match(reference):
            return self._identified({(conditional[1], conditional[2])})
        reference = _VERSION.sub("", reference)
        if reference in (f"Patient/{self.id}", self.url):
            return True
        match = _PATIENT.search(reference)
        if not match:
            return None
        both_absolute = "://" in reference and "://" in self.url
        return not both_absolute and match[1] == self.id

    def _identified(self, sent: Iterable[tuple[str, str]]) -> bool | None:
        """Whether identifiers are this patient's; None where they are of other systems."""
        sent, systems = set(sent), {system for system, _ in self.identifiers if system}
        if sent & self.identifiers:
            return True
        return False if any(system in systems for system, _ in sent) else None


def identifiers_of(identifiers: object) -> Iterator[tuple[str, str]]:
    """System and value of those identifiers that have both."""
    for entry in identifiers if isinstance(identifiers, list) else ():
        pair = (entry.get("system"), entry.get("value")) if isinstance(entry, dict) else ()
        if len(pair) == 2 and all(isinstance(part, str) and part for part in pair):
            yield str(pair[0]), str(pair[1])


def subject_id(resource: Json, names: Mapping[str, str]) -> str | None:
    """The id of the Patient that a resource is about; None where it names none.

    Args:
        resource: Its JSON.
        names: Patients' ids by other references that mean them.
    """
    holders = (resource.get(key) for key in ("subject", "patient", "beneficiary"))
    subject = next((holder for holder in holders if isinstance(holder, dict)), {})
    reference = subject.get("reference")
    if not isinstance(reference, str):
        return None
    reference = _VERSION.sub("", reference)
    if reference in names:
        return names[reference]
    match = _PATIENT.search(reference)
    return match[1] if match else None


def _identifiers_of_contained(entry: Entry, name: str) -> set[tuple[str, str]]:
    """The identifiers of a Patient inside a resource."""
    try:
        inside = entry.resource().get("contained")
    except UnreadableError:
        return set()
    patients = [
        resource
        for resource in (inside if isinstance(inside, list) else [])
        if isinstance(resource, dict) and resource.get("id") == name
    ]
    return {pair for patient in patients for pair in identifiers_of(patient.get("identifier"))}
