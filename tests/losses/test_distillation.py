"""The distance to a teacher's embeddings: official ViLD's number, by hand, and at its edges."""

import pytest
import torch
import torch.nn.functional as F

from openvocab.losses.distillation import embedding_distillation


def test_equals_512_times_the_mean_of_official_vild():
    generator = torch.Generator().manual_seed(0)
    embed, teacher = (F.normalize(torch.randn(9, 512, generator=generator), dim=1) for _ in range(2))
    torch.testing.assert_close(embedding_distillation(embed, teacher), 512 * F.l1_loss(embed, teacher))


def test_by_hand():
    embed = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    teacher = torch.tensor([[0.0, 1.0], [0.8, 0.6]])
    assert embedding_distillation(embed, teacher).item() == pytest.approx((2 + 0.4) / 2)
    assert embedding_distillation(embed, embed) == 0


def test_the_teacher_learns_nothing():
    embed, teacher = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    embedding_distillation(embed, teacher).backward()
    assert teacher.grad is None
    assert torch.equal(embed.grad, (embed - teacher).sign().detach() / 3)


def test_no_rows_give_no_loss_and_a_defined_gradient():
    embed = torch.zeros(0, 4, requires_grad=True)
    loss = embedding_distillation(embed, torch.zeros(0, 4))
    loss.backward()
    assert loss == 0 and embed.grad.shape == (0, 4)


def test_low_precision_is_compared_in_float32():
    embed, teacher = torch.randn(3, 512), torch.randn(3, 512)
    loss = embedding_distillation(embed.bfloat16(), teacher.half())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, embedding_distillation(embed.bfloat16().float(), teacher.half().float()))


@pytest.mark.parametrize("shape", [(3, 8), (2, 4)])
def test_a_teacher_of_another_width_or_count_is_named(shape):
    with pytest.raises(ValueError, match=r"\(3, 4\).*joint space"):
        embedding_distillation(torch.randn(3, 4), torch.randn(shape))
