"""What the quality grade catches: real IXI scans, degraded by simulation at several strengths.

    python -m benchmarks.quality --subjects 30

By default the region map of every scan is its DLMUSE label map with full confidence, so that only
the measures are tested; ``--network`` segments each degraded scan instead.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from imaging.check import ScanCheck, check
from imaging.engines import load_engine
from imaging.labelled import has_both_sides, read_pair
from imaging.prepare import normalize, to_ras
from imaging.regions import REGIONS, Segmentation
from imaging.scan import Scan
from imaging.segment import Engine, segment

IXI = Path(__file__).parents[2] / "shared" / "data" / "ixi_t1_2mm"
Voxels = Float[np.ndarray, "i j k"]


def rician(voxels: Voxels, sigma: float, rng: np.random.Generator) -> Voxels:
    """Noise in both channels of the receiver; `sigma` as a share of the head's median."""
    real, imaginary = rng.normal(0.0, 0.5 * sigma, (2, *voxels.shape))
    return np.asarray(np.hypot(voxels + real, imaginary))


def moved(voxels: Voxels, degrees: float, rng: np.random.Generator, positions: int = 10) -> Voxels:
    """A head that changed its position a few times during the scan.

    Lines of k-space along the second axis come from copies turned by about so many degrees and
    shifted by as many millimetres at 2 mm; the middle of k-space, which gives the image its
    place, is undisturbed.
    """
    n, middle = voxels.shape[1], (np.array(voxels.shape) - 1) / 2
    lines = np.fft.fftfreq(n) * n
    spectrum = np.fft.fft(voxels, axis=1)
    starts = np.sort(rng.uniform(-n / 2, n / 2, positions))
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        taken = (lines >= start) & (lines < stop)
        turn, shift = (v / np.linalg.norm(v) * degrees for v in rng.normal(size=(2, 3)))
        if taken.any() and np.abs(lines[taken]).min() > 3:
            matrix = Rotation.from_rotvec(np.deg2rad(turn)).as_matrix()
            offset = middle - matrix @ middle + shift / 2
            copy = affine_transform(voxels, matrix, offset, order=1)
            spectrum[:, taken] = np.fft.fft(copy, axis=1)[:, taken]
    return np.asarray(np.abs(np.fft.ifft(spectrum, axis=1)))


def _bias(voxels: Voxels, strength: float, rng: np.random.Generator) -> Voxels:
    """A coil that sees the front better than the back, or the reverse."""
    ramp = np.linspace(-1, 1, voxels.shape[1])[None, :, None] * rng.choice([-1, 1])
    return np.asarray(voxels * np.exp(strength * ramp))


def _blur(voxels: Voxels, sigma: float, rng: np.random.Generator) -> Voxels:
    """Blur of so many voxels along all axes."""
    del rng
    return np.asarray(gaussian_filter(voxels, sigma))


def _thick(voxels: Voxels, sigma: float, rng: np.random.Generator) -> Voxels:
    """Blur along the third axis only."""
    del rng
    return np.asarray(gaussian_filter(voxels, (0.0, 0.0, sigma)))


def _flat(voxels: Voxels, kept: float, rng: np.random.Generator) -> Voxels:
    """Less contrast: all intensities but the air's move to the brightest tissue's."""
    del rng
    bright = float(np.percentile(voxels[voxels > voxels.mean()], 75))
    return np.where(voxels > 0.1, bright + kept * (voxels - bright), voxels)


def _inverted(voxels: Voxels, strength: float, rng: np.random.Generator) -> Voxels:
    """Fluid brightest and white matter darkest, as in a T2-weighted series."""
    del rng, strength
    return np.where(voxels > 0.1, 1.2 - voxels, voxels).clip(0.0)


def _blackened(voxels: Voxels, strength: float, rng: np.random.Generator) -> Voxels:
    """Air set to zero, as scanners and defacing do: nothing is wrong."""
    del rng
    return np.where(voxels > strength, voxels, 0.0)


@dataclass(frozen=True)
class Degradation:
    """One way to spoil a scan, its strengths, and whether spoiling it is expected to be found."""

    name: str
    spoil: Callable[[Voxels, float, np.random.Generator], Voxels]
    strengths: tuple[float, ...]


DEGRADATIONS = (
    Degradation("noise (share of the head's median)", rician, (0.05, 0.1, 0.2, 0.4)),
    Degradation("motion (degrees and mm)", moved, (0.5, 1.0, 2.0, 4.0, 8.0)),
    Degradation("blur (sigma, voxels of 2 mm)", _blur, (0.5, 0.75, 1.0, 1.5)),
    Degradation("thick slices (sigma, voxels of 2 mm)", _thick, (0.75, 1.0, 1.5, 2.0)),
    Degradation("contrast kept", _flat, (0.75, 0.5, 0.25, 0.1)),
    Degradation("inverted contrast", _inverted, (1.0,)),
    Degradation("harmless: bias field (log)", _bias, (0.2, 0.4)),
    Degradation("harmless: air set to zero", _blackened, (0.1,)),
)
CUTS_MM = (10, 20, 40)  # below the brain's highest voxel and above its lowest


def padded_cut(
    scan: Scan, region_map: np.ndarray, millimetres: float, *, top: bool
) -> tuple[Scan, np.ndarray]:
    """The top or the bottom of the brain is missing; zeros stand in its place."""
    levels = np.flatnonzero((region_map > 0).any(axis=(0, 1)))
    depth = round(millimetres / scan.spacing_mm[2])
    kept = np.zeros(region_map.shape, dtype=bool)
    if top:
        kept[:, :, : levels[-1] + 1 - depth] = True
    else:
        kept[:, :, levels[0] + depth :] = True
    return Scan(scan.voxels * kept, scan.affine), region_map * kept


def judge(scan: Scan, region_map: np.ndarray, engine: Engine | None) -> ScanCheck:
    """Grade a scan with the region map of its atlas, or of the network."""
    prepared = Scan(normalize(scan.voxels.astype(np.float32)), scan.affine)
    if engine is not None:
        return check(prepared, prepared, segment(engine, prepared))
    sure = np.ones(len(REGIONS), dtype=np.float32)
    features = np.zeros((len(REGIONS), 1), dtype=np.float32)
    known = Segmentation(region_map.astype(np.uint8), scan.affine, features, sure)
    return check(prepared, prepared, known)


def spoilt(
    scan: Scan, region_map: np.ndarray, seed: int
) -> list[tuple[str, str, Scan, np.ndarray]]:
    """A scan in every state: kind, strength, voxels and region map."""
    made = [("clean", "", scan, region_map)]
    for way in DEGRADATIONS:
        for strength in way.strengths:
            voxels = way.spoil(scan.voxels, strength, np.random.default_rng(seed))
            made.append((way.name, f"{strength:g}", Scan(voxels, scan.affine), region_map))
    for top in (True, False):
        name = f"cut {'top' if top else 'bottom'}, padded with zeros (mm)"
        made += [
            (name, str(depth), *padded_cut(scan, region_map, depth, top=top)) for depth in CUTS_MM
        ]
    return made


def main() -> None:
    """Print one line per kind and strength."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ixi", type=Path, default=IXI)
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--network", action="store_true")
    args, _ = parser.parse_known_args()
    ids = sorted(path.name.removesuffix(".nii.gz") for path in (args.ixi / "t1").iterdir())
    # The limits of `imaging.check` were set on every fifth subject from the first.
    others = [s for n, s in enumerate(ids) if n % 5]
    pairs = [read_pair(args.ixi, s) for s in others[:: max(1, len(others) // args.subjects)]]
    pairs = [(to_ras(scan), regions) for scan, regions in pairs if has_both_sides(regions)]
    engine = load_engine() if args.network else None
    rows: dict[tuple[str, str], list[ScanCheck]] = {}
    for seed, (scan, region_map) in enumerate(pairs):
        for kind, strength, made, labels in spoilt(scan, region_map, seed):
            rows.setdefault((kind, strength), []).append(judge(made, labels, engine))
    source = "the network" if args.network else "the DLMUSE label maps"
    print(f"{len(pairs)} real IXI heads (2 mm, one scanner), degraded by simulation; regions of")
    print(f"{source}. The limits were set on other heads. Flagged: share of scans with a finding;")
    print("for clean and harmless rows these are false alarms.\n")
    print("| degradation | strength | flagged | counts as absent | mean grade | findings |")
    print("|---|--:|--:|--:|--:|---|")
    for (kind, strength), checks in rows.items():
        print(f"| {kind} | {strength} | {_summary(checks)} |")


def _summary(checks: list[ScanCheck]) -> str:
    """Flagged, absent, mean grade and the kinds found in a tenth of the scans or more."""
    flagged = np.mean([bool(c.findings) for c in checks])
    absent = np.mean([c.quality == 0.0 for c in checks])
    grade = np.mean([c.quality for c in checks])
    kinds = [{f.kind for f in c.findings} for c in checks]
    often = [k for k in sorted(set().union(*kinds)) if np.mean([k in s for s in kinds]) >= 0.1]
    return f"{flagged:.0%} | {absent:.0%} | {grade:.2f} | {', '.join(often)}"


if __name__ == "__main__":
    main()
