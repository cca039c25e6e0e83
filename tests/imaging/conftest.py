"""One real scan segmented once for all tests."""

from pathlib import Path

import pytest

from imaging.engines import load_engine
from imaging.labelled import held_out
from imaging.prepare import prepare
from imaging.read import read_nifti
from imaging.regions import Segmentation
from imaging.scan import Scan
from imaging.segment import Engine, segment


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data beside the project."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real data, ../shared/data, is absent")
    return folder


@pytest.fixture(scope="session")
def unseen(data: Path) -> list[str]:
    """Subjects that the network never saw."""
    return held_out([p.name.removesuffix(".nii.gz") for p in (data / "ixi_t1_2mm/t1").iterdir()])[1]


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The network that ships, on the engine that is the default."""
    return load_engine()


@pytest.fixture(scope="session")
def real_scan(data: Path, unseen: list[str]) -> Scan:
    """A healthy adult's head, never seen in training."""
    return read_nifti(data / "ixi_t1_2mm" / "t1" / f"{unseen[1]}.nii.gz")


@pytest.fixture(scope="session")
def real_segmentation(engine: Engine, real_scan: Scan) -> Segmentation:
    """The same head with its regions named."""
    return segment(engine, prepare(real_scan))
