"""Engines of the text encoder: tokens/s, latency, memory, and what reduced precision costs.

Two models: the architecture of DeepSeek-R1-Distill-Qwen-1.5B with random weights in bfloat16, since
its own cannot be had here, and the stand-in. Each row is measured in a process of its own, and what
it exports is exported in another. Best of several rounds, since whatever else runs on the machine
can only slow one down; the ratio of the core time that a token took holds on a busy machine too,
and the cores that a row got are printed beside it.

    python -m benchmarks text_engines                       all
    python -m benchmarks text_engines --only "r1 openvino"  some again, the rest as it was
    python -m benchmarks text_engines --lock FILE           waits for FILE's lock before each row
"""

import argparse
import contextlib
import fcntl
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SITES = [ROOT / "runs" / "test_sites" / name for name in ("north", "river", "harbour")]
MODEL = ROOT / "sample_data" / "model"
ROWS = [
    ("torch", "float32"), ("openvino", "int8"), ("openvino", "bfloat16"), ("torch", "bfloat16"),
    ("torch", "int8"), ("openvino", "float32"), ("onnx", "float32"), ("onnx", "int8"),
]  # fmt: skip
MODELS = ("stand-in", "r1")
R1 = {
    "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 131072,
    "rope_theta": 10000, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
}  # fmt: skip
LONG, SENTENCE, CHUNK = 512, 24, 128  # tokens: throughput; a sentence; about 512 characters
BATCH_TOKENS = {"stand-in": 16384, "r1": 2048}  # of the notes' chunks, for the dynamic batches
LIMIT_S = 600  # of one step of one row
ROUNDS, SECONDS = 3, 2.0  # at least so many, and for so long
COMPARED = 6  # chunks whose states are held against FP32's
Arrays = tuple[np.ndarray, np.ndarray]


def folder_of(model: str, scratch: Path) -> Path:
    """Where the model lies; R1's shape is made once, with random weights."""
    from clinical.text_folder import stand_in_folder

    if model == "stand-in":
        return stand_in_folder()
    folder = scratch / "r1"
    if not (folder / "model.safetensors").exists():
        import torch
        from transformers import AutoModel, Qwen2Config

        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        AutoModel.from_config(Qwen2Config(**R1)).save_pretrained(folder, max_shard_size="10GB")
        torch.set_default_dtype(torch.float32)
    return folder


def engine_of(model: str, engine: str, precision: str, scratch: Path) -> Any:
    """The engine of a row; its files are kept in the scratch folder."""
    from clinical.text_engines import load_text_engine
    from clinical.text_folder import STAND_IN_SHA256

    sha256 = STAND_IN_SHA256 if model == "stand-in" else "random weights, seed 0"
    return load_text_engine(
        folder_of(model, scratch), sha256, engine=engine, precision=precision,
        kept=scratch / "kept",
    )  # fmt: skip


def chunk_ids(model: str) -> list[np.ndarray]:
    """Token ids of the chunks of the sample notes; R1 has random ones of the same lengths."""
    from clinical.notes import chunks
    from clinical.text_folder import stand_in_folder
    from clinical.text_model import load_tokenizer
    from fusion.store import Site

    tokenizer = load_tokenizer(stand_in_folder(), LONG)
    site = Site.open(SITES[0])
    rng = np.random.default_rng(0)
    found: list[np.ndarray] = []
    for row in site.cases():
        for note in site.record(row.case_id).notes:
            texts = [note.text[start:end] for start, end in chunks(note.text)]
            found += [np.array(e.ids, dtype=np.int64) for e in tokenizer.encode_batch(texts)]
        if sum(map(len, found)) > BATCH_TOKENS[model]:
            break
    if model == "r1":
        found = [rng.integers(5, 150_000, len(ids)) for ids in found]
    return found


def dynamic_batches(found: Sequence[np.ndarray]) -> list[Arrays]:
    """Padded as the encoder pads them."""
    from clinical.text_encoder import batches

    made = []
    for rows in batches([len(ids) for ids in found]):
        length = max(len(found[row]) for row in rows)
        ids, present = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), bool)
        for n, row in enumerate(rows):
            ids[n, : len(found[row])], present[n, : len(found[row])] = found[row], True
        made.append((ids, present))
    return made


def best(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest round, after one that is not timed.

    Args:
        run: What to time.
        clock: `time.process_time` counts what all cores did for this process, which holds on a
            machine that is busy with other things as well.
    """
    run()
    taken: list[float] = []
    while len(taken) < ROUNDS or (sum(taken) < SECONDS and len(taken) < 50):
        began = clock()
        run()
        taken.append(clock() - began)
    return min(taken)


def peak_mb() -> float:
    """Of this process, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(model: str, engine: str, precision: str, scratch: Path) -> dict[str, Any]:
    """Export, in this process: seconds and peak memory."""
    import clinical.text_export  # noqa: F401  # so that imports do not count

    folder_of(model, scratch)
    began = time.perf_counter()
    engine_of(model, engine, precision, scratch)
    return {"export s": time.perf_counter() - began, "export peak MB": peak_mb()}


def measure(model: str, engine: str, precision: str, scratch: Path) -> dict[str, Any]:
    """Everything about one row, in this process."""
    chosen = chunk_ids(model)
    began, used = time.perf_counter(), time.process_time()
    ready = engine_of(model, engine, precision, scratch)
    loaded = time.perf_counter() - began
    rng = np.random.default_rng(1)

    def one(length: int) -> Arrays:
        return rng.integers(5, 20_000, (1, length)), np.ones((1, length), bool)

    long, sentence, chunk = one(LONG), one(SENTENCE), one(CHUNK)
    began_first = time.perf_counter()
    ready.states(*sentence)
    first = time.perf_counter() - began_first
    batches = dynamic_batches(chosen)
    found: dict[str, Any] = {
        "load s": loaded,
        "first s": first,
        "core ms a token": 1e3 * best(lambda: ready.states(*long), time.process_time) / LONG,
        "tokens/s": LONG / best(lambda: ready.states(*long)),
        "sentence ms": 1e3 * best(lambda: ready.states(*sentence)),
        "chunk ms": 1e3 * best(lambda: ready.states(*chunk)),
    }
    for ids, present in batches:  # each length once, which compiles where that is done
        ready.states(ids, present)
    began_all = time.perf_counter()
    for ids, present in batches:
        ready.states(ids, present)
    found["batch tokens/s"] = sum(map(len, chosen)) / (time.perf_counter() - began_all)
    found["peak MB"] = peak_mb()
    found["cores"] = (time.process_time() - used) / (time.perf_counter() - began)
    found |= nearness(model, engine, precision, ready, chosen[:COMPARED], scratch)
    found["ran"] = dict(ready.matrix_types())
    found["MB"] = kept_mb(model, engine, precision, scratch)
    return found


def kept_mb(model: str, engine: str, precision: str, scratch: Path) -> float:
    """Size of the files that are loaded."""
    if engine == "torch":
        return (folder_of(model, scratch) / "model.safetensors").stat().st_size / 2**20
    made_as = "int8" if precision == "int8" else "float"
    for about in (scratch / "kept").glob("*/engine.json"):
        said = json.loads(about.read_text())
        sha = "random" if model == "r1" else "53aa"
        if f"|{engine}|{made_as}|" in said["made"] and sha in said["made"]:
            return sum(said["bytes"].values()) / 2**20
    return 0.0


def nearness(
    model: str, engine: str, precision: str, ready: Any, chosen: list[np.ndarray], scratch: Path
) -> dict[str, float]:
    """Cosine of tokens, and of means over a sentence's length, to those of FP32 in torch."""
    states = [ready.states(ids[None], np.ones((1, len(ids)), bool))[0] for ids in chosen]
    kept = scratch / f"{model}.npz"
    if (engine, precision) == ROWS[0]:
        np.savez(kept, *states)
    with np.load(kept) as exact:
        pairs = [(state, exact[name]) for state, name in zip(states, exact.files, strict=True)]
    tokens = np.concatenate([cosine(a, b) for a, b in pairs])
    sentences = np.concatenate([cosine(pooled(a), pooled(b)) for a, b in pairs])
    return {
        "token cosine": float(tokens.mean()),
        "lowest token cosine": float(tokens.min()),
        "sentence cosine": float(sentences.mean()),
    }


def pooled(states: np.ndarray) -> np.ndarray:
    """Means over runs of a sentence's length."""
    return np.stack([part.mean(axis=0) for part in np.split(
        states, range(SENTENCE, len(states), SENTENCE))])  # fmt: skip


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / lengths)


def auroc(engine: str, precision: str, scratch: Path) -> list[float | None]:
    """Of each diagnosis: the sample model on the second cohort, its words encoded by this row."""
    from clinical.diagnoses import load_scheme
    from clinical.lab_encoder import history_tokens
    from clinical.text_encoder import load_text_encoder
    from fusion.checkpoint import load
    from fusion.evaluate import evaluate
    from fusion.store import Site

    scheme, checkpoint = load_scheme(), load(MODEL)
    encoder = load_text_encoder(engine=engine, precision=precision, kept=scratch / "kept")
    cases = []
    for site in map(Site.open, SITES):
        for case in site.training_cases(scheme):
            record = site.record(case.case_id)
            words = {
                "notes": encoder.note_tokens(record.notes),
                "history": history_tokens(record, encoder, exclude=scheme.codes),
            }
            new = {m: tokens for m, tokens in words.items() if tokens is not None}
            cases.append(replace(case, tokens={**case.tokens, **new}))
    found = evaluate(checkpoint.model, checkpoint.calibrator, cases, scheme, resamples=2)
    return [score.auroc for score in found.labels]


def score(_model: str, engine: str, precision: str, scratch: Path) -> dict[str, Any]:
    """What the diagnoses come to, in this process."""
    return {"auroc": auroc(engine, precision, scratch)}


def roofline() -> dict[str, float]:
    """What the machine can do: multiplications of R1's own shape, and copying."""
    import torch

    a, b = torch.randn(LONG, 1536), torch.randn(8960, 1536)
    work = 2 * LONG * 1536 * 8960 / 1e9
    small, other = (torch.randint(-90, 90, x.shape, dtype=torch.int8) for x in (a, b))
    bf = a.bfloat16(), b.bfloat16()
    source = torch.ones(2**27)
    into = torch.empty_like(source)
    return {
        "float32": work / best(lambda: a @ b.T),
        "bfloat16": work / best(lambda: bf[0] @ bf[1].T),
        "int8": work / best(lambda: torch._int_mm(small, other.T)),
        "GB/s": 2 * source.nbytes / 1e9 / best(lambda: into.copy_(source)),
    }


def matrix_weights(model: str, scratch: Path) -> int:
    """How many numbers each token is multiplied by: all matrices but the tables of embeddings."""
    from safetensors import safe_open

    with safe_open(folder_of(model, scratch) / "model.safetensors", "np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return sum(
        int(np.prod(shape)) for name, shape in shapes.items()
        if len(shape) == 2 and "embed" not in name and "pooler" not in name
    )  # fmt: skip


@contextlib.contextmanager
def alone(lock: Path | None) -> Iterator[None]:
    """Hold the lock that others wait for, if there is one."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def in_own_process(step: str, row: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    """Run one step of a row; a failure is a result."""
    command = [sys.executable, "-m", "benchmarks.text_engines", "--step", step, *row]
    command += ["--scratch", str(args.scratch)]
    with alone(args.lock):
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"{step}: not in {LIMIT_S} s"}
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"{why} (exit code {done.returncode})"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def collect(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """All rows; those that were measured before unless they are asked for."""
    kept = args.scratch / "rows.json"
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    if "roofline" not in rows or not args.only:
        rows["roofline"] = in_own_process("roofline", (), args)
    for model in args.models:
        for engine, precision in ROWS:
            name = f"{model} {engine} {precision}"
            if (args.only and not any(part in name for part in args.only)) or (
                args.resume and "tokens/s" in rows.get(name, {})
            ):
                continue
            print(name, file=sys.stderr, flush=True)
            row = (model, engine, precision)
            made = {} if engine == "torch" else in_own_process("prepare", row, args)
            if made.get("export s", 1e9) < rows.get(name, {}).get("export s", 0):
                made = {key: rows[name][key] for key in made}  # it was kept: that took longer
            found = made if "failed" in made else in_own_process("measure", row, args)
            scored = in_own_process("score", row, args) if model == "stand-in" else {}
            if "failed" in scored:
                scored = {"not scored": scored["failed"]}
            rows[name] = {**made, **found, **scored}
            kept.write_text(json.dumps(rows, indent=1))
    return dict(rows)


def speeds(model: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print what a user notices of each engine of one model."""
    mine, failed = measured(model, rows)
    if ROWS[0] not in mine:
        print("not measured: the row of FP32 in torch is missing")
        return
    exact = mine[ROWS[0]]
    print(
        "| engine | tokens/s | times FP32 | one sentence, ms | latency saved | one chunk, ms | "
        "batches, tokens/s | token cosine, mean (lowest) | MB file | MB peak | load s |\n|---|"
        + "--:|"
        * 10
    )
    for (engine, precision), row in mine.items():
        cells = [
            f"{engine} {precision}", f"{row['tokens/s']:.0f}",
            f"{row['tokens/s'] / exact['tokens/s']:.2f}", f"{row['sentence ms']:.1f}",
            f"{1 - row['sentence ms'] / exact['sentence ms']:.0%}", f"{row['chunk ms']:.1f}",
            f"{row['batch tokens/s']:.0f}",
            f"{row['token cosine']:.4f} ({row['lowest token cosine']:.4f})",
            f"{row['MB']:.0f}", f"{row['peak MB']:.0f}", f"{row['load s'] + row['first s']:.1f}",
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")
    if failed:
        names = ", ".join(" ".join(pair) for pair in failed)
        print(f"\nWithout a result, see the details: {names}.")


def details(model: str, rows: dict[str, dict[str, Any]], weights: int) -> None:
    """Print what each engine of one model really did."""
    mine, failed = measured(model, rows)
    exact, can = mine.get(ROWS[0]), rows["roofline"]
    if exact is None:
        return
    print(
        "| engine | multiplications that ran | times FP32 by core time | sentence cosine | "
        "share of GEMM | share of bandwidth | export s | MB export | cores got |\n|---|---|"
        + "--:|"
        * 7
    )
    for (engine, precision), row in mine.items():
        width = {"float32": 4, "bfloat16": 2, "int8": 1}[precision]
        cells = [
            f"{engine} {precision}",
            ", ".join(f"{n} {kind}" for kind, n in sorted(row["ran"].items())),
            f"{exact['core ms a token'] / row['core ms a token']:.2f}",
            f"{row['sentence cosine']:.4f}",
            f"{row['tokens/s'] * 2 * weights / 1e9 / can[precision]:.0%}",
            f"{weights * width / 1e6 / row['sentence ms'] / can['GB/s']:.0%}",
            f"{row['export s']:.0f}" if "export s" in row else "-",
            f"{row['export peak MB']:.0f}" if "export peak MB" in row else "-",
            f"{row['cores']:.1f}",
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")
    for (engine, precision), why in failed.items():
        print(f"\n{engine} {precision}: {why.strip()}")


Measured = dict[tuple[str, str], dict[str, Any]]


def measured(model: str, rows: dict[str, dict[str, Any]]) -> tuple[Measured, dict[Any, str]]:
    """The rows of one model that were measured, and why others were not."""
    names = {pair: f"{model} {' '.join(pair)}" for pair in ROWS}
    there = {pair: rows[name] for pair, name in names.items() if name in rows}
    failed = {pair: row["failed"] for pair, row in there.items() if "failed" in row}
    return {pair: row for pair, row in there.items() if pair not in failed}, failed


def auroc_table(rows: dict[str, dict[str, Any]]) -> None:
    """Print what the diagnoses lose."""
    exact = rows.get("stand-in torch float32", {}).get("auroc")
    if exact is None:
        print("\nAUROC was not measured.")
        return
    print("\n| stand-in by | mean AUROC | mean change | largest loss of a diagnosis |")
    print("|---|--:|--:|--:|")
    for engine, precision in ROWS:
        scores = rows.get(f"stand-in {engine} {precision}", {}).get("auroc")
        if scores is None:
            continue
        pairs = [(a, b) for a, b in zip(scores, exact, strict=True) if a is not None]
        change = [a - b for a, b in pairs]
        print(
            f"| {engine} {precision} | {np.mean([a for a, _ in pairs]):.4f} "
            f"| {np.mean(change):+.4f} | {max(0.0, -min(change)):.4f} |"
        )


def report(rows: dict[str, dict[str, Any]], args: argparse.Namespace) -> None:
    """Print everything."""
    can = rows["roofline"]
    names = ("torch", "transformers", "openvino", "nncf", "onnxruntime", "torchao")
    print(
        f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores; "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + ". Best of several rounds.\n"
    )
    print(
        f"The machine: {can['float32']:.0f} GFLOP/s in FP32, {can['bfloat16']:.0f} in bf16 "
        f"(`torch.mm`), {can['int8']:.0f} GOP/s in INT8 (`torch._int_mm`), at R1's shape of "
        f"{LONG} x 1536 x 8960; {can['GB/s']:.1f} GB/s copying. The share of bandwidth counts the "
        f"weights once a sentence of {SENTENCE} tokens. A share above 100 % says that an engine's "
        f"own kernels are better than torch's.\n"
    )
    titles = {
        "r1": "R1-Distill-Qwen-1.5B's architecture, random weights",
        "stand-in": "The stand-in, all-MiniLM-L6-v2",
    }
    for model, title in titles.items():
        print(f"{title}:\n")
        speeds(model, rows)
        print()
    print(
        "Random weights have no outlying channels; real ones do, and lose more by INT8: R1's "
        "cosines are the best that can be hoped for, to be measured again with real weights. "
        "No AUROC is given for it: states of random weights say nothing about a diagnosis."
    )
    auroc_table(rows)
    print("\nThe sample model on the second synthetic cohort, its words encoded by each.")
    print("\n<!-- more -->")
    for model, title in titles.items():
        print(f"\n{title}, in detail:\n")
        details(model, rows, matrix_weights(model, args.scratch))


def main() -> None:
    """Measure what is asked for and print all there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="rows whose name holds one of these")
    parser.add_argument("--resume", action="store_true", help="keep the rows there are")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--scratch", type=Path, default=ROOT / "runs" / "text_engines")
    parser.add_argument("--lock", type=Path, help="a file to be locked for each row")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    args, _ = parser.parse_known_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    if args.step:
        name, *row = args.step
        steps = {"prepare": prepare, "measure": measure, "score": score}
        found = roofline() if name == "roofline" else steps[name](*row, args.scratch)
        print(json.dumps(found))
        return
    if not all(folder.exists() for folder in SITES):
        print("The second synthetic cohort is not here: the benchmark was skipped.")
        return
    report(collect(args), args)


if __name__ == "__main__":
    main()
