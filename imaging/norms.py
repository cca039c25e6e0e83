"""How large a region is for the patient's age, sex and head size, and how sure that is.

The logarithm of a volume, less what head size explains (the residual method: its slope on
the logarithm of head size times how far this head is from the middle one), is close to normal
around a smooth course of age for each sex. `imaging.fit_norms` fits the course to healthy adults;
here it is looked up. Head size is everything inside the skull: the sum of all regions, which in
the tables is MUSE composite 702 and at run time `imaging.encoder.head_mm3`.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

NORMS = Path(__file__).parent / "weights" / "norms.json"
SEXES = {"female": -0.5, "male": 0.5}  # as the curves count them
FEW = 15  # people of one sex and decade: with fewer the page says so
_STANDARD = NormalDist()
_SURE = _STANDARD.inv_cdf(0.975)  # half the width of a 95 % interval in standard errors


@dataclass(frozen=True)
class Link:
    """How our network's measure follows from the tables' of the same scan: a straight line.

    Attributes:
        n: Scans measured both ways; 0 where none was, and then both are taken to be the same.
        table_mean: Mean of the tables' measure over them.
        table_sd: Its standard deviation over them.
        our_mean: Mean of our network's measure.
        slope: Of ours on the tables'; below one where the network draws everybody alike.
        spread: Standard deviation about the line.
    """

    n: int = 0
    table_mean: float = 0.0
    table_sd: float = 1.0
    our_mean: float = 0.0
    slope: float = 1.0
    spread: float = 0.0

    def ours(self, table: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """What our network is expected to measure."""
        return self.our_mean + self.slope * (table - self.table_mean)

    def variance(self, table: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Squared standard error of `ours`: few scans, or far from the middle of them."""
        if not self.n:
            return np.zeros_like(table)
        far = (table - self.table_mean) / self.table_sd
        return self.spread**2 / self.n * (1.0 + far**2)


@dataclass(frozen=True)
class Norm:
    """The norm of one measure: normal about a line in the numbers of a row.

    Attributes:
        coefficients: What a row of `volume_rows` or `asymmetry_rows` is multiplied with.
        sd: Standard deviation of people about it within one hospital.
        hospital_sd: Standard deviation of hospitals about each other; widens the norm, as the
            patient's hospital is another one.
        covariance: Of the coefficients and the logarithm of `sd`, by bootstrap over people.
        link: From the tables' measure to our network's.
    """

    coefficients: tuple[float, ...]
    sd: float
    hospital_sd: float
    covariance: tuple[tuple[float, ...], ...]
    link: Link = Link()

    def expected(self, rows: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Our network's measure of the middle person."""
        return self.link.ours(rows @ np.array(self.coefficients))

    @functools.cached_property
    def total_sd(self) -> float:
        """Standard deviation of our network's measure of healthy people anywhere."""
        people = abs(self.link.slope) * math.hypot(self.sd, self.hospital_sd)
        return math.hypot(people, self.link.spread)

    def error(self, rows: Float[np.ndarray, "n p"], z: float) -> Float[np.ndarray, " n"]:
        """Standard error of a deviation of `z`, for the norm rests on so many people."""
        slope = self.link.slope / self.total_sd
        of_sd = np.full((len(rows), 1), z * (slope * self.sd) ** 2)
        gradient = np.concatenate([slope * rows, of_sd], axis=-1)
        people = np.sum(gradient @ np.array(self.covariance) * gradient, axis=-1)
        link = self.link.variance(rows @ np.array(self.coefficients)) / self.total_sd**2
        return np.asarray(np.sqrt(people + link))


@dataclass(frozen=True)
class Norms:
    """Norms of all regions.

    Attributes:
        source: Whose brains, their licence, and what measured them.
        network: In words, whether the norms were fitted to our network's volumes, and how.
        ages: Youngest and oldest age in years by sex; there is no norm beyond.
        people: How many people by sex and decade, ``{"female": {"60": 66}}``.
        middle_age: Age the curves count from, years.
        middle_head_mm3: Head size they count from.
        regions: Norm of the logarithm of the volume by region key.
        asymmetries: Norm of `asymmetry` by name of the structure.
        head_offset: Mean of ln(head size by our network) - ln(head size in the tables).
    """

    source: str
    network: str
    ages: Mapping[str, tuple[float, float]]
    people: Mapping[str, Mapping[str, int]]
    middle_age: float
    middle_head_mm3: float
    regions: Mapping[str, Norm]
    asymmetries: Mapping[str, Norm]
    head_offset: float = 0.0

    @property
    def n(self) -> int:
        """How many people."""
        return sum(sum(decades.values()) for decades in self.people.values())

    def why_not(self, age_years: float | None, sex: str | None) -> str | None:
        """In words, why such a patient has no centile; None where there is one."""
        if age_years is None:
            return "no centile: the age at the scan is unknown"
        if sex not in SEXES:
            return "no centile: the norms need the sex, female or male"
        youngest, oldest = self.ages[sex]
        if youngest <= age_years <= oldest:
            return None
        return (
            f"no centile: the norms of {_plural(sex)} reach from {youngest:.0f} to "
            f"{oldest:.0f} years, the patient is {age_years:.0f}"
        )

    def caution(self, age_years: float | None, sex: str | None) -> str | None:
        """In words, that few healthy people were like the patient; None where many were."""
        if age_years is None or sex is None or self.why_not(age_years, sex):
            return None
        decade = int(age_years // 10 * 10)
        n = self.people[sex].get(str(decade), 0)
        if n >= FEW:
            return None
        return (
            f"less certain: of the {self.n} healthy people {n} are {_plural(sex)} "
            f"aged {decade} to {decade + 9}"
        )

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
        row = self._row(head_mm3, age_years, sex)
        if norm is None or row is None or volume_mm3 <= 0:
            return None
        return (math.log(volume_mm3) - float(norm.expected(row)[0])) / norm.total_sd

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
        return None if z is None else 100.0 * _STANDARD.cdf(z)

    def interval(
        self,
        region: str,
        volume_mm3: float,
        head_mm3: float,
        age_years: float | None,
        sex: str | None,
    ) -> tuple[float, float] | None:
        """95 % interval of `centile`: how far other healthy people could have moved it."""
        z = self.z(region, volume_mm3, head_mm3, age_years, sex)
        row = self._row(head_mm3, age_years, sex)
        if z is None or row is None:
            return None
        margin = _SURE * float(self.regions[region].error(row, z)[0])
        return 100.0 * _STANDARD.cdf(z - margin), 100.0 * _STANDARD.cdf(z + margin)

    def curve(
        self,
        region: str,
        centile: float,
        head_mm3: float,
        sex: str,
        ages: Float[np.ndarray, " age"],
    ) -> tuple[Float[np.ndarray, " age"], Float[np.ndarray, " age"], Float[np.ndarray, " age"]]:
        """Volume at a centile over age, in cubic mm, with its 95 % interval, for plots.

        NaN at ages without norm.

        Args:
            region: Key of a region of `REGIONS`.
            centile: Above 0 and below 100.
            head_mm3: Everything inside the skull.
            sex: ``female`` or ``male``.
            ages: Years.
        """
        norm, z = self.regions[region], _STANDARD.inv_cdf(centile / 100.0)
        youngest, oldest = self.ages[sex]
        covered = np.where((ages >= youngest) & (ages <= oldest), ages, np.nan)
        rows = volume_rows(
            covered - self.middle_age,
            np.full(len(ages), self._head(head_mm3)),
            np.full(len(ages), SEXES[sex]),
        )
        logs = norm.expected(rows) + z * norm.total_sd
        margin = _SURE * norm.total_sd * norm.error(rows, z)
        return np.exp(logs), np.exp(logs - margin), np.exp(logs + margin)

    def expected_change(
        self, region: str, age_years: float | None, sex: str | None
    ) -> float | None:
        """Percent per year at which the middle of the norm falls or rises at that age.

        People of different ages were compared, nobody was followed (cross-sectional).
        """
        norm = self.regions.get(region)
        if norm is None or age_years is None or self.why_not(age_years, sex):
            return None
        _, per_decade, per_square, *_ = norm.coefficients
        slope = (per_decade + 2.0 * per_square * (age_years - self.middle_age) / 10.0) / 10.0
        return 100.0 * math.expm1(norm.link.slope * slope)

    def asymmetry_z(
        self, name: str, left_mm3: float, right_mm3: float, age_years: float | None
    ) -> float | None:
        """Deviation of `asymmetry` from what is expected, in standard deviations.

        Above 0 the left is larger than usual beside the right. The offsets of our network's two
        sides are allowed for by the link of the norm.

        Args:
            name: Structure without its side, such as ``hippocampus``.
            left_mm3: Volume on the patient's left.
            right_mm3: On the right.
            age_years: Age at the scan.
        """
        norm = self.asymmetries.get(name)
        youngest = min(low for low, _ in self.ages.values())
        oldest = max(high for _, high in self.ages.values())
        if norm is None or age_years is None or not youngest <= age_years <= oldest:
            return None
        if min(left_mm3, right_mm3) <= 0:
            return None
        row = asymmetry_rows(np.array([age_years - self.middle_age]))
        return (asymmetry(left_mm3, right_mm3) - float(norm.expected(row)[0])) / norm.total_sd

    def asymmetry_centile(
        self, name: str, left_mm3: float, right_mm3: float, age_years: float | None
    ) -> float | None:
        """How many of a hundred healthy people lean less to the left; see `asymmetry_z`."""
        z = self.asymmetry_z(name, left_mm3, right_mm3, age_years)
        return None if z is None else 100.0 * _STANDARD.cdf(z)

    def _head(self, head_mm3: float) -> float:
        """Logarithm of head size, in the tables' measure and from the middle head."""
        return math.log(head_mm3 / self.middle_head_mm3) - self.head_offset

    def _row(
        self, head_mm3: float, age_years: float | None, sex: str | None
    ) -> Float[np.ndarray, "1 5"] | None:
        """The patient's row; None where there is no norm."""
        if age_years is None or sex is None or self.why_not(age_years, sex) or head_mm3 <= 0:
            return None
        years, head, side = age_years - self.middle_age, self._head(head_mm3), SEXES[sex]
        return volume_rows(np.array([years]), np.array([head]), np.array([side]))


def volume_rows(
    years: Float[np.ndarray, " n"],
    log_head: Float[np.ndarray, " n"],
    sex: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "n 5"]:
    """What the coefficients of a volume belong to.

    Args:
        years: Age from the middle age.
        log_head: Logarithm of head size by the middle head.
        sex: A value of `SEXES`.
    """
    decades = years / 10.0
    return np.stack([np.ones_like(decades), decades, decades**2, sex, log_head], axis=-1)


def asymmetry_rows(years: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """What the coefficients of an asymmetry belong to; `years` from the middle age."""
    return np.stack([np.ones_like(years), years / 10.0], axis=-1)


def asymmetry(left_mm3: float, right_mm3: float) -> float:
    """Difference of the sides by their mean, 2 (L - R) / (L + R): above 0 the left is larger.

    Example:
        >>> asymmetry(3300.0, 2700.0)
        0.2
    """
    return 2.0 * (left_mm3 - right_mm3) / (left_mm3 + right_mm3)


def _plural(sex: str) -> str:
    """The word for people of a sex."""
    return {"female": "women", "male": "men"}[sex]


@functools.cache
def load_norms(path: Path = NORMS) -> Norms:
    """Read what `write_norms` wrote; read once a process."""
    text = json.loads(path.read_text())
    ages = {sex: (low, high) for sex, (low, high) in text["ages"].items()}
    norms = {
        kind: {key: _read_norm(fields) for key, fields in text[kind].items()}
        for kind in ("regions", "asymmetries")
    }
    return Norms(**{**text, "ages": ages, **norms})


def _read_norm(fields: Mapping[str, Any]) -> Norm:
    """One norm from its JSON."""
    return Norm(
        coefficients=tuple(fields["coefficients"]),
        sd=fields["sd"],
        hospital_sd=fields["hospital_sd"],
        covariance=tuple(map(tuple, fields["covariance"])),
        link=Link(**fields["link"]),
    )


def write_norms(norms: Norms, path: Path) -> None:
    """Write norms as JSON, numbers to six digits, a line per norm."""
    text = _rounded(asdict(norms))
    lines = json.dumps(text, separators=(",", ":")).replace('"coefficients"', '\n"coefficients"')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines + "\n")


def _rounded(value: object) -> object:
    """Numbers to six significant digits, at any depth."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(v) for key, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value
