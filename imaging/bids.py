"""Find the T1-weighted scans of a BIDS dataset, with what it says of each.

A reader of our own, because PyBIDS indexes whole datasets in a database of its own where one
suffix, three tables and the sidecars' inheritance are all that is needed.
Labels such as ``sub-01`` are pseudonyms and may be printed; any other file name may be a
patient's and is counted without being named.
"""

import csv
import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imaging.dicom_header import VENDORS
from imaging.scan import DAYS_PER_YEAR, Acquisition, ScanError

LARGEST_TEXT = 1 << 26  # bytes of a table or a sidecar
OLDEST_YEARS = 120.0
UNTAKEN_COLUMNS = {"diagnosis", "group", "dx", "diagnosis_group"}

_LABEL = "[A-Za-z0-9]+"
_NAME = re.compile(rf"((?:[A-Za-z]+-{_LABEL}_)*)({_LABEL})\.(nii|nii\.gz|json)")
_DEFACED = re.compile("defac|anon", re.IGNORECASE)
_SEX = {"f": "female", "female": "female", "m": "male", "male": "male"}

Row = Mapping[str, str]


@dataclass(frozen=True)
class BidsScan:
    """The T1w scan of one session.

    Attributes:
        subject: Such as ``sub-01``.
        session: Such as ``ses-2``; empty where the subject has no sessions.
        path: NIfTI file.
        acquisition: What sidecars and tables say of it. A year before 1925 means that the
            dates of the dataset were shifted, each subject's by the same number of days.
        age_years: Age at the session; None where nobody says.
        sex: ``female`` or ``male``; None where nobody says.
    """

    subject: str
    session: str
    path: Path = field(repr=False)
    acquisition: Acquisition
    age_years: float | None = None
    sex: str | None = None

    @property
    def name(self) -> str:
        """Subject and session.

        Example:
            >>> BidsScan("sub-01", "ses-2", Path(), Acquisition()).name
            'sub-01/ses-2'
        """
        return f"{self.subject}/{self.session}" if self.session else self.subject


@dataclass(frozen=True)
class BidsDataset:
    """The T1w scans of a dataset.

    Attributes:
        name: As ``dataset_description.json`` says, else the folder's.
        scans: One a session, in order.
        remarks: What was chosen, assumed or not taken; lines to print.
    """

    name: str
    scans: tuple[BidsScan, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Name:
    """A file name in its parts: ``sub-01_run-1_T1w.nii.gz``."""

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @property
    def is_json(self) -> bool:
        return self.path.suffix == ".json"


def is_bids(folder: Path) -> bool:
    """Whether a folder is the root of a BIDS dataset."""
    marks = ("dataset_description.json", "participants.tsv")
    return any((folder / mark).is_file() for mark in marks) or bool(_folders(folder, "sub"))


def read_bids(folder: Path) -> BidsDataset:
    """List the T1w scans of a raw dataset; no image is opened.

    Args:
        folder: Its root.

    Raises:
        ScanError: There is no subject in it.
    """
    subjects = _folders(folder, "sub")
    if not subjects:
        raise ScanError("BIDS dataset: no folder sub-LABEL; give the root of a raw dataset")
    participants, remarks = _participants(folder)
    scans: list[BidsScan] = []
    for subject in subjects:
        found, said = _subject(subject, participants.get(subject.name, {}))
        scans += found
        remarks += said
    unknown = sum(scan.age_years is None or scan.sex is None for scan in scans)
    if unknown:
        remarks.append(f"{unknown} of {len(scans)} scans without age or sex: no centiles for them")
    remarks += _left_out(folder, subjects)
    name = _json(folder / "dataset_description.json").get("Name")
    known = isinstance(name, str) and name.strip()
    return BidsDataset(str(name) if known else folder.resolve().name, tuple(scans), tuple(remarks))


# -- subjects, sessions and images -------------------------------------------------------


def _subject(folder: Path, participant: Row) -> tuple[list[BidsScan], list[str]]:
    """The scans of one subject, one a session, and what there is to say of them."""
    sessions = _table(folder / f"{folder.name}_sessions.tsv", "session_id")
    scans, remarks = [], []
    for place in _folders(folder, "ses") or [folder]:
        row = sessions.get(place.name, {})
        image, said = _choose(place)
        remarks += said
        if image is not None:
            acquisition = replace(
                _acquisition(_metadata(folder.parent, image)), acquired_on=_day(place, image, row)
            )
            session = "" if place == folder else place.name
            scans.append(
                BidsScan(folder.name, session, image.path, acquisition, _age(row.get("age")))
            )
    sex = _SEX.get(participant.get("sex", "").strip().lower())
    scans, said = _with_ages(scans, _age(participant.get("age")))
    return [replace(scan, sex=sex) for scan in scans], remarks + said


def _choose(place: Path) -> tuple[_Name | None, list[str]]:
    """The T1w image of a session: whole, plain and first."""
    subject = place if place.name.startswith("sub-") else place.parent
    shown = place.relative_to(subject.parent).as_posix()
    found = sorted(
        (n for n in _names(place / "anat", "T1w") if not n.is_json and _belongs(n, place)),
        key=_preference,
    )
    if not found:
        return None, [f"{shown}: no T1w scan"]
    if not found[0].path.is_file():  # a link of git-annex whose content was not fetched
        return None, [f"{shown}: {found[0].path.name} is a link to nothing; fetch its content"]
    best, *others = found
    if not others:
        return best, []
    why = next(
        reason
        for reason, mine, next_best in zip(
            _REASONS, _preference(best), _preference(others[0]), strict=True
        )
        if mine != next_best
    )
    left = ", ".join(other.path.name for other in others)
    return best, [f"{shown}: {best.path.name} taken ({why}), not {left}"]


def _preference(image: _Name) -> tuple[int | str, ...]:
    """What is least is taken; in the order of `_REASONS`."""
    entities = image.entities
    run = entities.get("run", "")
    return (
        int(entities.get("part", "mag") != "mag"),
        int("ce" in entities),
        int(any(_DEFACED.search(label) for key, label in entities.items() if key != "sub")),
        int("rec" in entities),
        int(run) if run.isdecimal() else 0,
        len(entities),
        image.path.name,
    )


_REASONS = (
    "magnitude",
    "no contrast agent",
    "not a defaced copy",
    "not a reconstruction",
    "lowest run",
    "fewest entities",
    "first by name",
)


def _belongs(image: _Name, place: Path) -> bool:
    """Whether an image's name says the subject and the session whose folder it is in."""
    said = [f"{key}-{image.entities[key]}" for key in ("sub", "ses") if key in image.entities]
    return said in ([place.name], [place.parent.name, place.name])


def _with_ages(scans: list[BidsScan], age_years: float | None) -> tuple[list[BidsScan], list[str]]:
    """Give the participant's age to sessions without their own, and count on where dates allow."""
    silent = [scan for scan in scans if scan.age_years is None]
    if age_years is None or not silent:
        return scans, []
    days = [scan.acquisition.acquired_on for scan in scans]
    first = min(filter(None, days)) if all(days) else None
    aged = []
    for scan, day in zip(scans, days, strict=True):
        later = (day - first).days / DAYS_PER_YEAR if first and day else 0.0
        own = scan.age_years
        aged.append(replace(scan, age_years=age_years + later if own is None else own))
    if len(scans) == 1:
        return aged, []
    how = "as the age at the first, the others by their dates" if first else "for all of them"
    said = f"{scans[0].subject}: {len(scans)} sessions and one age, taken {how}"
    return aged, [said]


def _left_out(folder: Path, subjects: Sequence[Path]) -> list[str]:
    """How many images there are that nobody looked at."""
    others: Counter[str] = Counter()
    for subject in subjects:
        for path in subject.rglob("*.nii*"):
            name = _parse(path)
            outside = path.parent.name != "anat" or (name is not None and name.suffix != "T1w")
            if name is None or "sub" not in name.entities:
                others["of no BIDS name"] += 1
            elif outside:
                others[name.suffix] += 1
            elif not _belongs(name, path.parent.parent):
                others["T1w under another's name"] += 1
    remarks = []
    if others:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(others.items()))
        remarks.append(f"images not taken: {kinds}")
    if (folder / "derivatives").is_dir():
        remarks.append("derivatives/ was not looked into")
    return remarks


# -- tables ------------------------------------------------------------------------------


def _participants(folder: Path) -> tuple[dict[str, Row], list[str]]:
    """Rows of ``participants.tsv`` by subject, without ages that are not in years."""
    path = folder / "participants.tsv"
    rows = _table(path, "participant_id")
    if not rows:
        return {}, ["participants.tsv is absent or has no participant_id: no ages, no sexes"]
    remarks = []
    columns = {column for row in rows.values() for column in row}
    named = sorted(column for column in columns if column.lower() in UNTAKEN_COLUMNS)
    if named:
        remarks.append(
            f"participants.tsv: {', '.join(named)} not imported; known diagnoses come by --pairs"
        )
    age = _json(folder / "participants.json").get("age")
    units = age.get("Units") if isinstance(age, dict) else None
    if isinstance(units, str) and not re.match(r"y(ea)?r?s?\b", units.strip(), re.IGNORECASE):
        remarks.append("participants.json: age is not in years and was not taken")
        rows = {key: {**row, "age": "n/a"} for key, row in rows.items()}
    return rows, remarks


def _table(path: Path, key: str) -> dict[str, Row]:
    """Rows of a TSV by one of its columns; empty where there is no such table."""
    lines = (_text(path) or "").splitlines()
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restval="n/a")
    try:
        rows = [{k: v.strip() for k, v in row.items() if k is not None} for row in reader]
    except csv.Error:
        return {}
    return {row[key]: row for row in rows if row.get(key)}


def _day(place: Path, image: _Name, session: Row) -> dt.date | None:
    """The day of an image: of ``scans.tsv``, else of its session."""
    prefix = "_".join(f"{k}-{image.entities[k]}" for k in ("sub", "ses") if k in image.entities)
    scans = _table(place / f"{prefix}_scans.tsv", "filename")
    for row in (scans.get(f"anat/{image.path.name}", {}), session):
        try:
            return dt.date.fromisoformat(row.get("acq_time", "")[:10])
        except ValueError:
            continue
    return None


def _age(text: str | None) -> float | None:
    """Years; ``89+``, which hides an old person's age, counts as 89.

    Example:
        >>> _age("71.5"), _age("89+"), _age("26,9"), _age("n/a")
        (71.5, 89.0, 26.9, None)
    """
    try:
        age = float((text or "").rstrip("+").replace(",", "."))
    except ValueError:
        return None
    return age if 0 < age <= OLDEST_YEARS else None


# -- metadata ----------------------------------------------------------------------------


def _metadata(root: Path, image: _Name) -> dict[str, Any]:
    """An image's metadata by inheritance: a nearer or more specific sidecar overrides."""
    folders = [root, *reversed([p for p in image.path.parents if root in p.parents])]
    found: dict[str, Any] = {}
    for folder in folders:
        sidecars = [n for n in _names(folder, image.suffix) if n.is_json]
        for sidecar in sorted(sidecars, key=lambda n: len(n.entities)):
            if sidecar.entities.items() <= image.entities.items():
                found |= _json(sidecar.path)
    return found


def _acquisition(metadata: Mapping[str, Any]) -> Acquisition:
    """The facts that matter, in our units; BIDS gives times in seconds."""

    def fact(field_name: str, factor: float = 1.0) -> float | None:
        value = metadata.get(field_name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) * factor if 0 < value < 1e4 else None

    return Acquisition(
        field_strength_t=fact("MagneticFieldStrength"),
        manufacturer=_vendor(metadata.get("Manufacturer")),
        repetition_time_ms=fact("RepetitionTime", 1e3),
        echo_time_ms=fact("EchoTime", 1e3),
        inversion_time_ms=fact("InversionTime", 1e3),
        flip_angle_deg=fact("FlipAngle"),
    )


def _vendor(said: object) -> str | None:
    """A maker's name of the closed list.

    Example:
        >>> _vendor("GE"), _vendor("SIEMENS Healthineers"), _vendor("Ada's workshop"), _vendor(3)
        ('GE', 'Siemens', 'other', None)
    """
    if not isinstance(said, str) or not said.strip():
        return None
    maker = said.strip().upper()
    known = (name for word, name in VENDORS.items() if word in maker or maker == name.upper())
    return next(known, "other")


# -- files -------------------------------------------------------------------------------


def _folders(folder: Path, entity: str) -> list[Path]:
    """Folders named by an entity, such as ``sub-01``, in order."""
    pattern = re.compile(f"{entity}-{_LABEL}")
    return sorted(p for p in folder.glob(f"{entity}-*") if pattern.fullmatch(p.name) and p.is_dir())


def _names(folder: Path, suffix: str) -> Iterator[_Name]:
    """Images and sidecars of a suffix in a folder."""
    parsed = (_parse(path) for path in folder.glob(f"*{suffix}.*"))
    return (name for name in parsed if name is not None and name.suffix == suffix)


def _parse(path: Path) -> _Name | None:
    """A file name in its parts; None where it is not of the BIDS pattern."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    entities = (entity.split("-", 1) for entity in match[1].split("_") if entity)
    return _Name(path, dict(entities), match[2])


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        content = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(path: Path) -> str | None:
    """A small text file; None where there is none."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_TEXT:
            return None
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
