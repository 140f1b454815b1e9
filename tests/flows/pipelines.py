"""A script that saves and loads a tiny pipeline after silencing libraries that are already imported."""

import sys

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.tasks.quiet_libraries import silence_libraries
from tests.models.diffusion.networks import TINY_PROMPT, tiny_autoencoder, tiny_text_encoder, tiny_unet


def save_and_load(folder: str) -> None:
    made = SpinMeRoundPipeline(tiny_unet(), tiny_autoencoder(), tiny_text_encoder(), TINY_PROMPT.model_dump())
    made.save_pretrained(folder)
    SpinMeRoundPipeline.from_pretrained(folder, local_files_only=True)


if __name__ == "__main__":
    silence_libraries()
    save_and_load(sys.argv[1])
