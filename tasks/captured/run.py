"""Import of photographed heads into a dataset, which declares what they lack.

Heads may have different numbers of pictures; a dataset has one. It is that of `CaptureParams.views`, or the fewest that
a head has: of a head with more, those that are spread widest; heads with fewer are left out. Heads that can't be
imported are left out with the reason.

    captured       layout, the heads' landmarks in the world frame, which azimuths the views cover, whether there are
                   views from behind, the heads whose background is in the picture, and those left out
    without_normals   ids of the heads without normals
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from spinmeround.models.geometry.cameras import FACE_VISIBLE_DEG, absolute_azimuth_deg
from spinmeround.models.identity.arcface import ArcFaceEmbedder
from spinmeround.models.identity.faces import FaceFinder
from spinmeround.storage.dataset import CAPTURED, WITHOUT_NORMALS, HeadEntry, assemble, verify, write_head
from spinmeround.storage.errors import DatasetError, EnvironmentUnavailable, one_line
from spinmeround.tasks.captured.arrays import head_arrays
from spinmeround.tasks.captured.facescape import list_facescape
from spinmeround.tasks.captured.nersemble import list_nersemble
from spinmeround.tasks.captured.params import FRONTAL, CaptureParams, LayoutName
from spinmeround.tasks.captured.placed import PlacedHead, mean_angles, place_head, spread_views
from spinmeround.tasks.captured.posed_frames import list_posed_frames
from spinmeround.tasks.captured.scene import HeadSource, Layout
from spinmeround.tasks.dataset.publish import Counts
from spinmeround.tasks.exchange.formats import OnProgress, check_id, new_folder

LAYOUTS: dict[LayoutName, Layout] = {
    "nerfstudio": list_posed_frames,
    "nersemble": list_nersemble,
    "facescape": list_facescape,
}

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The networks of an import; `fingerprints` identify them in the dataset's attributes."""

    finder: FaceFinder
    embedder: ArcFaceEmbedder
    fingerprints: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The digest of the dataset, its numbers of heads and views, and the heads left out with the reasons."""

    digest: str
    heads: int
    views: int
    without_normals: int
    left_out: dict[str, str]


def import_captured(
    source: Path, layout: LayoutName, target: Path, params: CaptureParams, networks: Networks, on_progress: OnProgress
) -> Imported:
    """Import the heads of a folder into a new dataset at `target`; `on_progress` counts each head twice.

    Raises ConfigError for a folder of another layout or a target that exists, DatasetError if no head is left.
    """
    sources = LAYOUTS[layout](source, params)
    run = _Import(params, networks, on_progress, len(sources))
    placed = run.with_equal_views(list(run.placed(sources)))
    with new_folder(target) as folder:
        parts = folder.with_name("parts")
        written = list(run.written(placed, parts))
        if not written:
            reason = next((f"{id}: {why}" for id, why in run.left_out.items()), "no head")
            raise DatasetError(f"{source}: expected a head that can be imported, found none ({reason})")
        folder.rmdir()
        attributes = run.attributes(layout, written)
        info = assemble(
            folder, [HeadEntry(id=each.head.id, folder=parts / each.head.id) for each in written], attributes
        )
        if problems := verify(folder):
            raise DatasetError(f"import: expected a consistent dataset, found {problems[0]}")
    return Imported(
        digest=info.digest,
        heads=len(written),
        views=len(written[0].cameras),
        without_normals=len(attributes.get(WITHOUT_NORMALS, ())),
        left_out=run.left_out,
    )


class _Import:
    """An import in progress: the heads left out so far with the reasons, and those with a background."""

    def __init__(self, params: CaptureParams, networks: Networks, on_progress: OnProgress, heads: int) -> None:
        self.params, self.networks, self.left_out = params, networks, dict[str, str]()
        self._with_background: list[str] = []
        self._on_progress, self._done, self._total = on_progress, 0, 2 * heads

    def placed(self, sources: Sequence[HeadSource]) -> Iterator[PlacedHead]:
        """The heads whose frame is found."""
        for source in sources:
            found = self._attempt(check_id(source.id), partial(self._place, source))
            if found is not None:
                yield found

    def with_equal_views(self, heads: Sequence[PlacedHead]) -> list[PlacedHead]:
        """The heads with `views` views, or as many as the head with the fewest has; others are left out."""
        count = self.params.views or min((len(head.cameras) for head in heads), default=0)
        found = []
        for head in heads:
            if len(head.cameras) < count:
                self.left_out[head.head.id] = f"expected {count} pictures or more, found {len(head.cameras)}; --views"
            else:
                found.append(head.chosen(spread_views(head.cameras, count)))
        return found

    def written(self, heads: Sequence[PlacedHead], folder: Path) -> Iterator[PlacedHead]:
        """The heads whose arrays are written into folders in `folder`."""
        if not heads:
            return
        azimuth, elevation = (each.astype(np.float32) for each in mean_angles(heads))

        def write(head: PlacedHead) -> bool:
            arrays, cut_out = head_arrays(head, (azimuth, elevation), self.networks.embedder, self.params)
            write_head(folder / head.head.id, arrays)
            return cut_out

        for head in heads:
            cut_out = self._attempt(head.head.id, partial(write, head))
            if cut_out is None:
                continue
            if not cut_out:
                self._with_background.append(head.head.id)
            yield head

    def attributes(self, layout: LayoutName, written: Sequence[PlacedHead]) -> dict[str, Any]:
        """The attributes of the dataset; they depend only on what decides its content."""
        count = len(written) + len(self.left_out)
        counts = Counts(asked=count, screened_out={}, dropped=0, quarantined=len(self.left_out), written=len(written))
        azimuth = np.concatenate([absolute_azimuth_deg(head.cameras.azimuth_deg) for head in written])
        captured = {
            "layout": layout,
            "landmarks": {head.head.id: np.round(head.landmarks, 6).tolist() for head in written},
            "max_azimuth_deg": float(azimuth.max()),
            "back_views": bool((azimuth > FACE_VISIBLE_DEG).any()),
            "with_background": sorted(self._with_background),
            "left_out": dict(sorted(self.left_out.items())),
        }
        without = sorted(head.head.id for head in written if not head.head.has_normals)
        split = {"validation": self.params.validation_share, "test": self.params.test_share}
        return {
            "generator": {"name": "captured", "options": {}},
            "fingerprints": dict(self.networks.fingerprints),
            "parameters": {
                "capture": self.params.model_dump(mode="json"),
                "embed": {"frontal": FRONTAL.model_dump(mode="json")},
            },
            "counts": asdict(counts),
            "split": split,
            "licence": self.params.licence,
            CAPTURED: captured,
            **({WITHOUT_NORMALS: without} if without else {}),
        }

    def _place(self, source: HeadSource) -> PlacedHead:
        return place_head(source.read(), self.networks.finder, self.params)

    def _attempt(self, id: str, make: Callable[[], Made]) -> Made | None:
        """What `make` returns; None, and the reason in `left_out`, for a head that can't be imported."""
        self._done += 1
        self._on_progress(self._done, self._total)
        try:
            return make()
        except EnvironmentUnavailable:
            raise
        except (ValueError, OSError) as error:
            self.left_out[id] = one_line(error)
            return None
