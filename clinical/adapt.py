"""Teach a decoder the language of one hospital: low-rank adapters, learnt on its own notes.

The objective is masked next token prediction, as in LLM2Vec: a token is blanked out and predicted
from the state before it, with every other token in sight. A decoder was trained to read from left
to right and is used here in both directions; this objective teaches it that and the hospital's
words at once. (A contrastive objective would take the sentences that physicians copy from note to
note for different ones, and these decoders have no dropout to make two views of a sentence.)

The base weights stay as they are. The result is a folder of its own, adapters merged in, which
`clinical.text_encoder.load_text_encoder` takes like any other; the adapters alone lie beside them
in ``adapter/``. What was learnt from notes can be asked for: keep the folder as safe as the notes.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from clinical.adapters import (
    STATE,
    AdaptConfig,
    AdaptError,
    Learning,
    Lessons,
    Progress,
    with_adapters,
)
from clinical.notes import chunks
from clinical.text_folder import find_folder, model_name, read_settings, weights_sha256
from clinical.text_model import load_tokenizer

BLANK = "_"  # stands for a token that is to be predicted; every vocabulary has it
COPIED = re.compile(
    r"(tokenizer.*|special_tokens_map|added_tokens|vocab|chat_template)\.(json|jinja)"
    r"|merges\.txt|(README|LICENSE|NOTICE)(\.\w+)?"
)


def adapt(
    folder: Path,
    texts: Mapping[str, Sequence[str]],
    out: Path,
    config: AdaptConfig | None = None,
) -> Progress:
    """Learn adapters on notes and write the folder of the adapted encoder.

    Interrupted, it leaves what it has in a folder beside `out`, and the same call goes on there.

    Args:
        folder: Of a decoder with its head, or its name in the local cache, as
            `load_text_encoder` takes it; only read.
        texts: Notes by patient, without identifiers: notes held out are of other patients.
        out: Folder to make.
        config: How to learn.

    Returns:
        How the losses went; `out` has the adapters of the best epoch.

    Raises:
        AdaptError: There is an `out` already, there are too few notes, the progress beside `out`
            is of something else, or nothing was learnt.
        clinical.text_folder.EncoderError: `folder` cannot be used.
        KeyboardInterrupt: It was interrupted.
    """
    config = config or AdaptConfig()
    if out.exists():
        raise AdaptError(f"{out} is there already; give another folder or remove it")
    folder = find_folder(folder)
    base = weights_sha256(folder)
    lessons = lessons_of(folder, texts, config)
    model = with_adapters(folder, config)
    unfinished = out.with_name(f"{out.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    unfinished.chmod(0o700)
    learning = Learning(model, lessons, config, unfinished / STATE, _key(base, texts, config))
    learning.run()
    _write(model, folder, unfinished, learning.progress, base, lessons, config)
    shutil.move(unfinished / "merged", out)
    shutil.rmtree(unfinished)
    return learning.progress


def lessons_of(folder: Path, texts: Mapping[str, Sequence[str]], config: AdaptConfig) -> Lessons:
    """Cut notes into chunks and share the patients out.

    Raises:
        AdaptError: Not both parts have a note, or the tokenizer has no blank.
    """
    settings = read_settings(folder, decoder=True)
    tokenizer = load_tokenizer(folder, settings["max_position_embeddings"])
    blank = tokenizer.token_to_id(BLANK)
    if blank is None:
        raise AdaptError(
            f"the tokenizer of {model_name(folder)} has no token {BLANK!r} to blank out with"
        )
    patients = [patient for patient, notes in texts.items() if any(notes)]
    patients.sort(key=lambda p: hashlib.sha256(f"{config.seed}{p}".encode()).digest())
    n = max(1, round(len(patients) * config.held_out))
    held_out, train = (
        _chunk_ids(tokenizer, [text for patient in part for text in texts[patient]])
        for part in (patients[:n], patients[n:])
    )
    if not held_out or not train:
        raise AdaptError(
            f"{len(patients)} patients with notes are too few: some are held out to measure by"
        )
    return Lessons(
        _batched(train, config.token_budget),
        _batched(held_out, config.token_budget),
        len(patients),
        blank,
    )


def _chunk_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of every chunk of some notes; a note that was kept twice is read once."""
    cut = [text[start:end] for text in dict.fromkeys(texts) for start, end in chunks(text)]
    return [e.ids for e in tokenizer.encode_batch(cut) if len(e.ids) > 1]


def _batched(rows: Sequence[list[int]], budget: int) -> tuple[tuple[list[int], ...], ...]:
    """Rows of similar length together, within a budget of padded tokens."""
    batches: list[tuple[list[int], ...]] = []
    for ids in sorted(rows, key=len):
        if batches and len(ids) * (len(batches[-1]) + 1) <= budget:
            batches[-1] = (*batches[-1], ids)
        else:
            batches.append((ids,))
    return tuple(batches)


def _key(base: str, texts: Mapping[str, Sequence[str]], config: AdaptConfig) -> str:
    """What an adaptation depends on, as a hash."""
    whole = json.dumps([base, sorted((p, list(t)) for p, t in texts.items()), asdict(config)])
    return hashlib.sha256(whole.encode()).hexdigest()


def _write(
    model: Any,
    folder: Path,
    unfinished: Path,
    progress: Progress,
    base: str,
    lessons: Lessons,
    config: AdaptConfig,
) -> None:
    """Write adapters, merged weights, tokenizer and what was done."""
    merged = unfinished / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(mode=0o700)
    model.save_pretrained(merged / "adapter", save_embedding_layers=False)
    (merged / "adapter" / "README.md").unlink(missing_ok=True)  # peft's, an empty form
    model.merge_and_unload(safe_merge=True).save_pretrained(merged)
    for file in sorted(folder.iterdir()):
        if COPIED.fullmatch(file.name):
            shutil.copyfile(file, merged / file.name)
    done = {
        "base": model_name(folder),
        "base_sha256": base,
        "objective": "masked next token prediction",
        "settings": asdict(config),
        "patients": lessons.n_patients,
        "held_out_loss": progress.held_out_loss,
        "best_epoch": progress.best_epoch,
    }
    (merged / "adapted.json").write_text(json.dumps(done, indent=1) + "\n")
