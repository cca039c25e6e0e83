"""What is trained, the same under Flower and NVFlare; this imports neither."""

from dataclasses import replace
from pathlib import Path

from federated import task
from federated.task import Plan


def job_plan(site: Path, epochs: int) -> Plan:
    """The standard plan: the network that ships, with some epochs a round at each hospital.

    Args:
        site: Any of the hospitals; their notes were all read by the same encoder.
        epochs: Of a round.
    """
    plan = task.plan_for(site)
    return replace(plan, train=replace(plan.train, epochs=epochs))
