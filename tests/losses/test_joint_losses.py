"""The losses that share pairs over ranks: two ranks equal one, and no array of all pairs exists."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from two_ranks import run_two_ranks

from openvocab.losses import (
    TextQueue,
    decoupled_info_nce,
    filip,
    nt_xent,
    one_directional_info_nce,
    siglip,
    similarity_regularization,
)

IS_WORD = torch.arange(24).view(8, 3).remainder(5).ne(4)


def tokens_loss(images: Tensor, texts: Tensor, scale: Tensor, rows: slice, chunk_size: int) -> Tensor:
    """FILIP on embeddings cut into tokens of width 2."""
    patches, words = (F.normalize(part.unflatten(1, (-1, 2)), dim=2) for part in (images, texts))
    is_word = IS_WORD[rows]
    return filip(patches, words[:, :3], is_word, scale, chunk_size=chunk_size)


LOSSES = {
    "decoupled": lambda i, t, s, rows, c: decoupled_info_nce(i, t, s, chunk_size=c),
    "one_way": lambda i, t, s, rows, c: one_directional_info_nce(i, t, s, chunk_size=c),
    "one_way_decoupled": lambda i, t, s, rows, c: one_directional_info_nce(i, t, s, decoupled=True, chunk_size=c),
    "siglip": lambda i, t, s, rows, c: siglip(i, t, s, s - 5, chunk_size=c),
    "nt_xent": lambda i, t, s, rows, c: nt_xent(i, t, 0.2, chunk_size=c) + 0 * s,
    "nt_xent_xclip": lambda i, t, s, rows, c: nt_xent(i, t, 0.2, parity="xclip", chunk_size=c) + 0 * s,
    "similarity": lambda i, t, s, rows, c: similarity_regularization(i, t, chunk_size=c) + 0 * s,
    "filip": tokens_loss,
}


class TwoEncoders(nn.Module):
    """A tiny image and a tiny text encoder with a learned temperature."""

    def __init__(self, loss: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.loss = loss
        self.image = nn.Linear(6, 8)
        self.text = nn.Linear(5, 8)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        for parameter in (*self.image.parameters(), *self.text.parameters()):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, images: Tensor, texts: Tensor, rows: slice) -> Tensor:
        embeds = F.normalize(self.image(images), dim=1), F.normalize(self.text(texts), dim=1)
        return LOSSES[self.loss](*embeds, self.logit_scale.exp(), rows, 3)


def joint_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(8, 6, generator=generator), torch.randn(8, 5, generator=generator)


def work_of_rank(rank: int) -> dict:
    """Half of the joint batch through DistributedDataParallel, for every loss: what came out."""
    results, rows = {}, slice(4 * rank, 4 * rank + 4)
    for name in LOSSES:
        model = nn.parallel.DistributedDataParallel(TwoEncoders(name))
        loss = model(*(part[rows] for part in joint_batch()), rows)
        loss.backward()
        results[name] = loss.detach(), {key: p.grad for key, p in model.module.named_parameters()}
    queue = TextQueue(6, 2)
    queue.push(torch.tensor([[rank, 0.0], [rank, 1.0]]))
    results["queue"] = queue.rows
    results["ragged"] = ragged_texts(rank)
    return results


def ragged_texts(rank: int) -> Tensor:
    """FILIP where the longest text of one rank has fewer tokens than that of the other."""
    patches, words = (F.normalize(part, dim=2) for part in (torch.ones(4, 2, 3).cumsum(0), word_table()))
    rows, length = slice(2 * rank, 2 * rank + 2), (2, 4)[rank]
    return filip(patches[rows], words[rows, :length], ragged_mask()[rows, :length], torch.tensor(5.0))


def word_table() -> Tensor:
    return torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(7))


def ragged_mask() -> Tensor:
    return torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]).bool()


@pytest.fixture(scope="module")
def two_ranks() -> list[dict]:
    return run_two_ranks(work_of_rank)


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.startswith("nt_xent")])
def test_two_ranks_give_value_and_gradient_of_one_with_the_joint_batch(two_ranks: list[dict], name: str):
    compare(two_ranks, name)


@pytest.mark.parametrize("name", ["nt_xent", "nt_xent_xclip"])
def test_two_ranks_compare_views_as_one_does(two_ranks: list[dict], name: str):
    compare(two_ranks, name)


def compare(two_ranks: list[dict], name: str) -> None:
    model = TwoEncoders(name).double()
    expected = model(*(part.double() for part in joint_batch()), slice(0, 8))
    expected.backward()
    for results in two_ranks:
        loss, grads = results[name]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(grads[key].double(), parameter.grad, atol=1e-5, rtol=1e-4)


def test_every_rank_has_the_same_queue(two_ranks: list[dict]):
    for results in two_ranks:
        assert results["queue"][:4].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_ranks_with_texts_of_different_length_share_them(two_ranks: list[dict]):
    patches, words = (F.normalize(part, dim=2) for part in (torch.ones(4, 2, 3).cumsum(0), word_table()))
    expected = filip(patches, words, ragged_mask(), torch.tensor(5.0))
    for results in two_ranks:
        torch.testing.assert_close(results["ragged"], expected)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "filip"])
def test_no_array_of_all_pairs_is_made(name: str):
    embeds = [F.normalize(torch.randn(512, 8), dim=1).requires_grad_() for _ in range(2)]
    scale = torch.tensor(10.0, requires_grad=True)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        LOSSES[name](*embeds, scale, slice(0, 512), 16).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 512 * 512 * 4 / 4  # a quarter of the full matrix
