"""Predictions equal those of transformers' own processors and postprocessing, for tiny models with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from tiny_models import NAMES

from openvocab.foreign.transformers_model import TransformersModel
from openvocab.predictor import Predictor
from openvocab.structures import DetectionPrediction, SemanticPrediction
from openvocab.vocabulary.vocabulary import Vocabulary

SIZES = [(90, 120), (75, 40)]
IN_ORDER = sorted(NAMES)


def photo(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def ours(folder: Path, size: tuple[int, int], names: Any, **settings) -> Any:
    return Predictor(TransformersModel(folder, **settings))(photo(size), names)


def theirs(folder: Path, kind: str, inputs: Callable[[Any], dict]) -> tuple[Any, Any]:
    """Return the processor of a folder, and the outputs of its model."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    network = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.no_grad():
        return processor, network(**inputs(processor))


def inside(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Boxes clipped to the photo, as ours are."""
    return boxes.clamp(min=0).minimum(torch.tensor([size[1], size[0]] * 2))


def assert_same(prediction: DetectionPrediction, expected: dict, size: tuple[int, int], minimum: int = 4) -> None:
    """Compare with transformers' `boxes`, `scores` and integer `labels`."""
    boxes = inside(expected["boxes"], size)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # ours are dropped where they lie outside the photo
    order = expected["scores"].masked_fill(~has_area, -1).argsort(descending=True, stable=True)[: int(has_area.sum())]
    assert len(order) >= minimum
    torch.testing.assert_close(prediction.scores, expected["scores"][order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prediction.boxes, boxes[order], atol=1e-3, rtol=1e-5)
    assert prediction.classes.tolist() == expected["labels"][order].tolist()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "kind"), [("owlvit", "OwlViTForObjectDetection"), ("owlv2", "Owlv2ForObjectDetection")]
)
def test_owl(saved, name, kind, size):
    processor, outputs = theirs(
        saved(name), kind, lambda processor: processor(text=[NAMES], images=photo(size), return_tensors="pt")
    )
    (expected,) = processor.post_process_grounded_object_detection(outputs, threshold=0.3, target_sizes=[size])
    assert len(set(expected["labels"].tolist())) > 1
    assert_same(ours(saved(name), size, NAMES, detections=dict(min_score=0.3)), expected, size)


@pytest.mark.parametrize("size", SIZES)
def test_omdet_turbo(saved, size):
    def inputs(processor: Any) -> dict:
        task = f"Detect {', '.join(IN_ORDER)}."
        return processor(photo(size), text=NAMES, task=task, return_tensors="pt")

    processor, outputs = theirs(saved("omdet-turbo"), "OmDetTurboForObjectDetection", inputs)
    (expected,) = processor.post_process_grounded_object_detection(
        outputs, threshold=0.3, nms_threshold=0.5, target_sizes=[size], max_num_det=50
    )
    assert len(set(expected["labels"].tolist())) > 1
    assert_same(ours(saved("omdet-turbo"), size, NAMES, detections=dict(min_score=0.3)), expected, size)


@pytest.mark.parametrize("score", ["max", "mean"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("grounding-dino", "GroundingDinoForObjectDetection"),
        ("mm-grounding-dino", "MMGroundingDinoForObjectDetection"),
    ],
)
def test_grounding_dino(saved, name, kind, size, score):
    processor, outputs = theirs(
        saved(name), kind, lambda processor: processor(text=[IN_ORDER], images=photo(size), return_tensors="pt")
    )
    every_pair = dict(one_class_per_box=False)
    prediction = ours(saved(name), size, NAMES, options=dict(phrase_score=score), detections=every_pair)
    # the score of a name, in a plain loop over the characters of the text that the processor has made
    text = ". ".join(IN_ORDER) + "."
    offsets = processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    of_tokens = outputs.logits[0].sigmoid()
    columns = []
    for label in NAMES:
        start = text.index(label)
        tokens = [index for index, (a, b) in enumerate(offsets) if start <= a < b <= start + len(label)]
        values = of_tokens[:, tokens]
        columns.append(values.max(1).values if score == "max" else values.mean(1))
    scores = torch.stack(columns, 1)  # (queries, names)
    (boxes,) = processor.post_process_grounded_object_detection(outputs, threshold=0, target_sizes=[size])
    labels = torch.arange(len(NAMES)).repeat(len(scores))
    repeated = boxes["boxes"].repeat_interleave(len(NAMES), dim=0)
    assert_same(prediction, dict(scores=scores.flatten(), labels=labels, boxes=repeated), size)
    if score == "max":  # transformers also counts the tokens of full stops, start and end
        best = scores.amax(1)
        by_name = torch.isclose(boxes["scores"], best, atol=1e-5)
        assert by_name.any() and (boxes["scores"] >= best - 1e-5).all()


def assert_same_labels(prediction: SemanticPrediction, expected: torch.Tensor) -> None:
    """All labels are equal, but for pixels in which two names are tied up to rounding."""
    assert (torch.from_numpy(prediction.label_map.astype(int)) == expected).float().mean() > 0.999


def assert_same_logits(folder: Path, size: tuple[int, int], expected: torch.Tensor) -> None:
    """Compare logits (K, h, w), and the labels of the predictor with those that they give at the size of the photo."""
    model = TransformersModel(folder)
    with torch.no_grad():
        texts = model.family.encode_texts(Vocabulary.from_names(NAMES))
        logits = model.family.logits(torch.from_numpy(photo(size)).permute(2, 0, 1), texts)
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    labels = F.interpolate(expected[None], size, mode="bilinear", align_corners=False)[0].argmax(0)
    assert_same_labels(Predictor(model)(photo(size), NAMES), labels)


@pytest.mark.parametrize("size", SIZES)
def test_clipseg(saved, size):
    def inputs(processor: Any) -> dict:
        images = [photo(size)] * len(NAMES)
        return processor(text=NAMES, images=images, padding=True, return_tensors="pt")

    _, outputs = theirs(saved("clipseg"), "CLIPSegForImageSegmentation", inputs)
    assert_same_logits(saved("clipseg"), size, outputs.logits)


@pytest.mark.parametrize("size", SIZES)
def test_group_vit(saved, size):
    def inputs(processor: Any) -> dict:
        squashed = dict(size=dict(height=64, width=64), do_center_crop=False)
        images = dict(processor.image_processor(photo(size), return_tensors="pt", **squashed))
        return images | dict(processor.tokenizer(NAMES, padding=True, return_tensors="pt"), output_segmentation=True)

    _, outputs = theirs(saved("groupvit"), "GroupViTModel", inputs)
    assert_same_logits(saved("groupvit"), size, outputs.segmentation_logits[0])
