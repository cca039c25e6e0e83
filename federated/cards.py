"""What the model folder of a federated network says about itself."""

import datetime as dt
from dataclasses import asdict

from federated.task import Plan, SiteCases
from fusion.checkpoint import ModelCard
from fusion.train import PARTS


def card_of(plan: Plan, cases: SiteCases, trained_on: str, n_cases: int) -> ModelCard:
    """The card of one hospital's model.

    It says how the hospital's cases were split, so that `consilium evaluate` can score it on the
    patients that neither the training nor the calibration has seen.

    Args:
        plan: What was agreed on.
        cases: The hospital's.
        trained_on: In words.
        n_cases: On how many cases, as far as is known.
    """
    return ModelCard(
        trained_on=trained_on,
        n_cases=n_cases,
        text_encoder=plan.text_encoder[:12],
        text_encoder_sha256=plan.text_encoder,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        notes={
            "train_config": asdict(plan.train),
            "cases_by_part": {part: len(getattr(cases, part)) for part in PARTS},
        },
    )
