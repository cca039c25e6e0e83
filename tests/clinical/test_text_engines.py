"""Every engine says what torch says, and INT8 is INT8 all the way down."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from decoders import KINDS, save_decoder
from transformers import BertConfig, BertModel

from clinical import text_engines
from clinical.text_engines import PRECISIONS, TextEngine, load_text_engine
from clinical.text_folder import EncoderError
from clinical.text_kernels import quantizes

SHA = "0" * 64
WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}  # no narrower than a group
LARGEST_LOSS = 0.005  # of the AUROC of a diagnosis, that a faster engine may cost
WORTH = 1.3  # times as fast must a lower precision be
COLUMNS = 10  # of the first table, besides the name
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "text_engines.md"
PER_LAYER = 7  # matrices: four of attention, three of the gated network


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of R1, stored in bfloat16 as R1 is."""
    folder = tmp_path_factory.mktemp("models") / "mini"
    return save_decoder(folder, dtype=torch.bfloat16, **WIDE)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engines of a site are kept."""
    return tmp_path_factory.mktemp("site") / "engines"


@pytest.fixture(scope="module")
def exact(decoder: Path) -> np.ndarray:
    """States of the batch by torch in single precision."""
    return load(decoder, "torch", "float32").states(*batch())


def load(folder: Path, engine: str, precision: str, **how: object) -> TextEngine:
    """An engine, skipped where its library is not installed."""
    needed = {"openvino": ["openvino", "nncf"], "onnx": ["onnxruntime", "onnx"], "torch": []}
    for name in needed[engine] + (["torchao"] if (engine, precision) == ("torch", "int8") else []):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    return load_text_engine(folder, SHA, engine=engine, precision=precision, **how)


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Three texts of different lengths."""
    ids = np.random.default_rng(0).integers(3, 250, (3, 21))
    return ids, np.arange(21) < np.array([[21], [5], [14]])


def cosines(states: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each present token."""
    a, b = states[batch()[1]], other[batch()[1]]
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


FLOATS = [
    (engine, precision)
    for engine, precisions in PRECISIONS.items()
    for precision in precisions
    if precision != "int8"
]


@pytest.mark.parametrize(("engine", "precision"), FLOATS)
def test_an_engine_says_what_torch_says(
    decoder: Path, kept: Path, exact: np.ndarray, engine: str, precision: str
) -> None:
    """Whatever the texts' lengths, token by token, and in the type that was asked for."""
    found = load(decoder, engine, precision, kept=kept)
    assert (found.name, found.precision) == (engine, precision)
    assert cosines(found.states(*batch()), exact).min() > (
        0.999999 if precision == "float32" else 0.9995
    )
    assert set(found.matrix_types()) == {precision}


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_int8_is_int8(decoder: Path, kept: Path, exact: np.ndarray, engine: str) -> None:
    """Each matrix of weights is multiplied in INT8, and the states stay near."""
    found = load(decoder, engine, "int8", kept=kept)
    types = found.matrix_types()
    assert types["int8"] == 2 * PER_LAYER
    assert set(types) == {"int8"} if engine == "openvino" else types["float32"] <= 2 * 2
    assert 0.97 < cosines(found.states(*batch()), exact).min() < 0.9999999


@pytest.mark.slow
def test_torch_int8_is_int8(decoder: Path, exact: np.ndarray) -> None:
    """Compiling takes most of a minute; a profile shows what runs then."""
    found = load(decoder, "torch", "int8")
    assert found.matrix_types() == {"int8": 2 * PER_LAYER}
    assert cosines(found.states(*batch()), exact).min() > 0.97


def test_int8_that_stays_float_does_not_pass_for_int8(tmp_path: Path) -> None:
    """OpenVINO leaves layers narrower than a group in floating point, and tells nobody."""
    narrow = save_decoder(tmp_path / "narrow", num_hidden_layers=1)
    types = load(narrow, "openvino", "int8").matrix_types()
    assert types == {"bfloat16": PER_LAYER}


def test_a_group_too_large_quantizes_nothing() -> None:
    """The experiment behind `matrix_types` tells one from the other."""
    pytest.importorskip("openvino")
    settings = text_engines.openvino_settings("int8")
    assert quantizes(256, tuple(settings.items()))
    too_large = settings | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(2**64 - 1)}
    assert not quantizes(256, tuple(too_large.items()))


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
@pytest.mark.parametrize("kind", [*KINDS, "bert"])
def test_every_architecture_is_exported(tmp_path: Path, kind: str, engine: str) -> None:
    """What is seen, and what is hidden, is the same as in torch."""
    if kind == "bert":
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        made = BertModel(BertConfig(vocab_size=250, num_attention_heads=4, **shape))
        made.save_pretrained(tmp_path / "mini")
    else:
        save_decoder(tmp_path / "mini", kind)
    expected = load(tmp_path / "mini", "torch", "float32").states(*batch())
    found = load(tmp_path / "mini", engine, "float32").states(*batch())
    np.testing.assert_allclose(found[batch()[1]], expected[batch()[1]], atol=2e-4)


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnx"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_later_word_changes_an_earlier_state_unless_causal(
    decoder: Path, engine: str, causal: bool
) -> None:
    """The exported graph keeps the mask it was made with."""
    found = load(decoder, engine, "float32", causal=causal)
    ids = np.arange(3, 15)[None].repeat(2, axis=0)
    ids[1, -1] = 99
    first, second = found.states(ids, np.ones_like(ids, dtype=np.bool_))[:, :-1]
    assert np.allclose(first, second, atol=1e-5) == causal


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_what_was_kept_runs_without_torch(decoder: Path, kept: Path, engine: str) -> None:
    """A review must not wait for libraries that only train."""
    load(decoder, engine, "float32", kept=kept)
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from clinical.text_engines import load_text_engine\n"
        f"found = load_text_engine(Path({str(decoder)!r}), {SHA!r}, engine={engine!r},"
        f" precision='float32', kept=Path({str(kept)!r}))\n"
        "ids = np.ones((1, 4), dtype=np.int64)\n"
        "assert found.states(ids, ids > 0).shape == (1, 4, 128)\n"
        "assert not {'torch', 'transformers', 'nncf', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_export_is_made_once_and_again_if_a_file_is_cut_short(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a killed process leaves nothing that a later start would trust."""
    made: list[str] = []
    export = text_engines._export

    def counted(folder: Path, engine: str, precision: str, out: Path, *, causal: bool) -> None:
        made.append(precision)
        export(folder, engine, precision, out, causal=causal)

    monkeypatch.setattr(text_engines, "_export", counted)
    for precision in ("float32", "float32", "bfloat16"):
        load(decoder, "openvino", precision, kept=tmp_path)
    assert made == ["float32"]  # bfloat16 computes with the same file
    (place,) = tmp_path.iterdir()
    (place / "text.bin").write_bytes(b"half")
    load(decoder, "openvino", "float32", kept=tmp_path)
    assert made == ["float32"] * 2
    load(decoder, "openvino", "float32", kept=tmp_path, causal=True)
    assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_damaged_file_is_named_with_what_to_do(
    decoder: Path, tmp_path: Path, engine: str
) -> None:
    """As long as it was, and yet not what it was."""
    load(decoder, engine, "float32", kept=tmp_path)
    (place,) = tmp_path.iterdir()
    graph = place / ("text.xml" if engine == "openvino" else "text.onnx")
    graph.write_bytes(b"?" * graph.stat().st_size)
    with pytest.raises(EncoderError, match=f"{place.name}.*delete the folder"):
        load(decoder, engine, "float32", kept=tmp_path)


def test_a_failed_export_leaves_nothing_behind(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it hide why it failed."""

    def fail(folder: Path, engine: str, precision: str, out: Path, *, causal: bool) -> None:
        (out / "text.bin").write_bytes(b"part")
        raise OSError("no space left")

    monkeypatch.setattr(text_engines, "_export", fail)
    with pytest.raises(OSError, match="no space left"):
        load(decoder, "openvino", "float32", kept=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "model", "expected"),
    [
        ({"avx512_vnni", "avx512_bf16"}, "qwen2", "int8"),
        ({"avx_vnni"}, "qwen2", "int8"),
        ({"avx512_bf16"}, "qwen2", "bfloat16"),
        ({"avx2"}, "qwen2", "float32"),
        ({"avx512_vnni", "avx512_bf16"}, "bert", "bfloat16"),
        ({"avx2"}, "bert", "float32"),
    ],
)
def test_auto_takes_what_the_processor_multiplies(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], model: str, expected: str
) -> None:
    """On a processor without INT8 or bfloat16, they would be slower than what they replace."""
    monkeypatch.setattr(text_engines, "_processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(text_engines, "_has_gpu", lambda: False)
    assert text_engines._choose_precision("openvino", {"model_type": model}) == expected


def test_auto_is_torch_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO has no package for every processor."""
    monkeypatch.setattr(text_engines, "_has_gpu", lambda: False)
    assert text_engines._choose_engine("auto") == "openvino"
    monkeypatch.setattr(text_engines, "find_spec", lambda name: None if name == "openvino" else 1)
    assert text_engines._choose_engine("auto") == "torch"
    with pytest.raises(EncoderError, match="pip install openvino"):
        text_engines._choose_engine("openvino")


def test_a_precision_that_an_engine_lacks_is_refused_with_those_it_has(decoder: Path) -> None:
    """The message says what to choose."""
    with pytest.raises(EncoderError, match="float32, int8"):
        load_text_engine(decoder, SHA, engine="onnx", precision="float16")
    with pytest.raises(EncoderError, match="openvino, onnx, torch"):
        load_text_engine(decoder, SHA, engine="tensorrt")
    assert json.loads((decoder / "config.json").read_text())["model_type"] == "qwen2"


def rows_of(section: str) -> dict[str, list[str]]:
    """Cells of each row of the tables of a section, by the first cell."""
    if not RESULTS.exists():
        pytest.skip("no results yet; run: python -m benchmarks text_engines")
    brief, *_ = RESULTS.read_text().partition("<!-- more -->")
    part = brief.partition(f"\n{section}")[2].partition("\nThe stand-in,")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    found: dict[str, list[str]] = {}
    for first, *rest in lines:
        found.setdefault(first, []).extend(rest)
    return found


def decided(rows: dict[str, list[str]]) -> tuple[str, str]:
    """Engine and precision that a table speaks for.

    The engine is that of the fastest row; a lower precision of it must be `WORTH` times as fast as
    the higher one, since its vectors are others, and cost no diagnosis `LARGEST_LOSS` of AUROC.
    """
    speeds = {tuple(n.split()): float(cells[1]) for n, cells in rows.items()}
    engine, _ = max(speeds, key=lambda pair: speeds[pair])
    chosen = "float32"
    for precision in ("bfloat16", "int8"):
        cells = rows[f"{engine} {precision}"]
        lost = float(cells[-1]) if len(cells) > COLUMNS else 0.0  # R1 has no second table
        faster = speeds[engine, precision] / speeds[engine, chosen]
        if faster >= WORTH and lost <= LARGEST_LOSS:
            chosen = precision
    return engine, chosen


@pytest.mark.parametrize(("section", "kind"), [("R1", "decoder"), ("The stand-in", "small")])
def test_auto_is_what_the_table_speaks_for(section: str, kind: str) -> None:
    """The default follows from what was measured, and from nothing else."""
    rows = {n: cells for n, cells in rows_of(section).items() if n.split()[0] in PRECISIONS}
    engine = text_engines.FASTEST[0]
    assert decided(rows) == (engine, text_engines.AUTO[engine, kind][0])
