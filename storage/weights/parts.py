"""The external parts by name: purpose, licence, source and on-disk layout of each.

No part is downloaded automatically: users fetch it by name or place it by hand. Every part has its place below one
folder, `weights` by default; a profile may name any other path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spinmeround.storage.errors import ConfigError

WEIGHTS_FOLDER = Path("weights")

_INSIGHTFACE = "InsightFace model packs: non-commercial research only"
_ARC2FACE = "Arc2Face: MIT; made from Stable Diffusion 1.5 (OpenRAIL-M) and WebFace42M (non-commercial research)"
_SD = "Stable Diffusion 1.5: CreativeML OpenRAIL-M, with use restrictions that extend to derivatives"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A repository of the Hugging Face hub, and the files that form the part."""

    repository: str
    files: tuple[str, ...]
    home: str
    """Folder for the repository's files, below the weights folder."""

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{self.repository}"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A web page to read the terms on and to download from by hand."""

    page: str
    how: str
    """Command or instruction; {path} is the place of the part, {folder} its parent folder."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One external part. `files` is its layout below `path` ("a|b": either), empty if the part is a single file."""

    name: str
    purpose: str
    licence: str
    source: Hub | Page
    path: str
    files: tuple[str, ...] = ()
    field: str
    """The field of a profile that names a local copy; empty if there is none."""

    def place(self, folder: Path = WEIGHTS_FOLDER) -> Path:
        """Path of the part below a weights folder."""
        return folder / self.path

    def command(self, place: Path) -> str:
        """The command that brings the part to `place`."""
        if isinstance(self.source, Page):
            return self.source.how.format(path=place, folder=place.parent)
        folder = self.folder_of(place)
        at = "" if folder == WEIGHTS_FOLDER or folder is None else f" --to {folder}"
        moved = f", then --set {self.field}={self.place()}" if folder is None else ""
        return f"spinmeround weights fetch {self.name}{at}{moved}"

    def folder_of(self, place: Path) -> Path | None:
        """The weights folder for which `place` is the path of this part, None if there is none."""
        tail = Path(self.path).parts
        return Path(*place.parts[: -len(tail)]) if place.parts[-len(tail) :] == tail else None


def _arc2face(*files: str) -> Hub:
    return Hub(repository="FoivosPar/Arc2Face", files=files, home="arc2face")


def _sd15(*files: str) -> Hub:
    return Hub(repository="stable-diffusion-v1-5/stable-diffusion-v1-5", files=files, home="stable-diffusion-v1-5")


_VAE = ("config.json", "diffusion_pytorch_model.safetensors")
_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
_SD_FOLDER = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    *(f"tokenizer/{name}" for name in _TOKENIZER),
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    *(f"vae/{name}" for name in _VAE),
)

_CHECKOUT = ("legacy.py", "dnnlib/__init__.py", "torch_utils/persistence.py", "training/triplane.py")

PARTS: tuple[Part, ...] = (
    Part(
        name="panohead-checkout",
        purpose="PanoHead's source code, which its pickled networks need",
        licence="PanoHead: CC BY-NC-SA 4.0, with EG3D's NVIDIA source code licence: research only",
        source=Page(
            page="https://github.com/SizheAn/PanoHead", how="git clone https://github.com/SizheAn/PanoHead {path}"
        ),
        path="PanoHead",
        files=_CHECKOUT,
        field="generator.options.checkout",
    ),
    Part(
        name="panohead",
        purpose="the generator of heads: easy-khair-180, a pickle (contains code; loaded only with a given SHA-256)",
        licence="PanoHead: CC BY-NC-SA 4.0, research only",
        source=Page(
            page="https://github.com/SizheAn/PanoHead#getting-started",
            how="open https://github.com/SizheAn/PanoHead, follow its link to 'models', put the .pkl at {path}",
        ),
        path="easy-khair-180-gpc0.8-trans10-025000.pkl",
        field="generator.options.network",
    ),
    Part(
        name="spherehead-checkout",
        purpose="SphereHead's source code, which its pickled networks need, in place of PanoHead's",
        licence="SphereHead: none stated; made from PanoHead (CC BY-NC-SA 4.0) and EG3D (NVIDIA): research only",
        source=Page(
            page="https://github.com/lhyfst/SphereHead", how="git clone https://github.com/lhyfst/SphereHead {path}"
        ),
        path="SphereHead",
        files=_CHECKOUT,
        field="generator.options.checkout",
    ),
    Part(
        name="spherehead",
        purpose="another generator of heads, a pickle like PanoHead's, with fewer artefacts at the back",
        licence="SphereHead: none stated; ask its authors",
        source=Page(
            page="https://github.com/lhyfst/SphereHead#getting-started",
            how="open https://github.com/lhyfst/SphereHead, follow its link to the checkpoint, put the .pkl at {path}",
        ),
        path="spherehead-ckpt-025000.pkl",
        field="generator.options.network",
    ),
    Part(
        name="arcface",
        purpose="the recognition network whose embeddings Arc2Face is conditioned on",
        licence=_ARC2FACE,
        source=_arc2face("arcface.onnx"),
        path="arc2face/arcface.onnx",
        field="embed.recognition",
    ),
    Part(
        name="antelopev2",
        purpose="detects faces and their landmarks, in 2D and 3D",
        licence=_INSIGHTFACE,
        source=Page(
            page="https://github.com/deepinsight/insightface/tree/master/python-package#model-zoo",
            how="read the terms at https://github.com/deepinsight/insightface, download antelopev2.zip there, "
            "unzip -j antelopev2.zip -d {path}",
        ),
        path="antelopev2",
        files=("scrfd_10g_bnkps.onnx", "1k3d68.onnx"),
        field="embed.pack",
    ),
    Part(
        name="buffalo_l",
        purpose="another pack for face detection, with its own recognition network (not Arc2Face's)",
        licence=_INSIGHTFACE,
        source=Page(
            page="https://github.com/deepinsight/insightface/tree/master/python-package#model-zoo",
            how="read the terms at https://github.com/deepinsight/insightface, download buffalo_l.zip there, "
            "unzip -j buffalo_l.zip -d {path}",
        ),
        path="buffalo_l",
        files=("det_10g.onnx", "w600k_r50.onnx", "1k3d68.onnx"),
        field="embed.pack",
    ),
    Part(
        name="sd15-vae",
        purpose="the autoencoder of the latents",
        licence=_SD,
        source=_sd15(*(f"vae/{name}" for name in _VAE)),
        path="stable-diffusion-v1-5/vae",
        files=_VAE,
        field="encode.autoencoder",
    ),
    Part(
        name="sd15-tokenizer",
        purpose="CLIP's vocabulary; optional, since the ids of the only prompt are built in",
        licence=_SD,
        source=_sd15(*(f"tokenizer/{name}" for name in _TOKENIZER)),
        path="stable-diffusion-v1-5/tokenizer",
        files=_TOKENIZER,
        field="",
    ),
    Part(
        name="sd15",
        purpose="all of Stable Diffusion 1.5, to start a training without Arc2Face",
        licence=_SD,
        source=_sd15(*_SD_FOLDER),
        path="stable-diffusion-v1-5",
        files=_SD_FOLDER,
        field="",
    ),
    Part(
        name="arc2face-unet",
        purpose="the UNet that the training starts from",
        licence=_ARC2FACE,
        source=_arc2face("arc2face/config.json", "arc2face/diffusion_pytorch_model.safetensors"),
        path="arc2face/arc2face",
        files=_VAE,
        field="train.initial.unet",
    ),
    Part(
        name="arc2face-encoder",
        purpose="the text encoder that encodes an identity",
        licence=_ARC2FACE,
        source=_arc2face("encoder/config.json", "encoder/pytorch_model.bin"),
        path="arc2face/encoder",
        files=("config.json", "pytorch_model.bin|model.safetensors"),
        field="train.initial.text_encoder",
    ),
    Part(
        name="lpips-alexnet",
        purpose="torchvision's AlexNet, the backbone of LPIPS; without it the evaluation reports LPIPS as missing",
        licence="torchvision: BSD 3-Clause; trained on ImageNet, whose terms are for non-commercial research",
        source=Page(
            page="https://docs.pytorch.org/vision/main/models/alexnet.html",
            how="curl -L --create-dirs -C - -o {path} https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        ),
        path="alexnet-owt-7be5be79.pth",
        field="evaluate.lpips_weights",
    ),
)


def find_part(name: str) -> Part:
    """The part of this name. Raises ConfigError, which lists all names."""
    found = next((part for part in PARTS if part.name == name), None)
    if found is None:
        raise ConfigError(f"part {name!r}: expected one of {', '.join(part.name for part in PARTS)}")
    return found


def missing_files(part: Part, place: Path) -> Iterator[str]:
    """Names of the part's files that are missing at `place`; the name of `place` itself for a single file."""
    if not part.files:
        if not place.is_file():
            yield place.name
        return
    for name in part.files:
        if not any((place / choice).is_file() for choice in name.split("|")):
            yield name.replace("|", " or ")
