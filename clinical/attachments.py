"""The text of a note's attachment: plain text, HTML, RTF and PDF.

An attachment comes from outside and is hostile until it is read: size, pages, nesting and output
are bounded, and whatever is wrong with it is one `AttachmentError` that says so without a word of
its content. A scanned page has no text: that is said, never returned as an empty note.
"""

import io
import logging
import re
import time
import zlib

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError
from striprtf.striprtf import rtf_to_text

from clinical.notes import plain_text

MAX_BYTES = 32 * 2**20
MAX_CHARS = 2_000_000  # of text, from any kind of attachment
MAX_PAGES = 500
MAX_SECONDS = 20.0  # for one PDF, looked at after each page
MAX_PAGE_BYTES = 32 * 2**20  # of one page's unpacked content
MAX_RTF_DEPTH = 200  # open groups; word processors write about 10

CHARSETS = frozenset(
    {"utf-8", "us-ascii", "iso-8859-1", "windows-1252", "gb18030", "gbk", "gb2312", "big5"}
)
KINDS = {
    "text/plain": "text",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/rtf": "rtf",
    "application/rtf": "rtf",
    "application/pdf": "pdf",
}

_PICTURE = re.compile(r"\\bin(\d{1,10}) ?")
_GROUP = re.compile(r"\\[^\n]|[{}]")
# What pypdf lets through on damaged files, besides its own errors; found by cutting and flipping.
_DAMAGED = (
    PyPdfError, DependencyError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    RecursionError, OverflowError, AssertionError, NotImplementedError, MemoryError,
    zlib.error, OSError,
)  # fmt: skip

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it quotes what it reads


class AttachmentError(ValueError):
    """An attachment that gives no text; the message says why, and what to do."""


def attachment_text(data: bytes, content_type: str) -> str:
    r"""Take the text out of an attachment.

    Args:
        data: Its bytes.
        content_type: Its media type with an optional charset; see `KINDS`.

    Returns:
        Its text; empty only where plain text, HTML or RTF is empty itself.

    Raises:
        AttachmentError: Its kind or charset is not read, it is damaged, protected, too large, or
            a scan without text.

    Example:
        >>> attachment_text(rb"{\rtf1\ansi Memory \b loss\b0.\par MMSE 21}", "text/rtf")
        'Memory loss.\nMMSE 21'
    """
    kind, _, parameters = content_type.lower().partition(";")
    reader = KINDS.get(kind.strip())
    if reader is None:
        raise AttachmentError("is of a kind that is not read; send text, HTML, RTF or PDF")
    if len(data) > MAX_BYTES:
        raise AttachmentError(f"has more than {MAX_BYTES} bytes; send the text alone")
    if reader == "pdf":
        return _bounded(_pdf(data))
    if reader == "rtf":
        return _bounded(_rtf(data))
    text = _decoded(data, parameters)
    return _bounded(plain_text(text) if reader == "html" else text)


def _decoded(data: bytes, parameters: str) -> str:
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "') or "utf-8"
    if charset not in CHARSETS:
        raise AttachmentError("names a character set that is not accepted; send it as utf-8")
    try:
        return data.decode(charset).removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise AttachmentError(f"is not {charset} text; correct its content type") from None


def _bounded(text: str) -> str:
    if len(text) > MAX_CHARS:
        raise AttachmentError(f"has more than {MAX_CHARS} characters of text; send it in parts")
    return text


def _rtf(data: bytes) -> str:
    """RTF is ASCII with escapes; its code page is named inside and read by striprtf."""
    if not data.lstrip().startswith(b"{\\rtf"):
        raise AttachmentError("is not RTF; correct its content type")
    source = _without_pictures(data.decode("latin-1"))
    depth = deepest = 0
    for match in _GROUP.finditer(source):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        deepest = max(deepest, depth)
    if deepest > MAX_RTF_DEPTH:
        raise AttachmentError(f"has RTF groups nested deeper than {MAX_RTF_DEPTH}; save it anew")
    if depth > 0:
        raise AttachmentError("is RTF that ends too early; export it again")
    try:
        text = str(rtf_to_text(source, errors="strict"))  # type: ignore[no-untyped-call]
    except (ValueError, LookupError, IndexError, TypeError):
        raise AttachmentError("is damaged RTF; export it again") from None
    # striprtf leaves the two halves of a character beyond U+FFFF apart.
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _lines(whole)


def _without_pictures(source: str) -> str:
    r"""Leave out binary data, which may hold any brace; ``\binN`` says how long it is."""
    parts, at = [], 0
    for match in _PICTURE.finditer(source):
        if match.start() >= at:
            parts.append(source[at : match.start()])
            at = match.end() + int(match[1])
    return "".join([*parts, source[at:]])


def _pdf(data: bytes) -> str:
    if b"%PDF-" not in data[:1024]:
        raise AttachmentError("is not PDF; correct its content type")
    try:
        return _pdf_text(data)
    except AttachmentError:
        raise
    except _DAMAGED:
        raise AttachmentError("is a damaged PDF; export it again") from None


def _pdf_text(data: bytes) -> str:
    reader = PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise AttachmentError("is a PDF with a password; send it without")
    if len(reader.pages) > MAX_PAGES:
        raise AttachmentError(f"has more than {MAX_PAGES} pages; send the note alone")
    begin = time.monotonic()
    pages: list[str] = []
    for page in reader.pages:
        contents = page.get_contents()
        if contents is not None and len(contents.get_data()) > MAX_PAGE_BYTES:
            raise AttachmentError(f"has a page of more than {MAX_PAGE_BYTES} bytes; print it anew")
        pages.append(page.extract_text())
        if time.monotonic() - begin > MAX_SECONDS or sum(map(len, pages)) > MAX_CHARS:
            raise AttachmentError("is a PDF that takes too long to read; send the text alone")
    text = _lines("\n\n".join(pages))
    if not text:
        raise AttachmentError("is a PDF without text, such as a scan; send recognised text")
    return text


def _lines(text: str) -> str:
    """Tidy line ends; at most one empty line in a row."""
    stripped = "\n".join(line.rstrip() for line in text.replace("\r", "").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", stripped).strip()
