"""Formats that hold encoded images: a folder, an indexed tar, LMDB, Parquet, WebDataset, MosaicML streaming.

Each is configured for speed: raw bytes in the container, decoded by OpenCV (by Pillow if it is not installed), the
container opened once per process, only the requested views decoded, and WebP where the format leaves the choice, since
it is smaller and decodes faster than PNG. WebDataset reads in the order of its tars, one head per sample; all others
read at random.
"""

import importlib
import io
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks._storage.heads import WorkingSet, draws
from tests.benchmarks._storage.measure import Sample, planes

ARRAYS = ("rgb", "normals")


def encode(picture: np.ndarray, kind: str) -> bytes:
    """An image as lossless PNG or WebP."""
    file = io.BytesIO()
    Image.fromarray(picture).save(
        file, **{"png": {"format": "PNG"}, "webp": {"format": "WEBP", "lossless": True}}[kind]
    )
    return file.getvalue()


def decode(data: bytes | memoryview) -> np.ndarray:
    """The pixels (height, width, 3) of an image, by the fastest installed decoder."""
    try:
        import cv2
    except ImportError:
        return np.asarray(Image.open(io.BytesIO(data)))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def one_thread() -> None:
    """Limit OpenCV to one thread: its threads would compete with the other workers."""
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(1)


def name_of(array: str, view: int, kind: str) -> str:
    return f"{array}-{view:03d}.{kind}"


def write_folder(working: WorkingSet, kind: str, processes: int) -> Path:
    """One folder per head with one file per image; the other formats copy their bytes from it."""
    root = working.folder / kind
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_write_head, working, root, kind), range(working.heads)))
    return root


def _write_head(working: WorkingSet, root: Path, kind: str, number: int) -> None:
    folder, temporary = root / f"{number:05d}", root / f".{number:05d}"
    if folder.exists():
        return
    temporary.mkdir(parents=True, exist_ok=True)
    head = working.head(number)
    for array in ARRAYS:
        for view, picture in enumerate(getattr(head, array)):
            (temporary / name_of(array, view, kind)).write_bytes(encode(picture, kind))
    temporary.rename(folder)


class Format(ABC):
    """A format, written once from the folder of images and then read sample by sample."""

    name: str
    package: str | None = None
    install = ""
    kind = "webp"

    def __init__(self, working: WorkingSet, wanted: int) -> None:
        self.working, self.wanted = working, wanted
        self.root = working.folder / type(self).__name__.lower()
        self.pictures = working.folder / self.kind

    @property
    def missing(self) -> str | None:
        """How to install the format's package if it is missing."""
        try:
            importlib.import_module(self.package or "numpy")
        except ImportError as error:
            return f"missing ({error.name}): {self.install or f'pip install {self.package}'}"
        return None

    def ensure(self) -> None:
        """Write the format unless it exists."""
        if not (self.root / "done").exists():
            self.root.mkdir(parents=True, exist_ok=True)
            self.write()
            (self.root / "done").touch()

    def files(self) -> list[Path]:
        """The files and folders of the format."""
        return [self.root]

    def write(self) -> None:  # noqa: B027
        """Write all heads below `root`, from the folder of images."""

    def before_fork(self) -> None:  # noqa: B027
        """Prepare the parent process of the workers."""

    @abstractmethod
    def open(self) -> Any:
        """What `read` needs; called once per process."""

    @abstractmethod
    def read(self, opened: Any, subject: int, view: int) -> tuple[bytes | memoryview, bytes | memoryview]:
        """The encoded RGB and normals of one view."""

    def samples(self, seed: int) -> Iterator[Sample]:
        """An endless stream of random views of random heads."""
        one_thread()
        opened = self.open()
        for subject, views in draws(self.working.heads, self.working.views, self.wanted, seed):
            yield self.sample(opened, subject, views)

    def sample(self, opened: Any, subject: int, views: Sequence[int]) -> Sample:
        """The pixels of these views of one head, as planes."""
        found: Sample = {"subject": subject, "views": np.asarray(views)}
        for place, view in enumerate(views):
            for name, data in zip(ARRAYS, self.read(opened, subject, view), strict=True):
                picture = planes(decode(data)[None])
                found.setdefault(name, np.empty((len(views), *picture.shape[1:]), np.uint8))[place] = picture[0]
        return found

    def encoded(self, subject: int, view: int) -> tuple[bytes, bytes]:
        folder = self.pictures / f"{subject:05d}"
        rgb, normals = ((folder / name_of(array, view, self.kind)).read_bytes() for array in ARRAYS)
        return rgb, normals


class Folder(Format):
    name, kind = "folder of PNG", "png"

    def files(self) -> list[Path]:
        return [self.pictures]

    def open(self) -> None:
        return None

    def read(self, opened: None, subject: int, view: int) -> tuple[bytes, bytes]:
        return self.encoded(subject, view)


class WebPFolder(Folder):
    name, kind = "folder of WebP", "webp"


class IndexedTar(Format):
    name = "indexed tar of WebP"

    def write(self) -> None:
        index = np.zeros((self.working.heads, self.working.views, 2, 2), np.int64)
        with tarfile.open(self.root / "heads.tar", "w") as tar:
            for subject, view, part in np.ndindex(index.shape[:3]):
                data = self.encoded(subject, view)[part]
                member = tarfile.TarInfo(f"{subject:05d}/{name_of(ARRAYS[part], view, self.kind)}")
                member.size = len(data)
                index[subject, view, part] = tar.offset + 512, len(data)
                tar.addfile(member, io.BytesIO(data))
        np.save(self.root / "index.npy", index)

    def open(self) -> Any:
        return (self.root / "heads.tar").open("rb", buffering=0), np.load(self.root / "index.npy")

    def read(self, opened: Any, subject: int, view: int) -> tuple[bytes, bytes]:
        file, index = opened
        rgb, normals = (os.pread(file.fileno(), int(size), int(offset)) for offset, size in index[subject, view])
        return rgb, normals


class Lmdb(Format):
    name, package = "LMDB of WebP", "lmdb"

    def write(self) -> None:
        import lmdb

        size = 2 * sum(file.stat().st_size for file in self.pictures.rglob("*")) + 2**26
        with lmdb.open(str(self.root / "heads"), map_size=size) as database:
            for subject in range(self.working.heads):
                with database.begin(write=True) as transaction:
                    for view in range(self.working.views):
                        for array, data in zip(ARRAYS, self.encoded(subject, view), strict=True):
                            transaction.put(self._key(array, subject, view), data, append=False)

    @staticmethod
    def _key(array: str, subject: int, view: int) -> bytes:
        return f"{subject:05d}/{array}/{view:03d}".encode()

    def open(self) -> Any:
        import lmdb

        database = lmdb.open(str(self.root / "heads"), readonly=True, lock=False, readahead=False)
        return database, database.begin(buffers=True)

    def read(self, opened: Any, subject: int, view: int) -> tuple[memoryview, memoryview]:
        rgb, normals = (opened[1].get(self._key(array, subject, view)) for array in ARRAYS)
        return rgb, normals


class Parquet(Format):
    name, package = "parquet of WebP (datasets)", "datasets"

    def write(self) -> None:
        import pyarrow
        import pyarrow.parquet

        for subject in range(self.working.heads):
            pairs = [self.encoded(subject, view) for view in range(self.working.views)]
            columns = [pyarrow.array(column, pyarrow.binary()) for column in zip(*pairs, strict=True)]
            table = pyarrow.table(dict(zip(ARRAYS, columns, strict=True)))
            pyarrow.parquet.write_table(table, self.root / f"{subject:05d}.parquet", compression="none")
        self.open()

    def files(self) -> list[Path]:
        return [*sorted(self.root.glob("*.parquet")), *self.root.glob("cache")]

    def open(self) -> Any:
        import datasets

        datasets.disable_progress_bars()
        files = [str(file) for file in sorted(self.root.glob("*.parquet"))]
        return datasets.Dataset.from_parquet(files, cache_dir=str(self.root / "cache")).with_format("arrow")

    def read(self, opened: Any, subject: int, view: int) -> tuple[memoryview, memoryview]:
        row = opened[subject * self.working.views + view]
        rgb, normals = (memoryview(row[name][0].as_buffer()) for name in ARRAYS)
        return rgb, normals


class WebDataset(Format):
    name, package = "WebDataset of WebP, in order", "webdataset"

    def write(self) -> None:
        import webdataset

        with webdataset.ShardWriter(
            f"{self.root}/heads-%04d.tar", maxcount=max(1, self.working.heads // 8), verbose=0
        ) as sink:
            for subject in range(self.working.heads):
                parts = {}
                for view in range(self.working.views):
                    for array, data in zip(ARRAYS, self.encoded(subject, view), strict=True):
                        parts[f"{array}-{view:03d}.{self.kind}"] = data
                sink.write({"__key__": f"{subject:05d}", **parts})

    def open(self) -> None:
        return None

    def read(self, opened: Any, subject: int, view: int) -> tuple[bytes, bytes]:
        rgb, normals = (opened[f"{array}-{view:03d}.{self.kind}"] for array in ARRAYS)
        return rgb, normals

    def samples(self, seed: int) -> Iterator[Sample]:
        import webdataset

        one_thread()
        rng = np.random.default_rng(seed)
        tars = [str(file) for file in sorted(self.root.glob("*.tar"))]
        for found in webdataset.WebDataset(tars, shardshuffle=len(tars), empty_check=False).repeat():
            views = rng.permutation(self.working.views)[: self.wanted].tolist()
            yield self.sample(found, int(found["__key__"]), views)


class Mosaic(Format):
    name, package = "MosaicML streaming of WebP", "streaming"
    install = "pip install --no-deps mosaicml-streaming (its metadata asks for older packages)"

    def write(self) -> None:
        from streaming import MDSWriter

        with MDSWriter(out=str(self.root / "mds"), columns=dict.fromkeys(ARRAYS, "bytes"), size_limit=2**27) as writer:
            for subject in range(self.working.heads):
                for view in range(self.working.views):
                    writer.write(dict(zip(ARRAYS, self.encoded(subject, view), strict=True)))

    def before_fork(self) -> None:
        self._opened = self._open()

    def _open(self) -> Any:
        from streaming import StreamingDataset

        return StreamingDataset(local=str(self.root / "mds"), remote=None, shuffle=False, batch_size=1)

    def open(self) -> Any:
        return self._opened if hasattr(self, "_opened") else self._open()

    def read(self, opened: Any, subject: int, view: int) -> tuple[bytes, bytes]:
        row = opened[subject * self.working.views + view]
        return row["rgb"], row["normals"]


FORMATS = (WebDataset, Mosaic, Lmdb, Parquet, IndexedTar, WebPFolder, Folder)
