"""FSS-1000: folders a class, masks that are gray or colored, and training on episodes of several classes."""

import cv2
import numpy as np
import pytest
from config_parts import REPOSITORY
from PIL import Image

from openvocab.config.config import read_config
from openvocab.datasets.fss1000 import FSS1000Dataset, read_mask
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample
from openvocab.engine.runner import build_runner
from openvocab.images.image_io import BadSample
from openvocab.vocabulary.class_lists import load_split

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


def test_masks_count_from_half_brightness_gray_or_colored(tmp_path):
    row = np.array([[0, 127, 128, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / "gray.png"), row)
    cv2.imwrite(str(tmp_path / "color.png"), row[..., None].repeat(3, -1))
    for name in ("gray", "color"):
        assert read_mask(tmp_path / f"{name}.png").tolist() == [[0, 0, 1, 1]]
    cv2.imwrite(str(tmp_path / "ones.png"), np.array([[0, 1, 1, 0]], np.uint8))
    with pytest.raises(BadSample, match="brightest pixel is 1 of 255"):
        read_mask(tmp_path / "ones.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(BadSample, match="broken.png"):
        read_mask(tmp_path / "broken.png")


def _palette_mask(path, *colors) -> None:
    """Save a mask of as many pixels as there are colors, whose ids are their places in a palette."""
    picture = Image.fromarray(np.arange(len(colors), dtype=np.uint8)[None])
    picture.putpalette([channel for color in colors for channel in color])
    picture.save(path)
    assert Image.open(path).mode == "P"


def test_a_palette_counts_as_its_colors(tmp_path):
    _palette_mask(tmp_path / "m.png", (0, 0, 0), (255, 255, 255), (20, 20, 20))
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        ([(0, 0, 0), (128, 0, 0)], "more pixels are colored than white"),
        ([(0, 0, 0), (128, 0, 0), (224, 224, 192)], "more pixels are colored than white"),  # VOC's colors
        ([(0, 0, 0), (0, 255, 0)], "more pixels are colored than white"),
        ([(0, 0, 0), (1, 1, 1)], "brightest pixel is 1 of 255; the object is white, 255"),
    ],
)
def test_palettes_of_other_colors_are_refused(tmp_path, colors, message):
    _palette_mask(tmp_path / "m.png", *colors)
    with pytest.raises(BadSample, match=message):
        read_mask(tmp_path / "m.png")


def test_alpha_counts_neither_as_the_mask_nor_silently(tmp_path):
    row = np.zeros((1, 4, 4), np.uint8)
    row[..., 3] = 255
    row[:, :2, :3] = 255
    cv2.imwrite(str(tmp_path / "opaque.png"), row)
    assert read_mask(tmp_path / "opaque.png").tolist() == [[1, 1, 0, 0]]
    row[:, 2:, 3] = 0
    cv2.imwrite(str(tmp_path / "cut_out.png"), row)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "palette.png", transparency=0)
    for name in ("cut_out", "palette"):
        with pytest.raises(BadSample, match=f"{name}.png: transparent pixels: white or opaque may be the object"):
            read_mask(tmp_path / f"{name}.png")


def test_a_black_mask_is_a_bad_sample(tmp_path):
    write_classes(tmp_path, FOLDERS[PARTS["val"]], images=1)
    mask = tmp_path / FOLDERS[520] / "1.png"
    cv2.imwrite(str(mask), np.zeros((8, 8), np.uint8))
    assert not read_mask(mask).any()
    dataset = FSS1000Dataset(tmp_path, "val", PIPELINE)
    with pytest.raises(BadSample, match=r"1\.png: no pixel is 'ab_wheel', though every image of FSS-1000 shows its"):
        dataset[0]
    assert dataset[1]["sample"].label_map.any()


@pytest.mark.parametrize("extension", [".jpeg", ".JPG", ".bmp", ".webp"])
def test_images_may_be_saved_in_any_other_format_than_their_mask(tmp_path, extension):
    write_classes(tmp_path, FOLDERS[PARTS["val"]], images=2)
    first = tmp_path / FOLDERS[520] / "1.jpg"
    first.rename(first.with_suffix(extension))
    dataset = FSS1000Dataset(tmp_path, "val", PIPELINE)
    assert dataset[0]["sample"].sample_id == "ab_wheel/1" and len(dataset) == 480
    cv2.imwrite(str(first.with_suffix(".tif")), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="would be one sample, '1'"):
        len(FSS1000Dataset(tmp_path, "val", PIPELINE))


def test_words_may_be_other_than_the_names_of_the_folders(root):
    names = [f"thing_{number}" for number in range(1000)]
    sample = FSS1000Dataset(root, "test", PIPELINE, class_names=names)[0]["sample"]
    assert sample.vocabulary.class_names == ("others", "thing 760")
    names[3] = "Others"
    with pytest.raises(ValueError, match="class_names, with 'others' as class 1000: name 'others' is given twice"):
        FSS1000Dataset(root, "test", PIPELINE, class_names=names)


def test_mistakes_are_named(root, tmp_path):
    with pytest.raises(ValueError, match="part: expected one of .*validation"):
        FSS1000Dataset(root, "validation", PIPELINE)
    with pytest.raises(FileNotFoundError, match="root: 520 of 520 class folders are not in .*'ac_wall'"):
        len(FSS1000Dataset(root, "train", PIPELINE))
    with pytest.raises(FileNotFoundError, match="root: no folder"):
        len(FSS1000Dataset(tmp_path / "absent", "test", PIPELINE))
    with pytest.raises(ValueError, match="class_names: expected 1000, one per class, got 80"):
        FSS1000Dataset(root, "test", PIPELINE, class_names="coco_80")
    write_classes(tmp_path, FOLDERS[PARTS["val"]], images=1)
    (tmp_path / FOLDERS[520] / "1.png").unlink()
    advice = "; an image and its mask lie side by side"
    with pytest.raises(FileNotFoundError, match=f"1 of 240 images have no label map; .*/1.jpg{advice}"):
        len(FSS1000Dataset(tmp_path, "val", PIPELINE))
    (tmp_path / FOLDERS[520] / "1.jpg").rename(tmp_path / FOLDERS[520] / "2.jpg")
    (tmp_path / FOLDERS[521] / "1.jpg").rename(tmp_path / FOLDERS[521] / "2.jpg")
    with pytest.raises(FileNotFoundError, match=f"1 label maps have no image; the first is .*/1.png{advice}"):
        len(FSS1000Dataset(tmp_path, "val", PIPELINE))
    (tmp_path / FOLDERS[522] / "1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=f"root: no images .* in the class folder .*{FOLDERS[522]}"):
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
        "model.head.decoder.dims": (8, 8, 8, 8),
        "model.head.decoder.features": 8,
    }
    config = read_config(REPOSITORY / "configs" / "lseg_fss1000_vit-l16.py", options)
    runner = build_runner(config, work_dir=tmp_path / "run")
    runner.train()
    assert runner.train_loop.draws == 16
    assert (tmp_path / "run" / "best.pth").is_file()
