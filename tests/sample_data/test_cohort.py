"""The synthetic cohort: reproducible, valid, silent about the diagnosis, and different by site."""

import base64
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from fhir.resources.R4B import get_fhir_model_class

from clinical.diagnoses import load_scheme
from clinical.fhir import read_bundle
from imaging.regions import REGION_INDEX, region_volumes_mm3
from sample_data.anatomy import log_factors
from sample_data.bundles import bundle_bytes
from sample_data.cohort import make_case
from sample_data.hospitals import HOSPITALS, hospital_of
from sample_data.patients import Patient, case_rng, draw_patient
from sample_data.scans import Template, simulate

CASES = range(40)
FORBIDDEN = (
    "dementia", "alzheimer", "lewy", "frontotemporal", "hydrocephalus", "prion", "creutzfeldt",
    "cognitive impairment", "parkinson", "huntington", "depress", "brain injury", "encephalopathy",
    "痴呆", "阿尔茨海默", "路易", "额颞",
    "脑积水", "朊", "克雅", "认知障碍", "帕金森", "亨廷顿", "抑郁症", "脑损伤",
)  # fmt: skip


@cache
def bundle(index: int, seed: int = 0) -> bytes:
    """One bundle of the cohort."""
    return bundle_bytes(
        draw_patient(hospital_of(index), seed, index), hospital_of(index), seed, index
    )


def resources(index: int) -> list[dict[str, object]]:
    """Its resources."""
    return [entry["resource"] for entry in json.loads(bundle(index))["entry"]]


@pytest.fixture(scope="module")
def template() -> Template:
    """A ball of a head: fluid around tissue, with two hippocampi and two ventricles in it."""
    axes = torch.meshgrid(*(torch.arange(48) - 23.5 for _ in range(3)), indexing="ij")
    radius = sum(axis**2 for axis in axes).sqrt()
    labels = torch.zeros(48, 48, 48, dtype=torch.uint8)
    for key, x, y, size in (
        ("left hippocampus", -8, -6, 5), ("right hippocampus", 8, -6, 5),
        ("left lateral ventricle", -7, 8, 5), ("right lateral ventricle", 7, 8, 5),
    ):  # fmt: skip
        away = (axes[0] - x) ** 2 + (axes[1] - y) ** 2 + axes[2] ** 2
        labels[away.sqrt() < size] = REGION_INDEX[key] + 1
    fluid = ((radius > 18) & (radius < 22)).float()
    head = torch.where(radius < 18, 0.8, 0.1)
    head = torch.nn.functional.interpolate(head[None, None], scale_factor=2.0)[0, 0]
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -47.5
    return Template(head, affine, labels, fluid)


def patient(**severity: float) -> Patient:
    """A patient of a given disease."""
    drawn = draw_patient(HOSPITALS[0], 0, 0)
    return Patient(**{**vars(drawn), "severity": severity, "age_years": 70.0, "variant": {}})


def test_the_same_seed_gives_the_same_files(tmp_path: Path, template: Template) -> None:
    """Two runs write the same bytes, scans included, and another seed writes others."""
    for run in ("one", "two"):
        assert [make_case(tmp_path / run, template, 0, n).hospital for n in (0, 9)]
    first, second = (
        {p.relative_to(tmp_path / run): p.read_bytes() for p in (tmp_path / run).rglob("*.*z")}
        | {p.relative_to(tmp_path / run): p.read_bytes() for p in (tmp_path / run).rglob("*.json")}
        for run in ("one", "two")
    )
    assert len(first) >= 3
    assert first == second
    assert bundle(0) != bundle(0, seed=1)


@pytest.mark.parametrize("index", CASES)
def test_every_resource_is_valid_fhir_r4(index: int) -> None:
    """fhir.resources accepts each entry, and our own reader refuses and ignores none."""
    for resource in resources(index):
        get_fhir_model_class(str(resource["resourceType"])).model_validate(resource)
    _, report = read_bundle(bundle(index))
    assert not report.refused
    assert not report.ignored


@pytest.mark.parametrize("index", CASES)
def test_no_bundle_states_a_diagnosis(index: int) -> None:
    """Neither words nor codes; only relatives may have a named disease."""
    codes = {
        code
        for label in (*load_scheme().syndromes, *load_scheme().causes)
        for code in (label.snomed, label.icd10)
        if code
    }
    for resource in resources(index):
        if resource["resourceType"] == "FamilyMemberHistory":
            continue
        text = json.dumps(resource, ensure_ascii=False).lower()
        for content in resource.get("content", []):
            text += base64.b64decode(content["attachment"]["data"]).decode().lower()
        assert not [word for word in FORBIDDEN if word in text]
        assert not codes & {c.get("code") for c in resource.get("code", {}).get("coding", [])}


def test_hospitals_differ_in_prevalence_language_and_what_is_missing() -> None:
    """Dementia is commoner at harbour than at river, which alone writes Chinese and taps nobody."""
    drawn = [draw_patient(hospital_of(n), 0, n).syndrome for n in range(600)]
    rate = {
        h.name: np.mean([s == "DE" for n, s in enumerate(drawn) if hospital_of(n) is h])
        for h in HOSPITALS
    }
    assert rate["harbour"] > rate["river"] + 0.05
    records = {n: read_bundle(bundle(n))[0] for n in CASES}
    chinese = {
        hospital_of(n).name for n, r in records.items() if "zh" in {m.language for m in r.notes}
    }
    tapped = {
        hospital_of(n).name
        for n, r in records.items()
        if any(o.name.startswith("CSF") for o in r.observations)
    }
    assert chinese == {"river"}
    assert "river" not in tapped
    assert "north" in tapped


def test_units_differ_but_mean_the_same() -> None:
    """Creatinine in umol/L and in mg/dL comes out in one range after import."""
    values = [
        o.value
        for n in CASES
        for o in read_bundle(bundle(n))[0].observations
        if o.name == "Creatinine"
    ]
    assert len(values) > 20
    assert all(0.4 < value < 2.0 for value in values)


def test_regions_get_the_volume_that_was_asked_for(template: Template) -> None:
    """A hippocampus that shall lose a third and ventricles that shall double come close to it."""
    wanted = {"left hippocampus": math.log(0.7), "left lateral ventricle": math.log(2.0)}
    made = simulate(template, wanted, (), HOSPITALS[0].scanner, np.random.default_rng(0))
    plain = simulate(template, {}, (), HOSPITALS[0].scanner, np.random.default_rng(0))
    for key, log_factor in wanted.items():
        achieved = math.log(made.volumes_mm3[key] / plain.volumes_mm3[key])
        assert achieved == pytest.approx(log_factor, abs=0.15)
    spared = made.volumes_mm3["right hippocampus"] / plain.volumes_mm3["right hippocampus"]
    assert spared == pytest.approx(1.0, abs=0.1)


def test_hippocampi_are_smaller_on_average_in_alzheimers_disease(template: Template) -> None:
    """In the label map that the scan was made from, by some 15 to 30 % at dementia's severity."""
    means = []
    for severity in ({}, {"AD": 0.75}):
        sizes = []
        for n in range(10):
            rng = case_rng(0, n, "test")
            factors = log_factors(patient(**severity), rng)
            image = simulate(template, factors, (), HOSPITALS[0].scanner, rng)
            sizes.append(image.volumes_mm3["left hippocampus"])
        means.append(np.mean(sizes))
    assert 0.68 < means[1] / means[0] < 0.88


def test_the_template_measures_its_own_regions(template: Template) -> None:
    """No deformation, no change beyond what the random anatomy brings."""
    volumes = region_volumes_mm3(template.labels.numpy(), (2.0, 2.0, 2.0))
    made = simulate(template, {}, (), HOSPITALS[0].scanner, np.random.default_rng(3))
    for key in ("left hippocampus", "right lateral ventricle"):
        assert made.volumes_mm3[key] == pytest.approx(volumes[key], rel=0.35)
