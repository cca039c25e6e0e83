"""What a FHIR Patient says that names or finds the person, for `clinical.deidentify` to remove."""

from collections.abc import Iterator

from clinical.elements import Json
from clinical.record import Personal


def read_personal(patient: Json) -> Personal:
    """Collect names, contacts, addresses and telecoms of a validated Patient.

    Args:
        patient: The resource as JSON.

    Returns:
        Each string once, in the order of the resource.

    Example:
        >>> person = read_personal({"name": [{"family": "Vega", "given": ["Ana Sol"]}]})
        >>> person.names
        ('Ana Sol Vega', 'Vega', 'Ana Sol')
    """
    contacts: list[Json] = patient.get("contact", [])
    people = [patient, *contacts]
    return Personal(
        names=_once(part for name in patient.get("name", []) for part in _name_parts(name)),
        contacts=_once(part for c in contacts for part in _name_parts(c.get("name", {}))),
        addresses=_once(part for person in people for part in _address_parts(person)),
        telecoms=_once(
            str(entry.get("value", "")) for p in people for entry in p.get("telecom", [])
        ),
    )


def _name_parts(name: Json) -> Iterator[str]:
    """A name as text and in its parts; prefixes such as Dr. name nobody."""
    family, given = str(name.get("family", "")), [str(part) for part in name.get("given", [])]
    yield str(name.get("text", ""))
    yield " ".join([*given, family]) if given else ""
    yield family
    yield from given


def _address_parts(person: Json) -> Iterator[str]:
    """Lines and places of the addresses; a country finds nobody."""
    address = person.get("address", [])
    for entry in address if isinstance(address, list) else [address]:  # a contact has one
        yield str(entry.get("text", ""))
        yield from map(str, entry.get("line", []))
        yield from (str(entry.get(k, "")) for k in ("district", "city", "state", "postalCode"))


def _once(texts: Iterator[str]) -> tuple[str, ...]:
    tidy = (" ".join(text.split()) for text in texts)
    return tuple(dict.fromkeys(filter(None, tidy)))
