"""How large a region is for the patient's age, sex and head size.

    python -m imaging.norms --tables ../shared/data/ixi_volumes --scans ../shared/data/ixi_t1_2mm

fits one regression a region on healthy adults: the logarithm of the volume on the logarithm
of head size, age, its square and sex. What is left over is close to normal, so a deviation
in its standard deviations gives the centile. With ``--scans`` the offset of our network's volumes
against the tables' is measured too, and its spread widens the norm.
"""

import argparse
import csv
import functools
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from imaging.regions import REGIONS

log = logging.getLogger(__name__)

NORMS = Path(__file__).parent / "weights" / "norms.json"
SOURCE = "IXI, brain-development.org, CC BY-SA 3.0; volumes measured by DLMUSE"
ICV = 702  # MUSE composite: everything inside the skull
SEXES = {"female": -0.5, "male": 0.5}  # as the regression counts them


@dataclass(frozen=True)
class RegionNorm:
    """The regression of one region.

    Attributes:
        coefficients: Of 1, ln(head / middle head), age in decades from the middle age, its
            square, and sex (-0.5 female, 0.5 male).
        sd: Standard deviation of what is left, in units of ln(volume).
        offset: Mean of ln(volume by our network) - ln(volume by DLMUSE) on the same scans.
    """

    coefficients: tuple[float, ...]
    sd: float
    offset: float = 0.0


@dataclass(frozen=True)
class Norms:
    """Norms of all regions.

    Attributes:
        source: Whose brains, their licence, and what measured them.
        n: How many people.
        ages: Youngest and oldest, in years; there is no norm beyond.
        middle_age: Age the regressions count from, years.
        middle_head_mm3: Head size they count from.
        regions: Regression by region key.
    """

    source: str
    n: int
    ages: tuple[float, float]
    middle_age: float
    middle_head_mm3: float
    regions: Mapping[str, RegionNorm]

    def z(
        self,
        region: str,
        volume_mm3: float,
        head_mm3: float,
        age_years: float | None,
        sex: str | None,
    ) -> float | None:
        """Deviation from what is expected, in standard deviations.

        Args:
            region: Key of a region of `REGIONS`.
            volume_mm3: Its volume.
            head_mm3: Everything inside the skull.
            age_years: Age at the scan.
            sex: ``female`` or ``male``.

        Returns:
            None where age or sex is unknown, the age is outside `ages`, or nothing was measured.
        """
        norm = self.regions.get(region)
        known = norm and age_years is not None and sex in SEXES and volume_mm3 > 0 and head_mm3 > 0
        if norm is None or not known or age_years is None or sex is None:
            return None
        if not self.ages[0] <= age_years <= self.ages[1]:
            return None
        row = _row(age_years - self.middle_age, head_mm3 / self.middle_head_mm3, SEXES[sex])
        expected = float(np.dot(row, norm.coefficients)) + norm.offset
        return (math.log(volume_mm3) - expected) / norm.sd

    def centile(
        self,
        region: str,
        volume_mm3: float,
        head_mm3: float,
        age_years: float | None,
        sex: str | None,
    ) -> float | None:
        """How many of a hundred healthy people of that age, sex and head have less; see `z`."""
        z = self.z(region, volume_mm3, head_mm3, age_years, sex)
        return None if z is None else 50.0 * (1.0 + math.erf(z / math.sqrt(2.0)))


def _row(years: float, head: float, sex: float) -> list[float]:
    """What a regression multiplies its coefficients with."""
    return [1.0, math.log(head), years / 10.0, (years / 10.0) ** 2, sex]


@functools.cache
def load_norms(path: Path = NORMS) -> Norms:
    """Read what `write_norms` wrote; read once a process."""
    text = json.loads(path.read_text())
    regions = {
        key: RegionNorm(tuple(r["coefficients"]), r["sd"], r["offset"])
        for key, r in text["regions"].items()
    }
    youngest, oldest = text["ages"]
    return Norms(**{**text, "ages": (youngest, oldest), "regions": regions})


def write_norms(norms: Norms, path: Path) -> None:
    """Write norms as JSON, numbers to six digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(asdict(norms)), indent=1) + "\n")


def _rounded(value: object) -> object:
    """Numbers to six significant digits, at any depth."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(v) for key, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def centile(
    region_key: str, volume_mm3: float, head_mm3: float, age_years: float | None, sex: str | None
) -> float | None:
    """`Norms.centile` of the norms that ship."""
    return load_norms().centile(region_key, volume_mm3, head_mm3, age_years, sex)


@dataclass(frozen=True)
class Brains:
    """Healthy people and their measured volumes.

    Attributes:
        ids: One a person.
        age_years: Age at the scan.
        sex: -0.5 female, 0.5 male.
        head_mm3: Everything inside the skull.
        volumes_mm3: A column per region of `REGIONS`.
    """

    ids: tuple[str, ...]
    age_years: Float[np.ndarray, " person"]
    sex: Float[np.ndarray, " person"]
    head_mm3: Float[np.ndarray, " person"]
    volumes_mm3: Float[np.ndarray, "person region"]


def read_tables(folder: Path) -> Brains:
    """Read ``IXI_demog.csv`` (ID, Age, Sex) and ``IXI_DLMUSE.csv`` (ID, a column per MUSE label).

    The table has no column for the fluid around the cortex (label 1): it is composite 600.
    """
    with (folder / "IXI_demog.csv").open() as file:
        people = {row["ID"]: row for row in csv.DictReader(file)}
    with (folder / "IXI_DLMUSE.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["ID"] in people]
    columns = [["600" if m == 1 else str(m) for m in region.muse] for region in REGIONS]
    volumes = [[sum(float(row[c]) for c in names) for names in columns] for row in rows]
    known = [people[row["ID"]] for row in rows]
    return Brains(
        ids=tuple(row["ID"].removesuffix("-T1") for row in rows),
        age_years=np.array([float(person["Age"]) for person in known]),
        sex=np.array([0.5 if person["Sex"] == "M" else -0.5 for person in known]),
        head_mm3=np.array([float(row[str(ICV)]) for row in rows]),
        volumes_mm3=np.array(volumes),
    )


def fit_norms(brains: Brains) -> Norms:
    """Fit one regression a region by least squares."""
    middle_age = float(np.mean(brains.age_years))
    middle_head = float(np.exp(np.mean(np.log(brains.head_mm3))))
    people = zip(brains.age_years, brains.head_mm3, brains.sex, strict=True)
    design = np.array(
        [_row(age - middle_age, head / middle_head, sex) for age, head, sex in people]
    )
    regions = {}
    for region, volumes in zip(REGIONS, brains.volumes_mm3.T, strict=True):
        found = volumes > 0
        rows, logs = design[found], np.log(volumes[found])
        weights, *_ = np.linalg.lstsq(rows, logs, rcond=None)
        left_over = logs - rows @ weights
        sd = float(np.sqrt(np.sum(left_over**2) / (len(logs) - rows.shape[1])))
        regions[region.key] = RegionNorm(tuple(map(float, weights)), sd)
    ages = (float(brains.age_years.min()), float(brains.age_years.max()))
    return Norms(SOURCE, len(brains.ids), ages, middle_age, middle_head, regions)


def fit_offsets(norms: Norms, data: Path, n_subjects: int = 40) -> Norms:
    """Make norms of label-map volumes fit what our network measures.

    Each region's volume by our network is compared with the label map's on scans of the training
    split, head size allowed for: the mean difference becomes the offset, and its spread widens
    the norm.

    Args:
        norms: Fitted to tables of the same kind of label map.
        data: Folder with ``t1`` and ``seg``, as for `imaging.train`.
        n_subjects: How many to segment, evenly drawn.
    """
    # Here alone, so that whoever only looks up a centile does not load MONAI.
    from imaging.segment import RegionNet, segment
    from imaging.train import held_out, read_pair, usable

    ids, _ = held_out([path.name.removesuffix(".nii.gz") for path in (data / "t1").iterdir()])
    net, differences = RegionNet.load(), []
    for subject in usable(data, ids[:: max(1, len(ids) // n_subjects)]):
        scan, truth = read_pair(data, subject)
        ours, theirs = (_log_volumes(m, norms) for m in (segment(net, scan).region_map, truth))
        differences.append([a - b for a, b in zip(ours, theirs, strict=True)])
    mean, spread = np.nanmean(differences, axis=0), np.nanstd(differences, axis=0)
    regions = {
        key: RegionNorm(norm.coefficients, math.hypot(norm.sd, float(sd)), float(offset))
        for (key, norm), offset, sd in zip(norms.regions.items(), mean, spread, strict=True)
    }
    return replace(norms, regions=regions)


def _log_volumes(region_map: UInt8[np.ndarray, "i j k"], norms: Norms) -> list[float]:
    """Logarithm of each region's voxels, less what head size explains; NaN where not found."""
    counts = np.bincount(region_map.ravel(), minlength=len(REGIONS) + 1)[1:]
    head = math.log(int(counts.sum()))
    slopes = [norms.regions[region.key].coefficients[1] for region in REGIONS]
    return [
        math.log(int(n)) - slope * head if n else math.nan
        for n, slope in zip(counts, slopes, strict=True)
    ]


def main() -> None:
    """Fit the norms and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tables", type=Path, required=True, help="folder of the IXI tables")
    parser.add_argument("--scans", type=Path, help="folder with t1 and seg, for the offsets")
    parser.add_argument("--out", type=Path, default=NORMS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    norms = fit_norms(read_tables(args.tables))
    if args.scans:
        norms = fit_offsets(norms, args.scans)
    write_norms(norms, args.out)
    log.info("norms of %d people aged %.0f to %.0f in %s", norms.n, *norms.ages, args.out)


if __name__ == "__main__":
    main()
