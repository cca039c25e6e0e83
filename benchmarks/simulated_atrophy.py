"""How much of the simulated atrophy the segmentation network measures.

For some synthetic patients: ln(volume) of a structure as the segmentation network measures it on
the noisy scan, against the label map the scan was drawn from.
"""

import argparse

import numpy as np

from imaging.engines import load_engine
from imaging.prepare import prepare
from imaging.regions import REGIONS, region_volumes_mm3
from imaging.scan import Scan
from imaging.segment import segment
from sample_data.anatomy import lesions, log_factors
from sample_data.hospitals import hospital_of
from sample_data.patients import case_rng, draw_patient
from sample_data.scans import load_template, simulate

SHOWN = ("hippocampus", "lateral ventricle", "temporal cortex", "frontal cortex")


def main() -> None:
    """Print a row per structure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=2)
    args, _ = parser.parse_known_args()
    engine, template = load_engine(), load_template()
    true, measured = [], []
    for index in range(args.patients):
        hospital = hospital_of(index)
        patient = draw_patient(hospital, args.seed, index)
        rng = case_rng(args.seed, index, "scan")
        asked, spots = log_factors(patient, rng), lesions(patient, rng)
        made = simulate(template, asked, spots, hospital.scanner, rng)
        voxels = np.asarray(made.image.dataobj, dtype=np.float32)
        found = segment(engine, prepare(Scan(voxels, np.asarray(made.image.affine))))
        volumes = region_volumes_mm3(found.region_map, found.spacing_mm)
        true.append(made.volumes_mm3)
        measured.append(volumes)
    print(
        f"{args.patients} synthetic scans (seed {args.seed}); ln(volume) by the network against the"
    )
    print("label map it was drawn from, left and right together.\n")
    print("| structure | correlation | slope |\n|---|--:|--:|")
    for name in SHOWN:
        keys = [region.key for region in REGIONS if region.name == name]
        drawn, seen = (np.log([sum(v[k] for k in keys) for v in side]) for side in (true, measured))
        slope = float(np.polyfit(drawn, seen, 1)[0])
        print(f"| {name} | {np.corrcoef(drawn, seen)[0, 1]:.2f} | {slope:.2f} |")


if __name__ == "__main__":
    main()
