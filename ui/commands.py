"""What the commands of `consilium` do; each takes its arguments and returns its exit code."""

import argparse
import getpass
import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from clinical.deidentify import deidentify
from clinical.diagnoses import Scheme, load_scheme
from clinical.mapping import load_mapping
from clinical.ndjson import is_ndjson
from clinical.rest import Server
from clinical.text_encoder import load_text_encoder
from clinical.text_folder import Description, describe, lasting_name
from fusion import intake
from fusion.assistant import Assistant
from fusion.case import Case
from fusion.checkpoint import load
from fusion.engines import engine_named
from fusion.exports import bundle_sources, export_sources
from fusion.intake import Source, Tools
from fusion.remote import TOKEN, fetched, read_patients, read_token
from fusion.store import SCHEME, Site
from imaging.bids import is_bids
from ui.accounts import Accounts

if TYPE_CHECKING:  # the module trains, on torch, which most commands do without
    from fusion.develop import Developed

FEW = 3  # imports of more cases print one line a case
MANY = 20  # imports of more cases count their findings instead of listing them


def one_line(error: Exception) -> str:
    """An error's message on one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def import_cases(args: argparse.Namespace) -> int:
    """Register every source, then prepare what has no evidence yet."""
    _check_call(args)
    sources = _sources(args)
    site = Site.create(args.site, text_encoder=_checked_encoder(args))
    scheme, refused = _scheme(site, args.diagnoses), 0
    if args.model:
        _install_model(site, args.model, args.engine)
    tools = Tools.of(site, args.engine)
    with tools.timed("import"):
        if args.mapping:
            sources, refused = _rows(site, args)
        if args.server:
            refused += _from_server(site, args, scheme)
        refused += sum(not _register(site, source, scheme, len(sources)) for source in sources)
    if len(sources) > FEW:
        print(f"{len(sources)} cases to import, {refused} refused")
    waiting = intake.unprepared(site, tools.encoder.sha256)
    failed = _prepare_all(site, tools, waiting, scheme)
    print(_cost(tools.seconds))
    return 1 if refused or failed else 0


def _checked_encoder(args: argparse.Namespace) -> str:
    """The folder of the text encoder for a new site, once it has been seen to load."""
    if args.text_encoder is None:
        return ""
    folder = lasting_name(args.text_encoder)
    if (args.site / "site.toml").exists():
        if Site.open(args.site).config.text_encoder != folder:
            raise ValueError(
                f"{args.site} was made with another text encoder; import into a new site, or "
                "change text_encoder in its site.toml and import again to encode all cases anew"
            )
        return folder
    load_text_encoder(args.text_encoder)
    return folder


def _scheme(site: Site, path: Path | None) -> Scheme:
    """What a site diagnoses; a site without cases may be given a file of its own."""
    if path is not None and load_scheme(path) != site.scheme:
        if site.cases():
            raise ValueError(f"{site.folder} diagnoses something else; import into a new site")
        shutil.copyfile(path, site.folder / SCHEME)
    return site.scheme


def _rows(site: Site, args: argparse.Namespace) -> tuple[list[Source], int]:
    """The rows of all tables named, and how many tables or rows were refused."""
    mapping = load_mapping(args.mapping).without(*args.without)
    sources, refused = [], 0
    for path in args.paths:
        try:
            found, report = intake.table_sources(site, path, mapping, args.mapping)
        except ValueError as error:
            print(f"refused: {path}: {one_line(error)}", file=sys.stderr)
            refused += 1
            continue
        sources += found
        refused += len(report.refused)
        print(f"{path.name}: {len(found)} cases", *report.summary(), sep="\n  ")
    return sources, refused


def _from_server(site: Site, args: argparse.Namespace, scheme: Scheme) -> int:
    """Fetch and register patients one by one; how many were refused. No message has an id."""
    server = Server(args.server, read_token(args.token_file, os.environ.get(TOKEN, "")))
    patients = [*args.patient, *(read_patients(args.patients) if args.patients else ())]
    refused = 0
    for n, patient in enumerate(patients, 1):
        name = f"patient {n} of {len(patients)}"
        try:
            with fetched(site, server, patient, name) as (source, found):
                print(f"{name}: {found.pages} pages", *found.remarks, sep="\n  ")
                refused += not _register(site, source, scheme, len(patients))
        except ValueError as error:
            print(f"refused: {name}: {one_line(error)}", file=sys.stderr)
            refused += 1
    return refused


def _check_call(args: argparse.Namespace) -> None:
    """Refuse a call that cannot go well before a site is made of it."""
    if bool(args.server) != bool(args.patient or args.patients):
        raise ValueError("--server goes with --patient or --patients, and they with --server")
    if args.diagnoses:
        load_scheme(args.diagnoses)
    if args.server:
        Server(args.server)
    if args.mapping:
        load_mapping(args.mapping).without(*args.without)
        missing = [path for path in args.paths if not path.is_file()]
        if missing or not args.paths or args.scan or args.pairs:
            raise ValueError(
                f"{missing[0]}: no such file" if missing else "--mapping goes with tables only"
            )


def _sources(args: argparse.Namespace) -> list[Source]:
    """The cases named on the command line, whose files all exist; those of tables come later."""
    if args.mapping:
        return []
    if args.scan and len(args.paths) > 1:
        raise ValueError("--scan goes with one bundle; list several pairs in a CSV for --pairs")
    sources = intake.read_pairs(args.pairs) if args.pairs else []
    if args.scan:
        sources.append(Source(args.paths[0] if args.paths else None, args.scan))
    else:
        lines = [path for path in args.paths if is_ndjson(path) and not is_bids(path)]
        sources += _exported(lines) if lines else []
        others = [path for path in args.paths if path not in lines]
        sources += [source for path in others for source in _sources_at(path)]
    if not sources and not args.server and not (args.site / "site.toml").exists():
        raise ValueError("nothing to import: give a bundle, a scan, a BIDS dataset or --pairs")
    for source in sources:
        if source.bundle is not None and not source.bundle.is_file():
            raise ValueError(f"{source.bundle}: no such file")
        if source.scan is not None and not source.scan.exists():
            raise ValueError(f"{source.scan}: no such file")
    return sources


def _sources_at(path: Path) -> list[Source]:
    """The cases at one path; of a BIDS dataset, what is not taken is said."""
    if path.is_dir() and is_bids(path):
        sources, remarks = intake.bids_sources(path)
        print(f"BIDS dataset: {len(sources)} T1w scans", *remarks, sep="\n  ")
        return sources
    if path.is_dir() or path.name.lower().endswith((".nii", ".nii.gz")):
        return [Source(scan=path)]
    if path.name.lower().endswith((".csv", ".tsv")):
        raise ValueError(f"{path} is a table; say what its columns mean with --mapping FILE")
    try:
        sources, report = bundle_sources(path)
    except ValueError:
        return [Source(bundle=path)]  # refused, and said why, when it is its turn
    if report is not None:
        print(f"{path}: {len(sources)} patients", *report.summary(), sep="\n  ")
    return sources


def _exported(paths: list[Path]) -> list[Source]:
    """The patients of a FHIR bulk export; what becomes of each line is said."""
    sources, report = export_sources(*paths)
    print(f"NDJSON export: {len(sources)} patients", *report.summary(), sep="\n  ")
    return sources


def _register(site: Site, source: Source, scheme: Scheme, n_sources: int) -> bool:
    """Register one source and say what became of it; False where it was refused."""
    try:
        registered = intake.register(site, source, scheme)
    except ValueError as error:
        print(f"refused: {source}: {one_line(error)}", file=sys.stderr)
        return False
    case, details = f"case {registered.case_id}", list(registered.remarks)
    told_by_table = not source.has_bundle and source.scan is None
    if told_by_table and n_sources > FEW:
        pass  # a line for each row of a table is nothing to read
    elif not registered.changed:
        print(f"{case}: already here, nothing changed")
    elif registered.report is None:
        print(f"{case}: known diagnoses taken over")
    elif told_by_table:
        print(f"{case}: {source.name}")
    elif not source.has_bundle:
        print(f"{case}: {source.name or 'a scan'}, no record")
    else:
        head, *lines = registered.report.summary()
        print(f"{case}: {head}")
        details += lines if n_sources <= FEW else []
    for line in details:
        print(f"  {line.strip()}")
    return True


def _prepare_all(site: Site, tools: Tools, case_ids: Sequence[str], scheme: Scheme) -> int:
    """Make the evidence of cases, with a progress bar; how many could not be prepared."""
    failed, found = 0, Counter[str]()
    for case_id in tqdm(case_ids, "preparing", unit="case", disable=not case_ids):
        try:
            intake.prepare_case(site, case_id, tools, scheme)
        except ValueError as error:
            failed += 1
            tqdm.write(f"not prepared: case {case_id}: {one_line(error)}", file=sys.stderr)
            continue
        found.update(site.findings(case_id))
        for finding in site.findings(case_id) if len(case_ids) <= MANY else ():
            tqdm.write(f"case {case_id}: {finding}")
        if site.row(case_id).is_blocked:
            tqdm.write(f"case {case_id}: BLOCKED until a person decides whose scan it is")
    for finding, n in found.most_common(MANY) if len(case_ids) > MANY else ():
        print(f"{n} cases: {finding}")
    return failed


def _cost(seconds: dict[str, float]) -> str:
    """One line with the time of each step and the peak memory of the process."""
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    steps = ", ".join(f"{step} {s:.1f} s" for step, s in seconds.items())
    return f"{steps}; peak memory {peak_mb:.0f} MB"


def _install_model(site: Site, model: Path, engine: str) -> None:
    """Copy a model folder into a site that has none, ready for an engine."""
    # Refuses a damaged folder before anything is copied.
    Assistant.load(model, engine=engine, kept=site.engines_folder)
    if not site.model_folder.exists():
        shutil.copytree(model, site.model_folder)


def _known_cases(folders: Sequence[Path]) -> tuple[list[Case], Scheme]:
    """The cases of several sites whose diagnoses are known, and what all of them diagnose."""
    sites = [Site.open(folder) for folder in folders]
    scheme = sites[0].scheme
    for site in sites:
        if site.scheme != scheme:
            raise ValueError(f"{site.folder} and {sites[0].folder} diagnose different things")
    return [case for site in sites for case in site.training_cases(scheme)], scheme


def train(args: argparse.Namespace) -> int:
    """Split, fit, calibrate, evaluate, write."""
    from fusion.develop import develop
    from fusion.train import TrainConfig

    cases, scheme = _known_cases(args.sites)
    config = TrainConfig(seed=args.seed)
    if args.epochs:
        config = replace(config, epochs=args.epochs)
    encoder = _described(Site.open(args.sites[0]))
    developed = develop(
        cases, scheme, args.out, config,
        trained_on=args.trained_on or f"{len(cases)} cases of {len(args.sites)} sites",
        text_encoder=encoder.name, text_encoder_sha256=encoder.sha256, memory=args.memory,
    )  # fmt: skip
    _print_scores(developed)
    print(f"the model is in {args.out}")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Print AUROC and calibration."""
    from fusion.develop import evaluate_folder

    model = args.model or args.sites[0] / "model"
    cases, scheme = _known_cases(args.sites)
    if (model / SCHEME).exists() and load(model).scheme != scheme:
        raise ValueError(f"{model} diagnoses something else than {args.sites[0]}")
    _print_scores(evaluate_folder(model, cases, unseen=args.unseen))
    return 0


def _print_scores(developed: "Developed") -> None:
    """The tables of a model's scores."""
    from fusion.evaluate import comparison_markdown, markdown

    print(markdown(developed.evaluation), comparison_markdown(developed.comparisons), sep="\n\n")


def onboard(args: argparse.Namespace) -> int:
    """Say how a model does at a site, and keep it there."""
    from federated.site import onboard as onboarding
    from federated.site.onboard_text import markdown

    found = onboarding.onboard(args.site, args.model, seed=args.seed)
    text = markdown(found)
    kept = onboarding.keep(args.site, found, text)
    print(f"{text}\n\nThis is kept in {kept}, the figures in {kept.with_name(onboarding.DATA)}.")
    return 0


def review(args: argparse.Namespace) -> int:
    """Serve the review page on the loopback interface until interrupted."""
    from ui.app import serve

    site = Site.open(args.site)
    made_by = {site.tokens_encoder(row.case_id) for row in site.cases()} - {None}
    assistant = Assistant.load(
        args.model or site.model_folder,
        next(iter(made_by), None),
        engine=args.engine,
        kept=site.engines_folder,
    )
    print(f"engine {assistant.engine}")
    serve(site, assistant, port=args.port)
    return 0


def account(args: argparse.Namespace) -> int:
    """Ask for a password twice and keep its hash."""
    site = Site.open(args.site)
    password = getpass.getpass(f"password of {args.user}: ")
    if getpass.getpass("again: ") != password:
        raise ValueError("the passwords differ; nothing was changed")
    Accounts(site.folder / "accounts.json").add(args.user, password)
    print(f"{args.user} may now log in")
    return 0


def identity(args: argparse.Namespace) -> int:
    """Store a person's decision on whose scan a case has."""
    site = Site.open(args.site)
    had_scan = site.row(args.case).scan_sha256 is not None
    site.decide_identity(args.case, same=args.same, user=args.user, reason=args.reason)
    if args.other:
        print(f"case {args.case}: the scan was taken away; the case goes on without it")
    elif had_scan:
        print(f"case {args.case}: the scan is this patient's; the case is open again")
    else:
        print(f"case {args.case}: the scan is this patient's; import it again")
    return 0


def adapt(args: argparse.Namespace) -> int:
    """Learn adapters on the notes of a site, without their identifiers, and merge them."""
    from clinical.adapt import adapt as learn
    from clinical.adapters import AdaptConfig

    site, notes = Site.open(args.site), dict[str, list[str]]()
    for row in site.cases():
        record = site.record(row.case_id)
        texts = [deidentify(note.text, record) for note in record.notes]
        notes.setdefault(row.patient_key, []).extend(texts)
    config = AdaptConfig(seed=args.seed, device=args.device)
    if args.epochs:
        config = replace(config, epochs=args.epochs)
    progress = learn(args.text_encoder, notes, args.out, config)
    before, best = progress.held_out_loss[0], progress.held_out_loss[progress.best_epoch]
    print(f"loss on the notes of held-out patients: {before:.3f} before, {best:.3f} after")
    print(f"the encoder is in {args.out}; give it to a new site with `import --text-encoder`")
    return 0


def _described(site: Site) -> Description:
    """Name, licence and hash of a site's text encoder, which is not loaded for it."""
    return describe(site.text_encoder_folder, kept=site.engines_folder)


def _engines(site: Site) -> str:
    """What is kept for engines in a site, and how large it is."""
    found = []
    for folder in sorted(path for path in site.engines_folder.glob("*") if path.is_dir()):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        found.append(f"{folder.name} ({size / 1e6:.0f} MB)")
    return ", ".join(found) or "none yet"


def doctor(args: argparse.Namespace) -> int:
    """Say what a site holds and what is wrong with it."""
    site = Site.open(args.site)
    encoder, rows = _described(site), site.cases()
    waiting = intake.unprepared(site, encoder.sha256)
    blocked = [row.case_id for row in rows if row.is_blocked]
    print(f"site          {site.name}")
    print(f"cases         {len(rows)}, {sum(row.reviewed for row in rows)} reviewed")
    print(f"text encoder  {encoder.name}")
    print(f"              licence {encoder.license}, SHA-256 {encoder.sha256}")
    print(f"engines       {engine_named('auto')} where none is named; kept: {_engines(site)}")
    if waiting:
        print(f"to prepare    {len(waiting)} cases; run `consilium import {args.site}`")
    if blocked:
        print(
            f"blocked       {len(blocked)} cases: the scan may be another patient's; decide on the"
        )
        print(f"              page or with `consilium identity`: {', '.join(blocked)}")
    _say_federation(site.folder)
    if not site.model_folder.exists():
        print("model         none; give one with `consilium import SITE --model FOLDER`")
        return 1
    card = load(site.model_folder, encoder.sha256, engine="auto", kept=site.engines_folder).card
    print(f"model         trained on {card.trained_on}, {card.date}")
    return 1 if waiting or blocked else 0


def _say_federation(folder: Path) -> None:
    """What has left a site that takes part in a federation, and what that cost."""
    if not (folder / "federation.toml").exists():
        return
    from federated.site import ledger  # Flower is slow to import

    for n, line in enumerate(ledger.describe(folder)):
        print(f"{'federation' if n == 0 else '':14}{line}")
