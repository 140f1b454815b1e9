"""The report's section of a profile: how much is shown, and how finely."""

from pydantic import Field

from spinmeround.tasks.stage import StageParams


class ReportParams(StageParams):
    """Limits that keep the report one file that a browser opens at once."""

    viewer_heads: int = Field(default=32, ge=1, description="Most heads in the viewer, evenly chosen")
    viewer_megabytes: float = Field(
        default=6.0, gt=0, description="Most that the viewer's pictures may take; one at least"
    )
    viewer_resolution: int = Field(
        default=128, ge=16, le=512, description="Largest side of a view in the viewer, in pixels"
    )
    picture_resolution: int = Field(
        default=128, ge=16, le=512, description="Largest side of all other pictures, in pixels"
    )
    quality: int = Field(default=82, ge=1, le=100, description="WebP quality of the pictures")
    kept_heads: int = Field(default=48, ge=0, description="Most kept heads on the contact sheet, evenly chosen")
    dropped_heads: int = Field(default=16, ge=0, description="Most dropped heads shown for each reason, evenly chosen")
    novel_heads: int = Field(default=8, ge=0, description="Most held-out heads whose generated views are shown")
