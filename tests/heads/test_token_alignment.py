"""Alignment logits: in loops over locations and tokens, the start, and reduced precision."""

import math

import pytest
import torch
from torch import Tensor

from openvocab.heads.token_alignment import TokenAlignment


def alignment(seed: int = 0) -> TokenAlignment:
    generator = torch.Generator().manual_seed(seed)
    module = TokenAlignment(4, 6)
    for parameter in module.parameters():
        parameter.data = 0.7 * torch.randn(parameter.shape, generator=generator)
    return module


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 5 * torch.randn(2, 7, 4, generator=generator), 3 * torch.randn(2, 5, 6, generator=generator)


def test_equals_loops_over_locations_and_tokens():
    module, (locations, tokens) = alignment(), inputs()
    logits = module(locations, tokens)
    weight, offset = module.project.weight.tolist(), module.project.bias.tolist()
    scale, bias = math.exp(module.log_scale.item()), module.bias.item()
    for image in range(2):
        for j, token in enumerate(tokens[image].tolist()):
            norm = math.sqrt(sum(x * x for x in token))
            unit = [x / norm for x in token]
            row = [sum(w * x / 2 for w, x in zip(weight[c], unit)) + offset[c] for c in range(4)]
            shift = sum(x * b for x, b in zip(unit, module.token_bias.tolist())) + bias
            for i, location in enumerate(locations[image].tolist()):
                dot = sum(x * t for x, t in zip(location, row))
                assert logits[image, i, j].item() == pytest.approx(dot / scale + shift, abs=1e-4)


def test_one_prompt_is_compared_with_every_image():
    module, (locations, tokens) = alignment(), inputs()
    both = module(locations, tokens[0])
    torch.testing.assert_close(both[1], module(locations[1], tokens[0]))
    torch.testing.assert_close(both, module(locations, tokens[:1].expand(2, -1, -1)))


def test_before_training_most_pairs_score_one_percent():
    scores = TokenAlignment(4, 6)(torch.zeros(2, 7, 4), inputs()[1])
    # the projection of a location of zeros is 0: the bias remains
    torch.testing.assert_close(scores.sigmoid(), torch.full((2, 7, 5), 0.01))


def test_a_row_of_zeros_has_finite_logits_and_gradients():
    module, (locations, tokens) = alignment(), inputs()
    tokens[:, 3] = 0
    tokens.requires_grad_()
    logits = module(locations, tokens)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert tokens.grad.isfinite().all()


def test_logits_are_clamped():
    module, (locations, tokens) = alignment(), inputs()
    logits = module(1e6 * locations, tokens)
    assert logits.abs().max() == 50000


def test_autocast_does_not_round_the_logits():
    module, (locations, tokens) = alignment(), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        logits = module(locations, tokens)
    assert torch.equal(logits, module(locations, tokens))
    assert module(locations.bfloat16(), tokens.bfloat16()).dtype == torch.float32
