"""Whatever is done to one field: no crash, no bundle lost for an entry, and nobody is quoted."""

import json
import logging
import random
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir_bundles import PATIENT, Json, bundle, condition, document, observation, resource

from clinical.bundle import BundleError
from clinical.fhir import read_bundle
from clinical.r4 import MAX_DEPTH
from clinical.record import PatientRecord

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CANARY = "Zanzibar4711"
READ = {
    "Observation", "Condition", "MedicationRequest", "DiagnosticReport", "DocumentReference",
    "FamilyMemberHistory", "Medication", "Encounter",
}  # fmt: skip
# Only these may cost the bundle: they say whose record it is.
WHOSE = {"subject", "patient", "beneficiary"}
WHOSE_PATIENT = {"resourceType", "id", "identifier", "fullUrl", "resource"}


def nested(depth: int) -> Json:
    """An extension in an extension in an extension."""
    extension: Json = {"url": "x", "valueString": CANARY}
    for _ in range(depth):
        extension = {"url": "x", "extension": [extension]}
    return extension


MUTATIONS: tuple[Any, ...] = (
    None, True, -1, 7.123456789, 10**19, "", CANARY, f"{CANARY} \x00\x07", [], {}, [CANARY],
    {CANARY: CANARY}, [[CANARY]], nested(40), nested(150), "2025-13-45", "Patient/" + CANARY,
)  # fmt: skip


@pytest.mark.parametrize("depth", [MAX_DEPTH, 120, 600, 20_000])
def test_a_nesting_bomb_costs_its_entry(depth: int) -> None:
    """A recursive parser would fall over what a loop can count."""
    inner = b'{"url":"x","extension":[' * depth + b"]}" * depth
    bomb = orjson.dumps(condition(extension=["here"])).replace(b'"here"', inner)
    raw = bundle(condition(id="first"), condition(id="last"))
    record, report = read_bundle(raw.replace(b"]}", b',{"resource":' + bomb + b"}]}", -1)
                                 if depth == 0 else _with_entry(raw, bomb))  # fmt: skip
    assert [entry.id for entry in record.conditions] == ["first", "last"]
    assert "nested deeper" in report.refused[0].rule


def _with_entry(raw: bytes, resource: bytes) -> bytes:
    """A bundle with one more entry, of which nothing is checked."""
    head, tail = raw.rsplit(b"]}", 1)
    return head + b',{"resource":' + resource + b"}]}" + tail


@pytest.mark.parametrize("inside", [b'{"value":1e400}', b'{"value":"\xff\xfe"}'])
def test_a_number_out_of_range_or_a_wrong_byte_costs_its_entry(inside: bytes) -> None:
    """The rest of the text can still be read."""
    broken = orjson.dumps(observation("2951-2", 140, "mmol/L", id="x", valueQuantity="here"))
    raw = _with_entry(bundle(condition()), broken.replace(b'"here"', inside))
    record, report = read_bundle(raw)
    assert len(record.conditions) == 1
    assert report.refused[0].rule == "is not valid JSON"


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every element in JSON, branches too."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in pairs:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from leaves(child, (*path, key))


def mutated(sound: Json, path: tuple[Any, ...], value: Any) -> Json:
    """A copy of a bundle with another value at one path; without it where that is None."""
    copy: Json = orjson.loads(orjson.dumps(sound))
    node = copy["entry"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    if value is None and isinstance(node, dict):
        del node[path[-1]]
    return copy


def dumped(sound: Json) -> bytes:
    """JSON, also of what is nested deeper than orjson writes."""
    return json.dumps(sound).encode()


def may_cost_the_bundle(sound: Json, path: tuple[Any, ...]) -> bool:
    """Whether a mutation there makes it doubtful whose record it is."""
    kind = sound["entry"][path[0]]["resource"]["resourceType"]
    if len(path) < 2:
        return bool(kind == "Patient")
    if kind == "Patient":
        return len(path) == 2 or path[2] in WHOSE_PATIENT
    return len(path) > 2 and path[2] in WHOSE


def facts(record: PatientRecord, without: str) -> set[tuple[Any, ...]]:
    """What a record says, besides what comes from one resource."""
    said: list[tuple[Any, ...]] = [(o.id, o.loinc, o.value, o.date) for o in record.observations]
    said += [(c.id, c.code, c.onset) for c in record.conditions]
    said += [(note.id, note.text) for note in record.notes]
    said += [(f.id, f.condition) for f in record.family_history]
    said += [(m.id, m.start) for m in record.medications]
    return {fact for fact in said if fact[0].partition("#")[0] != without}


def own_id(entry: Json) -> str:
    """Id of an entry's resource."""
    return str(entry["resource"].get("id", ""))


def self_made() -> Json:
    """A bundle with one resource of most kinds."""
    mother = {"status": "completed", "relationship": {"text": "mother"}}
    dementia = {"code": {"text": "dementia"}, "onsetAge": {"value": 72, "code": "a"}}
    made = (
        observation("2951-2", 140.5, "mmol/L"), condition(), document("He falls."),
        resource("FamilyMemberHistory", condition=[dementia], **mother),
        resource("Encounter", status="finished"),
    )  # fmt: skip
    named = [entry | {"id": f"e{n}"} for n, entry in enumerate(made)]
    sound: Json = orjson.loads(bundle(*named, patient=PATIENT))
    return sound


def real_bundles(rng: random.Random) -> list[Json]:
    """Small bundles of real resources: of each of some patients, a few."""
    found = [_some(whole["entry"], rng) for whole in islice(_read("fhir_synthea_r4.tar.xz"), 8)]
    examples = [one for one in _read("fhir_uscore.tar.xz") if _is_about_example(one)]
    found += [_some([{"resource": one} for one in examples], rng) for _ in range(4) if examples]
    return found


def _read(archive: str) -> Iterator[Json]:
    """The JSON files of an archive; none where it is not here."""
    if not (DATA / archive).exists():
        return
    with tarfile.open(DATA / archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".json") else None
            if file:
                yield orjson.loads(file.read())


def _is_about_example(resource: Json) -> bool:
    if resource["resourceType"] == "Patient":
        return bool(resource["id"] == "example")
    return bool(resource.get("subject", {}).get("reference") == "Patient/example")


def _some(entries: list[Json], rng: random.Random) -> Json:
    """A bundle of the patient and a few resources of kinds that are read."""
    patient = [e for e in entries if e["resource"]["resourceType"] == "Patient"]
    read = [e for e in entries if e["resource"]["resourceType"] in READ]
    chosen = patient + rng.sample(read, 7)
    return {"resourceType": "Bundle", "type": "collection", "entry": chosen}


def personal(sound: Json) -> set[str]:
    """Strings of the Patient and numbers of results that no message may carry."""
    said: set[str] = set()
    for entry in sound["entry"]:
        held = entry["resource"]
        if held["resourceType"] == "Patient":
            names = [part for name in held.get("name", []) for part in name.get("given", [])]
            names += [name.get("family", "") for name in held.get("name", [])]
            said |= {*names, str(held.get("birthDate", "")), *_values(held.get("identifier", []))}
        said.add(str(held.get("valueQuantity", {}).get("value", "")))
    return {text for text in said if len(text) > 5}


def _values(identifiers: list[Json]) -> Iterator[str]:
    return (str(identifier.get("value", "")) for identifier in identifiers)


def check_mutation(sound: Json, path: tuple[Any, ...], value: Any, whole: PatientRecord) -> str:
    """Read a mutated bundle and hold the result against the rules; all that was said."""
    raw = dumped(mutated(sound, path, value))
    try:
        record, report = read_bundle(raw)
    except BundleError as error:
        assert may_cost_the_bundle(sound, path), path
        return f"{error!r} {error.__cause__!r}"
    assert report.total == len(sound["entry"])
    changed = own_id(sound["entry"][path[0]])
    lost = facts(whole, changed) - facts(record, changed)
    assert not lost or may_cost_the_bundle(sound, path) or changed_drug(sound, path), path
    return repr(report) + "".join(report.summary())


def changed_drug(sound: Json, path: tuple[Any, ...]) -> bool:
    """Whether the mutated resource is one that others refer to."""
    return bool(sound["entry"][path[0]]["resource"]["resourceType"] == "Medication")


@pytest.mark.timeout(900)  # 5 s of work, minutes on a machine that trains a network
def test_a_thousand_mutations_of_one_field(caplog: pytest.LogCaptureFixture) -> None:
    """Each costs its entry at most, unless it makes it doubtful whose record this is."""
    caplog.set_level(logging.DEBUG)
    rng = random.Random(4)
    bundles = [self_made(), *real_bundles(rng)]
    wholes = [read_bundle(orjson.dumps(sound))[0] for sound in bundles]
    paths = [list(leaves(sound["entry"])) for sound in bundles]
    outcomes = []
    for _ in range(1000):
        n = rng.randrange(len(bundles))
        path, value = rng.choice(paths[n]), rng.choice(MUTATIONS)
        said = check_mutation(bundles[n], path, value, wholes[n])
        assert CANARY not in said, path
        assert not [text for text in personal(bundles[n]) if text in said], path
        outcomes.append(said.startswith("BundleError"))
    assert 0 < sum(outcomes) < 200
    assert CANARY not in caplog.text


def test_no_message_quotes_what_was_planted_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever element is broken, its content reaches neither report nor error nor log."""
    caplog.set_level(logging.DEBUG)
    sound = self_made()
    whole, refusals = read_bundle(orjson.dumps(sound))[0], 0
    for path in leaves(sound["entry"]):
        for value in (CANARY, {CANARY: CANARY}, [CANARY]):
            said = check_mutation(sound, path, value, whole)
            refusals += "Refusal(" in said or "BundleError" in said
            assert CANARY not in said, path
    assert refusals > 50
    assert CANARY not in caplog.text
