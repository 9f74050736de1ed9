"""The queue of past texts: first in, first out, and searched exactly."""

from collections import deque

import pytest
import torch
from embeds import random_rows

from openvocab.losses import TextQueue


def numbered(*numbers: int) -> torch.Tensor:
    return torch.tensor([[float(number), 1.0] for number in numbers])


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 12])
def test_keeps_the_last_ones_as_a_deque_does(batch: int):
    queue, expected = TextQueue(5, 2), deque(maxlen=5)
    for start in range(0, 30, batch):
        numbers = range(start, start + batch)
        queue.push(numbered(*numbers))
        expected.extend(numbers)
        assert len(queue) == len(expected)
        assert sorted(queue.rows[: len(queue), 0].tolist()) == sorted(expected)


def test_finds_the_highest_cosine_among_what_is_held():
    queue = TextQueue(100, 8)
    held, queries = random_rows(40, 8).detach(), random_rows(9, 8, seed=1).detach()
    queue.push(held)
    found = queue.nearest(queries, chunk_size=4)
    for query, row in zip(queries, found):
        assert torch.equal(row, max(held, key=lambda text: float(query @ text)))
    assert not found.requires_grad


def test_empty_places_are_never_found():
    queue = TextQueue(10, 2)
    queue.push(torch.tensor([[-1.0, 0.0]]))
    assert queue.nearest(torch.tensor([[1.0, 0.0]])).tolist() == [[-1.0, 0.0]]


def test_is_saved_with_the_weights():
    queue, other = TextQueue(5, 2), TextQueue(5, 2)
    queue.push(numbered(1, 2, 3))
    other.load_state_dict(queue.state_dict())
    queue.push(numbered(4, 5, 6)), other.push(numbered(4, 5, 6))
    assert torch.equal(queue.rows, other.rows) and len(other) == 5
    assert not list(queue.parameters())


def test_an_empty_queue_and_a_size_of_zero_are_refused():
    with pytest.raises(ValueError, match="no texts yet"):
        TextQueue(5, 2).nearest(numbered(1))
    with pytest.raises(ValueError, match="at least one"):
        TextQueue(0, 2)
