"""The `report` section of a profile: how many heads the report shows, and at which resolution."""

from pydantic import Field

from spinmeround.tasks.stage import StageParams


class ReportParams(StageParams):
    """Limits on the size of the report, which is a single file."""

    viewer_heads: int = Field(default=32, ge=1, description="Maximum number of heads in the viewer, evenly spaced")
    viewer_megabytes: float = Field(
        default=6.0, gt=0, description="Maximum size of the viewer's pictures in MB; one head is always included"
    )
    viewer_resolution: int = Field(
        default=128, ge=16, le=512, description="Maximum side of a view in the viewer, in pixels"
    )
    picture_resolution: int = Field(
        default=128, ge=16, le=512, description="Maximum side of all other pictures, in pixels"
    )
    quality: int = Field(default=82, ge=1, le=100, description="WebP quality of the pictures")
    kept_heads: int = Field(default=48, ge=0, description="Maximum number of kept heads shown, evenly spaced")
    dropped_heads: int = Field(default=16, ge=0, description="Maximum number of dropped heads for each reason")
    novel_heads: int = Field(default=8, ge=0, description="Maximum number of held-out heads with generated views")
    similar_heads: int = Field(
        default=6, ge=0, description="Maximum number of pairs of heads with the most similar identities"
    )
