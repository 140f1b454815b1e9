"""The registry's own promises: commands that lead to where a profile looks."""

from pathlib import Path

import pytest

from spinmeround.storage.weights import PARTS, Hub, Part, find_part, missing_files


@pytest.mark.parametrize("each", PARTS, ids=lambda each: each.name)
def test_a_part_s_files_come_to_its_place(each: Part) -> None:
    """What is fetched from the hub makes the layout that is asked for; by hand, the command names the place."""
    if isinstance(each.source, Hub):
        fetched = {Path(each.source.home) / name for name in each.source.files}
        for name in each.files or ("",):
            assert any(Path(each.path) / choice in fetched for choice in name.split("|"))
    else:
        assert str(each.place(Path("some/weights"))) in each.command(each.place(Path("some/weights")))


def test_the_command_follows_the_profile() -> None:
    """A folder of weights elsewhere is fetched into; a place of another name is left, and the field to set is told."""
    vae = find_part("sd15-vae")
    assert vae.command(vae.place()) == "spinmeround weights fetch sd15-vae"
    assert vae.command(Path("/data/stable-diffusion-v1-5/vae")) == "spinmeround weights fetch sd15-vae --to /data"
    elsewhere = vae.command(Path("/data/my-vae"))
    assert elsewhere.endswith("then --set encode.autoencoder=weights/stable-diffusion-v1-5/vae")


def test_what_a_layout_lacks_is_named(tmp_path: Path) -> None:
    """Either of two forms will do; the missing ones are told as they are looked for."""
    encoder = find_part("arc2face-encoder")
    assert list(missing_files(encoder, tmp_path)) == ["config.json", "pytorch_model.bin or model.safetensors"]
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    assert list(missing_files(encoder, tmp_path)) == []
