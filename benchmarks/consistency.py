"""What the consistency checks find: twelve kinds of error put into a synthetic cohort.

    python -m benchmarks consistency

Rules were tuned on the cohort of seed 2; the tables are of seed 3, which was not looked at while
tuning but comes from the same generator and the same wordings. An item is one checkable entry: a
statement of a note, a coded value, the blood of one day, the date of a condition or drug, a fact of
the scan's header. An error is found if a finding points to its entry; a finding that points to no
error is a false alarm. What is missing in a record is left out.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.__main__ import MORE
from benchmarks.consistency_cases import TODAY, Item, Made
from benchmarks.import_public_fhir import members
from benchmarks.injected_errors import KINDS, RATE, cohort_of, spoil
from clinical.check import check
from clinical.fhir import read_bundle
from clinical.findings import Finding, Source
from fusion.consistency import of_identity, scan_findings
from fusion.identity import compare

SYNTHEA = Path(__file__).resolve().parents[2] / "shared" / "data" / "fhir_synthea_r4.tar.xz"


@dataclass
class Score:
    """Counts of one kind."""

    items: int = 0
    errors: int = 0
    found: int = 0


@dataclass
class Result:
    """Counts of a cohort."""

    by_kind: dict[str, Score] = field(default_factory=lambda: {k: Score() for k in KINDS})
    findings: Counter[str] = field(default_factory=Counter)  # by kind of finding
    false: Counter[str] = field(default_factory=Counter)
    false_cases: int = 0
    cases: int = 0


def findings_of(made: Made) -> tuple[Finding, ...]:
    """Everything the checks say of a case but for what is missing."""
    record = made.record
    identity = [_pointed(f) for f in map(of_identity, compare(made.identity, record) or ())]
    age = record.age_years
    scan = scan_findings(record, made.regions, made.acquisition, age, TODAY)
    found = (*check(record, TODAY), *scan, *identity)
    return tuple(finding for finding in found if finding.kind != "missing")


def _pointed(finding: Finding) -> Finding:
    """The header's fact as a source, which the page's question about identity needs not."""
    fact = finding.template.removeprefix("header ")
    return Finding(finding.kind, finding.template, finding.values, (Source("header", fact),))


def touches(finding: Finding, place: set[Source]) -> bool:
    """Whether a finding points to a place."""
    return any(
        source.kind == spot.kind
        and source.id == spot.id
        and (spot.end == 0 or (source.start < spot.end and spot.start < source.end))
        for source in finding.sources
        for spot in place
    )


def measure(cohort: list[Made], chosen: list[tuple[Made, Item]]) -> Result:
    """Count what was found and what was not."""
    result = Result(cases=len(cohort))
    for made in cohort:
        found = findings_of(made)
        errors = [(item.kind, item.place()) for owner, item in chosen if owner is made]
        for item in made.items:
            result.by_kind[item.kind].items += 1
        for kind, place in errors:
            result.by_kind[kind].errors += 1
            result.by_kind[kind].found += any(touches(finding, place) for finding in found)
        false = [f for f in found if not any(touches(f, place) for _, place in errors)]
        result.findings.update(finding.kind for finding in found)
        result.false.update(finding.kind for finding in false)
        result.false_cases += bool(false)
    return result


def report(seed: int, cases: int) -> None:
    """Print the tables of one cohort and its untouched copy."""
    clean = measure(cohort_of(seed, cases), [])
    spoilt = cohort_of(seed, cases)
    result = measure(spoilt, spoil(spoilt, np.random.default_rng(seed)))
    print(
        f"{cases} synthetic cases of seed {seed}, errors in {RATE:.1%} of each kind's items; the",
        end="",
    )
    print(" rules were tuned on seed 2, whose notes are worded from the same list.")
    print("Residual: errors that were not found, by all items.\n")
    print("| error | items | errors | found | recall | residual |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind, score in result.by_kind.items():
        print(_row(kind, score))
    scores = result.by_kind.values()
    total = Score(
        sum(s.items for s in scores), sum(s.errors for s in scores), sum(s.found for s in scores)
    )
    print(_row("all", total))
    n, false = result.findings.total(), result.false.total()
    print(f"\nFindings: {n}, of which {n - false} point to an error", end="")
    print(f" (precision {(n - false) / max(n, 1):.1%}; false: {_listed(result.false)}).")
    alarms = clean.findings.total()
    print(f"Untouched copy: {alarms} findings in {clean.false_cases} of {cases} cases", end="")
    print(f" ({alarms / cases:.3f} false alarms a case; {_listed(clean.findings)}).\n")


def _row(kind: str, score: Score) -> str:
    left = score.errors - score.found
    return (
        f"| {kind} | {score.items} | {score.errors} | {score.found} | "
        f"{score.found / max(score.errors, 1):.1%} | {left / max(score.items, 1):.2%} |"
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {n}" for kind, n in counts.most_common()) or "none"


def synthea() -> None:
    """Print what the checks say of the public bundles."""
    if not SYNTHEA.exists():
        print("The Synthea bundles are not here.")
        return
    found: Counter[tuple[str, str]] = Counter()
    bundles: Counter[tuple[str, str]] = Counter()
    n = 0
    for _, raw in members(SYNTHEA):
        record, _ = read_bundle(raw)
        n += 1
        kinds = [(f.kind, f.message) for f in check(record, TODAY) if f.kind != "missing"]
        found.update(kinds)
        bundles.update(set(kinds))
    print(f"{n} Synthea bundles, as they are:\n")
    print("| bundles | findings | kind | what it says |\n|---:|---:|---|---|")
    for key, count in found.most_common():
        print(f"| {bundles[key]} | {count} | {key[0]} | {key[1]} |")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--cases", type=int, default=360)
    args, _ = parser.parse_known_args()
    report(args.seed, args.cases)
    print(f"{MORE}\n")
    synthea()


if __name__ == "__main__":
    main()
