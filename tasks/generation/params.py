"""What is sampled and how, apart from the networks, so that a mistake is told before they are loaded."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from spinmeround.models.diffusion.edm import NoiseSchedule
from spinmeround.models.diffusion.groups import check_cameras, check_different
from spinmeround.models.diffusion.interpolation import Way
from spinmeround.models.diffusion.params import SolverParams
from spinmeround.models.diffusion.photo_normals import PhotoNormalsParams
from spinmeround.models.geometry.cameras import Cameras, ViewGrid
from spinmeround.storage.errors import ConfigError, as_config_error
from spinmeround.tasks.generation.inputs import PosedFiles, read_cameras, read_document, read_identity, read_square
from spinmeround.tasks.stage import StageParams

Condition = Literal["views", "photo", "posed", "identity", "interpolation", "nothing"]


class SampleViewsParams(StageParams):
    """What is sampled, and how. An identity is the id of a head of the dataset, or a .npy file with 512 numbers."""

    condition: Condition = Field(
        "views",
        description="What the model is given: views of a head and its identity, a photo, posed views from a file, an "
        "identity alone, two identities, or nothing",
    )
    head: str | None = Field(None, description="Id of the head in the dataset, for 'views'")
    given: tuple[int, ...] = Field((0,), description="Indices of the given views, 1 or 3 of them, for 'views'")
    photo: str | None = Field(None, description="A square picture, framed as the dataset's, for 'photo'")
    photo_azimuth_deg: float = Field(0.0, ge=-360.0, le=360.0, description="Where the photo is taken from")
    photo_elevation_deg: float = Field(0.0, ge=-90.0, le=90.0)
    posed: str | None = Field(None, description="A transforms.json with 1 or 3 frames and their pictures, for 'posed'")
    identity: str | None = Field(None, description="Identity of 'identity', and if it is known of 'photo' and 'posed'")
    between: tuple[str, str] | None = Field(None, description="The two identities of 'interpolation'")
    steps_between: int = Field(7, ge=2, description="Heads of an interpolation, both ends included")
    way: Way = Field("spherical", description="How identities are interpolated")
    heads: int = Field(1, ge=1, description="How many heads, from seeds one after the other, for 'nothing'")
    views: ViewGrid = Field(ViewGrid(azimuths=7, elevations_deg=(0.0,)), description="The views to generate")
    cameras_file: str | None = Field(None, description="A transforms.json whose cameras take the place of `views`")
    anchored: bool | None = Field(None, description="Views agree through seven anchors; by default where they are many")
    guidance_scale: float | None = Field(None, ge=0.0, description="By default 3, or 3.5 without given views")
    sampling_steps: int = Field(50, ge=1, description="Steps of the solver")
    schedule: NoiseSchedule | None = Field(None, description="Takes the place of the paper's, and of `sampling_steps`")
    solver: SolverParams = SolverParams()
    photo_normals: PhotoNormalsParams = PhotoNormalsParams()
    batch: int | None = Field(None, ge=1, description="Groups of views at once, else what fits; changes no result")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> "SampleViewsParams":
        needs = {
            "views": "head",
            "photo": "photo",
            "posed": "posed",
            "identity": "identity",
            "interpolation": "between",
        }
        needed = needs.get(self.condition)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{needed}: expected one for condition {self.condition!r}, got none")
        if self.condition == "views" and len(self.given) not in (1, 3):
            raise ValueError(f"given: expected 1 or 3 given views, got {len(self.given)}")
        if len(set(self.given)) < len(self.given):
            raise ValueError(f"given: expected different views, got {', '.join(map(str, self.given))}")
        return self

    def cameras(self) -> Cameras:
        """The cameras to generate for."""
        return self.views.cameras() if self.cameras_file is None else read_cameras(Path(self.cameras_file))

    def check_files(self) -> None:
        """Read whatever needs neither the model nor a dataset, so that a mistake is told before they are loaded.

        Raises ConfigError for a file that is not what it should be, a camera inside the head and one given twice.
        """
        with as_config_error():
            check_cameras("cameras", self.cameras())
        if self.condition == "photo":
            read_square(Path(self.photo or ""))
        if self.condition == "posed":
            posed = PosedFiles.read(Path(self.posed or ""))
            with as_config_error(f"{self.posed}: "):
                check_cameras("frames", posed.cameras)
                check_different("frames", posed.cameras)
            for picture in [*posed.images, *(posed.normals or [])]:
                read_square(picture)
        for identity in (self.identity, *(self.between or ())):
            if identity is not None and identity.endswith(".npy"):
                read_identity(Path(identity))


def parse_cameras(text: str, grid: ViewGrid) -> dict[str, object]:
    """`views` and `cameras_file` of "orbit:48", "grid" (the profile's) or the name of a transforms.json.

    `views` is there in any case, since its distance and lens are the photo's, too. Raises ConfigError for other words.
    """
    if text == "grid":
        return {"views": grid.model_dump()}
    name, _, number = text.partition(":")
    if name == "orbit" and number.isdecimal() and 1 <= int(number) <= 3600:
        return {"views": {**grid.model_dump(), "azimuths": int(number), "elevations_deg": (0.0,)}}
    if not text.endswith(".json"):
        raise ConfigError(f"--cameras: expected orbit:N with N of 1 to 3600, grid or FILE.json, got {text!r}")
    return {"views": grid.model_dump(), "cameras_file": str(Path(text).absolute())}


def camera_of_photo(photo: Path, azimuth_deg: float | None, elevation_deg: float | None) -> tuple[float, float]:
    """Azimuth and elevation of a photo in degrees: as given, else as the label beside an aligned photo says, else 0.

    Raises ConfigError for a label that is no JSON object, or whose angles are no numbers.
    """
    label = photo.with_suffix(".json")
    camera = read_document(label).get("camera") if label.is_file() else None
    known = camera if isinstance(camera, dict) else {}

    def angle(name: str, told: float | None) -> float:
        found = known.get(name, 0.0) if told is None else told
        if not isinstance(found, int | float) or not math.isfinite(found):
            raise ConfigError(f"{label}: camera.{name}: expected degrees, found {found!r}")
        return float(found)

    return angle("azimuth_deg", azimuth_deg), angle("elevation_deg", elevation_deg)
