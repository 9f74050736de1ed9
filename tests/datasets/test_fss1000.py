"""FSS-1000: folders a class, masks that are grey or coloured, and training on episodes of several classes."""

import cv2
import numpy as np
import pytest
from config_parts import REPOSITORY

from openvocab.config import read_config
from openvocab.datasets.class_lists import load_split
from openvocab.datasets.fss1000 import FSS1000Dataset, read_mask
from openvocab.datasets.image_io import BadSample
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample
from openvocab.engine.runner import build_runner

PIPELINE = [LoadImage(), LoadLabels(), PackSample()]
FOLDERS = [folder for folders in load_split("fss1000")["parts"].values() for folder in folders]
PARTS = {"train": slice(0, 520), "val": slice(520, 760), "test": slice(760, 1000)}


def write_classes(root, folders, images: int) -> None:
    """Write a few small images of each class; the left half is the object."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 255
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(1, images + 1):
            cv2.imwrite(str(root / folder / f"{number}.jpg"), np.full((8, 8, 3), 20 * number, np.uint8))
            cv2.imwrite(str(root / folder / f"{number}.png"), mask)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fss")
    write_classes(folder, FOLDERS[PARTS["test"]], images=1)
    return folder


@pytest.mark.parametrize(("part", "count"), [("train", 520), ("val", 240), ("test", 240)])
def test_parts_have_the_published_sizes_and_share_no_class(root, part, count):
    names = FSS1000Dataset(root, part, PIPELINE).metainfo["classes"]
    assert names == FOLDERS[PARTS[part]] and len(set(names)) == count


def test_an_item_is_the_class_against_all_others(root):
    dataset = FSS1000Dataset(root, "test", PIPELINE)
    assert len(dataset) == 240 and dataset.class_of_item == list(range(760, 1000))
    sample = dataset[0]["sample"]
    assert sample.sample_id == "abe's_flyingfish/1"
    assert sample.vocabulary.class_names == ("others", "abe's_flyingfish") and sample.vocabulary.background == 0
    assert sample.label_map[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_masks_count_from_half_brightness_grey_or_coloured(tmp_path):
    row = np.array([[0, 127, 128, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), row)
    cv2.imwrite(str(tmp_path / "colour.png"), row[..., None].repeat(3, -1))
    for name in ("grey", "colour"):
        assert read_mask(tmp_path / f"{name}.png").tolist() == [[0, 0, 1, 1]]
    cv2.imwrite(str(tmp_path / "ones.png"), np.array([[0, 1, 1, 0]], np.uint8))
    with pytest.raises(BadSample, match="brightest pixel is 1 of 255"):
        read_mask(tmp_path / "ones.png")
    cv2.imwrite(str(tmp_path / "nothing.png"), np.zeros((1, 4), np.uint8))
    assert not read_mask(tmp_path / "nothing.png").any()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(BadSample, match="broken.png"):
        read_mask(tmp_path / "broken.png")


def test_mistakes_are_named(root, tmp_path):
    with pytest.raises(ValueError, match="part: expected one of .*'validation'"):
        FSS1000Dataset(root, "validation", PIPELINE)
    with pytest.raises(FileNotFoundError, match="root: 520 of 520 class folders are not in .*'ac_wall'"):
        len(FSS1000Dataset(root, "train", PIPELINE))
    with pytest.raises(FileNotFoundError, match="root: no folder"):
        len(FSS1000Dataset(tmp_path / "absent", "test", PIPELINE))
    with pytest.raises(ValueError, match="class_names: expected 1000, got 80"):
        FSS1000Dataset(root, "test", PIPELINE, class_names="coco_80")
    write_classes(tmp_path, FOLDERS[PARTS["val"]], images=1)
    (tmp_path / FOLDERS[520] / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match="1.jpg has no mask 1.png"):
        len(FSS1000Dataset(tmp_path, "val", PIPELINE))


def test_lseg_trains_on_episodes_of_several_classes(tmp_path):
    write_classes(tmp_path / "fss", FOLDERS[PARTS["train"]], images=2)
    write_classes(tmp_path / "fss", FOLDERS[PARTS["val"]], images=1)
    loaders = {
        f"{part}_dataloader.{key}": value
        for part in ("train", "val")
        for key, value in {
            "dataset.root": str(tmp_path / "fss"),
            "dataset.pipeline.2.size": (32, 32),
            "num_workers": 0,
            "persistent_workers": False,
        }.items()
    }
    options = loaders | {
        "train_dataloader.batch_size": 8,
        "train_cfg.max_iters": 2,
        "train_cfg.val_interval": 2,
        "model.backbone.model": "test_vit",
        "model.backbone.pretrained": None,
        "model.text_encoder.model": "ViT-Ti-8-shapes",
        "model.text_encoder.pretrained": None,
        "model.head.layers": (1, 2, 3, 4),
        "model.head.dims": (8, 8, 8, 8),
        "model.head.features": 8,
    }
    config = read_config(REPOSITORY / "configs" / "lseg_fss1000_vit-l16.py", options)
    runner = build_runner(config, work_dir=tmp_path / "run")
    runner.train()
    assert runner.train_loop.draws == 16
    assert (tmp_path / "run" / "best.pth").is_file()
