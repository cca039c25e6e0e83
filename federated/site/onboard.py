"""Before a hospital switches anything on: how a model does on its own cases, at home.

Nothing here opens a connection, and Flower is not imported. What is found is kept in the site's
folder, and is the hospital's to share or not.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from federated.errors import FederationError
from federated.files import private_folder, write_whole
from federated.site.local_scores import (
    FITTED,
    SMALLEST,
    Bin,
    Prevalence,
    Subgroup,
    Suggestion,
    Threshold,
    answers_of,
    prevalence,
    reliability,
    subgroups,
    suggestion,
    thresholds,
)
from fusion.case import Case
from fusion.checkpoint import Checkpoint, load
from fusion.drift import DIFFERS, PROFILE, UNSAID, Drift, compare
from fusion.evaluate import Evaluation, evaluate
from fusion.store import CaseRow, Site

FOLDER = "onboarding"  # in the site's folder
TEXT, DATA = "report.md", "report.json"


@dataclass(frozen=True)
class Onboarding:
    """What a hospital should know of a model before it uses it.

    Attributes:
        site: What the hospital calls itself.
        model: What the model was trained on, by its card.
        n_cases: Cases with evidence, whose scan is nobody else's.
        evaluation: AUROC and calibration by diagnosis; None where no diagnosis is known.
        prevalence: How many have each diagnosis, and how many the model expects.
        reliability: What was stated and what was true.
        thresholds: For a specificity.
        subgroups: By sex, age and evidence.
        hidden: Subgroups too small to be shown.
        suggestion: Temperatures of the site's own; None where there are too few cases.
        drift: The site's cases beside those of the training; None where the card says nothing.
        unsaid: In words, what these cases cannot say.
    """

    site: str
    model: str
    n_cases: int
    evaluation: Evaluation | None
    prevalence: tuple[Prevalence, ...]
    reliability: tuple[Bin, ...]
    thresholds: tuple[Threshold, ...]
    subgroups: tuple[Subgroup, ...]
    hidden: int
    suggestion: Suggestion | None
    drift: tuple[Drift, ...] | None
    unsaid: tuple[str, ...]

    @property
    def n_known(self) -> int:
        """Cases with a known diagnosis."""
        return self.evaluation.n if self.evaluation else 0


def onboard(folder: Path, model: Path, *, seed: int = 0) -> Onboarding:
    """Score a model on a site's cases, none of which it may have been trained on.

    Args:
        folder: The site's.
        model: A model folder.
        seed: Of the bootstrap.

    Raises:
        FederationError: No case is prepared, several encoders made the evidence, or the model
            diagnoses something else.
        fusion.network.CheckpointError: The model cannot be used with the site's evidence.
        fusion.store.SiteError: The folder is no site.
    """
    site = Site.open(folder)
    rows = {row.case_id: row for row in site.cases() if row.modalities and not row.is_blocked}
    checkpoint = load(model, _encoder(site, rows))
    if checkpoint.scheme != site.scheme:
        raise FederationError(f"{model} diagnoses something else than {folder}")
    cases = [site.case(case_id, site.scheme) for case_id in sorted(rows)]
    known = [case for case in cases if case.labels is not None]
    told = checkpoint.card.notes.get(PROFILE)
    return _found(
        site.name, checkpoint, known, rows, len(cases),
        compare(told, cases) if isinstance(told, Mapping) else None, seed,
    )  # fmt: skip


def _encoder(site: Site, rows: Mapping[str, CaseRow]) -> str:
    """SHA-256 of the encoder that made the site's evidence.

    Raises:
        FederationError: There is none, or several.
    """
    found = Counter(site.tokens_encoder(case_id) for case_id in rows)
    if len(found) != 1 or None in found:
        raise FederationError(
            f"{site.folder}: {'no case is' if not found else 'not all cases are'} prepared by one "
            f"text encoder of this version; run `consilium import {site.folder}`"
        )
    return str(next(iter(found)))


def _found(
    name: str,
    checkpoint: Checkpoint,
    known: list[Case],
    rows: Mapping[str, CaseRow],
    n_cases: int,
    drift: tuple[Drift, ...] | None,
    seed: int,
) -> Onboarding:
    """Everything that the cases can say."""
    scheme, trained_on = checkpoint.scheme, checkpoint.card.trained_on
    if not known:
        nothing = ("no case has a known diagnosis: how good the model is here is unknown",)
        unsaid = (*nothing, *_unsaid_drift(drift))
        return Onboarding(
            name, trained_on, n_cases, None, (), (), (), (), 0, None, drift, unsaid
        )  # fmt: skip
    scored = evaluate(checkpoint.model, checkpoint.calibrator, known, scheme, seed=seed)
    answers = answers_of(checkpoint.model, checkpoint.calibrator, known)
    sexes = [rows[case.case_id].sex for case in known]
    ages = [rows[case.case_id].age_years for case in known]
    groups, hidden = subgroups(answers, sexes, ages, seed=seed)
    limits = thresholds(answers, scheme)
    suggested = suggestion(answers, checkpoint.calibrator, scheme)
    unsaid = (*_unsaid(scored, limits, suggested, hidden), *_unsaid_drift(drift))
    return Onboarding(
        name, trained_on, n_cases, scored, prevalence(answers, scheme), reliability(answers),
        limits, groups, hidden, suggested, drift, unsaid,
    )  # fmt: skip


def _unsaid(
    scored: Evaluation,
    limits: tuple[Threshold, ...],
    suggested: Suggestion | None,
    hidden: int,
) -> list[str]:
    """What too few cases with known diagnoses leave open."""
    said = []
    rare = [score.key for score in scored.labels if score.auroc is None]
    if rare:
        said.append(f"too few have, or have not, {', '.join(rare)} for an AUROC")
    bare = [s.key for s in scored.labels if s.key not in {t.key for t in limits}]
    if bare:
        said.append(f"too few have, or have not, {', '.join(bare)} for a threshold")
    if suggested is None:
        said.append(f"under {FITTED} cases have a known syndrome: no temperatures are suggested")
    if hidden:
        said.append(f"{hidden} subgroups of under {SMALLEST} cases are not shown")
    return said


def _unsaid_drift(drift: tuple[Drift, ...] | None) -> list[str]:
    """What cannot be compared with the training sites."""
    if drift is None:
        return ["the model's card does not say what its training cases were like: train it again"]
    open_ = sum(found.word == UNSAID for found in drift)
    return [f"{open_} of {len(drift)} measures cannot be compared: too few cases"] if open_ else []


def differing(drift: tuple[Drift, ...], modality: str) -> list[Drift]:
    """The measures of a modality that differ, those that differ most first."""
    found = [d for d in drift if d.modality == modality and d.word == DIFFERS]
    return sorted(found, key=lambda d: -(d.psi if d.psi is not None else float("inf")))


def keep(folder: Path, found: Onboarding, text: str) -> Path:
    """Write both files into the site's folder, readable by its owner alone; the text's path."""
    out = private_folder(folder / FOLDER)
    data = json.dumps(asdict(found), indent=1, ensure_ascii=False)
    write_whole(out / DATA, f"{data}\n".encode(), private=True)
    write_whole(out / TEXT, f"{text}\n".encode(), private=True)
    return out / TEXT
