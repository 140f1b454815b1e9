import numpy as np
import onnx
import pytest
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from pydantic import ValidationError

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, orbit
from spinmeround.models.identity.alignment import project_landmarks
from spinmeround.models.identity.arcface import ArcFaceEmbedder, HeadIdentity, embed_views, mean_identity
from spinmeround.models.identity.params import ViewRange
from tests.models.identity.networks import write_network

FACE = np.array([[-0.06, 0.05, 0.2], [0.06, 0.05, 0.2], [0, 0, 0.25], [-0.05, -0.06, 0.2], [0.05, -0.06, 0.2]])


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)


def expected_embeddings(crops, weight):
    """A numpy implementation of the network of `write_network`, on RGB in [-1, 1]."""
    blocks = ((crops - 127.5) / 127.5).reshape(-1, 7, 16, 7, 16, 3).mean(axis=(2, 4))
    raw = blocks.transpose(0, 3, 1, 2).reshape(len(crops), -1) @ weight
    return raw / np.linalg.norm(raw, axis=-1, keepdims=True)


@pytest.mark.parametrize("normalises_input", [False, True], ids=["scaled by insightface", "Sub and Mul in the graph"])
def test_embeddings_equal_a_numpy_reference(tmp_path, crops, normalises_input):
    """RGB channel order, pixels scaled exactly once to [-1, 1], and unit length."""
    path, weight = write_network(tmp_path / "r.onnx", normalises_input=normalises_input)
    embeddings = ArcFaceEmbedder(path).embed(crops)
    assert embeddings.shape == (7, 512)
    np.testing.assert_allclose(embeddings, expected_embeddings(crops, weight), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize("batch", ["batch", 1, 4], ids=["any batch", "fixed batch 1", "fixed batch 4"])
def test_embeddings_do_not_depend_on_the_batch(tmp_path, crops, batch):
    """Embeddings are bit-identical for any batch size, including networks with a fixed one."""
    path, _ = write_network(tmp_path / "r.onnx", batch=batch)
    alone = np.concatenate([ArcFaceEmbedder(path, batch_size=1).embed(crops[i : i + 1]) for i in range(7)])
    for batch_size in (2, 32):
        np.testing.assert_array_equal(ArcFaceEmbedder(path, batch_size=batch_size).embed(crops), alone)


def test_no_crops_give_no_embeddings(tmp_path, crops):
    """An empty batch is valid."""
    path, _ = write_network(tmp_path / "r.onnx")
    assert ArcFaceEmbedder(path).embed(crops[:0]).shape == (0, 512)


def test_frontal_views_of_the_default_grid():
    """|azimuth| <= 30 and |elevation| <= 15 select 5 azimuths (0, 14.4, 28.8 to both sides) on 3 rings."""
    cameras = ViewGrid().cameras()
    chosen = cameras[ViewRange().select(cameras)]
    assert len(chosen) == 15
    np.testing.assert_allclose(np.unique(chosen.azimuth_deg), [0, 14.4, 28.8, 331.2, 345.6], atol=1e-4)
    np.testing.assert_array_equal(np.unique(chosen.elevation_deg), [-15, 0, 15])


def test_limits_of_frontal_views_are_inclusive():
    """Exactly 30 and 15 degrees are frontal, one degree more is not; azimuths wrap around."""
    cameras = orbit([30.0, -30.0, 330.0, 390.0, 31.0, 0.0, 0.0], [0.0, 0.0, 0.0, 15.0, 0.0, 16.0, -15.0])
    assert ViewRange().select(cameras).tolist() == [True, True, True, True, False, False, True]


def test_the_identity_is_the_unit_mean_of_the_accepted_views():
    """For known vectors; rows that are not accepted have no effect, NaN or not."""
    views = np.zeros((4, 512), np.float32)
    views[0, 0] = views[1, 1] = 1
    views[2] = np.nan
    views[3, 7] = 1
    identity = mean_identity(views, np.array([True, True, False, False]))
    assert identity[:2].tolist() == pytest.approx([np.sqrt(0.5)] * 2)
    assert not identity[2:].any()


def test_a_head_without_accepted_views_is_refused():
    """A head without a face has no identity."""
    with pytest.raises(ValueError, match="no frontal view"):
        mean_identity(np.full((3, 512), np.nan, np.float32), np.zeros(3, bool))


def identity_of(embedder: ArcFaceEmbedder, rgb: np.ndarray, cameras: Cameras) -> HeadIdentity:
    """The identity from world-frame landmarks."""
    return embed_views(embedder, rgb, project_landmarks(cameras, FACE, rgb.shape[1]), ViewRange().select(cameras))


def test_the_identity_comes_from_frontal_views(tmp_path):
    """Frontal views have unit rows, others NaN; a change of a view from behind has no effect."""
    path, _ = write_network(tmp_path / "r.onnx")
    embedder, cameras = ArcFaceEmbedder(path), ViewGrid().cameras()
    rgb = np.random.default_rng(2).integers(0, 256, (125, 32, 32, 3), dtype=np.uint8)
    head = identity_of(embedder, rgb, cameras)
    assert head.accepted.sum() == 15
    np.testing.assert_allclose(np.linalg.norm(head.views[head.accepted], axis=-1), 1.0, atol=1e-6)
    assert np.isnan(head.views[~head.accepted]).all()
    np.testing.assert_array_equal(head.identity, mean_identity(head.views, head.accepted))
    rgb[~head.accepted] = 0
    np.testing.assert_array_equal(identity_of(embedder, rgb, cameras).identity, head.identity)


def test_views_with_cropped_landmarks_are_rejected(tmp_path):
    """A head whose only view has its eyes outside the image raises an error."""
    path, _ = write_network(tmp_path / "r.onnx")
    rgb = np.random.default_rng(2).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    zoomed = orbit([0.0], [0.0], focal=60.0)
    with pytest.raises(ValueError, match="no frontal view"):
        identity_of(ArcFaceEmbedder(path), rgb, zoomed)


@pytest.mark.parametrize("wrong", [{"side": 128}, {"outputs": 256}], ids=["input 128", "output 256"])
def test_networks_with_another_signature_are_refused(tmp_path, wrong):
    """The error reports the expected and the found signature."""
    path, _ = write_network(tmp_path / "r.onnx", **wrong)
    with pytest.raises(ValueError, match=r"expected input \[n, 3, 112, 112\]"):
        ArcFaceEmbedder(path)


def test_missing_and_invalid_files_are_refused(tmp_path):
    """Each error names the file."""
    with pytest.raises(ValueError, match=r"found nothing at .*absent\.onnx"):
        ArcFaceEmbedder(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"onnxruntime cannot load .*broken\.onnx"):
        ArcFaceEmbedder(tmp_path / "broken.onnx")


def test_a_zero_embedding_is_refused(tmp_path):
    """A network that returns a zero embedding raises an error."""
    path, _ = write_network(tmp_path / "r.onnx", normalises_input=False, seed=0)
    embedder = ArcFaceEmbedder(path)
    embedder._network.input_std = np.inf
    with pytest.raises(ValueError, match="zero or not finite"):
        embedder.embed(np.zeros((1, 112, 112, 3), np.uint8))


def test_unknown_fields_are_refused():
    """The error names the unknown field."""
    with pytest.raises(ValidationError, match="azimuth"):
        ViewRange(azimuth=3)


def rename_nodes(path, names):
    """Renames the first nodes of a graph."""
    model = onnx.load(path)
    for node, name in zip(model.graph.node, names, strict=False):
        node.name = name
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("normalises_input", "names"),
    [(True, ["first", "second"]), (False, ["Sub_of_a_model", "Mul_of_a_model"])],
    ids=["renamed Sub and Mul", "other nodes with these names"],
)
def test_normalisation_does_not_depend_on_node_names(tmp_path, crops, normalises_input, names):
    """insightface relies on node names and normalises twice or not at all; the embedder examines the graph."""
    path, weight = write_network(tmp_path / "r.onnx", normalises_input=normalises_input)
    rename_nodes(path, names)
    assert (ArcFaceONNX(str(path)).input_mean == 0.0) != normalises_input
    np.testing.assert_allclose(ArcFaceEmbedder(path).embed(crops), expected_embeddings(crops, weight), atol=1e-5)


def test_a_graph_that_only_shifts_is_refused(tmp_path):
    """A shift without scaling leaves the pixel range unknown."""
    path, _ = write_network(tmp_path / "r.onnx", normalises_input=True)
    model = onnx.load(path)
    mul = model.graph.node[1]
    model.graph.node.remove(mul)
    model.graph.node[0].output[0] = mul.output[0]
    onnx.save(model, path)
    with pytest.raises(ValueError, match="starts with a constant shift alone"):
        ArcFaceEmbedder(path)


def test_views_without_a_face_are_skipped_and_counted(tmp_path):
    """The mean is over the other views; if no frontal view shows a face, the error reports how many were examined."""
    path, _ = write_network(tmp_path / "r.onnx")
    rgb = np.random.default_rng(4).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    landmarks = np.tile(np.array([[20, 24], [44, 24], [32, 36], [24, 46], [40, 46]], np.float32), (4, 1, 1))
    landmarks[1] = np.nan
    frontal = np.array([True, True, True, False])
    head = embed_views(ArcFaceEmbedder(path), rgb, landmarks, frontal)
    assert head.accepted.tolist() == [True, False, True, False]
    assert head.without_face == 1
    np.testing.assert_array_equal(head.identity, mean_identity(head.views, head.accepted))
    with pytest.raises(ValueError, match=r"no frontal view shows a face \(1 examined\)"):
        embed_views(ArcFaceEmbedder(path), rgb, landmarks, np.array([False, True, False, False]))
