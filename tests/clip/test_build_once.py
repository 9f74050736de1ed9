"""For prediction, both towers come from one build; training draws what it has always drawn."""

import pytest
import torch

from openvocab.clip import open_clip_model
from openvocab.clip.build_once import built_once
from openvocab.clip.open_clip_model import create_clip, create_image_tower, create_text_side

MODEL = "ConvNet-8-shapes"


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "clip.pt"
    torch.save(create_clip(MODEL).state_dict(), path)
    return str(path)


@pytest.fixture
def builds(monkeypatch):
    """A list that counts the networks that are built."""
    calls, build = [], open_clip_model._build
    monkeypatch.setattr(open_clip_model, "_build", lambda config: (calls.append(1), build(config))[1])
    return calls


def equal(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_two_towers_are_one_build_with_the_weights_of_the_file(weights, builds):
    usual = create_clip(MODEL, weights)
    del builds[:]
    with built_once():
        image, text = create_image_tower(MODEL, weights), create_text_side(MODEL, weights)
        assert len(builds) == 1
        again = create_image_tower(MODEL, weights)
    assert len(builds) == 2 and again is not image  # nobody shares a tower
    assert equal(image, usual.visual) and equal(text.text, usual.text) and equal(again, usual.visual)
    assert torch.equal(text.logit_scale, usual.logit_scale)
    assert not any(module.training for module in (*image.modules(), *text.text.modules()))


def test_towers_of_different_weights_are_different_builds(weights, tmp_path, builds):
    other = tmp_path / "other.pt"
    torch.save({name: value + 1 for name, value in create_clip(MODEL, weights).state_dict().items()}, other)
    del builds[:]
    with built_once():
        create_image_tower(MODEL, weights)
        text = create_text_side(MODEL, str(other))
    assert len(builds) == 2 and equal(text.text, create_clip(MODEL, str(other)).text)


def test_random_weights_are_drawn_and_no_build_is_shared_outside(weights, builds):
    with built_once():
        torch.manual_seed(0)
        drawn = create_image_tower(MODEL)
    torch.manual_seed(0)
    assert equal(drawn, create_image_tower(MODEL))
    del builds[:]
    create_image_tower(MODEL, weights), create_text_side(MODEL, weights)
    assert len(builds) == 2


def test_a_training_draws_the_same_numbers_as_ever(weights):
    torch.manual_seed(0)
    create_clip(MODEL)
    expected = torch.rand(3)
    torch.manual_seed(0)
    create_image_tower(MODEL, weights)
    assert torch.equal(torch.rand(3), expected)
