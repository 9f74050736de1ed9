"""F-VLM: CLIP's own opinion of a region, what is trained and what is not, and mistakes."""

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from detection_parts import (
    SPEC,
    TEXT_DIM,
    WITH_UNSEEN,
    detector_args,
    enliven,
    make_boxes,
    make_samples,
    make_text,
    total,
)
from torch import Tensor, nn
from torchvision.ops import roi_align

from openvocab.backbones.clip import CLIPBackbone
from openvocab.detection.region_outputs import RegionOutputs
from openvocab.heads.fvlm import FVLMHead, ScoreRule
from openvocab.model import OpenVocabModel
from openvocab.structures import BackboneSpec, DetectionPrediction, ImageFeatures, Instances, TextFeatures
from openvocab.text.base import TextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

SIZE = (64, 96)
JOINT = BackboneSpec(TEXT_DIM, 16, SPEC.hidden_dims, SPEC.hidden_strides)
CONVNET = "ConvNet-8-shapes"
PROJECTION = torch.randn(10, TEXT_DIM, generator=torch.Generator().manual_seed(7))


class Texts(TextEncoder):
    """Random rows, the same for any vocabulary of the length."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed_dim = dim

    def forward(self, texts):
        return make_text(len(texts), self.embed_dim)

    def empty_text(self):
        return make_text(1, self.embed_dim).empty


def make_features(pool: bool = True, seed: int = 0, batch: int = 2) -> ImageFeatures:
    """Features whose pool is the mean of the region and a projection."""
    generator = torch.Generator().manual_seed(seed)
    grids = {i: (SIZE[0] // stride, SIZE[1] // stride) for i, stride in enumerate(JOINT.hidden_strides)}
    hidden = {i: torch.randn(batch, JOINT.hidden_dims[i], *grid, generator=generator) for i, grid in grids.items()}
    features = ImageFeatures(SIZE, hidden=hidden)
    if pool:
        features.pool = lambda regions: regions.mean(dim=(2, 3)) @ PROJECTION
    else:
        features.patch_embed = torch.einsum("bchw,cd->bdhw", hidden[2], PROJECTION)
    return features


def make_head(**arguments) -> FVLMHead:
    torch.manual_seed(0)
    arguments = {"detector": detector_args(), "temperature": 0.1, "clip_temperature": 0.2, **arguments}
    return enliven(FVLMHead(JOINT, TEXT_DIM, **arguments), seed=1).eval()


def predict(head: FVLMHead, vocabulary: Vocabulary = WITH_UNSEEN) -> list[DetectionPrediction]:
    samples = make_samples(SIZE, vocabulary=vocabulary)
    with torch.no_grad():
        return head.postprocess(head(make_features(), make_text(len(vocabulary))), samples)


# --- CLIP's opinion ---------------------------------------------------------------------------------------------------


def test_a_region_that_is_the_whole_image_is_embedded_as_the_image():
    """Of a map that is the same everywhere, so that it does not matter where a cell is read."""
    head, features = make_head(clip_region_size=6), make_features()
    whole = [torch.tensor([[0.0, 0, 96, 64]])] * 2
    features.hidden[2] = features.hidden[2].mean(dim=(2, 3), keepdim=True).expand(-1, -1, 4, 6)
    expected = F.normalize(features.hidden[2][:, :, 0, 0] @ PROJECTION, dim=1)
    torch.testing.assert_close(head.clip_embed(features, whole), expected)


def test_the_pool_of_the_tower_and_the_mean_of_patches_agree_where_both_are_linear():
    head, boxes = make_head(), [torch.tensor([[3.0, 5, 60, 44], [20, 20, 90, 60]]), torch.tensor([[0.0, 0, 32, 32]])]
    pooled = head.clip_embed(make_features(pool=True), boxes)
    patches = head.clip_embed(make_features(pool=False), boxes)
    assert pooled.shape == (3, TEXT_DIM)
    torch.testing.assert_close(pooled, patches, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooled.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("model", [CONVNET, "ViT-Ti-8-shapes"])
def test_regions_are_embedded_by_a_real_tower(model):
    torch.manual_seed(0)
    backbone = CLIPBackbone(model).eval()
    dim, last = backbone.spec.embed_dim, len(backbone.spec.hidden_dims) - 1
    layers = dict(layers=(1, 2), dim=8, factors=None if model == CONVNET else (2, 1), extra_levels=2)
    head = FVLMHead(backbone.spec, dim, detector_args(pyramid=layers), clip_region_size=4)
    assert head.layers == (1, 2, last)
    stride = backbone.spec.hidden_strides[last]
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 64, 64), head.layers)
        boxes = make_boxes(3, (64, 64))
        embed = head.clip_embed(features, [torch.zeros(0, 4), boxes])
        maps = features.patch_embed if features.pool is None else features.hidden[last]
        read = roi_align(maps[1:], [boxes], 4, 1 / stride, sampling_ratio=2, aligned=True)  # (3, C, 4, 4)
        expected = read.mean(dim=(2, 3)) if features.pool is None else features.pool(read)
    assert (features.pool is None) == (model != CONVNET)
    torch.testing.assert_close(embed, F.normalize(expected, dim=1))


def test_image_logits_are_cosines_of_that_embedding():
    head, features, text = make_head(), make_features(), make_text()
    with torch.no_grad():
        outputs = head(features, text)
        _, proposals = head.detector.propose(features)
        rows = torch.cat([text.embed, text.empty[None]])
        expected = head.clip_embed(features, proposals.boxes) @ rows.T / 0.2
    torch.testing.assert_close(outputs.image_logits, expected)
    assert outputs.text_logits.shape == (len(expected), 6)


def test_the_empty_text_is_the_background_of_both_classifiers_and_a_learned_one_of_the_trained_only():
    text, other = make_text(), make_text()
    other.empty = F.normalize(text.empty + 0.5 * text.embed[0], dim=0)
    head, features = make_head(), make_features()
    with torch.no_grad():
        first, second = head(features, text), head(features, other)
    for name in ("text_logits", "image_logits"):
        torch.testing.assert_close(getattr(first, name)[:, :-1], getattr(second, name)[:, :-1])
        assert not torch.allclose(getattr(first, name)[:, -1], getattr(second, name)[:, -1])
    learned = make_head(background="learned")
    assert "classifier.background" in dict(learned.named_parameters())
    assert "classifier.background" not in dict(head.named_parameters())
    with torch.no_grad():
        outputs = learned(features, TextFeatures(text.embed, text.logit_scale))
    assert outputs.text_logits.shape[1] == 6 and outputs.image_logits.shape[1] == 5


# --- scores -----------------------------------------------------------------------------------------------------------


def shares(logits: list[float]) -> list[float]:
    odds = [math.exp(logit) for logit in logits]
    return [each / sum(odds) for each in odds]


def scores_by_hand(text: list[float], image: list[float], weights: list[float], rule: str) -> list[float]:
    """Of one region, from the logits of both classifiers, background last."""
    count = len(weights)
    named = shares(text)
    seen_by_clip = shares(image) if rule == "with background" else shares(image[:count])
    fused = [t ** (1 - weight) * i**weight for t, i, weight in zip(named, seen_by_clip, weights)]
    whole = sum(fused) + named[-1] if rule == "with background" else 1
    return [score / whole for score in fused]


@pytest.mark.parametrize("rule", get_args(ScoreRule))
@pytest.mark.parametrize("background", ["empty text", "learned"])
@pytest.mark.parametrize("weights", [(0.2, 0.45), (0.35, 0.65)])
def test_detected_scores_are_those_of_the_rule_by_hand(weights, background, rule):
    detector = detector_args(masks=None, detections=dict(nms_iou=1.0, max_detections=15))
    head = make_head(
        base_weight=weights[0], novel_weight=weights[1], detector=detector, background=background, scores=rule
    )
    with torch.no_grad():
        outputs = head(make_features(), make_text())
    of_class = [weights[0 if seen else 1] for seen in WITH_UNSEEN.seen]
    logits = zip(outputs.text_logits.tolist(), outputs.image_logits.tolist())
    expected = torch.tensor([scores_by_hand(text, image, of_class, rule) for text, image in logits])
    count = len(outputs.boxes[0])
    (first, second) = head.postprocess(outputs, make_samples(SIZE, vocabulary=WITH_UNSEEN))
    torch.testing.assert_close(first.scores, expected[:count].flatten().topk(15).values)
    torch.testing.assert_close(second.scores, expected[count:].flatten().topk(15).values)


def test_classes_of_which_nobody_says_whether_they_had_labels_count_as_novel():
    outputs = RegionOutputs([], [torch.zeros(1, 4)], torch.ones(1))
    outputs.text_logits, outputs.image_logits = torch.tensor([[1.0, 0.2, 0.0]]), torch.tensor([[0.0, 2.0, 1.0]])
    head = make_head()
    unknown = head.scores(outputs, Vocabulary.from_names(["a", "b"]))
    assert torch.equal(unknown, head.scores(outputs, Vocabulary.from_names(["a", "b"], unseen=["a", "b"])))


def test_the_released_rule_and_cocos_weights_are_the_default():
    head = FVLMHead(JOINT, TEXT_DIM, detector_args())
    assert (head.base_weight, head.novel_weight) == (0.2, 0.45)
    assert (head.score_rule, head.empty_text, head.background_weight) == ("with background", True, 0.9)


def test_new_names_change_the_columns_only_and_may_be_thousands():
    head, text = make_head(), make_text(8)
    with torch.no_grad():
        few = head(make_features(), TextFeatures(text.embed[[5, 2]], text.logit_scale, empty=text.empty))
        many = head(make_features(), text)
    torch.testing.assert_close(few.image_logits, many.image_logits[:, [5, 2, 8]])
    torch.testing.assert_close(few.text_logits, many.text_logits[:, [5, 2, 8]])
    assert all(torch.equal(*pair) for pair in zip(few.boxes, many.boxes))
    names = Vocabulary.from_names(f"name {i}" for i in range(3000))
    assert all(len(prediction.boxes) == 15 for prediction in predict(head, names))


def test_a_background_class_among_the_names_is_never_detected():
    vocabulary = Vocabulary.from_names(["cat", "other", "dog"], background="other")
    assert all(len(found.boxes) and 1 not in found.classes for found in predict(make_head(), vocabulary))


# --- training ---------------------------------------------------------------------------------------------------------


def losses_of(head: FVLMHead, samples=None, features=None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return head.loss(features or make_features(), make_text(), samples or make_samples(SIZE))


def test_losses_are_those_of_a_detector_and_every_weight_learns():
    head = make_head().train()
    losses = losses_of(head)
    assert set(losses) == {"loss_rpn_objectness", "loss_rpn_box", "loss_box", "loss_mask", "loss_class"}
    total(losses).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_class_loss_leaves_unseen_classes_out():
    samples = make_samples(SIZE, vocabulary=WITH_UNSEEN)
    some = make_samples(SIZE, vocabulary=WITH_UNSEEN.subset([0, 1, 3]))
    for sample, other in zip(samples, some):
        sample.instances.classes, other.instances.classes = torch.tensor([0, 1, 3]), torch.tensor([0, 1, 2])
    head, text = make_head(), make_text()
    expected = losses_of(head, samples)["loss_class"]
    torch.manual_seed(0)
    some_text = TextFeatures(text.embed[[0, 1, 3]], text.logit_scale, empty=text.empty)
    loss = head.loss(make_features(), some_text, some)["loss_class"]
    torch.testing.assert_close(loss, expected)


def make_model(trainable: str) -> OpenVocabModel:
    torch.manual_seed(0)
    backbone = CLIPBackbone("ConvNet-8-shapes", trainable=trainable)
    pyramid = dict(layers=(1, 2), dim=8, extra_levels=2)
    head = FVLMHead(backbone.spec, backbone.spec.embed_dim, detector_args(pyramid=pyramid, masks=None))
    return OpenVocabModel(backbone, Texts(backbone.spec.embed_dim), head)


def model_losses(model: OpenVocabModel) -> dict[str, Tensor]:
    images = torch.randint(0, 256, (2, 3, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batch = model.data_preprocessor({"image": list(images), "sample": make_samples(SIZE)}, True)
    return model(**batch, mode="loss")


def test_a_frozen_backbone_stays_as_it_is():
    model = make_model("none").train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([part for part in model.parameters() if part.requires_grad], lr=0.01)
    total(model_losses(model)).backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    norms = [part for part in model.backbone.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert not any(part.training for part in (*norms, model.backbone.visual)) and model.head.training


def test_autocast_keeps_losses_finite_and_boxes_in_float32():
    head = make_head().train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(head)
        outputs = head.eval()(make_features(), make_text())
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert {boxes.dtype for boxes in outputs.boxes} == {outputs.image_logits.dtype, outputs.text_logits.dtype}
    assert outputs.boxes[0].dtype == torch.float32


def test_nothing_to_learn_from_is_finite_and_nothing_proposed_is_nothing_found():
    head, samples = make_head().train(), make_samples(SIZE)
    nn.init.constant_(head.detector.proposal_network.head.bbox_pred.bias, 1e4)  # all beyond the image
    for sample in samples:
        masks = torch.zeros(0, *SIZE, dtype=torch.bool)
        sample.instances = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), masks)
    losses = losses_of(head, samples)
    total(losses).backward()
    assert all(loss.isfinite() for loss in losses.values()) and losses["loss_class"] == 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
    assert all(prediction.boxes.shape == (0, 4) for prediction in predict(head.eval()))


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_a_backbone_without_joint_space_is_named():
    with pytest.raises(ValueError, match="embeds into None dimensions.*into 12.*one CLIP"):
        FVLMHead(SPEC, TEXT_DIM, detector_args())
    with pytest.raises(ValueError, match="into 12 dimensions.*into 16"):
        FVLMHead(JOINT, 16, detector_args())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(temperature=0), "temperature: expected more than 0"),
        (dict(clip_temperature=0), "clip_temperature: expected more than 0"),
        (dict(base_weight=1.5), "base_weight: expected 0..1"),
        (dict(novel_weight=-1), "novel_weight: expected 0..1"),
        (dict(scores="released"), "scores: expected one of with background"),
        (dict(background="none"), "background: expected one of None, learned, empty text"),
        (dict(background_weight=-0.1), "background_weight: expected 0 or more"),
        (dict(detector=detector_args(masks=dict(norm="bn"))), "norm: expected one of"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_head(**arguments)


def test_missing_objects_are_named():
    samples = make_samples(SIZE)
    samples[0].instances = None
    with pytest.raises(ValueError, match="'image0' has no instances"):
        losses_of(make_head(), samples)
    samples = make_samples(SIZE)
    samples[1].regions = None  # no teacher is needed
    assert losses_of(make_head(), samples)["loss_class"].isfinite()
