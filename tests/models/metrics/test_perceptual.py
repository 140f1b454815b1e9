import lpips
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models as backbones

from spinmeround.models.metrics.perceptual import Lpips, Missing, make_lpips


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    features = backbones.alexnet(weights=None).features.state_dict()
    return {f"features.{name}": tensor for name, tensor in features.items()} | {"classifier.1.bias": torch.zeros(2)}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def no_downloads(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("attempted a download")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained'", "ignore:Arguments other than a weight enum")
@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_equals_the_lpips_package_with_the_given_backbone(tmp_path, backbone, images, form, no_downloads):
    """Weights in either file format give the distances of the lpips package with the same backbone."""
    path = tmp_path / f"alexnet.{form}"
    if form == "safetensors":
        save_file(backbone, path)
    else:
        torch.save(backbone, path)
    ours = make_lpips(path, "alex")
    assert isinstance(ours, Lpips)
    distances = ours(images[0], images[1])

    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    for name, tensor in reference.net.state_dict().items():
        tensor.copy_(backbone["features." + name.split(".", 1)[1]])
    tensors = torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    with torch.inference_mode():
        expected = reference(tensors[0], tensors[1]).flatten()
    np.testing.assert_allclose(distances, expected.numpy(), rtol=1e-4)
    assert (distances > 0).all()
    np.testing.assert_array_equal(ours(images[0], images[0]), 0.0)


def test_missing_weights_are_reported(tmp_path, no_downloads):
    """Without a path, or for a missing file, the result is a reason, and nothing is downloaded."""
    absent = make_lpips(tmp_path / "absent.pth")
    assert isinstance(absent, Missing)
    assert str(absent).startswith("missing: no weights for the alex backbone at")
    assert "alexnet" in str(make_lpips(None))


def test_weights_of_another_network_are_refused(tmp_path, backbone):
    """AlexNet's tensors are refused as a VGG backbone."""
    save_file(backbone, tmp_path / "alexnet.safetensors")
    with pytest.raises(ValueError, match="torchvision's vgg"):
        make_lpips(tmp_path / "alexnet.safetensors", "vgg")
