"""The published configs from data on disk to metrics and pictures, with tiny models of the same architectures."""

import json
import sys

import cv2
import numpy as np
import pytest
from config_parts import REPOSITORY
from PIL import Image
from tool_runs import run_tool

from openvocab.predictor import load
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import read_class_names

pytest.importorskip("transformers")
sys.path.append(str(REPOSITORY / "tests" / "foreign"))
import tiny_models  # noqa: E402

SIZE = (40, 60)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function from the `model_type` of a tiny model to the folder in which it is saved."""
    return lambda name: tiny_models.save(name, tmp_path_factory.mktemp(name))


def coco_file(names: list[str], federated: bool) -> dict:
    """Two images with two objects each, of categories with these names."""
    height, width = SIZE
    images = [{"id": i, "file_name": f"{i}.jpg", "height": height, "width": width} for i in (1, 2)]
    annotations = [
        {
            "id": 10 * image + k,
            "image_id": image,
            "category_id": 1 + k,
            "bbox": [4 + 9 * k, 5, 20, 12],
            "area": 240,
            "segmentation": [[4 + 9 * k, 5, 24 + 9 * k, 5, 24 + 9 * k, 17, 4 + 9 * k, 17]],
            "iscrowd": 0,
        }
        for image in (1, 2)
        for k in (0, 1)
    ]
    categories = [{"id": 1 + index, "name": name} for index, name in enumerate(names)]
    if federated:
        for image in images:
            image |= {"neg_category_ids": [3], "not_exhaustive_category_ids": []}
        for annotation in annotations:
            del annotation["iscrowd"]
        for category, frequency in zip(categories, "rcf" * len(categories)):
            category["frequency"] = frequency
    return {"images": images, "annotations": annotations, "categories": categories}


def write_images(folder) -> None:
    folder.mkdir()
    for index in (1, 2):
        pixels = np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.jpg"), pixels)


def options_of(root, **more: object) -> list[str]:
    dataset = {"root": root, "images": "images", "annotations": "labels.json"} | more
    return [f"test_dataloader.dataset.{key}={value}" for key, value in dataset.items()] + [
        "test_dataloader.num_workers=0",
        "test_dataloader.persistent_workers=False",
    ]


def evaluate(config: str, folder, tmp_path, options: list[str]) -> dict:
    arguments = (
        REPOSITORY / "configs" / f"{config}.py",
        "--work-dir",
        tmp_path / "run",
        "--out",
        tmp_path / "metrics.json",
        "--show-dir",
        tmp_path / "pictures",
        "--cfg-options",
        f"model.pretrained={folder}",
        *options,
    )
    assert run_tool("test", *arguments) == 0
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 2 and Image.open(pictures[0]).size[1] >= SIZE[0]
    return json.loads((tmp_path / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("config", "name"), [("grounding_dino_coco", "grounding-dino"), ("omdet_turbo_coco", "omdet-turbo")]
)
def test_coco_with_base_and_novel_classes(saved, tmp_path, config, name):
    names = [synonyms[0] for synonyms in read_class_names(class_names_path("coco_80"))]
    write_images(tmp_path / "images")
    (tmp_path / "labels.json").write_text(json.dumps(coco_file(names, federated=False)))
    metrics = evaluate(config, saved(name), tmp_path, options_of(tmp_path))
    assert {"ovd_box_AP50_base", "ovd_box_AP50_novel", "ovd_box_AP50_all"} <= metrics.keys()
    assert metrics["protocol"]["images"] == 2 and metrics["protocol"]["templates"] == ["{}"]


def test_lvis_by_fixed_ap_with_1203_names(saved, tmp_path):
    names = [synonyms[0] for synonyms in read_class_names(class_names_path("lvis_1203"))]
    write_images(tmp_path / "images")
    (tmp_path / "labels.json").write_text(json.dumps(coco_file(names, federated=True)))
    metrics = evaluate("llmdet_lvis", saved("mm-grounding-dino"), tmp_path, options_of(tmp_path))
    assert any(key.startswith("lvis_box_fixed") for key in metrics)


def test_label_maps_with_a_background(saved, tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    for index in (1, 2):
        labels = np.random.default_rng(index).integers(0, 21, SIZE, dtype=np.uint8)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{index}.png")
    (tmp_path / "keys.txt").write_text("1\n2\n")
    options = options_of(tmp_path, annotations="labels", keys="keys.txt")
    metrics = evaluate("clipseg_voc21", saved("clipseg"), tmp_path, options)
    assert 0 <= metrics["mIoU"] <= 100 and metrics["protocol"]["classes"] == 21


def test_load_takes_the_config_by_its_name(saved):
    from openvocab.config.config import read_config

    config = read_config(REPOSITORY / "configs/grounding_dino_coco.py", {"model.pretrained": str(saved("owlv2"))})
    config.model.pop("options")
    prediction = load(config)(np.zeros((30, 50, 3), np.uint8), "cat, dog")
    assert prediction.vocabulary.class_names == ("cat", "dog") and len(prediction.scores)
