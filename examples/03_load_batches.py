"""Load batches of random views with HeadLoader, save the position in the epoch, and resume from it.

python examples/03_load_batches.py --workers 2
"""

import argparse
from pathlib import Path

import torch

from spinmeround import HeadDataset, HeadLoader, ViewParams, as_floats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="folder of a dataset; default: the newest below --runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--views", type=int, default=8, help="views per sample")
    parser.add_argument("--batch", type=int, default=2, help="samples per batch")
    parser.add_argument("--workers", type=int, default=0, help="worker processes")
    arguments = parser.parse_args()
    path = arguments.dataset or max(arguments.runs.glob("*/datasets/*.zarr"), key=lambda path: path.stat().st_mtime)

    dataset = HeadDataset.open(path)
    params = ViewParams(views=arguments.views, conditioning_views=1, background="random", samples_per_head=4)

    def make_loader(workers: int) -> HeadLoader:
        return HeadLoader(dataset, params, split="train", batch=arguments.batch, workers=workers)

    loader = make_loader(arguments.workers)
    batches = iter(loader)
    floats = as_floats(next(batches), normals_frame="camera")
    for name, tensor in floats.items():
        print(f"{name}: {tuple(tensor.shape)} {tensor.dtype}")

    state = loader.state_dict()  # JSON values: save it with the checkpoint
    expected = next(batches)
    resumed = make_loader(workers=0)  # the sequence does not depend on the number of workers
    resumed.load_state_dict(state)
    same = all(torch.equal(tensor, expected[name]) for name, tensor in next(iter(resumed)).items())
    if not same:
        raise SystemExit("resumed with another batch")
    print("resumed with the same batch")


if __name__ == "__main__":
    main()
