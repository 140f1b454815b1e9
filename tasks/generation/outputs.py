"""Writes generated heads. The files of each head:

    view-NN.png, normals-NN.png          generated views and normals, in the order of the cameras
    given-NN.png, given-normals-NN.png   the conditioning views, if any
    transforms.json                      the cameras, in nerfstudio's format
    sheet.png                            contact sheet of given and generated views with their normals
    orbit.webp                           animation of the views next to their normals
    orbit.html                           a self-contained page on which the mouse turns the head

A model without normals writes none; its sheets and animations show the views alone.

Several heads get one folder each, and `heads.png` shows all of them: one row per head, or a strip for one camera.
"""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundOutput
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.transforms import transforms_json
from spinmeround.storage.files import make_folder, write_atomic
from spinmeround.tasks.html import template
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, side_by_side, to_uint8

Pictures = UInt8[np.ndarray, "view height width 3"]

FRAME_MS = 80


@dataclass(frozen=True, kw_only=True)
class GeneratedHead:
    """The pictures of one head as uint8; `given` holds the cameras of the conditioning views, if any."""

    name: str
    rgb: Pictures
    normals: Pictures | None = None
    given: Cameras | None = None
    given_rgb: Pictures | None = None
    given_normals: Pictures | None = None

    @classmethod
    def of(cls, name: str, output: SpinMeRoundOutput, given: PosedViews | None) -> "GeneratedHead":
        """Convert a pipeline's output, arrays in [0, 1]."""
        generated = cls(name=name, rgb=to_uint8(output.images), normals=_to_uint8(output.normals))
        if given is None:
            return generated
        return replace(
            generated,
            given=given.cameras,
            given_rgb=to_uint8(np.asarray(given.images)),
            given_normals=_to_uint8(output.given_normals),
        )

    @property
    def shown(self) -> list[UInt8[np.ndarray, "height row 3"]]:
        """Each view, next to its normals if there are any."""
        return _beside(self.rgb, self.normals)

    @property
    def shown_given(self) -> list[UInt8[np.ndarray, "height row 3"]]:
        """Each conditioning view, likewise."""
        return [] if self.given_rgb is None else _beside(self.given_rgb, self.given_normals)


def _to_uint8(pictures: np.ndarray | None) -> Pictures | None:
    return None if pictures is None else to_uint8(pictures)


def _beside(rgb: Pictures, normals: Pictures | None) -> list[UInt8[np.ndarray, "height row 3"]]:
    return list(rgb) if normals is None else [side_by_side(np.stack(pair)) for pair in zip(rgb, normals, strict=True)]


def write_heads(heads: Sequence[GeneratedHead], cameras: Cameras, folder: Path) -> list[Path]:
    """Write all heads; returns the files. Each file is written atomically."""
    if len(heads) == 1:
        return write_head(heads[0], cameras, folder)
    files = [file for head in heads for file in write_head(head, cameras, folder / head.name)]
    return [*files, _saved(folder / "heads.png", _png(heads_sheet(heads, cameras)))]


def write_head(head: GeneratedHead, cameras: Cameras, folder: Path) -> list[Path]:
    """Write all files of one head; returns them."""
    make_folder(folder)
    views, normals, given, given_normals = (
        [] if pictures is None else _save_pictures(folder, kind, pictures)
        for kind, pictures in (
            ("view", head.rgb),
            ("normals", head.normals),
            ("given", head.given_rgb),
            ("given-normals", head.given_normals),
        )
    )
    names = {"normals_file_path": [path.name for path in normals]} if normals else {}
    document = transforms_json(cameras, head.rgb.shape[1], [path.name for path in views], names)
    return [
        *views,
        *normals,
        *given,
        *given_normals,
        _saved(folder / "transforms.json", json.dumps(document, indent=1, allow_nan=False).encode()),
        _saved(folder / "sheet.png", _png(head_sheet(head, cameras))),
        _saved(folder / "orbit.webp", animation(head, cameras)),
        _saved(folder / "orbit.html", orbit_page(head, cameras).encode()),
    ]


def head_sheet(head: GeneratedHead, cameras: Cameras) -> Image.Image:
    """A contact sheet: the given views first, each view next to its normals."""
    captions = [_angles("generated", cameras, view) for view in range(len(cameras))]
    if head.given is not None:
        captions = [*(_angles("given", head.given, view) for view in range(len(head.given))), *captions]
    return contact_sheet([*head.shown_given, *head.shown], captions, style=SheetStyle(columns=4, cell=256))


def heads_sheet(heads: Sequence[GeneratedHead], cameras: Cameras) -> Image.Image:
    """All heads on one sheet: for one camera a strip of images above normals, for several one row per head."""
    if len(cameras) == 1:
        columns = [
            head.rgb[0] if head.normals is None else np.concatenate([head.rgb[0], head.normals[0]]) for head in heads
        ]
        return contact_sheet(columns, [head.name for head in heads], style=SheetStyle(columns=len(heads)))
    rows = [side_by_side(head.rgb) for head in heads]
    width = min(2048, 128 * len(cameras))
    return contact_sheet(rows, [head.name for head in heads], style=SheetStyle(columns=1, cell=width))


def orbit_order(cameras: Cameras) -> list[int]:
    """The order of the views in an animation: each ring by azimuth, from the lowest elevation up."""
    order: list[int] = np.lexsort((np.round(cameras.azimuth_deg % 360, 3), np.round(cameras.elevation_deg, 3))).tolist()
    return order


def animation(head: GeneratedHead, cameras: Cameras) -> bytes:
    """A looping animated WebP."""
    shown = head.shown
    frames = [Image.fromarray(shown[view]) for view in orbit_order(cameras)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, format="WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=90
    )
    return buffer.getvalue()


def orbit_page(head: GeneratedHead, cameras: Cameras) -> str:
    """A self-contained page that shows the view nearest to the head's rotation."""
    views = [
        {
            "azimuth": round(float(cameras.azimuth_deg[view]), 3),
            "elevation": round(float(cameras.elevation_deg[view]), 3),
            "rgb": _data_uri(head.rgb[view]),
            **({} if head.normals is None else {"normals": _data_uri(head.normals[view])}),
        }
        for view in orbit_order(cameras)
    ]
    return template("orbit.html.j2").render(title=head.name, side=head.rgb.shape[1], views=views)


def _data_uri(picture: UInt8[np.ndarray, "height width 3"]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _angles(kind: str, cameras: Cameras, view: int) -> str:
    return f"{kind}\nazimuth {cameras.azimuth_deg[view]:.0f}, elevation {cameras.elevation_deg[view]:.0f}"


def _save_pictures(folder: Path, kind: str, pictures: Pictures) -> list[Path]:
    digits = max(2, len(str(len(pictures) - 1)))
    return [
        _saved(folder / f"{kind}-{number:0{digits}d}.png", _png(Image.fromarray(picture)))
        for number, picture in enumerate(pictures)
    ]


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _saved(path: Path, data: bytes) -> Path:
    write_atomic(path, data)
    return path
