"""Cards for the Hugging Face hub: valid headers, and nothing that is not recorded."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard

from spinmeround.storage.dataset import HeadDataset, publish
from spinmeround.storage.weights import embedded_weights, find_part, fingerprint
from spinmeround.tasks.cards.dataset import dataset_card
from spinmeround.tasks.cards.model import ModelFacts, TrainedPhase, model_card
from spinmeround.tasks.cards.parts import hub_licence, network_part
from spinmeround.tasks.exchange.model_folder import export_model
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.params import TrainParams
from tests.support.heads import write_heads

ATTRIBUTES: dict[str, Any] = {
    "licence": "CC0-1.0: procedural heads, no real person",
    "generator": {"name": "procedural", "options": {"defect_share": 0.1}},
    "fingerprints": {"generator": "procedural-6-abc", "embed": fingerprint(embedded_weights("recognition"))},
    "parameters": {"render": {"resolution": 64}},
    "counts": {"asked": 7, "screened_out": {"shape": 1}},
    "split": {"validation": 0.2, "test": 0.3},
}
EMBEDDED = {"unet": "embedded", "text_encoder": "random", "zero_pose": False}
SPREAD = {"mean": 21.5, "low": 20.25, "high": 22.75, "heads": 3}
EVALUATION: dict[str, Any] = {
    "model": {"psnr": 21.5, "ssim": 0.8, "lpips": None},
    "baselines": {"nearest_input_view": {"psnr": 15.25, "ssim": 0.7, "lpips": None}},
    "methods": {},
    "intervals": {"model": {"psnr": SPREAD, "ssim": {"mean": 0.8, "low": None, "high": None, "heads": 1}}},
    "comparisons": {"nearest_input_view": {"psnr": {"difference": SPREAD, "p_value": 0.03125}}},
    "missing": {"lpips": "no weights of LPIPS"},
    "heads": [{"id": f"procedural-{number:06d}"} for number in range(3)],
    "identities": {
        "heads": [
            {"id": "procedural-000000", "own": 0.5, "nearest": "procedural-000009", "nearest_similarity": 0.6},
            {"id": "procedural-000001", "own": 0.9, "nearest": "procedural-000009", "nearest_similarity": 0.6},
        ],
        "missing": "",
    },
}
FACTS = ModelFacts(
    name="demo",
    phases=(TrainedPhase(phase="multi-view", key="a" * 64, steps=30, loss_last=0.125),),
    code_version="0.1.0",
    train=TrainParams().model_dump(mode="json") | {"initial": EMBEDDED},
    encode=EncodeParams().model_dump(mode="json"),
    autoencoder="b" * 64,
    dataset=ATTRIBUTES,
    digest="d" * 64,
    evaluation=EVALUATION,
    evaluation_digest="d" * 64,
    evaluate={"split": "held-out"},
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> HeadDataset:
    root = tmp_path_factory.mktemp("dataset")
    return HeadDataset.open(publish(root / "datasets", write_heads(root / "heads", range(3)), ATTRIBUTES).path)


def sections(card: DatasetCard | ModelCard) -> dict[str, str]:
    """The text below each heading of the second level."""
    _, *parts = re.split(r"^## (.+)$", card.text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_dataset_card_states_what_the_dataset_records(dataset: HeadDataset) -> None:
    """A header of the hub's fields; generator, parts, digests, parameters and limits in sections."""
    card = DatasetCard(dataset_card(dataset, {"train": 2, "validation": 0, "test": 1}))
    header = card.data.to_dict()
    assert header["license"] == "cc0-1.0"
    assert header["task_categories"] == ["image-to-3d"]
    assert header["size_categories"] == ["n<1K"]
    assert {"synthetic", "faces", "multi-view"} <= set(header["tags"])
    files = header["configs"][0]["data_files"]
    assert [each["split"] for each in files] == ["train", "test"]
    found = sections(card)
    assert {"Intended use", "Licences of the parts", "How it was made", "Limits", "People in the pictures"} <= set(
        found
    )
    assert "| generator | procedural | Apache-2.0, part of SpinMeRound" in found["Licences of the parts"]
    assert "| recognition network | recognition | Apache-2.0, trained on" in found["Licences of the parts"]
    assert dataset.digest in found["How it was made"]
    assert '"resolution": 64' in found["How it was made"]
    assert "options defect_share 0.1" in found["How it was made"]
    assert "Heads screened out before publishing: 1" in found["Limits"]
    assert "no real person is shown" in found["People in the pictures"]


def test_what_a_dataset_does_not_record_is_unknown(tmp_path: Path) -> None:
    """Without licence, generator, counts and fingerprints the card says so, and claims neither origin nor terms."""
    bare = {"split": ATTRIBUTES["split"]}
    data = HeadDataset.open(publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(2)), bare).path)
    card = DatasetCard(dataset_card(data, {"train": 2}))
    found = sections(card)
    assert card.data.license == "unknown"
    assert "Terms: unknown" in card.text
    assert "| generator | unknown | unknown | unknown | unknown |" in found["Licences of the parts"]
    assert card.text.strip().startswith("# Heads")
    assert "counts: unknown" in found["How it was made"]
    assert "How many heads were screened out is unknown." in found["Limits"]
    assert "is unknown" in found["People in the pictures"]
    assert "synthetic" not in card.data.tags


def test_photographs_are_not_called_synthetic(tmp_path: Path) -> None:
    """A captured dataset is of real people, whose consent the software does not know, and lacks views from behind."""
    captured = {
        "max_azimuth_deg": 65.0,
        "back_views": False,
        "with_background": ["anna"],
        "landmarks": {},
        "left_out": {},
    }
    attributes = {**ATTRIBUTES, "generator": {"name": "captured", "options": {}}, "captured": captured}
    attributes |= {"licence": "by agreement with the sitters"}
    data = HeadDataset.open(publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(2)), attributes).path)
    card = DatasetCard(dataset_card(data, {"train": 2}))
    assert (card.data.license, card.data.license_name) == ("other", "by agreement with the sitters")
    assert "synthetic" not in card.data.tags
    assert card.text.strip().startswith("# Photographed heads")
    found = sections(card)
    assert "photographs of real people" in found["People in the pictures"]
    assert "Azimuths reach 65 degrees from the front" in found["Limits"]
    assert "there is no view from behind" in found["Limits"]


def test_the_model_card_has_the_metrics_of_the_evaluation() -> None:
    """`model-index` as the hub reads it, with intervals, and the table with baselines and missing metrics."""
    card = ModelCard(model_card(FACTS))
    results = {each.metric_type: each for each in card.data.eval_results or []}
    assert set(results) == {"psnr", "ssim"}
    assert results["psnr"].metric_value == 21.5
    assert results["psnr"].metric_args == {"heads": 3, "interval_95": [20.25, 22.75]}
    assert results["ssim"].metric_args == {"heads": 3}
    assert results["psnr"].dataset_revision == "d" * 64
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "diffusers")
    found = sections(card)
    assert "| PSNR (dB, higher is better) | 21.50 (20.25 to 22.75) | 15.25 (p = 0.031) |" in found["Metrics"]
    assert "LPIPS: unknown, no weights of LPIPS" in found["Metrics"]
    assert "by the cosine of identity embeddings: 1 of 2." in found["Limits"]
    assert "| multi-view | 30 | 0.125 |" in found["How it was made"]
    assert f"digest of the dataset: `{'d' * 64}`" in found["How it was made"]


def test_a_model_that_was_not_evaluated_has_no_metrics() -> None:
    """Neither in the header nor in the table, and what the data is made from is unknown without the dataset."""
    card = ModelCard(model_card(replace(FACTS, evaluation=None, dataset=None, digest=None)))
    assert card.data.eval_results is None
    assert "model-index" not in card.content
    found = sections(card)
    assert "Unknown: the model has not been evaluated." in found["Metrics"]
    assert "Whether it repeats heads of its training set is unknown." in found["Limits"]
    assert "digest of the dataset: unknown" in found["How it was made"]
    assert card.data.license == "other"


def test_networks_from_outside_are_named_by_their_place(tmp_path: Path) -> None:
    """At the place of a registered part: its licence and repository, as the base model; elsewhere: unknown, no path."""
    part = find_part("arc2face-unet")
    known = network_part("initial UNet", str(part.place(tmp_path)), "multiview")
    assert (known.licence, known.repository) == (part.licence, "FoivosPar/Arc2Face")
    train = FACTS.train | {"initial": {**EMBEDDED, "unet": str(part.place(tmp_path))}}
    card = ModelCard(model_card(replace(FACTS, train=train)))
    assert card.data.base_model == "FoivosPar/Arc2Face"
    assert (card.data.license, card.data.license_name) == ("other", "terms-of-the-parts")
    elsewhere = FACTS.train | {"initial": {**EMBEDDED, "unet": str(tmp_path / "mine")}}
    card = ModelCard(model_card(replace(FACTS, train=elsewhere)))
    assert card.data.base_model is None
    assert "| initial UNet | an external network | unknown | unknown | unknown |" in card.text
    assert str(tmp_path) not in card.content


def test_pictures_of_faces_from_elsewhere_are_named(tmp_path: Path) -> None:
    """Their terms and people are unknown, so the model has no licence of its own; their folder is not written."""
    faces = {"faces": {"source": str(tmp_path / "faces")}, "steps": 5}
    train = FACTS.train | {"adapt": FACTS.train["adapt"] | faces}
    card = ModelCard(model_card(replace(FACTS, train=train)))
    assert "| pictures of faces | an external set | unknown | unknown | unknown |" in card.text
    assert "procedural heads and on pictures of faces" in sections(card)["Limits"]
    assert "Who they show" in sections(card)["People in the pictures"]
    assert card.data.license == "other"
    assert str(tmp_path) not in card.content
    assert "pictures of faces" not in model_card(FACTS)


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ("CC0-1.0", "cc0-1.0"),
        ("CC-BY-NC-SA-4.0: of photographs", "cc-by-nc-sa-4.0"),
        ("ask the owner", "other"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_licences_of_the_hub(stated: str | None, licence: str) -> None:
    """An SPDX identifier, alone or before a colon, is the licence; other words are its name."""
    found = hub_licence(stated)
    assert found["license"] == licence
    assert found.get("license_name", "") == (stated or "")


def test_the_folder_of_a_model_has_the_pipeline_and_the_card(tmp_path: Path) -> None:
    """The files of the pipeline are copied as they are, and the card is the README that the hub shows."""
    (tmp_path / "pipeline" / "unet").mkdir(parents=True)
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    (tmp_path / "pipeline" / "unet" / "config.json").write_text("[]")
    export_model(tmp_path / "pipeline", FACTS, tmp_path / "shared")
    files = {path.relative_to(tmp_path / "shared").as_posix() for path in (tmp_path / "shared").rglob("*.*")}
    assert files == {"README.md", "model_index.json", "unet/config.json"}
    assert ModelCard.load(tmp_path / "shared" / "README.md").data.pipeline_tag == "image-to-3d"
