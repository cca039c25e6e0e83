"""What the header of a DICOM picture says: is it T1w anatomy, how was it taken, whose is it?

The weighting is judged by the pulse sequence's own numbers. Of the header only `Acquisition`, in
closed words, and `Identity` leave.
"""

import re
from datetime import date

from imaging.dicom_file import Picture
from imaging.scan import Acquisition, Identity, ScanError

NOT_ANATOMY = {  # words of ImageType: what such a picture is
    "LOCALIZER": "a localizer",
    "MPR": "reformatted from another series",
    "CSA MPR": "reformatted from another series",
    "REFORMATTED": "reformatted from another series",
    "PROJECTION IMAGE": "a projection",
    "MIP": "a projection",
    "MINIP": "a projection",
    "P": "a phase image",
    "PHASE": "a phase image",
    "PHASE MAP": "a phase image",
    "VELOCITY": "a phase image",
    "R": "a real part",
    "REAL": "a real part",
    "I": "an imaginary part",
    "IMAGINARY": "an imaginary part",
    "SUBTRACTION": "a difference of two series",
    "SUBTRACT": "a difference of two series",
    "T1 MAP": "a map of T1",
    "T2 MAP": "a map of T2",
    "ADC": "a diffusion map",
    "FA": "a diffusion map",
    "DIFFUSION": "diffusion-weighted",
    "SCREEN SAVE": "a screenshot",
}
VENDORS = {
    "SIEMENS": "Siemens",
    "PHILIPS": "Philips",
    "GE MEDICAL": "GE",
    "GE HEALTH": "GE",
    "GENERAL ELECTRIC": "GE",
    "CANON": "Canon",
    "TOSHIBA": "Canon",
    "FUJI": "Fujifilm",
    "HITACHI": "Fujifilm",
    "UIH": "United Imaging",
    "UNITED IMAGING": "United Imaging",
    "NEUSOFT": "Neusoft",
    "HYPERFINE": "Hyperfine",
}
SEXES = {"F": "female", "M": "male"}
T1W_LABEL = re.compile(r"T1|MP-?RAGE|BRAVO|SPGR|TFE")
OTHER_LABEL = re.compile(r"T2|FLAIR|PD|SWI|DWI|DTI|ADC|BOLD|ASL|TOF|MAP|MRA")


def check_kind(first: Picture) -> None:
    """Is it a picture of anatomy by MR, one slice per file?"""
    if first.word("Modality") != "MR":
        raise ScanError("not MR")
    for word in first.words("ImageType"):
        if word in NOT_ANATOMY:
            raise ScanError(NOT_ANATOMY[word])
    if first.word("AngioFlag") == "Y":
        raise ScanError("angiography")
    if first.fields.get("NumberOfFrames", (1,)) != (1,):
        raise ScanError("several slices in one file; convert it to NIfTI with dcm2niix")


def is_timed(first: Picture) -> bool:
    """Does the header tell enough of the pulse sequence to judge the weighting?"""
    others = (first.number("RepetitionTime"), first.number("InversionTime"))
    return first.number("EchoTime") is not None and others != (None, None)


def labelled_t1w(first: Picture) -> bool:
    """Does its label say T1w? It may support other signs and is never repeated."""
    label = first.word("SeriesDescription")
    return bool(T1W_LABEL.search(label)) and not OTHER_LABEL.search(label)


def has_contrast(first: Picture) -> bool:
    """Was a contrast agent given? Which one stays unsaid."""
    return first.word("ContrastBolusAgent") not in ("", "NONE", "NO")


def check_weighting(first: Picture) -> bool:
    """Refuse timing that is not T1w's; say whether an inversion pulse prepares it."""
    kinds = set(first.words("ScanningSequence"))
    gradient_echo = "GR" in kinds
    echo, repetition = first.number("EchoTime"), first.number("RepetitionTime")
    inversion, flip = _positive(first, "InversionTime"), _positive(first, "FlipAngle")
    prepared = _prepared(first)
    if "EP" in kinds:
        raise ScanError("echo planar, not T1w")
    if echo is not None and echo > (12 if gradient_echo else 30):
        raise ScanError(f"an echo time of {echo:g} ms, too long for T1w")
    if inversion is not None and not 300 <= inversion <= 1500:
        raise ScanError(f"an inversion time of {inversion:g} ms, not T1w's")
    if not prepared and repetition is not None and repetition > 1000:
        raise ScanError(f"a repetition time of {repetition:g} ms, too long for T1w")
    if not prepared and gradient_echo:
        variant = set(first.words("SequenceVariant"))
        if flip is not None and flip < 8:
            raise ScanError(f"a flip angle of {flip:g} degrees, too small for T1w")
        if "SS" in variant and "SP" not in variant:
            raise ScanError("steady state without spoiling, not T1w")
    return prepared


def _prepared(first: Picture) -> bool:
    """Does an inversion pulse come first?"""
    return (
        "IR" in first.words("ScanningSequence")
        or "MP" in first.words("SequenceVariant")
        or _positive(first, "InversionTime") is not None
    )


def _positive(picture: Picture, keyword: str) -> float | None:
    """A number above zero; some scanners write 0 for none."""
    number = picture.number(keyword)
    return number if number is not None and number > 0 else None


def sequence(first: Picture) -> str | None:
    """The pulse sequence in closed words."""
    kinds = first.words("ScanningSequence")
    readout = {"EP": "echo planar", "GR": "gradient echo", "SE": "spin echo"}
    echo = next((name for word, name in readout.items() if word in kinds), None)
    if echo is None:
        return None
    axes = first.word("MRAcquisitionType")
    words = [axes] if axes in ("2D", "3D") else []
    return " ".join([*words, *(["inversion-recovery"] if _prepared(first) else []), echo])


def acquisition(first: Picture) -> Acquisition:
    """The header facts that matter."""
    maker = first.word("Manufacturer")
    known = (name for word, name in VENDORS.items() if word in maker)
    return Acquisition(
        field_strength_t=_positive(first, "MagneticFieldStrength"),
        manufacturer=next(known, "other") if maker else None,
        sequence=sequence(first),
        repetition_time_ms=_positive(first, "RepetitionTime"),
        echo_time_ms=_positive(first, "EchoTime"),
        inversion_time_ms=_positive(first, "InversionTime"),
        flip_angle_deg=_positive(first, "FlipAngle"),
        acquired_on=_acquired_on(first),
    )


def _acquired_on(first: Picture) -> date | None:
    """The day of the acquisition, else of the series, else of the study."""
    for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        day = first.word(keyword)
        if re.fullmatch(r"\d{8}", day):
            try:
                return date.fromisoformat(day)
            except ValueError:
                continue
    return None


def identity(first: Picture) -> Identity:
    """Whose scan it says it is."""
    patient = first.fields.get("PatientID", ())
    year = first.word("PatientBirthDate")[:4]
    return Identity(
        patient_id="\\".join(map(str, patient)).strip() or None,
        sex=SEXES.get(first.word("PatientSex")),
        birth_year=int(year) if re.fullmatch(r"(18|19|20)\d\d", year) else None,
    )
