"""Chunked InfoNCE against the full matrix in float64, alone and over two ranks."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from two_ranks import run_two_ranks

from openvocab.losses import info_nce


def make_pairs(
    count: int, dim: int = 16, seed: int = 0, dtype: torch.dtype = torch.float32, scale: float = 30.0
) -> list[Tensor]:
    """Unit-norm images and texts that are somewhat alike, and a logit scale; all want gradients."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, dim, generator=generator, dtype=dtype)
    texts = images + torch.randn(count, dim, generator=generator, dtype=dtype)
    leaves = [F.normalize(images, dim=1), F.normalize(texts, dim=1), torch.tensor(scale, dtype=dtype)]
    return [leaf.requires_grad_() for leaf in leaves]


def full_matrix_loss(images: Tensor, texts: Tensor, scale: Tensor, text_ids: Tensor | None = None) -> Tensor:
    """The definition, with all logits at once."""
    logits = scale * images @ texts.T
    target = torch.eye(len(images), dtype=logits.dtype)
    if text_ids is not None:
        target = (text_ids[:, None] == text_ids).to(logits.dtype)
        target = target / target.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def as_double(leaves: list[Tensor]) -> list[Tensor]:
    return [leaf.detach().double().requires_grad_() for leaf in leaves]


@pytest.mark.parametrize(("count", "chunk_size"), [(2, 1), (50, 50), (50, 7), (50, 4096), (300, 64)])
@pytest.mark.parametrize("scale", [1.0, 30.0, 100.0])
def test_is_as_exact_as_the_full_matrix_in_float32(count: int, chunk_size: int, scale: float):
    leaves = make_pairs(count, scale=scale)
    exact = as_double(leaves)
    loss, rounded, expected = (
        info_nce(*leaves, chunk_size=chunk_size),
        full_matrix_loss(*leaves),
        full_matrix_loss(*exact),
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    got, full, want = (gradients(*pair) for pair in ((loss, leaves), (rounded, leaves), (expected, exact)))
    for ours, theirs, true in zip(got, full, want):
        assert (ours - true).norm() <= 1e-6 * true.norm() + 2 * (theirs - true).norm()


def test_gradients_pass_gradcheck():
    leaves = make_pairs(5, dim=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: 3 * info_nce(*x, chunk_size=2), leaves)


def test_equal_texts_share_the_target():
    leaves = make_pairs(20)
    ids = torch.tensor([3, 3, 9, -1, 3] * 4)
    exact = as_double(leaves)
    loss, expected = info_nce(*leaves, text_ids=ids, chunk_size=6), full_matrix_loss(*exact, text_ids=ids)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-5)
    for got, want in zip(gradients(loss, leaves), gradients(expected, exact)):
        torch.testing.assert_close(got.double(), want, atol=1e-6, rtol=1e-5)


def test_distinct_text_ids_change_nothing():
    leaves = make_pairs(20)
    assert info_nce(*leaves, text_ids=torch.arange(20)).item() == pytest.approx(
        info_nce(*leaves).item(), rel=1e-6, abs=1e-5
    )


def test_one_text_for_all_images_cannot_be_told_apart_but_is_no_error():
    images, texts, scale = make_pairs(8)
    same = texts[:1].expand(8, -1)
    ids = torch.zeros(8, dtype=torch.long)
    loss = info_nce(images, same, scale, text_ids=ids)
    (gradient,) = torch.autograd.grad(loss, [images])
    exact = full_matrix_loss(images.double(), same.double(), scale.double(), ids)
    (expected,) = torch.autograd.grad(exact, [images])
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_perfect_pairs_at_the_largest_scale_stay_finite():
    embed = F.normalize(torch.eye(8), dim=1).requires_grad_()
    loss = info_nce(embed, embed.detach(), torch.tensor(100.0))
    loss.backward()
    assert 0 <= loss.item() < 1e-6 and embed.grad.isfinite().all()


def test_computes_in_float32_under_autocast():
    leaves = make_pairs(40)
    plain = info_nce(*leaves, chunk_size=16)
    expected = gradients(plain, leaves)
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(*leaves, chunk_size=16)
        got = gradients(loss, leaves)  # the backward pass inside the context too
    assert loss.dtype == torch.float32 and torch.equal(loss, plain)
    assert all(torch.equal(a, b) for a, b in zip(got, expected))


def test_half_precision_inputs_get_gradients_of_their_own_type():
    images, texts, scale = make_pairs(10)
    halves = [x.detach().bfloat16().requires_grad_() for x in (images, texts)]
    loss = info_nce(*halves, scale)
    assert loss.dtype == torch.float32
    assert all(gradient.dtype == torch.bfloat16 for gradient in torch.autograd.grad(loss, halves))


def test_frozen_texts_get_no_gradient():
    images, texts, scale = make_pairs(10)
    info_nce(images, texts.detach(), scale.detach()).backward()
    assert images.grad is not None


def test_no_array_of_all_pairs_is_made():
    leaves = make_pairs(512, dim=8)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        info_nce(*leaves, chunk_size=16).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 512 * 512 * 4 / 4  # a quarter of the full matrix


@pytest.mark.parametrize(
    ("images", "texts", "options", "message"),
    [
        (torch.ones(1, 4), torch.ones(1, 4), {}, "at least two"),
        (torch.ones(3, 4), torch.ones(3, 5), {}, r"\(3, 4\) and \(3, 5\)"),
        (torch.ones(3, 4), torch.ones(2, 4), {}, "one pair per row"),
        (torch.ones(3, 4), torch.ones(3, 4), {"text_ids": torch.zeros(2, dtype=torch.long)}, "text_ids"),
        (torch.ones(3, 4), torch.ones(3, 4), {"chunk_size": 0}, "chunk_size"),
    ],
)
def test_refuses_what_cannot_be_a_batch_of_pairs(images, texts, options, message):
    with pytest.raises(ValueError, match=message):
        info_nce(images, texts, torch.tensor(1.0), **options)


class TwoEncoders(nn.Module):
    """A tiny image and a tiny text encoder with a learned temperature."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.image = nn.Linear(6, 4)
        self.text = nn.Linear(5, 4)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        for parameter in (*self.image.parameters(), *self.text.parameters()):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, images: Tensor, texts: Tensor, text_ids: Tensor | None) -> Tensor:
        embeds = F.normalize(self.image(images), dim=1), F.normalize(self.text(texts), dim=1)
        return info_nce(*embeds, self.logit_scale.exp(), text_ids=text_ids, chunk_size=3)


def joint_batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return (
        torch.randn(8, 6, generator=generator),
        torch.randn(8, 5, generator=generator),
        torch.tensor([0, 1, 2, 0, 4, 1, 6, 7]),  # equal texts on one rank and on different ranks
    )


def work_of_rank(rank: int) -> dict:
    """Half of the joint batch through DistributedDataParallel: what came out."""
    results = {}
    for name in ("own", "shared"):
        model = nn.parallel.DistributedDataParallel(TwoEncoders())
        images, texts, ids = (part[4 * rank : 4 * rank + 4] for part in joint_batch())
        loss = model(images, texts, ids if name == "shared" else None)
        loss.backward()
        results[name] = loss.detach(), {key: p.grad for key, p in model.module.named_parameters()}
    alone = info_nce(*make_pairs(4, seed=rank), gather=False)
    results["alone"] = alone.detach(), {}
    try:
        info_nce(*make_pairs(2 + rank))
    except ValueError as error:
        results["unequal"] = str(error)
    return results


@pytest.fixture(scope="module")
def two_ranks() -> list[dict]:
    return run_two_ranks(work_of_rank)


@pytest.mark.parametrize("targets", ["own", "shared"])
def test_two_ranks_give_the_gradient_of_one_with_the_joint_batch(two_ranks: list[dict], targets: str):
    images, texts, ids = joint_batch()
    model = TwoEncoders().double()
    embeds = F.normalize(model.image(images.double()), dim=1), F.normalize(model.text(texts.double()), dim=1)
    expected = full_matrix_loss(*embeds, model.logit_scale.exp(), ids if targets == "shared" else None)
    expected.backward()
    for results in two_ranks:
        loss, grads = results[targets]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-5)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(grads[name].double(), parameter.grad, atol=1e-6, rtol=1e-5)


def test_without_gather_each_rank_scores_its_own_pairs(two_ranks: list[dict]):
    for rank, results in enumerate(two_ranks):
        assert results["alone"][0].item() == pytest.approx(
            full_matrix_loss(*make_pairs(4, seed=rank)).item(), rel=1e-6, abs=1e-5
        )


def test_ranks_with_different_batch_sizes_are_refused(two_ranks: list[dict]):
    assert all("[2, 3]" in results["unequal"] for results in two_ranks)
