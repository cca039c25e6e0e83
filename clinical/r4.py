"""Is a resource FHIR R4? Its codes by HL7's JSON schema, its structure by the R4B models.

The schema knows the closed value sets, not what is required, and sees all of a resource in no
time; the models know what is required and dates that no calendar has, and see what is used. An
error in what nobody uses is a remark and costs nothing.
"""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
from fhir.resources.R4B import get_fhir_model_class
from fhir_core.fhirabstractmodel import FHIRAbstractModel
from pydantic import ValidationError

from clinical.elements import Doubt, Json, UnreadableError

# Before the first model is loaded, or its errors would quote the patient.
FHIRAbstractModel.set_global_model_config(hide_input_in_errors=True)

MAX_DEPTH = 32  # R4B recurses; no resource of the standard's examples is deeper than 16
SCHEMA = Path(__file__).with_name("fhir_r4.schema.json")

# What R4B raises on a malformed resource, besides its own error.
MALFORMED = (ValidationError, LookupError, TypeError, ValueError, AttributeError, RecursionError)

_USED = {
    "Patient": "identifier name gender birthDate",
    "Observation": "subject code effectiveDateTime effectivePeriod effectiveTiming "
    "effectiveInstant issued focus valueQuantity valueCodeableConcept valueString valueBoolean "
    "valueInteger valueRange valueRatio valueSampledData valueTime valueDateTime valuePeriod "
    "dataAbsentReason interpretation referenceRange component",
    "Condition": "subject code clinicalStatus verificationStatus onsetDateTime onsetPeriod",
    "MedicationRequest": "subject intent doNotPerform medicationCodeableConcept "
    "medicationReference contained authoredOn",
    "MedicationStatement": "subject medicationCodeableConcept medicationReference contained "
    "effectiveDateTime effectivePeriod",
    "MedicationAdministration": "subject medicationCodeableConcept medicationReference contained "
    "effectiveDateTime effectivePeriod",
    "Medication": "code",
    "FamilyMemberHistory": "patient relationship condition",
    "DiagnosticReport": "subject code effectiveDateTime effectivePeriod issued presentedForm "
    "conclusion text",
    "DocumentReference": "subject docStatus type date content relatesTo",
}
_USED_OF_ALL = {"resourceType", "id", "status", "modifierExtension"}


def resource_type(kind: str) -> str:
    """A type of R4, or a word for one that it does not know: that may hold anything.

    Example:
        >>> resource_type("Encounter"), resource_type("Mr Smith")
        ('Encounter', 'unknown type')
    """
    return kind if kind in _schema()["definitions"]["ResourceType"]["enum"] else "unknown type"


def sound(resource: Json) -> tuple[Json, Doubt | None]:
    """Hold a resource against R4.

    Args:
        resource: JSON of a type that is read.

    Returns:
        What is used of it, without extensions, and what is wrong with the rest.

    Raises:
        UnreadableError: What is used of it is not R4.
    """
    if _is_deeper(resource, MAX_DEPTH):
        raise UnreadableError("", f"is nested deeper than {MAX_DEPTH} levels")
    used, fault = _used(resource), _schema_fault(resource)
    still = (fault and _schema_fault(used)) or _model_fault(used)
    if still is not None and used.pop("text", None) is not None:
        fault, still = still, _fault(used)  # a narrative only repeats what the resource says
    if still is not None:
        raise UnreadableError(still.path, still.rule)
    return used, Doubt(fault.path, f"{fault.rule}; it is left out") if fault else None


def sound_patient(resource: Json) -> tuple[Json, tuple[Doubt, ...]]:
    """A Patient without those of its elements that are not R4.

    No element of a Patient is required, so that a broken birth date costs the birth date.

    Raises:
        UnreadableError: A modifier extension changes what the Patient means.
    """
    if "modifierExtension" in resource:
        raise UnreadableError("modifierExtension", "changes the meaning and is not understood")
    known = _schema()["definitions"]["Patient"]["properties"]
    left = {key: value for key, value in resource.items() if key in known}
    unknown = Doubt("", "has an element that R4 does not know; it is left out")
    doubts = [unknown] if len(left) < len(resource) else []
    for element in [key for key, value in left.items() if _is_deeper(value, MAX_DEPTH)]:
        doubts.append(Doubt(element, f"is nested deeper than {MAX_DEPTH} levels; it is left out"))
        del left[element]
    while (fault := _fault(left)) is not None:
        element = fault.path.partition(".")[0].partition("[")[0]
        doubts.append(Doubt(fault.path, f"{fault.rule}; it is left out"))
        if element not in left:  # the fault does not say where it is
            return {key: left[key] for key in left if key in ("resourceType", "id")}, tuple(doubts)
        del left[element]
    return left, tuple(doubts)


def _used(resource: Json) -> Json:
    """What is used of a resource, without extensions, and what R4 does not know at all."""
    kind = resource["resourceType"]
    used = _USED_OF_ALL | set(_USED[kind].split())
    known = _schema()["definitions"][kind]["properties"]
    return {
        key: _plain(value) for key, value in resource.items() if key in used or key not in known
    }


def _plain(node: object) -> Any:
    """JSON without extensions, some of which R4 allows and R4B refuses."""
    if isinstance(node, dict):
        kept = {k: v for k, v in node.items() if k != "extension" and not k.startswith("_")}
        return {key: _plain(value) for key, value in kept.items()}
    return [_plain(value) for value in node] if isinstance(node, list) else node


def _fault(resource: Json) -> Doubt | None:
    """The first thing in what is used that is not R4."""
    return _schema_fault(resource) or _model_fault(_plain(resource))


@cache
def _schema() -> Json:
    schema: Json = orjson.loads(SCHEMA.read_bytes())
    return schema


@cache
def _validator(kind: str) -> Any:
    return jsonschema_rs.validator_for({**_schema(), "$ref": f"#/definitions/{kind}"})


def _schema_fault(resource: Json) -> Doubt | None:
    """What the JSON schema says; its messages would quote the value."""
    error = next(_validator(resource["resourceType"]).iter_errors(resource), None)
    if error is None:
        return None
    words = {
        "enum": "is none of the codes of R4",
        "additionalProperties": "has an element that R4 does not know",
        "required": "lacks an element that R4 requires",
        "type": "is of the wrong type",
        "pattern": "is written in a way that R4 does not know",
    }
    name = str(error.kind.name)
    return Doubt(_path(error.instance_path), words.get(name, f"breaks {name}"))


def _model_fault(resource: Json) -> Doubt | None:
    """What the model of its type says."""
    try:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        if first["type"] == "extra_forbidden":  # the name may be anything
            return Doubt(_path(first["loc"][:-1]), "has an element that R4 does not know")
        return Doubt(_path(first["loc"]), f"breaks {first['type']}")
    except MALFORMED:
        return Doubt("", "cannot be parsed")
    return None


def _path(location: Any) -> str:
    """An element's path, as in ``component[1].valueQuantity``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts)[1:]


def _is_deeper(node: object, limit: int) -> bool:
    """Whether JSON is nested deeper than a limit; without recursion."""
    level: list[Any] = [node] if isinstance(node, dict | list) else []
    for _ in range(limit):
        held = [each.values() if isinstance(each, dict) else each for each in level]
        level = [child for each in held for child in each if isinstance(child, dict | list)]
        if not level:
            return False
    return True
