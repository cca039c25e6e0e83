"""What can be said to `consilium hub`, `join` and `federate`; done in `ui.federation`."""

import argparse
from collections.abc import Callable
from pathlib import Path

Command = Callable[[str, str, str], argparse.ArgumentParser]


def add_hub(command: Command) -> None:
    """`consilium hub`, with what a hub's administrator does."""
    hub = command("hub", "make, start and look after a federation's hub", "consilium hub start HUB")
    steps = hub.add_subparsers(required=True, metavar="STEP", dest="step")

    init = steps.add_parser("init", help="make a hub's folder: keys, certificate, plan")
    init.add_argument("hub", type=Path, metavar="HUB")
    init.add_argument("--host", required=True, help="name or address by which sites reach it")
    plan = init.add_mutually_exclusive_group(required=True)
    plan.add_argument(
        "--plan-from", type=Path, metavar="SITE", help="site whose evidence the network is made for"
    )
    plan.add_argument("--plan", type=Path, metavar="FILE", help="a plan.json that was agreed on")
    init.add_argument("--seed", type=int, default=0)

    register = steps.add_parser("register", help="let a site take part")
    register.add_argument("hub", type=Path, metavar="HUB")
    register.add_argument("key", type=Path, metavar="SITE.pub", help="the site's public key")
    register.add_argument("--name", required=True, help="by which reports name the site")
    register.add_argument("--cases", type=int, required=True, help="of its cohort; what it weighs")

    forget = steps.add_parser("forget", help="let a site take part no longer")
    forget.add_argument("hub", type=Path, metavar="HUB")
    forget.add_argument("name", metavar="NAME")

    start = steps.add_parser("start", help="run the hub until it is interrupted")
    start.add_argument("hub", type=Path, metavar="HUB")
    start.add_argument(
        "--listen", default="127.0.0.1", metavar="ADDRESS",
        help="on which sites reach it, 0.0.0.0 for every one (default: this machine only)",
    )  # fmt: skip
    start.add_argument("--port", type=int, default=9092)

    status = steps.add_parser("status", help="say which sites are registered and what was trained")
    status.add_argument("hub", type=Path, metavar="HUB")


def add_join(command: Command) -> None:
    """`consilium join`."""
    join = command(
        "join",
        "let a site take part in a federation",
        "consilium join SITE --hub hub.example.org:9092 --ca hub-ca.crt --plan plan.json",
    )
    join.add_argument("site", type=Path, metavar="SITE")
    join.add_argument("--hub", metavar="HOST:PORT", help="the first time: where the hub is")
    join.add_argument("--ca", type=Path, metavar="FILE", help="the first time: hub-ca.crt")
    join.add_argument("--plan", type=Path, metavar="FILE", help="the first time: plan.json")
    join.add_argument(
        "--take-model", type=Path, metavar="FOLDER",
        help="write the federation's network, calibrated on the site's own cases, and end",
    )  # fmt: skip


def add_federate(command: Command) -> None:
    """`consilium federate`."""
    federate = command(
        "federate",
        "train across sites: at a hub, or with all sites on this machine",
        "consilium federate HUB --rounds 10",
    )
    federate.add_argument(
        "folders", type=Path, nargs="+", metavar="HUB|SITE",
        help="one running hub, or the sites of a simulation",
    )  # fmt: skip
    federate.add_argument("--rounds", type=int, default=3)
    federate.add_argument("--seed", type=int, default=0, help="of a simulation")
    federate.add_argument("--out", type=Path, help="folder for a simulation's models")
    federate.add_argument("--trained-on", default="", help="what the cases are, for the model card")
    federate.add_argument(
        "--strategy", default="fedavg",
        help="fedavg, fedprox, fedadam, fedyogi, trimmed or median (at a hub)",
    )  # fmt: skip
    federate.add_argument(
        "--secure-aggregation", action="store_true", help="the hub sees only the sites' sum"
    )
    federate.add_argument(
        "--min-sites", type=int, default=2, help="without which a round is not averaged"
    )
    what = federate.add_mutually_exclusive_group()
    what.add_argument("--resume", action="store_true", help="go on from the last round")
    what.add_argument("--stop", action="store_true", help="end the training that runs")
    what.add_argument(
        "--evaluate", action="store_true",
        help="have the sites that allow it score the last round; no small cell leaves them",
    )  # fmt: skip
    what.add_argument("--watch", action="store_true", help="show the training that runs")
