"""Several views of an image: pixels, boxes, and the batch that they become."""

import numpy as np
import pytest
import torch

from openvocab.datasets.transforms import AddEditedCaption, CropViews, PackViews, PhotometricDistortion
from openvocab.preprocessor import BatchPreprocessor

HEIGHT, WIDTH = 48, 80


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)


def position_image() -> np.ndarray:
    """Blue grows with x, green with y: a pixel says where it lies."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(WIDTH) * 3, np.arange(HEIGHT)[:, None] * 5
    return image


def make(views: list[dict], size: tuple[int, int] = (32, 32)) -> dict:
    results = {"img": position_image(), "ori_shape": (HEIGHT, WIDTH), "sample_id": "a", "captions": ["red"]}
    return CropViews(size, views).transform(results)


@pytest.mark.parametrize("seed_number", range(5))
def test_boxes_say_where_the_pixels_come_from(seed_number: int):
    np.random.seed(seed_number)
    results = make([dict(), dict(area=(0.2, 0.5), flip=1.0), dict(area=(0.3, 0.9))])
    for view, (left, top, right, bottom) in zip(results["views"], results["view_boxes"]):
        for y, x in ((8, 8), (8, 24), (24, 8), (24, 24)):
            source_x, source_y = left + (x + 0.5) / 32 * (right - left), top + (y + 0.5) / 32 * (bottom - top)
            assert abs(view[y, x, 0] / 3 + 0.5 - source_x) < 1.5
            assert abs(view[y, x, 1] / 5 + 0.5 - source_y) < 1.5


def test_a_mirrored_view_runs_from_right_to_left():
    results = make([dict(), dict(flip=1.0)])
    assert results["view_boxes"].tolist() == [[0, 0, WIDTH, HEIGHT], [WIDTH, 0, 0, HEIGHT]]


def test_packs_all_views_and_their_boxes():
    packed = PackViews().transform(make([dict(), dict(area=(0.2, 0.5), transforms=[PhotometricDistortion()])]))
    assert packed["image"].shape == (2, 3, 32, 32) and packed["image"].dtype == torch.uint8
    sample = packed["sample"]
    assert (
        sample.view_boxes.shape == (2, 4) and sample.input_size == (32, 32) and sample.original_size == (HEIGHT, WIDTH)
    )
    assert sample.captions == ("red",)


def test_a_batch_holds_the_first_views_then_the_second():
    items = [PackViews().transform(make([dict(), dict(area=(0.2, 0.5))])) for _ in range(3)]
    preprocessor = BatchPreprocessor((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), stride=16)
    batch = preprocessor({"image": [i["image"] for i in items], "sample": [i["sample"] for i in items]}, training=True)
    assert batch["images"].shape == (6, 3, 32, 32) and len(batch["samples"]) == 3
    for view in (0, 1):
        for number, item in enumerate(items):
            torch.testing.assert_close(batch["images"][3 * view + number], item["image"][view].float())


def test_samples_with_different_numbers_of_views_are_refused():
    packed = PackViews().transform(make([dict(), dict()]))
    preprocessor = BatchPreprocessor((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), stride=16)
    images = [packed["image"], packed["image"][0]]
    with pytest.raises(ValueError, match=r"\[1, 2\] views"):
        preprocessor({"image": images, "sample": [packed["sample"]] * 2})


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([dict()], "at least two views"),
        ([dict(), dict(zoom=2)], r"unknown settings \['zoom'\]"),
        ([dict(), dict(flip=2)], "view 1: flip"),
        ([dict(), dict(area=(0.5, 0.2))], "area"),
        ([dict(), dict(transforms=[lambda results: {"img": results["img"][1:]}])], "not move them"),
    ],
)
def test_bad_settings_are_refused(views, message):
    with pytest.raises(ValueError, match=message):
        make(views)


def test_packing_without_views_is_refused():
    with pytest.raises(ValueError, match="CropViews before it"):
        PackViews().transform({"img": position_image()})


def test_an_edited_caption_leaves_words_out_and_keeps_one():
    results = {"captions": ["a red circle beside a blue star"], "sample_id": "a"}
    for _ in range(20):
        original, edited = AddEditedCaption(delete=0.5).transform(results)["captions"]
        assert original == "a red circle beside a blue star"
        words = iter(original.split())
        assert edited and all(word in words for word in edited.split())  # a subsequence
    assert len(AddEditedCaption(delete=1.0).transform(results)["captions"][1].split()) == 1


def test_an_edited_caption_exchanges_words():
    results = {"captions": ["one two three"], "sample_id": "a"}
    edited = AddEditedCaption(delete=0.0, swaps=1).transform(results)["captions"][1]
    assert edited != "one two three" and sorted(edited.split()) == ["one", "three", "two"]


def test_an_edited_caption_replaces_one_word_by_a_synonym():
    results = {"captions": ["a red dog and a red cat"], "sample_id": "a"}
    edit = AddEditedCaption(delete=0.0, synonyms={"red": ["crimson", "scarlet"], "dog": ["hound"], "cat": []})
    seen = {edit.transform(results)["captions"][1] for _ in range(200)}
    assert seen == {
        "a crimson dog and a red cat",
        "a scarlet dog and a red cat",
        "a red hound and a red cat",
        "a red dog and a crimson cat",
        "a red dog and a scarlet cat",
    }


def test_one_edit_is_drawn_evenly_from_those_asked_for():
    results = {"captions": ["one two three four five six"], "sample_id": "a"}
    edit = AddEditedCaption(delete=1.0, swaps=1, synonyms={"one": ["uno"]}, one_edit=True)
    seen = [edit.transform(results)["captions"][1] for _ in range(600)]
    kinds = [
        sum("uno" in text for text in seen),
        sum(len(text.split()) == 1 for text in seen),
        sum("uno" not in text and len(text.split()) == 6 for text in seen),
    ]
    assert sum(kinds) == 600 and all(150 < count < 250 for count in kinds)
    untouched = AddEditedCaption(delete=0.0, one_edit=True).transform(results)["captions"][1]
    assert untouched == results["captions"][0]


def test_bad_edits_are_refused():
    for options in (dict(delete=1.5), dict(swaps=-1)):
        with pytest.raises(ValueError, match="expected"):
            AddEditedCaption(**options)
    with pytest.raises(ValueError, match="'a' has no caption"):
        AddEditedCaption().transform({"captions": [], "sample_id": "a"})
