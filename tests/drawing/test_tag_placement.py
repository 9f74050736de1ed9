import numpy as np
import pytest

from openvocab.drawing.tag_placement import place_tags

SIZE = (300, 400)


def random_boxes(count, seed=0):
    random = np.random.default_rng(seed)
    starts = random.uniform(0, (380, 280), (count, 2))
    return np.concatenate([starts, np.minimum(starts + random.uniform(4, 80, (count, 2)), (400, 300))], axis=1)


def rectangles(places, widths, height):
    return np.array([[p.left, p.top, p.left + row[p.wording], p.top + height] for p, row in zip(places, widths) if p])


def test_a_lone_tag_stands_above_the_left_corner_of_its_box():
    (place,) = place_tags(np.array([[100.0, 100, 150, 180]]), [[40]], 10, SIZE)
    assert (place.wording, place.left, place.top) == (0, 100, 90)


@pytest.mark.parametrize("box", [(0, 0, 400, 300), (390, 0, 400, 5), (0, 295, 3, 300), (399, 299, 400, 300)])
def test_tags_stay_within_the_picture(box):
    (place,) = place_tags(np.array([box], dtype=float), [[60]], 10, SIZE)
    assert 0 <= place.left <= 340 and 0 <= place.top <= 290


@pytest.mark.parametrize("count", [2, 30, 100, 300])
def test_no_two_tags_overlap(count):
    boxes, widths = random_boxes(count), [[70, 45, 10]] * count
    tags = rectangles(place_tags(boxes, widths, 12, SIZE), widths, 12)
    shared = np.minimum(tags[:, None, 2:], tags[:, 2:]) - np.maximum(tags[:, None, :2], tags[:, :2])
    assert len(tags) >= min(count, 60) and (shared.clip(0).prod(axis=-1) > 0).sum() == len(tags)  # each with itself


def test_a_small_neighbor_is_not_hidden():
    boxes = np.array([[100.0, 100, 150, 180], [100, 88, 110, 99]])  # the second one is where the tag would be
    place = place_tags(boxes, [[40], [40]], 10, SIZE)[0]
    right, bottom = place.left + 40, place.top + 10
    assert place.left >= 110 or right <= 100 or place.top >= 99 or bottom <= 88


def test_without_room_the_wording_is_shorter_and_then_there_is_no_tag():
    box = np.array([[0.0, 0, 100, 20]])
    picture = (20, 100)
    assert place_tags(box, [[90, 10]], 20, picture)[0].wording == 1  # rather a tenth hidden than nine tenths
    crowd = np.repeat(box, 20, axis=0)
    places = place_tags(crowd, [[90, 10]] * 20, 20, picture)
    assert sum(place is None for place in places) >= 10


def test_no_boxes_have_no_tags():
    assert place_tags(np.zeros((0, 4)), [], 10, SIZE) == []
