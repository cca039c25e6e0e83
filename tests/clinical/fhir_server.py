"""A small FHIR server on this machine that behaves like one, and misbehaves when told to."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
PATIENT = "pat-8841"
MRN = "77-1203"
SEARCHED = ("Condition", "Observation", "MedicationRequest")


def patient() -> Json:
    """The one patient of the server."""
    identifier = [{"system": "urn:mrn", "value": MRN}]
    return {
        "resourceType": "Patient", "id": PATIENT, "gender": "female", "birthDate": "1948-03-02",
        "identifier": identifier, "name": [{"family": "Zweig"}],
    }  # fmt: skip


def observation(n: int) -> Json:
    """A glucose."""
    return {
        "resourceType": "Observation", "id": f"o{n}", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2345-7"}]},
        "subject": {"reference": f"Patient/{PATIENT}"}, "effectiveDateTime": f"2024-01-{n + 1:02d}",
        "valueQuantity": {"value": 90 + n, "unit": "mg/dL",
                          "system": "http://unitsofmeasure.org", "code": "mg/dL"},
    }  # fmt: skip


def condition() -> Json:
    """A high blood pressure."""
    return {
        "resourceType": "Condition", "id": "c1", "subject": {"reference": f"Patient/{PATIENT}"},
        "clinicalStatus": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/condition-clinical",
            "code": "active"}]},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003",
                             "display": "Hypertension"}]},
    }  # fmt: skip


@dataclass
class FhirServer:
    """What the server has and how it misbehaves.

    Attributes:
        everything: Whether it offers `Patient/$everything`.
        page_size: Entries a page.
        faults: By name of a page, such as ``Observation 2``: what each next request for it gets.
        spoil: Changes a page before it is sent.
        asked: How often each page was asked for.
        headers: Of the last request.
    """

    everything: bool = True
    page_size: int = 2
    observations: int = 5
    token: str = ""
    faults: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = field(default_factory=dict)
    spoil: Callable[[str, Json], None] = lambda name, page: None
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def start(self) -> ThreadingHTTPServer:
        """Listen on a free port of the loopback interface."""
        ours = self

        class Handler(BaseHTTPRequestHandler):
            """Answers for `ours`."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                ours.answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/fhir"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One answer, or the next fault of its page."""
        split = urlsplit(request.path)
        path, query = split.path.removeprefix("/fhir/"), parse_qs(split.query)
        kind = path.rsplit("/", 1)[-1]
        page = int(query.get("page", ["1"])[0])
        name = f"{kind} {page}"
        self.asked[name] += 1
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            send(request, 401, {"resourceType": "OperationOutcome", "issue": []})
        elif self.faults.get(name):
            self.faults[name].pop(0)(request)
        else:
            send(request, *self._found(kind, query, page, name))

    def _found(self, kind: str, query: dict[str, list[str]], page: int, name: str) -> Any:
        """Status and resource of a request."""
        if kind == "metadata":
            return 200, self._metadata()
        if kind == "Patient":
            mine = {PATIENT: "_id", f"urn:mrn|{MRN}": "identifier", MRN: "identifier"}
            hit = any(mine.get(value) == key for key, (value, *_) in query.items())
            return 200, self._bundle([patient()] if hit else [], kind, 1, name)
        resources = self._resources(kind, query)
        if resources is None:
            return 404, {"resourceType": "OperationOutcome", "issue": []}
        return 200, self._bundle(resources, kind, page, name)

    def _resources(self, kind: str, query: dict[str, list[str]]) -> list[Json] | None:
        """Everything of a kind; None where it is not offered."""
        observations = [observation(n) for n in range(self.observations)]
        if kind == "$everything" and self.everything:
            return [patient(), condition(), *observations]
        if kind in SEARCHED and query.get("patient") == [PATIENT]:
            return {"Condition": [condition()], "Observation": observations}.get(kind, [])
        return None

    def _metadata(self) -> Json:
        """A CapabilityStatement."""
        operation = [{"name": "everything", "definition": "x"}] if self.everything else []
        rows: list[Json] = [{"type": "Patient", "operation": operation}]
        rows += [{"type": k, "searchParam": [{"name": "patient"}]} for k in SEARCHED]
        return {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1",
                "rest": [{"mode": "server", "resource": rows}]}  # fmt: skip

    def _bundle(self, resources: list[Json], kind: str, page: int, name: str) -> Json:
        """One page."""
        start = (page - 1) * self.page_size
        shown = resources[start : start + self.page_size]
        bundle: Json = {"resourceType": "Bundle", "type": "searchset", "link": [], "entry": [
            {"fullUrl": f"{self.url}/{r['resourceType']}/{r['id']}", "resource": r} for r in shown
        ]}  # fmt: skip
        if start + self.page_size < len(resources):
            path = f"Patient/{PATIENT}/{kind}" if kind.startswith("$") else kind
            link = f"{self.url}/{path}?patient={PATIENT}&page={page + 1}"
            bundle["link"].append({"relation": "next", "url": link})
        self.spoil(name, bundle)
        return bundle


def send(
    request: BaseHTTPRequestHandler, status: int, resource: Json | None = None, **headers: str
) -> None:
    """Send a resource."""
    raw = json.dumps(resource or {}).encode()
    request.send_response(status)
    for key, value in {"Content-Length": str(len(raw)), **headers}.items():
        request.send_header(key.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(raw)


def busy(status: int = 503, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """A fault: too busy."""
    return lambda request: send(request, status, None, **headers)


def cut(request: BaseHTTPRequestHandler) -> None:
    """A fault: the connection breaks in the middle of the body."""
    request.send_response(200)
    request.send_header("Content-Length", "5000")
    request.end_headers()
    request.wfile.write(b'{"resourceType": "Bundle", "entry": [')
    request.close_connection = True
