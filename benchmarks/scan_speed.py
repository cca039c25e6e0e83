"""Time, memory and Dice of the scan's way from file to grade, engine by engine.

The figures of other tools are their makers' or users', on other machines; see `PUBLISHED`.
"""

import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import psutil

from benchmarks.segmented import all_subjects, arguments, read_t1, unseen_subjects
from imaging.grid import cut
from imaging.prepare import resample
from imaging.read import read_nifti, write_clean
from imaging.scan import Scan
from imaging.segment import WINDOW, Engine, segment

if TYPE_CHECKING:
    from imaging.network import Network, Networks

N = TypeVar("N", bound="Network")
ROUNDS = 5  # timed, after one that is not
FRESH = 3  # processes of each kind
FRESH_ENGINES = {  # engine, and whether its files are kept
    "OpenVINO, not kept": ("openvino", False),
    "OpenVINO, kept": ("openvino", True),
    "ONNX Runtime, kept": ("onnx", True),
    "torch": ("torch", False),
}
PUBLISHED = (
    ("FastSurfer (asegdkt)", "95 regions, 1 mm", "90 min",
     "one CPU, as its ChRIS plugin's README has it (FNNDSC/pl-fastsurfer_inference); 16-24 GB RAM"),
    ("SynthSeg", "32 regions, 1 mm", "2 min", "CPU, FreeSurfer wiki, SynthSeg"),
    ("SynthStrip", "brain mask only, 1 mm", "about 20 s",
     "CPU; ten times deepbet's 2 s, by Fisch et al. 2023 (arXiv 2308.07003)"),
)  # fmt: skip


def head_of_1_mm(ixi: Path, folder: Path) -> Path:
    """A held-out head, resampled to 1 mm, as a file."""
    scan = read_t1(ixi, unseen_subjects(ixi, 1)[0])
    fine = resample(scan, 1.0)
    path = folder / "head.nii.gz"
    write_clean(Scan(fine.voxels.round(), fine.affine), path)
    return path


def whole_way(path: Path, weights: Path, engine: str, kept: Path | None) -> dict[str, float]:
    """Seconds of each step in this process, and its peak memory in MB."""
    took: dict[str, float] = {}
    began = psutil.Process().create_time()  # so that every import counts

    def lap(step: str) -> None:
        nonlocal began
        took[step], began = time.time() - began, time.time()

    from imaging import check
    from imaging.encoder import region_tokens
    from imaging.engines import load_engine
    from imaging.prepare import prepare

    network = load_engine(weights, engine, kept)
    lap("start: imports and engine")
    scan = read_nifti(path)
    lap("read")
    prepared = prepare(scan)
    lap("prepare")
    found = segment(network, prepared)
    lap("segment")
    grade = check.check(scan, prepared, found)
    lap("grade")
    region_tokens(found, 70.0, "female", quality=grade.quality)
    lap("measure: volumes, centiles, tokens")
    took["total"] = sum(took.values())
    took["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return took


def engines(nets: "Networks", windows: list[np.ndarray]) -> dict[str, Callable[[], Engine]]:
    """Everything that can run the network here."""
    from imaging.graphs import onnx_engine, openvino_engine, torch_engine
    from imaging.network import Networks

    def plain(nets: Networks) -> Networks:
        return Networks(_plain(nets.whole), _plain(nets.close))

    return {
        "torch FP32": lambda: torch_engine(plain(nets), bfloat16=False),
        "torch FP32, channels last": lambda: torch_engine(nets, bfloat16=False),
        "torch bf16": lambda: torch_engine(plain(nets)),
        "torch bf16, channels last": lambda: torch_engine(nets),
        "ONNX Runtime FP32": lambda: onnx_engine(nets),
        "OpenVINO FP32": lambda: openvino_engine(nets, "f32"),
        "OpenVINO bf16": lambda: openvino_engine(nets),
        "OpenVINO INT8 (NNCF)": lambda: openvino_engine(
            nets, seeing=lambda model: to_int8(model, windows)
        ),
    }


def _plain(net: N) -> N:
    """The same network, its weights in torch's usual order."""
    other = type(net)(net.config)
    other.load_state_dict(net.state_dict())
    return other.eval()


def to_int8(model: Any, windows: list[np.ndarray]) -> Any:
    """An OpenVINO model quantized after training (NNCF), calibrated on some windows."""
    import nncf

    batches = [window[None, None] for window in windows]
    with contextlib.redirect_stdout(sys.stderr):  # its progress bars
        return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))


def training_windows(ixi: Path, n: int) -> list[np.ndarray]:
    """Windows of training subjects, to calibrate INT8 with."""
    from imaging.labelled import held_out, middle_of, read_pair

    train, _ = held_out(all_subjects(ixi))
    pairs = (read_pair(ixi, subject) for subject in train[:: max(1, len(train) // n)][:n])
    return [cut(scan.voxels, middle_of(labels), WINDOW) for scan, labels in pairs]


def compare(ixi: Path, n_subjects: int, weights: Path) -> None:
    """Print time a scan and Dice of every engine."""
    from imaging.labelled import dice_of, read_pair
    from imaging.network import Networks

    nets = Networks.load(weights)
    pairs = [read_pair(ixi, s) for s in unseen_subjects(ixi, n_subjects)]
    ready: dict[str, Engine] = {}
    loading: dict[str, float] = {}
    for name, load in engines(nets, training_windows(ixi, 12)).items():
        began = time.perf_counter()
        ready[name] = load()
        ready[name](np.zeros(WINDOW, np.float32))
        loading[name] = time.perf_counter() - began
    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(ROUNDS):  # in turn, so that a busy minute hits all alike
        for name, engine in ready.items():
            began = time.perf_counter()
            segment(engine, pairs[0][0])
            times[name].append(time.perf_counter() - began)
    slowest = statistics.median(times["torch FP32"])
    print(f"Network alone, on one prepared scan (median of {ROUNDS}, engines in turn), and mean")
    print(f"Dice over all regions of {len(pairs)} held-out IXI subjects.\n")
    print("| engine | ready after, s | seconds a scan | times as fast as torch FP32 | Dice |")
    print("|---|--:|--:|--:|--:|")
    for name, engine in ready.items():
        dice = np.nanmean([dice_of(segment(engine, scan).region_map, t) for scan, t in pairs])
        took = statistics.median(times[name])
        print(f"| {name} | {loading[name]:.1f} | {took:.2f} | {slowest / took:.1f} | {dice:.4f} |")


def fresh_processes(ixi: Path, weights: Path) -> None:
    """Print what a scan takes from the start of a process, with every engine, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        path = head_of_1_mm(ixi, Path(folder))
        shape = read_nifti(path).voxels.shape
        command = [sys.executable, "-m", "benchmarks.scan_speed", "--one", str(path)]
        command += ["--weights", str(weights)]
        runs: dict[str, list[dict[str, float]]] = {}
        for count in range(FRESH + 1):
            for name, (engine, kept) in FRESH_ENGINES.items():
                options = ["--engine", engine, *(["--kept", f"{folder}/engines"] if kept else [])]
                run = subprocess.run([*command, *options], check=True, capture_output=True)
                if count:  # the first run makes what is kept, and fills the disk's cache
                    runs.setdefault(name, []).append(json.loads(run.stdout))
    took = {
        name: {step: statistics.median(run[step] for run in of_one) for step in of_one[0]}
        for name, of_one in runs.items()
    }
    size, cores = " x ".join(map(str, shape)), len(psutil.Process().cpu_affinity() or ())
    print(f"One whole head of 1 mm ({size} voxels, .nii.gz), a fresh process on {cores} CPU cores,")
    print(f"median of {FRESH}, engines in turn. What is kept was exported before; it is loaded")
    print("without torch.\n")
    print(f"| seconds | {' | '.join(took)} |\n|---|{'--:|' * len(took)}")
    for step in next(iter(took.values())):
        digits = 0 if step == "peak MB" else 2
        print(
            f"| {step} | {' | '.join(f'{of_one[step]:.{digits}f}' for of_one in took.values())} |"
        )
    first = next(iter(took.values()))
    for step in ("total", "peak MB"):
        ratios = (f"{of_one[step] / first[step]:.2f}" for of_one in took.values())
        print(f"| {step}, ratio to the first | {' | '.join(ratios)} |")
    print()


def setting() -> str:
    """The machine and the versions."""
    packages = ("torch", "openvino", "onnxruntime", "numpy", "scipy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = os.getloadavg()[0]
    return f"{processor()}; {versions}. Load of the machine at the end: {load:.1f}."


def processor() -> str:
    """The processor, as Linux calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Print the steps, the engines, and what others have published."""
    parser = arguments(__doc__)
    parser.set_defaults(subjects=10)
    parser.add_argument("--one", type=Path, help="time one file in this process; print JSON")
    parser.add_argument("--engine", default="auto", help="of --one")
    parser.add_argument("--kept", type=Path, help="of --one: where exported engines are kept")
    args, _ = parser.parse_known_args()
    if args.one:
        print(json.dumps(whole_way(args.one, args.weights, args.engine, args.kept)))
        return
    fresh_processes(args.ixi, args.weights)
    compare(args.ixi, args.subjects, args.weights)
    print(f"\n{setting()}")
    print("\nPublished, on their authors' or users' machines, not run here:\n")
    print("| tool | what | time a scan | where and by whom |\n|---|---|--:|---|")
    for row in PUBLISHED:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
