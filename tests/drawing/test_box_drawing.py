import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from openvocab.drawing.box_drawing import (
    best_objects,
    draw_detection_comparison,
    draw_detections,
)
from openvocab.drawing.class_colors import class_colors
from openvocab.drawing.class_figures import class_counts, describe_objects
from openvocab.drawing.legend import PAPER
from openvocab.structures import DetectionPrediction, Instances
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = ["cat", "dog", "bird"]
BOXES = [[50, 60, 150, 160], [200, 100, 300, 300], [320, 20, 400, 90]]


def prediction(boxes=BOXES, scores=(0.9, 0.8, 0.55), classes=(0, 1, 0), names=NAMES, masks=None):
    parts = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores), torch.tensor(classes)
    return DetectionPrediction(parts[0], parts[1].float(), parts[2].long(), Vocabulary.from_names(names), masks)


def filled(box, size):
    mask = np.zeros(size, np.uint8, order="F")
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return rle.encode(mask)


def random_prediction(count, size, num_classes=1, masks=False):
    random = np.random.default_rng(0)
    starts = random.uniform(0, 0.8, (count, 2)) * size[::-1]
    boxes = np.concatenate([starts, starts + random.uniform(0.01, 0.2, (count, 2)) * size[::-1]], axis=1)
    encoded = [filled(box.astype(int), size) for box in boxes] if masks else None
    labels = np.arange(count) % num_classes
    names = [f"class {index}" for index in range(num_classes)]
    return prediction(boxes, np.linspace(1, 0.3, count), labels, names, encoded)


def photo(size=(448, 448), value=100):
    return np.full((*size, 3), value, np.uint8)


def has(color, part):
    return (part == color).all(axis=-1).any()


def test_outlines_have_the_colors_of_their_classes():
    picture, colors = draw_detections(photo(), prediction(), legend=False), class_colors(NAMES)
    for box, label in zip(BOXES, (0, 1, 0)):
        middle = (box[1] + box[3]) // 2
        for column in (box[0], box[2] - 1):
            assert has(colors[label], picture[middle, column - 1 : column + 2])
    assert not has(colors[2], picture)


def test_masks_are_blended_into_the_photo_by_alpha():
    masks = [filled(box, (448, 448)) for box in BOXES]
    picture = draw_detections(photo(), prediction(masks=masks), alpha=0.25, legend=False)
    expected = np.round(0.75 * 100 + 0.25 * class_colors(NAMES)[1])
    assert np.array_equal(picture[200, 250], expected)
    assert (picture[430, 20] == 100).all()
    bare = draw_detections(photo(), prediction(), legend=False)
    assert (bare[200, 250] == 100).all()


def test_masks_of_small_images_grow_with_them():
    masks = [filled((16, 16, 48, 48), (64, 64))]
    picture = draw_detections(photo((64, 64)), prediction([[16, 16, 48, 48]], [0.9], [0], masks=masks), legend=False)
    assert picture.shape == (448, 448, 3)
    inside = (picture[224] != 100).any(axis=-1)
    assert inside[7 * 16 : 7 * 48].all() and not inside[: 7 * 16 - 3].any() and not inside[7 * 48 + 3 :].any()


def test_a_smaller_object_is_drawn_over_a_larger_one():
    boxes = [[200, 200, 240, 240], [20, 20, 440, 440]]
    masks = [filled(box, (448, 448)) for box in boxes]
    picture = draw_detections(photo(), prediction(boxes, [0.9, 0.8], [0, 1], masks=masks), alpha=1.0, legend=False)
    assert np.array_equal(picture[220, 220], class_colors(NAMES)[0])


def test_objects_below_the_score_and_beyond_the_count_are_left_out():
    nothing = draw_detections(photo(), prediction(), min_score=0.95, legend=False)
    assert (nothing == 100).all()
    one = draw_detections(photo(), prediction(), max_objects=1, legend=False)
    colors = class_colors(NAMES)
    assert has(colors[0], one) and not has(colors[1], one)
    kept = best_objects(prediction(scores=(0.2, 0.6, 0.9), masks=["a", "b", "c"]), 0.5, 100)
    assert kept.classes.tolist() == [0, 1] and kept.masks == ["c", "b"] and kept.boxes.tolist() == [BOXES[2], BOXES[1]]


def test_counts_and_words_name_the_most_frequent_class_first():
    objects = prediction(scores=(0.8, 0.95, 0.91))
    assert class_counts(objects) == {0: (2, pytest.approx(0.91)), 1: (1, pytest.approx(0.95))}
    assert describe_objects(objects) == "2 cat (best 0.91), 1 dog (0.95)"
    assert describe_objects(prediction([], [], [])) == ""


def test_the_legend_is_added_next_to_the_picture():
    picture = draw_detections(photo(), prediction())
    assert picture.shape[0] == 448 and picture.shape[1] > 600 and np.array_equal(picture[-1, -1], PAPER)
    assert has(class_colors(NAMES)[1], picture[:, 460:]) and not has(class_colors(NAMES)[2], picture[:, 460:])


def test_a_hundred_classes_all_stand_in_the_legend():
    picture = draw_detections(photo((480, 640)), random_prediction(100, (480, 640), num_classes=100))
    colors = class_colors([f"class {index}" for index in range(100)])
    legend = {tuple(color) for color in picture[:, 1280:].reshape(-1, 3).tolist()}  # beside the enlarged photo
    assert all(tuple(color) in legend for color in colors.tolist())


@pytest.mark.parametrize("size", [(64, 64), (480, 640), (800, 1333)])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_few_and_many_objects_are_drawn(size, count):
    picture = draw_detections(photo(size), random_prediction(count, size, num_classes=5, masks=True))
    assert picture.dtype == np.uint8 and picture.shape[0] % size[0] == 0


def test_a_crowded_small_picture_is_enlarged_further():
    few, many = (draw_detections(photo((64, 64)), random_prediction(n, (64, 64)), legend=False) for n in (5, 100))
    assert few.shape[:2] == (448, 448) and len(many) > 2 * len(few)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (900, 2), (7, 5)])
@pytest.mark.parametrize("box", [[0, 0, 1, 1], [-50, -50, 5000, 5000], [0.5, 0.5, 0.5, 0.5], [900, 900, 950, 950]])
def test_any_size_and_any_box_is_drawn(size, box):
    objects = prediction([box], [0.9], [0], masks=[filled((0, 0, 0, 0), size)])
    assert draw_detections(photo(size), objects).ndim == 3


@pytest.mark.parametrize("name", ["😀 face", "خلفية", "猫", "line\u2028break", "long " * 100])
def test_any_name_is_drawn(name):
    assert draw_detections(photo((64, 64)), prediction([[5, 5, 40, 40]], [0.9], [0], [name])).ndim == 3


def test_of_thousands_of_names_only_those_present_are_told_apart():
    names = [f"class {index}" for index in range(5000)]
    picture = draw_detections(photo(), prediction(classes=(4999, 17, 17), names=names), legend=False)
    assert has(class_colors(["class 17", "class 4999"])[1], picture)


def test_a_read_only_image_is_left_as_it_is():
    image = photo()
    image.flags.writeable = False
    draw_detections(image, prediction(masks=[filled(box, (448, 448)) for box in BOXES]))
    assert (image == 100).all()


@pytest.mark.parametrize(
    "image, change, message",
    [
        (np.zeros((60, 80), np.uint8), {}, "expected an image"),
        (np.zeros((60, 80, 3), np.float32), {}, "expected an image"),
        (photo(), {"boxes": [[0, 0, float("nan"), 1]] * 3}, "NaN"),
        (photo(), {"masks": [filled((0, 0, 1, 1), (448, 447))] * 3}, r"\(448, 448\), a mask \(448, 447\)"),
    ],
)
def test_mistakes_are_named(image, change, message):
    with pytest.raises(ValueError, match=message):
        draw_detections(image, prediction(**change))


def test_opacity_is_checked():
    with pytest.raises(ValueError, match="alpha"):
        draw_detections(photo(), prediction(), alpha=1.5)


def test_comparison_shows_photo_truth_and_prediction():
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 10:30, 10:30] = True
    truth = Instances(torch.tensor([[10.0, 10, 30, 30]]), torch.tensor([2]), masks)
    picture = draw_detection_comparison(photo((64, 64)), prediction([[40, 40, 60, 60]], [0.9], [0]), truth)
    bird, cat = class_colors(NAMES)[2], class_colors(NAMES)[0]
    first, second, third = (picture[:, 456 * part : 456 * part + 448] for part in range(3))
    assert not has(bird, first) and not has(cat, first)
    assert has(bird, second) and not has(cat, second)
    assert has(cat, third) and not has(bird, third)
    assert has(bird, picture[:, 1364:]) and has(cat, picture[:, 1364:])


def test_comparison_without_objects_and_with_a_wrong_mask():
    nothing = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert draw_detection_comparison(photo(), prediction([], [], []), nothing).shape[1] > 3 * 448
    wrong = Instances(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0]), torch.zeros(1, 9, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="a mask"):
        draw_detection_comparison(photo(), prediction([], [], []), wrong)
