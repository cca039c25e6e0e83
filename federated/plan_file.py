"""The plan as a file that the administrators of hub and sites copy to each other."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from clinical.diagnoses import Label, Scheme
from federated.files import PLAN as PLAN
from federated.files import write_whole
from federated.patient_privacy import PatientPrivacy
from federated.task import FederationError, Plan
from fusion.network import ModelConfig
from fusion.train import TrainConfig


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan with its fingerprint, whole or not at all."""
    told = {field.name: getattr(plan, field.name) for field in fields(plan)}
    told["train"] = replace(plan.train, device="cpu")  # where a site computes is its own affair
    for name in ("model", "train", "scheme", "privacy"):
        told[name] = asdict(told[name]) if told[name] is not None else None
    text = json.dumps({**told, "fingerprint": plan.fingerprint}, indent=2, ensure_ascii=False)
    write_whole(path, f"{text}\n".encode())


def read_plan(path: Path) -> Plan:
    """Read a plan, and make sure that it means here what it meant where it was written.

    Raises:
        FederationError: It is missing, damaged, of another version, or was changed.
    """
    told = _json(path)
    try:
        said, model, train = told.pop("fingerprint"), told.pop("model"), told.pop("train")
        privacy = _frozen(told.pop("privacy"))
        plan = Plan(
            model=ModelConfig(**_frozen(model)),
            train=TrainConfig(**_frozen(train)),
            scheme=_scheme(told.pop("scheme")),
            privacy=PatientPrivacy(**privacy) if privacy else None,
            **_frozen(told),
        )
    except (KeyError, TypeError, AttributeError):
        raise FederationError(
            f"{path} has other fields than a plan; hub and sites must run the same version"
        ) from None
    if plan.fingerprint != said:
        raise FederationError(
            f"{path} does not mean here what it meant where it was written: it was changed, or "
            "this is another version of the program or of its table of analytes; copy the hub's "
            "again and run the same version"
        )
    return plan


def _json(path: Path) -> dict[str, Any]:
    """The file's object."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise FederationError(f"{path} is missing; copy the hub's {PLAN} there") from None
    except (ValueError, TypeError):
        raise FederationError(f"{path} is damaged; copy the hub's {PLAN} again") from None


def _scheme(told: dict[str, Any]) -> Scheme:
    """What is diagnosed."""
    return Scheme(**{part: tuple(Label(**_frozen(v)) for v in told[part]) for part in told})


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
