"""The patient's record, as the rest of Consilium sees it. No input or output here.

Field names follow FHIR R4. Dates are calendar dates: a time of day decides nothing in a
dementia work-up and is one more thing that identifies a patient.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Literal

Sex = Literal["female", "male", "other", "unknown"]
Comparator = Literal["<", "<=", ">=", ">"]

DAYS_PER_YEAR = 365.25
LOCAL = "local:"  # begins the code of what a site measures and LOINC has no code for


@dataclass(frozen=True)
class Coding:
    """A code of a terminology.

    Attributes:
        system: FHIR URI, such as ``http://loinc.org``.
        code: The code itself.
        display: Its name, as the sender wrote it.
    """

    system: str
    code: str
    display: str


@dataclass(frozen=True)
class ReferenceRange:
    """Normal range in the canonical unit; None where a side is open."""

    low: float | None
    high: float | None


@dataclass(frozen=True)
class Observation:
    """One measured value or score.

    Attributes:
        id: FHIR id of the resource, with ``#n`` for its n-th component.
        loinc: LOINC code of the analyte, after synonyms were mapped to one; `LOCAL` and a name
            of the site's own where there is none.
        name: Name of the analyte.
        value: Number in `unit`; None where the source has only text.
        unit: Canonical UCUM unit of the analyte, as `clinical.units` lists it.
        reference: The sender's normal range in that unit; None where it gave none.
        date: When it was measured, on the sender's calendar.
        text: Coded or free text where there is no number.
        comparator: Where `value` is a limit of detection, the side on which the true value lies.
        interpretation: The sender's judgement as a HL7 code: ``N``, ``H``, ``LL``, ``POS`` ...
        absent_reason: Why there is no number although the sender gave one.
    """

    id: str
    loinc: str
    name: str
    value: float | None
    unit: str
    reference: ReferenceRange | None = None
    date: dt.date | None = None
    text: str | None = None
    comparator: Comparator | None = None
    interpretation: str = ""
    absent_reason: str = ""


@dataclass(frozen=True)
class Condition:
    """A coded problem or diagnosis."""

    id: str
    code: Coding
    clinical_status: str  # FHIR: active, recurrence, relapse, inactive, remission, resolved
    onset: dt.date | None = None
    verification: str = ""  # FHIR: confirmed, provisional, differential, unconfirmed


@dataclass(frozen=True)
class Medication:
    """A drug that was requested, stated or administered."""

    id: str
    code: Coding
    status: str  # FHIR: active, completed, stopped ...
    start: dt.date | None = None


@dataclass(frozen=True)
class FamilyMember:
    """One condition of one relative."""

    id: str
    relationship: str  # as the sender wrote it: mother, 父亲
    condition: Coding
    onset_age_years: float | None = None


@dataclass(frozen=True)
class Note:
    """One clinical text.

    Attributes:
        id: FHIR id of the DiagnosticReport or DocumentReference, with ``#n`` for its n-th text.
        kind: What sort of note, LOINC where the sender gave it.
        text: Plain text; offsets of sentences point into it.
        date: When it was written.
        language: ``en`` or ``zh`` by its script.
    """

    id: str
    kind: Coding
    text: str = field(repr=False)
    date: dt.date | None = None
    language: str = "en"


@dataclass(frozen=True)
class Personal:
    """What identifies a patient and helps no diagnosis.

    Kept so that `clinical.deidentify` can take it out of notes; never logged, shown or exported.

    Attributes:
        names: Every name of the patient and every part of one: given, family, maiden.
        contacts: The same of relatives and other contacts.
        addresses: Street lines, districts, towns and postal codes, each by itself.
        telecoms: Phone numbers, e-mail addresses, pages.
    """

    names: tuple[str, ...] = field(default=(), repr=False)
    contacts: tuple[str, ...] = field(default=(), repr=False)
    addresses: tuple[str, ...] = field(default=(), repr=False)
    telecoms: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class PatientRecord:
    """Everything one import says about one patient.

    Attributes:
        patient_id: FHIR id of the Patient.
        sex: Administrative gender.
        name: For the physician's eyes on the review page only; never logged.
        birth_date: Day, or the first day of the month or year where only that is known.
        education_years: Years of schooling.
        identifiers: Business identifiers, such as a hospital number; to hold a scan's header
            against, and never logged.
        stated_age_years: Age that the source states, for records without a birth date.
        personal: Other names, relatives, addresses and telecoms, to be taken out of notes.
    """

    patient_id: str = field(repr=False)
    sex: Sex
    name: str = field(default="", repr=False)
    birth_date: dt.date | None = field(default=None, repr=False)
    education_years: float | None = None
    observations: tuple[Observation, ...] = ()
    conditions: tuple[Condition, ...] = ()
    medications: tuple[Medication, ...] = ()
    family_history: tuple[FamilyMember, ...] = ()
    notes: tuple[Note, ...] = ()
    identifiers: tuple[str, ...] = field(default=(), repr=False)
    stated_age_years: float | None = None
    personal: Personal = field(default=Personal(), repr=False)

    @property
    def index_date(self) -> dt.date | None:
        """The time of the case: the latest date of an observation or a note."""
        dates = [entry.date for entry in self.observations] + [note.date for note in self.notes]
        return max(filter(None, dates), default=None)

    @property
    def age_years(self) -> float | None:
        """Age at the time of the case."""
        if self.birth_date is None or self.index_date is None:
            return self.stated_age_years
        return self.age_on(self.index_date)

    def age_on(self, day: dt.date) -> float | None:
        """Age on a day; None where the birth date is unknown."""
        if self.birth_date is None:
            return None
        return (day - self.birth_date).days / DAYS_PER_YEAR
