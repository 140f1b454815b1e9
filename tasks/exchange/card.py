"""The dataset card: the `README.md` that Hugging Face shows for a dataset, with its terms, columns and origin."""

import json
from collections.abc import Mapping

from spinmeround.storage.dataset import HeadDataset


def dataset_card(dataset: HeadDataset, heads: Mapping[str, int]) -> str:
    """`README.md` of an export: a YAML header, then a page. `heads` is the number of heads in each split."""
    attributes = dataset.attributes
    licence = str(attributes.get("licence", "not stated"))
    generator = attributes.get("generator") or {}
    counts = attributes.get("counts") or {}
    height, width = dataset.sizes["height"], dataset.sizes["width"]
    files = "\n".join(
        f"  - split: {split}\n    path: data/{split}-*.parquet" for split, number in heads.items() if number
    )
    rows = "\n".join(f"| {split} | {number} |" for split, number in heads.items())
    outcomes = "\n".join(f"- {name.replace('_', ' ')}: {_value(value)}" for name, value in counts.items())
    return f"""---
pretty_name: {json.dumps(f"Synthetic heads, {len(dataset)} in {dataset.views} views", allow_nan=False)}
license: other
license_name: {json.dumps(licence, allow_nan=False)}
task_categories:
- image-to-3d
tags:
- synthetic
- faces
- multi-view
- normals
size_categories:
- {_size(len(dataset))}
configs:
- config_name: default
  data_files:
{files}
---

# Synthetic heads

{len(dataset)} synthetic heads of no real person, each in {dataset.views} views of {width} x {height} pixels, with
masks, normals, cameras and face recognition embeddings.

Terms: {licence}

| split | heads |
| --- | --- |
{rows}

## Columns

One row per head. `rgb` is composited on white by `mask` (alpha); `normals` are world-frame unit vectors,
(n + 1) / 2 * 255, (128, 128, 128) under mask 0. `cam2world` has OpenCV axes, `intrinsics` are in units of the
picture's side; in the world frame y is up and the face looks along +z. `azimuth` and `elevation` are in degrees.
`identity_views` has one embedding per view, NaN without one. `identity` is the normalised mean of the frontal
ones. The generator makes the same head again from `seed`.

## How it was made

Generator: {generator.get("name", "not stated")}. Digest of the exported dataset: `{dataset.digest}`.
`dataset.json` contains all parameters.

{outcomes or "Counts are not stated."}
"""


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} {name}" for name, number in value.items()) or "none"
    return str(value)


def _size(heads: int) -> str:
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for bound, name in bounds if heads < bound), "n>1M")
