"""Random weights in the published formats, to rehearse a profile without the real ones.

Each part is a function of the seed and is written atomically; existing files are left alone. At full size the folder
takes some 8 GB. A profile next to them refers to them.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.storage.files import fsync, make_folder, owned_folder, write_atomic
from spinmeround.storage.hashing import sha256_file
from spinmeround.storage.weights import find_part

PROFILE = "panohead-stub.toml"
_PANOHEAD = find_part("panohead").path
Write = Callable[[Path], None]


def write_stubs(
    folder: Path, *, small: bool, panohead_checkout: Path | None, seed: int, base: str = "panohead"
) -> Iterator[Path]:
    """Write the missing parts below `folder`, and yield each path once it is complete.

    The profile next to them extends `base`. Raises ConfigError if `folder` is a file or holds stubs of another size
    or seed, or if the checkout is invalid.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder for the weights, found a file")
    title = f"# Random weights ({'small' if small else 'full size'}, seed {seed}), for rehearsals only."
    profile = folder / PROFILE
    if profile.is_file() and not profile.read_text(encoding="utf-8").startswith(title):
        raise ConfigError(f"{profile}: it was written with other options; choose another folder or remove this one")
    with environment_errors(folder):
        make_folder(folder)
        for name, write in _writers(small=small, checkout=panohead_checkout, seed=seed).items():
            if not (folder / name).exists():
                _write(folder, name, write)
                yield folder / name
        before, now = (
            f"{title}\n{_profile(folder.absolute(), base, small=small, checkout=checkout)}"
            for checkout in (None, panohead_checkout)
        )
        if not profile.is_file() or (before != now and profile.read_text(encoding="utf-8") == before):
            write_atomic(profile, now.encode())
            yield profile


def _write(folder: Path, name: str, write: Write) -> None:
    target = folder / name
    with owned_folder(folder, ".stub") as temporary:
        write(temporary / target.name)
        make_folder(target.parent)
        (temporary / target.name).rename(target)
    fsync(target.parent)


def _writers(*, small: bool, checkout: Path | None, seed: int) -> dict[str, Write]:
    from spinmeround.tasks.weights.stub_diffusion import write_stable_diffusion, write_text_encoder, write_unet

    def of(name: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:6])

    encoder = partial(write_text_encoder, pickled=True)
    writers: dict[str, Write] = {
        "stable-diffusion-v1-5": partial(write_stable_diffusion, small=small, seed=of("stable-diffusion")),
        "arc2face/arc2face": partial(write_unet, small=small, seed=of("arc2face")),
        "arc2face/encoder": partial(encoder, small=small, seed=of("encoder")),
        "arc2face/arcface.onnx": partial(_recognition, blocks=(3, 13, 30, 3), small=small, seed=of("arcface")),
        "antelopev2": partial(_antelopev2, small=small, seed=of("antelopev2")),
        "buffalo_l": partial(_buffalo_l, small=small, seed=of("buffalo_l")),
        "alexnet-owt-7be5be79.pth": partial(_alexnet, small=small, seed=of("alexnet")),
    }
    if checkout is not None:
        writers[_PANOHEAD] = partial(_panohead, checkout=checkout, small=small, seed=of("panohead"))
    return writers


def _recognition(path: Path, *, blocks: tuple[int, ...], small: bool, seed: int) -> None:
    from spinmeround.tasks.weights.stub_onnx import write_recognition

    widths = (8, 8, 16, 16) if small else (64, 128, 256, 512)
    write_recognition(path, blocks=(1, 1, 1, 1) if small else blocks, widths=widths, seed=seed)


def _pack(folder: Path, detector: str, *, small: bool, seed: int) -> None:
    from spinmeround.tasks.weights.stub_onnx import write_detector, write_landmarks_3d

    folder.mkdir()
    widths = (4, 4, 8, 8, 8) if small else (56, 112, 224, 448, 448)
    write_detector(folder / detector, widths=widths, seed=seed)
    write_landmarks_3d(folder / "1k3d68.onnx", seed=seed)


def _antelopev2(folder: Path, *, small: bool, seed: int) -> None:
    """Without glintr100.onnx, as Arc2Face requires."""
    _pack(folder, "scrfd_10g_bnkps.onnx", small=small, seed=seed)


def _buffalo_l(folder: Path, *, small: bool, seed: int) -> None:
    _pack(folder, "det_10g.onnx", small=small, seed=seed)
    _recognition(folder / "w600k_r50.onnx", blocks=(3, 4, 14, 3), small=small, seed=seed)


def _alexnet(path: Path, *, small: bool, seed: int) -> None:
    import torch
    from torchvision.models import alexnet

    from spinmeround.tasks.weights.stub_diffusion import seeded

    with seeded(seed):
        tensors = alexnet(weights=None).state_dict()
    used = {name: tensor for name, tensor in tensors.items() if not small or name.startswith("features.")}
    torch.save(used, path)


def _panohead(path: Path, *, checkout: Path, small: bool, seed: int) -> None:
    from spinmeround.panohead_bridge.panohead import write_stub

    write_stub(checkout, path, small=small, seed=seed)


def _profile(folder: Path, base: str, *, small: bool, checkout: Path | None) -> str:
    """A profile that extends `base` with the paths of the stubs, and with their sizes if they are small.

    Random networks produce noise, so the screen drops no head, and the detector takes its highest score.
    """
    recognition, pack = folder / "arc2face/arcface.onnx", folder / "antelopev2"
    tables: dict[str, dict[str, object]] = {
        "score": {"recognition": recognition, "detector": pack},
        "screen": {"generator": ""},
        "screen.limits": {},
        "embed": {"recognition": recognition, "pack": pack, "landmarks": "detector"},
        "embed.detection": {"threshold": 1e-6},
        "encode": {"autoencoder": folder / "stable-diffusion-v1-5/vae"},
        "train.initial": {"unet": folder / "arc2face/arc2face", "text_encoder": folder / "arc2face/encoder"},
        "evaluate": {"lpips_weights": folder / "alexnet-owt-7be5be79.pth"},
        "reconstruct": {"lpips_weights": folder / "alexnet-owt-7be5be79.pth"},
    }
    if checkout is not None:
        network = folder / _PANOHEAD
        options = {"checkout": checkout.absolute(), "network": network, "sha256": sha256_file(network)}
        tables["generator.options"] = options
    if small:
        from spinmeround.models.diffusion.params import UNetParams
        from spinmeround.tasks.weights.stub_diffusion import prompt_tokens

        tokens = prompt_tokens(small=True)
        tables["render"] = {"resolution": 64}
        tables["mesh"] = {"resolution": 64}
        sizes = {"sample_size": 8, "block_out_channels": (32, 64, 64, 64), "layers_per_block": 1}
        unet = UNetParams(**sizes).model_dump(mode="json", exclude={"views", "ray_encoding"})
        tables["train.unet"] = unet
        tables["train.text_encoder"] = {"width": 768, "feed_forward": 768, "layers": 2, "heads": 12, "vocabulary": 1024}
        tables["train.text_encoder.prompt"] = tokens.model_dump(mode="json")
    lines = [f"extends = {_toml(base)}"]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{field} = {_toml(value)}" for field, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value, allow_nan=False)
