"""Volumes, centiles and pictures of a scan are shown with what they rest on, or not at all."""

import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import ATTACK, add_case
from fastapi.testclient import TestClient

from clinical.findings import plain
from fusion.identity import Disagreement
from fusion.store import CaseRow, ScanFacts, dump_facts
from imaging.change import Change, Course
from imaging.norms import load_norms
from imaging.pictures import COLOURS, Measured, volume_plot
from imaging.regions import REGIONS
from ui.accounts import Accounts
from ui.app import create_app
from ui.charts import _WEST, volume_chart
from ui.reading import ScanReading, read_scan
from ui.texts import load_texts, viewer_words
from ui.views import esc
from ui.volumes import region_figure, volumes_card

EN, ZH, NORMS = load_texts("en"), load_texts("zh"), load_norms()
OVERLAY = "/scan/abc123/overlay.png"


def reading(age_years: float | None = 72.0, sex: str = "female", **given: object) -> ScanReading:
    """A woman of 72 in the middle of the norms but for a small left hippocampus."""
    asked = (50.0, NORMS.middle_head_mm3, "female", np.array([72.0]))
    volumes = {key: float(NORMS.curve(key, *asked)[0][0]) for key in NORMS.regions}
    volumes["left hippocampus"] *= 0.7
    sure = dict.fromkeys(volumes, 0.9)
    return ScanReading(Measured(volumes, age_years, sex), sure, 0.83, (plain(ATTACK),), **given)


def row(card: str, structure: str) -> str:
    """One structure's line of the table."""
    found = re.search(rf'<tr><th scope="row">{structure}</th>.*?</tr>', card)
    assert found
    return found.group()


def test_a_small_left_hippocampus_is_marked_low_and_asymmetric():
    """The right one is in the middle of the norm and is not."""
    card = volumes_card("abc123", reading(), NORMS, EN)
    line = row(card, "Hippocampus")
    left, right = line.split("</td><td>0.90</td>")[:2]
    assert "low" in left
    assert "low" not in right
    assert re.search(r"R \+\d+ %.*unusual", line)
    assert len(re.findall(r'<th scope="row">', card)) == len({r.name for r in REGIONS})


@pytest.mark.parametrize(
    ("age", "sex", "said"),
    [(99.0, "female", "99"), (None, "female", EN("norm_age_unknown")),
     (72.0, "other", EN("norm_sex_unknown"))],
)  # fmt: skip
def test_without_a_norm_the_page_says_why_and_gives_no_centile(age, sex, said):
    """In words, and not as a number of nobody."""
    card = volumes_card("abc123", reading(age, sex), NORMS, EN)
    assert esc(said) in re.search(r'class="abstains">(.*?)</p>', card).group(1)
    assert not re.search(r"mL, centile", card)
    assert "mL, centile" in volumes_card("abc123", reading(), NORMS, EN)


def test_the_grade_comes_with_its_reasons_and_these_stay_text():
    """What a check found may quote anything."""
    card = volumes_card("abc123", reading(), NORMS, EN)
    assert "Scan quality: 0.83 of 1." in card
    assert "&lt;script&gt;" in card
    assert "<script" not in card


@pytest.mark.parametrize("texts", [EN, ZH], ids=["en", "zh"])
def test_every_picture_has_words_for_who_cannot_see_it(texts):
    """Slices, plots and the scrolling table; the table can be scrolled by keyboard."""
    card = volumes_card("abc123", reading(), NORMS, texts)
    assert f'alt="{esc(texts("overlay_alt"))}"' in card
    labels = re.findall(r'<svg class="volume"[^>]*aria-label="([^"]+)"', card)
    assert len(labels) == card.count("<svg") == 8
    assert any(esc(texts.region("left hippocampus")) in label for label in labels)
    assert re.search(r'class="scrolls" tabindex="0" role="region" aria-label="[^"]+"', card)


def test_a_change_is_shown_with_its_band_and_marked_beyond_it():
    """Three percent a year are more than chance, one percent is not."""
    changes = (
        Change("left hippocampus", -3.3, 2.1, -0.8),
        Change("right hippocampus", -1.0, 2.1, None),
    )
    earlier = Measured(reading().measured.volumes_mm3, 70.0, "female")
    card = volumes_card("abc123", reading(prior=earlier, course=Course(2.0, changes)), NORMS, EN)
    line = row(card, "Hippocampus")
    assert re.search(r"−3.3 % ±2.1 .*?more than chance", line)
    assert "−1.0 % ±2.1</td>" in line
    assert "2.0 years earlier" in card


def test_a_chart_puts_the_patient_below_the_curves():
    """SVG counts downwards: a smaller volume has a larger y; the older scan is on the left."""
    small = reading().measured
    plot = volume_plot("left hippocampus", small, [replace(small, age_years=70.0)], NORMS)
    chart = volume_chart(plot, "left hippocampus")
    lowest = re.search(r'class="centile" points="([^"]+)"', chart).group(1)
    curve = [tuple(map(float, pair.split(","))) for pair in lowest.split()]
    dots = re.findall(r'<circle[^>]* cx="([\d.]+)" cy="([\d.]+)"', chart)
    (x0, _), (x1, y1) = [(float(x), float(y)) for x, y in dots]
    assert _WEST < x0 < x1
    assert y1 > np.interp(x1, *zip(*curve, strict=True))
    assert "nan" not in chart


def test_a_region_that_was_not_found_has_no_figure():
    """Evidence of an older version may name one."""
    assert region_figure("left hippocampus", reading(), NORMS, EN).count("<svg") == 1
    assert region_figure("left nothing", reading(), NORMS, EN) == ""


def test_the_viewer_and_the_pictures_have_the_same_colours():
    """One colour for a structure, wherever it is drawn."""
    words = viewer_words("zh")
    assert words["colours"] == [COLOURS[region.name] for region in REGIONS]
    assert len(words["regions"]) == len(words["colours"]) + 1


@pytest.fixture
def visitor(site, assistant) -> TestClient:
    """A browser that has not logged in."""
    accounts = Accounts()
    accounts.add("dr.lee", "a long enough password")
    app = create_app(site, assistant, accounts)
    return TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False)


def log_in(visitor: TestClient) -> None:
    """Send the login form."""
    visitor.post("/login", data={"user": "dr.lee", "password": "a long enough password"})


def test_the_slices_are_drawn_for_who_logged_in_and_kept_nowhere(visitor):
    """A PNG without a word about the patient."""
    assert visitor.get(OVERLAY).status_code == 401
    log_in(visitor)
    answer = visitor.get(OVERLAY)
    assert answer.content.startswith(b"\x89PNG")
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == (
        "image/png", "no-store",
    )  # fmt: skip
    assert not re.search(rb"tEXt|iTXt|zTXt|Ada", answer.content)


@pytest.mark.parametrize("case_id", ["def456", "nobody", ".."])
def test_there_is_no_picture_without_a_scan(visitor, case_id):
    """Neither of a case without one, nor of one that does not exist."""
    log_in(visitor)
    assert visitor.get(f"/scan/{case_id}/overlay.png").status_code == 404


def test_nothing_is_shown_of_a_scan_that_may_be_another_patients(site, visitor):
    """Until a person has decided."""
    with site.session() as session:
        row = session.get_one(CaseRow, "abc123")
        row.scan_facts = dump_facts(ScanFacts(disagreements=(Disagreement("identifier"),)))
    log_in(visitor)
    assert visitor.get(OVERLAY).status_code == 404
    assert read_scan(site, "abc123") is None
    assert volumes_card("abc123", None, NORMS, EN) == ""


def test_the_scan_before_it_is_the_same_patients_only(site):
    """An earlier case of another patient is nobody's prior scan."""
    assert read_scan(site, "abc123").prior is None
    add_case(site, "abc122")
    with site.session() as session:
        now, before = (session.get_one(CaseRow, case) for case in ("abc123", "abc122"))
        now.scan_facts = {"acquisition": {"acquired_on": "2024-03-01"}}
        before.scan_facts = {"acquisition": {"acquired_on": "2022-03-01"}}
        before.patient_key = "another"
    assert read_scan(site, "abc123").prior is None
    with site.session() as session:
        session.get_one(CaseRow, "abc122").patient_key = "abc123"
    found = read_scan(site, "abc123")
    assert found.prior == Measured({"left hippocampus": 2310.0, "third ventricle": 1900.0},
                                   found.prior.age_years, "male")  # fmt: skip
    assert found.course.years == pytest.approx(2.0, abs=0.01)
