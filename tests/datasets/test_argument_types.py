"""An argument of the wrong type is one line with its name, of every dataset."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from openvocab.datasets import (
    CaptionDataset,
    CifarDataset,
    ClassificationFolder,
    DetectionDataset,
    FewShotDataset,
    FSS1000Dataset,
    SegmentationDataset,
    WebCaptionDataset,
)
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample

REQUIRED = {
    SegmentationDataset: dict(images="images", annotations="labels", classes=["wall", "floor"]),
    ClassificationFolder: dict(images="classes", classes=["a", "b"]),
    DetectionDataset: dict(images="images", annotations="coco.json"),
    FewShotDataset: dict(images="images", annotations="labels", split="pascal5i", fold=0, part="train"),
    FSS1000Dataset: dict(part="train"),
    CaptionDataset: dict(annotations="captions.csv"),
    CifarDataset: dict(path="cifar", num_classes=10, part="test"),
    WebCaptionDataset: dict(shards="shards/0.tar"),
}
EVERY = list(REQUIRED)
NOT_WEB = [kind for kind in EVERY if kind is not WebCaptionDataset]
WITH_POLICY = [kind for kind in NOT_WEB if kind is not CifarDataset]
WITH_IMAGES = [SegmentationDataset, ClassificationFolder, DetectionDataset, FewShotDataset]
WITH_KEYS = [SegmentationDataset, DetectionDataset, FewShotDataset]
WITH_CLASSES = [SegmentationDataset, ClassificationFolder, DetectionDataset]
WRONG = [
    (EVERY, "root", [5, None, ["a"]]),
    (EVERY, "pipeline", [5, "LoadImage", dict(type="LoadImage")]),
    (WITH_POLICY, "loading.max_bad_share", ["x", None, True, [0.1]]),
    (WITH_POLICY, "loading.bad_samples", [5, ["skip"], True]),
    (WITH_POLICY, "loading.cache_images", ["no", None, 1]),
    (WITH_IMAGES, "images", [5, None, ["images"]]),
    ([DetectionDataset, FewShotDataset, CaptionDataset], "annotations", [5, None, ["a", "b"]]),
    ([SegmentationDataset], "annotations", [5, True]),
    (WITH_KEYS, "keys", [5, ["a"]]),
    (WITH_CLASSES, "classes", [5, {"a": 0, "b": 1}, {"a"}]),
    (WITH_CLASSES, "class_options.unseen", [5, {"a": 0}, ["wall", 5], ["sky"], "nowhere.json"]),
    ([SegmentationDataset, ClassificationFolder], "class_options.repeated_names", ["wall", 5, None, [5]]),
    ([SegmentationDataset], "pairing.image_suffix", [3, None, ["_a"]]),
    ([SegmentationDataset], "pairing.annotation_suffix", [3, None, Path("_a")]),
    ([SegmentationDataset], "pairing.require_annotations", ["yes", None, 0]),
    ([SegmentationDataset], "labels.reduce_zero_label", ["yes", None, 1]),
    ([SegmentationDataset, DetectionDataset], "labels.unlisted_ids", [5, None, "skip"]),
    ([SegmentationDataset, DetectionDataset], "class_options.train_classes", [5, None, "unseen", "seen"]),
    ([SegmentationDataset], "class_options.background", [5, ["wall"], "sky"]),
    ([SegmentationDataset], "class_options.synonym_merge", [5, None, "sum"]),
    ([SegmentationDataset], "labels.label_ids", [5, "01", {1}, [0, 1.5], [True, False], {0: "x"}, {None: 0}]),
    ([SegmentationDataset], "labels.ignored_ids", [255, "255", [255.5], [True], [None], {255: 0}]),
    ([SegmentationDataset], "labels.panoptic_json", [5, ["a.json"]]),
    ([DetectionDataset], "labels.category_ids", [5, "01", {1}, [1.5], [True], {1: "a"}]),
    ([DetectionDataset], "labels.frequencies", [5, ["a"]]),
    ([ClassificationFolder], "folders", [5, "wordnet", [1, 2], {"a"}, {"a": "b"}]),
    ([ClassificationFolder], "class_options.leave_out", ["a", 5, None, [5]]),
    ([FewShotDataset], "split", [5, None, ["pascal5i"], "fss1000", "coco_48_17"]),
    ([FewShotDataset], "fold", ["x", True, None, 1.5, [0], -1, 4]),
    ([FewShotDataset], "labels.first_id", ["x", True, None, 1.5, ["a"] * 20, {0: 1}]),
    ([FewShotDataset], "labels.boundary", ["x", None, True, [255]]),
    ([FewShotDataset], "episodes.count", [0, -1, "x", None, True, 1.5]),
    ([FewShotDataset], "episodes.draw", [5, None, ["cycle"]]),
    ([FewShotDataset], "episodes.seed", ["x", None, True]),
    ([FewShotDataset], "episodes.pairs", [5, [], [5], {"a": 0}]),
    ([FewShotDataset, FSS1000Dataset], "class_names", [5, {"a": 0}, ["a", 5], "nowhere.txt"]),
    ([FewShotDataset, FSS1000Dataset, CifarDataset], "part", [5, None, ["train"]]),
    ([CaptionDataset], "columns", ["ab", 5, None, ["image"], [1, 2]]),
    ([CaptionDataset], "split", [5, [5], {"val": 0}]),
    ([CaptionDataset, WebCaptionDataset], "num_captions", ["x", None, True, 0, 1.5]),
    ([CaptionDataset, WebCaptionDataset], "caption", [5, None, ["first"]]),
    ([WebCaptionDataset], "shards", [5, None, [5], Path("0.tar")]),
    ([WebCaptionDataset], "caption_keys", ["caption", 5, None, [5]]),
    ([WebCaptionDataset], "shuffle_buffer", [0, "x", None, True, 1.5]),
    ([WebCaptionDataset], "passes", [0, "x", True, 1.5]),
    ([WebCaptionDataset], "max_member_bytes", [0, "x", None, 1.5]),
    ([WebCaptionDataset], "seed", ["x", True, 1.5]),
    ([CifarDataset], "path", [5, None, ["cifar"]]),
    ([CifarDataset], "num_classes", [[10], "x", None, True, 20]),
]
CASES = [
    pytest.param(kind, argument, value, id=f"{kind.__name__}-{argument}-{value!r}")
    for kinds, argument, values in WRONG
    for kind in kinds
    for value in values
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files of the form that each dataset reads, as far as it gets before it looks at its arguments."""
    root = tmp_path_factory.mktemp("data")
    for name in ("images/x.jpg", "labels/x.png", "classes/a/x.png", "classes/b/x.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((4, 4) if name.startswith("labels") else (4, 4, 3), np.uint8))
    image = '{"id": 1, "file_name": "x.jpg", "height": 4, "width": 4}'
    category = '{"id": 1, "name": "a"}'
    (root / "coco.json").write_text(f'{{"images": [{image}], "annotations": [], "categories": [{category}]}}')
    (root / "captions.csv").write_text("image,caption\nimages/x.jpg,a\n")
    (root / "shards").mkdir()
    (root / "shards/0.tar").write_bytes(b"")
    return root


@pytest.mark.parametrize(("kind", "argument", "value"), CASES)
def test_an_argument_of_the_wrong_type_is_named(folder, kind, argument, value):
    pipeline = [LoadImage(), PackSample()] if kind is not SegmentationDataset else None
    group, _, name = argument.rpartition(".")
    options = {"root": folder, "pipeline": pipeline, **REQUIRED[kind]} | ({group: {name: value}} if group else {})
    options = options if group else {**options, argument: value}
    with pytest.raises(ValueError, match=rf"^{argument}\b.*"):
        dataset = kind(**options)
        len(dataset)
        if kind is SegmentationDataset:
            dataset[0]


def test_the_fixture_is_right(folder):
    for kind in (SegmentationDataset, ClassificationFolder, CaptionDataset):
        assert len(kind(root=folder, **REQUIRED[kind])) > 0
    pipeline = [LoadImage(), LoadLabels(), PackSample()]
    FewShotDataset(root=folder, pipeline=pipeline, **REQUIRED[FewShotDataset])
    FSS1000Dataset(root=folder, pipeline=pipeline, **REQUIRED[FSS1000Dataset])
    WebCaptionDataset(root=folder, **REQUIRED[WebCaptionDataset])
    DetectionDataset(root=folder, test_mode=True, **REQUIRED[DetectionDataset])[0]
