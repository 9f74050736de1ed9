"""Any value in the place of any other, and any damage to a file: one line that names the file, and never a traceback.

A seeded sample of such damage, which reaches each part of a dataset's files. Errors are `ValueError` (of which
`BadSample` is one) or `FileNotFoundError`.
"""

import copy
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_folder import coco_content, write_coco

from openvocab.datasets import CaptionDataset, DetectionDataset, SegmentationDataset
from openvocab.images.image_io import BadSample

VALUES = [None, "x", "", -1, 0, 1.5, True, 1e400, float("nan"), 1e30, -1e30, 2**31, 2**70, [], {}, [[]], [None],
          {"a": 1}, "\ud800", "a\0b", "../../x", ["x", "y"]]  # fmt: skip
ROUNDS = 60


def places(tree: Any, place: tuple = ()) -> list[tuple]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place, *(found for key, value in inner for found in places(value, (*place, key)))]


def spoilt(tree: Any, choose: random.Random) -> Any:
    """Return a copy with another value, or none, somewhere."""
    tree, place = copy.deepcopy(tree), choose.choice(places(tree)[1:])
    parent = tree
    for key in place[:-1]:
        parent = parent[key]
    if choose.random() < 0.1:
        del parent[place[-1]]
    else:
        parent[place[-1]] = choose.choice(VALUES)
    return tree


def damaged(content: bytes, choose: random.Random) -> bytes:
    """Return it cut off, with a flipped bit, in another encoding, or, mostly, as it is."""
    place = choose.randrange(len(content))
    flipped = content[:place] + bytes([content[place] ^ 1 << choose.randrange(8)]) + content[place + 1 :]
    utf16 = content.decode("utf-8", "replace").encode("utf-16")
    return choose.choice([content] * 6 + [content[:place], flipped, utf16, b"[" * 50_000])


def use(dataset: Any) -> None:
    for index in range(len(dataset)):
        dataset[index]
    dataset.metainfo  # noqa: B018


def check(make: Any, *named: str) -> None:
    """Make a dataset and read it all; an error is of the right kind, in one line, and names one of the files."""
    try:
        use(make())
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, BadSample, FileNotFoundError), repr(error)
        text = str(error)
        listed = "samples are bad, more than loading.max_bad_share" in text
        assert listed or ("\n" not in text and any(name in text for name in named)), text


@pytest.mark.parametrize("seed", range(4))
def test_coco_and_lvis_files(tmp_path, seed):
    content = coco_content()
    content["annotations"][0]["segmentation"] = {"size": [40, 60], "counts": [100, 50, 2250]}
    if seed % 2:
        content["images"] = [
            i | {"neg_category_ids": [3], "not_exhaustive_category_ids": [7]} for i in content["images"]
        ]
        content["categories"] = [category | {"frequency": "r"} for category in content["categories"]]
    write_coco(tmp_path)
    choose = random.Random(seed)
    for _ in range(ROUNDS):
        text = json.dumps(spoilt(content, choose)).encode()
        (tmp_path / "labels.json").write_bytes(damaged(text, choose))
        options = dict(root=tmp_path, with_masks=choose.random() < 0.5)
        check(partial(DetectionDataset, "images", "labels.json", test_mode=True, **options), "labels.json", "images/")
        skipping = dict(loading=dict(bad_samples="skip", max_bad_share=1))
        check(
            partial(DetectionDataset, "images", "labels.json", **skipping, **options),
            "labels.json",
            "images/",
            "no samples found",
        )


TOKENS = ["0", "1", "0.5", "nan", "1e400", "-1", "1e30", "9" * 50, "9" * 5000, "x", "1e7", "inf"]
XML = (
    "<a><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></a>"
)
XML_PARTS = [">1<", ">5<", "cat", "bndbox", "<a>"]
XML_VALUES = [">nan<", ">1e400<", "><", ">-5<", "&amp;", "&x;", '<?xml version="1.0" encoding="gbk"?><a>', "<a>" * 1000]


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_label_files_of_single_images(tmp_path, kind):
    choose = random.Random(kind)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"images/{name}.jpg"), np.zeros((8, 8, 3), np.uint8))
    for _ in range(2 * ROUNDS):
        for name in "ab":
            if kind == "voc":
                text = XML.replace(choose.choice(XML_PARTS), choose.choice(XML_VALUES), choose.choice([1, 9]))
            else:
                line = " ".join(choose.choices(TOKENS, k=choose.choice([5, 5, 7, 9, 4])))
                text = "\n".join(["0 0.5 0.5 0.2 0.2", choose.choice([line, ""])])
            path = tmp_path / f"labels/{name}.{'xml' if kind == 'voc' else 'txt'}"
            path.write_bytes(damaged(text.encode(), choose))
        options = dict(
            root=tmp_path, labels=dict(unlisted_ids="ignore"), with_masks=kind == "yolo" and choose.random() < 0.5
        )
        check(partial(DetectionDataset, "images", "labels", ["cat", "dog"], test_mode=True, **options), "labels")
        skipping = dict(loading=dict(bad_samples="skip", max_bad_share=1))
        check(
            partial(DetectionDataset, "images", "labels", ["cat", "dog"], **skipping, **options), "labels", "no samples"
        )


@pytest.mark.parametrize("kind", ["c.json", "c.jsonl", "c.csv"])
def test_caption_files(tmp_path, kind):
    choose = random.Random(kind)
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    karpathy = {"images": [{"filename": "a.jpg", "filepath": "", "split": "test", "sentences": [{"raw": "a cat"}]}]}
    for _ in range(2 * ROUNDS):
        content = spoilt(karpathy if kind == "c.json" else {"image": "a.jpg", "captions": ["a", "b"]}, choose)
        text = json.dumps(content)
        if kind == "c.csv":
            table = 'image,caption\na.jpg,"a cat, big"\n'
            text = table.replace(choose.choice(['"', ",", "a.jpg", "\n"]), choose.choice(['"', ",", "\0", "\r", "x"]))
        (tmp_path / kind).write_bytes(damaged(text.encode(), choose))
        check(partial(CaptionDataset, kind, root=tmp_path, test_mode=choose.random() < 0.5), str(tmp_path))


def test_panoptic_files(tmp_path):
    choose = random.Random(0)
    content = {"annotations": [{"file_name": "1.png", "segments_info": [{"id": 1, "category_id": 3}]}]}
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "1.png"), np.full((4, 4, 3), (0, 0, 1), np.uint8))
    options = dict(root=tmp_path, labels=dict(panoptic_json="p.json", label_ids=[3, 7], ignored_ids=[0]))
    use(_panoptic(tmp_path, content, options))
    for _ in range(2 * ROUNDS):
        text = json.dumps(spoilt(content, choose)).encode()
        check(partial(_panoptic, tmp_path, damaged(text, choose), options), "p.json", "maps/1.png")


def _panoptic(folder: Path, content: Any, options: dict) -> SegmentationDataset:
    (folder / "p.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return SegmentationDataset("images", "maps", ["cat", "dog"], **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": -40}, r"image 11 \(11.jpg\): expected a height and a width in pixels, got \(-40, 60\); without"),
        ({"height": "forty"}, r"image 11 \(11.jpg\): expected a height and a width in pixels"),
        ({"height": 1e400}, r"image 11 \(11.jpg\): expected a height and a width in pixels, got \(inf, 60\)"),
        ({"id": 2**70}, "image id: expected a whole number of at most 64 bits, got 1180591620717411303424"),
        ({"file_name": ["x"]}, "image 11 has no string under 'file_name' or 'coco_url'"),
        ({"neg_category_ids": [[3]]}, "image 11: neg_category_ids: expected a whole number, got \\[3\\]"),
    ],
)
def test_images_that_no_file_can_have_are_named(tmp_path, change, message):
    content = coco_content()
    content["images"][0] |= change
    write_coco(tmp_path, content)
    with pytest.raises(ValueError, match=rf"labels\.json: {message}"):
        len(DetectionDataset("images", "labels.json", root=tmp_path))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 1e30, 0, 1e30, 1e30]], "a polygon with an outline of more than 10000000 pixels"),
        ([[0, 0, 1e9, 0, 5, 5]], "a polygon with an outline of more than 10000000 pixels"),
        ({"size": [40, 60], "counts": [-5, 2405]}, "expected counts in pixels"),
        ({"size": [40, 60], "counts": [2**40]}, "expected counts in pixels"),
        ({"size": ["a", 60], "counts": "x"}, r"expected a size \[height, width\] in pixels"),
        ({"size": 40, "counts": "x"}, "expected .*size.*counts"),
        ({"size": [40, 60], "counts": {}}, "expected counts as a list, text or bytes"),
        ({"size": [2**31, 1], "counts": [2**31]}, "a mask of 2147483648x1, expected fewer than 2\\^31 pixels"),
        ({"size": [2**16, 2**15], "counts": [2**31]}, "a mask of 65536x32768, expected fewer than 2\\^31 pixels"),
        ({"size": [0, 2**31], "counts": "0"}, "a mask of 0x2147483648, expected fewer than 2\\^31 pixels"),
        ([5, 6, 7], "expected a list of polygons"),
    ],
)
def test_masks_that_pycocotools_would_take_on_trust_are_named(tmp_path, segmentation, message):
    content = coco_content()
    content["annotations"][1]["segmentation"] = segmentation
    write_coco(tmp_path, content)
    with pytest.raises(ValueError, match=rf"labels\.json: annotation 1 \(from 0\) .*{message}"):
        len(DetectionDataset("images", "labels.json", root=tmp_path, with_masks=True))
