"""Whole detectors, from config and checkpoint to boxes and masks in the frame of the photo."""

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.registry import DefaultScope
from pycocotools import mask as coco_mask

from openvocab import load
from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.config.config import read_config
from openvocab.drawing.box_drawing import draw_detections
from openvocab.predictor import Predictor
from openvocab.registry import MODELS
from openvocab.teacher.detector_proposals import DetectorProposals

NAMES = ["red circle", "blue star", "green ring"]


@pytest.fixture(scope="module", params=["vild_text_shapes", "vild_shapes", "fvlm_shapes"])
def detector(request, tmp_path_factory):
    """Path of a config, the same model with random weights, and their checkpoint."""
    path = REPOSITORY / "configs" / f"{request.param}.py"
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("openvocab"):
        model = MODELS.build(without_weights(read_config(path).model.to_dict()))
    checkpoint = tmp_path_factory.mktemp(request.param) / "model.pth"
    save_checkpoint({"state_dict": model.state_dict()}, checkpoint)
    return path, model, checkpoint


@pytest.fixture(scope="module")
def photos():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, size, dtype=np.uint8) for size in ((64, 64, 3), (50, 90, 3))]


def test_a_loaded_detector_answers_in_the_frame_of_each_photo(detector, photos):
    path, model, checkpoint = detector
    predictions = load(path, checkpoint, device="cpu").predict_batch(photos, NAMES)
    unprepared = Predictor(model).predict_batch(photos, NAMES)
    for photo, actual, expected in zip(photos, predictions, unprepared, strict=True):
        height, width = photo.shape[:2]
        assert 0 < len(actual.boxes) == len(actual.scores) == len(actual.classes) == len(actual.masks) <= 100
        assert (actual.boxes >= 0).all() and (actual.boxes <= torch.tensor([width, height, width, height])).all()
        assert (actual.scores.diff() <= 0).all() and actual.classes.max() < len(NAMES)
        assert coco_mask.decode(actual.masks).shape == (height, width, len(actual.masks))
        torch.testing.assert_close(actual.boxes[:20], expected.boxes[:20], atol=1e-2, rtol=1e-3)
        torch.testing.assert_close(actual.scores, expected.scores, atol=1e-4, rtol=1e-3)
        assert draw_detections(photo, actual).ndim == 3


def test_its_proposals_are_those_of_its_head(detector, photos):
    path, model, checkpoint = detector
    if not model.head.makes_proposals:
        pytest.skip(f"{type(model.head).__name__} makes no proposals")
    source = DetectorProposals(str(path), str(checkpoint), per_image=20, min_side=0.0, device="cpu")
    photo = photos[0]
    boxes, objectness = source({"img": photo[..., ::-1], "sample_id": "a", "ori_shape": photo.shape[:2]})
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.backbone.mean, model.backbone.std))
    images = (torch.from_numpy(photo).permute(2, 0, 1).float() - mean) / std
    with torch.inference_mode():
        (expected,), (sure,) = model.eval().head.proposals(model.encode(images[None]))
    assert len(boxes) == 20
    torch.testing.assert_close(boxes, expected[:20], atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(objectness, sure[:20], atol=1e-4, rtol=1e-3)
