"""A hospital under NVFlare's client API: what `federated.site.client_app` does, without Flower.

The loss of the weights that arrive goes back with the update, as is usual under NVFlare; the
project's own hub asks for it in a message of its own.
"""

import argparse
from pathlib import Path

import nvflare.client as flare
import torch
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

from benchmarks.nvflare_job.averaging import WEIGHTS
from benchmarks.nvflare_job.job import job_plan
from federated import task
from federated.task import Plan


def answered(asked: FLModel, folder: Path, plan: Plan) -> FLModel:
    """Evaluate the weights that arrived, train on from them, answer."""
    cases = task.site_cases(folder, plan)
    network = task.new_network(plan)
    task.unpack(asked.params[WEIGHTS], network, sender="the hub")
    loss = task.evaluate(network, cases, plan)
    packed = task.train(network, cases, plan, asked.current_round + 1)
    told = {"loss": loss, "cases": len(cases.train), "valid": len(cases.valid)}
    return FLModel(params_type=ParamsType.FULL, params={WEIGHTS: packed}, metrics=told)


def main() -> None:
    """Answer until the job is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=Path, required=True, help="folder of the hospitals")
    parser.add_argument("--epochs", type=int, required=True, help="of a round")
    args = parser.parse_args()
    torch.set_num_threads(1)
    flare.init()
    folder = args.sites / flare.get_site_name()
    plan = job_plan(folder, args.epochs)
    while flare.is_running():
        asked = flare.receive()
        if asked is None:
            break
        flare.send(answered(asked, folder, plan))


if __name__ == "__main__":
    main()
