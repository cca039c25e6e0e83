"""The `consilium` command."""

import argparse
import logging
import os
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where they are used, so that `--help` is instant
    from clinical.diagnoses import Scheme
    from fusion.case import Case
    from fusion.develop import Developed
    from fusion.intake import Source, Tools
    from fusion.store import Site

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # it has no public name

# No library may call out; set before any of them is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

log = logging.getLogger("consilium")

FEW = 3  # imports of more cases print one line a case


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 when something was refused, 2 for a mistake in the call.
    """
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except KeyboardInterrupt:
        print("\nconsilium: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"consilium: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: Exception) -> str:
    """An error's message on one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


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
    for add in (_add_import, _add_train, _add_evaluate, _add_review, _add_account,
                _add_federate, _add_doctor):  # fmt: skip
        add(commands)
    return parser


def _command(
    commands: "Commands", run: Callable[[argparse.Namespace], int], what: str, example: str
) -> argparse.ArgumentParser:
    """A command named by its example, with its help."""
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
        _import,
        "import FHIR R4 bundles and T1-weighted scans as cases",
        "consilium import site bundle.json --scan T1w.nii.gz",
    )
    add.add_argument("site", type=Path, metavar="SITE")
    add.add_argument("bundles", type=Path, nargs="*", metavar="FILE", help="FHIR R4 bundle, JSON")
    add.add_argument("--scan", type=Path, help="NIfTI of the one bundle given, or alone")
    add.add_argument("--pairs", type=Path, help="CSV with columns bundle, scan, diagnoses")
    add.add_argument("--model", type=Path, help="diagnostic model for a new site to use")
    add.add_argument(
        "--text-encoder", type=Path, help="folder of a DeepSeek-R1-Distill model (new sites)"
    )


def _add_train(commands: "Commands") -> None:
    train = _command(
        commands,
        _train,
        "train a diagnostic model on the cases of sites whose diagnoses are known",
        "consilium train north river harbour --out model",
    )
    train.add_argument("sites", type=Path, nargs="+", metavar="SITE")
    train.add_argument("--out", type=Path, required=True, help="folder of the new model")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--epochs", type=int, help="upper limit")
    train.add_argument("--trained-on", default="", help="what the cases are, for the model card")


def _add_evaluate(commands: "Commands") -> None:
    evaluate = _command(
        commands,
        _evaluate,
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


def _add_review(commands: "Commands") -> None:
    review = _command(
        commands, _review, "open the review page", "consilium review site --port 7860"
    )
    review.add_argument("site", type=Path, metavar="SITE")
    review.add_argument("--port", type=int, default=7860)
    review.add_argument("--model", type=Path, help="default: the site's own")


def _add_account(commands: "Commands") -> None:
    account = _command(
        commands,
        _account,
        "add a user of the review page, or change the password; it is asked for",
        "consilium account site dr.lee",
    )
    account.add_argument("site", type=Path, metavar="SITE")
    account.add_argument("user", metavar="USER")


def _add_federate(commands: "Commands") -> None:
    federate = _command(
        commands,
        _federate,
        "train across sites in Flower's simulation engine, one hospital a client",
        "consilium federate north river harbour --rounds 3 --out runs/federated",
    )
    federate.add_argument("sites", type=Path, nargs="+", metavar="SITE")
    federate.add_argument("--rounds", type=int, default=3)
    federate.add_argument("--out", type=Path, required=True)
    federate.add_argument("--seed", type=int, default=0)
    federate.add_argument("--trained-on", default="", help="what the cases are, for the model card")


def _add_doctor(commands: "Commands") -> None:
    doctor = _command(
        commands,
        _doctor,
        "say what a site holds, which encoder and model it uses, and what is wrong",
        "consilium doctor site",
    )
    doctor.add_argument("site", type=Path, metavar="SITE")


def _import(args: argparse.Namespace) -> int:
    """Register every source, then prepare what has no evidence yet."""
    from clinical.diagnoses import load_scheme
    from fusion.intake import Tools, unprepared
    from fusion.store import Site

    sources = _sources(args)
    site = Site.create(args.site, text_encoder=_checked_encoder(args))
    if args.model:
        _install_model(site, args.model)
    scheme, tools = load_scheme(), Tools(_encoder_folder(site))
    with tools.timed("import"):
        refused = sum(not _register(site, source, scheme, len(sources)) for source in sources)
    failed = _prepare_all(site, tools, unprepared(site, tools.encoder.sha256), scheme)
    print(_cost(tools.seconds))
    return 1 if refused or failed else 0


def _checked_encoder(args: argparse.Namespace) -> str:
    """The folder of the text encoder for a new site, once it has been seen to load."""
    from clinical.text_encoder import load_text_encoder
    from fusion.store import Site

    if args.text_encoder is None:
        return ""
    folder = str(args.text_encoder.resolve())
    if (args.site / "site.toml").exists():
        if Site.open(args.site).config.text_encoder != folder:
            raise ValueError(
                f"{args.site} was made with another text encoder; import into a new site, or "
                "change text_encoder in its site.toml and import again to encode all cases anew"
            )
        return folder
    load_text_encoder(args.text_encoder)
    return folder


def _sources(args: argparse.Namespace) -> "list[Source]":
    """The files named on the command line, case by case, all of which exist."""
    from fusion.intake import Source, read_pairs

    if args.scan and len(args.bundles) > 1:
        raise ValueError("--scan goes with one bundle; list several pairs in a CSV for --pairs")
    sources = read_pairs(args.pairs) if args.pairs else []
    sources += [Source(bundle, args.scan) for bundle in args.bundles]
    if args.scan and not args.bundles:
        sources.append(Source(None, args.scan))
    if not sources and not (args.site / "site.toml").exists():
        raise ValueError("nothing to import: give a bundle, --scan or --pairs")
    for path in (p for source in sources for p in (source.bundle, source.scan) if p):
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
    return sources


def _register(site: "Site", source: "Source", scheme: "Scheme", n_sources: int) -> bool:
    """Register one source and say what became of it; False where it was refused."""
    from fusion.intake import register

    try:
        registered = register(site, source, scheme)
    except ValueError as error:
        print(f"refused: {source.bundle or source.scan}: {_one_line(error)}", file=sys.stderr)
        return False
    if not registered.changed:
        print(f"case {registered.case_id}: already here, nothing changed")
    elif registered.report is None:
        print(f"case {registered.case_id}: known diagnoses taken over")
    else:
        head, *lines = registered.report.summary()
        print(f"case {registered.case_id}: {head}")
        if n_sources <= FEW:
            print(*lines, sep="\n")
    return True


def _prepare_all(site: "Site", tools: "Tools", case_ids: Sequence[str], scheme: "Scheme") -> int:
    """Make the evidence of cases, with a progress bar; how many could not be prepared."""
    from tqdm import tqdm

    from fusion.intake import prepare_case

    failed = 0
    for case_id in tqdm(case_ids, "preparing", unit="case", disable=not case_ids):
        try:
            prepare_case(site, case_id, tools, scheme)
        except ValueError as error:
            failed += 1
            tqdm.write(f"not prepared: case {case_id}: {_one_line(error)}", file=sys.stderr)
            continue
        for finding in site.findings(case_id):
            tqdm.write(f"case {case_id}: {finding}")
    return failed


def _cost(seconds: dict[str, float]) -> str:
    """One line with the time of each step and the peak memory of the process."""
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    steps = ", ".join(f"{step} {s:.1f} s" for step, s in seconds.items())
    return f"{steps}; peak memory {peak_mb:.0f} MB"


def _encoder_folder(site: "Site") -> Path | None:
    """The folder of the site's text encoder; None for the stand-in."""
    return Path(site.config.text_encoder) if site.config.text_encoder else None


def _install_model(site: "Site", model: Path) -> None:
    """Copy a model folder into a site that has none."""
    import shutil

    from fusion.checkpoint import load

    load(model)  # refuses a damaged folder before anything is copied
    if not site.model_folder.exists():
        shutil.copytree(model, site.model_folder)


def _known_cases(folders: Sequence[Path], scheme: "Scheme") -> "list[Case]":
    """The cases of several sites whose diagnoses are known."""
    from fusion.store import Site

    return [case for folder in folders for case in Site.open(folder).training_cases(scheme)]


def _train(args: argparse.Namespace) -> int:
    """Split, fit, calibrate, evaluate, write."""
    from dataclasses import replace

    from clinical.diagnoses import load_scheme
    from clinical.text_encoder import load_text_encoder
    from fusion.develop import develop
    from fusion.store import Site
    from fusion.train import TrainConfig

    scheme = load_scheme()
    cases = _known_cases(args.sites, scheme)
    config = TrainConfig(seed=args.seed)
    if args.epochs:
        config = replace(config, epochs=args.epochs)
    encoder = load_text_encoder(_encoder_folder(Site.open(args.sites[0])))
    developed = develop(
        cases, scheme, args.out, config,
        trained_on=args.trained_on or f"{len(cases)} cases of {len(args.sites)} sites",
        text_encoder=encoder.name, text_encoder_sha256=encoder.sha256,
    )  # fmt: skip
    _print_scores(developed)
    print(f"the model is in {args.out}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    """Print AUROC and calibration."""
    from clinical.diagnoses import load_scheme
    from fusion.develop import evaluate_folder

    scheme = load_scheme()
    model = args.model or args.sites[0] / "model"
    cases = _known_cases(args.sites, scheme)
    _print_scores(evaluate_folder(model, cases, unseen=args.unseen))
    return 0


def _print_scores(developed: "Developed") -> None:
    """The tables of a model's scores."""
    from fusion.evaluate import comparison_markdown, markdown

    print(markdown(developed.evaluation), comparison_markdown(developed.comparisons), sep="\n\n")


def _review(args: argparse.Namespace) -> int:
    """Serve the review page on the loopback interface until interrupted."""
    from fusion.assistant import Assistant
    from fusion.store import Site
    from ui.app import serve

    site = Site.open(args.site)
    made_by = {site.tokens_encoder(row.case_id) for row in site.cases()} - {None}
    assistant = Assistant.load(args.model or site.model_folder, next(iter(made_by), None))
    serve(site, assistant, port=args.port)
    return 0


def _account(args: argparse.Namespace) -> int:
    """Ask for a password twice and keep its hash."""
    from getpass import getpass

    from fusion.store import Site
    from ui.accounts import Accounts

    site = Site.open(args.site)
    password = getpass(f"password of {args.user}: ")
    if getpass("again: ") != password:
        raise ValueError("the passwords differ; nothing was changed")
    Accounts(site.folder / "accounts.json").add(args.user, password)
    print(f"{args.user} may now log in")
    return 0


def _federate(args: argparse.Namespace) -> int:
    """Train across sites in the simulation engine."""
    from federated.simulate import simulate

    for site in args.sites:
        if not (site / "site.toml").is_file():
            raise ValueError(f"{site} is not a site: it has no site.toml; import something first")
    federated = simulate(
        args.sites, args.out, rounds=args.rounds, seed=args.seed, trained_on=args.trained_on
    )
    for number, loss in enumerate(federated.rounds, 1):
        print(f"round {number}: validation loss {loss:.3f}")
    for site, model in zip(args.sites, federated.models, strict=True):
        print(f"{site.name}: the model, calibrated on its own cases, is in {model}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    """Say what a site holds and what is wrong with it."""
    from clinical.text_encoder import load_text_encoder
    from fusion.checkpoint import load
    from fusion.intake import unprepared
    from fusion.store import Site

    site = Site.open(args.site)
    encoder = load_text_encoder(_encoder_folder(site))
    rows = site.cases()
    waiting = unprepared(site, encoder.sha256)
    print(f"site          {site.name}")
    print(f"cases         {len(rows)}, {sum(row.reviewed for row in rows)} reviewed")
    print(f"text encoder  {encoder.name}, SHA-256 {encoder.sha256[:12]}")
    if waiting:
        print(f"to prepare    {len(waiting)} cases; run `consilium import {args.site}`")
    if not site.model_folder.exists():
        print("model         none; give one with `consilium import SITE --model FOLDER`")
        return 1
    card = load(site.model_folder, encoder.sha256).card
    print(f"model         trained on {card.trained_on}, {card.date}")
    return 1 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
