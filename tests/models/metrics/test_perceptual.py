import lpips
import numpy as np
import pytest
import torch
from torchvision import models as backbones

from spinmeround.models.metrics.perceptual import Lpips


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    features = backbones.alexnet(weights=None).features.state_dict()
    return {f"features.{name}": tensor for name, tensor in features.items()} | {"classifier.1.bias": torch.zeros(2)}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained'", "ignore:Arguments other than a weight enum")
def test_equals_the_lpips_package_with_the_given_backbone(backbone, images):
    """The distances are those of the lpips package with the same backbone."""
    ours = Lpips("alex", backbone)
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


def test_weights_of_another_network_are_refused(backbone):
    """AlexNet's tensors are refused as a VGG backbone, and so are infinities."""
    with pytest.raises(ValueError, match="torchvision's vgg"):
        Lpips("vgg", backbone)
    with pytest.raises(ValueError, match=r"lpips\.alex: features\..*: expected finite"):
        Lpips("alex", {name: tensor / 0 for name, tensor in backbone.items()})
