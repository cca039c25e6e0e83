"""Run benchmarks, keep what they print in ``benchmarks/results`` and quote it in the README.

    python -m benchmarks                      all but the long ones, about half an hour
    python -m benchmarks case_cost            one
    python -m benchmarks --quote              only quote again what lies in results

A block of the README or the model card between ``<!-- benchmark: NAME -->`` and
``<!-- end -->`` is replaced by the results of that name, so no figure is typed by hand; a block of
``NAME brief`` by what stands before the line ``<!-- more -->``.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
QUOTING = tuple(
    ROOT / p
    for p in (
        "README.md", "docs/federation_results.md", "docs/model_card.md", "docs/record.md",
        "docs/text.md", "sample_data/README.md",
    )
)  # fmt: skip
NAMES = (
    "import_public_fhir", "import_speed", "consistency", "segmentation", "retest", "brain_age",
    "norms", "quality", "scan_speed", "simulated_atrophy", "case_cost", "sample_model",
    "federated", "tables", "next_visit", "deidentify", "injection", "two_languages",
    "review_start", "quantized_network",
    "bad_sites", "federated_privacy",
)  # fmt: skip
LONG = (  # only when named
    "attention_heads", "text_engines", "long_notes", "far_cue", "domains", "federated_cost",
    "attacks",
)  # fmt: skip
MORE = "<!-- more -->"
BLOCK = re.compile(r"(<!-- benchmark: (\w+)( brief)? -->\n).*?(<!-- end -->)", re.DOTALL)


def quote(text: str) -> str:
    """Replace every benchmark block of a text by the results of its name."""

    def fill(found: re.Match[str]) -> str:
        path = RESULTS / f"{found[2]}.md"
        if not path.exists():  # not run yet
            return found[0]
        brief, _, more = path.read_text().partition(MORE)
        results = brief.strip() if found[3] else f"{brief.strip()}\n\n{more.strip()}".strip()
        return f"{found[1]}{results}\n{found[4]}"

    return BLOCK.sub(fill, text)


def run(name: str, arguments: list[str]) -> None:
    """Run one script; its results are replaced only when it succeeds."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    print(f"== {name}", flush=True)
    printed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    print(printed.stdout, flush=True)
    (RESULTS / f"{name}.md").write_text(printed.stdout)


def main() -> None:
    """Run what was asked for, then quote."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, *LONG, []], metavar="NAME")
    parser.add_argument("--quote", action="store_true")
    args, rest = parser.parse_known_args()
    for name in [] if args.quote else args.names or NAMES:
        run(name, rest)
    for path in QUOTING:
        path.write_text(quote(path.read_text()))


if __name__ == "__main__":
    main()
