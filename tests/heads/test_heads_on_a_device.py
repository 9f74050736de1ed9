"""Every registered head on a device: it trains a step there and predicts what it predicts on the CPU."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from test_head_contract import FEW, MANY, case, make_batch  # noqa: F401, the fixture `case`

from openvocab.engine.muon import Muon
from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.structures import DetectionPrediction, SemanticPrediction

SIZE = (64, 64)


def losses_of(model, device, seed, amp=None):
    """Return the losses of one batch under autocast or not, and the wrapper that can step."""
    torch.manual_seed(seed)
    batch = model.data_preprocessor(make_batch(FEW, SIZE, prompts=model.head.reads_phrases), True)
    wrapper = SafeOptimWrapper(Muon([p for p in model.parameters() if p.requires_grad], lr=1e-3), amp=amp)
    with wrapper.optim_context(model):
        losses = model(**batch, mode="loss")
    return losses, wrapper


def draws_randomly(model):
    """Whether two seeds give two losses: the draws of two devices differ."""
    first, second = (losses_of(copy.deepcopy(model).train(), "cpu", seed)[0] for seed in (0, 1))
    return any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("amp", [None, "bf16"])
def test_trains_a_step(case, device, amp):  # noqa: F811
    if not case.trainable:
        pytest.skip("nothing to train")
    model = copy.deepcopy(case.model).train().to(device)
    losses, wrapper = losses_of(model, device, 0, amp)
    assert all(value.device.type == device and value.isfinite() for value in losses.values())
    if amp is None and not draws_randomly(case.model):
        expected, _ = losses_of(copy.deepcopy(case.model).train(), "cpu", 0)
        for name, value in expected.items():
            torch.testing.assert_close(losses[name].cpu(), value, atol=1e-3, rtol=1e-3)
    before = [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]
    wrapper.update_params(sum(losses.values()))
    after = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.device.type == device and parameter.isfinite().all() for parameter in after)
    assert any(not torch.equal(*pair) for pair in zip(before, after))


@pytest.mark.parametrize("vocabulary", [FEW, MANY], ids=["few", "many"])
def test_predicts_what_the_cpu_predicts(case, device, vocabulary):  # noqa: F811
    batch = make_batch(vocabulary, SIZE)
    model = copy.deepcopy(case.model).eval().to(device)
    with torch.no_grad():
        expected = case.model.eval()(**case.model.data_preprocessor(batch), mode="predict")
        predictions = model(**model.data_preprocessor(batch), mode="predict")
    for want, got in zip(expected, predictions, strict=True):
        assert_on_the_cpu(got)
        if isinstance(got, SemanticPrediction):
            assert got.label_map.shape == want.label_map.shape
            assert np.mean(got.label_map != want.label_map) < 0.02
        elif isinstance(got, DetectionPrediction):
            assert len(got.scores) == len(want.scores)
            torch.testing.assert_close(got.scores, want.scores, atol=1e-3, rtol=1e-2)
        else:
            torch.testing.assert_close(got.logits, want.logits, atol=1e-3, rtol=1e-3)


def assert_on_the_cpu(prediction):
    """Metrics read what they get as numpy arrays."""
    values = {field.name: getattr(prediction, field.name) for field in dataclasses.fields(prediction)}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            assert value.device.type == "cpu", name
