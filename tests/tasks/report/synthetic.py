"""Synthetic report data: ellipsoids with a painted face, in pictures, masks and normals of all views."""

import numpy as np

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, pixel_rays
from spinmeround.tasks.dataset.publish import Counts
from spinmeround.tasks.report.coverage import find_gaps
from spinmeround.tasks.report.data import (
    AblationSection,
    Coverage,
    EvaluationSection,
    HeadCard,
    Likeness,
    Likenesses,
    LossCurve,
    NovelViews,
    Orbit,
    OrbitHead,
    Pictured,
    Quarantined,
    ReportData,
    Sector,
    StageRow,
    ViewValues,
)


def views(seed: int, cameras: Cameras, resolution: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB on white, mask and encoded normals of an ellipsoid with hair, eyes and a mouth."""
    random = np.random.default_rng(seed)
    axes = np.array([0.19, 0.25, 0.22]) * random.uniform(0.85, 1.1, 3)
    skin, hair = random.uniform([150, 100, 80], [240, 190, 165]), random.uniform([20, 15, 10], [170, 120, 70])
    origins, directions = (rays.astype(np.float64) for rays in pixel_rays(cameras, resolution))
    o, d = origins / axes, directions / axes
    a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1
    discriminant = b * b - a * c
    hit = discriminant > 0
    points = origins + directions * ((-b - np.sqrt(np.maximum(discriminant, 0))) / a)[..., None]
    normals = points / axes**2
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    x, y, z = np.moveaxis(points / axes, -1, 0)
    colour = np.where(((z < 0.25 - y * 0.3) | (y > 0.65))[..., None], hair, skin)
    for eye in (-0.35, 0.35):
        colour = np.where((np.hypot(x - eye, y - 0.15) < 0.11)[..., None] & (z > 0)[..., None], 30.0, colour)
    colour = np.where((np.hypot(x / 2.4, y + 0.4) < 0.1)[..., None] & (z > 0)[..., None], [150.0, 50, 50], colour)
    shade = 0.65 + 0.35 * np.clip(normals @ np.array([0.3, 0.8, 0.52]), 0, 1)
    rgb = np.where(hit[..., None], colour * shade[..., None], 255).clip(0, 255).astype(np.uint8)
    encoded = np.where(hit[..., None], np.rint((normals + 1) / 2 * 255), 128).astype(np.uint8)
    return rgb, np.where(hit, 255, 0).astype(np.uint8), encoded


def card(
    seed: int, reasons: tuple[str, ...] = (), scores: dict[str, float] | None = None, previews: int = 2
) -> HeadCard:
    """A card of a contact sheet: front and back, or `previews` views once round the head."""
    cameras = ViewGrid(azimuths=previews, elevations_deg=(0.0,)).cameras()
    rgb, mask, _ = views(seed, cameras, 64)
    return HeadCard(
        id=f"procedural-{seed:06d}",
        pictures=rgb,
        mask=mask,
        captions=tuple(f"{azimuth:g}°" for azimuth in cameras.azimuth_deg),
        reasons=reasons,
        scores=scores or {},
    )


def novel_views(seed: int) -> NovelViews:
    """Ground truth, and a noisy copy in place of generated views."""
    grid = ViewGrid(azimuths=8, elevations_deg=(0.0,))
    cameras = grid.cameras()
    rgb, _, normals = views(seed, cameras)
    noise = np.random.default_rng(seed).normal(0, 18, rgb.shape)
    return NovelViews(
        id=f"procedural-{seed:06d}",
        input_rgb=rgb[:1],
        input_azimuth_deg=cameras.azimuth_deg[:1],
        input_elevation_deg=cameras.elevation_deg[:1],
        generated_rgb=(rgb + noise).clip(0, 255).astype(np.uint8)[1:],
        true_rgb=rgb[1:],
        generated_normals=(normals + noise).clip(0, 255).astype(np.uint8)[1:],
        true_normals=normals[1:],
        azimuth_deg=cameras.azimuth_deg[1:],
        elevation_deg=cameras.elevation_deg[1:],
        metrics={"psnr": 17.31, "ssim": 0.71, "normal_angular_error_deg": 14.2},
        psnr={"model": (15.5, None, 16.5, 17.5, 18.5, 19.5, 20.5), "nearest_input_view": (9.0,) * 7},
    )


def loss_curve(steps: int = 600) -> LossCurve:
    step = np.arange(1, steps + 1, dtype=np.float64)
    noise = np.random.default_rng(0).normal(0, 0.25, steps)
    return LossCurve(name="multi-view", step=step, loss=(0.12 + np.exp(-step / 120)) * np.exp(noise))


def orbit(heads: int, grid: ViewGrid) -> Orbit:
    cameras = grid.cameras()
    rendered = [(seed, views(seed, cameras)) for seed in range(heads)]
    return Orbit(
        side=64,
        azimuth_deg=cameras.azimuth_deg,
        elevation_deg=cameras.elevation_deg,
        heads=tuple(
            OrbitHead(id=f"procedural-{seed:06d}", rgb=rgb, mask=mask, normals=normals)
            for seed, (rgb, mask, normals) in rendered
        ),
    )


def evaluation() -> EvaluationSection:
    """A model that is best in normals and worse than a baseline in PSNR; LPIPS is missing."""
    return EvaluationSection(
        model={
            "l2": 0.0184,
            "psnr": 17.35,
            "ssim": 0.712,
            "identity_similarity": 0.61,
            "normal_angular_error_deg": 14.2,
            "lpips": None,
        },
        baselines={
            "nearest_input_view": {
                "l2": 0.0312,
                "psnr": 15.06,
                "ssim": 0.655,
                "identity_similarity": 0.58,
                "normal_angular_error_deg": 41.7,
                "lpips": None,
            },
            "mean_training_image": {
                "l2": 0.0121,
                "psnr": 19.17,
                "ssim": 0.698,
                "identity_similarity": 0.32,
                "normal_angular_error_deg": 16.9,
                "lpips": None,
            },
        },
        missing={"lpips": "LPIPS weights not found; run `spinmeround weights fetch lpips`"},
        heads=3,
        views=tuple(
            ViewValues(
                metric=metric,
                azimuth_deg=np.array([0.0, 5.0, 90.0]),
                values={"model": ours, "mean_training_image": np.full(3, 16.0)},
            )
            for metric, ours in {"psnr": np.array([17.0, 19.0, 15.0]), "ssim": np.array([0.7, 0.8, 0.6])}.items()
        ),
    )


def ablation() -> AblationSection:
    """A variant without normals that is worse in PSNR."""
    return AblationSection(
        evaluation=EvaluationSection(
            model={"psnr": 17.35, "normal_angular_error_deg": 14.2, "consistency": 24.0},
            baselines={},
            methods={"without-normals": {"psnr": 16.2, "normal_angular_error_deg": None, "consistency": 23.1}},
            missing={"normal_angular_error_deg": "without-normals: no normals were predicted"},
            heads=3,
            truth={"consistency": 27.12},
        ),
        orderings=(("PSNR", "without normals", "1.15", "0.90 to 1.40", "p = 0.031", "the model"),),
        steps={"model": 8000, "without-normals": 8000},
        figure=np.full((40, 60, 3), 90, np.uint8),
    )


def partial_coverage() -> Coverage:
    """Two heads with views of the front and sides; one lacks the back, the other has a single view of it."""
    azimuth = np.array([-90.0, -40.0, 0.0, 40.0, 90.0, 180.0])
    gaps, near_share = find_gaps(azimuth, np.zeros(6))
    return Coverage(
        heads=2,
        azimuth_deg=azimuth,
        elevation_deg=np.zeros(6),
        number=np.array([2, 2, 4, 2, 2, 1]),
        gaps=gaps,
        near_share=near_share,
        sectors=(
            Sector(label="front", views=8, heads_without=0),
            Sector(label="sides", views=4, heads_without=0),
            Sector(label="back", views=1, heads_without=1),
        ),
    )


def pictured(seed: int, caption: str) -> Pictured:
    rgb, mask, _ = views(seed, ViewGrid(azimuths=1, elevations_deg=(0.0,)).cameras())
    return Pictured(caption=caption, rgb=rgb[0], mask=mask[0])


def likenesses() -> Likenesses:
    """Three heads; two of them are more similar than two views of one head."""
    nearest, pairs = np.zeros(100, np.int64), np.zeros(100, np.int64)
    nearest[97], nearest[70], pairs[97], pairs[70], pairs[60] = 2, 1, 1, 1, 1
    first, second, third = (pictured(seed, f"procedural-{seed:06d}") for seed in range(3))
    return Likenesses(
        heads=3,
        nearest=nearest,
        pairs=pairs,
        same_head=0.8,
        closest=(
            Likeness(pictures=(first, second), values={"similarity": 0.951}, remarkable=True),
            Likeness(pictures=(second, third), values={"similarity": 0.414}),
        ),
    )


def memorised() -> tuple[Likeness, ...]:
    """A generated head that is nearer to a training head than to the truth, and one that is not."""
    return tuple(
        Likeness(
            pictures=(
                pictured(seed, f"procedural-{seed:06d}, generated"),
                pictured(seed, f"procedural-{seed:06d}, truth"),
                pictured(near, f"procedural-{near:06d}"),
            ),
            values={"truth": own, "training head": nearest},
            remarkable=nearest > own,
        )
        for seed, near, own, nearest in ((201, 4, 0.41, 0.62), (202, 1, 0.83, 0.35))
    )


def stages() -> tuple[StageRow, ...]:
    return (
        StageRow(name="sample", version=1, made=32, reused=0, seconds=6.1, parameters={"generator.name": "procedural"}),
        StageRow(name="render", version=1, made=0, reused=26, seconds=0.0, parameters={"render.resolution": 64}),
        StageRow(name="mesh", version=2, made=26, reused=0, seconds=31.4, parameters={"mesh.level": 10.0}),
    )


def report_data(heads: int = 3, grid: ViewGrid = ViewGrid(), kept: int = 6) -> ReportData:  # noqa: B008 (frozen)
    """A complete report with all sections."""
    dropped = (
        card(101, ("stray_volume",), {"stray_volume": 0.0312, "depth_to_width": 1.21}),
        card(102, ("stray_volume", "clipped_volume"), {"stray_volume": 0.0021, "clipped_volume": 0.034}),
        card(103, ("clipped_volume",), {"stray_volume": 0.0, "clipped_volume": 0.051}, previews=8),
        card(104, ("review",), {"stray_volume": 0.0, "clipped_volume": 0.0}, previews=8),
    )
    return ReportData(
        run="demo",
        data_date="2026-11-22",
        counts=Counts(
            asked=kept + 5,
            dropped=4,
            screened_out={"stray_volume": 2, "clipped_volume": 1, "review": 1},
            screen_reasons={"stray_volume": 2, "clipped_volume": 2, "review": 1},
            kept_by_review=1,
            quarantined=1,
            written=kept,
        ),
        digests={"dataset": "9f2c" * 16, "generator": "ab12" * 16, "training run": "77de" * 16},
        kept=tuple(card(seed) for seed in range(kept)),
        dropped=dropped,
        kept_by_review=(card(5, ("stray_volume",), {"stray_volume": 0.0004}, previews=8),),
        quarantined=(
            Quarantined(
                id="procedural-000017",
                stage="mesh",
                reason="ValueError: no surface at level 10 <inside> the box",
                attempts=3,
            ),
        ),
        orbit=orbit(heads, grid),
        coverage=partial_coverage(),
        likenesses=likenesses(),
        memorised=memorised(),
        curves=(loss_curve(),),
        novel_views=tuple(novel_views(seed) for seed in (201, 202, 203)),
        evaluation=evaluation(),
        ablation=ablation(),
        stages=stages(),
        parameters={
            "generator": {"name": "procedural", "options": {}},
            "views": {"azimuths": 25, "elevations_deg": [-30.0, -15.0, 0.0, 15.0, 30.0], "radius": 2.7},
            "mesh": {"level": 10.0, "resolution": 96},
        },
        licences={
            "heads": "Made by the procedural generator of this project: Apache-2.0.",
            "recognition network": "Trained on procedural heads: Apache-2.0.",
        },
    )
