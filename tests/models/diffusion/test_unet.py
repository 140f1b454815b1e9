import jaxtyping
import pytest
import torch
from diffusers import UNet2DConditionModel
from einops import rearrange, repeat
from torch import Tensor

from spinmeround.models.diffusion.edm import noise_label, schedule_sigmas
from spinmeround.models.diffusion.params import NoiseSchedule, UNetParams
from spinmeround.models.diffusion.unet import TIME_SCALE, TIME_SHIFT, MultiviewUNet, build_unet
from tests.models.diffusion.networks import TINY, LiveTensors, base_unet, conditions, randomise_3d, tiny_unet


def inputs(batch: int = 2, views: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Random latents, noise labels and conditions of tiny networks."""
    given = conditions(batch, views)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, views, 8, 4, 4, generator=generator)
    mask = given.is_conditioning.float()[..., None, None, None].expand(-1, -1, 1, 4, 4)
    c_noise = torch.rand(batch, views, generator=generator)
    return latents, c_noise, {"mask": mask, "rays": given.rays, "encoder_hidden_states": given.prompt_embeds}


def test_inflated_network_equals_the_original_per_view() -> None:
    """At step 0, with zero pose weights and zero normals, the image half of each view equals the original UNet's
    output, and so does the normal half, whose weights are copies."""
    base = base_unet()
    model = MultiviewUNet.from_unet(base, multiview_factors=(1, 2), zero_pose=True).eval()
    latents, c_noise, rest = inputs()
    latents[:, :, 4:] = 0
    with torch.no_grad():
        ours = model(latents, c_noise, **rest)
        expected = base(
            rearrange(latents[:, :, :4], "b p c h w -> (b p) c h w"),
            TIME_SCALE * c_noise.flatten() + TIME_SHIFT,
            encoder_hidden_states=repeat(rest["encoder_hidden_states"], "b l d -> (b p) l d", p=4),
        ).sample
    torch.testing.assert_close(ours[:, :, :4], rearrange(expected, "(b p) c h w -> b p c h w", p=4))
    torch.testing.assert_close(ours[:, :, 4:], ours[:, :, :4])


def test_image_and_normal_inputs_are_symmetric() -> None:
    """Swapping image and normal latents has no effect at step 0, because conv_in's weights are copies."""
    model = MultiviewUNet.from_unet(base_unet(), multiview_factors=(1, 2)).eval()
    latents, c_noise, rest = inputs()
    with torch.no_grad():
        swapped = model(torch.cat([latents[:, :, 4:], latents[:, :, :4]], dim=2), c_noise, **rest)
        torch.testing.assert_close(swapped, model(latents, c_noise, **rest))


def test_pose_weights_are_random_unless_zeroed() -> None:
    """conv_in's pose channels (rays and mask) have random weights by default, zeros with `zero_pose`."""
    fresh, zeroed = (
        MultiviewUNet.from_unet(base_unet(), multiview_factors=(1,), zero_pose=flag).unet.conv_in.weight[:, 8:]
        for flag in (False, True)
    )
    assert fresh.shape[1] == zeroed.shape[1] == 150
    assert fresh.std() > 0
    assert not zeroed.any()


def test_parameter_names() -> None:
    """Original parameters keep their names and, except conv_in and conv_out, their values; new ones are norm_3d and
    attn_3d."""
    base = base_unet()
    grown = MultiviewUNet.from_unet(base, multiview_factors=(1, 2)).unet.state_dict()
    original = base.state_dict()
    changed = {name for name, weight in original.items() if not torch.equal(weight, grown[name][: len(weight)])}
    assert changed == {"conv_in.weight"}
    assert all("norm_3d" in name or "attn_3d" in name for name in grown.keys() - original.keys())


def test_the_original_network_is_recovered_exactly() -> None:
    """`to_unet` after `from_unet` gives the configuration and every weight of the original, with or without training of
    what was added."""
    base = base_unet()
    grown = MultiviewUNet.from_unet(base, multiview_factors=(1, 2))
    randomise_3d(grown)
    with torch.no_grad():
        grown.unet.conv_in.weight[:, 4:] += 1
        grown.unet.conv_out.weight[4:] += 1
    found = grown.to_unet()
    expected, weights = base.state_dict(), found.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())
    assert {name: value for name, value in found.config.items() if name != "_use_default_values"} == {
        name: value for name, value in base.config.items() if name != "_use_default_values"
    }


def test_permuting_views_permutes_the_output() -> None:
    """With active 3D layers, the network is equivariant to permutations of the views."""
    model = tiny_unet()
    latents, c_noise, rest = inputs()
    order = torch.tensor([2, 0, 3, 1])
    moved = {**rest, "mask": rest["mask"][:, order], "rays": rest["rays"][:, order]}
    with torch.no_grad():
        permuted = model(latents[:, order], c_noise[:, order], **moved)
        torch.testing.assert_close(permuted, model(latents, c_noise, **rest)[:, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("active_3d", [False, True])
def test_views_interact_only_through_3d_layers(active_3d: bool) -> None:
    """A change of one view affects the others if and only if the 3D layers are active."""
    model = tiny_unet(active_3d=active_3d)
    latents, c_noise, rest = inputs()
    changed = latents.clone()
    changed[:, 1] += 1
    with torch.no_grad():
        difference = (model(changed, c_noise, **rest) - model(latents, c_noise, **rest)).abs().amax(dim=(2, 3, 4))
    assert bool((difference[:, 1] > 1e-3).all())
    others = difference[:, [0, 2, 3]]
    assert bool((others > 1e-6).all()) if active_3d else not others.any()


def test_samples_of_a_batch_are_independent() -> None:
    """Each sample has the same output alone and in a batch."""
    model = tiny_unet()
    latents, c_noise, rest = inputs(batch=3)
    with torch.no_grad():
        together = model(latents, c_noise, **rest)
        for i in range(3):
            alone = model(latents[[i]], c_noise[[i]], **{name: value[[i]] for name, value in rest.items()})
            torch.testing.assert_close(together[[i]], alone, atol=1e-5, rtol=1e-4)


def test_any_number_of_views() -> None:
    """The number of views may change from call to call."""
    model = tiny_unet()
    with torch.no_grad():
        for views in (1, 4, 2):
            latents, c_noise, rest = inputs(views=views)
            assert model(latents, c_noise, **rest).shape == latents.shape


def test_new_layers_get_gradients_at_step_0() -> None:
    """The zero-initialised output projections have nonzero gradients."""
    model = tiny_unet(active_3d=False)
    latents, c_noise, rest = inputs()
    model(latents, c_noise, **rest).square().sum().backward()
    gradients = [p.grad for name, p in model.named_parameters() if "attn_3d.to_out.0.weight" in name]
    assert gradients
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize(
    ("factors", "expected"),
    [((1, 2), {"down_blocks.0", "mid_block", "up_blocks.1"}), ((2,), {"mid_block"}), ((), set())],
)
def test_3d_attention_is_at_the_configured_factors(factors: tuple[int, ...], expected: set[str]) -> None:
    """With two levels, factor 1 is the outermost level and factor 2 the middle block."""
    model = tiny_unet(multiview_factors=factors)
    found = {name.split(".attentions")[0] for name, _ in model.unet.named_parameters() if "attn_3d" in name}
    assert found == expected


def test_save_and_load_round_trip(tmp_path) -> None:
    """save_pretrained writes safetensors and a config; the loaded network has bit-identical outputs."""
    model = tiny_unet(ray_encoding="plucker")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = MultiviewUNet.from_pretrained(tmp_path).eval()
    latents, c_noise, rest = inputs()
    rest["rays"] = rest["rays"][:, :, :6]
    with torch.no_grad():
        assert torch.equal(loaded(latents, c_noise, **rest), model(latents, c_noise, **rest))
    assert loaded.config["ray_encoding"] == "plucker"


def test_gradient_checkpointing_changes_no_gradient() -> None:
    """Recomputed activations give the same gradients as stored ones."""
    latents, c_noise, rest = inputs()
    gradients = []
    for checkpointing in (False, True):
        model = tiny_unet().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(latents, c_noise, **rest).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_compiles_without_graph_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile captures the forward pass as one graph with the same output (without shape checks, as in
    production)."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = tiny_unet()
    latents, c_noise, rest = inputs()
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(latents, c_noise, **rest), model(latents, c_noise, **rest))


def test_compiled_repeated_blocks_give_the_same_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' regional compilation captures each block as one graph."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = tiny_unet()
    latents, c_noise, rest = inputs()
    with torch.no_grad():
        expected = model(latents, c_noise, **rest)
        model.compile_repeated_blocks(backend="eager", fullgraph=True)
        torch.testing.assert_close(model(latents, c_noise, **rest), expected)


@pytest.mark.slow
def test_gradients_are_compiled_without_graph_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward are captured as one graph each, with the same loss and gradients."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    latents, c_noise, rest = inputs(batch=1, views=2)
    gradients = []
    for compiled in (False, True):
        model = tiny_unet().train()
        call = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        call(latents, c_noise, **rest).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


def test_memory_of_3d_attention_is_linear_in_tokens() -> None:
    """Four times the views grow the largest tensor of an attention layer four times, not sixteen: no attention matrix
    is materialised."""
    block = next(m for m in tiny_unet().modules() if getattr(m, "attn_3d", None) is not None)
    width, largest = block.norm_3d.normalized_shape[0], []
    for views in (8, 32):
        tokens = torch.randn(views, 64, width, generator=torch.Generator().manual_seed(0))
        with torch.no_grad(), LiveTensors() as live:
            block(tokens, encoder_hidden_states=torch.zeros(views, 8, 512), cross_attention_kwargs={"views": views})
        largest.append(live.largest)
        assert live.largest < (views * 64) ** 2 * 4 / 2 or views == 8
    assert largest[1] <= 4 * largest[0]


def test_gradient_checkpointing_saves_memory() -> None:
    """Recomputation halves the saved activations between forward and backward pass, at least."""
    latents, c_noise, rest = inputs()
    held = []
    for checkpointing in (False, True):
        model = tiny_unet().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        saved: list[int] = []

        def pack(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(latents, c_noise, **rest)
        held.append(sum(saved))
    assert held[1] < 0.5 * held[0]


@pytest.mark.parametrize("changes", [{}, {"block_out_channels": (16, 32, 32), "layers_per_block": 2}], ids=["2", "3"])
@pytest.mark.parametrize("width", [512, 768])
def test_any_text_to_image_unet_can_be_extended(changes: dict[str, object], width: int, tmp_path) -> None:
    """A diffusers folder with another depth or text width gives a network of its sizes whose image half equals the
    original."""
    if changes:
        changes = {
            **changes,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        }
    base_unet(**changes, cross_attention_dim=width).save_pretrained(tmp_path)
    base = UNet2DConditionModel.from_pretrained(tmp_path).eval()
    model = MultiviewUNet.from_unet(base, multiview_factors=(1, 2), zero_pose=True).eval()
    latents, c_noise, rest = inputs(batch=1)
    latents[:, :, 4:], text = 0, torch.randn(1, 8, width, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = model(latents, c_noise, mask=rest["mask"], rays=rest["rays"], encoder_hidden_states=text)
        timesteps = TIME_SCALE * c_noise.flatten() + TIME_SHIFT
        theirs = base(latents[0, :, :4], timesteps, encoder_hidden_states=text.expand(4, -1, -1)).sample
    torch.testing.assert_close(ours[0, :, :4], theirs, atol=1e-5, rtol=1e-4)


def test_channels_last_gives_the_same_output() -> None:
    """The output does not depend on the memory format of the convolutions."""
    model = tiny_unet()
    latents, c_noise, rest = inputs()
    with torch.no_grad():
        expected = model(latents, c_noise, **rest)
        model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(latents, c_noise, **rest), expected, atol=1e-5, rtol=1e-4)


def test_noise_labels_are_distinct() -> None:
    """Sinusoidal embeddings of neighbouring levels of a 50-step schedule are well separated."""
    sigmas = schedule_sigmas(NoiseSchedule(sigma_max=700.0))[:-1]
    timesteps = (TIME_SCALE * noise_label(sigmas) + TIME_SHIFT).float()
    embeddings = build_unet(TINY).unet.time_proj(timesteps)
    assert (embeddings.diff(dim=0).norm(dim=1) > 0.2 * embeddings.norm(dim=1).mean()).all()


def test_default_sizes_are_the_papers() -> None:
    """The defaults have Stable Diffusion 1.5's 859,520,964 parameters, plus those of 154 input and 4 output channels
    and of 11 3D layers, at the factors 2, 4 and 8."""
    with torch.device("meta"):
        model = build_unet(UNetParams())
    count = {True: 0, False: 0}
    for name, weight in model.named_parameters():
        count["_3d." in name] += weight.numel()
    channels = 320 * 9 * (4 + 149 + 1) + 320 * 9 * 4 + 4
    assert count[False] == 859_520_964 + channels
    widths = [640] * 5 + [1280] * 6
    assert count[True] == sum(4 * c * c + c + 2 * c for c in widths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_levels": (True,)}, "attention_levels: expected 2, one per level, got 1"),
        ({"sample_size": 5}, "sample_size: expected a multiple of 2, got 5"),
        ({"norm_groups": 5}, "block_out_channels: expected multiples of norm_groups 5, got 16"),
        ({"multiview_factors": (1, 3)}, r"multiview_factors: expected some of \[1, 2\] for 2 levels, got 3"),
    ],
)
def test_inconsistent_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    """The error names the field, the allowed values and the value found."""
    with pytest.raises(ValueError, match=message):
        UNetParams(**{**TINY.model_dump(), **changes})


def test_other_kinds_of_unet_are_refused() -> None:
    """An inpainting UNet and gated transformer blocks raise an error."""
    with pytest.raises(ValueError, match="expected equal in_channels and out_channels"):
        MultiviewUNet.from_unet(base_unet(in_channels=9))
    with pytest.raises(ValueError, match="expected Stable Diffusion transformer blocks"):
        MultiviewUNet.from_unet(base_unet(attention_type="gated"), multiview_factors=(1,))


def test_extension_keeps_double_precision() -> None:
    """from_unet keeps the dtype of the original weights."""
    model = MultiviewUNet.from_unet(base_unet().double(), multiview_factors=(1,))
    randomise_3d(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.float64}


@pytest.mark.parametrize("latent_statistics", [False, True])
def test_a_model_without_normals_is_the_image_half(latent_statistics: bool, tmp_path) -> None:
    """Where normal latents are zero, the model without them returns the same images, and so does a saved one; its
    random weights are those of the model with normals, and the random numbers drawn afterwards are, too."""
    full, drawn = tiny_unet(latent_statistics=latent_statistics), torch.rand(3)
    half = tiny_unet(latent_statistics=latent_statistics, normals=False)
    assert torch.equal(torch.rand(3), drawn)
    latents, c_noise, rest = inputs()
    latents[:, :, 4:] = 0
    half.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = full(latents, c_noise, **rest)[:, :, :4]
        for model in (full.without_normals(), half, MultiviewUNet.from_pretrained(tmp_path)):
            assert not model.has_normals
            torch.testing.assert_close(model(latents[:, :, :4], c_noise, **rest), expected)
    assert half.without_normals() is half


def test_statistics_without_normals_are_those_of_the_image() -> None:
    """The image half of the statistics stays, also where both halves are set."""
    full = tiny_unet(latent_statistics=True)
    assert full.statistics is not None
    mean, std = torch.randn(2, 4, 4, 4), torch.rand(2, 4, 4, 4) + 0.5
    full.statistics.set(mean, std)
    half = full.without_normals()
    latents = torch.randn(3, 4, 4, 4)
    expected = (latents - mean[0]) / std[0]
    torch.testing.assert_close(half.normalised(latents), expected)
    torch.testing.assert_close(half.restored(half.normalised(latents, "image"), "image"), latents)
    assert half.statistics is not None
    half.statistics.set(mean + 1, std)
    torch.testing.assert_close(half.normalised(latents), expected - 1 / std[0])
