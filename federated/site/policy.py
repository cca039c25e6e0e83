"""What a hospital lets a federation do: ``federation.toml`` in its folder. No message changes it.

The hospital's administrator writes it; `federated.site.guard` holds every message against it,
outside the app that the hub sends. Nothing here knows Flower or the network.
"""

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

POLICY = "federation.toml"
STATE = "federation"  # folder in the site's folder: key, ledger, last release
SECURE = ("never", "allowed", "required")


class PolicyError(ValueError):
    """Something outside the site's policy, or a policy that cannot be used; nothing personal."""


def _why(text: str, default: Any) -> Any:
    """A field and the comment it gets in the file."""
    return field(default=default, metadata={"why": text})


@dataclass(frozen=True)
class SitePolicy:
    """What may leave a site, to whom and how often.

    The defaults allow nothing until plan, layout, apps and cases are filled in, which
    `consilium join` does from the plan that the administrators exchanged.
    """

    hub: str = _why("HOST:PORT of the hub", "")
    ca_certificate: str = _why("of the hub; relative to this folder", "federation/hub-ca.crt")
    key_file: str = _why("private key of this site; relative to this folder", "federation/site.key")
    plan: str = _why("SHA-256 fingerprint of the plan this site agreed to", "")
    layout: str = _why("SHA-256 of the names and shapes of the parameters that leave", "")
    numbers: int = _why("how many numbers that is", 0)
    allowed_parameters: tuple[str, ...] = _why("their names", ())
    allowed_apps: tuple[str, ...] = _why("SHA-256 of the Flower apps that may run here", ())
    cases: int = _why("cases registered with the hub; a reply says this, rounded to ten", 0)
    smallest_cohort: int = _why("with fewer cases than this, nothing leaves", 10)
    rounds: int = _why("how many trainings, and how many evaluations, may ever leave", 100)
    clip_norm: float = _why("largest Euclidean norm of an update; a larger one is shrunk", 5.0)
    noise_multiplier: float = _why("standard deviation of the noise, in clip_norm; 0 for none", 0.0)
    epsilon: float = _why("privacy budget of all that ever leaves, where there is noise", 8.0)
    delta: float = _why("for that epsilon", 1e-5)
    share_loss: bool = _why(
        "whether the validation loss may leave; with noise it never does", default=True
    )
    share_scores: bool = _why(
        "whether histograms of scores by diagnosis may leave; with noise they never do",
        default=False,
    )
    smallest_cell: int = _why("cases in a cell of such a histogram; smaller ones stay", 10)
    score_answers: int = _why("how often such histograms may ever leave", 3)
    secure_aggregation: str = _why("never, allowed or required", "allowed")
    smallest_sum: int = _why("sites, this one among them, that a secure sum must hold", 2)
    patient_noise_multiplier: float = _why("of patient-level training (DP-SGD); 0 for none", 0.0)
    patient_sample_rate: float = _why("chance of a patient to be in a step of it", 1.0)
    patient_steps: int = _why("steps of it in a round", 0)

    def __post_init__(self) -> None:
        """Refuse a policy that makes no sense.

        Raises:
            PolicyError: A value is outside its range, or two of them contradict each other.
        """
        for name, allowed, words in _RANGES:
            if not allowed(getattr(self, name)):
                raise PolicyError(f"{POLICY}: {name} must be {words}")
        if self.noise_multiplier and self.patient_noise_multiplier:
            raise PolicyError(
                f"{POLICY}: noise_multiplier and patient_noise_multiplier are two protections of "
                "the same reply; choose one"
            )

    @property
    def announced_cases(self) -> int:
        """What a reply says instead of the number of cases that the app counted.

        Example:
            >>> SitePolicy(cases=118).announced_cases
            120
        """
        return max(10, round(self.cases, -1))

    @property
    def is_noisy(self) -> bool:
        """Whether replies have a differential privacy guarantee."""
        return self.noise_multiplier > 0 or self.patient_noise_multiplier > 0

    @property
    def may_share_loss(self) -> bool:
        """Whether an evaluation may be answered: a loss without noise would break the guarantee."""
        return self.share_loss and not self.is_noisy

    @property
    def may_share_scores(self) -> bool:
        """Whether a question for scores may be answered: cells would break the guarantee."""
        return self.share_scores and not self.is_noisy

    def check_app(self, sha256: str) -> None:
        """Refuse a Flower app that this site has not agreed to.

        Raises:
            PolicyError: Its SHA-256 is not in the policy.
        """
        if sha256 not in self.allowed_apps:
            raise PolicyError(
                f"the hub sent an app (SHA-256 {sha256[:12]}) that this site's {POLICY} does not "
                "allow; look at the app, then add its SHA-256 to allowed_apps"
            )

    def check_plan(self, fingerprint: str, layout: "Layout") -> None:
        """Refuse a plan, or a network, that this site has not agreed to.

        Raises:
            PolicyError: Something differs.
        """
        if (self.plan, self.layout) != (fingerprint, layout.sha256):
            raise PolicyError(
                f"this site's {POLICY} agrees to another plan or network; compare it with plan.json"
            )
        more = sorted(set(layout.names) - set(self.allowed_parameters))
        if more or layout.size != self.numbers:
            raise PolicyError(
                f"{len(more)} parameters of the network are not in allowed_parameters of this "
                f"site's {POLICY}: {', '.join(more[:3])}"
            )


class Layout(Protocol):
    """What `federated.task.Layout` says of the packed array."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""

    @property
    def size(self) -> int:
        """Numbers in the array."""

    @property
    def sha256(self) -> str:
        """Of names and shapes."""


def _between(low: float, high: float = math.inf) -> Any:
    """A test of a number."""
    return lambda value: math.isfinite(value) and low <= value <= high


_RANGES = (
    ("numbers", _between(0.0), "at least 0"),
    ("cases", _between(0.0), "at least 0"),
    ("smallest_cohort", _between(1.0), "at least 1"),
    ("rounds", _between(0.0), "at least 0"),
    ("smallest_cell", _between(2.0), "at least 2"),
    ("score_answers", _between(0.0), "at least 0"),
    ("clip_norm", lambda v: math.isfinite(v) and v > 0, "a positive number; a site always clips"),
    ("noise_multiplier", _between(0.0), "at least 0"),
    ("epsilon", lambda v: math.isfinite(v) and v > 0, "a positive number"),
    ("delta", lambda v: 0 < v < 1, "between 0 and 1"),
    ("secure_aggregation", SECURE.__contains__, f"one of {', '.join(SECURE)}"),
    ("smallest_sum", _between(2.0), "at least 2"),
    ("patient_noise_multiplier", _between(0.0), "at least 0"),
    ("patient_sample_rate", lambda v: 0 < v <= 1, "above 0 and at most 1"),
    ("patient_steps", _between(0.0), "at least 0"),
)


def read_policy(folder: Path) -> SitePolicy:
    """The policy of a site.

    Args:
        folder: The site's.

    Raises:
        PolicyError: There is none, or it cannot be used.
    """
    path = folder / POLICY
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(
            f"{path} is missing, so nothing may leave this site; `consilium join` writes one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise PolicyError(f"{path} cannot be read ({type(error).__name__}); correct it") from None
    known = {f.name: f.default for f in dataclasses.fields(SitePolicy)}
    if unknown := sorted(set(found) - set(known)):
        raise PolicyError(f"{path}: {', '.join(unknown)} is no setting of a policy")
    settings: dict[str, Any] = {n: _typed(n, value, known[n]) for n, value in found.items()}
    return SitePolicy(**settings)


def _typed(name: str, value: object, default: object) -> object:
    """A value of the file as the type of the field."""
    if isinstance(default, tuple) and isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is type(default):
        return value
    wanted = {bool: "true or false", tuple: "a list of texts", str: "a text"}
    raise PolicyError(f"{POLICY}: {name} must be {wanted.get(type(default), 'a number')}")


def write_policy(folder: Path, policy: SitePolicy) -> Path:
    """Write the policy of a site, each setting with what it is for; whole or not at all."""
    lines = ["# What may leave this site. No message from a hub changes it.", ""]
    for setting in dataclasses.fields(policy):
        value = getattr(policy, setting.name)
        lines += [f"# {setting.metadata['why']}", f"{setting.name} = {_toml(value)}"]
    path = folder / POLICY
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.chmod(0o600)
    return partial.replace(path)


def _toml(value: object) -> str:
    """A value as TOML, which writes these as JSON does."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
