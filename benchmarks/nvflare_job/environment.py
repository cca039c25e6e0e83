"""NVFlare's own environment: made where it is wanted, so that the project's does not change.

What both sides share (PyTorch, NumPy, the project) is found behind NVFlare's own packages, in the
project's environment: so the same code on the same PyTorch trains under both.
"""

import subprocess
import sysconfig
import venv
from pathlib import Path

WANTED = "nvflare>=2.9,<2.10"
ROOT = Path(__file__).parents[2]


def nvflare_python(folder: Path) -> Path | None:
    """The interpreter of an environment with NVFlare; None where it cannot be installed.

    Args:
        folder: Of the environment; made where there is none.
    """
    python = folder / "bin" / "python"
    if python.exists() and _has_nvflare(python):
        return python
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for wanted in (WANTED, "nvflare"):  # the newest, where there is no 2.9
        if subprocess.run([*pip, wanted], capture_output=True).returncode == 0:
            break
    shared = f"{ROOT}\n{sysconfig.get_path('purelib')}\n"
    for packages in folder.glob("lib/python*/site-packages"):
        (packages / "consilium_behind.pth").write_text(shared)
    return python if _has_nvflare(python) else None


def _has_nvflare(python: Path) -> bool:
    """Whether an interpreter finds NVFlare."""
    tried = subprocess.run([str(python), "-c", "import nvflare"], capture_output=True)
    return tried.returncode == 0
