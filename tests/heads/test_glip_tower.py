"""The tower of GLIP against the official code's outputs, block by block, and its properties."""

import pytest
import torch
from glip_reference import assert_equal_to_official, expected, needs_reference, official_levels, official_model

from openvocab.heads.glip_tower import GLIPTower, as_levels, as_locations

SIZES = ((12, 18), (6, 9), (3, 5), (2, 3), (1, 2))


def small_tower(**arguments) -> GLIPTower:
    torch.manual_seed(0)
    parts = dict(dim=32, text_dim=24, num_blocks=2, text_heads=3, fusion_heads=2, fusion_head_dim=8)
    return GLIPTower(**(parts | arguments)).eval()


def make_levels(batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 32, *size, generator=generator) for size in SIZES]


def make_text(batch: int = 2, count: int = 5) -> torch.Tensor:
    return torch.randn(batch, count, 24, generator=torch.Generator().manual_seed(2))


@needs_reference
@pytest.mark.parametrize("variant", ["a", "c"])
def test_the_pyramid_is_the_official_one(variant):
    for number, level in enumerate(official_levels(variant), start=3):
        sampled = level[0, :, ::4, ::4] if number < 5 else level[0]  # as the reference is stored
        assert_equal_to_official(sampled, f"{variant}_fpn{number}")


@needs_reference
@pytest.mark.parametrize("gradient", [False, True])  # two ways of computing the fusion
def test_every_fused_block_is_the_official_one(gradient):
    levels, text = official_levels("c"), expected("c_text_hidden")[None]
    is_token = torch.ones(1, text.shape[1], dtype=torch.bool)
    with torch.set_grad_enabled(gradient):
        for number, block in enumerate(official_model("c").head.tower.blocks):
            if number == 0:
                vision, words = block.fusion(as_locations(levels), text, is_token)
                fused = as_levels(vision.detach(), levels)
                assert_equal_to_official(fused[2][0], "c_fuse1_p5")
                assert_equal_to_official(fused[4][0], "c_fuse1_p7")
                assert_equal_to_official(words.detach()[0], "c_fuse1_text")
            levels, text = block(levels, text, is_token)
            levels, text = [level.detach() for level in levels], text.detach()
            assert_equal_to_official(levels[2][0], f"c_layer{number}_p5")
            assert_equal_to_official(text[0], f"c_layer{number}_text")


@needs_reference
def test_the_tower_without_fusion_is_the_official_one():
    levels, tower = official_levels("a"), official_model("a").head.tower
    text = torch.zeros(1, 1, 768)
    with torch.no_grad():
        for number, block in enumerate(tower.blocks):
            levels, _ = block(levels, text, torch.ones(1, 1, dtype=torch.bool))
            if number in (0, 5):
                assert_equal_to_official(levels[2][0], f"a_layer{number}_p5")


@torch.no_grad()
def test_padding_of_a_prompt_changes_nothing():
    tower, levels, text = small_tower(), make_levels(), make_text()
    padded = torch.cat([text, 100 * torch.randn(2, 3, 24)], dim=1)
    expected_levels, expected_text = tower(levels, text, torch.ones(2, 5, dtype=torch.bool))
    is_token = torch.arange(8).expand(2, -1) < 5
    actual_levels, actual_text = tower(levels, padded, is_token)
    torch.testing.assert_close(actual_levels, expected_levels, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual_text[:, :5], expected_text, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_an_image_is_alone_what_it_is_in_a_batch():
    tower, levels, text = small_tower(), make_levels(), make_text()
    is_token = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    batch, words = tower(levels, text, is_token)
    alone, word = tower([level[1:] for level in levels], text[1:], is_token[1:])
    torch.testing.assert_close([level[1:] for level in batch], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(words[1:], word, rtol=1e-4, atol=1e-5)


def test_the_text_reaches_the_levels_only_with_fusion():
    for fused in (True, False):
        tower, levels, text = small_tower(fused=fused), make_levels(1), make_text(1).requires_grad_()
        result, words = tower(levels, text, torch.ones(1, 5, dtype=torch.bool))
        sum(level.sum() for level in result).backward() if fused else None
        assert (text.grad is not None and text.grad.abs().sum() > 0) == fused
        assert (words is text) == (not fused)


@pytest.mark.parametrize("fused", [True, False])
def test_recomputed_blocks_give_the_same_gradients(fused):
    gradients = []
    for checkpointing in (False, True):
        tower = small_tower(fused=fused, checkpointing=checkpointing, dropout=0.1).train()
        torch.manual_seed(3)
        levels, text = tower(make_levels(), make_text(), torch.ones(2, 5, dtype=torch.bool))
        (sum(level.square().mean() for level in levels) + text.square().mean()).backward()
        gradients.append([parameter.grad for parameter in tower.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_stays_near_float32(dtype):
    tower, levels, text, is_token = small_tower(), make_levels(), make_text(), torch.ones(2, 5, dtype=torch.bool)
    exact, words = tower(levels, text, is_token)
    rough, rough_words = tower.to(dtype)([level.to(dtype) for level in levels], text.to(dtype), is_token)
    for level, other in zip((*rough, rough_words), (*exact, words), strict=True):
        assert level.dtype == dtype
        assert (level.float() - other).norm() < 0.03 * other.norm()


def test_autocast_trains():
    tower = small_tower().train()
    with torch.autocast("cpu", torch.bfloat16):
        levels, text = tower(make_levels(), make_text(), torch.ones(2, 5, dtype=torch.bool))
        loss = sum(level.float().square().mean() for level in levels) + text.float().square().mean()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in tower.parameters() if parameter.grad is not None)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="num_blocks: expected a whole number of at least 1"):
        small_tower(num_blocks=0)
    with pytest.raises(ValueError, match="heads: 5 does not divide dim 24"):
        small_tower(text_heads=5)
    with pytest.raises(ValueError, match="dim: expected a multiple of 16"):
        small_tower(dim=40)
