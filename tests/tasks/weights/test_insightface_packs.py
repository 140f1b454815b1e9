"""Telling the files of a pack apart, and the two mistakes that antelopev2 is known for."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from spinmeround.models.identity.params import DetectionParams
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.embed import (
    EmbedParams,
    cached_detector,
    cached_embedder,
    detector_path,
    recognition_path,
)
from spinmeround.tasks.weights.check import Use, check
from spinmeround.tasks.weights.insightface_packs import open_pack
from tests.models.identity.networks import write_network
from tests.support.cases import CASES
from tests.support.packs import write_pack


def test_files_are_distinguished_by_inputs_and_outputs(tmp_path: Path) -> None:
    """File names do not matter."""
    folder = write_pack(tmp_path / "pack", "arcface.onnx")
    for name, other in {"scrfd_10g_bnkps": "x", "1k3d68": "y", "arcface": "z"}.items():
        (folder / f"{name}.onnx").rename(folder / f"{other}.onnx")
    write_network(folder / "genderage.onnx", side=96, outputs=3)
    pack = open_pack(folder)
    assert (pack.detector.name, pack.only_recognition.name) == ("x.onnx", "z.onnx")
    assert pack.landmarks_3d == folder / "y.onnx"


def test_a_nested_pack_is_explained(tmp_path: Path) -> None:
    """antelopev2.zip contains a folder of the same name: the error gives the command that fixes it."""
    shutil.copytree(CASES / "pack_nested" / "antelopev2", tmp_path / "antelopev2")
    with pytest.raises(ConfigError, match=r"one folder deeper.*mv .*antelopev2/antelopev2/\*\.onnx .*antelopev2/$"):
        open_pack(tmp_path / "antelopev2")


def test_the_check_gives_the_command_for_a_nested_pack(tmp_path: Path) -> None:
    """The advice and the command are the mv, not another download; after it, the check passes."""
    pack = write_pack(tmp_path / "antelopev2" / "antelopev2").parent
    found = check(Use(name="antelopev2", fields=("embed.pack",), place=pack))
    command = f"mv {pack}/antelopev2/*.onnx {pack}/"
    assert (found.state, found.command) == ("invalid", command)
    assert command in found.seen
    subprocess.run(command, shell=True, check=True)
    assert check(Use(name="antelopev2", fields=("embed.pack",), place=pack)).state == "found"


@pytest.mark.parametrize("inner", [".", "__MACOSX/antelopev2"])
def test_metadata_of_macos_is_no_network(tmp_path: Path, inner: str) -> None:
    """`._*` files of an archive made on macOS neither break a pack nor look like a nested one."""
    pack = write_pack(tmp_path / "pack", "arcface.onnx")
    (pack / inner).mkdir(parents=True, exist_ok=True)
    (pack / inner / "._scrfd_10g_bnkps.onnx").write_bytes(b"\0\5\x16\7metadata")
    assert open_pack(pack).detector.name == "scrfd_10g_bnkps.onnx"
    assert check(Use(name="antelopev2", fields=("embed.pack",), place=pack)).state == "found"
    (tmp_path / "empty" / "__MACOSX").mkdir(parents=True)
    (tmp_path / "empty" / "__MACOSX" / "._a.onnx").write_bytes(b"\0\5\x16\7")
    with pytest.raises(ConfigError, match=r"found none"):
        open_pack(tmp_path / "empty")


def test_a_network_with_nan_is_refused(tmp_path: Path) -> None:
    """By the check and by the stage that loads it; the tensor is named."""
    pack = write_pack(tmp_path / "pack", "arcface.onnx")
    for name in ("scrfd_10g_bnkps", "arcface"):
        model = onnx.load(pack / f"{name}.onnx")
        tensor = next(each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = np.nan
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(model, pack / f"{name}.onnx")
    for part in ("antelopev2", "arcface"):
        found = check(Use(name=part, fields=("embed.pack",), place=pack))
        assert (found.state, "expected finite numbers, found 1 of" in found.seen) == ("invalid", True)
    with pytest.raises(ConfigError, match=r"arcface\.onnx: tensor .*expected finite numbers"):
        cached_embedder(pack / "arcface.onnx")
    with pytest.raises(ConfigError, match=r"scrfd_10g_bnkps\.onnx: tensor .*expected finite numbers"):
        cached_detector(pack / "scrfd_10g_bnkps.onnx", DetectionParams())


def test_two_recognition_networks_are_explained(tmp_path: Path) -> None:
    """glintr100.onnx next to arcface.onnx is ambiguous; the path of one file is not."""
    folder = write_pack(tmp_path / "pack", "arcface.onnx", "glintr100.onnx")
    with pytest.raises(ConfigError, match=r"found arcface\.onnx, glintr100\.onnx; .*Arc2Face needs its own arcface"):
        recognition_path(str(folder))
    assert recognition_path(str(folder / "arcface.onnx")) == folder / "arcface.onnx"
    assert open_pack(folder).detector.name == "scrfd_10g_bnkps.onnx"


def test_a_pack_may_contain_the_recognition_network(tmp_path: Path) -> None:
    """buffalo_l has one; a pack with none says so."""
    assert recognition_path(str(write_pack(tmp_path / "one", "w600k_r50.onnx"))).name == "w600k_r50.onnx"
    with pytest.raises(ConfigError, match="expected one recognition network, found none"):
        recognition_path(str(write_pack(tmp_path / "none")))


def test_an_invalid_pack_is_named(tmp_path: Path) -> None:
    """A missing folder, an empty one and one without a detector."""
    with pytest.raises(ConfigError, match="found no such folder"):
        open_pack(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="found none"):
        open_pack(tmp_path / "empty")
    write_network(tmp_path / "empty" / "r.onnx")
    with pytest.raises(ConfigError, match="expected one face detector, found 0"):
        open_pack(tmp_path / "empty")


def test_a_detector_is_required_only_for_its_landmarks(tmp_path: Path) -> None:
    """None for the generator's landmarks, and for `auto` without a pack; 'detector' needs one."""
    pack = str(write_pack(tmp_path / "pack"))
    assert detector_path(EmbedParams()) is None
    assert detector_path(EmbedParams(landmarks="generator", pack=pack)) is None
    assert detector_path(EmbedParams(pack=pack)) == Path(pack) / "scrfd_10g_bnkps.onnx"
    with pytest.raises(ConfigError, match=r"embed\.pack: expected the folder"):
        detector_path(EmbedParams(landmarks="detector"))
