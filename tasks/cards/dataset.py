"""The dataset card: the `README.md` that Hugging Face shows for a dataset, from the dataset's own attributes."""

import json
from collections.abc import Mapping

from spinmeround.models.geometry.cameras import FACE_VISIBLE_DEG, absolute_azimuth_deg
from spinmeround.storage.dataset import CAPTURED, HeadDataset
from spinmeround.tasks.cards.parts import UNKNOWN, generator_part, hub_licence, part_rows, recognition_part
from spinmeround.tasks.cards.people import ethics, kind_of_heads
from spinmeround.tasks.markdown import markdown_table

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


_SEEDS = {
    "synthetic": "The generator makes the same head again from `seed`.",
    "photographed": "`seed` is a number made from the id.",
    "": "What `seed` stands for is unknown.",
}


def dataset_card(dataset: HeadDataset, heads: Mapping[str, int]) -> str:
    """`README.md` of an export: a YAML header, then a page. `heads` is the number of heads in each split.

    Raises ValueError if the header is not what the hub accepts.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    kind = kind_of_heads(dataset.attributes)
    data = DatasetCardData(
        pretty_name=f"{_heading(kind)}, {len(dataset)} in {dataset.views} views",
        task_categories=["image-to-3d"],
        size_categories=[_size(len(dataset))],
        **hub_licence(dataset.attributes.get("licence")),  # type: ignore[arg-type]
        tags=[*(["synthetic"] if kind == "synthetic" else []), "faces", "multi-view", "normals", "spinmeround"],
        configs=[
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/{split}-*.parquet"} for split, number in heads.items() if number
                ],
            }
        ],
    )
    page = f"---\n{data.to_yaml()}\n---\n\n{_page(dataset, heads)}"
    return str(DatasetCard(page).content)


def _page(dataset: HeadDataset, heads: Mapping[str, int]) -> str:
    attributes = dataset.attributes
    height, width = dataset.sizes["height"], dataset.sizes["width"]
    kind = kind_of_heads(attributes)
    counts = attributes.get("counts") or {}
    outcomes = "\n".join(f"- {name.replace('_', ' ')}: {_value(value)}" for name, value in counts.items())
    generator = attributes.get("generator") or {}
    return f"""# {_heading(kind)}

{len(dataset)} heads, each in {dataset.views} views of {width} x {height} pixels, with masks, normals, cameras and face
recognition embeddings.

Terms: {attributes.get("licence") or UNKNOWN}

{markdown_table(("split", "heads"), heads.items())}

## Intended use

Training and measuring models that generate further views of a head, its surface normals or its identity embedding, and
methods of multi-view reconstruction. The splits are by head. It is not meant for recognising people, nor for deciding
anything about them.

## Columns

One row per head. `rgb` is composited on white by `mask` (alpha); `normals` are world-frame unit vectors,
(n + 1) / 2 * 255, (128, 128, 128) under mask 0. `cam2world` has OpenCV axes, `intrinsics` are in units of the
picture's side; in the world frame y is up and the face looks along +z. `azimuth` and `elevation` are in degrees.
`identity_views` has one embedding per view, NaN without one. `identity` is the normalised mean of the frontal
ones. {_SEEDS[kind]}

## Licences of the parts

{part_rows([generator_part(attributes), recognition_part(attributes)])}

The terms of the parts extend to what is made with them as far as they say so. Unknown is what the dataset does not
record.

## How it was made

- generator: {generator.get("name", UNKNOWN)}, options {_value(generator.get("options"))}
- provenance: {_value(generator.get("provenance"))}
- digest of the exported dataset: `{dataset.digest}`
{outcomes or "- counts: unknown"}

All parameters, which `dataset.json` has too:

```json
{json.dumps(attributes.get("parameters"), indent=1, sort_keys=True, allow_nan=False)}
```

## Limits

{_limits(dataset)}

## People in the pictures

{ethics(attributes)}
"""


def _limits(dataset: HeadDataset) -> str:
    """What the dataset lacks, as a list."""
    attributes, captured = dataset.attributes, dataset.attributes.get(CAPTURED)
    cameras = dataset.cameras()
    reached, low, high = (
        float(absolute_azimuth_deg(cameras["azimuth_deg"]).max()),
        float(cameras["elevation_deg"].min()),
        float(cameras["elevation_deg"].max()),
    )
    if captured is not None:
        reached = float(captured["max_azimuth_deg"])
    back = "" if reached > FACE_VISIBLE_DEG else "; there is no view from behind"
    without = len(attributes.get("without_normals", ()))
    lines = [
        f"Azimuths reach {reached:.0f} degrees from the front, elevations are {low:.0f} to {high:.0f} degrees{back}.",
        f"Heads without normals: {without}.",
        "Expressions, lighting, ages and skin colours are those of the source; how they are distributed is unknown.",
    ]
    if captured is not None:
        lines.append(f"Heads whose background is in the picture: {len(captured['with_background'])}.")
    screened = (attributes.get("counts") or {}).get("screened_out")
    lines.append(
        "How many heads were screened out is unknown."
        if screened is None
        else f"Heads screened out before publishing: {sum(screened.values())}; the screen misses some defects."
    )
    return "\n".join(f"- {line}" for line in lines)


def _heading(kind: str) -> str:
    return f"{kind} heads".strip().capitalize()


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(each)}" for name, each in value.items()) or "none"
    return UNKNOWN if value is None else str(value)


def _size(heads: int) -> str:
    return next((name for bound, name in _SIZES if heads < bound), "n>1M")
