"""The multiview UNet: a Stable Diffusion UNet with 3D attention across the views of a group.

The layers of the original network treat views as batch samples. Each transformer block gains, between self-attention
and cross-attention, one attention layer over the tokens of all views of a group. Its output projection is initialised
to zero, so that before training the model treats each view as the original network does. No layer depends on the order
of the views: permuting them permutes the output.

Input channels of a view: image latent 4, normal latent 4, rays, mask 1 (1 for conditioning views, 0 for targets).
Output channels: 4 + 4. A model without normals has the image latents alone.

Parameters keep the names of diffusers' UNet2DConditionModel under `unet.`; the new ones are
`unet.….transformer_blocks.N.norm_3d.*` and `….attn_3d.*`. At the paper's size these add 47.5 million parameters to
Stable Diffusion 1.5's 859.5 million, and the new input and output channels 0.5 million.
"""

from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin, BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from spinmeround.models.diffusion.params import RayEncoding, UNetParams, check_factors
from spinmeround.models.diffusion.rays import ray_channels
from spinmeround.models.diffusion.statistics import Half, LatentStatistics

TIME_SCALE, TIME_SHIFT = 640.0, 440.0
"""timestep = 640 c_noise + 440. Within 170 of Stable Diffusion's own timestep at each of its noise levels (0.03 to
14.6), so the sinusoidal embedding stays in its trained range; steps of a 50-step schedule are tens of timesteps
apart."""


def base_config(params: UNetParams) -> dict[str, Any]:
    """Configuration of the diffusers UNet that a MultiviewUNet of these sizes extends."""
    kinds = params.attention_levels
    return {
        "sample_size": params.sample_size,
        "in_channels": params.latent_channels,
        "out_channels": params.latent_channels,
        "block_out_channels": list(params.block_out_channels),
        "layers_per_block": params.layers_per_block,
        "down_block_types": ["CrossAttnDownBlock2D" if kind else "DownBlock2D" for kind in kinds],
        "up_block_types": ["CrossAttnUpBlock2D" if kind else "UpBlock2D" for kind in reversed(kinds)],
        "attention_head_dim": params.attention_heads,  # diffusers' name for the number of heads
        "norm_num_groups": params.norm_groups,
        "cross_attention_dim": params.cross_attention_dim,
    }


def build_unet(params: UNetParams) -> "MultiviewUNet":
    """A MultiviewUNet of these sizes with random weights; one without normals has those of the one with normals."""
    model: MultiviewUNet = MultiviewUNet(
        base=base_config(params),
        views=params.views,
        ray_encoding=params.ray_encoding,
        multiview_factors=params.multiview_factors,
        latent_statistics=params.latent_statistics,
    )
    return model if params.normals else model.without_normals()


class MultiviewTransformerBlock(nn.Module):
    """A BasicTransformerBlock whose tokens also attend to the tokens of the group's other views.

    Reuses the layers of `block`. Each call passes the number of views as `cross_attention_kwargs["views"]`, so the
    block is stateless. Without `across_views` it equals the original block.
    """

    def __init__(self, block: BasicTransformerBlock, *, across_views: bool) -> None:
        super().__init__()
        odd = block.norm_type != "layer_norm" or block.attn2 is None or block.pos_embed is not None
        if odd or hasattr(block, "fuser"):
            raise ValueError(
                "MultiviewUNet: expected Stable Diffusion transformer blocks (layer_norm, self-attention, "
                f"cross-attention), got a different block with norm_type {block.norm_type!r}"
            )
        self.norm1: nn.Module = block.norm1
        self.attn1: Attention = block.attn1
        self.norm2: nn.Module = block.norm2
        self.attn2: Attention = block.attn2
        self.norm3: nn.Module = block.norm3
        self.ff: nn.Module = block.ff
        self.norm_3d: nn.LayerNorm | None = None
        self.attn_3d: Attention | None = None
        if across_views:
            self.norm_3d = nn.LayerNorm(block.dim)
            self.attn_3d = Attention(
                query_dim=block.dim, heads=block.num_attention_heads, dim_head=block.attention_head_dim
            )
            for weight in self.attn_3d.to_out[0].parameters():
                nn.init.zeros_(weight)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch_view token channel"],
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Float[Tensor, "batch_view text_token text_channel"] | None = None,
        encoder_attention_mask: Tensor | None = None,
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Tensor | None = None,
    ) -> Float[Tensor, "batch_view token channel"]:
        """Has the original block's signature; `timestep` and `class_labels` are unused, as in the original under
        layer_norm."""
        kwargs = dict(cross_attention_kwargs or {})
        views = kwargs.pop("views", 1)
        hidden = hidden_states + self.attn1(self.norm1(hidden_states), attention_mask=attention_mask, **kwargs)
        if self.norm_3d is not None and self.attn_3d is not None:
            tokens = rearrange(hidden, "(b p) n c -> b (p n) c", p=views)
            tokens = tokens + self.attn_3d(self.norm_3d(tokens))
            hidden = rearrange(tokens, "b (p n) c -> (b p) n c", p=views)
        hidden = hidden + self.attn2(
            self.norm2(hidden),
            encoder_hidden_states=encoder_hidden_states,
            attention_mask=encoder_attention_mask,
            **kwargs,
        )
        output: Tensor = hidden + self.ff(self.norm3(hidden))
        return output


class MultiviewUNet(ModelMixin, AttentionMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """F of the preconditioned denoiser, for a group of P views.

    `base` is the configuration of the UNet2DConditionModel that it extends (4 channels in and out); `multiview_factors`
    are the downsampling factors with 3D attention. `from_unet` extends a pretrained network, `build_unet` starts from
    random weights, and `without_normals` removes the normals.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["MultiviewTransformerBlock", "ResnetBlock2D"]  # type: ignore[misc,assignment]
    _repeated_blocks: ClassVar[list[str]] = ["MultiviewTransformerBlock"]  # type: ignore[misc]
    _skip_layerwise_casting_patterns: ClassVar[list[str]] = ["norm"]  # type: ignore[misc,assignment]

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        base: dict[str, Any],
        views: int = 8,
        ray_encoding: RayEncoding = "spinmeround",
        multiview_factors: tuple[int, ...] | list[int] = (2, 4, 8),
        time_scale: float = TIME_SCALE,
        time_shift: float = TIME_SHIFT,
        latent_statistics: bool = False,
        normals: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if base.get("in_channels", 4) != base.get("out_channels", 4):
            raise ValueError(
                f"base: expected equal in_channels and out_channels (a text-to-image UNet), got {base['in_channels']} "
                f"and {base['out_channels']}"
            )
        self.latent_channels = base.get("in_channels", 4)
        self.halves = 2 if normals else 1
        self.ray_channels = ray_channels(ray_encoding)
        grown = {
            "in_channels": self.view_channels + self.ray_channels + 1,
            "out_channels": self.view_channels,
        }
        self.unet = UNet2DConditionModel.from_config({**base, **grown})
        check_factors(multiview_factors, len(self.unet.down_blocks))
        _install_multiview_blocks(self.unet, set(multiview_factors))
        self.statistics: LatentStatistics | None = None
        if latent_statistics:
            self.add_latent_statistics()

    @property
    def view_channels(self) -> int:
        """Latent channels of a view: those of its image and, unless the model lacks them, of its normals."""
        channels: int = self.halves * self.latent_channels
        return channels

    @property
    def has_normals(self) -> bool:
        """Whether views have normals beside their images."""
        return self.halves == 2

    def add_latent_statistics(self) -> None:
        """Give the model statistics of its latents, the identity until they are set; they are saved with it."""
        statistics = LatentStatistics(self.latent_channels, self.unet.config["sample_size"], self.halves)
        self.statistics = statistics.to(self.unet.conv_in.weight.device)
        self.register_to_config(latent_statistics=True)  # type: ignore[no-untyped-call]

    def normalised(
        self, latents: Float[Tensor, "*batch channels height width"], half: Half = "both"
    ) -> Float[Tensor, "*batch channels height width"]:
        """Latents as the model sees them; those of the autoencoder, unless it has statistics."""
        return latents if self.statistics is None else self.statistics.normalised(latents, half)

    def restored(
        self, latents: Float[Tensor, "*batch channels height width"], half: Half = "both"
    ) -> Float[Tensor, "*batch channels height width"]:
        """The inverse of `normalised`."""
        return latents if self.statistics is None else self.statistics.restored(latents, half)

    @classmethod
    def from_unet(
        cls,
        unet: UNet2DConditionModel,
        *,
        views: int = 8,
        ray_encoding: RayEncoding = "spinmeround",
        multiview_factors: tuple[int, ...] = (2, 4, 8),
        zero_pose: bool = False,
        latent_statistics: bool = False,
    ) -> "MultiviewUNet":
        """Extends a pretrained text-to-image UNet (Stable Diffusion 1.5, Arc2Face).

        Copies the weights of the image channels of conv_in and conv_out to the normal channels. Weights of the ray and
        mask channels stay random, or are zero with `zero_pose`. Raises ValueError for a UNet of another type.
        """
        base = {name: value for name, value in unet.config.items() if not name.startswith("_")}
        model: MultiviewUNet = cls(
            base=base,
            views=views,
            ray_encoding=ray_encoding,
            multiview_factors=multiview_factors,
            latent_statistics=latent_statistics,
        )
        nn.Module.to(model, device=unet.device, dtype=unet.dtype)  # ModelMixin.to warns if given a dtype
        weights = dict(unet.state_dict())
        conv_in, conv_out = weights["conv_in.weight"], weights["conv_out.weight"]
        pose = model.unet.conv_in.weight.detach()[:, 2 * model.latent_channels :]
        weights["conv_in.weight"] = torch.cat([conv_in, conv_in, torch.zeros_like(pose) if zero_pose else pose], dim=1)
        weights["conv_out.weight"] = torch.cat([conv_out, conv_out])
        weights["conv_out.bias"] = weights["conv_out.bias"].repeat(2)
        missing = model.unet.load_state_dict(weights, strict=False).missing_keys
        if any("_3d." not in name for name in missing):
            raise ValueError(f"unet: expected all weights of its configuration, {missing[0]} is missing")
        return model

    def to_unet(self) -> UNet2DConditionModel:
        """The text-to-image UNet of single images, with copies of the weights: the inverse of `from_unet`.

        Keeps the image channels of conv_in and conv_out, and drops those of normals, rays and mask, the attention
        across views and the statistics of the latents.
        """
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(self.config["base"])
        nn.Module.to(unet, device=self.device, dtype=self.dtype)
        weights = {name: weight for name, weight in self.unet.state_dict().items() if "_3d." not in name}
        weights["conv_in.weight"] = weights["conv_in.weight"][:, : self.latent_channels]
        for name in ("conv_out.weight", "conv_out.bias"):
            weights[name] = weights[name][: self.latent_channels]
        unet.load_state_dict(weights)
        return unet

    def without_normals(self) -> "MultiviewUNet":
        """The model of images alone, with copies of the weights: all but those of the normal channels of conv_in and
        conv_out. Statistics keep their image half."""
        if not self.has_normals:
            return self
        config = {name: value for name, value in self.config.items() if not name.startswith("_")}
        with torch.random.fork_rng(devices=[]):  # its own random weights are replaced
            model: MultiviewUNet = MultiviewUNet(**{**config, "normals": False})
        nn.Module.to(model, device=self.device, dtype=self.dtype)
        weights, image = dict(self.unet.state_dict()), self.latent_channels
        conv_in = weights["conv_in.weight"]
        weights["conv_in.weight"] = torch.cat([conv_in[:, :image], conv_in[:, 2 * image :]], dim=1)
        for name in ("conv_out.weight", "conv_out.bias"):
            weights[name] = weights[name][:image]
        model.unet.load_state_dict(weights)
        if model.statistics is not None and self.statistics is not None:
            model.statistics.load_state_dict({name: each[:1] for name, each in self.statistics.named_buffers()})
        return model.train(self.training)

    def forward(
        self,
        latents: Float[Tensor, "batch view channel height width"],
        c_noise: Float[Tensor, "batch view"],
        *,
        mask: Float[Tensor, "batch view 1 height width"],
        rays: Float[Tensor, "batch view ray height width"],
        encoder_hidden_states: Float[Tensor, "batch text_token text_channel"],
    ) -> Float[Tensor, "batch view channel height width"]:
        """The raw network output, in the shape of `latents` (image channels first, then normals, if there are any).

        `latents` are already scaled by c_in; `c_noise` is ln(s)/4 of each view; `encoder_hidden_states` are the text
        encoder's, shared by all views of a sample.
        """
        views = latents.shape[1]
        sample = rearrange(torch.cat([latents, rays, mask], dim=2), "b p c h w -> (b p) c h w")
        timestep = self.config["time_scale"] * rearrange(c_noise, "b p -> (b p)") + self.config["time_shift"]
        output = self.unet(
            sample,
            timestep,
            encoder_hidden_states=repeat(encoder_hidden_states, "b l d -> (b p) l d", p=views),
            cross_attention_kwargs={"views": views},
            return_dict=False,
        )[0]
        raw: Tensor = rearrange(output, "(b p) c h w -> b p c h w", p=views)
        return raw


def _install_multiview_blocks(unet: UNet2DConditionModel, factors: set[int]) -> None:
    """Replaces every transformer block; blocks at the given downsampling factors attend across views."""
    last = len(unet.down_blocks) - 1
    stages = [(block, 2**level) for level, block in enumerate(unet.down_blocks)]
    stages += [(unet.mid_block, 2**last)]
    stages += [(block, 2 ** (last - level)) for level, block in enumerate(unet.up_blocks)]
    for stage, factor in stages:
        for transformer in stage.modules():
            if isinstance(transformer, Transformer2DModel):
                transformer.transformer_blocks = nn.ModuleList(
                    MultiviewTransformerBlock(block, across_views=factor in factors)
                    for block in transformer.transformer_blocks
                )
