from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

from spinmeround.models.diffusion.latents import encode_images
from spinmeround.models.diffusion.params import NoiseSchedule, PhotoNormalsParams, SolverParams
from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundOutput, SpinMeRoundPipeline
from spinmeround.models.diffusion.sampling.group_sampler import GroupSampler, ViewGroup
from spinmeround.models.geometry.cameras import Cameras, ViewGrid, orbit
from tests.models.diffusion.networks import TINY_PROMPT, tiny_autoencoder, tiny_text_encoder, tiny_unet

IDENTITY = np.eye(512, dtype=np.float32)[3]
SCHEDULE = NoiseSchedule(steps=2)


@pytest.fixture(scope="module")
def pipeline() -> SpinMeRoundPipeline:
    made = SpinMeRoundPipeline(tiny_unet(), tiny_autoencoder(), tiny_text_encoder(), TINY_PROMPT.model_dump())
    made.set_progress_bar_config(disable=True)
    return made


def grid(views: Sequence[int]) -> Cameras:
    return ViewGrid(azimuths=10).cameras()[list(views)]


def given(views: Sequence[int] = (0,), side: int = 8, height: int | None = None, scale: float = 1.0) -> PosedViews:
    random = np.random.default_rng(0)
    pictures = scale * random.random((2, len(views), height or side, side, 3), dtype=np.float32)
    return PosedViews(cameras=grid(views), images=pictures[0], normals=pictures[1])


def sample(pipeline: SpinMeRoundPipeline, views: Sequence[int] = range(1, 6), **changes: Any) -> SpinMeRoundOutput:
    options: dict[str, Any] = {
        "identity": IDENTITY,
        "conditioning_views": given(),
        "schedule": SCHEDULE,
        "generator": torch.Generator().manual_seed(0),
        "output_type": "np",
    }
    return pipeline(grid(views), **{**options, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conditioning_views": None},
        {"identity": None},
        {"identity": None, "conditioning_views": None},
        {"conditioning_views": given((0, 3, 7))},
        {"identity": torch.from_numpy(IDENTITY), "solver": SolverParams(solver="heun", s_churn=5)},
    ],
    ids=["one view", "identity alone", "view alone", "nothing", "three views", "heun with churn"],
)
def test_all_combinations_of_conditions(pipeline: SpinMeRoundPipeline, changes: dict[str, Any]) -> None:
    """0, 1 or 3 views with and without an identity give an image and a normal map in [0, 1] per camera."""
    out = sample(pipeline, **changes)
    for pictures in (out.images, out.normals):
        assert pictures.shape == (5, 8, 8, 3)
        assert pictures.min() >= 0
        assert pictures.max() <= 1
        assert np.isfinite(pictures).all()


def test_results_are_reproducible_by_seed(pipeline: SpinMeRoundPipeline) -> None:
    """Equal seeds give equal images; another seed gives different ones."""
    first, again = sample(pipeline), sample(pipeline)
    other = sample(pipeline, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(first.images, again.images)
    assert not np.allclose(first.images, other.images)


def test_order_and_batch_size_have_no_effect(pipeline: SpinMeRoundPipeline) -> None:
    """Views do not depend on the order of cameras and on the batch size."""
    first = sample(pipeline, range(1, 12))
    backwards = sample(pipeline, range(11, 0, -1), batch_size=3)
    np.testing.assert_allclose(backwards.images[::-1], first.images, atol=1e-4)
    np.testing.assert_allclose(backwards.normals[::-1], first.normals, atol=1e-4)


def test_conditions_affect_the_result(pipeline: SpinMeRoundPipeline) -> None:
    """Another identity, image, normal map or pose of the given view each changes the result."""
    first = sample(pipeline)
    for changes in (
        {"identity": -IDENTITY},
        {"conditioning_views": PosedViews(cameras=grid([0]), images=1 - given().images, normals=given().normals)},
        {"conditioning_views": PosedViews(cameras=grid([0]), images=given().images, normals=1 - given().normals)},
        {"conditioning_views": PosedViews(cameras=grid([4]), images=given().images, normals=given().normals)},
    ):
        assert not np.allclose(sample(pipeline, **changes).images, first.images, atol=1e-5)


def test_save_and_load_round_trip(pipeline: SpinMeRoundPipeline, tmp_path) -> None:
    """A saved pipeline has only safetensors and JSON files and generates the same images after loading."""
    pipeline.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json"}
    loaded = SpinMeRoundPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.prompt_encoder.tokens == TINY_PROMPT
    np.testing.assert_allclose(sample(loaded).images, sample(pipeline).images, atol=1e-5)


def test_output_types(pipeline: SpinMeRoundPipeline) -> None:
    """PIL images and tensors equal the arrays; latents have the latent shape."""
    arrays, pil, tensors, latents = (sample(pipeline, output_type=kind) for kind in ("np", "pil", "pt", "latent"))
    assert isinstance(pil.images[0], Image.Image)
    np.testing.assert_allclose(np.stack([np.asarray(image) for image in pil.normals]) / 255, arrays.normals, atol=3e-3)
    np.testing.assert_allclose(tensors.images.permute(0, 2, 3, 1).numpy(), arrays.images, atol=1e-6)
    assert latents.images.shape == latents.normals.shape == (5, 4, 4, 4)


def test_pil_input_equals_arrays(pipeline: SpinMeRoundPipeline) -> None:
    """Conditioning views as PIL images and as arrays give the same result."""
    bytes_ = (given().images * 255).round().astype(np.uint8)
    pil = PosedViews(cameras=grid([0]), images=[Image.fromarray(bytes_[0])], normals=[Image.fromarray(bytes_[0])])
    scaled = bytes_.astype(np.float32) / 255
    arrays = PosedViews(cameras=grid([0]), images=scaled, normals=scaled)
    got, expected = (sample(pipeline, conditioning_views=views).images for views in (pil, arrays))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_callbacks_run_after_every_step(pipeline: SpinMeRoundPipeline) -> None:
    """Two batches of two steps give four calls with the latents of the batch, and progress counts all of them."""
    seen: list[tuple[int, tuple[int, ...]]] = []
    counted: list[tuple[int, int]] = []
    sample(
        pipeline,
        range(1, 7),
        anchored=False,
        batch_size=1,
        callback_on_step_end=lambda pipe, step, sigma, kwargs: seen.append((step, tuple(kwargs["latents"].shape))),
        on_progress=lambda done, total: counted.append((done, total)),
    )
    assert counted == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert seen == [(0, (1, 4, 8, 4, 4)), (1, (1, 4, 8, 4, 4))] * 2


@pytest.mark.parametrize("views", [(0,), (0, 3, 7)], ids=["one", "three"])
def test_missing_normals_are_inferred(pipeline: SpinMeRoundPipeline, views: tuple[int, ...]) -> None:
    """The call returns the normals that `infer_normals` gives for the same photos; guidance affects them."""
    photos = PosedViews(cameras=grid(views), images=given(views).images)
    steps = PhotoNormalsParams(steps=3)
    out = sample(pipeline, conditioning_views=photos, photo_normals=steps)
    assert out.given_normals.shape == (len(views), 8, 8, 3)
    found = pipeline.infer_normals(
        photos, identity=IDENTITY, photo_normals=steps, generator=torch.Generator().manual_seed(0), output_type="np"
    )
    np.testing.assert_allclose(out.given_normals, found, atol=1e-5)
    other = sample(pipeline, conditioning_views=photos, photo_normals=PhotoNormalsParams(steps=3, scale=0.0))
    assert not np.allclose(other.given_normals, out.given_normals, atol=1e-4)
    assert not np.allclose(other.images, out.images, atol=1e-5)


def test_several_draws_of_normals(pipeline: SpinMeRoundPipeline) -> None:
    """The mean of many draws varies less between seeds than a single draw; progress counts the steps of every draw."""
    photo = PosedViews(cameras=grid([0]), images=given().images)

    def inferred(draws: int, seed: int = 0) -> torch.Tensor:
        return pipeline.infer_normals(
            photo,
            identity=IDENTITY,
            photo_normals=PhotoNormalsParams(steps=3, draws=draws),
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        )

    one, many = (torch.stack([inferred(draws, seed) for seed in range(3)]) for draws in (1, 8))
    assert many.var(dim=0).mean() < 0.5 * one.var(dim=0).mean()
    assert inferred(2).shape == (1, 4, 4, 4)
    counted: dict[int, list[tuple[int, int]]] = {1: [], 2: []}
    for draws, steps in counted.items():
        normals = PhotoNormalsParams(steps=3, draws=draws)
        sample(
            pipeline,
            conditioning_views=photo,
            photo_normals=normals,
            on_progress=lambda *step, steps=steps: steps.append(step),
        )
    (one_done, one_total), (two_done, two_total) = counted[1][-1], counted[2][-1]
    assert (one_done, two_done) == (one_total, two_total)
    assert two_total == one_total + 3


def test_given_normals_are_returned(pipeline: SpinMeRoundPipeline) -> None:
    """`given_normals` are the decoded normals of the conditioning views, None without such views."""
    out = sample(pipeline)
    assert out.given_normals.shape == (1, 8, 8, 3)
    assert sample(pipeline, conditioning_views=None).given_normals is None


def test_a_target_at_a_given_camera_returns_that_view(pipeline: SpinMeRoundPipeline) -> None:
    """The photo's camera returns the photo, and a repeated camera returns the same view twice."""
    photo = given()
    out = sample(pipeline, (3, 0, 5, 3), output_type="latent")
    alone = sample(pipeline, (0,), output_type="latent")
    torch.testing.assert_close(out.images[1], alone.images[0])
    assert torch.equal(out.images[0], out.images[3])
    assert not torch.equal(out.images[0], out.images[2])
    pictures, normals = (sample(pipeline, (0,)), sample(pipeline, (0,)).normals)
    np.testing.assert_allclose(normals, pictures.given_normals, atol=1e-5)
    with torch.no_grad():
        bytes_ = torch.from_numpy(photo.images).permute(0, 3, 1, 2) * 2 - 1
        torch.testing.assert_close(alone.images, encode_images(pipeline.vae, bytes_))


@pytest.mark.parametrize("views", [48, 88])
def test_any_number_of_views(pipeline: SpinMeRoundPipeline, views: int) -> None:
    """48 and 88 anchored views from one photo do not depend on the order of cameras."""
    cameras = ViewGrid(azimuths=views, elevations_deg=(5.0,)).cameras()
    options = {
        "identity": IDENTITY,
        "conditioning_views": given(),
        "schedule": NoiseSchedule(steps=1),
        "output_type": "np",
    }
    order = np.random.default_rng(0).permutation(views)
    first, shuffled = (
        pipeline(requested, **options, generator=torch.Generator().manual_seed(0)).images
        for requested in (cameras, cameras[order])
    )
    assert first.shape == (views, 8, 8, 3)
    np.testing.assert_allclose(shuffled, first[order], atol=1e-4)


def test_decoding_is_split_to_fit_into_memory(pipeline: SpinMeRoundPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are halved after an out-of-memory error, and single without free memory, with the same images."""
    expected, sizes, decode = sample(pipeline), [], pipeline.vae.decode

    def counted(latents: torch.Tensor) -> Any:
        sizes.append(len(latents))
        if len(latents) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return decode(latents)

    monkeypatch.setattr(pipeline.vae, "decode", counted)
    np.testing.assert_allclose(sample(pipeline).images, expected.images, atol=1e-5)
    assert set(sizes) == {5, 2, 3, 1}
    sizes.clear()
    monkeypatch.setattr("spinmeround.models.diffusion.sampling.memory.free_memory", lambda device: 0)
    np.testing.assert_allclose(sample(pipeline).normals, expected.normals, atol=1e-5)
    assert set(sizes) == {1}


def test_defaults_are_the_papers(pipeline: SpinMeRoundPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 steps from sigma 80 at guidance 3; from sigma 700 at 3.5 for groups without conditioning views, such as
    anchors without a photo."""
    seen: list[tuple[GroupSampler, int]] = []

    def recorded(self: GroupSampler, groups: Sequence[ViewGroup], callback: Any) -> torch.Tensor:
        given = groups[0].conditioning_latents
        seen.append((self, len(given)))
        return torch.zeros(len(groups), len(groups[0].cameras) - len(given), 8, *given.shape[-2:])

    monkeypatch.setattr(GroupSampler, "__call__", recorded)

    def settings(**changes: Any) -> list[tuple[float, float, int]]:
        seen.clear()
        sample(pipeline, schedule=None, anchored=True, **changes)
        return [(each.guidance_scale, each.schedule.highest(known), each.schedule.steps) for each, known in seen]

    assert settings() == [(3.0, 80.0, 50), (3.0, 80.0, 50)]
    assert settings(conditioning_views=None) == [(3.5, 700.0, 50), (3.0, 80.0, 50)]
    assert settings(guidance_scale=1.5, num_inference_steps=7) == [(1.5, 80.0, 7), (1.5, 80.0, 7)]
    assert all(each.solver == SolverParams(solver="euler", s_churn=0, s_tmin=0.05, s_tmax=50) for each, _ in seen)


def test_anchored_groups_are_conditioned_on_photo_and_anchors(
    pipeline: SpinMeRoundPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anchors are generated from the photo. Each further group has the latents of the photo and of the two anchors
    nearest to its targets."""
    seen: list[list[ViewGroup]] = []
    run = GroupSampler.__call__

    def recorded(self: GroupSampler, groups: Sequence[ViewGroup], callback: Any) -> torch.Tensor:
        made = run(self, groups, callback)
        seen.append([*groups])
        results.append(made)
        return made

    results: list[torch.Tensor] = []
    monkeypatch.setattr(GroupSampler, "__call__", recorded)
    sample(pipeline, range(1, 10), conditioning_views=given(), anchored=True)
    (anchors, others), photo = seen, seen[0][0].conditioning_latents[0]
    latents = {}
    for group, made in zip(anchors, results[0], strict=True):
        assert len(group.conditioning_latents) == 1
        assert torch.equal(group.conditioning_latents[0], photo)
        for azimuth, latent in zip(group.cameras.azimuth_deg[1:], made, strict=True):
            latents.setdefault(round(float(azimuth)), latent)
    assert sorted(latents) == [45, 90, 135, 180, 225, 270, 315]
    for group in others:
        assert torch.equal(group.conditioning_latents[0], photo)
        first, second, target = (round(float(azimuth)) for azimuth in group.cameras.azimuth_deg[1:])
        assert torch.equal(group.conditioning_latents[1], latents[first])
        assert torch.equal(group.conditioning_latents[2], latents[second])
        nearest = sorted(latents, key=lambda anchor: (abs((anchor - target + 180) % 360 - 180), anchor))
        assert {first, second} == set(nearest[:2])


def test_anchoring_changes_the_result(pipeline: SpinMeRoundPipeline) -> None:
    """Anchored and unanchored results differ; anchoring works without a photo too."""
    anchored, free = (sample(pipeline, range(1, 10), anchored=flag).images for flag in (True, False))
    assert not np.allclose(anchored, free, atol=1e-4)
    assert sample(pipeline, range(1, 10), conditioning_views=None, anchored=True).images.shape == anchored.shape


@pytest.mark.filterwarnings("ignore:bfloat16 is slower")  # on a CPU without units for it
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_close_to_single_precision(tmp_path, dtype: torch.dtype) -> None:
    """A pipeline loaded in half precision generates views and infers normals close to those of float32."""
    single = SpinMeRoundPipeline(tiny_unet(), tiny_autoencoder(), tiny_text_encoder(), TINY_PROMPT.model_dump())
    single.save_pretrained(tmp_path)
    half = SpinMeRoundPipeline.from_pretrained(tmp_path, dtype=dtype)
    for made in (single, half):
        made.set_progress_bar_config(disable=True)
    photo = PosedViews(cameras=grid([0]), images=given().images)
    got, expected = (
        sample(made, conditioning_views=photo, photo_normals=PhotoNormalsParams(steps=3)) for made in (half, single)
    )
    assert half.unet.dtype == dtype
    for name in ("images", "normals", "given_normals"):
        assert np.abs(getattr(got, name) - getattr(expected, name)).mean() < 0.03


def test_a_compiled_unet_gives_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling the UNet in place, as usual with diffusers, does not change the images."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    made = SpinMeRoundPipeline(tiny_unet(), tiny_autoencoder(), tiny_text_encoder(), TINY_PROMPT.model_dump())
    made.set_progress_bar_config(disable=True)
    expected = sample(made).images
    made.unet.compile(backend="eager", fullgraph=True)
    np.testing.assert_allclose(sample(made).images, expected, atol=1e-5)


def test_callback_may_replace_the_latents(pipeline: SpinMeRoundPipeline) -> None:
    """As in diffusers, sampling continues with the returned latents."""
    zero = sample(
        pipeline,
        callback_on_step_end=lambda pipe, step, sigma, kwargs: {"latents": torch.zeros_like(kwargs["latents"])},
        output_type="latent",
    )
    assert not zero.images.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditioning_views": given((0, 1))}, "conditioning_views: expected 0 or 1 or 3 views, got 2"),
        ({"conditioning_views": given((0, 1, 2, 3))}, "conditioning_views: expected 0 or 1 or 3 views, got 4"),
        (
            {"conditioning_views": given(side=16)},
            r"conditioning_views\.images: expected shape \(1, 3, 8, 8\), got \(1, 3, 16, 16\)",
        ),
        ({"conditioning_views": given(height=4)}, r"conditioning_views\.images: expected shape .* got \(1, 3, 4, 8\)"),
        (
            {"identity": np.full(512, np.nan, np.float32)},
            "identity: expected 512 finite numbers, .* 512 values that are not finite",
        ),
        ({"identity": 2 * IDENTITY}, "identity: expected a vector of length 1, got one of length 2; normalise it"),
        (
            {"conditioning_views": given(scale=255)},
            r"conditioning_views\.images: expected values in \[0, 1\], got .* to 25",
        ),
        (
            {"conditioning_views": given(scale=-0.01)},
            r"conditioning_views\.images: expected values in \[0, 1\], got -0.00",
        ),
        (
            {"conditioning_views": given((0, 3, 0))},
            "conditioning_views: expected views from different cameras, .* views 0 and 2",
        ),
        (
            {"conditioning_views": given(scale=np.nan)},
            r"conditioning_views\.images: expected values in \[0, 1\], got nan to nan",
        ),
        ({"batch_size": 0}, "batch_size: expected 1 or more, got 0"),
    ],
    ids=[
        "two views",
        "four views",
        "wrong size",
        "not square",
        "NaN identity",
        "long identity",
        "bytes",
        "negative",
        "repeated camera",
        "NaN image",
        "empty batches",
    ],
)
def test_invalid_input_is_refused(pipeline: SpinMeRoundPipeline, changes: dict[str, Any], message: str) -> None:
    """The error names the argument, the expected and the actual value."""
    with pytest.raises(ValueError, match=message):
        sample(pipeline, **changes)


def test_cameras_inside_the_head_are_refused(pipeline: SpinMeRoundPipeline) -> None:
    """For targets and for conditioning views."""
    inside = orbit([0.0], [0.0], radius=0.5)
    with pytest.raises(ValueError, match=r"cameras: expected cameras at a distance of 0.87 or more"):
        pipeline(inside, schedule=SCHEDULE)
    with pytest.raises(ValueError, match="conditioning_views: expected cameras at a distance"):
        sample(pipeline, conditioning_views=PosedViews(cameras=inside, images=given().images, normals=given().normals))


def test_incompatible_components_are_refused() -> None:
    """A text encoder too short for the prompt, one with another width, and an autoencoder with other channels."""
    prompt = TINY_PROMPT.model_dump()
    with pytest.raises(ValueError, match="text encoder: expected max_position_embeddings of 77 or more, got 8"):
        SpinMeRoundPipeline(tiny_unet(), tiny_autoencoder(), tiny_text_encoder())
    with pytest.raises(
        ValueError, match="unet: cross_attention_dim: expected 768 to match the other components, got 512"
    ):
        SpinMeRoundPipeline(tiny_unet(), tiny_autoencoder(), tiny_text_encoder(hidden_size=768), prompt)
    with pytest.raises(ValueError, match="vae: latent_channels: expected 8 to match the other components, got 4"):
        SpinMeRoundPipeline(tiny_unet(latent_channels=8), tiny_autoencoder(), tiny_text_encoder(), prompt)


def variant(conditioned_on: str = "both", **changes: Any) -> SpinMeRoundPipeline:
    made = SpinMeRoundPipeline(
        tiny_unet(**changes),
        tiny_autoencoder(),
        tiny_text_encoder(),
        TINY_PROMPT.model_dump(),
        conditioned_on=conditioned_on,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(
    ("conditioned_on", "ignored", "seen"),
    [
        ("identity", {"conditioning_views": given(scale=0.5)}, {"identity": np.eye(512, dtype=np.float32)[4]}),
        ("image", {"identity": np.eye(512, dtype=np.float32)[4]}, {"conditioning_views": given(scale=0.5)}),
    ],
)
def test_a_model_ignores_what_it_is_not_conditioned_on(
    conditioned_on: str, ignored: dict[str, Any], seen: dict[str, Any], tmp_path
) -> None:
    """Another image, or another identity, changes no number, and the other condition and the given camera do; of more
    views than a group holds and of a saved pipeline, too."""
    variant(conditioned_on).save_pretrained(tmp_path)
    model = SpinMeRoundPipeline.from_pretrained(tmp_path, local_files_only=True)
    model.set_progress_bar_config(disable=True)
    for views in (range(1, 4), range(1, 8)):
        first = sample(model, views)
        assert np.array_equal(first.images, sample(model, views, **ignored).images)
        assert not np.allclose(first.images, sample(model, views, **seen).images)
    moved = replace(given(), cameras=grid((9,)))
    assert not np.allclose(first.images, sample(model, views, conditioning_views=moved).images)


def test_the_image_that_is_ignored_is_the_dropped_one() -> None:
    """What the variant is given in place of its image is what condition dropout gives."""
    seen: list[torch.Tensor] = []
    model = variant("identity")
    model.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    sample(model, range(1, 4), guidance_scale=1.0)
    assert not seen[0][:, 0].any()
    assert seen[0][:, 1:].any()


def test_a_model_without_normals_generates_images() -> None:
    """It has no normals in its output or of its input, infers none, and draws the noise of the model with normals."""
    full, model = variant(), variant(normals=False)
    seen: list[torch.Tensor] = []
    for each in (full, model):
        each.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        sample(each, range(1, 4), guidance_scale=1.0, schedule=NoiseSchedule(steps=1))
    assert torch.equal(seen[1], seen[0][:, :, :4])
    for views in (given(), replace(given(), normals=None), None):
        found = sample(model, range(1, 8), conditioning_views=views)
        assert found.images.shape == (7, 8, 8, 3)
        assert found.normals is None
        assert found.given_normals is None
    assert sample(model, output_type="latent").normals is None
    with pytest.raises(ValueError, match="infer_normals: expected a model with normals"):
        model.infer_normals(given())


def test_unknown_conditions_are_refused() -> None:
    """The error has the allowed names."""
    with pytest.raises(ValueError, match="conditioned_on: expected one of both, image, identity, got 'text'"):
        variant("text")
