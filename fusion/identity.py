"""Is the scan this patient's? Its header held against the record."""

from dataclasses import dataclass
from typing import Literal

from clinical.record import PatientRecord
from imaging.scan import Identity

Fact = Literal["identifier", "sex", "birth year"]


@dataclass(frozen=True)
class Disagreement:
    """A fact in which a scan's header and the record contradict each other.

    Neither identifiers nor birth years are kept, only that they differ.

    Attributes:
        fact: Which.
        record: What the record says, of the sex alone.
        header: What the header says, of the sex alone.
        years_apart: Of the birth years.
    """

    fact: Fact
    record: str = ""
    header: str = ""
    years_apart: int = 0

    def __str__(self) -> str:
        """A finding for the physician."""
        if self.fact == "sex":
            return f"sex: record {self.record}, scan header {self.header}"
        if self.fact == "birth year":
            return f"birth year: record and scan header are {self.years_apart} years apart"
        return "identifier: the scan header's is none of the record's"


def compare(identity: Identity, record: PatientRecord) -> tuple[Disagreement, ...] | None:
    """Hold a scan's header against the record.

    Identifiers are compared as written but for spaces and case. A record without business
    identifiers leaves nothing to compare the header's with: its own FHIR id is the server's.

    Returns:
        What disagrees, empty if nothing does; None where there was nothing to compare.

    Example:
        >>> record = PatientRecord("p1", "female", identifiers=("MRN-7",))
        >>> [str(found) for found in compare(Identity("mrn-7", "male"), record)]
        ['sex: record female, scan header male']
    """
    found = [_identifier(identity, record), _sex(identity, record), _birth_year(identity, record)]
    if found == [None, None, None]:
        return None
    return tuple(disagreement for held in found if held for disagreement in held)


# Each compares one fact: None where there is nothing to compare, else what disagrees.
Held = tuple[Disagreement, ...] | None


def _identifier(identity: Identity, record: PatientRecord) -> Held:
    said = _plain(identity.patient_id or "")
    known = {_plain(identifier) for identifier in record.identifiers}
    if said and said in known | {_plain(record.patient_id)}:
        return ()
    return (Disagreement("identifier"),) if said and known else None


def _sex(identity: Identity, record: PatientRecord) -> Held:
    if identity.sex not in ("female", "male") or record.sex not in ("female", "male"):
        return None
    if identity.sex == record.sex:
        return ()
    return (Disagreement("sex", record=record.sex, header=identity.sex),)


def _birth_year(identity: Identity, record: PatientRecord) -> Held:
    if identity.birth_year is None or record.birth_date is None:
        return None
    apart = abs(identity.birth_year - record.birth_date.year)
    return (Disagreement("birth year", years_apart=apart),) if apart else ()


def _plain(identifier: str) -> str:
    """Without spaces, in one case."""
    return "".join(identifier.split()).casefold()
