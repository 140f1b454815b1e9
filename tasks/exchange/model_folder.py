"""A trained pipeline as a folder to share: diffusers' files and a model card, as the Hugging Face hub takes them."""

import shutil
from pathlib import Path

from spinmeround.storage.errors import environment_errors
from spinmeround.tasks.cards.model import ModelFacts, model_card
from spinmeround.tasks.exchange.formats import new_folder


def export_model(pipeline: Path, facts: ModelFacts, target: Path) -> None:
    """Copy the folder of a pipeline to the new folder `target`, with the card of these facts as its `README.md`.

    Raises ConfigError if `target` exists.
    """
    card = model_card(facts)
    with new_folder(target) as folder, environment_errors(target):
        shutil.copytree(pipeline, folder, dirs_exist_ok=True)
        (folder / "README.md").write_text(card, encoding="utf-8")
