"""What the README shows is true: its own-folder config reads a user's folder, its commands and files exist."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from openvocab.registry import DATASETS

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
USERS_OWN = ("configs/my_photos.py", "configs/my_objects.py")


def make_folder(root: Path) -> None:
    """A user's data: two photos a part, label maps of the same stems, three names."""
    for part in ("train", "val"):
        for folder in ("photos", "labels"):
            (root / folder / part).mkdir(parents=True)
        for index in range(2):
            pixels = np.full((40, 50, 3), 60 * index, np.uint8)
            Image.fromarray(pixels).save(root / "photos" / part / f"{index}.jpg")
            Image.fromarray(np.full((40, 50), index, np.uint8)).save(root / "labels" / part / f"{index}.png")
    (root / "names.txt").write_text("cat;kitten\nsofa\nother\n")


def read_users_config(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Write the config that the README shows under `name` beside the others in `folder`, go there, and read it."""
    text = re.search(rf"```python\n# file: {re.escape(name)}\n(.*?)```", README, re.DOTALL).group(1)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    init_default_scope("openvocab")
    return Config.fromfile(name)


def test_own_folder_config_reads_a_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_folder(tmp_path / "my_data")
    config = read_users_config("configs/my_photos.py", tmp_path, monkeypatch)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        item = DATASETS.build(loader.dataset.to_dict())[1]
        assert item["sample"].vocabulary.class_names == ("cat", "sofa", "other")
        assert set(item["sample"].label_map.unique().tolist()) <= {1, 255}


def test_own_objects_config_reads_a_users_coco_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    labels = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 50, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [5, 6, 20, 10], "area": 200, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "vest"}, {"id": 7, "name": "hard hat"}],
    }
    for part in ("train", "val"):
        (tmp_path / "my_data/photos" / part).mkdir(parents=True)
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / f"my_data/photos/{part}/1.jpg")
        (tmp_path / f"my_data/{part}.json").write_text(json.dumps(labels))
    config = read_users_config("configs/my_objects.py", tmp_path, monkeypatch)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        sample = DATASETS.build(loader.dataset.to_dict())[0]["sample"]
        assert sample.vocabulary.class_names == ("helmet", "vest")
        assert sample.instances.classes.tolist() == [0]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:tools|configs|docs)/[\w/-]+\.(?:py|md|png)", README))))
def test_files_that_the_readme_names_exist(path: str):
    assert (REPOSITORY / path).is_file() or path in USERS_OWN
