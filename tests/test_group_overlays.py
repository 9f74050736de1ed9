"""Pictures of groups."""

import numpy as np
import pytest
from config_parts import REPOSITORY, without_weights
from mmengine.registry import init_default_scope

from openvocab.config.config import read_config
from openvocab.group_overlays import draw_groups, find_groups
from openvocab.predictor import Predictor
from openvocab.registry import MODELS

CONFIG = REPOSITORY / "configs" / "groupvit_shapes.py"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    init_default_scope("openvocab")
    return Predictor(MODELS.build(without_weights(read_config(CONFIG).model.to_dict())))


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def test_every_pixel_of_the_photo_has_a_group_at_each_stage(predictor: Predictor, photo: np.ndarray):
    stages = find_groups(predictor, photo)
    assert [groups.shape for groups in stages] == [(50, 70)] * 2
    for groups, stage in zip(stages, predictor.model.head.transformer.stages):
        assert groups.max() < stage.group_tokens.shape[1]


def test_the_picture_has_the_photo_and_one_panel_a_stage(photo: np.ndarray):
    first, second = np.zeros((50, 70), np.uint8), np.tile(np.arange(70, dtype=np.uint8) // 10, (50, 1))
    one, two = draw_groups(photo, [first]), draw_groups(photo, [first, second])
    assert two.dtype == np.uint8 and two.shape[0] == one.shape[0] and 1.4 < two.shape[1] / one.shape[1] < 1.6


def test_another_head_has_no_groups(photo: np.ndarray):
    config = read_config(REPOSITORY / "configs" / "dense_clip_shapes.py")
    model = MODELS.build(without_weights(config.model.to_dict()))
    with pytest.raises(TypeError, match="DenseCLIPHead"):
        find_groups(Predictor(model), photo)
