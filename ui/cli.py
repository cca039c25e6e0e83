"""The `consilium` command: what can be said to it. What is then done is in `ui.commands`."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ui import federation_cli

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # it has no public name

OURS = ("clinical", "imaging", "fusion", "federated", "ui")

# No library may call out; set before any of them is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 when something was refused, 2 for a mistake in the call.
    """
    args = _parser().parse_args(argv)
    # Not before, so that `--help` is instant; and a hub needs no imaging and no network.
    light = args.run in ("hub", "join", "federate")
    commands = importlib.import_module("ui.federation" if light else "ui.commands")

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    guard_log()
    try:
        run: Callable[[argparse.Namespace], int] = getattr(commands, args.run)
        return run(args)
    except KeyboardInterrupt:
        print("\nconsilium: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        from ui import commands

        print(f"consilium: {commands.one_line(error)}", file=sys.stderr)
        return 2


def guard_log() -> None:
    """Take identifiers out of what other libraries log; ours name cases by opaque ids alone."""
    from clinical.deidentify import DeidentifyFilter

    guard = DeidentifyFilter()
    for handler in logging.getLogger().handlers:
        handler.addFilter(
            lambda record: record.name.partition(".")[0] in OURS or guard.filter(record)
        )


def _parser() -> argparse.ArgumentParser:
    """The command line with all its commands."""
    parser = argparse.ArgumentParser(
        prog="consilium",
        description="A second reader for neurodegenerative disease. Research software, not a "
        "medical device.",
        epilog="A SITE is one hospital's folder; `import` makes it where there is none.",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_import, _add_train, _add_evaluate, _add_onboard, _add_review, _add_account,
                _add_federation, _add_identity, _add_adapt, _add_doctor):  # fmt: skip
        add(commands)
    return parser


def _command(commands: "Commands", run: str, what: str, example: str) -> argparse.ArgumentParser:
    """A command named by its example, with its help; `run` is a function of `ui.commands`."""
    sub = commands.add_parser(
        example.split()[1],
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(run=run)
    return sub


def _add_import(commands: "Commands") -> None:
    add = _command(
        commands,
        "import_cases",
        "import FHIR R4 bundles, tables, T1-weighted scans (NIfTI, DICOM), BIDS datasets as cases",
        "consilium import site bundle.json --scan T1w.nii.gz",
    )
    add.add_argument("site", type=Path, metavar="SITE")
    add.add_argument(
        "paths",
        type=Path,
        nargs="*",
        metavar="PATH",
        help="FHIR R4 bundle, folder of a FHIR bulk export (NDJSON), NIfTI file, folder of a "
        "DICOM study, root of a BIDS dataset, or, with --mapping, a CSV or TSV table",
    )
    add.add_argument(
        "--scan", type=Path, help="NIfTI or DICOM folder of the one bundle given, or alone"
    )
    add.add_argument("--pairs", type=Path, help="CSV with columns bundle, scan, diagnoses")
    add.add_argument(
        "--mapping", type=Path, metavar="FILE", help="TOML that says what a table's columns mean"
    )
    add.add_argument(
        "--without", action="append", default=[], metavar="COLUMN", help="leave a column out"
    )
    add.add_argument("--server", metavar="URL", help="FHIR R4 server to fetch patients from")
    add.add_argument(
        "--patient", action="append", default=[], metavar="ID",
        help="FHIR id or identifier (system|value) of a patient of the server; again for more",
    )  # fmt: skip
    add.add_argument(
        "--patients", type=Path, metavar="FILE", help="such ids, one a line, out of sight"
    )
    add.add_argument(
        "--token-file", type=Path, metavar="FILE",
        help="bearer token of the server (default: the variable CONSILIUM_FHIR_TOKEN)",
    )  # fmt: skip
    add.add_argument(
        "--diagnoses", type=Path, metavar="FILE",
        help="TOML of what a new site diagnoses (default: the 13 labels of dementia)",
    )  # fmt: skip
    add.add_argument("--model", type=Path, help="diagnostic model for a new site to use")
    add.add_argument(
        "--text-encoder", type=Path, metavar="MODEL",
        help="for a new site: folder of a DeepSeek-R1-Distill model, or another Qwen or Llama "
        "decoder; or its name, where `hf download NAME` has fetched it to this machine",
    )  # fmt: skip

    _add_engine(add)


def _add_engine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--engine", choices=("auto", "openvino", "onnx", "torch"), default="auto",
        help="what runs the networks (default: the fastest that is installed)",
    )  # fmt: skip


def _add_train(commands: "Commands") -> None:
    train = _command(
        commands,
        "train",
        "train a diagnostic model on the cases of sites whose diagnoses are known",
        "consilium train north river harbour --out model",
    )
    train.add_argument("sites", type=Path, nargs="+", metavar="SITE")
    train.add_argument("--out", type=Path, required=True, help="folder of the new model")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--epochs", type=int, help="upper limit")
    train.add_argument(
        "--memory", action="store_true", help="let sentences of long notes know of distant ones"
    )
    train.add_argument("--trained-on", default="", help="what the cases are, for the model card")


def _add_evaluate(commands: "Commands") -> None:
    evaluate = _command(
        commands,
        "evaluate",
        "print AUROC and calibration of a model on the known cases of sites",
        "consilium evaluate site --model model",
    )
    evaluate.add_argument("sites", type=Path, nargs="+", metavar="SITE")
    evaluate.add_argument("--model", type=Path, help="default: the first site's own")
    evaluate.add_argument(
        "--unseen",
        action="store_true",
        help="score all cases, of which the model saw none; default: its own test patients",
    )


def _add_onboard(commands: "Commands") -> None:
    onboard = _command(
        commands,
        "onboard",
        "say how a model does on a site's own cases before it is used; nothing leaves",
        "consilium onboard site model",
    )
    onboard.add_argument("site", type=Path, metavar="SITE")
    onboard.add_argument("model", type=Path, metavar="MODEL", help="folder of the model")
    onboard.add_argument("--seed", type=int, default=0, help="of the intervals")


def _add_review(commands: "Commands") -> None:
    review = _command(
        commands, "review", "open the review page", "consilium review site --port 7860"
    )
    review.add_argument("site", type=Path, metavar="SITE")
    review.add_argument("--port", type=int, default=7860)
    review.add_argument("--model", type=Path, help="default: the site's own")
    _add_engine(review)


def _add_account(commands: "Commands") -> None:
    account = _command(
        commands,
        "account",
        "add a user of the review page, or change the password; it is asked for",
        "consilium account site dr.lee",
    )
    account.add_argument("site", type=Path, metavar="SITE")
    account.add_argument("user", metavar="USER")


def _add_federation(commands: "Commands") -> None:
    for add in (federation_cli.add_hub, federation_cli.add_join, federation_cli.add_federate):
        add(partial(_command, commands))


def _add_identity(commands: "Commands") -> None:
    identity = _command(
        commands,
        "identity",
        "decide whose scan a blocked case has: its header and the record disagree",
        'consilium identity site 3f0c9a1b2d4e --other --reason "scans swapped" --user dr.lee',
    )
    identity.add_argument("site", type=Path, metavar="SITE")
    identity.add_argument("case", metavar="CASE")
    whose = identity.add_mutually_exclusive_group(required=True)
    whose.add_argument("--same", action="store_true", help="it is this patient's scan")
    whose.add_argument(
        "--other", action="store_true", help="it is not: take it away, go on without it"
    )
    identity.add_argument("--reason", required=True, metavar="TEXT")
    identity.add_argument("--user", required=True, metavar="NAME", help="who decides")


def _add_adapt(commands: "Commands") -> None:
    adapt = _command(
        commands,
        "adapt",
        "teach a text encoder the language of a site's notes; the result is another encoder",
        "consilium adapt site --text-encoder DeepSeek-R1-Distill-Qwen-1.5B --out ours",
    )
    adapt.add_argument("site", type=Path, metavar="SITE")
    adapt.add_argument(
        "--text-encoder", type=Path, required=True, metavar="FOLDER", help="decoder to begin with"
    )
    adapt.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER",
        help="folder of the new encoder, for `import --text-encoder`; as confidential as the notes",
    )  # fmt: skip
    adapt.add_argument("--epochs", type=int, help="how often every note is read")
    adapt.add_argument("--seed", type=int, default=0)
    adapt.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")


def _add_doctor(commands: "Commands") -> None:
    doctor = _command(
        commands,
        "doctor",
        "say what a site holds, which encoder and model it uses, and what is wrong",
        "consilium doctor site",
    )
    doctor.add_argument("site", type=Path, metavar="SITE")


if __name__ == "__main__":
    sys.exit(main())
