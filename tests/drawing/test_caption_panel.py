"""Captions below pictures: phrases in the colors of their boxes, in any script and at any length."""

import numpy as np
import pytest
import torch

from openvocab.drawing.caption_panel import NARROWEST, draw_caption, draw_grounding
from openvocab.drawing.legend import FAINT_INK, PAPER
from openvocab.structures import DetectionPrediction
from openvocab.text.caption_prompt import caption_prompt
from openvocab.vocabulary.prompt import Prompt

RED, BLUE = np.array([222, 38, 44], np.uint8), np.array([45, 95, 230], np.uint8)


def extent(picture, color):
    """Return the first and the last column, and the first and the last row of a color; None if it is not there."""
    rows, columns = np.nonzero((picture == color).all(axis=2))
    return (columns.min(), columns.max(), rows.min(), rows.max()) if len(rows) else None


def test_phrases_have_their_colors_in_the_order_of_the_text():
    panel = draw_caption(caption_prompt("a red coat and a blue hat"), {0: RED, 1: BLUE}, 400, 16)
    red, blue = extent(panel, RED), extent(panel, BLUE)
    assert red[0] < red[1] < blue[0] < blue[1] and red[2:] == blue[2:]
    assert extent(panel, FAINT_INK) is None


def test_a_phrase_without_objects_is_underlined():
    panel = draw_caption(caption_prompt("a red coat and a blue hat"), {1: BLUE}, 400, 16)
    line, blue = extent(panel, FAINT_INK), extent(panel, BLUE)
    assert line[1] < blue[0] and line[3] - line[2] <= 1 and extent(panel, RED) is None


def test_a_phrase_within_a_phrase_lies_on_top_of_it():
    prompt = caption_prompt("a woman in a red coat", ["a woman in a red coat", "a red coat"])
    for colors in ({0: BLUE, 1: RED}, {1: RED, 0: BLUE}):
        panel = draw_caption(prompt, colors, 400, 16)
        outer, inner = extent(panel, BLUE), extent(panel, RED)
        assert outer[0] < inner[0] and outer[2] < inner[2] and outer[3] > inner[3]


def test_long_captions_are_wrapped_and_no_letter_leaves_the_panel():
    prompt = caption_prompt("a red coat next to a blue hat and " * 12 + "a dog")
    wide, narrow = (draw_caption(prompt, {0: RED}, width, 16) for width in (900, 450))
    assert wide.shape[1] == 900 and narrow.shape[1] == 450 and 1.6 < len(narrow) / len(wide) < 2.4
    for panel in (wide, narrow):
        assert (panel[:, :8] == PAPER).all() and (panel[:, -8:] == PAPER).all()


def test_a_phrase_may_go_on_in_the_next_line():
    text = "some words before " + "a very very very long red coat that goes on"
    panel = draw_caption(caption_prompt(text, [(18, len(text))]), {0: RED}, 330, 16)
    rows = np.nonzero((panel == RED).all(axis=2).any(axis=1))[0]
    assert (np.diff(rows) > 1).sum() >= 1  # two grounds with paper between


@pytest.mark.parametrize(
    "text, phrases",
    [
        ("x" * 3000, [(0, 3000)]),
        ("红色外套的女人" * 40, ["外套"]),
        ("🙂 a dog 👩‍👩‍👧 and\n\ta cat\u200b", ["a dog", "a cat"]),
        ("a dog\ud800 and \x07 a cat", [(0, 5)]),
        ("a", ["a"]),
    ],
)
def test_any_text_is_drawn_within_the_panel(text, phrases):
    spans = [(text.index(one), text.index(one) + len(one)) if isinstance(one, str) else one for one in phrases]
    panel = draw_caption(Prompt.of_caption(text, [[span] for span in spans]), {0: RED}, 300, 16)
    assert panel.shape[1] == NARROWEST * 16 and extent(panel, RED)
    assert (panel[:, :8] == PAPER).all() and (panel[:, -8:] == PAPER).all()


def test_scripts_from_right_to_left_begin_at_the_right():
    text = "معطف أحمر وقبعة زرقاء"
    panel = draw_caption(caption_prompt(text, ["معطف أحمر", "زرقاء"]), {0: RED, 1: BLUE}, 400, 16)
    red, blue = extent(panel, RED), extent(panel, BLUE)
    assert blue[1] < red[0] and red[1] > 370


def test_boxes_have_the_colors_of_their_phrases():
    prompt = caption_prompt("a red coat and a blue hat near a green tree")
    boxes = torch.tensor([[10.0, 10, 200, 200], [250, 250, 400, 400], [5, 5, 20, 20]])
    objects = DetectionPrediction(boxes, torch.tensor([0.9, 0.8, 0.1]), torch.arange(3), prompt.vocabulary)
    photo = np.full((448, 448, 3), 128, np.uint8)
    picture = draw_grounding(photo, objects, prompt)
    for color in (RED, BLUE):
        assert (picture[:448] == color).all(axis=2).any() and (picture[448:] == color).all(axis=2).any()
    assert extent(picture[448:], np.array([44, 170, 60])) is None  # its score is too low to be drawn
    assert extent(picture[448:], FAINT_INK)


def test_the_caption_of_a_narrow_picture_is_wider_than_it():
    prompt = caption_prompt("a red coat")
    objects = DetectionPrediction(
        torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), prompt.vocabulary
    )
    picture = draw_grounding(np.zeros((400, 3, 3), np.uint8), objects, prompt)
    assert picture.shape[1] >= 200 and (picture[0, 3:] == PAPER).all()
