"""Cases from a FHIR server: fetch a patient's record into the site, then import it as a bundle."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from clinical.rest import Server, ServerError
from clinical.server import Fetched, fetch_patient, forget
from fusion.intake import Source
from fusion.store import Site

TOKEN = "CONSILIUM_FHIR_TOKEN"  # noqa: S105  name of the environment variable


@contextlib.contextmanager
def fetched(
    site: Site, server: Server, patient: str, name: str
) -> Iterator[tuple[Source, Fetched]]:
    """One patient's record as a source; what was downloaded is removed after the block.

    A download that stops early leaves its pages in the site, and the next attempt goes on there.

    Args:
        site: Keeps the pages, in a folder named by an opaque key.
        server: Where the record is.
        patient: FHIR id or identifier.
        name: What messages call the patient; not the identifier.

    Raises:
        ServerError: The record cannot be had, or not now.
    """
    folder = site.folder / "downloads" / site.patient_key(f"{server.url}|{patient}")
    found = fetch_patient(server, patient, folder)
    path = folder / "bundle.json"
    path.write_bytes(found.bundle)
    try:
        yield Source(bundle=path, name=name), found
    finally:
        forget(folder)


def read_patients(path: Path) -> list[str]:
    """Ids or identifiers of patients, one a line; empty lines are none.

    Raises:
        ServerError: The file cannot be read.
    """
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def read_token(path: Path | None, environment: str) -> str:
    """The bearer token: of a file, else of the environment variable `TOKEN`.

    Raises:
        ServerError: The file cannot be read or is empty.
    """
    if path is None:
        return environment.strip()
    token = _text(path).strip()
    if not token:
        raise ServerError(f"{path} holds no token")
    return token


def _text(path: Path) -> str:
    """A small text file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ServerError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ServerError(f"{path} is not text in UTF-8") from None
