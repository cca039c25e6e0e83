"""What can be diagnosed, and files that say so badly."""

from pathlib import Path

import pytest

from clinical.diagnoses import SchemeError, dump_scheme, load_scheme

ONE = '[[cause]]\nkey = "AD"\nname_en = "Alzheimer\'s disease"\nname_zh = "阿尔茨海默病"\n'


def write(folder: Path, text: str) -> Path:
    """A file of diagnoses."""
    path = folder / "diagnoses.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_is_the_published_scheme() -> None:
    """The labels of Xue et al., Nature Medicine 2024, in their order."""
    scheme = load_scheme()
    assert [label.key for label in scheme.syndromes] == ["NC", "MCI", "DE"]
    causes = "AD LBD VD PRD FTD NPH SEF PSY TBI ODE"
    assert [label.key for label in scheme.causes] == causes.split()
    assert len(scheme.labels) == 13


def test_every_diagnosis_has_a_name_in_both_languages() -> None:
    """English and Chinese."""
    for label in load_scheme().labels:
        assert label.name("en").isascii()
        assert not label.name("zh").isascii()


def test_every_snomed_code_passes_its_check_digit() -> None:
    """Verhoeff's, which every SNOMED CT identifier ends with: a mistyped digit is found."""
    codes = [code for code in load_scheme().codes if code.isdigit()]
    assert len(codes) > 80
    assert [code for code in codes if not _verhoeff(code)] == []
    assert not _verhoeff("26929005")


def _verhoeff(code: str) -> bool:
    """Arithmetic in the dihedral group of ten elements."""
    turn = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    total, permutation = 0, list(range(10))
    for digit in reversed(code):
        total = _compose(total, permutation[int(digit)])
        permutation = [permutation[turn[n]] for n in range(10)]
    return total == 0


def _compose(a: int, b: int) -> int:
    """Product in that group: 0-4 rotate, 5-9 reflect."""
    if a < 5:
        return (a + b) % 5 + (5 if b >= 5 else 0)
    return (a - b) % 5 + (5 if b < 5 else 0)


@pytest.mark.parametrize("code", ["26929004", "G30.9", "G31.83", "312991009", "F01.50"])
def test_a_code_that_states_a_diagnosis_is_a_leak(code: str) -> None:
    """In SNOMED CT, ICD-10 and ICD-10-CM."""
    assert code in load_scheme().codes


@pytest.mark.parametrize("code", ["38341003", "I10", "E11.9", "49049000", "35489007"])
def test_risk_factors_and_neighbours_are_evidence(code: str) -> None:
    """Hypertension, diabetes, Parkinson's disease and depression state no diagnosis of ours."""
    assert code not in load_scheme().codes


def test_a_scheme_survives_its_file(tmp_path: Path) -> None:
    """Written beside a model and read again."""
    scheme = load_scheme()
    assert load_scheme(write(tmp_path, dump_scheme(scheme))) == scheme


def test_a_scheme_may_have_causes_only(tmp_path: Path) -> None:
    """A hospital that asks about one disease."""
    scheme = load_scheme(write(tmp_path, ONE))
    assert scheme.label("AD").snomed is None
    assert scheme.syndromes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no \\[\\[syndrome"),
        ("[[cause]\n", "not TOML"),
        ("[[disease]]\n", "disease"),
        ("[cause]\nkey = 'AD'\n", "two brackets"),
        (ONE.replace("name_zh", "name_fr"), "name_fr"),
        (ONE.replace("name_zh", "# "), "cause 1 has no name_zh"),
        (ONE + "snomed = 26929004\n", "snomed must be text"),
        (ONE + 'also = "G30"\n', "also must be a list"),
        (ONE + ONE, "AD.*twice"),
        (ONE.replace("cause", "syndrome"), "one syndrome"),
        ("cause = [1]\n", "two brackets"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    """It names the file and the entry."""
    with pytest.raises(SchemeError, match=message):
        load_scheme(write(tmp_path, text))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """So is a folder."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SchemeError, match="cannot be read"):
            load_scheme(path)


def test_an_unknown_key_lists_the_known() -> None:
    """A typo is easily mended."""
    with pytest.raises(SchemeError, match="there are NC, MCI"):
        load_scheme().label("ALS")
