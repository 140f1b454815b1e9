"""Accuracy of meshes and normal maps on held-out heads with analytic ground truth, and the time of each step.

The distance of a vertex to the surface is the signed distance divided by its slope along the gradient. A rendered
normal is compared with the gradient where the same pixel's ray meets the true surface: the generator's depth, refined
by Newton steps along the ray. Pixels count inside the mask eroded by one pixel; a pixel that misses the mesh counts as
90 degrees.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import trimesh
import typer
from PIL import Image
from scipy.ndimage import binary_erosion

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, orbit, pixel_rays
from spinmeround.models.geometry.meshes import as_trimesh, density_grid, extract_mesh
from spinmeround.models.geometry.normals import make_normal_renderer
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.storage.records import Identity, NormalMaps, TriangleMesh

TARGETS = "targets: vertices p95 <= 0.5 voxel; normals median < 1 degree, p95 < 6 degrees"


@dataclass(kw_only=True)
class Measured:
    """Measurements of one head: vertex errors in voxels, normal errors in degrees, and seconds per step."""

    seed: int
    faces: int = 0
    vertices: np.ndarray = field(default_factory=lambda: np.zeros(0))
    normals: np.ndarray = field(default_factory=lambda: np.zeros(0))
    face_normals: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)

    def timed(self, step: str, work: Callable[[], Any]) -> Any:
        """The result of `work`; records its wall and CPU seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.seconds[step] = (time.perf_counter() - wall, time.process_time() - cpu)
        return result


def main(
    heads: Annotated[int, typer.Option(min=1, help="Number of held-out heads.")] = 20,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first head.")] = 20_000_000,
    resolution: Annotated[int, typer.Option(min=8, help="Samples of the density grid along each axis.")] = 256,
    pixels: Annotated[int, typer.Option(min=16, help="Side of the normal maps, in pixels.")] = 256,
    views: Annotated[int, typer.Option(min=1, help="Views per head, over all azimuths and elevations.")] = 8,
    renderer: Annotated[str, typer.Option(help="embree, pytorch3d or auto.")] = "embree",
    speed: Annotated[bool, typer.Option(help="Also time 125 views.")] = True,
    faces: Annotated[int, typer.Option(min=1000, help="Approximate number of mesh faces for the 125 views.")] = 300_000,
    threads: Annotated[int, typer.Option(min=1, help="Embree threads for the 125 views.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Heads measured in parallel, one thread each.")] = 1,
    images: Annotated[Path | None, typer.Option(help="Folder for images and error maps of each head.")] = None,
) -> Mapping[str, list[dict[str, Any]]]:
    """Measure the accuracy of geometry on procedural heads, and the speed of normal rendering."""
    cameras, seeds = views_all_around(views), range(first_seed, first_seed + heads)
    one = partial(measure, cameras=cameras, resolution=resolution, pixels=pixels, renderer=renderer, images=images)
    found = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for each in pool.map(one, seeds):
            found.append(each)
            row = accuracy([each])[0]
            columns = [
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            ]
            typer.echo(", ".join(columns), err=True)
    tables = {
        f"accuracy, {resolution}^3 samples, {views} views of {pixels} px ({TARGETS})": accuracy(found),
        f"seconds per head, {views} views of {pixels} px": seconds(found),
    }
    if speed:
        generator = clean_generator()
        mesh = mesh_of_size(generator, generator.sample(first_seed), faces)
        title = f"125 views of {len(mesh.faces)} faces at 512 px (target: below 25 s on two cores)"
        tables[title] = compare_speed(mesh, ViewGrid().cameras(), 512, threads)
    return tables


def views_all_around(views: int) -> Cameras:
    """Views evenly spaced in azimuth, with the five elevations in turn."""
    return orbit(np.arange(views) * 360.0 / views, np.resize([0.0, 15.0, -15.0, 30.0, -30.0], views))


def clean_generator() -> ProceduralGenerator:
    """The procedural generator without defects."""
    return ProceduralGenerator(ProceduralOptions(defect_share=0.0))


def measure(
    seed: int,
    *,
    cameras: Cameras,
    resolution: int,
    pixels: int,
    renderer: str,
    images: Path | None = None,
) -> Measured:
    """Grid, mesh and normal maps of one head, and their errors."""
    found, generator, params = Measured(seed=seed), clean_generator(), MeshParams(resolution=resolution)
    identity = generator.sample(seed)
    normal_renderer = make_normal_renderer(renderer, threads=1)

    def field_of(points: np.ndarray) -> np.ndarray:
        return generator.density(identity, points)

    grid = found.timed("density grid", lambda: density_grid(field_of, generator.box_warp, resolution))
    mesh = found.timed("marching cubes", lambda: extract_mesh(grid, generator.box_warp, params))
    maps = found.timed("normal maps", lambda: normal_renderer.render(mesh, cameras, pixels))
    found.faces = len(mesh.faces)
    voxel = generator.box_warp / (resolution - 1)
    found.vertices = np.abs(distance_to_surface(generator, identity, mesh.vertices)) / voxel
    rgb, inside, truth = found.timed("truth", lambda: ground_truth(generator, identity, cameras, pixels))
    found.normals = angles(maps, truth, inside)
    found.face_normals = angles(normal_renderer.render(replace(mesh, normals=None), cameras, pixels), truth, inside)
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
        error_image(rgb, maps, truth, inside).save(images / f"{seed}.png")
    return found


def distance_to_surface(generator: ProceduralGenerator, identity: Identity, points: np.ndarray) -> np.ndarray:
    """First-order signed distance in world units: the field's value divided by its slope along the gradient."""
    step = np.float32(2e-4)
    shift = step * generator.surface_normal(identity, points)
    rise = generator.signed_distance(identity, points + shift) - generator.signed_distance(identity, points - shift)
    return generator.signed_distance(identity, points) / np.maximum(rise / (2 * step), 0.05)


def ground_truth(
    generator: ProceduralGenerator, identity: Identity, cameras: Cameras, pixels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, the measured pixels (eroded mask with a surface at the pixel centre), and true normals there."""
    rendering = generator.render(identity, cameras, pixels)
    inside = binary_erosion(rendering.mask > 0, np.ones((1, 3, 3))) & np.isfinite(rendering.depth)
    origins, directions = (rays.astype(np.float64) for rays in pixel_rays(cameras, pixels))
    forward = cameras.cam2world[:, None, None, :3, 2]
    along = (rendering.depth / (directions * forward).sum(axis=-1))[inside]
    start, towards = origins[inside], directions[inside]
    for _ in range(3):
        points = (start + along[:, None] * towards).astype(np.float32)
        normals = generator.surface_normal(identity, points)
        facing = np.minimum((normals * towards).sum(axis=-1), -0.1)
        along -= np.clip(generator.signed_distance(identity, points) / facing, -0.002, 0.002)
    truth = np.zeros((*inside.shape, 3))
    truth[inside] = normals
    return rendering.rgb, inside, truth


def angles(maps: NormalMaps, truth: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Angles between rendered and true normals at the pixels of `inside`, in degrees; 90 where the mesh is missed."""
    rendered, true = maps.normals[inside].astype(np.float64), truth[inside]
    degrees = np.degrees(np.arctan2(np.linalg.norm(np.cross(rendered, true), axis=-1), (rendered * true).sum(axis=-1)))
    return np.where(maps.hit[inside], degrees, 90.0)


def accuracy(found: list[Measured]) -> list[dict[str, Any]]:
    """A row per head, and one for all vertices and pixels together."""
    pooled = {
        name: np.concatenate([getattr(each, name) for each in found])
        for name in ("vertices", "normals", "face_normals")
    }
    pooled_heads = Measured(seed=-1, faces=sum(each.faces for each in found), **pooled)
    rows = []
    for each in [*found, pooled_heads]:
        vertices, normals = np.percentile(each.vertices, [50, 95, 100]), np.percentile(each.normals, [50, 95])
        by_faces = np.percentile(each.face_normals, [50, 95])
        rows.append(
            {
                "head": "all" if each is pooled_heads else each.seed,
                "faces": each.faces,
                **dict(zip(("vertex p50 [voxel]", "p95 [voxel]", "max [voxel]"), vertices.tolist(), strict=True)),
                **dict(zip(("normal median [deg]", "p95 [deg]"), normals.tolist(), strict=True)),
                **dict(zip(("by faces: median", "by faces: p95"), by_faces.tolist(), strict=True)),
                "missed [%]": 100.0 * float((each.normals == 90.0).mean()),
            }
        )
    return rows


def seconds(found: list[Measured]) -> list[dict[str, Any]]:
    """Medians over the heads, in wall and CPU seconds; wall time is unreliable on a busy machine."""
    taken = {step: np.median([each.seconds[step] for each in found], axis=0) for step in found[0].seconds}
    return [{"step": step, "wall [s]": float(wall), "CPU [s]": float(cpu)} for step, (wall, cpu) in taken.items()]


def error_image(rgb: np.ndarray, maps: NormalMaps, truth: np.ndarray, inside: np.ndarray) -> Image.Image:
    """One column per view: image, rendered normals, angle to the true ones (black 0, white 20 degrees)."""
    error = np.zeros(inside.shape)
    error[inside] = angles(maps, truth, inside)
    grey = np.repeat((np.clip(error / 20, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    normals = ((maps.normals + 1) / 2 * 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in (rgb, normals, grey)]))


def mesh_of_size(generator: ProceduralGenerator, identity: Identity, faces: int) -> TriangleMesh:
    """The head's mesh at the grid resolution that gives about this number of faces."""

    def mesh(resolution: int) -> TriangleMesh:
        grid = density_grid(lambda points: generator.density(identity, points), generator.box_warp, resolution)
        return extract_mesh(grid, generator.box_warp, MeshParams(resolution=resolution))

    return mesh(round(96 * np.sqrt(faces / len(mesh(96).faces))))


def compare_speed(mesh: TriangleMesh, cameras: Cameras, pixels: int, threads: int) -> list[dict[str, Any]]:
    """The Embree renderer compared with a loop over trimesh rays (also Embree), extrapolated from every 25th view."""
    few = cameras[np.arange(0, len(cameras), 25)]
    ours = make_normal_renderer("embree", threads=threads)
    ours.render(mesh, few[[0]], 16)
    rows = []
    for name, render, rendered, cores in (
        ("Embree renderer", lambda: ours.render(mesh, cameras, pixels), cameras, threads),
        ("loop over trimesh rays", lambda: trimesh_loop(mesh, few, pixels), few, 1),
    ):
        wall, busy = time.perf_counter(), time.process_time()
        maps = render()
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
        scale = len(cameras) / len(rendered)
        rows.append(
            {
                "renderer": name,
                "views rendered": len(rendered),
                f"seconds for {len(cameras)}": wall * scale,
                f"CPU seconds for {len(cameras)}": busy * scale,
                "threads": cores,
                "CPU utilisation of its threads": busy / wall / cores,
                "hit share": float(maps.hit.mean()),
            }
        )
    return rows


def trimesh_loop(mesh: TriangleMesh, cameras: Cameras, pixels: int) -> NormalMaps:
    """The baseline with trimesh alone: one view at a time, first hits, barycentric vertex normals."""
    solid = as_trimesh(mesh)
    origins, directions = pixel_rays(cameras, pixels)
    normals = np.zeros((len(cameras), pixels**2, 3), np.float32)
    hit = np.zeros((len(cameras), pixels**2), bool)
    for view in range(len(cameras)):
        points, rays, faces = solid.ray.intersects_location(
            origins[view].reshape(-1, 3), directions[view].reshape(-1, 3), multiple_hits=False
        )
        weights = trimesh.triangles.points_to_barycentric(solid.triangles[faces], points)
        blended = (solid.vertex_normals[solid.faces[faces]] * weights[..., None]).sum(axis=1)
        normals[view, rays] = trimesh.unitize(blended)
        hit[view, rays] = True
    shape = (len(cameras), pixels, pixels)
    return NormalMaps(normals=normals.reshape(*shape, 3), hit=hit.reshape(shape))
