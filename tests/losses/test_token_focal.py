"""The focal loss of tokens: the official value, loops over pairs, and what a batch without objects gives."""

import math

import pytest
import torch
from glip_reference import GT_BOXES, MODELS, counts, expected, needs_reference
from torch import Tensor

from openvocab.detection.location_targets import match_locations
from openvocab.losses import token_focal

NONE = torch.full((5,), -1)


def batch(seed: int = 0) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """Logits, matches, tokens of objects and valid tokens of two images; the second has no object."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 5, 6, generator=generator)
    matches = [torch.tensor([-1, 1, 0, -1, 1]), NONE]
    tokens = [torch.tensor([[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]).bool(), torch.zeros(0, 6, dtype=torch.bool)]
    return logits, matches, tokens, torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]).bool()


def in_loops(logits: Tensor, matches: list[Tensor], tokens: list[Tensor], is_token: Tensor, alpha: float, gamma: float):
    total, positives = 0.0, 0
    for image in range(len(logits)):
        for location, match in enumerate(matches[image].tolist()):
            positives += match >= 0
            for token in is_token[image].nonzero()[:, 0].tolist():
                target = match >= 0 and bool(tokens[image][match, token])
                score = 1 / (1 + math.exp(-logits[image, location, token].item()))
                correct, weight = (score, alpha) if target else (1 - score, 1 - alpha)
                total -= weight * (1 - correct) ** gamma * math.log(correct)
    return total / max(1, positives)


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_the_official_loss(model):
    logits, tokens = expected(f"{model}_dot_logits"), expected(f"{model}_positive_map")
    matches = match_locations(expected(f"{model}_anchors"), counts(model), GT_BOXES)
    is_token = torch.ones(1, logits.shape[1], dtype=torch.bool)
    loss = token_focal(logits[None], [matches], [tokens], is_token)
    assert loss.item() == pytest.approx(expected(f"{model}_loss_dot_product_token").item(), rel=1e-5)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 1.5)])
def test_equals_loops_over_locations_and_tokens(alpha, gamma):
    loss = token_focal(*batch(), alpha=alpha, gamma=gamma)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(in_loops(*batch(), alpha, gamma), rel=1e-5)


def test_a_batch_without_objects_has_the_loss_of_its_negatives():
    logits, _, tokens, is_token = batch()
    logits.requires_grad_()
    loss = token_focal(logits, [NONE, NONE], tokens, is_token)
    assert loss.item() == pytest.approx(in_loops(logits, [NONE, NONE], tokens, is_token, 0.25, 2.0), rel=1e-5)
    loss.backward()
    assert (logits.grad[is_token[:, None].expand_as(logits)] > 0).all()


def test_padding_is_not_read():
    logits, matches, tokens, is_token = batch()
    loss = token_focal(logits, matches, tokens, is_token)
    padded = logits.masked_fill(~is_token[:, None], torch.nan).requires_grad_()
    same = token_focal(padded, matches, tokens, is_token)
    same.backward()
    assert torch.equal(loss, same)
    assert padded.grad.isfinite().all()
    assert not padded.grad[~is_token[:, None].expand_as(padded)].any()


def test_bfloat16_logits_are_summed_in_float32():
    logits, *others = batch()
    logits = logits.bfloat16()
    loss = token_focal(logits, *others)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, token_focal(logits.float(), *others))


def test_gradients_are_right():
    logits, *others = batch()
    assert torch.autograd.gradcheck(lambda x: token_focal(x, *others), logits.double().requires_grad_())
