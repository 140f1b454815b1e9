"""Every reader of files from outside: what it needs on disk, and how the files are used.

`write` makes a folder of valid files, once; `use` reads them as the commands do. Only errors of this package may come
out of it, and what is accepted satisfies the assertions here.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from spinmeround.flows.profile import load_profile
from spinmeround.flows.run.folder import Place, open_run
from spinmeround.flows.server import process
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.geometry.camera_world import sees_head
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.transforms import transforms_json
from spinmeround.models.identity.params import DetectionParams
from spinmeround.storage.artifacts import ArtifactStore, check_store, find_garbage, register_run
from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.storage.dataset import (
    HeadDataset,
    add_latents,
    check_content,
    diff_datasets,
    find_version,
    info,
    list_versions,
    publish,
    record_version,
    verify,
)
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.storage.weights import fingerprint, record_checksums
from spinmeround.tasks.dataset.publish import published_digests
from spinmeround.tasks.exchange.huggingface import export_huggingface, import_huggingface
from spinmeround.tasks.exchange.webdataset import export_webdataset, import_webdataset
from spinmeround.tasks.generation.align import align_photo
from spinmeround.tasks.generation.inputs import check_inputs, photo_angles, read_cameras, read_identity
from spinmeround.tasks.generation.params import GenerationParams, NothingInput, PhotoInput, ViewsInput
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.embed import EmbedParams, cached_detector, cached_embedder, photo_identity
from spinmeround.tasks.pictures.photos import picture_size, read_photo
from spinmeround.tasks.reconstruction.views import read_folder
from spinmeround.tasks.screening.decisions import Decisions, GeneratorId, read_decisions
from spinmeround.tasks.weights.insightface_packs import open_pack
from spinmeround.tasks.weights.inspect import inspect
from spinmeround.tasks.weights.lpips_backbone import load_lpips
from spinmeround.tasks.weights.networks import NetworkClass, check_network, load_network
from tests.models.diffusion.networks import TINY_PROMPT, base_unet, tiny_autoencoder, tiny_text_encoder, tiny_unet
from tests.support.artifacts import put
from tests.support.heads import write_all_latents, write_heads
from tests.support.packs import write_pack
from tests.support.weights import write_autoencoder, write_recognition

GENERATOR = GeneratorId(name="tiny", fingerprint="tiny-1")
_FACE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """`files` is a pattern of the files that are damaged."""

    write: Callable[[Path], object]
    use: Callable[[Path], object]
    files: str = "**/*"


def _no_progress(done: int, total: int) -> None: ...


# ------------------------------------------------------------------ small files


def _write_profile(folder: Path) -> None:
    source = Path(load_profile.__code__.co_filename).parents[1] / "profiles" / "panohead.toml"
    shutil.copy(source, folder / "fuzz.toml")


def _write_marker(folder: Path) -> None:
    open_run(Place(out=str(folder / "run")), "tiny")


def _write_decisions(folder: Path) -> None:
    decision = {"decision": "keep", "note": "", "time": "2026-11-22T21:04:55Z"}
    found = Decisions.model_validate({"generator": GENERATOR, "decisions": {"tiny-000001": decision}})
    (folder / "decisions.json").write_bytes(found.to_json())


def _write_photo(folder: Path) -> None:
    Image.fromarray(_FACE).save(folder / "photo.png")
    (folder / "photo.json").write_text(json.dumps({"camera": {"azimuth_deg": 20.0, "elevation_deg": -5.0}}))


def _use_photo(folder: Path) -> None:
    photo = PhotoInput(file=str(folder / "photo.png"))
    check_inputs(GenerationParams(given=photo))
    assert all(abs(angle) <= 360 for angle in photo_angles(photo))


def _write_identity(folder: Path) -> None:
    np.save(folder / "identity.npy", np.random.default_rng(0).standard_normal(512).astype(np.float32))


def _use_identity(folder: Path) -> None:
    assert abs(np.linalg.norm(read_identity(folder / "identity.npy").astype(np.float64)) - 1) < 1e-3


def _write_views(folder: Path) -> None:
    cameras = ViewGrid(azimuths=3, elevations_deg=(0.0,)).cameras()
    names, normals = [f"{i}.png" for i in range(3)], [f"n{i}.png" for i in range(3)]
    for name in names + normals:
        Image.fromarray(_FACE[:16, :16]).save(folder / name)
    document = transforms_json(cameras, 16, names, {"normals_file_path": normals})
    (folder / "transforms.json").write_text(json.dumps(document))


def _use_folder(folder: Path) -> None:
    found = read_folder(folder)
    assert found.rgb.shape == (*found.mask.shape, 3)
    assert found.normals is None or found.normals.shape == found.rgb.shape
    assert sees_head(found.cameras).all()


def _use_views(folder: Path) -> None:
    check_inputs(GenerationParams(given=ViewsInput(file=str(folder / "transforms.json"))))
    check_inputs(GenerationParams(given=NothingInput(), cameras_file=str(folder / "transforms.json")))
    assert sees_head(read_cameras(folder / "transforms.json")).all()


def _write_record(folder: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "weights" / "a.bin").write_bytes(b"0123")
    record_checksums(folder / "weights")


def _write_serving(folder: Path) -> None:
    (folder / "serving.json").write_text(json.dumps({"api": "http://127.0.0.1:4200/api"}))


def _use_serving(folder: Path) -> None:
    answers, process.healthy = process.healthy, lambda api, **_: True
    try:
        process.running_server(folder)
    finally:
        process.healthy = answers


# ------------------------------------------------------------------ pictures

_PICTURES = {
    "png": ("RGBA", {}),
    "jpg": ("RGB", {"exif": True}),
    "tif": ("RGB", {"exif": True}),
    "webp": ("RGBA", {}),
    "gif": ("P", {}),
    "bmp": ("RGB", {}),
    "ppm": ("RGB", {}),
    "avif": ("RGB", {}),
    "jp2": ("RGB", {}),
    "16.png": ("I;16", {}),
    "16.tif": ("I;16", {}),
    "float.tif": ("F", {}),
}


def _write_pictures(folder: Path) -> None:
    from PIL import ImageCms

    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, (mode, more) in _PICTURES.items():
        picture = Image.fromarray(_FACE)
        if mode == "F":
            picture = Image.fromarray(_FACE[..., 0].astype(np.float32) / 255)
        elif mode == "I;16":
            picture = Image.fromarray(_FACE[..., 0].astype(np.uint16) * 257)
        else:
            picture = picture.convert(mode)
        options = {"exif": exif} if more else {}
        picture.save(folder / f"picture.{name}", **options, **({"icc_profile": profile} if name == "jpg" else {}))


def _use_pictures(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        for options in ({}, {"square": True, "colours": False}):
            with suppress(SpinMeRoundError):
                assert read_photo(path, **options).picture.mode == "RGB"
        picture_size(path)


# ------------------------------------------------------------------ networks


def _network_reader(kind: NetworkClass) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        with suppress(SpinMeRoundError):
            check_network(folder, kind)
        for tensor in load_network(folder, kind).state_dict().values():
            assert bool(tensor.isfinite().all())

    return use


def _write_bin(folder: Path) -> None:
    network = base_unet(block_out_channels=(4, 4), cross_attention_dim=4, norm_num_groups=2)
    network.save_config(folder)
    torch.save(network.state_dict(), folder / "diffusion_pytorch_model.bin")


def _write_shards(folder: Path) -> None:
    base_unet(block_out_channels=(4, 4), cross_attention_dim=4, norm_num_groups=2).save_pretrained(
        folder, max_shard_size="8KB"
    )


def _write_encoder(folder: Path) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    tiny_text_encoder(**sizes).save_pretrained(folder)


def _write_pipeline(folder: Path) -> None:
    unet = tiny_unet(multiview_factors=(1,), block_out_channels=(4, 4), norm_groups=2, cross_attention_dim=512)
    made = SpinMeRoundPipeline(
        unet, tiny_autoencoder(), tiny_text_encoder(num_hidden_layers=1), TINY_PROMPT.model_dump()
    )
    made.save_pretrained(folder)


def _forget_networks() -> None:
    for cached in (open_pack, cached_embedder, cached_detector):
        cached.cache_clear()


def _use_recognition(folder: Path) -> None:
    _forget_networks()
    with suppress(SpinMeRoundError):
        inspect("arcface", folder / "arcface.onnx")
    found = cached_embedder(folder / "arcface.onnx").embed(np.zeros((1, 112, 112, 3), np.uint8) + _FACE[:1, :1, :1])
    assert abs(np.linalg.norm(found) - 1) < 1e-3


def _use_pack(folder: Path) -> None:
    for use in (
        lambda: inspect("antelopev2", folder / "pack"),
        lambda: align_photo(_FACE, landmarks=None, pack=folder / "pack", side=64, border="white"),
        lambda: photo_identity(
            _FACE, EmbedParams(pack=str(folder / "pack"), detection=DetectionParams(threshold=0.01, side=64))
        ),
    ):
        _forget_networks()
        with suppress(SpinMeRoundError):
            use()


def _write_lpips(folder: Path) -> None:
    from torchvision.models import alexnet

    state = {name: value.half() for name, value in alexnet(weights=None).state_dict().items() if "features" in name}
    torch.save(state, folder / "alexnet-owt-7be5be79.pth")


def _use_lpips(folder: Path) -> None:
    with suppress(SpinMeRoundError):
        inspect("lpips-alexnet", folder / "alexnet-owt-7be5be79.pth")
    load_lpips(folder / "alexnet-owt-7be5be79.pth")


# ------------------------------------------------------------------ datasets, exports, stores


def _dataset(folder: Path) -> Path:
    heads = write_heads(folder / "heads", range(2))
    path = publish(folder / "datasets", heads, {"generator": {"name": "procedural"}}).path
    add_latents(path, write_all_latents(folder / "latents", [head.id for head in heads]), "autoencoder")
    shutil.rmtree(folder / "heads")
    shutil.rmtree(folder / "latents")
    return path


def _write_dataset(folder: Path) -> None:
    path = _dataset(folder)
    record_version(path.parent, HeadDataset.open(path).digest, 2)


def _use_dataset(folder: Path) -> None:
    path = next((folder / "datasets").glob("*.zarr"))
    verify(path, threads=1)
    digest = path.stem
    for use in (
        lambda: HeadDataset.open(path).read_views(1, [0, 3], ["rgb", "normals", "mask", "identity_views"]),
        lambda: HeadDataset.open(path).read_views(0, [0], ["latents/rgb", "latents/normals"]),
        lambda: (HeadDataset.open(path).cameras(1), HeadDataset.open(path).identities, HeadDataset.open(path).seeds),
        lambda: check_content(HeadDataset.open(path), threads=1),
        lambda: info(path),
        lambda: diff_datasets(path, path),
        lambda: list_versions(path.parent),
        lambda: find_version(path.parent, "v1"),
        lambda: find_version(path.parent, digest[:6]),
    ):
        with suppress(SpinMeRoundError):
            use()


def _write_webdataset(folder: Path) -> None:
    export_webdataset(HeadDataset.open(_dataset(folder / "made")), folder / "export", 1, _no_progress)
    shutil.rmtree(folder / "made")


def _write_huggingface(folder: Path) -> None:
    export_huggingface(HeadDataset.open(_dataset(folder / "made")), folder / "export", 1, _no_progress)
    shutil.rmtree(folder / "made")


def _importer(read: Callable[..., str]) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        target = folder.parent / "imported.zarr"
        shutil.rmtree(target, ignore_errors=True)
        read(folder / "export", target, _no_progress)
        assert not verify(target, threads=1)

    return use


def _write_store(folder: Path) -> None:
    store = ArtifactStore(folder / "store")
    mesh = put(store, "mesh", 1, files={"mesh.json": b'{"level": 1.5}', "a.bin": b"0123"})
    key = put(store, "normals", 1, {"mesh": mesh})
    stated = b'{"digest": "' + b"0" * 64 + b'", "heads": 1}'
    put(store, "publish", 1, {"tiny-000001/normals": key}, {"dataset.json": stated})
    store.record_failure("embed", key, "tiny-000001", "no nose", "Traceback", 2)
    run = open_run(Place(out=str(folder / "run")), "tiny")
    run.summary.write_text(json.dumps({"training": {"key": key}, "evaluation": None, "stages": {}}))
    register_run(store, folder / "run", "tiny", {"tiny-000001": {"mesh": mesh, "normals": key}})
    (folder / "store" / "verify.journal").write_text(f"mesh/{mesh} 1.000000\n")


def _use_store(folder: Path) -> None:
    store = ArtifactStore(folder / "store")
    entries = list(store.backend.entries())
    uses: list[Callable[[], object]] = [
        lambda: check_store(store),
        store.failures,
        lambda: published_digests(store, ["tiny-000001"]),
        lambda: find_garbage(store, 0.0),
    ]
    uses += [lambda entry=entry: store.open(entry.stage, entry.key) for entry in entries]  # type: ignore[misc]
    uses += [lambda entry=entry: store.manifest(entry.stage, entry.key) for entry in entries]  # type: ignore[misc]
    uses += [lambda entry=entry: store.verify(entry.stage, entry.key) for entry in entries]  # type: ignore[misc]
    for use in uses:
        with suppress(SpinMeRoundError):
            use()


def _write_checkpoints(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(step, {"weights": torch.arange(9) * step, "losses": torch.ones(step)}, {"dataset": "abc"})


def _use_checkpoints(folder: Path) -> None:
    found = Checkpoints(folder).latest()
    if found is not None:
        assert found.tensors()["losses"].shape == (found.step,)
        assert found.state() == {"dataset": "abc"}


READERS: dict[str, Reader] = {
    "profile": Reader(write=_write_profile, use=lambda folder: load_profile(str(folder / "fuzz.toml"))),
    "run marker": Reader(
        write=_write_marker, use=lambda folder: open_run(Place(out=str(folder / "run")), "tiny"), files="run/run.json"
    ),
    "decisions": Reader(
        write=_write_decisions, use=lambda folder: read_decisions(folder / "decisions.json", GENERATOR)
    ),
    "photo and label": Reader(write=_write_photo, use=_use_photo),
    "identity": Reader(write=_write_identity, use=_use_identity),
    "posed views": Reader(write=_write_views, use=_use_views),
    "views to reconstruct from": Reader(write=_write_views, use=_use_folder),
    "pictures": Reader(write=_write_pictures, use=_use_pictures),
    "checksums of weights": Reader(write=_write_record, use=lambda folder: fingerprint(folder / "weights")),
    "address of a server": Reader(write=_write_serving, use=_use_serving),
    "autoencoder": Reader(write=write_autoencoder, use=_network_reader("AutoencoderKL")),
    "unet as .bin": Reader(write=_write_bin, use=_network_reader("UNet2DConditionModel")),
    "unet in shards": Reader(write=_write_shards, use=_network_reader("UNet2DConditionModel")),
    "text encoder": Reader(write=_write_encoder, use=_network_reader("CLIPTextModel")),
    "pipeline": Reader(write=_write_pipeline, use=load_pipeline),
    "recognition": Reader(write=lambda folder: write_recognition(folder / "arcface.onnx"), use=_use_recognition),
    "pack": Reader(write=lambda folder: write_pack(folder / "pack", "w600k_r50.onnx"), use=_use_pack),
    "lpips": Reader(write=_write_lpips, use=_use_lpips),
    "dataset": Reader(write=_write_dataset, use=_use_dataset),
    "webdataset": Reader(write=_write_webdataset, use=_importer(import_webdataset)),
    "hugging face": Reader(write=_write_huggingface, use=_importer(import_huggingface)),
    "store": Reader(write=_write_store, use=_use_store),
    "checkpoints": Reader(write=_write_checkpoints, use=_use_checkpoints),
}
