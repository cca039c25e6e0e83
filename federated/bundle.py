"""The Flower app bundle that travels from hub to sites: a few lines of code, and nothing else."""

import hashlib
from pathlib import Path

from flwr.cli.build import build_fab_from_disk
from flwr.supercore.fab import Fab

APP = Path(__file__).with_name("flower")


def app_bundle(app: Path = APP) -> Fab:
    """Build the bundle from a folder; the same folder gives the same bytes.

    Flower packs whatever lies in the folder unless it is told what to take, so the app's
    ``fab-include`` names code alone.

    Args:
        app: Folder with the app's ``pyproject.toml``.
    """
    content = build_fab_from_disk(app)
    return Fab(hashlib.sha256(content).hexdigest(), content, {})
