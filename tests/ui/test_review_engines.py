"""`consilium review` on each engine: without torch where it can be, and saying which one runs."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import add_case, tokens

from clinical.evidence import ClinicalTokens
from clinical.lab_encoder import CHANNELS, FACT_EXTRAS, VISITS
from clinical.text_folder import STAND_IN_SHA256
from fusion.assistant import Assistant
from fusion.network import ModelConfig
from fusion.store import Site
from ui.cli import main

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "monai", "transformers")  # seconds and hundreds of megabytes each
# What a review does, from the command to a case on the page, and what it has imported for it.
REVIEW = """
import sys, threading, time
import httpx
from pathlib import Path
from fusion.assistant import Assistant
from fusion.store import Site
from ui.cli import main
from ui.page import build_page

folder, engine, port, *heavy = sys.argv[1:]
call = ["review", folder, "--engine", engine, "--port", port]
server = threading.Thread(target=main, args=(call,), daemon=True)
server.start()
while True:
    try:
        assert httpx.get(f"http://127.0.0.1:{port}/login").status_code == 200
        break
    except httpx.TransportError:
        assert server.is_alive()
        time.sleep(0.05)
site = Site.open(Path(folder))
assistant = Assistant.load(site.model_folder, engine=engine, kept=site.engines_folder)
for row in site.cases():
    assert assistant.diagnose(site.case(row.case_id)).engine == engine
build_page(site, assistant, "zh")
print("imported:", sorted(set(heavy) & sys.modules.keys()))
"""


def widened(made: dict) -> dict:
    """The evidence of `conftest.tokens` as wide as the sample model reads it."""
    text, rng = ModelConfig().text_dim, np.random.default_rng(0)
    shapes = {"notes": (text,), "labs": (VISITS, CHANNELS), "history": (text + FACT_EXTRAS,)}
    wide = {
        modality: ClinicalTokens(
            rng.standard_normal((len(t.kinds), *shapes[modality]), np.float32),
            t.kinds, t.quality, t.pointers,
        )
        for modality, t in made.items()
        if modality != "scan"
    }  # fmt: skip
    return {**made, **wide}


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory) -> Site:
    """A hospital with the sample model and two cases, one without scan and notes."""
    site = Site.create(tmp_path_factory.mktemp("review") / "site", name="North hospital")
    for case_id, whole in (("abc123", True), ("def456", False)):
        add_case(site, case_id, scan=whole, notes=whole)
        made = widened(tokens(scan=whole, notes=whole))
        site.save_tokens(case_id, made, findings=[], encoder=STAND_IN_SHA256)
    shutil.copytree(ROOT / "sample_data" / "model", site.model_folder)
    return site


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_review_needs_no_torch(reviewed, engine) -> None:
    """Once the engine's files are kept: command, page, a request, every case with its evidence."""
    Assistant.load(reviewed.model_folder, engine=engine, kept=reviewed.engines_folder)
    done = subprocess.run(
        [sys.executable, "-c", REVIEW, reviewed.folder, engine, free_port(), *HEAVY],
        capture_output=True, text=True, timeout=200, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"engine {engine}" in done.stdout
    assert "imported: []" in done.stdout


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_the_page_would_say_the_same_with_torch(reviewed, engine) -> None:
    """Probability and shares of every case to within a thousandth."""
    loaded = [
        Assistant.load(reviewed.model_folder, engine=name, kept=reviewed.engines_folder)
        for name in ("torch", engine)
    ]
    for row in reviewed.cases():
        wanted, found = (assistant.diagnose(reviewed.case(row.case_id)) for assistant in loaded)
        assert found.probabilities == pytest.approx(wanted.probabilities, abs=1e-3)
        assert found.shares == pytest.approx(wanted.shares, abs=1e-3)
        assert (wanted.engine, found.engine) == ("torch", engine)


def test_the_doctor_says_what_reads_and_what_runs(reviewed, capsys) -> None:
    """Encoder, licence, its whole hash, and what is kept for engines."""
    Assistant.load(reviewed.model_folder, engine="openvino", kept=reviewed.engines_folder)
    assert main(["doctor", str(reviewed.folder)]) == 0
    said = capsys.readouterr().out
    assert "all-MiniLM-L6-v2 (stand-in)" in said
    assert f"licence Apache-2.0, SHA-256 {STAND_IN_SHA256}" in said
    assert "engines       openvino where none is named; kept: " in said
    assert "fusion-openvino-float32-" in said


def test_the_doctor_finds_a_damaged_model(reviewed, tmp_path, capsys) -> None:
    """However much is kept of it as it was."""
    folder = tmp_path / "site"
    shutil.copytree(reviewed.folder, folder)
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert main(["doctor", str(folder)]) == 2
    assert "model.safetensors cannot be read" in capsys.readouterr().err


def test_an_engine_that_is_none_is_refused(reviewed, capsys) -> None:
    """Before anything is served."""
    with pytest.raises(SystemExit):
        main(["review", str(reviewed.folder), "--engine", "tensorrt"])
    assert "invalid choice" in capsys.readouterr().err
