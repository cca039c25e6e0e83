"""What `consilium hub`, `join` and `federate` do; Flower is imported where it is needed."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from federated.hub.folder import Hub


def hub(args: argparse.Namespace) -> int:
    """Do one step of a hub's administrator."""
    steps = {
        "init": _init, "register": _register, "forget": _forget,
        "start": _start, "status": _status,
    }  # fmt: skip
    return steps[args.step](args)


def _init(args: argparse.Namespace) -> int:
    """Make a hub's folder."""
    from federated.hub.folder import create_hub
    from federated.keys import CA
    from federated.plan_file import PLAN, read_plan
    from federated.task import plan_for

    plan = read_plan(args.plan) if args.plan else plan_for(args.plan_from, args.seed)
    made = create_hub(args.hub, args.host, plan)
    print(f"the hub is in {made.folder}; plan {plan.fingerprint[:12]}")
    print(f"send to the sites: {made.folder / CA} and {made.folder / PLAN}")
    return 0


def _register(args: argparse.Namespace) -> int:
    """Register a site; a hub that runs learns of it at once."""
    from federated.hub.folder import control, is_running, open_hub, register, tell_superlink

    known = open_hub(args.hub)
    site = register(known, args.key, args.name, args.cases)
    if is_running(known):
        with control(known) as client:
            tell_superlink(known, client)
    print(f"{site.name} is registered with {site.cases} cases")
    return 0


def _forget(args: argparse.Namespace) -> int:
    """Take a site off the list."""
    from federated.hub.folder import forget, open_hub

    forget(open_hub(args.hub), args.name)
    print(f"{args.name} is refused from now on")
    return 0


def _start(args: argparse.Namespace) -> int:
    """Run the hub."""
    from federated.hub.folder import open_hub
    from federated.hub.serve import serve

    known = open_hub(args.hub)

    def ready(port: int) -> None:
        print(f"sites reach this hub at {known.host}:{port}; Ctrl+C ends it", flush=True)

    serve(known, args.listen, args.port, ready)
    return 0


def _status(args: argparse.Namespace) -> int:
    """Say what a hub knows."""
    from federated.hub.folder import is_running, online, open_hub
    from federated.hub.front import read_traffic
    from federated.progress import last_round

    known = open_hub(args.hub)
    here = online(known) if is_running(known) else set()
    print(f"hub       {known.host}, {'runs' if is_running(known) else 'does not run'}")
    print(f"plan      {known.plan.fingerprint[:12]}")
    carried = read_traffic(known.folder)
    for site in known.sites:
        state = "is there" if site.name in here else "is not there"
        bytes_ = carried.get(site.name)
        went = f"; {bytes_.up / 1e6:.2f} MB up, {bytes_.down / 1e6:.2f} MB down" if bytes_ else ""
        print(f"site      {site.name}, {site.cases} cases, {state}{went}")
    for folder in known.trainings:
        print(f"training  {folder.name}: {last_round(folder)} rounds in {folder}")
    return 0


def join(args: argparse.Namespace) -> int:
    """Prepare a site the first time, take part every time."""
    from federated.site import join as joining
    from federated.site.policy import POLICY, STATE

    if args.take_model:
        joining.take_model(args.site, args.take_model)
        print(f"the model, calibrated on the site's own cases, is in {args.take_model}")
        return 0
    first = (args.hub, args.ca, args.plan)
    if any(first):
        if not all(first):
            raise ValueError("the first time, --hub, --ca and --plan belong together")
        key = joining.prepare(args.site, args.hub, args.ca, args.plan)
        print(f"the policy is {args.site / POLICY}: read it, change what you want")
        print(f"send to the hub: {key}")
        print(f"once the hub has registered it: consilium join {args.site}")
        return 0
    print(f"{args.site.name} takes part; Ctrl+C ends it. What Flower says is in", end=" ")
    print(args.site / STATE / joining.LOG, flush=True)
    joining.join(args.site)
    return 0


def federate(args: argparse.Namespace) -> int:
    """Train at a hub, or in a simulation where the folders are sites."""
    from federated.hub.folder import HUB

    if any((folder / HUB).is_file() for folder in args.folders):
        if len(args.folders) > 1:
            raise ValueError("name one hub, or the sites of a simulation")
        return _at_hub(args)
    if args.stop or args.watch or args.resume or args.secure_aggregation or args.evaluate:
        raise ValueError(
            "--stop, --watch, --resume, --evaluate and --secure-aggregation go with a hub"
        )
    return _simulated(args)


def _at_hub(args: argparse.Namespace) -> int:
    """Start, stop, resume or watch a training."""
    from federated.hub import runs
    from federated.hub.folder import open_hub

    known = open_hub(args.folders[0])
    if args.stop:
        print(f"{runs.stop_runs(known)} trainings stopped; --resume goes on with the last one")
        return 0
    if args.evaluate:
        return _scored(known)
    if args.watch:
        run = runs.latest_run(known)
    else:
        run = runs.start_run(
            known, rounds=args.rounds, strategy=args.strategy, secure=args.secure_aggregation,
            resume=args.resume, min_sites=args.min_sites,
        )  # fmt: skip
        print(f"training {run.folder.name} of {args.rounds} rounds began", flush=True)
    for report in runs.watch(known, run):
        print(*report.lines(), sep="\n", flush=True)
    print(f"the rounds are in {run.folder}")
    return 0


def _scored(known: "Hub") -> int:
    """Have the sites score the last round, and print what they told."""
    from federated.evaluation import EVALUATION
    from federated.hub import runs

    run = runs.start_evaluation(known)
    for _ in runs.watch(known, run):
        pass
    print((run.folder / EVALUATION).read_text())
    return 0


def _simulated(args: argparse.Namespace) -> int:
    """Train across sites in the simulation engine."""
    from federated.simulate import simulate

    logging.getLogger("federated").setLevel(logging.ERROR)
    if args.out is None:
        raise ValueError("a simulation needs --out FOLDER for its models")
    for site in args.folders:
        if not (site / "site.toml").is_file():
            raise ValueError(
                f"{site} is neither a hub nor a site: it has no hub.toml and no site.toml"
            )
    federated = simulate(
        args.folders, args.out, rounds=args.rounds, seed=args.seed, trained_on=args.trained_on
    )
    for number, loss in enumerate(federated.rounds, 1):
        print(f"round {number}: validation loss {loss:.3f}")
    for site, model in zip(args.folders, federated.models, strict=True):
        print(f"{Path(site).name}: the model, calibrated on its own cases, is in {model}")
    return 0
