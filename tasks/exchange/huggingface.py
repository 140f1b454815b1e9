"""Hugging Face `datasets`: parquet files with one row per head and PNG pictures, and a dataset card.

    README.md                                   the card: licence, splits, columns, origin
    data/train-00000-of-00002.parquet, ...      the splits, in the layout of `datasets.load_dataset(folder)`
    dataset.json                                digest, sizes, codec and attributes

Requires the extra `exchange` (`datasets` with pyarrow).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spinmeround.storage.dataset import SPLITS, HeadArrays, HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.storage.manifests import is_litter
from spinmeround.tasks.cards.dataset import dataset_card
from spinmeround.tasks.exchange.formats import (
    CHANNELS,
    LARGEST_PART,
    SIDECAR,
    OnProgress,
    Sidecar,
    build_dataset,
    check_id,
    float_array,
    float_shapes,
    from_png,
    head_arrays,
    new_folder,
    png,
    read_sidecar,
    sidecar,
)

if TYPE_CHECKING:
    from datasets import Features

_FLOATS = ("azimuth", "elevation", "cam2world", "intrinsics", "identity", "identity_views")


def export_huggingface(dataset: HeadDataset, target: Path, heads_per_shard: int, on_progress: OnProgress) -> None:
    """Write all heads as parquet files to the new folder `target`."""
    features = _features()
    done = 0
    with new_folder(target) as folder:
        (folder / "data").mkdir()
        heads: dict[str, int] = {}
        for split in SPLITS:
            subjects = dataset.split(split)
            shards = [subjects[start : start + heads_per_shard] for start in range(0, len(subjects), heads_per_shard)]
            for number, held in enumerate(shards):
                rows = (_row(head_arrays(dataset, subject)) for subject in held)
                _write(folder / "data" / f"{split}-{number:05d}-of-{len(shards):05d}.parquet", rows, features)
                done += len(held)
                on_progress(done, len(dataset))
            heads[split] = len(subjects)
        (folder / "README.md").write_text(dataset_card(dataset, heads), encoding="utf-8")
        (folder / SIDECAR).write_text(sidecar(dataset).model_dump_json(indent=1), encoding="utf-8")


def import_huggingface(source: Path, target: Path, on_progress: OnProgress) -> str:
    """Build a dataset at `target` from an export; returns its digest, which equals that of the exported dataset."""
    _features()
    about = read_sidecar(source)
    return build_dataset(_heads(source, about), about, target, on_progress)


def _features() -> "Features":
    """The columns. Raises ConfigError if `datasets` is not installed."""
    try:
        from datasets import Features, Image, List, Value
    except ImportError as error:
        raise ConfigError(f'exchange with Hugging Face: {error}; pip install "spinmeround[exchange]"') from error
    number = Value("float32")
    return Features(
        {
            "id": Value("string"),
            "seed": Value("int64"),
            **{name: List(Image()) for name in CHANNELS},
            "azimuth": List(number),
            "elevation": List(number),
            "cam2world": List(List(List(number))),
            "intrinsics": List(List(List(number))),
            "identity": List(number),
            "identity_views": List(List(number)),
        }
    )


def _row(head: HeadArrays) -> dict[str, Any]:
    pictures = {
        name: [
            {"bytes": png(picture), "path": f"{head.id}_{name}_{view:03d}.png"}
            for view, picture in enumerate(getattr(head, name))
        ]
        for name in CHANNELS
    }
    return {"id": head.id, "seed": head.seed, **pictures, **{name: getattr(head, name).tolist() for name in _FLOATS}}


def _write(path: Path, rows: Iterator[Mapping[str, Any]], features: "Features") -> None:
    """Write a parquet file with one row group per head."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetWriter(path, features.arrow_schema, compression="none") as writer:
        for row in rows:
            writer.write_table(pa.Table.from_pylist([row], schema=features.arrow_schema))


def _heads(source: Path, about: Sidecar) -> Iterator[HeadArrays]:
    import pyarrow as pa
    from pyarrow import parquet

    names = {"id", "seed", *CHANNELS, *_FLOATS}
    for path in sorted(path for path in (source / "data").glob("*.parquet") if not is_litter(path.name)):
        try:
            with parquet.ParquetFile(path) as file:
                if set(file.schema_arrow.names) != names:
                    raise DatasetError(f"{path}: expected the columns {sorted(names)}, found {file.schema_arrow.names}")
                for group in range(file.num_row_groups):
                    if file.metadata.row_group(group).total_byte_size > LARGEST_PART:
                        raise DatasetError(f"{path}: row group {group}: expected at most {LARGEST_PART} bytes")
                    table = file.read_row_group(group)
                    table.validate(full=True)  # offsets and UTF-8, which reading does not check
                    for row in table.to_pylist():
                        yield _head(row, about, path)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{path}: expected parquet, found {error}") from error


def _head(row: Mapping[str, Any], about: Sidecar, path: Path) -> HeadArrays:
    id = check_id(str(row["id"]))
    if type(row["seed"]) is not int:
        raise DatasetError(f"{path}: head {id}: expected an integer seed, found {row['seed']!r}")
    pictures = {
        name: _pictures(row[name], about, channels, f"head {id}: {name}") for name, channels in CHANNELS.items()
    }
    floats = {
        name: float_array(row[name], shape, f"head {id}: {name}") for name, shape in float_shapes(about.views).items()
    }
    return HeadArrays(id=id, seed=row["seed"], **pictures, **floats)


def _pictures(cells: Any, about: Sidecar, channels: int, name: str) -> np.ndarray:
    if not isinstance(cells, list) or len(cells) != about.views:
        raise DatasetError(f"{name}: expected a list of {about.views} pictures")
    found = [cell.get("bytes") for cell in cells if isinstance(cell, dict)]
    data = [each for each in found if isinstance(each, bytes)]
    if len(data) != about.views:
        raise DatasetError(f"{name}: expected embedded pictures, found paths")
    return np.stack([from_png(each, about, channels, f"{name} {view}") for view, each in enumerate(data)])
