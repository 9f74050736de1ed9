"""Strategies of inference have one base class, by which the model knows what they can take."""

import pytest
from config_parts import CONFIGS, without_weights
from mmengine.config import Config

from openvocab.inference import MultiScaleFlip, SlidingWindow, UnpaddedSlidingWindow, UnpaddedWholeImage, WholeImage
from openvocab.inference.base import Inference
from openvocab.registry import INFERENCERS, MODELS


class Plain(Inference):
    """A user's own: neither maps nor batches of pixels."""

    def __call__(self, network, images, samples, black):
        return network(images)


def model_config():
    (path,) = [path for path in CONFIGS if path.name == "dense_clip_shapes.py"]
    return without_weights(Config.fromfile(path).model.to_dict())


def test_what_each_can_take():
    assert Plain.takes_logit_maps is Plain.reads_pixel_batches is MultiScaleFlip.takes_logit_maps is False
    assert WholeImage.takes_logit_maps and UnpaddedWholeImage.takes_logit_maps and SlidingWindow.takes_logit_maps
    assert SlidingWindow.reads_pixel_batches and UnpaddedSlidingWindow.reads_pixel_batches
    INFERENCERS.import_from_location()
    ours = [kind for kind in INFERENCERS.module_dict.values() if kind.__module__.startswith("openvocab.")]
    assert len(ours) == 6 and all(issubclass(kind, Inference) for kind in ours)


def test_a_users_own_is_taken_and_anything_else_refused():
    assert isinstance(MODELS.build({**model_config(), "inference": Plain()}).inference, Plain)
    with pytest.raises(TypeError, match=r"inference: expected a subclass of .*\.Inference, got function"):
        MODELS.build({**model_config(), "inference": lambda network, images, samples, black: network(images)})
