"""What travels from hub to sites as code, and how large a round is."""

import io
import shutil
import zipfile
from pathlib import Path

from federated import task
from federated.bundle import APP, app_bundle
from federated.task import Plan
from fusion.network import ModelConfig

PATIENTS = {
    "patients.json": '{"name": "Erika Mustermann"}',
    "notes.md": "Erika Mustermann forgets names.",
    "scan.nii": "voxels of Erika Mustermann",
    "scan.nii.gz": "voxels of Erika Mustermann",
    "cohort.csv": "Erika Mustermann,1950-01-01",
    "letter.txt": "Dear Erika Mustermann",
    "site.toml": 'name = "Erika Mustermann"',
    "site.yaml": "name: Erika Mustermann",
    "rows.jsonl": '{"name": "Erika Mustermann"}',
    "consiliumapp/cases.json": '{"name": "Erika Mustermann"}',
    "consiliumapp/README.md": "Erika Mustermann",
    "export.py": "NAME = 'Erika Mustermann'",
}


def test_the_app_holds_code_and_nothing_else(tmp_path: Path) -> None:
    """Built in a folder full of patients' files, it is what it is without them."""
    app = tmp_path / "app"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in PATIENTS.items():
        (app / name).write_text(text)

    built = app_bundle(app)

    with zipfile.ZipFile(io.BytesIO(built.content)) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    code = {f"consiliumapp/{name}.py" for name in ("__init__", "client", "server")}
    assert set(held) == {"pyproject.toml", ".info/CONTENT", *code}
    assert not any(b"Mustermann" in content for content in held.values())
    assert built.hash_str == app_bundle().hash_str


def test_the_same_version_builds_the_same_app() -> None:
    """A site allows it by its SHA-256, which it computes itself."""
    assert app_bundle() == app_bundle()
    assert len(app_bundle().content) < 5_000


def test_a_round_with_the_large_text_encoder_is_under_20_megabytes() -> None:
    """Its sentences are 1,536 wide; weights go down twice a round (train, evaluate) and up once."""
    plan = Plan("f" * 64, ModelConfig(text_dim=1536))
    megabytes = 4 * task.layout(task.new_network(plan)).size / 1e6

    assert megabytes > 1
    assert 2 * megabytes < 20
