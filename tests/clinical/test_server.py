"""A record comes whole from a FHIR server, or one clear line says why not; none names anyone."""

import logging
import os
import random

import pytest

from clinical.fhir import read_bundle
from clinical.rest import Server, ServerError
from clinical.server import fetch_patient
from tests.clinical.fhir_server import MRN, PATIENT, FhirServer, busy, condition, cut


@pytest.fixture
def hospital():
    """A running server."""
    made = FhirServer()
    running = made.start()
    yield made
    running.shutdown()
    running.server_close()


@pytest.fixture
def waits() -> list[float]:
    """How long the client wanted to wait."""
    return []


@pytest.fixture
def fetch(hospital, waits, tmp_path):
    """Fetch the patient, without really waiting."""

    def fetching(patient=PATIENT, **settings):
        server = Server(hospital.url, **settings)
        return fetch_patient(server, patient, tmp_path / "pages", sleep=waits.append)

    return fetching


def values(found) -> list[float]:
    """The glucose values of what was fetched, through the project's own reader."""
    record, report = read_bundle(found.bundle)
    assert not report.refused
    return [seen.value for seen in record.observations]


WHOLE = [90.0, 91.0, 92.0, 93.0, 94.0]


def test_everything_comes_page_by_page(hospital, fetch) -> None:
    """Seven resources on four pages become one bundle."""
    found = fetch()

    assert values(found) == WHOLE
    assert hospital.asked["$everything 4"] == 1
    assert hospital.asked["Observation 1"] == 0


def test_without_everything_each_type_is_searched(hospital, fetch) -> None:
    """What the server does not offer is told."""
    hospital.everything = False
    found = fetch()

    assert values(found) == WHOLE
    assert len(read_bundle(found.bundle)[0].conditions) == 1
    assert any("does not offer" in r and "DocumentReference" in r for r in found.remarks)


def test_everything_that_is_offered_but_refused_falls_back(hospital, fetch) -> None:
    """A CapabilityStatement can promise too much."""
    hospital.faults["$everything 1"] = [busy(404)]
    found = fetch()

    assert values(found) == WHOLE
    assert any("refused (404)" in remark for remark in found.remarks)


@pytest.mark.parametrize("patient", [PATIENT, MRN, f"urn:mrn|{MRN}"])
def test_a_patient_is_found_by_id_or_identifier(fetch, patient) -> None:
    """The id first, then the identifier, with its system or without."""
    assert values(fetch(patient)) == WHOLE


def test_an_unknown_patient_is_told_without_the_identifier(fetch) -> None:
    """Nobody reads in a log whom one looked for."""
    with pytest.raises(ServerError, match="no patient") as error:
        fetch("99-4711")
    assert "4711" not in str(error.value)


def test_a_busy_server_is_asked_again_with_growing_patience(hospital, fetch, waits) -> None:
    """Two times 503, then fine."""
    hospital.faults["$everything 2"] = [busy(), busy()]

    assert values(fetch()) == WHOLE
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(("header", "wait"), [("7", 7.0), ("9999", 120.0)])
def test_the_server_says_how_long_to_wait(hospital, fetch, waits, header, wait) -> None:
    """Retry-After is heeded, within reason."""
    hospital.faults["$everything 1"] = [busy(429, Retry_After=header)]

    assert values(fetch()) == WHOLE
    assert waits == [wait]


def test_a_connection_cut_in_the_body_is_tried_again(hospital, fetch, waits) -> None:
    """Half a page is no page."""
    hospital.faults["$everything 3"] = [cut]

    assert values(fetch()) == WHOLE
    assert len(waits) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(hospital, fetch, tmp_path) -> None:
    """Pages that have arrived are not asked for twice, and only their owner may read them."""
    hospital.faults["$everything 3"] = [busy()] * 3
    with pytest.raises(ServerError, match=r"\$everything page 3: .*run the same command again"):
        fetch(attempts=3)
    assert (tmp_path / "pages").stat().st_mode & 0o777 == 0o700

    assert values(fetch()) == WHOLE
    assert hospital.asked["$everything 1"] == hospital.asked["$everything 2"] == 1
    assert hospital.asked["metadata 1"] == 1


def test_pages_of_another_day_are_not_mixed_with_todays(hospital, fetch, tmp_path) -> None:
    """A record of two times is no record."""
    hospital.faults["$everything 3"] = [busy()]
    with pytest.raises(ServerError):
        fetch(attempts=1)
    os.utime(tmp_path / "pages" / "index.json", (0, 0))

    assert values(fetch()) == WHOLE
    assert hospital.asked["$everything 1"] == 2


def test_a_forgotten_next_link_begins_its_search_anew(hospital, fetch) -> None:
    """Servers forget searches; the pages of the old one are dropped, and that only once."""
    hospital.faults["$everything 3"] = [busy(410)]

    assert values(fetch()) == WHOLE
    assert hospital.asked["$everything 1"] == 2


def test_a_link_that_is_always_forgotten_ends_in_an_error(hospital, fetch) -> None:
    """Beginning anew is tried once."""
    hospital.faults["$everything 2"] = [busy(410)] * 9

    with pytest.raises(ServerError, match="refuses it"):
        fetch()


def test_next_links_in_a_circle_are_noticed(hospital, fetch) -> None:
    """Otherwise the download would never end."""

    def circle(name, page):
        if name == "$everything 3":
            page["link"][0]["url"] = page["link"][0]["url"].replace("page=4", "page=2")

    hospital.spoil = circle
    with pytest.raises(ServerError, match="circle"):
        fetch()


def test_more_pages_than_allowed_are_not_fetched(fetch) -> None:
    """A cap, in case every link is new."""
    with pytest.raises(ServerError, match="more pages than 3"):
        fetch(max_pages=3)


def test_a_next_link_to_another_server_is_not_followed(hospital, fetch) -> None:
    """The token would go with it."""
    other = FhirServer()
    running = other.start()

    def elsewhere(name, page):
        if name == "$everything 1":
            page["link"][0]["url"] = f"{other.url}/Patient/{PATIENT}/$everything?page=2"

    hospital.spoil = elsewhere
    with pytest.raises(ServerError, match="another server") as error:
        fetch(token="secret")
    running.shutdown()
    running.server_close()
    assert not other.asked
    assert PATIENT not in str(error.value)


def test_a_redirect_is_not_followed(hospital, fetch) -> None:
    """Nor is this."""
    hospital.faults["metadata 1"] = [busy(302, Location="http://127.0.0.1:9/fhir/metadata")]

    with pytest.raises(ServerError, match="points elsewhere"):
        fetch()


def test_what_the_server_remarks_is_told_by_its_code_alone(hospital, fetch) -> None:
    """An OperationOutcome among the entries is no evidence, and its text may name the patient."""

    def remark(name, page):
        if name == "$everything 2":
            issue = {"severity": "warning", "code": "incomplete", "diagnostics": "Zweig 1948"}
            outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
            page["entry"].append({"resource": outcome, "search": {"mode": "outcome"}})

    hospital.spoil = remark
    found = fetch()

    assert values(found) == WHOLE
    assert any("warning incomplete" in told for told in found.remarks)
    assert "Zweig" not in " ".join(found.remarks)


def test_a_resource_that_comes_twice_is_taken_once_in_its_later_version(hospital, fetch) -> None:
    """Pages shift while the record grows."""
    newer = condition() | {"meta": {"lastUpdated": "2025-01-01T00:00:00Z"}}
    newer["code"]["coding"][0]["display"] = "Essential hypertension"

    def shift(name, page):
        if name == "$everything 2":
            page["entry"].insert(0, {"resource": newer})

    hospital.spoil = shift
    found = fetch()

    names = [c.code.display for c in read_bundle(found.bundle)[0].conditions]
    assert names == ["Essential hypertension"]
    assert any("more than once" in remark for remark in found.remarks)


def test_a_type_that_is_refused_is_told_and_the_rest_is_taken(hospital, fetch) -> None:
    """A token's scope may leave out the conditions; nothing is missing in silence."""
    hospital.everything = False
    hospital.faults["Condition 1"] = [busy(403)]
    found = fetch()

    assert values(found) == WHOLE
    assert any("Condition page 1" in r and "is without" in r for r in found.remarks)


def test_the_token_is_sent_in_the_header_only(hospital, fetch) -> None:
    """Nothing that shows a server shows its token."""
    hospital.token = "right"

    assert values(fetch(token="right")) == WHOLE
    assert "right" not in repr(Server(hospital.url, token="right"))


def test_a_wrong_token_is_told(hospital, fetch) -> None:
    """What to do is clear from the message."""
    hospital.token = "right"
    with pytest.raises(ServerError, match="valid token"):
        fetch(token="wrong")


def test_no_log_line_names_the_patient(fetch, hospital, caplog) -> None:
    """Not even at the most talkative level of the root logger."""
    caplog.set_level(logging.DEBUG)
    hospital.everything = False
    fetch(f"urn:mrn|{MRN}", token="sesame")

    assert "Observation page 3" in caplog.text
    for secret in (PATIENT, MRN, "sesame", "Zweig"):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://fhir.example.org/r4", "https://"),
        ("https://user:pw@fhir.example.org/r4", "no user"),
        ("https://fhir.example.org/r4?key=1", "query"),
        ("ftp://fhir.example.org", "https://"),
        ("fhir.example.org", "https://"),
    ],
)
def test_an_address_that_gives_something_away_is_refused(url, said) -> None:
    """No plain text over a network, no password in an address."""
    with pytest.raises(ServerError, match=said):
        Server(url)


def test_a_server_of_another_version_is_refused(hospital, fetch) -> None:
    """R5 names things otherwise."""
    hospital._metadata = lambda: {"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}
    with pytest.raises(ServerError, match="R4"):
        fetch()


def test_a_server_that_nobody_runs_is_one_clear_error(tmp_path) -> None:
    """After all attempts."""
    server = Server("http://127.0.0.1:9", attempts=2)
    with pytest.raises(ServerError, match=r"connection broke .* at 2 attempts"):
        fetch_patient(server, PATIENT, tmp_path / "pages", sleep=lambda _: None)


@pytest.mark.parametrize("seed", range(20))
def test_nonsense_from_the_server_is_an_error_or_left_out(hospital, fetch, seed) -> None:
    """A list that is a number, an entry that is a word: nothing raises but our own error."""
    rng = random.Random(seed)

    def nonsense(name, page):
        junk = rng.choice([7, "Zweig", None, [3], {"a": 1}, [{"resource": 5}], [{"url": 1}]])
        page[rng.choice(["entry", "link", "resourceType"])] = junk

    hospital.spoil = nonsense
    try:
        fetch(attempts=1)
    except ServerError as error:
        assert "Zweig" not in str(error)  # noqa: PT017  some of it is harmless
