"""OWLv2's head equals transformers', in boxes, logits, objectness and detections."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from openvocab.clip import open_clip_model
from openvocab.converters.owlv2 import convert
from openvocab.heads.owl import OWLHead, box_bias
from openvocab.inference.square_image import SquareImage
from openvocab.model import OpenVocabModel
from openvocab.predictor import Predictor
from openvocab.structures import BackboneSpec, ImageFeatures, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers")

NAMES = ["cat", "remote control", "sofa", "a very long name of a dog"]
TINY = dict(
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(image_size=96, layers=2, width=128, patch_size=16),
    text_cfg=dict(context_length=16, vocab_size=49408, width=64, heads=2, layers=2),
)


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    """A tiny OWLv2 of transformers with random weights, all of them: norms and biases, too."""
    torch.manual_seed(0)
    layers = dict(num_hidden_layers=2, num_attention_heads=2)
    config = transformers.Owlv2Config(
        text_config=dict(hidden_size=64, intermediate_size=256, **layers),
        vision_config=dict(hidden_size=128, intermediate_size=512, image_size=96, patch_size=16, **layers),
        projection_dim=64,
    )
    model = transformers.Owlv2ForObjectDetection(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:  # its own start values saturate every sigmoid
            parameter.data = torch.randn(parameter.shape) / parameter[0].numel() ** 0.5
        elif not name.endswith("logit_scale"):
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory) -> Iterator[OpenVocabModel]:
    folder = tmp_path_factory.mktemp("model_configs")
    (folder / "tiny-owl.json").write_text(json.dumps(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip_model, "CONFIG_FOLDER", folder)
        model = OpenVocabModel(
            backbone=dict(type="CLIPBackbone", model="tiny-owl"),
            text_encoder=dict(type="CLIPTextEncoder", model="tiny-owl", templates="none"),
            head=dict(type="OWLHead"),
            inference=dict(type="SquareImage"),
        )
        model.load_state_dict(convert(theirs.state_dict()))
        yield model.eval()


def their_inputs(ours: OpenVocabModel, names: list[str]) -> dict[str, torch.Tensor]:
    """Token ids of names, as transformers pads them, from the byte-pair encoding that both share."""
    import open_clip

    ids = open_clip.get_tokenizer("ViT-B-16")(names, context_length=16)
    return dict(input_ids=ids, attention_mask=(ids != 0).long())


def sample(size: tuple[int, int], vocabulary: Vocabulary, original: tuple[int, int] | None = None) -> Sample:
    return Sample("photo", vocabulary, original_size=original or size, input_size=size)


def photo(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed)).byte()


def their_outputs(theirs, ours, pixels: torch.Tensor, names: list[str]):
    with torch.no_grad():
        return theirs(pixel_values=pixels, **their_inputs(ours, names))


def xyxy(cxcywh: torch.Tensor, side: int) -> torch.Tensor:
    center, size = cxcywh.split(2, dim=-1)
    return side * torch.cat([center - size / 2, center + size / 2], dim=-1)


def test_boxes_logits_and_objectness_equal_those_of_transformers(theirs, ours):
    pixels = ours.data_preprocessor.pixels({"image": [photo(96, 96)], "sample": [sample((96, 96), None)]})
    images = pixels["images"].whole()
    expected = their_outputs(theirs, ours, images, NAMES)
    with torch.no_grad():
        features = ours.encode(images)
        outputs = ours.head(features, ours.encode_texts(Vocabulary.from_names(NAMES)))
        boxes, objectness = ours.head.proposals(features)
    assert expected.logits.std() > 0.1 and expected.pred_boxes.std() > 0.1
    torch.testing.assert_close(outputs.logits, expected.logits.transpose(1, 2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs.boxes / 96, xyxy(expected.pred_boxes, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.stack(boxes), outputs.boxes)
    expected_objectness = expected.objectness_logits.sigmoid()
    torch.testing.assert_close(torch.stack(objectness), expected_objectness, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (96, 40)])
def test_detections_equal_those_of_transformers_in_the_frame_of_the_photo(theirs, ours, size):
    """The processor pads to a square of black; no resize here, which each library does in its own way."""
    image = photo(*size)
    image_processor = transformers.Owlv2ImageProcessor(size=dict(height=96, width=96), do_resize=True)
    pixels = image_processor(image, return_tensors="pt")["pixel_values"]
    outputs = their_outputs(theirs, ours, pixels, NAMES)
    (expected,) = image_processor.post_process_object_detection(outputs, threshold=0.3, target_sizes=[size])
    prediction = Predictor(replaced(ours, min_score=0.3))(image.permute(1, 2, 0).numpy(), NAMES)
    limits = torch.tensor([size[1], size[0]] * 2)  # ours are clipped to the photo
    clipped = expected["boxes"].clamp(min=0).minimum(limits)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(dim=1)  # and those that lie outside are dropped
    order = expected["scores"].masked_fill(~inside, -1).argsort(descending=True)[: int(inside.sum())]
    assert len(order) > 3 and len(set(expected["labels"].tolist())) > 1
    torch.testing.assert_close(prediction.scores, expected["scores"][order], atol=1e-5, rtol=1e-5)
    assert prediction.classes.tolist() == expected["labels"][order].tolist()
    torch.testing.assert_close(prediction.boxes, clipped[order], atol=1e-3, rtol=1e-5)


def replaced(model: OpenVocabModel, **settings) -> OpenVocabModel:
    """The same model with other settings of its head."""
    head = OWLHead(model.backbone.spec, model.text_encoder.embed_dim, detections=settings)
    head.load_state_dict(model.head.state_dict())
    return OpenVocabModel(model.backbone, model.text_encoder, head, SquareImage())


def test_a_class_has_the_score_of_its_best_synonym(ours):
    image = photo(96, 96).permute(1, 2, 0).numpy()
    model = replaced(ours, one_class_per_box=False, max_detections=10_000)
    apart = Predictor(model)(image, Vocabulary.from_names(["cat", "sofa"]))
    merged = Predictor(model)(image, Vocabulary.from_names([["cat", "sofa"]], synonym_merge="max"))
    assert len(apart.scores) == 2 * len(merged.scores)
    scores = torch.zeros(36, 2)
    boxes = {tuple(box): row for row, box in enumerate(sorted(map(tuple, merged.boxes.tolist())))}
    for box, score, label in zip(apart.boxes.tolist(), apart.scores, apart.classes):
        scores[boxes[tuple(box)], label] = score
    torch.testing.assert_close(scores.amax(1).sort(descending=True).values, merged.scores)


def test_the_background_takes_its_boxes_and_is_not_detected(ours):
    image = photo(96, 96).permute(1, 2, 0).numpy()
    names = ["cat", "sofa", "other"]
    everything = Predictor(ours)(image, names)
    others = int((everything.classes == 2).sum())
    assert 0 < others < 36
    prediction = Predictor(ours)(image, Vocabulary.from_names(names, background="other"))
    assert len(prediction.scores) == 36 - others and 2 not in prediction.classes


def test_nms_and_the_limits_drop_the_weaker_boxes(ours):
    image = photo(96, 96).permute(1, 2, 0).numpy()
    everything = Predictor(ours)(image, NAMES)
    few = Predictor(replaced(ours, max_detections=5))(image, NAMES)
    assert torch.equal(few.scores, everything.scores[:5])
    apart = Predictor(replaced(ours, nms_iou=0.1))(image, NAMES)
    assert 0 < len(apart.scores) < len(everything.scores)


def test_half_precision_moves_boxes_by_less_than_a_hundredth(ours):
    images = photo(96, 96)[None].float() / 128 - 1
    with torch.no_grad():
        exact = ours.head(ours.encode(images), ours.encode_texts(Vocabulary.from_names(NAMES)))
        half = copy.deepcopy(ours).compute_in(torch.bfloat16)
        rounded = half.head(half.encode(images), half.encode_texts(Vocabulary.from_names(NAMES)))
    assert rounded.boxes.dtype == rounded.logits.dtype == torch.float32
    assert (rounded.boxes - exact.boxes).abs().max() < 0.05 * 96


def test_without_an_offset_a_box_is_a_patch_at_its_lower_right_corner():
    boxes = box_bias((2, 4)).sigmoid().reshape(2, 4, 4)
    np.testing.assert_allclose(boxes[0, 1], [0.5, 0.5, 0.25, 0.5], atol=1e-3)
    np.testing.assert_allclose(boxes[1, 3], [1.0, 1.0, 0.25, 0.5], atol=1e-3)


def test_a_backbone_without_a_class_token_is_an_error():
    head = OWLHead(BackboneSpec(8, 16, (8, 8), (16, 16)), text_dim=8)
    features = ImageFeatures((32, 32), hidden={1: torch.zeros(1, 8, 2, 2)})
    with pytest.raises(ValueError, match="class token"):
        head.proposals(features)


def test_another_vocabulary_costs_neither_the_tower_nor_the_head(ours):
    from torch.utils.flop_counter import FlopCounterMode

    image = photo(96, 96).permute(1, 2, 0).numpy()
    encoded = Predictor(ours).encode(image)
    encoded("cat, sofa")
    expected = Predictor(ours)(image, NAMES)  # also encodes the names
    with FlopCounterMode(display=False) as counter:
        second = encoded(NAMES)
    assert torch.equal(second.scores, expected.scores) and torch.equal(second.boxes, expected.boxes)
    assert counter.get_total_flops() == 2 * 36 * 64 * len(NAMES)  # the cosines alone


@pytest.mark.parametrize("wrong", [dict(nms_iou=1.5), dict(min_score=-1.0), dict(max_detections=0)])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OWLHead(BackboneSpec(8, 16, (8, 8), (16, 16)), text_dim=8, detections=wrong)


def test_training_is_refused(ours):
    with pytest.raises(ValueError, match="only predicts"):
        ours.head.loss(ImageFeatures((32, 32)), ours.encode_texts(Vocabulary.from_names(NAMES)), [])


def test_samples_keep_their_names(ours):
    vocabulary = Vocabulary.from_names(NAMES)
    items = [replace(sample((64, 96), vocabulary), sample_id=str(index)) for index in range(2)]
    data = {"image": [photo(64, 96), photo(64, 96, seed=1)], "sample": items}
    with torch.no_grad():
        predictions = ours.test_step(data)
        from_tensor = ours(**ours.data_preprocessor(data), mode="predict")
    assert [prediction.sample_id for prediction in predictions] == ["0", "1"]
    for prediction, other in zip(predictions, from_tensor):
        torch.testing.assert_close(prediction.boxes, other.boxes, atol=1e-4, rtol=1e-4)
