import numpy as np
import pytest

from openvocab.drawing.class_colors import NEUTRAL, class_colors
from openvocab.drawing.class_figures import class_areas
from openvocab.drawing.legend import PAPER, draw_legend, short_name
from openvocab.drawing.visualization import draw_comparison, draw_label_map
from openvocab.structures import SemanticPrediction
from openvocab.vocabulary.vocabulary import Vocabulary


def prediction(label_map, names):
    return SemanticPrediction(np.asarray(label_map, dtype=np.uint8), Vocabulary.from_names(names))


def halves(size=(60, 80)):
    label_map = np.zeros(size, np.uint8)
    label_map[:, size[1] // 2 :] = 1
    return label_map


def distance(colors):
    gaps = np.linalg.norm(colors[:, None].astype(float) - colors[None], axis=-1)
    return gaps[~np.eye(len(colors), dtype=bool)].min()


def test_colors_are_stable_and_keep_when_the_list_grows():
    names = [f"class {i}" for i in range(12)]
    assert np.array_equal(class_colors(names)[:7], class_colors(names[:7]))
    assert np.array_equal(class_colors(names), class_colors(list(names)))


def test_colors_are_far_apart():
    assert distance(class_colors([f"class {i}" for i in range(12)])) > 35
    assert distance(class_colors([f"class {i}" for i in range(150)])) > 0


def test_background_is_neutral():
    colors = class_colors(["cat", "Background", "other"])
    assert (colors[1:] == NEUTRAL).all() and np.ptp(colors[0]) > 60


def test_each_class_has_its_own_color_in_the_overlay():
    image = np.full((60, 80, 3), 128, np.uint8)
    names = ["cat", "dog"]
    overlay = draw_label_map(image, prediction(halves(), names), alpha=1.0, legend=False)
    quarter = len(overlay) // 10
    colors = class_colors(names)
    assert np.array_equal(overlay[quarter, quarter], colors[0])
    assert np.array_equal(overlay[quarter, -quarter], colors[1])


def test_without_opacity_only_borders_and_names_are_drawn():
    image = np.full((448, 448, 3), 100, np.uint8)
    overlay = draw_label_map(image, prediction(np.zeros((448, 448)), ["cat"]), alpha=0, legend=False)
    changed = (overlay != 100).any(axis=2).mean()
    assert 0 < changed < 0.02  # the name


def test_tiny_images_are_enlarged_and_large_ones_keep_their_size():
    tiny = draw_label_map(np.zeros((64, 64, 3), np.uint8), prediction(np.zeros((64, 64)), ["a"]), legend=False)
    large = draw_label_map(np.zeros((500, 600, 3), np.uint8), prediction(np.zeros((500, 600)), ["a"]), legend=False)
    assert tiny.shape == (448, 448, 3) and large.shape == (500, 600, 3)


def test_the_legend_is_added_next_to_the_picture():
    image = np.zeros((448, 448, 3), np.uint8)
    picture = draw_label_map(image, prediction(halves((448, 448)), ["cat", "dog"]))
    assert picture.shape[0] >= 448 and picture.shape[1] > 560
    assert np.array_equal(picture[-1, -1], PAPER)


def test_unlabeled_pixels_stay_bare():
    image = np.full((448, 448, 3), 77, np.uint8)
    truth = np.full((448, 448), 255, np.uint8)
    overlay = draw_label_map(image, prediction(truth, ["cat"]), legend=False)
    assert (overlay == 77).all()


def test_areas_are_sorted_and_exclude_unlabeled_pixels():
    label_map = np.array([[2, 2, 2, 0], [255, 255, 255, 255]], np.uint8)
    assert class_areas(label_map, 3) == {2: 0.75, 0: 0.25}
    assert class_areas(np.full((2, 2), 255, np.uint8), 3) == {}
    wide = np.array([[255, 65535]], np.uint16)
    assert class_areas(wide, 300) == {255: 1.0}


def test_comparison_shows_three_pictures_and_a_legend():
    image = np.full((64, 64, 3), 90, np.uint8)
    truth = halves((64, 64))
    picture = draw_comparison(image, prediction(np.zeros((64, 64)), ["cat", "dog"]), truth)
    assert picture.shape[1] > 3 * 448 and picture.shape[0] > 448
    assert (picture[100:400, 20:400] == 90).all()  # the photo itself


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (900, 2), (7, 5)])
def test_any_size_is_drawn(size):
    image = np.zeros((*size, 3), np.uint8)
    assert draw_label_map(image, prediction(np.zeros(size), ["cat"])).ndim == 3
    assert draw_comparison(image, prediction(np.zeros(size), ["cat"]), np.zeros(size, np.uint8)).ndim == 3


@pytest.mark.parametrize(
    "name", ["😀 face", "خلفية", "猫", "line\u2028break", "long " * 100, "ü", "\u202eright to left"]
)
def test_any_name_is_drawn(name):
    image = np.zeros((64, 64, 3), np.uint8)
    assert draw_label_map(image, prediction(halves((64, 64)), [name, "cat"])).shape[0] >= 448
    assert len(short_name(name)) <= 32 and "\n" not in short_name(name)


def test_a_long_legend_says_what_it_leaves_out():
    rows = [(f"class {i}", np.array([1, 2, 3]), ["1 %"]) for i in range(200)]
    full = draw_legend(rows, [""], text=14, height=448)
    assert len(full) <= 448
    assert len(draw_legend(rows, [""], text=14, height=10)) < 300


def test_hundreds_of_classes_are_drawn():
    label_map = (np.arange(300 * 300) % 400).reshape(300, 300).astype(np.uint16)
    vocabulary = Vocabulary.from_names([f"class {i}" for i in range(400)])
    assert draw_label_map(np.zeros((300, 300, 3), np.uint8), SemanticPrediction(label_map, vocabulary)).ndim == 3


def test_a_read_only_image_is_left_as_it_is():
    image = np.full((64, 64, 3), 9, np.uint8)
    image.flags.writeable = False
    draw_label_map(image, prediction(halves((64, 64)), ["cat", "dog"]))
    assert (image == 9).all()


@pytest.mark.parametrize(
    "image, alpha, message",
    [
        (np.zeros((60, 81, 3), np.uint8), 0.5, "must agree|they must"),
        (np.zeros((60, 80), np.uint8), 0.5, "expected an image"),
        (np.zeros((60, 80, 3), np.float32), 0.5, "expected an image"),
        (np.zeros((60, 80, 3), np.uint8), 1.5, "alpha"),
    ],
)
def test_mistakes_are_named(image, alpha, message):
    with pytest.raises(ValueError, match=message):
        draw_label_map(image, prediction(halves(), ["cat", "dog"]), alpha=alpha)
