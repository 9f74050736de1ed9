"""What the README shows is true: its own-folder config reads a user's folder, its commands and files exist."""

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


def test_own_folder_config_reads_a_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name, text = re.search(r"```python\n# file: (\S+)\n(.*?)```", README, re.DOTALL).groups()
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    (tmp_path / name).write_text(text)
    make_folder(tmp_path / "my_data")
    monkeypatch.chdir(tmp_path)
    init_default_scope("openvocab")
    config = Config.fromfile(name)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        item = DATASETS.build(loader.dataset.to_dict())[1]
        assert item["sample"].vocabulary.class_names == ("cat", "sofa", "other")
        assert set(item["sample"].label_map.unique().tolist()) <= {1, 255}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:tools|configs|docs)/[\w/-]+\.(?:py|md|png)", README))))
def test_files_that_the_readme_names_exist(path: str):
    assert (REPOSITORY / path).is_file() or path == "configs/my_photos.py"
