"""Repeat factors equal the formula; groups are of one shape; every draw can be resumed."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from coco_folder import write_coco

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.detection_sampler import DetectionSampler, group_by_shape, repeat_counts, repeat_factors


class _Table(DetectionDataset):
    """As many images as there are lists of classes, without files."""

    def __init__(self, item_classes: list[list[int]], ratios: np.ndarray | None = None) -> None:
        super().__init__("", "")
        self.lists = [np.array(classes, np.int64) for classes in item_classes]
        self.ratios = ratios

    vocabulary = property(lambda self: range(5))
    item_classes = property(lambda self: self.lists)
    aspect_ratios = property(lambda self: self.ratios)

    def __len__(self) -> int:
        return len(self.lists)


def _table(count: int = 203, seed: int = 0) -> _Table:
    generator = np.random.default_rng(seed)
    chances = [0.9, 0.3, 0.05, 0.01, 0.0]
    classes = [[k for k in range(5) if generator.random() < chances[k]] for _ in range(count)]
    return _Table(classes, generator.choice([0.5, 0.75, 1.0, 1.33, 1.78], count))


def _draws(sampler: DetectionSampler, count: int) -> list[tuple[int, int]]:
    return [(int(draw), draw.seed) for draw in itertools.islice(sampler, count)]


def test_repeat_factors_are_the_formula():
    table = _table()
    factors = repeat_factors(table.item_classes, 5, 0.1)
    for image, classes in enumerate(table.lists):
        expected = 1.0
        for k in classes:
            share = sum(int(k in other) for other in table.lists) / len(table)
            expected = max(expected, math.sqrt(0.1 / share))
        assert factors[image] == pytest.approx(expected, rel=1e-12)
    assert factors.max() > 2


def test_images_without_objects_and_threshold_of_common_classes_repeat_nothing():
    assert repeat_factors([np.array([], np.int64), np.array([0])], 1, 0.5).tolist() == [1, 1]


def test_counts_are_the_factors_on_average():
    factors = np.array([1.0, 1.25, 2.5, 3.9])
    generator = np.random.default_rng(0)
    counts = np.array([repeat_counts(factors, generator) for _ in range(4000)])
    assert np.allclose(counts.mean(0), factors, atol=0.03)
    assert (counts >= np.floor(factors)).all() and (counts <= np.ceil(factors)).all()


ARGUMENTS = [
    {},
    {"repeat_threshold": 0.1},
    {"batch_size": 4, "window": 8},
    {"repeat_threshold": 0.1, "batch_size": 4, "window": 8},
    {"repeat_threshold": 0.1, "shuffle": False},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_a_resumed_sampler_continues_with_the_very_draws(arguments):
    table = _table()
    whole = _draws(DetectionSampler(table, seed=3, **arguments), 900)
    for start in (0, 1, 202, 203, 204, 500, 777):
        resumed = DetectionSampler(table, seed=3, **arguments)
        resumed.start_at(start)
        assert _draws(resumed, 100) == whole[start : start + 100]
    other = _draws(DetectionSampler(table, seed=4, **arguments), 900)
    assert {seed for _, seed in other}.isdisjoint(seed for _, seed in whole)
    assert len({seed for _, seed in whole}) == 900


@pytest.mark.parametrize("arguments", [ARGUMENTS[0], ARGUMENTS[2]], ids=str)
def test_without_repeating_every_epoch_shows_each_image_once(arguments):
    items = [item for item, _ in _draws(DetectionSampler(_table(), seed=0, **arguments), 3 * 203)]
    for epoch in range(3):
        assert sorted(items[203 * epoch : 203 * (epoch + 1)]) == list(range(203))
    assert items[:203] != items[203:406]


def test_repeating_shows_images_by_their_factors():
    table = _table()
    sampler = DetectionSampler(table, repeat_threshold=0.1, seed=0)
    factors = repeat_factors(table.item_classes, 5, 0.1)
    drawn = Counter(item for item, _ in _draws(sampler, 60 * round(factors.sum())))
    shown = np.array([drawn[image] for image in range(len(table))]) / 60
    assert np.allclose(shown, factors, atol=0.35) and abs(shown.mean() - factors.mean()) < 0.02
    assert len(sampler) == math.ceil(factors.sum())


@pytest.mark.parametrize("world_size", [1, 2])
def test_ranks_share_the_draws_and_their_batches_have_one_shape(world_size, monkeypatch):
    table = _table()
    of_rank = []
    for rank in range(world_size):
        monkeypatch.setattr("openvocab.datasets.sampler.get_dist_info", lambda rank=rank: (rank, world_size))
        of_rank.append([item for item, _ in _draws(DetectionSampler(table, batch_size=4, window=8, seed=1), 200)])
    together = [item for step in zip(*of_rank) for item in step]
    assert len(set(together[:200])) == 200  # of 203 in an epoch
    block, generator = 4 * world_size, np.random.default_rng(0)
    batches = [together[start : start + block] for start in range(0, len(together), block)]
    by_chance = [generator.choice(203, block) for _ in range(100)]
    alike, plain = (np.mean([np.ptp(table.ratios[batch]) == 0 for batch in drawn]) for drawn in (batches, by_chance))
    assert alike > 0.5 > 0.2 > plain


def test_grouping_is_a_permutation_that_keeps_to_its_windows():
    order, ratios = np.random.default_rng(0).permutation(50), np.linspace(0.5, 2, 50)
    grouped = group_by_shape(order, ratios, 4, 3, np.random.default_rng(1))
    for start in range(0, 50, 12):
        assert sorted(grouped[start : start + 12]) == sorted(order[start : start + 12])
    spread = [np.ptp(ratios[grouped[start : start + 4]]) for start in range(0, 48, 4)]
    before = [np.ptp(ratios[order[start : start + 4]]) for start in range(0, 48, 4)]
    assert np.mean(spread) < 0.6 * np.mean(before)
    assert len(group_by_shape(order[:0], ratios, 4, 3, np.random.default_rng(1))) == 0


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="expected a DetectionDataset, got list"):
        DetectionSampler([1, 2], seed=0)
    with pytest.raises(ValueError, match="repeat_threshold"):
        DetectionSampler(_table(), repeat_threshold=0.0, seed=0)
    with pytest.raises(ValueError, match="batch_size and window"):
        DetectionSampler(_table(), batch_size=0, seed=0)
    with pytest.raises(ValueError, match="it needs shuffle=True"):
        DetectionSampler(_table(), batch_size=2, shuffle=False, seed=0)


def test_crowds_do_not_count_as_occurrences(tmp_path):
    dataset = DetectionDataset(tmp_path / "images", write_coco(tmp_path), keep_empty=True)
    assert [classes.tolist() for classes in dataset.item_classes] == [[0, 1], [1, 2], [], []]
    assert dataset.aspect_ratios.tolist() == [1.5] * 4
    assert sorted(item for item, _ in _draws(DetectionSampler(dataset, 0.5, batch_size=2, seed=0), 4)) != []
