"""What `federated.site.onboard` found, in Markdown, for the hospital's own eyes."""

from collections.abc import Iterator, Sequence

from federated.site.local_scores import SPECIFICITY
from federated.site.onboard import Onboarding, differing
from fusion.case import MODALITIES
from fusion.drift import LIKE, UNSAID, Drift

MOST = 8  # measures of a modality that are named


def markdown(found: Onboarding) -> str:
    """The whole report."""
    parts = [_head(found)]
    if found.evaluation is not None:
        parts += [_scores(found), _calibration(found), _thresholds(found), _subgroups(found)]
    parts += [_drift(found.drift), _unsaid(found.unsaid)]
    return "\n\n".join(part for part in parts if part)


def _head(found: Onboarding) -> str:
    """What was looked at."""
    return (
        f"# The model at {found.site}\n\n"
        f"Model: trained on {found.model}.\n"
        f"{found.n_cases} cases with evidence, {found.n_known} with a known diagnosis; none of "
        "them may have been in the training.\nNothing left this site. Research software, not a "
        "medical device."
    )


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A Markdown table; the first column holds words, the others numbers."""
    lines = [f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _scores(found: Onboarding) -> str:
    """AUROC and calibration by diagnosis."""
    scored = found.evaluation
    assert scored is not None
    rows = (
        (
            score.key, str(score.n), str(score.positives), f"{expected.expected:.1f}",
            _span(score.auroc, score.low, score.high), _number(score.brier), _number(score.ece),
        )
        for score, expected in zip(scored.labels, found.prevalence, strict=True)
    )  # fmt: skip
    head = ("diagnosis", "cases", "with it", "expected", "AUROC (95 %)", "Brier", "ECE")
    return (
        "## By diagnosis\n\n"
        f"Balanced accuracy of the syndrome {_number(scored.balanced_accuracy)}; prediction sets "
        f"hold the true one in {_number(scored.coverage)}, with {_number(scored.set_size)} "
        f"syndromes each.\n\n{_table(head, rows)}"
    )


def _calibration(found: Onboarding) -> str:
    """Reliability and temperatures."""
    bins = (
        (f"{b.start:.1f} to {b.end:.1f}", str(b.n), f"{b.stated:.2f}", f"{b.observed:.2f}")
        for b in found.reliability
    )
    text = "## Calibration\n\nAll diagnoses together:\n\n" + _table(
        ("stated", "times", "mean", "true"), bins
    )
    s = found.suggestion
    if s is None:
        return text
    rows = (
        (key, f"{own:.2f}", f"{fitted:.2f}")
        for key, own, fitted in zip(s.keys, s.own, s.fitted, strict=True)
    )
    word = (
        "the site's temperatures are better: calibrate on the site's own cases"
        if s.is_better
        else "no clear gain: keep the model's own temperatures"
    )
    return (
        f"{text}\n\nLog loss of a case {s.loss:.3f} with the model's temperatures, "
        f"{s.fitted_loss:.3f} with the site's\n(on patients they were not fitted to; gain 95 % "
        f"{s.gain_low:+.3f} to {s.gain_high:+.3f}): {word}.\n\n"
        + _table(("temperature", "model's", "site's"), rows)
    )


def _thresholds(found: Onboarding) -> str:
    """From which probability to call a diagnosis."""
    if not found.thresholds:
        return ""
    rows = (
        (t.key, f"{t.threshold:.3f}", f"{t.specificity:.2f}",
         _span(t.sensitivity, t.low, t.high))
        for t in found.thresholds
    )  # fmt: skip
    return (
        "## Thresholds\n\n"
        f"Calling a diagnosis above the threshold is right for {SPECIFICITY:.0%} of those without "
        "it; found on these cases,\nso new cases will do a little worse.\n\n"
        + _table(("diagnosis", "threshold", "specificity", "sensitivity (95 %)"), rows)
    )


def _subgroups(found: Onboarding) -> str:
    """By sex, age and evidence."""
    if not found.subgroups:
        return ""
    rows = (
        (f"{g.kind}: {g.name}", str(g.n), str(g.labels), _span(g.auroc, g.low, g.high),
         _number(g.everybody), _number(g.balanced_accuracy))
        for g in found.subgroups
    )  # fmt: skip
    return (
        "## Subgroups\n\nMean AUROC over the diagnoses that enough of a group have, and of the "
        "same diagnoses over everybody.\n\n"
        + _table(
            ("group", "cases", "diagnoses", "AUROC (95 %)", "everybody", "balanced accuracy"), rows
        )
    )


def _drift(drift: tuple[Drift, ...] | None) -> str:
    """The site's cases beside those of the training, by modality."""
    if drift is None:
        return ""
    lines = ["## Beside the training sites", ""]
    for modality in MODALITIES:
        mine = [d for d in drift if d.modality == modality]
        away = differing(drift, modality)
        open_ = sum(d.word == UNSAID for d in mine)
        compared = len(mine) - open_
        if not compared:
            lines.append(f"* **{modality}**: {UNSAID}")
            continue
        word = f"{LIKE}" if not away else f"{len(away)} of {compared} measures differ"
        lines.append(f"* **{modality}**: {word}" + (f" ({open_} {UNSAID})" if open_ else ""))
        lines += [f"  * {_moved(d)}" for d in away[:MOST]]
        if len(away) > MOST:
            lines.append(f"  * and {len(away) - MOST} more, in the JSON file")
    return "\n".join(lines)


def _moved(d: Drift) -> str:
    """One measure that differs."""
    index = "unknown to the training" if d.psi is None else f"index {d.psi:.2f}"
    name = d.measure.partition(": ")[2]
    return f"{name}: mean {d.mean:.2f} here, {d.trained_mean:.2f} there ({index})"


def _unsaid(unsaid: Sequence[str]) -> str:
    """What the cases cannot say."""
    if not unsaid:
        return ""
    return "## What cannot be said\n\n" + "\n".join(f"* {line}" for line in unsaid)


def _span(value: float | None, low: float | None, high: float | None) -> str:
    """A number and its interval."""
    if value is None:
        return "too few"
    inside = f" ({_number(low)} to {_number(high)})" if low is not None else ""
    return f"{value:.3f}{inside}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
