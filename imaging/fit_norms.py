"""Fit the norms to tables of healthy adults, and to what our network measures.

    D=../shared/data
    python -m imaging.fit_norms --volumes $D/ixi_volumes --scans $D/ixi_t1_2mm --network

Volumes measured by DLMUSE of two tables are pooled, each person once, and one regression a region
is fitted: the logarithm of the volume on age, its square, sex, the logarithm of head size and the
hospital. ``benchmarks/norms.py`` compares it with richer curves. With ``--network`` scans of the
training split are segmented too, to learn how our volumes follow from the tables'; a few minutes.
Without it the norms are the tables' own, and say so.
"""

import argparse
import csv
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from imaging.norms import (
    NORMS,
    SEXES,
    Link,
    Norm,
    Norms,
    asymmetry,
    asymmetry_rows,
    volume_rows,
    write_norms,
)
from imaging.regions import REGION_INDEX, REGIONS, region_volumes_mm3

log = logging.getLogger(__name__)

SOURCE = "IXI, brain-development.org, CC BY-SA 3.0; volumes measured by DLMUSE"
NO_NETWORK = "volumes of DLMUSE; the offset of our network was not measured"
CORTICAL_FLUID = {"1": "600"}  # the tables hold this MUSE label as a composite alone
SIDES = ("left", "right")
PAIRS = tuple(region.name for region in REGIONS if region.side == "left")
N_BOOTSTRAP = 400
SUPPORT = (3, 5.0)  # so many people of one sex within so many years, or the norm ends there
FAR = 5.0  # an asymmetry so many robust standard deviations out is not a healthy person's
LEAST_LINKED = 10  # scans measured both ways, for a line


@dataclass(frozen=True)
class Brains:
    """Healthy people and their measured volumes.

    Attributes:
        ids: One a person.
        hospitals: Where each was scanned.
        age_years: Age at the scan.
        sex: -0.5 female, 0.5 male.
        volumes_mm3: A column per region of `REGIONS`; their sum is head size.
    """

    ids: tuple[str, ...]
    hospitals: tuple[str, ...]
    age_years: Float[np.ndarray, " person"]
    sex: Float[np.ndarray, " person"]
    volumes_mm3: Float[np.ndarray, "person region"]

    @property
    def head_mm3(self) -> Float[np.ndarray, " person"]:
        """Everything inside the skull."""
        return np.asarray(self.volumes_mm3.sum(axis=1))

    def some(self, which: np.ndarray) -> "Brains":
        """Those people alone; `which` as numpy indexes."""
        rows = np.arange(len(self.ids))[which]
        return Brains(
            tuple(self.ids[n] for n in rows),
            tuple(self.hospitals[n] for n in rows),
            self.age_years[rows],
            self.sex[rows],
            self.volumes_mm3[rows],
        )


def read_brains(volumes: Path, people: Path) -> Brains:
    """Read a table of MUSE volumes and one of ages and sexes.

    The id is the first column of both, ``IXI013-HH-1212``, with the hospital in its middle. Whose
    age is unknown is left out, and who has most of both hemispheres on one side.
    """
    with people.open() as file:
        known = {_person(row): row for row in csv.reader(file) if re.fullmatch(r"[\d.]+", row[1])}
    with volumes.open() as file:
        rows = [row for row in csv.DictReader(file) if _person(list(row.values())) in known]
    columns = [[CORTICAL_FLUID.get(str(m), str(m)) for m in region.muse] for region in REGIONS]
    measured = np.array([[sum(float(row[c]) for c in names) for names in columns] for row in rows])
    ids = [_person(list(row.values())) for row in rows]
    brains = Brains(
        ids=tuple(ids),
        hospitals=tuple(person.split("-")[1] for person in ids),
        age_years=np.array([float(known[person][1]) for person in ids]),
        sex=np.array([SEXES["male" if known[p][2].startswith("M") else "female"] for p in ids]),
        volumes_mm3=measured,
    )
    left, right = (measured[:, REGION_INDEX[f"{s} cerebral white matter"]] for s in SIDES)
    return brains.some((left > 0.8 * right) & (left < 1.25 * right))


def _person(row: list[str]) -> str:
    """The id of a row, the same in both tables."""
    return row[0].removesuffix("-T1")


def pool(first: Brains, second: Brains) -> Brains:
    """One group out of two tables; who is in both counts once, as the first has it.

    The others of the second are brought to the first's scale: where the label maps are coarser,
    thin structures come out larger or smaller. The people in both give mean and spread of
    the logarithm of each region in either table, and the second's are made the first's.
    """
    rows = {person: n for n, person in enumerate(first.ids)}
    both = [n for n, person in enumerate(second.ids) if person in rows]
    alone = [n for n, person in enumerate(second.ids) if person not in rows]
    a = _logs(first.volumes_mm3[[rows[second.ids[n]] for n in both]])
    b = _logs(second.volumes_mm3)
    ratio = np.nanstd(a, axis=0) / np.nanstd(b[both], axis=0)
    moved = np.nanmean(a, axis=0) + ratio * (b - np.nanmean(b[both], axis=0))
    added = replace(second, volumes_mm3=np.exp(moved, where=np.isfinite(b), out=np.zeros_like(b)))
    rest = added.some(np.array(alone))
    return Brains(
        first.ids + rest.ids,
        first.hospitals + rest.hospitals,
        np.concatenate([first.age_years, rest.age_years]),
        np.concatenate([first.sex, rest.sex]),
        np.concatenate([first.volumes_mm3, rest.volumes_mm3]),
    )


def _logs(
    volumes_mm3: Float[np.ndarray, "n region"],
) -> Float[np.ndarray, "n region"]:
    """Logarithms; NaN where nothing was found."""
    return np.asarray(
        np.log(volumes_mm3, where=volumes_mm3 > 0, out=np.full(volumes_mm3.shape, np.nan))
    )


def asymmetries(volumes_mm3: Float[np.ndarray, " region"]) -> Float[np.ndarray, " pair"]:
    """`imaging.norms.asymmetry` of each of `PAIRS`; NaN where a side was not found."""
    pairs = [[volumes_mm3[REGION_INDEX[f"{side} {name}"]] for side in SIDES] for name in PAIRS]
    return np.array([asymmetry(left, right) if left * right else np.nan for left, right in pairs])


def fit_norms(brains: Brains, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> Norms:
    """Fit a norm to the volume of every region and to the asymmetry of every pair.

    Args:
        brains: Healthy people.
        n_bootstrap: How often the people are drawn anew, for the uncertainty.
        seed: Of the drawing.
    """
    middle_age = float(np.mean(brains.age_years))
    middle_head = float(np.exp(np.mean(np.log(brains.head_mm3))))
    years = brains.age_years - middle_age
    rows = volume_rows(years, np.log(brains.head_mm3 / middle_head), brains.sex)
    lean = np.array([asymmetries(volumes) for volumes in brains.volumes_mm3])
    off = np.abs(lean - np.nanmedian(lean, axis=0))
    lean[off > FAR * 1.4826 * np.nanmedian(off, axis=0)] = np.nan

    def fit(values: Float[np.ndarray, " person"], rows: Float[np.ndarray, "person p"]) -> Norm:
        found = np.isfinite(values)
        hospitals = np.array(brains.hospitals)[found]
        return fit_norm(values[found], rows[found], hospitals, n_bootstrap, seed)

    volumes = zip(REGIONS, _logs(brains.volumes_mm3).T, strict=True)
    return Norms(
        source=SOURCE,
        network=NO_NETWORK,
        ages={sex: _covered(brains.age_years[brains.sex == n]) for sex, n in SEXES.items()},
        people={sex: _decades(brains.age_years[brains.sex == n]) for sex, n in SEXES.items()},
        middle_age=middle_age,
        middle_head_mm3=middle_head,
        regions={region.key: fit(values, rows) for region, values in volumes},
        asymmetries={
            name: fit(values, asymmetry_rows(years))
            for name, values in zip(PAIRS, lean.T, strict=True)
        },
    )


def fit_norm(
    values: Float[np.ndarray, " person"],
    rows: Float[np.ndarray, "person p"],
    hospitals: np.ndarray,
    n_bootstrap: int,
    seed: int,
) -> Norm:
    """Least squares of one measure, with the uncertainty from drawing the people anew."""
    design = np.column_stack([rows, _contrasts(hospitals)])
    weights, sd = _least_squares(design, values)
    n_rows = rows.shape[1]
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n_bootstrap):
        some = rng.integers(len(values), size=len(values))
        w, s = _least_squares(design[some], values[some])
        drawn.append([*w[:n_rows], np.log(s)])
    return Norm(
        coefficients=tuple(map(float, weights[:n_rows])),
        sd=sd,
        hospital_sd=hospital_sd(values - rows @ weights[:n_rows], hospitals, sd),
        covariance=tuple(tuple(map(float, row)) for row in np.cov(np.array(drawn).T)),
    )


def _least_squares(
    design: Float[np.ndarray, "person p"], values: Float[np.ndarray, " person"]
) -> tuple[Float[np.ndarray, " p"], float]:
    """Weights, and the standard deviation of what is left."""
    weights, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    left_over = values - design @ weights
    return weights, float(np.sqrt(np.sum(left_over**2) / (len(values) - rank)))


def _contrasts(hospitals: np.ndarray) -> Float[np.ndarray, "person other"]:
    """A column per hospital but one, zero on average over the people.

    The young were all scanned at one hospital; without these its scanner would pass for youth.
    """
    columns = hospitals[:, None] == np.unique(hospitals)[1:]
    return np.asarray(columns - columns.mean(axis=0))


def hospital_sd(left_over: Float[np.ndarray, " person"], hospitals: np.ndarray, sd: float) -> float:
    """Standard deviation between hospitals beyond chance (DerSimonian and Laird's estimate)."""
    groups = [left_over[hospitals == name] for name in np.unique(hospitals)]
    weights = np.array([len(group) for group in groups]) / sd**2
    means = np.array([group.mean() for group in groups])
    q = np.sum(weights * (means - np.average(means, weights=weights)) ** 2)
    scale = weights.sum() - np.sum(weights**2) / weights.sum()
    return float(np.sqrt(max(0.0, q - (len(groups) - 1)) / scale)) if scale else 0.0


def _covered(ages: Float[np.ndarray, " person"]) -> tuple[float, float]:
    """Youngest and oldest with enough people about them."""
    n, within = SUPPORT
    near = np.sum(np.abs(ages[:, None] - ages) <= within, axis=1)
    return float(ages[near >= n].min()), float(ages[near >= n].max())


def _decades(ages: Float[np.ndarray, " person"]) -> dict[str, int]:
    """How many people a decade."""
    decades, counts = np.unique(ages // 10 * 10, return_counts=True)
    return {str(int(d)): int(n) for d, n in zip(decades, counts, strict=True)}


def link_to_network(
    norms: Norms, brains: Brains, measured: Mapping[str, Float[np.ndarray, " region"]]
) -> Norms:
    """Make norms of the tables' volumes fit what our network measures.

    Our measures of a volume's logarithm or of an asymmetry are regressed on the tables' of the
    same scans. The line carries offset, slope and spread, so that a network that draws everybody
    a little alike narrows the norm as much as its errors widen it.

    Args:
        norms: Fitted to `brains`.
        brains: Healthy people.
        measured: Region volumes in cubic mm by id, as our network found them in scans of some of
            the people; others are passed over.
    """
    rows = [n for n, person in enumerate(brains.ids) if person in measured]
    if len(rows) < LEAST_LINKED:
        raise ValueError(
            f"{len(rows)} of {len(measured)} segmented scans belong to people of the tables; "
            f"at least {LEAST_LINKED} are needed: give the scans' own tables"
        )
    theirs = brains.volumes_mm3[rows]
    ours = np.array([measured[brains.ids[n]] for n in rows])
    volumes = map(_link, _logs(theirs).T, _logs(ours).T)
    sides = map(_link, *(np.array([asymmetries(v) for v in both]).T for both in (theirs, ours)))
    head = np.log(ours.sum(axis=1) / theirs.sum(axis=1))
    return replace(
        norms,
        network=f"offset of our network measured on {len(rows)} scans of its training split",
        head_offset=float(head.mean()),
        regions=_linked(norms.regions, list(volumes)),
        asymmetries=_linked(norms.asymmetries, list(sides)),
    )


def _link(table: Float[np.ndarray, " scan"], ours: Float[np.ndarray, " scan"]) -> Link:
    """The line from one measure to the other, over the scans that have both."""
    both = np.isfinite(table) & np.isfinite(ours)
    t, u = table[both], ours[both]
    slope = float(np.cov(t, u)[0, 1] / np.var(t, ddof=1))
    spread = float(np.std(u - slope * t, ddof=2))
    return Link(len(t), float(t.mean()), float(t.std()), float(u.mean()), slope, spread)


def _linked(norms: Mapping[str, Norm], links: list[Link]) -> dict[str, Norm]:
    """The norms with their links, in order."""
    return {
        key: replace(norm, link=link)
        for (key, norm), link in zip(norms.items(), links, strict=True)
    }


def segment_scans(
    data: Path, subjects: list[str], weights: Path
) -> dict[str, Float[np.ndarray, " region"]]:
    """Region volumes in cubic mm by subject, as a patient's scan is read and segmented.

    Args:
        data: Folder with ``t1``.
        subjects: Ids of scans in it.
        weights: Folder of the network.
    """
    # Here alone, so that whoever only fits curves does not load MONAI.
    from imaging.engines import load_engine
    from imaging.prepare import prepare
    from imaging.read import read_nifti
    from imaging.segment import segment

    engine, measured = load_engine(weights), {}
    for subject in subjects:
        found = segment(engine, prepare(read_nifti(data / "t1" / f"{subject}.nii.gz")))
        volumes = region_volumes_mm3(found.region_map, found.spacing_mm)
        measured[subject] = np.array(list(volumes.values()))
        log.info("%d of %d segmented", len(measured), len(subjects))
    return measured


def training_split(data: Path, n_scans: int) -> list[str]:
    """At most so many subjects the network was trained on, evenly drawn."""
    from imaging.labelled import held_out

    ids, _ = held_out([path.name.removesuffix(".nii.gz") for path in (data / "t1").iterdir()])
    return ids[:: -(-len(ids) // n_scans)]


def read_ixi(volumes: Path, scans: Path) -> Brains:
    """Both tables of IXI, pooled."""
    first = read_brains(volumes / "IXI_DLMUSE.csv", volumes / "IXI_demog.csv")
    second = read_brains(scans / "dlmuse_volumes_mm3.csv", scans / "participants.csv")
    return pool(first, second)


def main() -> None:
    """Fit the norms and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--volumes", type=Path, required=True, help="folder of the larger tables")
    parser.add_argument("--scans", type=Path, required=True, help="folder with tables and t1")
    parser.add_argument(
        "--network", type=int, nargs="?", const=120, default=0, metavar="N",
        help="segment at most N scans of the training split (120) and fit the norms to them",
    )  # fmt: skip
    parser.add_argument("--weights", type=Path, default=NORMS.parent, help="folder of the network")
    parser.add_argument("--out", type=Path, default=NORMS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    brains = read_ixi(args.volumes, args.scans)
    norms = fit_norms(brains)
    if args.network:
        measured = segment_scans(args.scans, training_split(args.scans, args.network), args.weights)
        norms = link_to_network(norms, brains, measured)
    write_norms(norms, args.out)
    log.info("norms of %d people in %s; %s", norms.n, args.out, norms.network)


if __name__ == "__main__":
    main()
