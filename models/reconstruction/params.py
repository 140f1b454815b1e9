"""Configuration of the reconstruction. Imports neither torch nor a mesh library."""

from typing import Annotated

from pydantic import Field

from spinmeround.storage.records import FrozenParams

Rate = Annotated[float, Field(gt=0.0)]


class LearningRates(FrozenParams):
    """Adam's learning rates of the parameters of 3D Gaussians, by default those of 3DGS for a scene of size 1."""

    means: Rate = Field(1.6e-4, description="Of the means, in world units; falls exponentially")
    final_share: float = Field(0.01, gt=0.0, le=1.0, description="Last learning rate of the means, as a share of it")
    log_scales: Rate = 5e-3
    quaternions: Rate = 1e-3
    opacity_logits: Rate = 5e-2
    colours: Rate = Field(2.5e-3, description="Of the harmonic of degree 0; 1/20 of it for higher ones")


class DensifyParams(FrozenParams):
    """gsplat's adaptive density control (its DefaultStrategy)."""

    start: int = Field(100, ge=0, description="Step after which Gaussians are split, duplicated and removed")
    every: int = Field(100, ge=1, description="Steps between two refinements")
    stop_share: float = Field(0.7, ge=0.0, le=1.0, description="Share of the steps after which no more are made")
    gradient: float = Field(
        2e-4, gt=0.0, description="Mean gradient of the image position, in half sides, from which a Gaussian grows"
    )
    large: float = Field(0.01, gt=0.0, description="Scale in world units above which a Gaussian is split in two")
    min_opacity: float = Field(0.005, gt=0.0, lt=1.0, description="Opacity below which a Gaussian is removed")
    most: int = Field(20000, ge=1, description="Number of Gaussians above which none are added")


class SplatParams(FrozenParams):
    """Optimisation of 3D Gaussians to pictures."""

    number: int = Field(5000, ge=1, description="Gaussians at the beginning")
    degree: int = Field(0, ge=0, le=3, description="Degree of the spherical harmonics of the colours")
    steps: int = Field(1000, ge=0, description="Steps, of one view each")
    rates: LearningRates = LearningRates()
    densify: DensifyParams = DensifyParams()
    ssim_weight: float = Field(0.2, ge=0.0, le=1.0, description="Weight of 1 - SSIM; the rest is that of L1")
    lpips_weight: float = Field(0.1, ge=0.0, description="Weight of LPIPS, where its weights are given")
    random_background: float = Field(
        0.5, ge=0.0, le=1.0, description="Share of the steps on a random background, so that masks are fitted, too"
    )
    seed: int = Field(0, ge=0, description="Seed of the initial places, the order of the views and the backgrounds")
