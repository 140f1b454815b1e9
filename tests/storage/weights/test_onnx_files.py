"""ONNX networks are taken with all of their constants, or refused by the name of one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

from spinmeround.models.identity.arcface import ArcFaceEmbedder
from spinmeround.models.identity.params import DetectionParams
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.weights import (
    check_onnx,
    checksums_path,
    fingerprint,
    onnx_signature,
    record_checksums,
)
from spinmeround.tasks.generation.align import align_photo
from spinmeround.tasks.heads.embed import cached_detector, cached_embedder
from spinmeround.tasks.pictures.matting import check_matting
from spinmeround.tasks.weights.check import Use, check
from spinmeround.tasks.weights.insightface_packs import open_pack
from tests.models.identity.networks import write_network
from tests.support.packs import write_pack

NAN, INF = float("nan"), float("inf")
READERS: dict[str, Callable[[Path], object]] = {
    "fingerprint": fingerprint,
    "record": record_checksums,
    "signature": onnx_signature,
    "values": check_onnx,
    "recognition": cached_embedder,
    "detector": lambda path: cached_detector(path, DetectionParams()),
    "pack": lambda path: open_pack(path.parent),
    "matting": check_matting,
}


def write_split(path: Path) -> Path:
    """A recognition network whose constants are in a file beside it."""
    model = onnx.load(write_network(path)[0])
    onnx.save(model, path, save_as_external_data=True, location="beside.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("present", [True, False], ids=["present", "missing"])
@pytest.mark.parametrize("reader", READERS)
def test_constants_in_another_file_are_refused(tmp_path: Path, reader: str, present: bool) -> None:
    """No reader takes a network that its checksum does not cover, whether the other file is there or not."""
    path = write_split(tmp_path / "u2net.onnx")
    if not present:
        (tmp_path / "beside.bin").unlink()
    with pytest.raises(
        ConfigError, match=r"u2net\.onnx: tensor \w+: expected .* in this file, .*beside\.bin.*onnx\.save"
    ):
        READERS[reader](path)
    assert not checksums_path(path).exists()


def test_the_check_names_the_other_file_and_its_advice_works(tmp_path: Path) -> None:
    """`weights check` finds it invalid; both files joined are valid, and a change of them is detected."""
    path = write_split(tmp_path / "arcface.onnx")
    found = check(Use(name="arcface", fields=("embed.recognition",), place=path))
    assert (found.state, "beside.bin" in found.seen) == ("invalid", True)
    joined = tmp_path / "joined.onnx"
    onnx.save(onnx.load(path), joined)
    assert check(Use(name="arcface", fields=("embed.recognition",), place=joined)).state == "found"


def constant(**attributes: object) -> GraphProto:
    """A graph of one Constant node named `w`."""
    output = helper.make_tensor_value_info("w", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node("Constant", [], ["w"], **attributes)], "g", [], [output])


def tensor(*values: float, kind: int = TensorProto.FLOAT) -> TensorProto:
    return helper.make_tensor("t", kind, [len(values)], values)


def in_branch(graph: GraphProto) -> GraphProto:
    """A graph with `graph` as the branches of an If."""
    node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=constant(value=tensor(1, 2)))
    return helper.make_graph([node], "outer", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])


def in_function(graph: GraphProto, **defaults: object) -> ModelProto:
    """A graph whose only node is a function with the nodes of `graph`, and with `defaults` of attributes."""
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "w", [], ["w"], list(graph.node), opset)
    function.attribute_proto.extend(helper.make_attribute(name, value) for name, value in defaults.items())
    node = helper.make_node("w", [], ["w"], domain="own")
    outer = helper.make_graph([node], "outer", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, None)])
    return helper.make_model(outer, functions=[function], opset_imports=[*opset, helper.make_opsetid("own", 1)])


def sparse(values: TensorProto) -> GraphProto:
    graph, indices = constant(value=tensor(1, 2)), numpy_helper.from_array(np.array([0, 2]))
    values.name = "w"
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    return graph


def save(content: GraphProto | ModelProto, path: Path) -> Path:
    onnx.save(helper.make_model(content) if isinstance(content, GraphProto) else content, path)
    return path


REFUSED: dict[str, GraphProto | ModelProto] = {
    "tensor": constant(value=tensor(1, NAN)),
    "infinite tensor": constant(value=tensor(1, INF)),
    "bfloat16": constant(value=tensor(1, NAN, kind=TensorProto.BFLOAT16)),
    "float": constant(value_float=NAN),
    "floats": constant(value_floats=[1.0, NAN]),
    "sparse": sparse(tensor(NAN, 1)),
    "branch": in_branch(constant(value=tensor(1, NAN))),
    "function": in_function(constant(value=tensor(1, NAN))),
    "default of a function": in_function(constant(value=tensor(1, 2)), scales=[1.0, NAN]),
    "8 bits": constant(value=tensor(1, NAN, kind=TensorProto.FLOAT8E4M3FN)),
    "complex": constant(value=tensor(1, NAN, kind=TensorProto.COMPLEX64)),
}


@pytest.mark.parametrize("place", REFUSED)
def test_a_constant_of_a_node_that_is_no_number_is_refused(tmp_path: Path, place: str) -> None:
    """Wherever the graph holds it, the error names the file and the tensor."""
    with pytest.raises(ConfigError, match=r"a\.onnx: tensor w: expected"):
        check_onnx(save(REFUSED[place], tmp_path / "a.onnx"))


@pytest.mark.parametrize("place", [constant(value=tensor(0, 0)), constant(value_floats=[0.0, 0.0])])
def test_weights_that_are_all_zero_are_refused_in_nodes(tmp_path: Path, place: GraphProto) -> None:
    """A scale beside them, a single number, makes no difference."""
    place.initializer.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5]))
    with pytest.raises(ConfigError, match=r"a\.onnx: expected values, found 1 tensors that are all zero"):
        check_onnx(save(place, tmp_path / "a.onnx"))


def test_sizes_do_not_make_weights_of_zeros_right(tmp_path: Path) -> None:
    """A Resize holds its scales, which no training has set."""
    graph = constant(value_floats=[1.0, 1.0, 2.0, 2.0])
    graph.initializer.append(helper.make_tensor("conv", TensorProto.FLOAT, [2, 2], [0.0] * 4))
    with pytest.raises(ConfigError, match=r"a\.onnx: expected values, found 1 tensors that are all zero"):
        check_onnx(save(graph, tmp_path / "a.onnx"))


def test_a_single_number_may_be_a_bound(tmp_path: Path) -> None:
    """An exported Clip without a limit holds an infinity."""
    graph = constant(value=tensor(1, 2))
    graph.initializer.append(helper.make_tensor("most", TensorProto.FLOAT, [], [INF]))
    check_onnx(save(graph, tmp_path / "a.onnx"))


@pytest.mark.parametrize("number", [-1, 99])
def test_a_data_type_that_onnx_does_not_know_is_refused(tmp_path: Path, number: int) -> None:
    """Protobuf keeps numbers without a name, as a damaged byte makes them."""
    graph = constant(value=tensor(1, 2))
    graph.initializer.append(helper.make_tensor("weight", TensorProto.FLOAT, [2], [1.0, 2.0]))
    graph.initializer[-1].data_type = number
    with pytest.raises(ConfigError, match=rf"a\.onnx: tensor weight: expected a data type of ONNX, found .*{number};"):
        check_onnx(save(graph, tmp_path / "a.onnx"))


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path: Path) -> None:
    """A damaged name is read as bytes; the error about its values still names it."""
    graph = constant(value=tensor(1, 2))
    graph.initializer.append(helper.make_tensor("weight", TensorProto.FLOAT, [2], [1.0, NAN]))
    path = save(graph, tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes().replace(b"weight", b"we\xb2ght"))
    with pytest.raises(ConfigError, match=r"a\.onnx: .*we\\xb2ght: expected finite"):
        check_onnx(path)


def test_constants_of_a_branch_in_another_file_are_refused(tmp_path: Path) -> None:
    """References are found below nodes, too."""
    inner = constant(value=numpy_helper.from_array(np.ones(2, np.float32)))
    held: AttributeProto = inner.node[0].attribute[0]
    onnx.external_data_helper.set_external_data(held.t, "../other.bin")
    path = tmp_path / "a.onnx"
    path.write_bytes(helper.make_model(in_branch(inner)).SerializeToString())  # onnx.save writes no such reference
    with pytest.raises(ConfigError, match=r"tensor w: .*\.\./other\.bin"):
        fingerprint(path)


@pytest.mark.parametrize("name", ["scrfd_10g_bnkps.onnx", "1k3d68.onnx"])
def test_the_alignment_of_a_photo_checks_its_networks(tmp_path: Path, name: str) -> None:
    """Both the detector and the network of landmarks."""
    file = write_pack(tmp_path / "pack") / name
    model = onnx.load(file)
    weights = next(each for each in model.graph.initializer if numpy_helper.to_array(each).size > 100)
    weights.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(weights), NAN), weights.name))
    onnx.save(model, file)
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with pytest.raises(ConfigError, match=rf"{name}: tensor {weights.name}: expected finite numbers"):
        align_photo(photo, landmarks=None, pack=tmp_path / "pack", side=64, border="white")


def test_an_embedding_that_is_zero_names_the_file(tmp_path: Path) -> None:
    """Weights so small that float32 rounds all products to zero pass the check of values."""
    path, _ = write_network(tmp_path / "small.onnx")
    model = onnx.load(path)
    (weight,) = (each for each in model.graph.initializer if each.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e-44), "weight"))
    onnx.save(model, path)
    crops = np.full((1, 112, 112, 3), 128, np.uint8)
    with pytest.raises(ConfigError, match=r"small\.onnx fails \(it returns an embedding that is zero"):
        ArcFaceEmbedder(path).embed(crops)
