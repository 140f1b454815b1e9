"""Removal of backgrounds: with a stand-in for rembg, since its networks are not shipped."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.extras import MissingDependency
from spinmeround.tasks.generation.run import InputReader
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.pictures.matting import check_matting, cut_out

CASES = Path(__file__).parents[2] / "cases"


class StandIn:
    """A session of rembg: keeps the middle of a picture. Its own `download_models` must not be called."""

    def __init__(self, model_name, options, providers=None, *args, **kwargs) -> None:
        assert providers == ["CPUExecutionProvider"]
        onnx.load(str(type(self).download_models()))

    def predict(self, picture, *args, **kwargs) -> list[Image.Image]:
        mask = Image.new("L", picture.size)
        quarter = picture.width // 4
        mask.paste(self.kept, (quarter, quarter, 3 * quarter, 3 * quarter))
        return [mask]

    kept = 255

    @classmethod
    def download_models(cls, *args, **kwargs) -> str:
        raise AssertionError("a download")

    @classmethod
    def name(cls, *args, **kwargs) -> str:
        return "u2net"


@pytest.fixture
def network(monkeypatch, tmp_path: Path) -> Path:
    """The file of a network, and an installed stand-in for rembg."""
    rembg, sessions = ModuleType("rembg"), ModuleType("rembg.sessions")
    sessions.sessions_class = [StandIn]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rembg", rembg)
    monkeypatch.setitem(sys.modules, "rembg.sessions", sessions)
    file = tmp_path / "u2net.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), file)
    return file


def test_what_the_network_keeps_is_put_on_white(network: Path) -> None:
    """The middle is unchanged, the rest is white, and nothing is downloaded."""
    picture = Image.linear_gradient("L").convert("RGB")
    found = np.asarray(cut_out(picture, network))
    np.testing.assert_array_equal(found[64:192, 64:192], np.asarray(picture)[64:192, 64:192])
    assert (found[:64] == 255).all()


def test_align_and_generate_cut_out(network: Path, tmp_path: Path) -> None:
    """`align --matting` writes a picture with a white border and says nothing of a background; `generate` reads so."""
    landmarks = "100,100 150,100 125,130 105,150 145,150"
    arguments = ["align", str(CASES / "exif_rotated/plain.png"), "--to", str(tmp_path / "a.png"), "--side", "64"]
    result = CliRunner().invoke(app, [*arguments, "--landmarks", landmarks, "--matting", str(network)])
    assert result.exit_code == 0, result.output
    assert "background" not in result.output
    assert (np.asarray(Image.open(tmp_path / "a.png"))[:16] == 255).all()
    reader = InputReader(None, 32, EmbedParams())
    found = reader.picture(CASES / "exif_rotated/plain.png", str(network))
    assert (found[:4] == 1).all()
    assert found[8:24, 8:24].min() < 0.9


def test_defective_networks_are_refused(network: Path, tmp_path: Path, monkeypatch) -> None:
    """A name that rembg doesn't know, a missing file, another file, and a network that keeps nothing."""
    with pytest.raises(
        ConfigError, match=r"--matting: expected the file of a network of rembg \(birefnet-general\.onnx"
    ):
        check_matting(tmp_path / "mine.onnx")
    with pytest.raises(ConfigError, match="found none at"):
        check_matting(tmp_path / "silueta.onnx")
    picture = Image.linear_gradient("L").convert("RGB")
    monkeypatch.setattr(StandIn, "kept", 0)
    with pytest.raises(ConfigError, match="expected a head in the photo, u2net finds none"):
        cut_out(picture, network)
    network.write_bytes(b"no network")
    with pytest.raises(ConfigError, match="expected the network u2net in"):
        cut_out(picture, network)


def test_without_rembg_the_extra_is_named(network: Path, monkeypatch) -> None:
    """The command that installs it is in the message."""
    monkeypatch.setitem(sys.modules, "rembg", None)
    monkeypatch.setattr("spinmeround.storage.extras.extra_of", lambda module: "matting")
    with pytest.raises(MissingDependency, match=r'pip install "spinmeround\[matting\]"'):
        check_matting(network)
