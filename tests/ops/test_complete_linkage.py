import pytest
import torch

from openvocab.ops.complete_linkage import complete_linkage

LINE = torch.tensor([0.0, 1.0, 2.5, 10.0, 10.5])


def distances(points: torch.Tensor) -> torch.Tensor:
    return (points[:, None] - points).abs()


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        (0.4, [0, 1, 2, 3, 4]),
        (0.5, [0, 1, 2, 3, 3]),  # a height that is just reached joins
        (1.6, [0, 0, 2, 3, 3]),  # 2.5 is 1.5 from its neighbor, and 2.5 from the cluster
        (2.5, [0, 0, 0, 3, 3]),
        (20, [0, 0, 0, 0, 0]),
    ],
)
def test_clusters_are_as_wide_as_their_farthest_members(height, expected):
    assert complete_linkage(distances(LINE), height).tolist() == expected


def test_order_does_not_matter():
    order = [3, 0, 4, 2, 1]
    cluster = complete_linkage(distances(LINE[order]), 1.6)
    points = [set(LINE[order][cluster == index].tolist()) for index in cluster.unique()]
    assert sorted(map(sorted, points)) == [[0.0, 1.0], [2.5], [10.0, 10.5]]


def test_one_thing_is_one_cluster():
    assert complete_linkage(torch.zeros(1, 1), 0.5).tolist() == [0]
