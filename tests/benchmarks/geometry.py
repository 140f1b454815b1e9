"""Meshes and normal maps against the analytic truth on unseen heads, seconds of each step, and views a second.

Truth is asked only to measure. A vertex is as far from the surface as the signed distance there, divided by
the distance's slope along its gradient. A rendered normal is held against the gradient at the point where
the same pixel's ray meets the true surface: the generator's own depth, made exact by Newton steps along the
ray. Pixels count inside the mask eroded by one pixel; one where the mesh is missed counts as 90 degrees.
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
    """What is found on one head: errors of the vertices in voxels, of the pixels in degrees, seconds of each step."""

    seed: int
    faces: int = 0
    vertices: np.ndarray = field(default_factory=lambda: np.zeros(0))
    normals: np.ndarray = field(default_factory=lambda: np.zeros(0))
    face_normals: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)

    def timed(self, step: str, work: Callable[[], Any]) -> Any:
        """What `work` returns; remembers its seconds by the clock and of the processor."""
        clock, processor = time.perf_counter(), time.process_time()
        result = work()
        self.seconds[step] = (time.perf_counter() - clock, time.process_time() - processor)
        return result


def main(
    heads: Annotated[int, typer.Option(min=1, help="Unseen heads.")] = 20,
    first_seed: Annotated[int, typer.Option(min=0)] = 20_000_000,
    resolution: Annotated[int, typer.Option(min=8, help="Samples of the density grid along each axis.")] = 256,
    pixels: Annotated[int, typer.Option(min=16, help="Side of the normal maps.")] = 256,
    views: Annotated[int, typer.Option(min=1, help="Views of each head, of all sides and elevations.")] = 8,
    renderer: Annotated[str, typer.Option(help="embree, pytorch3d or auto.")] = "embree",
    speed: Annotated[bool, typer.Option(help="Time the 125 views too.")] = True,
    faces: Annotated[int, typer.Option(min=1000, help="Faces of the mesh for the 125 views, about.")] = 300_000,
    threads: Annotated[int, typer.Option(min=1, help="Threads of Embree for the 125 views.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Heads measured at the same time, a thread each.")] = 1,
    pictures: Annotated[Path | None, typer.Option(help="Folder for each head's pictures and error maps.")] = None,
) -> Mapping[str, list[dict[str, Any]]]:
    """Measure the geometry of procedural heads, and how fast their normals are drawn."""
    cameras, seeds = all_round(views), range(first_seed, first_seed + heads)
    one = partial(measure, cameras=cameras, resolution=resolution, pixels=pixels, renderer=renderer, pictures=pictures)
    found = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for each in pool.map(one, seeds):
            found.append(each)
            row = accuracy([each])[0]
            told = [
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            ]
            typer.echo(", ".join(told), err=True)
    tables = {
        f"accuracy, {resolution}^3 samples, {views} views of {pixels} px ({TARGETS})": accuracy(found),
        f"seconds a head, {views} views of {pixels} px": seconds(found),
    }
    if speed:
        generator = sound_heads()
        mesh = mesh_of_size(generator, generator.sample(first_seed), faces)
        title = f"125 views of {len(mesh.faces)} faces at 512 px (target: below 25 s on two cores)"
        tables[title] = compare_speed(mesh, ViewGrid().cameras(), 512, threads)
    return tables


def all_round(views: int) -> Cameras:
    """Views spread evenly over the azimuths, the five elevations in turn."""
    return orbit(np.arange(views) * 360.0 / views, np.resize([0.0, 15.0, -15.0, 30.0, -30.0], views))


def sound_heads() -> ProceduralGenerator:
    """The generator without defects."""
    return ProceduralGenerator(ProceduralOptions(defect_share=0.0))


def measure(
    seed: int,
    *,
    cameras: Cameras,
    resolution: int,
    pixels: int,
    renderer: str,
    pictures: Path | None = None,
) -> Measured:
    """One head through grid, mesh and normal maps, and its errors."""
    found, generator, params = Measured(seed=seed), sound_heads(), MeshParams(resolution=resolution)
    identity = generator.sample(seed)
    draw = make_normal_renderer(renderer, threads=1)

    def field_of(points: np.ndarray) -> np.ndarray:
        return generator.density(identity, points)

    grid = found.timed("density grid", lambda: density_grid(field_of, generator.box_warp, resolution))
    mesh = found.timed("marching cubes", lambda: extract_mesh(grid, generator.box_warp, params))
    maps = found.timed("normal maps", lambda: draw.render(mesh, cameras, pixels))
    found.faces = len(mesh.faces)
    voxel = generator.box_warp / (resolution - 1)
    found.vertices = np.abs(distance_to_surface(generator, identity, mesh.vertices)) / voxel
    rgb, inside, truth = found.timed("truth", lambda: true_picture(generator, identity, cameras, pixels))
    found.normals = angles(maps, truth, inside)
    found.face_normals = angles(draw.render(replace(mesh, normals=None), cameras, pixels), truth, inside)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        error_picture(rgb, maps, truth, inside).save(pictures / f"{seed}.png")
    return found


def distance_to_surface(generator: ProceduralGenerator, identity: Identity, points: np.ndarray) -> np.ndarray:
    """Signed distance in world units, to the first order: the field's value by its slope along its gradient."""
    step = np.float32(2e-4)
    shift = step * generator.surface_normal(identity, points)
    rise = generator.signed_distance(identity, points + shift) - generator.signed_distance(identity, points - shift)
    return generator.signed_distance(identity, points) / np.maximum(rise / (2 * step), 0.05)


def true_picture(
    generator: ProceduralGenerator, identity: Identity, cameras: Cameras, pixels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pictures, where they are measured (eroded mask with a surface at the pixel's centre), true normals there."""
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
    """Degrees between drawn and true normals, pixel by pixel of `inside`; 90 where the mesh is missed."""
    drawn, true = maps.normals[inside].astype(np.float64), truth[inside]
    degrees = np.degrees(np.arctan2(np.linalg.norm(np.cross(drawn, true), axis=-1), (drawn * true).sum(axis=-1)))
    return np.where(maps.hit[inside], degrees, 90.0)


def accuracy(found: list[Measured]) -> list[dict[str, Any]]:
    """A row for each head, and one for all their vertices and pixels together."""
    pooled = {
        name: np.concatenate([getattr(each, name) for each in found])
        for name in ("vertices", "normals", "face_normals")
    }
    everyone = Measured(seed=-1, faces=sum(each.faces for each in found), **pooled)
    rows = []
    for each in [*found, everyone]:
        vertices, normals = np.percentile(each.vertices, [50, 95, 100]), np.percentile(each.normals, [50, 95])
        by_faces = np.percentile(each.face_normals, [50, 95])
        rows.append(
            {
                "head": "all" if each is everyone else each.seed,
                "faces": each.faces,
                **dict(zip(("vertex p50 [voxel]", "p95 [voxel]", "max [voxel]"), vertices.tolist(), strict=True)),
                **dict(zip(("normal median [deg]", "p95 [deg]"), normals.tolist(), strict=True)),
                **dict(zip(("by faces: median", "by faces: p95"), by_faces.tolist(), strict=True)),
                "missed [%]": 100.0 * float((each.normals == 90.0).mean()),
            }
        )
    return rows


def seconds(found: list[Measured]) -> list[dict[str, Any]]:
    """Medians over the heads, by the clock and of the processor: on a busy machine the clock tells little."""
    taken = {step: np.median([each.seconds[step] for each in found], axis=0) for step in found[0].seconds}
    return [
        {"step": step, "by the clock [s]": float(clock), "of one processor [s]": float(processor)}
        for step, (clock, processor) in taken.items()
    ]


def error_picture(rgb: np.ndarray, maps: NormalMaps, truth: np.ndarray, inside: np.ndarray) -> Image.Image:
    """All views in columns: the picture, the drawn normals, the angle to the true ones (black 0, white 20 degrees)."""
    error = np.zeros(inside.shape)
    error[inside] = angles(maps, truth, inside)
    grey = np.repeat((np.clip(error / 20, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    normals = ((maps.normals + 1) / 2 * 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in (rgb, normals, grey)]))


def mesh_of_size(generator: ProceduralGenerator, identity: Identity, faces: int) -> TriangleMesh:
    """The head's mesh from the grid whose mesh has about that many faces."""

    def mesh(resolution: int) -> TriangleMesh:
        grid = density_grid(lambda points: generator.density(identity, points), generator.box_warp, resolution)
        return extract_mesh(grid, generator.box_warp, MeshParams(resolution=resolution))

    return mesh(round(96 * np.sqrt(faces / len(mesh(96).faces))))


def compare_speed(mesh: TriangleMesh, cameras: Cameras, pixels: int, threads: int) -> list[dict[str, Any]]:
    """Our renderer and a plain loop over trimesh's own rays (Embree too), the loop on every 25th view and scaled."""
    few = cameras[np.arange(0, len(cameras), 25)]
    ours = make_normal_renderer("embree", threads=threads)
    ours.render(mesh, few[[0]], 16)
    rows = []
    for name, draw, drawn, cores in (
        ("ours, Embree", lambda: ours.render(mesh, cameras, pixels), cameras, threads),
        ("a loop over trimesh's rays", lambda: trimesh_loop(mesh, few, pixels), few, 1),
    ):
        wall, busy = time.perf_counter(), time.process_time()
        maps = draw()
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
        scale = len(cameras) / len(drawn)
        rows.append(
            {
                "renderer": name,
                "views drawn": len(drawn),
                f"seconds for {len(cameras)}": wall * scale,
                f"processor seconds for {len(cameras)}": busy * scale,
                "threads": cores,
                "processor share of its threads": busy / wall / cores,
                "hit share": float(maps.hit.mean()),
            }
        )
    return rows


def trimesh_loop(mesh: TriangleMesh, cameras: Cameras, pixels: int) -> NormalMaps:
    """What one would write with trimesh alone: a view at a time, first hits, vertex normals by barycentric weights."""
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
