"""Many patients in one file or folder: each becomes a case of its own."""

from pathlib import Path

from clinical.by_patient import count_patients, split_bundle
from clinical.import_report import ImportReport
from clinical.ndjson import ExportedPatient, exported, read_export
from fusion.intake import IntakeError, Source


def export_sources(*paths: Path) -> tuple[list[Source], ImportReport]:
    """The patients of a FHIR bulk export as cases, and what became of each of its lines.

    Args:
        paths: The export's folder, or its NDJSON files.

    Raises:
        clinical.ndjson.ExportError: There is no NDJSON file.
    """
    export = read_export(*paths)
    return [_source(paths[0], patient) for patient in export.patients], export.report


def bundle_sources(path: Path) -> tuple[list[Source], ImportReport | None]:
    """A bundle as a case; one with several patients as a case for each.

    Returns:
        The cases, and, where there were several patients, which entries are nobody's.

    Raises:
        IntakeError: The file cannot be opened.
        clinical.bundle.BundleError: It is no bundle.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise IntakeError(f"{path}: {error.strerror}") from None
    if count_patients(raw) < 2:
        return [Source(bundle=path)], None
    index, report = split_bundle(raw)
    return [_source(path, patient) for patient in exported(index)], report


def _source(path: Path, patient: ExportedPatient) -> Source:
    """One patient of a file or folder; its id stays out of the name."""
    return Source(exported=patient, name=f"{path}, patient {patient.number}")
