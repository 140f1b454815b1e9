"""Random weights of Stable Diffusion 1.5 and Arc2Face in their published file formats, old names included."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from spinmeround.models.identity.prompt import PromptTokens

START, END = "<|startoftext|>", "<|endoftext|>"
_SMALL_VOCABULARY = 1024
_CLIP_IDS = {"of</w>": 539, "id</w>": 1014, "photo</w>": 1125, "person</w>": 2533}
_MERGES = ("p h", "ph o", "t o</w>", "p e", "pe r", "o n</w>", "s on</w>")
"""Merges of the prompt's words, before the last merge of each."""
_LAST_MERGES = {"of</w>": "o f</w>", "id</w>": "i d</w>", "photo</w>": "pho to</w>", "person</w>": "per son</w>"}


def write_unet(folder: Path, *, small: bool, seed: int) -> None:
    """The UNet of Stable Diffusion 1.5 and of Arc2Face."""
    sizes: dict[str, Any] = {"block_out_channels": (32, 64, 64, 64), "layers_per_block": 1} if small else {}
    with seeded(seed):
        unet = UNet2DConditionModel(sample_size=8 if small else 64, cross_attention_dim=768, **sizes)
    unet.save_pretrained(folder)


def write_autoencoder(folder: Path, *, small: bool, seed: int) -> None:
    """The autoencoder, with the attention names of 2022."""
    sizes = {"block_out_channels": (32, 32, 64, 64), "layers_per_block": 1} if small else {}
    sizes = sizes or {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with seeded(seed):
        autoencoder = AutoencoderKL(**blocks, **sizes, latent_channels=4, sample_size=64 if small else 512)
    autoencoder.save_config(folder)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, tensor in autoencoder.state_dict().items():
        for now, before in old.items():
            name = name.replace(f".attentions.0.{now}.", f".attentions.0.{before}.")
        tensors[name] = tensor.contiguous()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def write_text_encoder(folder: Path, *, small: bool, seed: int, pickled: bool, vocabulary: int | None = None) -> None:
    """CLIP's text encoder with its old names: a .safetensors like Stable Diffusion's, or a .bin like Arc2Face's."""
    config = CLIPTextConfig(
        vocab_size=vocabulary or (_SMALL_VOCABULARY if small else 49408),
        hidden_size=768,
        intermediate_size=768 if small else 3072,
        num_hidden_layers=2 if small else 12,
        num_attention_heads=12,
        projection_dim=768,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        architectures=["CLIPTextModel"],
    )
    with seeded(seed):
        encoder: nn.Module = CLIPTextModel(config)
    names = ((name.removeprefix("text_model."), tensor) for name, tensor in encoder.state_dict().items())
    tensors: dict[str, Tensor] = {f"text_model.{name}": tensor.contiguous() for name, tensor in names}
    folder.mkdir(parents=True)
    config.to_json_file(folder / "config.json", use_diff=False)
    if pickled:
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_stable_diffusion(folder: Path, *, small: bool, seed: int) -> None:
    """The folder of a complete diffusers pipeline."""
    write_unet(folder / "unet", small=small, seed=seed)
    write_autoencoder(folder / "vae", small=small, seed=seed)
    write_text_encoder(folder / "text_encoder", small=small, seed=seed, pickled=False)
    write_tokenizer(folder / "tokenizer", small=small)
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    parts = {
        "feature_extractor": (None, None),
        "safety_checker": (None, None),
        "scheduler": ("diffusers", "PNDMScheduler"),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
    }
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0", **parts}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_tokenizer(folder: Path, *, small: bool) -> None:
    """A tokenizer in CLIP's files; at full size the prompt has CLIP's own ids, other words are split differently."""
    vocabulary, merges = vocabulary_of(small=small)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(
        json.dumps({word: i for i, word in enumerate(vocabulary)}, ensure_ascii=False, allow_nan=False),
        encoding="utf-8",
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    (folder / "special_tokens_map.json").write_text(
        json.dumps(special, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )


def vocabulary_of(*, small: bool) -> tuple[list[str], list[str]]:
    """Words in the order of their ids, and merges: CLIP's bytes, the results of the merges, then start and end."""
    alphabet = sorted(ByteLevel.alphabet())
    count = (_SMALL_VOCABULARY if small else 49408) - 2 * len(alphabet) - 2
    merges: list[str | None] = [*_MERGES] + [None] * (count - len(_MERGES))
    for position, (word, merge) in enumerate(_LAST_MERGES.items()):
        merges[len(_MERGES) + position if small else _CLIP_IDS[word] - 2 * len(alphabet)] = merge
    # the other positions hold pairs of bytes that do not occur in English
    rare = [symbol for symbol in alphabet if ord(symbol) > 160]
    filler = (f"{a} {b}{end}" for end in ("", "</w>") for a in rare for b in rare)
    full = [next(filler) if merge is None else merge for merge in merges]
    words = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), *(merge.replace(" ", "") for merge in full)]
    return [*words, START, END], full


def prompt_tokens(*, small: bool) -> PromptTokens:
    """Ids of the prompt in this vocabulary."""
    if not small:
        return PromptTokens()
    index = {word: i for i, word in enumerate(vocabulary_of(small=True)[0])}
    words = tuple(index[f"{word}</w>"] for word in ("photo", "of", "a", "id", "person"))
    return PromptTokens(
        words=words, identity=index["id</w>"], start=index[START], end=index[END], padding=index[END], length=77
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers inside the block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
