"""Consistency of the registry: its commands put parts where profiles look for them."""

from pathlib import Path

import pytest

from spinmeround.storage.weights import PARTS, Hub, Part, find_part, missing_files

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("each", PARTS, ids=lambda each: each.name)
def test_a_part_s_files_come_to_its_place(each: Part) -> None:
    """The files of a part from the hub form its layout; for other parts, the command names the place."""
    if isinstance(each.source, Hub):
        fetched = {Path(each.source.home) / name for name in each.source.files}
        for name in each.files or ("",):
            assert any(Path(each.path) / choice in fetched for choice in name.split("|"))
    else:
        assert str(each.place(Path("some/weights"))) in each.command(each.place(Path("some/weights")))


def test_the_command_follows_the_profile() -> None:
    """The command fetches into another weights folder; for a place with another name, it gives the field to set."""
    vae = find_part("sd15-vae")
    assert vae.command(vae.place()) == "spinmeround weights fetch sd15-vae"
    assert vae.command(Path("/data/stable-diffusion-v1-5/vae")) == "spinmeround weights fetch sd15-vae --to /data"
    elsewhere = vae.command(Path("/data/my-vae"))
    assert elsewhere.endswith("then --set encode.autoencoder=weights/stable-diffusion-v1-5/vae")


def test_what_a_layout_lacks_is_named(tmp_path: Path) -> None:
    """Either of two file names is accepted; a missing one is reported with both names."""
    encoder = find_part("arc2face-encoder")
    assert list(missing_files(encoder, tmp_path)) == ["config.json", "pytorch_model.bin or model.safetensors"]
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    assert list(missing_files(encoder, tmp_path)) == []
