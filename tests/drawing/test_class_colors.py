"""Colors of classes: they do not contradict the names, and can be told apart."""

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch

from openvocab.datasets.shapes.classes import CLASS_NAMES, COLORS
from openvocab.drawing import class_colors as class_colors_file
from openvocab.drawing.box_drawing import draw_detections
from openvocab.drawing.class_colors import BASIC_COLORS, COLOR_WORDS, NEUTRAL, basic_color, class_colors
from openvocab.drawing.legend import INK, PAPER, draw_legend, text_color
from openvocab.drawing.visualization import draw_label_map
from openvocab.structures import DetectionPrediction, SemanticPrediction
from openvocab.vocabulary.class_lists import load_class_names
from openvocab.vocabulary.vocabulary import Vocabulary

PLAIN = ["cat", "dog", "bus", "car", "tree", "sky", "road", "person", "sofa", "lamp", "bird", "boat"]
MIXED = [
    "cat",
    "red bus",
    "dog",
    "bus",
    "grey cats",
    "tree",
    "red car",
    "sky",
    "white dog",
    "sofa",
    "oranges",
    "red hat",
]


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Convert (N, 3) uint8 RGB to Oklab, by the published two steps."""
    channels = np.asarray(rgb, dtype=float) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    red, green, blue = linear.T
    cone_l = np.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    cone_m = np.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    cone_s = np.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    lightness = 0.2104542553 * cone_l + 0.7936177850 * cone_m - 0.0040720468 * cone_s
    green_red = 1.9779984951 * cone_l - 2.4285922050 * cone_m + 0.4505937099 * cone_s
    blue_yellow = 0.0259040371 * cone_l + 0.7827717662 * cone_m - 0.8086757660 * cone_s
    return np.stack([lightness, green_red, blue_yellow], axis=1)


def nearest_basic_colors(colors: np.ndarray) -> list[str]:
    gaps = np.linalg.norm(oklab(colors)[:, None] - oklab(list(BASIC_COLORS.values())), axis=-1)
    return [list(BASIC_COLORS)[index] for index in gaps.argmin(axis=1)]


def smallest_gap(colors: np.ndarray) -> float:
    positions = oklab(colors)
    gaps = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return gaps[~np.eye(len(colors), dtype=bool)].min()


@pytest.mark.parametrize(
    "names",
    [
        CLASS_NAMES,
        CLASS_NAMES[::-1],
        MIXED,
        MIXED[::-1],
        ["background", *CLASS_NAMES, *PLAIN],
        [f"{word} thing {index}" for index in range(3) for word in BASIC_COLORS],
        [f"{word} thing" for word in COLOR_WORDS],
    ],
)
def test_a_class_whose_name_holds_a_color_word_has_that_color(names):
    nearest = dict(zip(names, nearest_basic_colors(class_colors(names))))
    assert {name: nearest[name] for name in names if basic_color(name)} == {
        name: basic_color(name) for name in names if basic_color(name)
    }


def test_an_orange_circle_is_orange_and_the_basic_colors_have_their_hues():
    assert nearest_basic_colors(class_colors(["orange circle"])) == ["orange"]
    assert tuple(class_colors(["orange circle"])[0]) == BASIC_COLORS["orange"]
    hues = {"red": 0, "orange": 30, "yellow": 52, "green": 120, "cyan": 184, "blue": 222, "purple": 280, "pink": 330}
    for word, hue in hues.items():
        found = 360 * colorsys.rgb_to_hsv(*(value / 255 for value in BASIC_COLORS[word]))[0]
        assert abs((found - hue + 180) % 360 - 180) < 10, word


@pytest.mark.parametrize(
    "name, color",
    [
        ("gray cat", "gray"),
        ("Grey Cats", "gray"),
        ("two greens", "green"),
        ("oranges", "orange"),
        ("a crimson-winged finch", "red"),
        ("navy_ship", "blue"),
        ("violets", "purple"),
        ("black and white dog", "black"),
        ("greenhouse", None),
        ("colored pencil", None),
        ("bored dog", None),
        ("blackboard", None),
        ("", None),
        ("猫", None),
    ],
)
def test_color_words_are_whole_words_synonyms_and_plurals(name, color):
    assert basic_color(name) == color


def test_all_48_classes_of_shapes_are_told_apart_and_those_of_one_color_too():
    colors = class_colors(CLASS_NAMES)
    assert smallest_gap(colors) > 0.04
    for color in COLORS:
        assert smallest_gap(colors[[basic_color(name) == color for name in CLASS_NAMES]]) > 0.04


@pytest.mark.parametrize("color", BASIC_COLORS)
def test_two_classes_of_one_color_differ_clearly(color):
    colors = class_colors([f"{color} cup", f"{color} plate"])
    assert smallest_gap(colors) > 0.045
    if color != "white":
        assert abs(np.diff(oklab(colors)[:, 0])).item() + smallest_gap(colors) > 0.1


@pytest.mark.parametrize("names, gap", [(PLAIN, 0.12), (MIXED, 0.08), (MIXED[::-1], 0.08)])
def test_classes_are_far_apart(names, gap):
    assert smallest_gap(class_colors(names)) > gap


def test_classes_without_a_color_word_are_vivid_and_apart_from_a_photo_whose_colors_are_subdued():
    names = Vocabulary.from_names(load_class_names("ade20k_150", Path())).class_names
    vivid = oklab(class_colors(names))[[basic_color(name) is None and name != "other" for name in names]]
    assert np.hypot(*vivid[:, 1:].T).min() > 0.07
    generator = np.random.default_rng(0)
    photo = generator.integers(0, 256, (448, 448, 3), dtype=np.uint8)
    prediction = SemanticPrediction(np.zeros((448, 448), np.uint8), Vocabulary.from_names(["cat"]))
    subdued = draw_label_map(photo, prediction, alpha=0, legend=False)
    chroma = [np.hypot(*oklab(picture.reshape(-1, 3))[:, 1:].T).mean() for picture in (photo, subdued)]
    assert chroma[1] < 0.5 * chroma[0]


def test_colors_do_not_depend_on_later_names_or_on_chance():
    names = [*MIXED, *CLASS_NAMES]
    assert np.array_equal(class_colors(names)[:9], class_colors(names[:9]))
    assert np.array_equal(class_colors(names), class_colors(tuple(names)))


def colors_one_by_one(names: list[str]) -> np.ndarray:
    """Choose colors by the rule alone: the proposals of each name are compared with the colors of all names before."""
    chosen, colors = [class_colors_file._oklab(np.array(NEUTRAL) / 255)], []
    for name in names:
        if name == "background":
            colors.append(NEUTRAL)
            continue
        word = basic_color(name)
        proposals = class_colors_file._tints(word) if word else class_colors_file._vivid_colors([name])[0]
        near, weight = (0.1, [1, 1, 1]) if word else (0.2, [0.6, 1, 1])
        positions = class_colors_file._oklab(proposals)
        distances = np.linalg.norm((positions[:, None] - np.stack(chosen)) * weight, axis=-1).min(axis=1)
        far = np.flatnonzero(distances >= near)
        best = far[0] if len(far) else distances.argmax()
        chosen.append(positions[best])
        colors.append(np.round(255 * proposals[best]))
    return np.array(colors, dtype=np.uint8)


@pytest.mark.parametrize(
    "names",
    [
        ["background", *CLASS_NAMES, *PLAIN, *["cat"] * 100, *MIXED],
        [f"object {index}" for index in range(300)] + [f"{word} thing" for word in COLOR_WORDS],
    ],
)
def test_colors_follow_the_rule_when_they_run_out_and_names_repeat(names):
    assert np.array_equal(class_colors(names), colors_one_by_one(names))


@pytest.mark.parametrize("pattern", ["object {}", "red thing {}", "{}"])
def test_few_of_thousands_of_names_are_compared_with_all_names_before_them(pattern, monkeypatch):
    chosen_counts = []  # of each comparison
    distances = class_colors_file._Proposals.distances

    def count(proposals, chosen):
        chosen_counts.append(len(chosen) - proposals._compared)
        return distances(proposals, chosen)

    monkeypatch.setattr(class_colors_file._Proposals, "distances", count)
    names = [pattern.format(f"{'green ' * (index % 5 == 0)}{index}") for index in range(2000)]
    colors = class_colors(names)
    assert len(chosen_counts) == 2000
    assert sum(chosen_counts) < 2000**2 / 20  # 2000**2 / 2 if every name is compared with all before it
    assert np.array_equal(class_colors(names[:77]), colors[:77])


def test_a_name_with_half_a_character_has_a_color():
    names = ["cat", "\ud83d", "red \ud83d"]
    colors = class_colors(names)
    assert smallest_gap(colors) > 0.12 and nearest_basic_colors(colors)[2] == "red"
    assert np.array_equal(colors, class_colors(names))


def test_gray_classes_differ_from_what_is_everything_else():
    colors = class_colors(["background", *(f"gray thing {index}" for index in range(4))])
    assert tuple(colors[0]) == NEUTRAL and smallest_gap(colors) > 0.06


def test_more_classes_of_a_color_than_tints_are_drawn():
    names = [f"white thing {index}" for index in range(200)]
    assert nearest_basic_colors(class_colors(names)) == ["white"] * 200


@pytest.mark.parametrize("color, expected", [("white", INK), ("yellow", INK), ("black", PAPER), ("blue", PAPER)])
def test_text_is_readable_on_any_class_color(color, expected):
    assert text_color(BASIC_COLORS[color]) == expected


def test_a_white_class_is_visible_in_the_legend():
    white = np.array(BASIC_COLORS["white"], dtype=np.uint8)
    panel = draw_legend([("white cup", white, ["1 %"])], [""], text=20, height=200)
    left = panel[:, 20:22].reshape(-1, 3)  # the left edge of the swatch
    assert (np.abs(left.astype(int) - PAPER).max(axis=1) > 60).any()


def test_a_black_object_is_visible_in_a_dark_photo():
    photo = np.full((448, 448, 3), 30, np.uint8)
    box = torch.tensor([[100.0, 100, 300, 300]])
    prediction = DetectionPrediction(
        box, torch.ones(1), torch.zeros(1, dtype=torch.int64), Vocabulary.from_names(["black cat"])
    )
    column = draw_detections(photo, prediction, legend=False)[200, 90:110].astype(int)  # across the left edge
    assert column.max() - column.min() > 80
