"""Read a dataset with zarr alone and with HeadDataset, and draw some heads with their normals.

    python examples/02_read_dataset.py --to heads.png

The picture has a row of views for each head, above a row of their normal maps.
"""

import argparse
from pathlib import Path

import numpy as np
import zarr
from PIL import Image

from spinmeround import HeadDataset


def newest_dataset(runs: Path) -> Path:
    """The dataset that was published last in a folder of runs."""
    return max(runs.glob("*/datasets/*.zarr"), key=lambda path: path.stat().st_mtime)


def picture(dataset: HeadDataset, heads: list[int], azimuths_deg: list[float]) -> Image.Image:
    """RGB of these heads from these azimuths, each row above its normal maps."""
    rows = []
    for head in heads:
        chosen = [dataset.nearest_view(azimuth_deg) for azimuth_deg in azimuths_deg]
        views = dataset.read_views(head, chosen, ("rgb", "normals"))
        rows += [np.concatenate(list(views[name]), axis=1) for name in ("rgb", "normals")]
    return Image.fromarray(np.ascontiguousarray(np.concatenate(rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="folder of a dataset; default: the newest below --runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--heads", default="0,1,2", help="numbers of the heads in the picture")
    parser.add_argument("--azimuths", default="0,45,90,135,180,225,270,315", help="azimuths in degrees")
    parser.add_argument("--to", type=Path, default=Path("heads.png"), help="file for the picture")
    arguments = parser.parse_args()
    path = arguments.dataset or newest_dataset(arguments.runs)

    group = zarr.open_group(path, mode="r")  # any reader of Zarr v3 can do this
    for name in ("rgb", "normals", "mask", "cam2world", "identity"):
        print(f"{name}: {group[name].shape} {group[name].dtype}")

    dataset = HeadDataset.open(path)  # checks the schema, and reads single views 10 times as fast
    for split in ("train", "validation", "test"):
        print(f"{split}: {len(dataset.split(split))} heads")
    azimuths = [float(azimuth) for azimuth in arguments.azimuths.split(",")]
    heads = [int(head) for head in arguments.heads.split(",")]
    picture(dataset, heads, azimuths).save(arguments.to)
    print(f"picture: {arguments.to}")


if __name__ == "__main__":
    main()
