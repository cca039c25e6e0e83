"""Start the job under NVFlare, in its simulator or with processes and certificates (POC).

    python -m benchmarks.nvflare_job.start simulator --sites DIR --names a b --out DIR ...

This runs in NVFlare's environment and does not load the network: ``first.npy`` in `--out` holds the
weights to begin with, ``server.npy`` gets those after the last round, ``rounds.jsonl`` a line a
round.
"""

import argparse
import json
import shutil
from pathlib import Path

import nvflare
from nvflare.apis.dxo import DataKind
from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
from nvflare.client.config import TransferType
from nvflare.recipe import PocEnv, SimEnv

from benchmarks.nvflare_job.averaging import Clipped


def main() -> None:
    """Start, wait, leave the results in the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["simulator", "poc"])
    parser.add_argument("--sites", type=Path, required=True)
    parser.add_argument("--names", nargs="+", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = NumpyFedAvgRecipe(
        name="three-hospitals",
        initial_ckpt=str(args.out / "first.npy"),
        min_clients=len(args.names),
        num_rounds=args.rounds,
        train_script=str(Path(__file__).with_name("hospital.py")),
        train_args=f"--sites {args.sites} --epochs {args.epochs}",
        aggregator=Clipped(str(args.out / "rounds.jsonl")),
        aggregator_data_kind=DataKind.WEIGHT_DIFF,
        params_transfer_type=TransferType.DIFF,
    )
    if args.kind == "simulator":
        env = SimEnv(clients=args.names, workspace_root=str(args.out / "nvflare"))
    else:
        env = PocEnv(clients=args.names, num_clients=len(args.names))
    run = recipe.execute(env)
    result = run.get_result(clean_up=False)
    if result is None:
        raise SystemExit("NVFlare has not finished the job; its logs say why")
    (made,) = sorted(Path(result).rglob("server.npy"))
    shutil.copyfile(made, args.out / "server.npy")
    (args.out / "about.json").write_text(json.dumps({"version": nvflare.__version__}))


if __name__ == "__main__":
    main()
