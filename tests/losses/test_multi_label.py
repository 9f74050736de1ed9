"""The multi-label contrastive loss against its definition in float64, alone and over two ranks."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from two_ranks import run_two_ranks

from openvocab.losses.contrastive import info_nce
from openvocab.losses.multi_label import multi_label_info_nce

LABELS = 3


def make_batch(count: int, labels: int = LABELS, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Unit-norm images (B, D) and texts (B, K, D), and a scale; all want gradients."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, 8, generator=generator, dtype=dtype)
    texts = images[:, None] + torch.randn(count, labels, 8, generator=generator, dtype=dtype)
    leaves = [F.normalize(images, dim=-1), F.normalize(texts, dim=-1), torch.tensor(12.0, dtype=dtype)]
    return [leaf.requires_grad_() for leaf in leaves]


def definition(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Soft-target cross entropies over the full matrix."""
    batch, labels, _ = texts.shape
    logits = scale * images @ texts.reshape(batch * labels, -1).T  # (B, B * K)
    target = torch.kron(torch.eye(batch), torch.ones(1, labels)).to(logits.dtype)
    of_images = -(target / labels * logits.log_softmax(1)).sum(1).mean()
    of_texts = -(target.T * logits.T.log_softmax(1)).sum(1).mean()
    return (of_images + of_texts) / 2


@pytest.mark.parametrize("chunk_size", [1, 4, 1000])
def test_value_and_gradient_are_those_of_the_definition(chunk_size: int):
    leaves = make_batch(7)
    loss, expected = multi_label_info_nce(*leaves, chunk_size=chunk_size), definition(*leaves)
    torch.testing.assert_close(loss, expected)
    for got, want in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves)):
        torch.testing.assert_close(got, want)


def test_one_label_is_info_nce():
    images, texts, scale = make_batch(6, labels=1)
    torch.testing.assert_close(
        multi_label_info_nce(images, texts, scale), info_nce(images, texts[:, 0], scale), rtol=1e-6, atol=1e-6
    )


def test_segments_are_joined_by_log_sum_exp():
    images, texts, scale = make_batch(5)
    segments = torch.stack([images, images.flip(1), F.normalize(images**3, dim=-1)], dim=1).detach().requires_grad_()
    each = torch.einsum("bgd,nkd->bgnk", segments, texts).flatten(2)  # (B, G, B * K)
    logits, target = (scale * each).exp().sum(1).log(), torch.eye(5, dtype=torch.float64).repeat_interleave(LABELS, 1)
    expected = (F.cross_entropy(logits, target / LABELS) + F.cross_entropy(logits.T, target.T)) / 2
    loss = multi_label_info_nce(segments, texts, scale, chunk_size=2)
    torch.testing.assert_close(loss, expected)
    for got, want in zip(torch.autograd.grad(loss, [segments]), torch.autograd.grad(expected, [segments])):
        torch.testing.assert_close(got, want)


IDS = torch.tensor([[1, 2, 9], [2, 3, 3], [4, 4, 4], [1, 5, 2]])


def equal_rows(texts: Tensor, ids: Tensor) -> Tensor:
    """Give texts (B, K, D) of one id the row of the first of them, as an encoder does."""
    flat = ids.flatten().tolist()
    return texts.flatten(0, 1)[[flat.index(i) for i in flat]].view_as(texts)


def test_equal_texts_are_right_for_all_their_images():
    images, texts, scale = make_batch(4)
    texts = equal_rows(texts, IDS).detach().requires_grad_()
    shares = [[float(bool({i} & set(row))) for i in IDS.flatten().tolist()] for row in IDS.tolist()]
    target = torch.tensor(shares, dtype=torch.float64)  # (B, B * K): text i is one of the image's
    logits = scale * images @ texts.flatten(0, 1).T
    expected = F.cross_entropy(logits, target / target.sum(1, keepdim=True)) / 2
    expected = expected + F.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True)) / 2
    for chunk_size in (1, 5, 100):
        loss = multi_label_info_nce(images, texts, scale, text_ids=IDS, chunk_size=chunk_size)
        torch.testing.assert_close(loss, expected)
        for leaf in (images, scale):
            torch.testing.assert_close(
                torch.autograd.grad(loss, leaf, retain_graph=True),
                torch.autograd.grad(expected, leaf, retain_graph=True),
            )


def test_gradients_reach_the_rows_of_equal_texts_as_if_each_were_scored():
    images, leaves, scale = make_batch(4)
    loss = multi_label_info_nce(images, equal_rows(leaves, IDS), scale, text_ids=IDS)
    logits = scale * images @ equal_rows(leaves, IDS).flatten(0, 1).T
    is_right = (IDS.flatten()[None, :, None] == IDS[:, None, :]).any(2).double()  # (B, B * K)
    expected = F.cross_entropy(logits, is_right / is_right.sum(1, keepdim=True)) / 2
    expected = expected + F.cross_entropy(logits.T, is_right.T / is_right.T.sum(1, keepdim=True)) / 2
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))


def test_ids_without_equals_change_nothing():
    leaves = make_batch(4)
    distinct = torch.arange(12).view(4, 3)  # a text's own id, and no image shares it
    own = torch.tensor([[7] * 3, [8] * 3, [9] * 3, [6] * 3])
    loss = multi_label_info_nce(*leaves)
    torch.testing.assert_close(multi_label_info_nce(*leaves, text_ids=distinct), loss)
    images, texts, scale = leaves
    same = equal_rows(texts, own)
    expected = multi_label_info_nce(images, same, scale)
    torch.testing.assert_close(multi_label_info_nce(images, same, scale, text_ids=own), expected)


def test_order_of_the_labels_does_not_matter():
    images, texts, scale = make_batch(5)
    torch.testing.assert_close(
        multi_label_info_nce(images, texts, scale), multi_label_info_nce(images, texts.flip(1), scale)
    )


def test_computes_in_float32_under_autocast():
    leaves = make_batch(6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = multi_label_info_nce(*leaves)
    assert loss.dtype == torch.float32 and torch.equal(loss, multi_label_info_nce(*leaves))


def test_shapes_and_small_batches_are_refused():
    images, texts, scale = make_batch(4)
    with pytest.raises(ValueError, match=r"\(B, K, D\)"):
        multi_label_info_nce(images, texts[:, 0], scale)
    with pytest.raises(ValueError, match=r"K >= 1"):
        multi_label_info_nce(images, texts[:, :0], scale)
    with pytest.raises(ValueError, match="text_ids"):
        multi_label_info_nce(images, texts, scale, text_ids=torch.zeros(4))
    with pytest.raises(ValueError, match="batch of one"):
        multi_label_info_nce(images[:1], texts[:1], scale)


class TwoEncoders(nn.Module):
    """Something with parameters for DistributedDataParallel to average."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = (nn.Linear(8, 8, dtype=torch.float64) for _ in range(2))
        self.scale = nn.Parameter(torch.tensor(9.0, dtype=torch.float64))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.normalize(self.image(images), dim=-1), F.normalize(self.text(texts), dim=-1), self.scale


def joint_batch() -> tuple[Tensor, Tensor]:
    images, texts, _ = make_batch(8)
    return images.detach(), equal_rows(texts, JOINT_IDS).detach()


JOINT_IDS = torch.tensor([[1, 2, 3], [2, 4, 4], [5, 6, 7], [8, 8, 1], [1, 5, 9], [2, 2, 2], [10, 11, 5], [12, 13, 14]])


def work_of_rank(rank: int) -> dict:
    model = nn.parallel.DistributedDataParallel(TwoEncoders())
    images, texts = (part[4 * rank : 4 * rank + 4] for part in joint_batch())
    loss = multi_label_info_nce(*model(images, texts), chunk_size=3)
    loss.backward()
    shared = multi_label_info_nce(*(part.detach() for part in model(images, texts)), text_ids=JOINT_IDS[4 * rank :][:4])
    results = {
        "shared": shared,
        "loss": loss.detach(),
        "grads": {key: p.grad for key, p in model.module.named_parameters()},
    }
    for name, count, labels in (("batch", 2 + rank, 2), ("labels", 2, 1 + rank)):
        try:
            multi_label_info_nce(*make_batch(count, labels))
        except ValueError as error:
            results[name] = str(error)
    return results


@pytest.fixture(scope="module")
def two_ranks() -> list[dict]:
    return run_two_ranks(work_of_rank)


def test_two_ranks_give_value_and_gradient_of_one_with_the_joint_batch(two_ranks: list[dict]):
    model = TwoEncoders()
    expected = definition(*model(*joint_batch()))
    expected.backward()
    for results in two_ranks:
        torch.testing.assert_close(results["loss"], expected.detach())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(results["grads"][name], parameter.grad)


def test_two_ranks_share_ids(two_ranks: list[dict]):
    expected = multi_label_info_nce(*TwoEncoders()(*joint_batch()), text_ids=JOINT_IDS)
    for results in two_ranks:
        torch.testing.assert_close(results["shared"], expected.detach())


def test_ranks_with_different_batches_are_refused(two_ranks: list[dict]):
    assert all("[2, 3]" in results["batch"] for results in two_ranks)
    assert all("[1, 2]" in results["labels"] for results in two_ranks)
