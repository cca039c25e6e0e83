"""Every engine names the same voxels, and left is treated as right is."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from imaging.closeup import CLOSE_WINDOW, other_side
from imaging.graphs import onnx_engine, openvino_engine, torch_engine
from imaging.network import CloseNet, CloseNetConfig, Networks, RegionNet, RegionNetConfig
from imaging.regions import mirrored_labels
from imaging.segment import WINDOW, Engine

SMALL = RegionNetConfig(init_filters=8, blocks_down=(1, 1), blocks_up=(1,), voxel_features=4)


@pytest.fixture(scope="module")
def nets() -> Networks:
    """Small networks with random weights."""
    torch.manual_seed(0)
    close = CloseNet(CloseNetConfig(init_filters=8, blocks_down=(1, 1), blocks_up=(1,)))
    return Networks(RegionNet(SMALL).eval(), close.eval())


@pytest.fixture(scope="module")
def window() -> np.ndarray:
    """A smooth random picture."""
    coarse = torch.rand(1, 1, 10, 14, 11, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, size=WINDOW, mode="trilinear")
    return np.asarray(fine[0, 0].numpy())


ENGINES: list[tuple[str, Callable[[Networks], Engine]]] = [
    ("openvino", lambda nets: openvino_engine(nets, "f32")),
    ("onnxruntime", onnx_engine),
]


@pytest.mark.parametrize(("module", "make"), ENGINES)
def test_an_engine_says_what_torch_says(
    nets: Networks, window: np.ndarray, module: str, make: Callable[[Networks], Engine]
) -> None:
    """In single precision, probabilities and features agree to 1e-3 and so do labels."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    reference, engine = torch_engine(nets, bfloat16=False), make(nets)
    assert (engine.find(window) == reference.find(window)).mean() > 0.999
    expected, found = reference(window), engine(window)
    assert (found.labels == expected.labels).mean() > 0.999
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-3)
    np.testing.assert_allclose(found.fine, expected.fine, atol=1e-3)
    np.testing.assert_allclose(found.coarse, expected.coarse, atol=1e-3)
    near, close = (e.look_closely(window, [30, 50, 40], "left") for e in (reference, engine))
    assert (near.labels == close.labels).mean() > 0.999
    np.testing.assert_allclose(near.probability, close.probability, atol=1e-3)


def test_the_choice_of_labels_is_the_networks_own(nets: Networks, window: np.ndarray) -> None:
    """The graph's labels are those of the mean of four forward passes."""
    volume = torch.from_numpy(window)[None, None]

    def two_looks(volume: torch.Tensor) -> torch.Tensor:
        moved = nets.whole(volume.roll((1, 1, 1), (2, 3, 4))).softmax(dim=1)
        return nets.whole(volume).softmax(dim=1) + moved.roll((-1, -1, -1), (2, 3, 4))

    with torch.inference_mode():
        there = two_looks(volume.flip(2)).flip(2)[:, mirrored_labels()]
        expected = (two_looks(volume) + there)[0].argmax(dim=0).numpy()
    assert (torch_engine(nets, bfloat16=False)(window).labels == expected).mean() > 0.999


def test_a_mirrored_window_has_the_mirrored_labels(nets: Networks, window: np.ndarray) -> None:
    """Left and right are measured alike, to the voxel."""
    engine = torch_engine(nets, bfloat16=False)
    here = engine(window).labels
    there = engine(np.ascontiguousarray(window[::-1])).labels[::-1]
    assert (np.array(mirrored_labels())[there] == here).mean() > 0.999


def test_the_left_is_looked_at_as_the_right_is(nets: Networks, window: np.ndarray) -> None:
    """What is seen around a voxel of the left is the mirror image of what a mirrored head shows."""
    engine = torch_engine(nets, bfloat16=False)
    left = engine.look_closely(window, [30, 50, 40], "left")
    mirrored = np.ascontiguousarray(window[::-1])
    right = engine.look_closely(mirrored, [WINDOW[0] - 30, 50, 40], "right")
    assert left.corner == (30 - CLOSE_WINDOW[0] // 2, 50 - 24, 40 - 16)
    assert (other_side(right.labels)[::-1] == left.labels).mean() > 0.999
    np.testing.assert_allclose(right.probability[::-1], left.probability, atol=1e-4)


def test_no_engine_reports_to_its_makers() -> None:
    """Importing OpenVINO would load its telemetry and send an event; ours does not load it."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    code = (
        "import sys; from imaging.engines import load_engine; load_engine(); "
        "assert 'openvino' in sys.modules; "
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
