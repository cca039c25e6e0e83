"""Import the public FHIR bundles and print what became of every entry.

Synthea's transactions are read as they are. The US Core examples are mostly single resources:
those about one example patient are put into one collection bundle with that Patient; a resource
that names no patient goes into a bundle with Patient "example". Bundles among the examples are
read as they are, and those without a Patient are rightly refused.

Usage: python benchmarks/import_public_fhir.py [FOLDER]
"""

import sys
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from clinical.check import check
from clinical.fhir import BundleError, Remark, read_bundle

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
Json = dict[str, Any]


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every JSON file of an archive."""
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".json") else None
            if file:
                yield Path(member.name).name, file.read()


def subject_id(resource: Json) -> str:
    """Id of the Patient that a resource is or is about; ``example`` where it names none."""
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    subject = resource.get("subject") or resource.get("patient") or {}
    reference = str(subject.get("reference", ""))
    return reference.removeprefix("Patient/") if reference.startswith("Patient/") else "example"


def us_core(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The examples: bundles as they are, single resources one collection a patient."""
    about: dict[str, list[Json]] = defaultdict(list)
    for name, raw in members(archive):
        resource = orjson.loads(raw)
        if resource["resourceType"] == "Bundle":
            yield name, raw
        else:
            about[subject_id(resource)].append({"resource": resource})
    for patient, entries in sorted(about.items()):
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        yield f"examples about Patient/{patient}", orjson.dumps(bundle)


def what(remark: Remark) -> str:
    """A refusal or a remark without its place, to be counted."""
    return f"{remark.resource_type}.{remark.path} {remark.rule}"


def report(title: str, bundles: Iterator[tuple[str, bytes]]) -> None:
    """Print the tables of one source."""
    kinds: dict[str, Counter[str]] = {"accepted": Counter(), "ignored": Counter()}
    refused: Counter[str] = Counter()
    remarks: Counter[str] = Counter()
    whole, parts, found = Counter[str](), Counter[str](), Counter[str]()
    read, held, size, seconds = 0, 0, 0, 0.0
    for name, raw in bundles:
        begin = time.process_time()
        try:
            record, result = read_bundle(raw)
        except BundleError as error:
            whole[f"{name}, {len(orjson.loads(raw).get('entry', []))} entries: {error}"] += 1
            continue
        finally:
            seconds += time.process_time() - begin
        read, size = read + 1, size + len(raw)
        kinds["accepted"] += result.accepted
        kinds["ignored"] += result.ignored
        refused.update(what(refusal) for refusal in result.refused)
        remarks.update(what(remark) for remark in result.remarks)
        held += len(orjson.loads(raw)["entry"])
        for part in ("observations", "conditions", "medications", "family_history", "notes"):
            parts[part] += len(getattr(record, part))
        found.update(finding.message for finding in check(record))
    print(f"\n## {title}\n")
    entries = kinds["accepted"].total() + kinds["ignored"].total() + refused.total()
    print(
        f"{read} bundles ({size / 1e6:.1f} MB, {entries} entries) read in {seconds:.2f} s of CPU; ",
        end="",
    )
    print(
        f"{len(whole)} bundles refused.\n\n{entries} of {held} entries are accounted for.", end=" "
    )
    print("Records hold", end=" ")
    print(", ".join(f"{count} {part.replace('_', ' ')}" for part, count in parts.items()) + ".")
    for word, counter in (*kinds.items(), ("refused", refused)):
        table(f"entries {word}", counter)
    table("remarks on accepted entries", remarks)
    table("bundles refused", whole)
    table("findings of the check", found)


def table(title: str, counts: Counter[str]) -> None:
    """Counts as a table, the most frequent first; nothing where there are none."""
    if counts:
        print(f"\n| | {title} |\n|---:|---|")
    for what_it_is, count in counts.most_common():
        print(f"| {count} | {what_it_is} |")


def main() -> None:
    """Read both sources from the folder given, or from the default one."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    read_bundle(next(members(folder / "fhir_synthea_r4.tar.xz"))[1])  # loads the models, untimed
    report("Synthea R4", members(folder / "fhir_synthea_r4.tar.xz"))
    report("US Core examples", us_core(folder / "fhir_uscore.tar.xz"))


if __name__ == "__main__":
    main()
