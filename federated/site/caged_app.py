"""What runs in the cage: the app that the hub sent.

``python -m federated.site.caged_app SITE SCRATCH NETWORK``, fed and heard through two pipes, which
`federated.site.gate` starts where it finds no `federated.site.nursery`.
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from federated.site import cage
from federated.site.policy import POLICY, STATE

if TYPE_CHECKING:  # not before the cage is closed
    from flwr.clientapp import ClientApp
    from flwr.supercore.fab import Fab

log = logging.getLogger(__name__)


def main() -> None:
    """Lock in, load the app, run it once."""
    site, scratch, network = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "network"
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, prints into the log
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    lock_in(site, scratch, network=network)
    with answer:
        answer.write(run(sys.stdin.buffer.read()))


def bare_environment(scratch: Path) -> dict[str, str]:
    """What an app finds in its environment besides what everybody does: a home of its own."""
    return {"TMPDIR": str(scratch), "HOME": str(scratch), "FLWR_HOME": str(scratch)}


def lock_in(site: Path, scratch: Path, *, network: bool) -> None:
    """Close the cage around this process, where the kernel has one."""
    try:
        fixed = [site / name for name in (POLICY, "plan.json", "site.toml")]
        cage.enter((site, scratch), site / STATE, fixed, network=network)
    except OSError as error:
        log.warning("this kernel has no cage for the app (%s); only the guard holds it", error)


def run(raw: bytes) -> bytes:
    """The app's reply and context to a message and context."""
    from flwr.app import Error, Message
    from flwr.common.constant import ErrorCode

    from federated.site.parcel import Parcel

    parcel = Parcel.unpack(raw)
    parcel.take_identity()
    assert parcel.fab is not None
    try:
        reply = _app(parcel.fab)(message=parcel.message, context=parcel.context)
    except Exception as error:
        log.exception("the app failed")
        reason = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, type(error).__name__)
        reply = Message(reason, reply_to=parcel.message)
    return Parcel(reply, parcel.context).pack()


def _app(fab: "Fab") -> "ClientApp":
    """Unpack and load the app; `federated.site.gate` has checked its SHA-256."""
    from flwr.cli.config_utils import get_fab_metadata
    from flwr.cli.install import install_from_fab
    from flwr.clientapp.utils import get_load_client_app_fn

    install_from_fab(fab.content, skip_prompt=True)
    name, version = get_fab_metadata(fab.content)
    load = get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
    app: ClientApp = load(name, version, fab.hash_str)
    return app


if __name__ == "__main__":
    main()
