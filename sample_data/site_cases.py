"""Pick the six cases that are committed in ``site_cases/``.

    python -m sample_data.site_cases

They come from a cohort of another seed than the sample model's, so that it has not seen them.
"""

import argparse
import csv
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from imaging.segment import WEIGHTS
from sample_data.cohort import Made, make_case
from sample_data.hospitals import hospital_of
from sample_data.patients import draw_patient
from sample_data.scans import load_template

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "site_cases"
SEED = 1000
Wanted = Callable[[Made], bool]


def _wanted() -> dict[str, Wanted]:
    """What each case shows."""
    return {
        "dementia of one cause, complete": lambda m: (
            m.diagnoses == ("DE", "AD") and bool(m.scan) and m.hospital == "north"
        ),
        "normal": lambda m: m.diagnoses == ("NC",) and bool(m.scan) and m.hospital == "north",
        "mild": lambda m: m.diagnoses == ("MCI", "AD") and bool(m.scan),
        "hallucinations": lambda m: m.diagnoses == ("DE", "LBD") and bool(m.scan),
        "mixed, Chinese notes": lambda m: (
            m.diagnoses == ("DE", "AD", "VD") and bool(m.scan) and m.hospital == "river"
        ),
        "no scan": lambda m: m.diagnoses[0] == "DE" and "FTD" in m.diagnoses and not m.scan,
    }


def make_site_cases(out: Path, weights: Path = WEIGHTS) -> list[Made]:
    """Write the first case of each kind, as `sample_data.cohort` would."""
    template, left, kept = load_template(weights), _wanted(), []
    with tempfile.TemporaryDirectory() as scratch:
        for index in range(3000):
            diagnoses = draw_patient(hospital_of(index), SEED, index).diagnoses
            may_fit = Made(hospital_of(index).name, "", "unknown", diagnoses)
            without = Made(may_fit.hospital, "", "", diagnoses)
            if not any(fits(may_fit) or fits(without) for fits in left.values()):
                continue
            made = make_case(Path(scratch), template, SEED, index)
            kind = next((kind for kind, fits in left.items() if fits(made)), None)
            if kind is None:
                continue
            del left[kind]
            _keep(Path(scratch) / made.hospital, out, made)
            kept.append(made)
            if not left:
                break
    with (out / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["bundle", "scan", "diagnoses"])
        for made in sorted(kept, key=lambda made: made.bundle):
            writer.writerow([made.bundle, made.scan, ";".join(made.diagnoses)])
    return kept


def _keep(source: Path, out: Path, made: Made) -> None:
    for name in filter(None, (made.bundle, made.scan)):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes((source / name).read_bytes())


def main() -> None:
    """Write the six cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--network", type=Path, default=WEIGHTS, help="folder of the network")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for made in make_site_cases(args.out, args.network):
        log.info("%s %s %s", made.hospital, made.bundle, ";".join(made.diagnoses))


if __name__ == "__main__":
    main()
