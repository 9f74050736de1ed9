"""docs/datasets_and_transforms.md is a program: its files are written, built and loaded; its tables are complete."""

import re
import sys
from dataclasses import fields
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from config_parts import REPOSITORY

from openvocab.config.config import check_arguments, read_config
from openvocab.datasets import base, classification, detection, few_shot, segmentation
from openvocab.datasets.shapes.writing import write_shapes
from openvocab.datasets.transforms.results import Packed, Results
from openvocab.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS
from openvocab.seeding import DrawIndex

PAGE = (REPOSITORY / "docs" / "datasets_and_transforms.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# file: (\S+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Path:
    """A user's folder with the page's files and photos of two classes; its modules are forgotten afterwards."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for number, name in enumerate(("cat_1", "dog_1", "dog_2")):
        (tmp_path / "photos").mkdir(exist_ok=True)
        image = np.full((30, 40, 3), 50 + number, np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), image)
    monkeypatch.chdir(tmp_path)
    modules = dict(DATASETS.module_dict), dict(TRANSFORMS.module_dict)
    yield tmp_path
    for registry, before in zip((DATASETS, TRANSFORMS), modules):
        for name in set(registry.module_dict) - set(before):
            del registry.module_dict[name]
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


def test_the_config_of_the_page_builds_a_dataset_that_loads(project):
    config = read_config("my_data.py")
    check_arguments(config)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    items = [dataset[DrawIndex(index, seed=3)] for index in range(3)]
    assert [item["sample"].class_ids for item in items] == [(0,), (1,), (1,)]
    assert dataset.vocabulary.class_names == ("cat", "dog") and len(dataset) == 3
    for number, item in enumerate(items):
        assert item["image"].shape == (3, 24, 32)  # the crop is (width, height)
        assert sorted(item["image"].amax((1, 2)).tolist()) == [0, 50 + number, 50 + number]
    again = dataset[DrawIndex(0, seed=3)]["image"]
    assert again.equal(items[0]["image"])  # from the cache, with the same draws


def test_parts_of_the_page_are_found_by_their_registered_names(project):
    text = (
        FILES["my_data.py"]
        .replace("type=NamedPhotos", 'type="NamedPhotos"')
        .replace("type=DropChannel", 'type="DropChannel"')
    )
    text = re.sub(r"from my_\w+ import \w+\n", "", text)
    (project / "by_name.py").write_text(text + '\ncustom_imports = dict(imports=["my_dataset", "my_transforms"])\n')
    dataset = DATASETS.build(read_config("by_name.py").train_dataloader.dataset)
    assert dataset[0]["image"].shape == (3, 24, 32)


def test_the_mixture_of_the_page_draws_from_both(project):
    write_shapes(project / "shapes", num_train=8, num_val=0, objects_per_class=0, processes=1)
    (project / "shapes/images/train").rename("images")
    (project / "shapes/instances_train.json").rename("labels.json")
    (project / "shapes/grounding_v1_train.jsonl").rename("grounding.jsonl")
    config = read_config("my_mixture.py")
    check_arguments(config)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    sampler = DATA_SAMPLERS.build(dict(config.train_dataloader.sampler, dataset=dataset, seed=0))
    samples = [dataset[index]["sample"] for index in islice(iter(sampler), 40)]
    assert all(sample.prompt is not None for sample in samples)
    assert 0 < sum(bool(sample.phrase_types) for sample in samples) < 20, "captions, one in four"


def test_the_label_maps_of_the_page_are_read(project):
    labels = np.array([[0, 1], [255, 1]], np.uint8)
    cv2.imwrite("a.png", np.zeros((2, 2, 3), np.uint8))
    cv2.imwrite("a_labels.png", labels)
    Path("list.csv").write_text("a.png,a_labels.png\n")
    names: dict = {}
    exec(FILES["my_label_maps.py"], names)
    pipeline = [dict(type=name) for name in ("LoadImage", "LoadLabels", "PackSample")]
    dataset = names["ListedLabelMaps"]("list.csv", ["cat", "dog"], pipeline)
    sample = dataset[0]["sample"]
    assert np.array_equal(sample.label_map.numpy(), labels) and sample.vocabulary.class_names == ("cat", "dog")


def test_the_call_of_the_page_has_the_groups(project):
    for part in ("photos", "masks"):
        (project / "my_data" / part).mkdir(parents=True)
        array = np.full((4, 4, 3) if part == "photos" else (4, 4), 3, np.uint8)
        cv2.imwrite(str(project / "my_data" / part / "a.png"), array)
    names: dict = {}
    exec(FILES["my_segmentation.py"], names)
    photos = names["photos"]
    assert photos.vocabulary.class_names == ("wall", "door") and (photos[0]["sample"].label_map == 1).all()


def test_the_tables_of_the_page_are_complete():
    kinds = [base.Loading, segmentation.Pairing, segmentation.LabelIds, segmentation.PixelClassOptions]
    kinds += [detection.CategoryIds, detection.ObjectClassOptions, classification.ImageClassOptions]
    kinds += [few_shot.FewShotLabels, few_shot.Episodes]
    for kind in kinds:
        (row,) = [line for line in PAGE.splitlines() if f"(`{kind.__name__}`)" in line]
        assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == {field.name for field in fields(kind)}
    table = PAGE.split("| key | value | set by |")[1].split("\n\n")[0]
    keys = [key for line in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(keys) == sorted([*Results.__annotations__, *Packed.__annotations__])
