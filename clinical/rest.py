"""Ask a FHIR server over REST: one page at a time, patiently, and nobody else.

The address of a search names the patient. So neither it nor anything of an answer but codes is
ever in a message or a log, no redirect is followed, and a next link may not leave the server.
"""

import datetime as dt
import email.utils
import logging
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from clinical.fhir import MAX_BYTES

Json = dict[str, Any]

# Both write addresses into the log.
for _noisy in ("httpx", "httpcore"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
BUSY = (429, 500, 502, 503, 504)
ATTEMPTS_KEPT = "what has arrived is kept; run the same command again to go on"

_CODE = re.compile(r"[a-z][a-z-]{1,30}")


class ServerError(ValueError):
    """A record that could not be fetched; the message says what to do and names no patient."""


class RefusedError(ServerError):
    """The server refuses one request, whatever is tried."""

    def __init__(self, where: str, status: int, told: str) -> None:
        super().__init__(f"{where}: the server refuses it ({status}{told})")
        self.status = status


class _AgainError(Exception):
    """An answer that may be another next time, and how long the server asks to wait."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.why, self.wait_s = why, wait_s


@dataclass(frozen=True)
class Server:
    """A FHIR server and how patiently it is asked.

    Attributes:
        url: Its base, https; http on this machine only.
        token: Bearer token; empty for none.
        page_size: Resources a page, which the server may change.
        max_pages: Of one download; more is a mistake of one of the two.
        attempts: At one page, before the download is put off.
        wait_s: Before the second attempt; doubles with each.
        longest_wait_s: Whatever the server asks for.
        timeout_s: Of one answer.
    """

    url: str
    token: str = field(default="", repr=False)
    page_size: int = 200
    max_pages: int = 1000
    attempts: int = 5
    wait_s: float = 1.0
    longest_wait_s: float = 120.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse an address or a token that would give something away."""
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            raise ServerError("the server's address is no URL") from None
        if url.userinfo or url.query or url.fragment:
            raise ServerError("give the server's address alone: no user, password or query in it")
        local = url.scheme == "http" and url.host in LOCAL_HOSTS
        if not url.host or (url.scheme != "https" and not local):
            raise ServerError("the server's address must begin with https://")
        if not self.token.isascii() or any(c.isspace() or not c.isprintable() for c in self.token):
            raise ServerError("the token has a character that no token has; copy it again")

    @property
    def base(self) -> httpx.URL:
        """Its address, with a slash at the end."""
        return httpx.URL(self.url.rstrip("/") + "/")

    def client(self) -> httpx.Client:
        """A client that checks certificates against the machine's own authorities.

        It takes no proxy or password from the environment: the token goes to this server only.
        """
        headers = {"Accept": "application/fhir+json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return httpx.Client(
            headers=headers,
            timeout=self.timeout_s,
            verify=ssl.create_default_context(),
            trust_env=False,
        )


@dataclass(frozen=True)
class Rest:
    """A server that is being asked."""

    server: Server
    client: httpx.Client
    sleep: Callable[[float], None] = time.sleep

    def get(self, url: httpx.URL, kind: str, where: str) -> Json:
        """Fetch one resource, again and again while the server is busy or the line breaks.

        Args:
            url: On this server.
            kind: Its resource type.
            where: What messages call it.

        Raises:
            RefusedError: The server refuses it.
            ServerError: It cannot be had now, or must not be asked for.
        """
        why = ""
        for attempt in range(self.server.attempts):
            try:
                resource = self._once(url, where)
            except _AgainError as error:
                doubled = self.server.wait_s * 2**attempt
                wait_s = doubled if error.wait_s is None else error.wait_s
                why = error.why
                if attempt + 1 < self.server.attempts:
                    self.sleep(min(wait_s, self.server.longest_wait_s))
                continue
            if resource.get("resourceType") != kind:
                raise ServerError(f"{where}: the answer is no {kind}{issues(resource)}")
            return resource
        raise ServerError(f"{where}: {why} at {self.server.attempts} attempts; {ATTEMPTS_KEPT}")

    def next_page(self, bundle: Json, where: str) -> httpx.URL | None:
        """Where the next page of a search is; None after the last.

        Raises:
            ServerError: On another server.
        """
        links = rows(bundle, "link")
        found = [str(link.get("url", "")) for link in links if link.get("relation") == "next"]
        if not found:
            return None
        try:
            url = self.server.base.join(found[0])
        except httpx.InvalidURL:
            raise ServerError(f"{where}: its next link is no URL") from None
        if _origin(url) != _origin(self.server.base):
            raise ServerError(
                f"{where}: its next link leads to another server and was not followed; "
                "the server's own base address must be set right"
            )
        return url

    def _once(self, url: httpx.URL, where: str) -> Json:
        """One attempt."""
        try:
            with self.client.stream("GET", url) as response:
                raw = self._body(response, where)
        except httpx.RequestError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ServerError(
                    "this machine does not trust the server's certificate; set SSL_CERT_FILE to "
                    "the file of your hospital's certificate authority"
                ) from None
            raise _AgainError(f"the connection broke ({type(error).__name__})") from None
        resource = _parsed(raw)
        if response.status_code in BUSY:
            asked = _retry_after(response.headers.get("Retry-After", ""))
            raise _AgainError(f"the server was busy ({response.status_code})", asked)
        if response.status_code != 200:
            raise _refusal(response.status_code, resource or {}, where)
        if resource is None:
            raise _AgainError("the answer was cut off or is no JSON")
        return resource

    def _body(self, response: httpx.Response, where: str) -> bytes:
        """All bytes of an answer, unless they are too many."""
        raw = bytearray()
        for piece in response.iter_bytes():
            raw += piece
            if len(raw) > MAX_BYTES:
                raise ServerError(f"{where}: more than {MAX_BYTES} bytes")
        return bytes(raw)


def rows(resource: Json, key: str) -> list[Json]:
    """What a list of objects holds; nothing where it is none.

    Example:
        >>> rows({"link": [{"relation": "next"}, 3], "entry": 7}, "link")
        [{'relation': 'next'}]
    """
    found = resource.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def issues(resource: Json) -> str:
    """Severity and code of an OperationOutcome's issues; its texts may quote the patient."""
    if resource.get("resourceType") != "OperationOutcome":
        return ""
    found = rows(resource, "issue")
    words = [[str(issue.get(key, "")) for key in ("severity", "code")] for issue in found]
    told = {" ".join(word for word in pair if _CODE.fullmatch(word)) for pair in words}
    return "".join(f", {text}" for text in sorted(told) if text)


def _refusal(status: int, resource: Json, where: str) -> ServerError:
    """What a status that does not change says."""
    if status == 401:
        return ServerError(f"{where}: the server wants a valid token (401{issues(resource)})")
    if 300 <= status < 400:
        return ServerError(f"{where}: the server points elsewhere ({status}); give that address")
    return RefusedError(where, status, issues(resource))


def _parsed(raw: bytes) -> Json | None:
    """A JSON object; None for anything else."""
    try:
        resource = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return resource if isinstance(resource, dict) else None


def _retry_after(header: str) -> float | None:
    """Seconds that a server asks to wait, which it says as seconds or as a time."""
    if header.strip().isdecimal():
        return float(header)
    try:
        until = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if until.tzinfo is None:
        return None
    return max(0.0, (until - dt.datetime.now(dt.UTC)).total_seconds())


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port, the usual port spelled out."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
