"""Draw the overlays of five held-out IXI scans and of the ICBM152 template into ``docs/pictures``.

    python -m benchmarks.overlays

Of the IXI scans only the brain is drawn: faces were not removed from them.
"""

import dataclasses
from pathlib import Path

import numpy as np
from nilearn.datasets import load_mni152_template
from scipy.ndimage import binary_dilation

from benchmarks.segmented import Segmenter, arguments, read_t1, unseen_subjects
from imaging.pictures import draw_overlay
from imaging.prepare import prepare
from imaging.regions import Segmentation
from imaging.scan import Scan

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "overlays"
EVERY = 6  # of the held-out subjects, so that five are drawn


def brain_only(scan: Scan, found: Segmentation) -> Scan:
    """A prepared scan without what lies farther than 4 mm from the brain."""
    near = binary_dilation(found.region_map > 0, iterations=2)
    return dataclasses.replace(scan, voxels=np.where(near, scan.voxels, 0.0).astype(np.float32))


def template() -> Scan:
    """ICBM152 at 1 mm, as nilearn carries it: a brain without its skull."""
    icbm = load_mni152_template(resolution=1)
    return Scan(np.asarray(icbm.dataobj, dtype=np.float32), np.array(icbm.affine, dtype=np.float64))


def main() -> None:
    """Draw all six."""
    args = arguments(__doc__).parse_args()
    segmented = Segmenter(args.weights)
    OUT.mkdir(parents=True, exist_ok=True)
    for number, subject in enumerate(unseen_subjects(args.ixi)[::EVERY], start=1):
        scan = read_t1(args.ixi, subject)
        found = segmented(subject, lambda scan=scan: scan)  # type: ignore[misc]
        drawn = brain_only(prepare(scan), found)
        said = f"Held-out IXI scan {number} of 5 (CC BY-SA 3.0, brain-development.org), 2 mm"
        picture = draw_overlay(drawn, found.region_map, found.affine, said)
        (OUT / f"held_out_{number}.png").write_bytes(picture)
    icbm = template()
    found = segmented("icbm152", lambda: icbm)
    said = "ICBM152 nonlinear symmetric template, 1 mm (Fonov et al. 2009)"
    (OUT / "icbm152.png").write_bytes(draw_overlay(icbm, found.region_map, found.affine, said))


if __name__ == "__main__":
    main()
