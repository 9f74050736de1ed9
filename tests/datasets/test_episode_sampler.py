"""Episodes of few-shot training: a query and a support of one class, resumable at any draw."""

from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from openvocab.datasets.episode_sampler import EpisodeSampler

CLASSES = [0] * 5 + [1] * 3 + [2] * 4


class Items(SimpleNamespace):
    class_of_item = CLASSES

    def __len__(self) -> int:
        return len(self.class_of_item)


def draws(count: int, start: int = 0, **options) -> list[int]:
    sampler = EpisodeSampler(Items(), seed=0, **options)
    sampler.start_at(start)
    return list(islice(sampler, count))


@pytest.mark.parametrize("queries", ["all", "by_class"])
def test_an_episode_is_two_images_of_one_class(queries):
    drawn = draws(200, queries=queries)
    for query, support in zip(drawn[::2], drawn[1::2]):
        assert query != support and CLASSES[query] == CLASSES[support]


def test_every_item_is_the_query_once_an_epoch_and_supports_are_even():
    drawn = draws(24 * 400)
    for epoch in range(2):
        assert sorted(drawn[24 * epoch : 24 * (epoch + 1) : 2]) == list(range(12))
    assert drawn[:24:2] != drawn[24:48:2]
    supports = Counter(drawn[1::2])
    assert all(340 < supports[item] < 460 for item in range(12))  # 400 expected of each


def test_classes_are_drawn_evenly_where_asked_for():
    counts = Counter(CLASSES[query] for query in draws(6000, queries="by_class")[::2])
    assert all(900 < counts[index] < 1100 for index in range(3))


def test_a_resumed_run_sees_the_same_draws_with_the_same_seeds():
    whole, rest = draws(100), draws(60, start=40)
    assert rest == whole[40:]
    assert [draw.seed for draw in rest] == [draw.seed for draw in whole[40:]]
    assert len({draw.seed for draw in whole}) == 100


def test_ranks_share_the_episodes(monkeypatch):
    alone = draws(48)
    episodes = list(zip(alone[::2], alone[1::2]))
    for rank in range(3):
        monkeypatch.setattr("openvocab.datasets.sampler.get_dist_info", lambda rank=rank: (rank, 3))
        drawn, rest = draws(16), draws(10, start=3 * 6)
        assert list(zip(drawn[::2], drawn[1::2])) == episodes[rank::3]
        assert rest == drawn[6:]
        assert len(EpisodeSampler(Items(), seed=0)) == 8


def test_a_class_without_a_second_image_and_unknown_words_are_refused():
    with pytest.raises(ValueError, match=r"the classes \[7\] have one each"):
        EpisodeSampler(Items(class_of_item=[0, 0, 7]))
    with pytest.raises(ValueError, match="queries: expected one of .*some"):
        EpisodeSampler(Items(), queries="some")
    with pytest.raises(TypeError, match="expected a few-shot dataset, got list"):
        EpisodeSampler([1, 2, 3])
    several = SimpleNamespace(item_classes=[np.array([0, 3]), np.array([0])])  # a dataset of detection
    with pytest.raises(TypeError, match="expected a few-shot dataset, got SimpleNamespace"):
        EpisodeSampler(several)
