"""Attachments become text, or say why they do not; none of them stops the import."""

import base64
import contextlib
import io
import random
import time
import zlib
from typing import Any

import pytest
from pypdf import PdfReader, PdfWriter

from clinical.attachments import AttachmentError, attachment_text
from clinical.elements import UnreadableError
from clinical.entries import read_entry
from clinical.record import Note


def pdf(*pages: str, compress: bool = False) -> bytes:
    """A small PDF with one line of text a page."""
    bodies = [f"BT /F1 12 Tf 50 700 Td ({page}) Tj ET".encode() if page else b"" for page in pages]
    return pdf_of(bodies, compress=compress)


def pdf_of(streams: list[bytes], *, compress: bool = False) -> bytes:
    """A small PDF with these content streams, one a page."""
    count = len(streams)
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(count))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {count}>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for n, stream in enumerate(streams):
        head = "/Resources<</Font<</F1 3 0 R>>>>/MediaBox[0 0 600 800]"
        objects.append(f"<</Type/Page/Parent 2 0 R/Contents {5 + 2 * n} 0 R{head}>>".encode())
        packed = zlib.compress(stream, 9) if compress else stream
        kind = "/Filter/FlateDecode" if compress else ""
        objects.append(
            f"<</Length {len(packed)}{kind}>>stream\n".encode() + packed + b"\nendstream"
        )
    out, offsets = io.BytesIO(b"%PDF-1.4\n"), []
    out.seek(0, io.SEEK_END)
    for n, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(f"{n} 0 obj\n".encode() + body + b"\nendobj\n")
    at = out.tell()
    rows = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{rows}".encode())
    out.write(f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{at}\n%%EOF".encode())
    return out.getvalue()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (rb"{\rtf1\ansi Memory \b loss\b0 .\par MMSE 21}", "Memory loss.\nMMSE 21"),
        (rb"{\rtf1\ansi\uc1 \u35760?\u24518?\u21147? 21}", "记忆力 21"),
        (rb"{\rtf1\ansi\uc1 \u-10179?\u-8704? ok}", "\U0001f600 ok"),
        (
            rb"{\rtf1\ansi\ansicpg936{\fonttbl{\f0\fcharset134 SimSun;}}\f0 \'bc\'c7\'d2\'e4\par}",
            "记忆",
        ),
        (rb"{\rtf1\ansi\ansicpg1252 caf\'e9}", "café"),
        (rb"{\rtf1 before{\pict\wmetafile8\bin4 {{{{}after}", "beforeafter"),
        (rb"{\rtf1}", ""),
    ],
)
def test_rtf_in_the_encodings_of_hospitals(source: bytes, text: str) -> None:
    """Unicode escapes, Chinese code pages and pictures."""
    assert attachment_text(source, "application/rtf") == text


def test_html_and_plain_text_name_their_character_set() -> None:
    """A Chinese export is often not UTF-8."""
    note = "记忆力下降"
    assert attachment_text(note.encode("gbk"), "text/plain; charset=gbk") == note
    assert attachment_text(f"<p>{note}</p>".encode(), 'text/html; charset="UTF-8"') == note
    with pytest.raises(AttachmentError, match="not utf-8"):
        attachment_text(note.encode("gbk"), "text/plain")
    with pytest.raises(AttachmentError, match="character set"):
        attachment_text(b"x", "text/plain; charset=rot13")


def test_every_page_of_a_pdf_is_read() -> None:
    """In their order, packed or not."""
    for compress in (False, True):
        data = pdf("Memory loss for two years", "MMSE 21 of 30", compress=compress)
        text = attachment_text(data, "application/pdf")
        assert text == "Memory loss for two years\n\nMMSE 21 of 30"


def test_a_scanned_pdf_is_said_to_have_no_text() -> None:
    """An empty note would look like a visit at which nothing was found."""
    with pytest.raises(AttachmentError, match="without text"):
        attachment_text(pdf("", ""), "application/pdf")


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_protected_pdf_is_refused_with_its_reason(algorithm: str) -> None:
    """And one that anybody may open is read."""
    for password, readable in (("secret", False), ("", True)):
        writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("Memory loss"))))
        writer.encrypt(password, "owner", algorithm=algorithm)
        out = io.BytesIO()
        writer.write(out)
        if readable:
            assert attachment_text(out.getvalue(), "application/pdf") == "Memory loss"
        else:
            with pytest.raises(AttachmentError, match="password"):
                attachment_text(out.getvalue(), "application/pdf")


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"x", "image/png", "kind"),
        (b"x", "", "kind"),
        (b"x", "application/pdf", "not PDF"),
        (b"x", "text/rtf", "not RTF"),
        (b"%PDF-1.7\nnothing more", "application/pdf", "damaged"),
        (b"{\\rtf1 cut {here", "text/rtf", "too early"),
        (b"{\\rtf1 " + b"{" * 5000 + b"}" * 5001, "text/rtf", "nested deeper"),
        (b" " * (32 * 2**20 + 1), "text/plain", "bytes"),
        (b"a" * 2_000_001, "text/plain", "characters"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, kind: str, reason: str) -> None:
    """One kind of error, without a word of the content."""
    with pytest.raises(AttachmentError, match=reason):
        attachment_text(data, kind)


def test_a_pdf_that_unpacks_to_a_flood_is_refused() -> None:
    """Two hundred megabytes of blanks pack into two hundred kilobytes."""
    data = pdf_of([b" " * 200_000_000], compress=True)
    assert len(data) < 300_000
    begin = time.process_time()
    with pytest.raises(AttachmentError):
        attachment_text(data, "application/pdf")
    assert time.process_time() - begin < 10


def test_more_pages_than_a_note_has_are_refused() -> None:
    """A whole archive is no note."""
    with pytest.raises(AttachmentError, match="pages"):
        attachment_text(pdf(*["x"] * 501), "application/pdf")


@pytest.mark.parametrize("seed", range(4))
def test_damage_never_leaks_another_exception(seed: int) -> None:
    """Flipped bytes and cuts at any place, in RTF and PDF."""
    rng = random.Random(seed)
    rtf = rb"{\rtf1\ansi\ansicpg936{\fonttbl{\f0\fcharset134 SimSun;}}\uc1\f0 \'bc\'c7 \u1? x\par}"
    for source, kind in ((rtf, "text/rtf"), (pdf("Memory loss", compress=True), "application/pdf")):
        for _ in range(60):
            data = bytearray(source)
            for _ in range(rng.randint(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                attachment_text(bytes(data[: rng.randint(1, len(data))]), kind)
            except AttachmentError as error:
                assert "Memory" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("unit", [b"{}", b"\\par", b"\\'e4", b"\\u1?", b"\\bin9 ", b"\\", b" "])
def test_hostile_rtf_takes_linear_time(unit: bytes) -> None:
    """Pages of one mark must not stop the import."""
    source = b"{\\rtf1 " + unit * (300_000 // len(unit)) + b"}"
    begin = time.process_time()
    with contextlib.suppress(AttachmentError):
        attachment_text(source, "text/rtf")
    assert time.process_time() - begin < 8


def entry(*attachments: dict[str, str]) -> dict[str, Any]:
    """A document with these attachments."""
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "content": [{"attachment": attachment} for attachment in attachments],
    }


def attached(data: bytes, kind: str) -> dict[str, str]:
    """An attachment as FHIR carries it."""
    return {"contentType": kind, "data": base64.b64encode(data).decode()}


def test_a_document_in_pdf_or_rtf_becomes_a_note() -> None:
    """Most hospitals send their letters so."""
    document = entry(
        attached(pdf("Memory loss"), "application/pdf"),
        attached(rb"{\rtf1\ansi MMSE 21}", "text/rtf"),
    )
    facts = read_entry(document, "d1", lambda _: None).facts
    assert [(fact.id, fact.text) for fact in facts if isinstance(fact, Note)] == [
        ("d1#1", "Memory loss"),
        ("d1#2", "MMSE 21"),
    ]


def test_a_scan_beside_text_costs_the_scan_and_alone_the_document() -> None:
    """With its reason in both cases."""
    scan = attached(pdf(""), "application/pdf")
    both = read_entry(entry(scan, attached(b"MMSE 21", "text/plain")), "d1", lambda _: None)
    assert len(both.facts) == 1
    assert "without text" in both.doubts[0].rule
    with pytest.raises(UnreadableError, match="without text"):
        read_entry(entry(scan), "d1", lambda _: None)
