"""The tables of `benchmarks.attacks`, and what they say in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from benchmarks.attack_members import Attacked, Outcome, attacks
from benchmarks.attack_values import Score

Scores = Mapping[str, Sequence[Mapping[str, float]]]  # by what was exchanged and how protected
Outcomes = Mapping[str, Sequence[Outcome]]  # by protection
Epsilon = Callable[[str, int], float | None]

ONE, EIGHT, ROUND = "one patient, one step", "eight patients, one step", "a site's whole round"
MATCHED = "one patient, by matching gradients"
NONE, SUM = "none", "secure sum of three sites"
HIDDEN, USEFUL = 0.6, 0.65  # AUROC of membership below, and of the network above which it is so


@dataclass(frozen=True)
class Found:
    """All that was computed.

    Attributes:
        protections: In the order of the tables.
        scores: Of reconstruction.
        outcomes: Of the federations.
        epsilon: What some replies of a site cost under a protection; None without noise.
        rounds: Of the federations.
    """

    protections: Sequence[str]
    scores: Scores
    outcomes: Outcomes
    epsilon: Epsilon
    rounds: int


def interval(numbers: Sequence[float], digits: int = 2) -> str:
    """Mean and 95 % interval by Student's t.

    Example:
        >>> interval([0.4, 0.5, 0.6]), interval([0.5]), interval([float("nan")])
        ('0.50 (0.25 to 0.75)', '0.50', '-')
    """
    values = [number for number in numbers if not np.isnan(number)]
    if not values:
        return "-"
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return f"{mean:.{digits}f} ({mean - half:.{digits}f} to {mean + half:.{digits}f})"


def told(epsilon: float | None) -> str:
    """An epsilon, in as many digits as it deserves."""
    return "-" if epsilon is None else f"{epsilon:,.0f}"


def _row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def _head(words: int, *names: str) -> list[str]:
    """The first two lines of a table, whose first columns hold words."""
    return [_row(*names), "|---" * words + "|--:" * (len(names) - words) + "|"]


def error(found: Found, name: str, protection: str) -> float:
    """Mean error of laboratory values, in that of a guess."""
    return float(np.mean([s["labs"] for s in found.scores[f"{name} | {protection}"]]))


def seen(found: Found, protection: str, view: str) -> float:
    """Mean AUROC of the likelihood ratio."""
    mine = attacks(found.outcomes[protection], view)["likelihood"]
    return float(np.mean([attacked.auroc for attacked in mine]))


def useful(found: Found, protection: str) -> float:
    """Mean AUROC of the network."""
    return float(np.mean([outcome.auroc for outcome in found.outcomes[protection]]))


def brief(found: Found) -> str:
    """A row a protection: the means."""
    lines = _head(
        1, "protection", "epsilon of a reply", "values of one patient", "of eight",
        "of a whole round", "who took part, by an update", "by the average", "AUROC of the network",
    )  # fmt: skip
    for protection in found.protections:
        trained = NONE if protection == SUM else protection  # whose average is the sum
        update = "not seen" if protection == SUM else f"{seen(found, trained, 'update'):.2f}"
        lines.append(
            _row(
                protection, told(found.epsilon(protection, 1)),
                *(f"{error(found, name, protection):.2f}" for name in (ONE, EIGHT, ROUND)),
                update, f"{seen(found, trained, 'average'):.2f}", f"{useful(found, trained):.2f}",
            )
        )  # fmt: skip
    return "\n".join(lines)


def values_table(scores: Scores) -> str:
    """All that was found of values, with intervals."""
    lines = _head(
        2, "exchanged", "protection", "lab values: error", "r", "regions: error", "r",
        "analytes measured, AUROC", "guessed", "sentences found",
    )  # fmt: skip
    for name, rows in scores.items():
        columns = [interval([row[key] for row in rows]) for key in Score.__dataclass_fields__]
        lines.append(_row(*name.split(" | "), *columns))
    return "\n".join(lines)


def members_table(found: Found) -> str:
    """All that was found of members, with intervals."""
    lines = _head(
        1, "protection", "epsilon", "seen", "by loss: AUROC", "found at 1 %",
        "by likelihood ratio: AUROC", "found at 1 %", "AUROC of the network",
    )  # fmt: skip
    for protection, mine in found.outcomes.items():
        epsilon = told(found.epsilon(protection, found.rounds))
        scores = interval([outcome.auroc for outcome in mine])
        for view, words in (("update", "one site's update"), ("average", "the average")):
            columns = [c for attack in attacks(mine, view).values() for c in _columns(attack)]
            lines.append(_row(protection, epsilon, words, *columns, scores))
    return "\n".join(lines)


def _columns(attack: Sequence[Attacked]) -> tuple[str, str]:
    """Two numbers of an attack."""
    return interval([a.auroc for a in attack]), interval([a.found for a in attack], 3)


def conclusions(found: Found) -> str:
    """What the table says, in words that follow from its numbers."""
    bare, summed = error(found, ONE, NONE), error(found, EIGHT, SUM)
    whole, update = error(found, ROUND, NONE), seen(found, NONE, "update")
    hidden = [p for p in found.outcomes if seen(found, p, "update") < HIDDEN]
    both = [p for p in hidden if useful(found, p) > USEFUL]
    works = "works" if bare < 0.5 else "fails"
    small = "does not hide" if summed < 0.95 else "hides"
    learnt = "much" if whole < 0.8 else "little" if whole < 0.98 else "nothing"
    shows = "shows" if update > HIDDEN else "does not show"
    average = seen(found, NONE, "average")
    return (
        f"Unprotected, the attack on a single step {works}: one patient's values come out with "
        f"{bare:.0%} of a\nguess's error, and summing three sites {small} it ({summed:.0%} for "
        f"eight patients each). From a whole\nround of thirteen epochs, which is what sites here "
        f"send, the same attack learns {learnt} ({whole:.0%}); a\nbetter one may exist. But who "
        f"took part {shows} in a site's update ({update:.2f}), and in the average\n"
        f"({average:.2f}). Protections that hide it from an update (under {HIDDEN}): "
        f"{'; '.join(hidden) or 'none of these'}.\nOf them, those that leave a useful network "
        f"(over {USEFUL}): {'; '.join(both) or 'none'}.\nAn epsilon of hundreds and more promises "
        "nothing: it says only that this attack failed."
    )
