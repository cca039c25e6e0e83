"""One patient's record from a FHIR R4 server, as the bundle that `clinical.fhir.read_bundle` reads.

`Patient/$everything` where the server's CapabilityStatement offers it, else a search for each
resource type. Pages are kept in a folder of the site until the bundle is complete, so that an
interrupted download goes on where it stopped.
"""

import datetime as dt
import logging
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import orjson
from pydantic import TypeAdapter, ValidationError

from clinical.entries import READERS
from clinical.rest import Json, RefusedError, Rest, Server, ServerError, issues, rows

logger = logging.getLogger(__name__)

EVERYTHING = "$everything"
TYPES = tuple(sorted(READERS))
GONE = (400, 404, 410)  # what servers say to a next link that they have forgotten
UNOFFERED = (400, 403, 404, 405, 422, 501)
OLDEST_PAGE = dt.timedelta(hours=24)  # pages further apart would be a record of two times
INDEX = "index.json"

_ID = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9.-]{1,64}")


@dataclass(frozen=True)
class Fetched:
    """What a server sent of one patient.

    Attributes:
        bundle: A collection bundle, as bytes.
        pages: How many pages it came in.
        remarks: What else there is to tell, such as types that the server does not offer.
    """

    bundle: bytes = field(repr=False)
    pages: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Progress:
    """How far a download has come; kept beside its pages.

    Attributes:
        patient: FHIR id.
        kinds: What is still to be fetched, the first of them under way.
        searches: By type, the parameter that names the patient.
        url: Of the next page; empty where a kind begins.
        seen: Addresses of this kind that were asked for.
        pages: Kind of each page that has arrived.
        remarks: What to tell.
    """

    patient: str = field(default="", repr=False)
    kinds: tuple[str, ...] = ()
    searches: Mapping[str, str] = field(default_factory=dict)
    url: str = field(default="", repr=False)
    seen: tuple[str, ...] = field(default=(), repr=False)
    pages: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """What messages call the page under way."""
        return f"{self.kinds[0]} page {self.pages.count(self.kinds[0]) + 1}"

    def again(self, *kinds: str, remark: str = "") -> "_Progress":
        """Without anything of the kind under way, going on with `kinds` in its place."""
        pages = tuple("" if page == self.kinds[0] else page for page in self.pages)
        remarks = (*self.remarks, *([remark] if remark else []))
        kinds += self.kinds[1:]
        return replace(self, kinds=kinds, url="", seen=(), pages=pages, remarks=remarks)


_PROGRESS = TypeAdapter(_Progress)


def fetch_patient(
    server: Server, patient: str, folder: Path, *, sleep: Callable[[float], None] = time.sleep
) -> Fetched:
    """Fetch all that is used of one patient's record.

    Args:
        server: Where it is.
        patient: FHIR id of the Patient, or an identifier: its value, or ``system|value``.
        folder: Keeps the pages until the caller has the bundle and calls `forget`; a folder for
            each patient, with a name that tells nothing.
        sleep: Waits between attempts.

    Raises:
        ServerError: The server cannot be used, or not now; what has arrived is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with server.client() as client:
        rest = Rest(server, client, sleep)
        progress = _resumed(folder) or _begun(rest, patient, folder)
        while progress.kinds:
            progress = _step(rest, progress, folder)
            _note(folder, progress)
    return _fetched(folder, progress)


def forget(folder: Path) -> None:
    """Remove the pages of a download whose bundle is safe."""
    shutil.rmtree(folder, ignore_errors=True)


def _resumed(folder: Path) -> _Progress | None:
    """Where an earlier attempt stopped; None where there is none that is fresh."""
    index = folder / INDEX
    if not index.exists():
        return None
    age_s = dt.datetime.now(dt.UTC).timestamp() - index.stat().st_mtime
    try:
        progress = _PROGRESS.validate_json(index.read_bytes())
    except ValidationError:
        progress = None
    if progress is None or age_s > OLDEST_PAGE.total_seconds():
        logger.info("an earlier download is of no use any more; beginning anew")
        for page in folder.glob("*.json"):
            page.unlink()
        return None
    logger.info("going on with a download after %d pages", len(progress.pages))
    return progress


def _begun(rest: Rest, patient: str, folder: Path) -> _Progress:
    """Ask what the server offers and who the patient is."""
    url = rest.server.base.join("metadata")
    offer = rest.get(url, "CapabilityStatement", "the server's metadata")
    if not str(offer.get("fhirVersion", "")).startswith(("4.0", "4.3")):
        raise ServerError("the server speaks another version of FHIR than R4")
    everything, searches = _offered(offer)
    absent = [kind for kind in TYPES if kind not in searches]
    if not everything and not searches:
        raise ServerError(f"the server offers neither Patient/{EVERYTHING} nor a search by patient")
    found = _the_patient(rest, patient)
    progress = _Progress(
        patient=str(found["resource"]["id"]),
        kinds=(EVERYTHING,) if everything else tuple(searches),
        searches=searches,
        pages=("Patient",),
        remarks=(f"the server does not offer {', '.join(absent)}",)
        if absent and not everything
        else (),
    )
    _keep(folder, 0, {"resourceType": "Bundle", "entry": [found]})
    _note(folder, progress)
    return progress


def _offered(offer: Json) -> tuple[bool, dict[str, str]]:
    """Whether there is `$everything`, and by which parameter each type is searched."""
    told = [row for rest in rows(offer, "rest") for row in rows(rest, "resource")]
    by_type = {str(row.get("type")): row for row in told}
    operations = rows(by_type.get("Patient", {}), "operation")
    everything = any(
        str(operation.get("name", "")).lstrip("$") == EVERYTHING[1:] for operation in operations
    )
    searches = {}
    for kind in TYPES:
        names = [p.get("name") for p in rows(by_type.get(kind, {}), "searchParam")]
        usable = [name for name in ("patient", "subject") if name in names]
        if usable:
            searches[kind] = usable[0]
    return everything, searches


def _the_patient(rest: Rest, patient: str) -> Json:
    """The one entry of the patient asked for."""
    keys = ["identifier"] if not _ID.fullmatch(patient) else ["_id", "identifier"]
    for key in keys:
        url = rest.server.base.join("Patient").copy_merge_params({key: patient})
        bundle = rest.get(url, "Bundle", "search for the patient")
        found = [e for e in _entries(bundle) if e["resource"].get("resourceType") == "Patient"]
        found = [entry for entry in found if _ID.fullmatch(str(entry["resource"].get("id")))]
        if len(found) > 1 or (found and rest.next_page(bundle, "search for the patient")):
            raise ServerError("several patients of the server have this identifier; give the id")
        if found:
            return found[0]
    raise ServerError("the server has no patient with this id or identifier")


def _step(rest: Rest, progress: _Progress, folder: Path) -> _Progress:
    """Fetch one more page."""
    kind, where = progress.kinds[0], progress.where
    url = httpx.URL(progress.url) if progress.url else _first(rest.server, kind, progress)
    if str(url) in progress.seen:
        raise _useless(folder, f"{where}: the server's next links go in a circle")
    if len(progress.pages) >= rest.server.max_pages:
        raise _useless(folder, f"{where}: more pages than {rest.server.max_pages}")
    try:
        bundle = rest.get(url, "Bundle", where)
    except RefusedError as error:
        return _after(error, progress)
    following = rest.next_page(bundle, where)
    _keep(folder, len(progress.pages), bundle)
    logger.info("%s: %d entries", where, len(rows(bundle, "entry")))
    kept = replace(
        progress,
        pages=(*progress.pages, kind),
        seen=(*progress.seen, str(url)),
        url=str(following or ""),
    )
    return kept if following else replace(kept, kinds=kept.kinds[1:], seen=())


def _after(error: RefusedError, progress: _Progress) -> _Progress:
    """How a download goes on after a refusal.

    Raises:
        RefusedError: It does not.
    """
    kind = progress.kinds[0]
    if progress.url and error.status in GONE and "" not in progress.pages:
        return progress.again(kind)  # once: the links of yesterday are forgotten
    if kind == EVERYTHING and error.status in UNOFFERED:
        remark = f"Patient/{EVERYTHING} is offered but refused ({error.status}); searched by type"
        return progress.again(*progress.searches, remark=remark)
    if error.status in UNOFFERED and not progress.url:
        return progress.again(remark=f"{error}; the record is without")
    raise error


def _first(server: Server, kind: str, progress: _Progress) -> httpx.URL:
    """Address of the first page of a kind."""
    count = {"_count": str(server.page_size)}
    if kind == EVERYTHING:
        url = server.base.join(f"Patient/{progress.patient}/{EVERYTHING}")
        return url.copy_merge_params(count)
    name = progress.searches[kind]
    who = progress.patient if name == "patient" else f"Patient/{progress.patient}"
    drugs = {"_include": f"{kind}:medication"} if kind.startswith("Medication") else {}
    return server.base.join(kind).copy_merge_params({name: who, **drugs, **count})


def _useless(folder: Path, message: str) -> ServerError:
    """An error after which going on makes no sense: what has arrived is removed."""
    forget(folder)
    return ServerError(f"{message}; nothing was kept")


def _keep(folder: Path, number: int, bundle: Json) -> None:
    """Write a page."""
    (folder / f"{number:05d}.json").write_bytes(orjson.dumps(bundle))


def _note(folder: Path, progress: _Progress) -> None:
    """Write down how far the download has come, whole or not at all."""
    partial = folder / f"{INDEX}.partial"
    partial.write_bytes(_PROGRESS.dump_json(progress))
    partial.replace(folder / INDEX)


def _fetched(folder: Path, progress: _Progress) -> Fetched:
    """All pages as one bundle, each resource once: of two versions the later."""
    entries: dict[str, Json] = {}
    repeated, outcomes = 0, Counter[str]()
    for number, kind in enumerate(progress.pages):
        if not kind:  # begun anew
            continue
        page = orjson.loads((folder / f"{number:05d}.json").read_bytes())
        outcomes.update(f"{kind}{told}" for told in _outcomes(page))
        for entry in _entries(page):
            resource = entry["resource"]
            key = f"{resource.get('resourceType')}/{resource.get('id', len(entries))}"
            repeated += key in entries
            if key not in entries or _updated(entry) > _updated(entries[key]):
                entries[key] = entry
    remarks = [f"the server remarks on {what} ({n} times)" for what, n in outcomes.items()]
    if repeated:
        remarks.append(f"{repeated} resources came more than once; each was taken once")
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": list(entries.values())}
    pages = sum(map(bool, progress.pages))
    return Fetched(orjson.dumps(bundle), pages, (*progress.remarks, *remarks))


def _entries(bundle: Json) -> Iterator[Json]:
    """Address and resource of every entry that is part of the record."""
    for entry in rows(bundle, "entry"):
        resource = entry.get("resource")
        if isinstance(resource, dict) and resource.get("resourceType") != "OperationOutcome":
            address = {"fullUrl": entry["fullUrl"]} if entry.get("fullUrl") else {}
            yield {**address, "resource": resource}


def _outcomes(bundle: Json) -> Iterator[str]:
    """What the server says about its own answer."""
    for entry in rows(bundle, "entry"):
        resource = entry.get("resource")
        if isinstance(resource, dict) and resource.get("resourceType") == "OperationOutcome":
            yield issues(resource)


def _updated(entry: Json) -> str:
    """When a resource was last changed."""
    meta = entry["resource"].get("meta")
    return str(meta.get("lastUpdated", "")) if isinstance(meta, dict) else ""
