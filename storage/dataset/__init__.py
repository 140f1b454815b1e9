"""The dataset of heads, in plain Zarr v3: `zarr.open(path)` reads all of it.

    rgb, normals [S, V, H, W, 3] u8, mask [S, V, H, W] u8      one shard per subject, one chunk per view, lossless
    cam2world [S, V, 4, 4], intrinsics [S, V, 3, 3] f32        OpenCV axes; intrinsics in units of the image's side
    azimuth, elevation [V] f32                                 degrees
    identity [S, 512], identity_views [S, V, 512] f32          unit length; NaN rows for views without an embedding
    seed [S] i64, status [S] u8                                status 1: the head is complete
    latents/rgb, latents/normals [S, V, C, h, w] f16           raw with CRC-32C; added later, outside the digest

RGB is composited on white; normals are round((n + 1) / 2 * 255) of world-frame unit vectors, (128, 128, 128)
under mask 0. The attribute `without_normals` lists the heads that have none: theirs are (128, 128, 128) everywhere.
Attributes hold `ids` (by subject), `schema_version`, `split` (see `storage.dataset.split`) and
the attributes of the publisher. `manifest.json` and its listing hold the SHA-256 of every file and the digest of all.
"""

from spinmeround.storage.codec import PixelCodec
from spinmeround.storage.dataset.content import check_content
from spinmeround.storage.dataset.diff import DatasetDiff, diff_datasets
from spinmeround.storage.dataset.head_files import open_head
from spinmeround.storage.dataset.head_group import (
    HeadEntry,
    HeadParts,
    pictures_codec,
    read_pictures,
    write_head,
    write_latents,
    write_pictures,
)
from spinmeround.storage.dataset.identity import is_stated
from spinmeround.storage.dataset.manifest import MANIFEST, DatasetManifest, read_manifest
from spinmeround.storage.dataset.mapped import map_views
from spinmeround.storage.dataset.publish import (
    LATENTS,
    DatasetInfo,
    add_latents,
    assemble,
    is_intact,
    latents_of,
    publish,
)
from spinmeround.storage.dataset.reader import HeadDataset
from spinmeround.storage.dataset.repair import rebuild_files, replace_files, set_aside
from spinmeround.storage.dataset.schema import (
    ARRAYS,
    CAPTURED,
    MAX_SIDE,
    SCHEMA_VERSION,
    WITHOUT_NORMALS,
    read_metadata,
    separator_of,
)
from spinmeround.storage.dataset.split import SPLITS, SplitFractions, split_of
from spinmeround.storage.dataset.verify import Problem, info, verify
from spinmeround.storage.dataset.versions import (
    Version,
    find_version,
    list_versions,
    record_latents,
    record_version,
    stated_latents,
)
from spinmeround.storage.records import HeadArrays

__all__ = [
    "ARRAYS",
    "CAPTURED",
    "LATENTS",
    "MANIFEST",
    "MAX_SIDE",
    "SCHEMA_VERSION",
    "SPLITS",
    "WITHOUT_NORMALS",
    "DatasetDiff",
    "DatasetInfo",
    "DatasetManifest",
    "HeadArrays",
    "HeadDataset",
    "HeadEntry",
    "HeadParts",
    "PixelCodec",
    "Problem",
    "SplitFractions",
    "Version",
    "add_latents",
    "assemble",
    "check_content",
    "diff_datasets",
    "find_version",
    "info",
    "is_intact",
    "is_stated",
    "latents_of",
    "list_versions",
    "map_views",
    "open_head",
    "pictures_codec",
    "publish",
    "read_manifest",
    "read_metadata",
    "read_pictures",
    "rebuild_files",
    "record_latents",
    "record_version",
    "replace_files",
    "separator_of",
    "set_aside",
    "split_of",
    "stated_latents",
    "verify",
    "write_head",
    "write_latents",
    "write_pictures",
]
