"""The readers below DetectionDataset: JSON by members, masks in one buffer, splits."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from openvocab.datasets.annotations.json_stream import read_members
from openvocab.datasets.annotations.packed_masks import MaskPacker


def test_members_equal_those_of_the_standard_reader(tmp_path):
    content = {"a": [1, {"b": [2, "x,]}"]}, []], "info": {"n": None}, "empty": [], "c": "text", "d": [[1.5, -2e3]]}
    for indent in (None, 2):
        path = tmp_path / "x.json"
        path.write_text(json.dumps(content, indent=indent), encoding="utf-8-sig")
        found = {key: value if key in ("info", "c") else list(value) for key, value in read_members(path, set(content))}
        assert found == content
    path.write_text(" { } ")
    assert list(read_members(path, ())) == []


@pytest.mark.parametrize("text", ["", "[1]", '{"a": [1, 2', '{"a" 1}', '{"a": [1 2]}', '{"a": 1'])
def test_what_is_no_object_is_refused_with_its_place(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="x.json"):
        for _, value in read_members(tmp_path / "x.json", {"a"}):
            list(value if isinstance(value, Iterator) else [])


def test_masks_come_back_as_pycocotools_makes_them_of_the_originals():
    generator = np.random.default_rng(0)
    size, polygons, packer = (50, 70), [], MaskPacker()
    for digits in (2, 2, 6):  # two decimals are packed as integers, six as they are
        corners = [generator.uniform(0, 50, 8).round(digits).tolist() for _ in range(2)]
        polygons.append(corners)
        packer.append(corners)
    pixels = (generator.random(size) < 0.5).astype(np.uint8)
    packer.append({**coco_mask.encode(np.asfortranarray(pixels))})
    packer.append(None)
    packer.append([])
    masks = packer.build()
    for place, corners in enumerate(polygons):
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(corners, *size)))
        assert np.array_equal(masks.decode(place, size), expected) and expected.any()
    assert np.array_equal(masks.decode(3, size), pixels)
    assert not masks.decode(4, size).any()
    assert masks.has_mask.tolist() == [True] * 4 + [False] * 2
    assert masks.sizes.tolist() == [[0, 0]] * 3 + [[50, 70]] + [[0, 0]] * 2
    chosen = masks.subset(np.array([3, 0]))
    assert np.array_equal(chosen.decode(0, size), pixels) and len(chosen) == 2


CORNERS_IN_PAIRS = [[[1, 2], [3, 4], [5, 6], [1, 1], [2, 2], [3, 3]]]


@pytest.mark.parametrize(
    "segmentation", ["text", {"size": [3, 4]}, [[1, 2, 3, 4, 5, float("nan")]], CORNERS_IN_PAIRS], ids=str
)
def test_what_is_no_mask_is_refused(segmentation):
    with pytest.raises(ValueError, match="segmentation"):
        MaskPacker().append(segmentation)
