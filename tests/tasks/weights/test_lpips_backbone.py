"""The backbone of LPIPS is loaded whole or refused by name, and the check agrees with the loader."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models as backbones

from spinmeround.models.metrics.missing import Missing
from spinmeround.models.metrics.perceptual import Lpips
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.weights.inspect import inspect
from spinmeround.tasks.weights.lpips_backbone import load_lpips

Tensors = dict[str, Tensor]
FIRST = "features.0.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"


@pytest.fixture(scope="module")
def backbone() -> Tensors:
    """A random AlexNet's tensors, with one that LPIPS does not use."""
    torch.manual_seed(0)
    features = backbones.alexnet(weights=None).features.state_dict()
    return {f"features.{name}": each for name, each in features.items()} | {"classifier.1.bias": torch.ones(2)}


def save(tensors: object, path: Path) -> Path:
    if path.suffix == ".safetensors":
        assert isinstance(tensors, dict)
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


FORMS: dict[str, tuple[str, Callable[[Tensors], object]]] = {
    "safetensors": ("a.safetensors", lambda tensors: tensors),
    "pth": ("a.pth", lambda tensors: tensors),
    "of a training": ("a.pth", lambda tensors: {"state_dict": tensors, "epoch": 3}),
    "double": ("a.pth", lambda tensors: {name: each.double() for name, each in tensors.items()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same_distances(tmp_path: Path, backbone: Tensors, form: str) -> None:
    """Those of the tensors themselves; the check accepts the same files."""
    name, content = FORMS[form]
    file = save(content(backbone), tmp_path / name)
    assert inspect("lpips-alexnet", file).startswith("10 tensors")
    found = load_lpips(file)
    assert isinstance(found, Lpips)
    images = np.random.default_rng(0).random((2, 1, 64, 64, 3))
    np.testing.assert_array_equal(found(*images), Lpips("alex", backbone)(*images))


def each(change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], object]:
    return lambda tensors: {name: change(tensor) for name, tensor in tensors.items()}


def first(change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], object]:
    return lambda tensors: {**tensors, FIRST: change(tensors[FIRST])}


REFUSED: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "NaN": (first(lambda x: x * float("nan")), rf"tensor {FIRST}: expected finite"),
    "zero": (lambda t: {name: 0 * x for name, x in t.items()}, "all zero"),
    "one zero": (first(lambda x: 0 * x), f"tensor {FIRST}: expected values, found only zeros"),
    "beyond float32": (first(lambda x: x.double() * 1e60), rf"tensor {FIRST}: expected finite.*beyond float32"),
    "integers": (first(lambda x: (1000 * x).int()), rf"tensor {FIRST}: expected float16.*found int32"),
    "8 bits": (first(lambda x: x.to(torch.float8_e4m3fn)), rf"tensor {FIRST}: .*found float8_e4m3fn"),
    "other shape": (
        first(lambda x: x[:3].clone()),
        rf"tensor {FIRST}: expected 64x3x11x11 by torchvision's alex, found",
    ),
    "one missing": (lambda t: {name: x for name, x in t.items() if name != FIRST}, f"tensor {FIRST}: .*found none"),
    "DataParallel": (lambda t: {f"module.{name}": x for name, x in t.items()}, "prefix 'module.'"),
    "under another key": (lambda t: {"model": t, "epoch": 1}, "found none under 'model', 'epoch'"),
    "sparse": (lambda t: {**t, "classifier.1.bias": torch.eye(3).to_sparse()}, r"classifier.1.bias: .*a sparse one"),
    "compressed": (lambda t: {**t, "classifier.1.bias": torch.eye(3).to_sparse_csr()}, r"classifier.*a sparse one"),
    "without values": (first(lambda x: x.to("meta")), rf"tensor {FIRST}: expected values, .*'meta'"),
    "all without values": (each(lambda x: x.to("meta")), "expected values, .*'meta'"),
    "a list": (lambda t: [1], "expected tensors by name, found a list"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("fault", REFUSED)
def test_another_file_is_refused_by_check_and_loader(tmp_path: Path, backbone: Tensors, fault: str) -> None:
    """Both name the file and what is wrong; the loader's message begins with the field."""
    content, message = REFUSED[fault]
    file = save(content(backbone), tmp_path / "a.pth")
    with pytest.raises(SpinMeRoundError, match=rf"a\.pth: .*{message}"):
        inspect("lpips-alexnet", file)
    with pytest.raises(ConfigError, match=rf"^a\.field: .*a\.pth: .*{message}"):
        load_lpips(file, field="a.field")


@pytest.mark.parametrize("alignment", ["0", "-64", "x"])
def test_an_archive_without_alignment_is_refused(tmp_path: Path, backbone: Tensors, alignment: str) -> None:
    """torch divides by the alignment that the archive states, which ends the process if it is zero."""
    file, damaged = save(backbone, tmp_path / "a.pth"), tmp_path / "b.pth"
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(damaged, "w") as archive:
        for name in whole.namelist():
            stated = name.endswith("/.storage_alignment")
            archive.writestr(name, alignment if stated else whole.read(name))
    with pytest.raises(ConfigError, match=r"b\.pth: expected an (alignment|archive)"):
        load_lpips(damaged)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, name: str) -> None:
    """The loader says what it is and what to do."""
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(ConfigError, match=rf"{name}: .*git-lfs's pointer.*git lfs pull"):
        load_lpips(tmp_path / name)


def test_weights_that_overflow_are_refused_before_an_evaluation(tmp_path: Path, backbone: Tensors) -> None:
    """Finite weights may give distances that are not numbers."""
    file = save({name: torch.full_like(tensor, 3e38) for name, tensor in backbone.items()}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"a\.pth: expected a backbone that tells pictures apart, found .* nan"):
        load_lpips(file)


def test_a_missing_file_is_a_reason_and_a_folder_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded."""
    monkeypatch.setattr("torch.hub.download_url_to_file", None)
    absent = load_lpips(tmp_path / "absent.pth")
    assert isinstance(absent, Missing)
    assert str(absent).startswith("missing: no weights for the alex backbone at")
    assert "alexnet" in str(load_lpips(None))
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load_lpips(tmp_path)
