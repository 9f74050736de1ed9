"""ViLD: what each variant learns from and scores by, new names, padding and mirrors, and mistakes.

Equality with torchvision's detector is in `tests/detection/test_class_agnostic_mask_rcnn.py`.
"""

import pytest
import torch
import torch.nn.functional as F
from detection_parts import (
    SPEC,
    TEXT_DIM,
    VOCABULARY,
    WITH_UNSEEN,
    detector_args,
    enliven,
    make_boxes,
    make_features,
    make_regions,
    make_samples,
    make_text,
    total,
)
from torch import nn

from openvocab.detection.region_outputs import RegionOutputs
from openvocab.heads.vild import ViLDHead
from openvocab.structures import ImageFeatures, Instances, Regions, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

SIZE = (64, 96)
DETECTOR_LOSSES = {"loss_rpn_objectness", "loss_rpn_box", "loss_box", "loss_mask"}
VARIANTS = ("text", "image", "vild", "ensemble")


def make_head(variant: str = "ensemble", **arguments) -> ViLDHead:
    torch.manual_seed(0)
    arguments = {"detector": detector_args(), "temperature": 0.1, **arguments}
    return enliven(ViLDHead(SPEC, TEXT_DIM, variant=variant, **arguments), seed=1).eval()


def losses_of(head: ViLDHead, samples=None, features=None, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return head.loss(features or make_features(SIZE), make_text(), samples or make_samples(SIZE))


def predict(head: ViLDHead, vocabulary: Vocabulary = VOCABULARY, text: TextFeatures | None = None):
    samples = make_samples(SIZE)
    for sample in samples:
        sample.vocabulary, sample.instances, sample.regions = vocabulary, None, None
    with torch.no_grad():
        return head.postprocess(head(make_features(SIZE), text or make_text(len(vocabulary))), samples)


# --- variants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant, further",
    [
        ("text", {"loss_class"}),
        ("image", {"loss_distill"}),
        ("vild", {"loss_class", "loss_distill"}),
        ("ensemble", {"loss_class", "loss_distill"}),
    ],
)
def test_what_each_variant_learns_from(variant, further):
    head = make_head(variant).train()
    losses = losses_of(head)
    assert set(losses) == DETECTOR_LOSSES | further
    total(losses).backward()
    assert all(loss.ndim == 0 and loss.isfinite() and loss > 0 for loss in losses.values())
    assert all(parameter.grad is not None for parameter in head.parameters())  # no weight is idle


def test_scores_of_each_variant_by_hand():
    """Two regions, classes a (base) and b (novel); softmax written out."""
    text_logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    image_logits = torch.tensor([[0.3, -0.7], [2.0, 1.0]])
    vocabulary = Vocabulary.from_names(["a", "b"], unseen=["b"])
    objectness = torch.tensor([0.9, 0.2])
    against_background = text_logits.exp() / text_logits.exp().sum(dim=1, keepdim=True)
    among_classes = image_logits.exp() / image_logits.exp().sum(dim=1, keepdim=True)
    text, image = against_background[:, :2], among_classes
    fused = torch.stack([(text[:, 0] ** 2 * image[:, 0]) ** (1 / 3), (text[:, 1] * image[:, 1] ** 2) ** (1 / 3)], dim=1)
    cases = {
        "text": (text_logits, None, text),
        "vild": (text_logits, None, text),
        "image": (None, image_logits, (image * objectness[:, None]) ** 0.5),
        "ensemble": (text_logits, image_logits, fused),
    }
    for variant, (of_text, of_image, expected) in cases.items():
        outputs = RegionOutputs([], [torch.zeros(2, 4)], objectness, of_text, of_image)
        torch.testing.assert_close(make_head(variant).scores(outputs, vocabulary), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_hold_the_background_in_the_text_logits_only(variant):
    with torch.no_grad():
        outputs = make_head(variant)(make_features(SIZE), make_text())
    count = sum(len(boxes) for boxes in outputs.boxes)
    assert (outputs.text_logits is None) == (variant == "image")
    assert (outputs.image_logits is None) == (variant in ("text", "vild"))
    if outputs.text_logits is not None:
        assert outputs.text_logits.shape == (count, 6)
    if outputs.image_logits is not None:
        assert outputs.image_logits.shape == (count, 5)
    assert outputs.logits.shape == (count, 5) and outputs.objectness.shape == (count,)


def test_branches_of_the_ensemble_share_nothing_but_the_maps():
    head = make_head("ensemble").train()
    losses = losses_of(head)
    taught = gradients(head, losses["loss_distill"])
    named = gradients(head, losses["loss_class"])
    both = taught & named
    assert both and all(name.startswith("detector.pyramid.") for name in both)
    whole = {name for name, _ in head.named_parameters()}
    vild = make_head("vild").train()
    losses = losses_of(vild)
    both = gradients(vild, losses["loss_distill"]) & gradients(vild, losses["loss_class"])
    assert any(name.startswith("detector.box_head.") for name in both)
    extra = whole - {name for name, _ in vild.named_parameters()}
    assert extra and extra <= taught and not extra & named


def gradients(head: ViLDHead, loss: torch.Tensor) -> set[str]:
    """Return the names of the parameters that a loss reaches."""
    names, parameters = zip(*head.named_parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {name for name, gradient in zip(names, found) if gradient is not None and gradient.any()}


def test_the_teacher_does_not_move_boxes_and_masks_of_an_ensemble_and_crops_do():
    head, samples = make_head("ensemble"), make_samples(SIZE)
    before = losses_of(head, samples)
    for sample in samples:
        sample.regions = Regions(sample.regions.boxes, sample.regions.embed.flip(0))
    after = losses_of(head, samples)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"loss_distill"}


@pytest.mark.parametrize("variant, calls", [("text", 1), ("image", 1), ("vild", 1), ("ensemble", 2)])
def test_a_box_head_that_serves_both_takes_sampled_and_taught_regions_in_one_batch(variant, calls):
    """One set of batch statistics, as in the official code."""
    head = make_head(variant, detector=detector_args(box_head=dict(convs=1, conv_dim=8, dim=20, norm="batch"))).train()
    sizes = []
    for part in (head.detector.box_head, head.image_box_head):
        if part is not None:
            part.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    samples = make_samples(SIZE, regions=4)
    losses_of(head, samples)
    taught = sum(len(sample.regions.boxes) for sample in samples)
    assert len(sizes) == calls and taught == 8
    sampled = sum(sizes) - (0 if variant == "text" else taught)
    assert 0 < sampled <= 2 * 24
    if variant == "ensemble":
        assert sizes[1] == taught


# --- distillation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["image", "vild", "ensemble"])
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_distillation_is_the_weighted_distance_to_the_teacher(variant, weight):
    head, samples, features = make_head(variant, distill_weight=weight), make_samples(SIZE), make_features(SIZE)
    samples[0].regions = make_regions(7, SIZE, seed=9)
    loss = losses_of(head, samples, features)["loss_distill"]
    box_head = head.image_box_head if variant == "ensemble" else head.detector.box_head
    classifier = head.image_classifier if variant == "ensemble" else head.classifier
    read = head.detector.align(head.detector.pyramid(features), [sample.regions.boxes for sample in samples])
    student = classifier.project(box_head(read))
    student = student / student.norm(dim=1, keepdim=True)
    teacher = torch.cat([sample.regions.embed for sample in samples])
    torch.testing.assert_close(loss, weight * TEXT_DIM * (student - teacher).abs().mean())


def test_a_teacher_that_says_what_the_student_says_has_nothing_to_teach():
    head, samples, features = make_head("vild"), make_samples(SIZE), make_features(SIZE)
    boxes = [sample.regions.boxes for sample in samples]
    embed = head.classifier.embed(head.detector.box_head(head.detector.align(head.detector.pyramid(features), boxes)))
    for sample, part in zip(samples, embed.detach().split([4, 4])):
        sample.regions = Regions(sample.regions.boxes, part)
    assert losses_of(head, samples, features)["loss_distill"] < 1e-4


def test_regions_of_an_image_without_any_are_left_out():
    head, samples, features = make_head("ensemble").train(), make_samples(SIZE), make_features(SIZE)
    first = ImageFeatures(SIZE, hidden={i: level[:1] for i, level in features.hidden.items()})
    alone = losses_of(head, samples[:1], first)["loss_distill"]
    none = Regions(torch.zeros(0, 4), torch.zeros(0, TEXT_DIM))
    samples[1].regions = none
    torch.testing.assert_close(losses_of(head, samples, features)["loss_distill"], alone)
    samples[0].regions = none
    losses = losses_of(head, samples)
    total(losses).backward()
    assert losses["loss_distill"] == 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())


def mirror_weights(module: nn.Module, box_head: nn.Sequential, region_size: int = 7) -> None:
    """Make every convolution, and what flattens a region, the same from left to right."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.copy_((part.weight + part.weight.flip(3)) / 2)
        first = next(part for part in box_head.modules() if isinstance(part, nn.Linear))
        cells = first.weight.unflatten(1, (-1, region_size, region_size))
        first.weight.copy_(((cells + cells.flip(3)) / 2).flatten(1))


def mirrored(boxes: torch.Tensor) -> torch.Tensor:
    return torch.stack([SIZE[1] - boxes[:, 2], boxes[:, 1], SIZE[1] - boxes[:, 0], boxes[:, 3]], dim=1)


def test_a_mirrored_image_with_mirrored_regions_learns_the_same():
    """The official parser mirrors an image and leaves its regions: half of them then show something else."""
    head, samples, features = make_head("vild"), make_samples(SIZE), make_features(SIZE)
    mirror_weights(head.detector.pyramid, head.detector.box_head)
    mirror_weights(head.detector.box_head, head.detector.box_head)
    expected = losses_of(head, samples, features)["loss_distill"]
    flipped = ImageFeatures(SIZE, hidden={i: level.flip(3) for i, level in features.hidden.items()})
    misplaced = losses_of(head, samples, flipped)["loss_distill"]
    for sample in samples:
        sample.regions = Regions(mirrored(sample.regions.boxes), sample.regions.embed)
    torch.testing.assert_close(losses_of(head, samples, flipped)["loss_distill"], expected, atol=1e-4, rtol=1e-4)
    assert abs(misplaced - expected) > 1e-3


def test_padding_does_not_change_what_the_teacher_says():
    """Maps that end in zeros, as an image ends in padding; convolutions pad with zeros too."""
    head, samples, features = make_head("vild"), make_samples(SIZE), make_features(SIZE)
    for part in head.detector.pyramid.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.zeros_(part.bias)
    for sample in samples:  # a region that ends at the image's edge would read half a pixel beyond it
        sample.regions.boxes = sample.regions.boxes.clamp(max=46)
    padded = {i: F.pad(level, (0, 32 // s, 0, 32 // s)) for (i, level), s in zip(features.hidden.items(), (4, 8, 16))}
    loss = losses_of(head, samples, features)["loss_distill"]
    wider = losses_of(head, samples, ImageFeatures((96, 128), hidden=padded))["loss_distill"]
    torch.testing.assert_close(wider, loss)


# --- classes ----------------------------------------------------------------------------------------------------------


def test_unseen_classes_leave_the_class_loss_in_two_ways():
    samples = make_samples(SIZE, vocabulary=WITH_UNSEEN)
    for sample in samples:
        sample.instances.classes = torch.tensor([0, 1, 3])
    losses = {}
    for unseen_logits in ("minus infinity", "zero"):
        head = make_head("text", unseen_logits=unseen_logits)
        losses[unseen_logits] = losses_of(head, samples)["loss_class"]
    some = make_samples(SIZE, vocabulary=WITH_UNSEEN.subset([0, 1, 3]))
    for sample in some:
        sample.instances.classes = torch.tensor([0, 1, 2])
    torch.manual_seed(0)
    head, text = make_head("text"), make_text()
    torch.manual_seed(0)
    without = head.loss(make_features(SIZE), TextFeatures(text.embed[[0, 1, 3]], text.logit_scale), some)["loss_class"]
    torch.testing.assert_close(losses["minus infinity"], without)
    assert losses["zero"] > losses["minus infinity"] + 1e-4


def test_an_object_of_an_unseen_class_never_teaches_in_silence():
    samples = make_samples(SIZE, vocabulary=WITH_UNSEEN)
    samples[0].instances.classes = torch.tensor([0, 2, 3])  # 2 is unseen
    for unseen_logits in ("minus infinity", "zero"):
        with pytest.raises(ValueError, match="objects of unseen classes have labels"):
            losses_of(make_head("text", unseen_logits=unseen_logits), samples)


def test_temperatures_of_training_and_test():
    text, features = make_text(), make_features(SIZE)
    with torch.no_grad():
        plain = make_head("ensemble", temperature=0.01)(features, text)
        other = make_head("ensemble", temperature=0.01, test_temperature=0.007)(features, text)
    torch.testing.assert_close(other.text_logits, plain.text_logits / 0.7, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(other.image_logits, plain.image_logits / 0.7, atol=1e-3, rtol=1e-4)
    for name, loss in losses_of(make_head("ensemble", temperature=0.01)).items():
        torch.testing.assert_close(
            losses_of(make_head("ensemble", temperature=0.01, test_temperature=0.007))[name], loss
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_new_names_at_test_time_change_only_the_classes(variant):
    head, text = make_head(variant), make_text(8)
    with torch.no_grad():
        few = head(make_features(SIZE), TextFeatures(text.embed[[5, 2]], text.logit_scale))
        many = head(make_features(SIZE), text)
    for boxes, others in zip(few.boxes, many.boxes, strict=True):
        assert torch.equal(boxes, others)
    assert torch.equal(few.objectness, many.objectness)
    torch.testing.assert_close(few.logits, many.logits[:, [5, 2]])


def test_thousands_of_names_in_one_pass():
    vocabulary = Vocabulary.from_names([f"name {i}" for i in range(3000)], unseen=["name 7"])
    for prediction in predict(make_head("ensemble"), vocabulary):
        assert len(prediction.boxes) == 15 and prediction.vocabulary is vocabulary
        assert prediction.boxes.dtype == prediction.scores.dtype == torch.float32
        assert 0 <= prediction.classes.min() and prediction.classes.max() < 3000


def test_a_background_class_among_the_names_is_never_detected():
    vocabulary = Vocabulary.from_names(["cat", "other", "dog"], background="other")
    for variant in VARIANTS:
        for prediction in predict(make_head(variant), vocabulary):
            assert len(prediction.boxes) and 1 not in prediction.classes


def test_fused_scores_prefer_novel_classes_that_clip_prefers():
    """The same head scores a class otherwise once the vocabulary calls it unseen."""
    head = make_head("ensemble")
    with torch.no_grad():
        outputs = head(make_features(SIZE), make_text())
        plain, flagged = head.scores(outputs, VOCABULARY), head.scores(outputs, WITH_UNSEEN)
    text = outputs.text_logits.softmax(1)[:, :-1]
    image = outputs.image_logits.softmax(1)
    torch.testing.assert_close(plain, (text * image).sqrt())
    torch.testing.assert_close(flagged[:, 2] ** 3, text[:, 2] * image[:, 2] ** 2)
    torch.testing.assert_close(flagged[:, 0] ** 3, text[:, 0] ** 2 * image[:, 0])


# --- precision and proposals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_keeps_losses_finite_and_boxes_in_float32(variant):
    head = make_head(variant, detector=detector_args(box_head=dict(convs=1, conv_dim=8, dim=20, norm="group"))).train()
    exact = losses_of(head)
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(head)
        outputs = head.eval()(make_features(SIZE), make_text())
    total(losses).backward()
    for name, loss in losses.items():
        assert loss.dtype == torch.float32 and loss.isfinite()
        torch.testing.assert_close(loss, exact[name], rtol=0.3, atol=0.1)  # another region may be drawn
    assert (
        {boxes.dtype for boxes in outputs.boxes} == {outputs.objectness.dtype, outputs.logits.dtype} == {torch.float32}
    )


def test_a_head_cast_to_bfloat16_predicts_on_the_cpu():
    features, head = make_features(SIZE), make_head("ensemble")
    exact = predict(head)
    features.hidden = {i: level.bfloat16() for i, level in features.hidden.items()}
    samples = make_samples(SIZE)
    with torch.no_grad():
        predictions = head.bfloat16().postprocess(head(features, make_text()), samples)
    for found, other in zip(predictions, exact, strict=True):
        assert found.boxes.dtype == found.scores.dtype == torch.float32
        assert (found.scores - other.scores).abs().mean() < 0.05
        assert (found.boxes % 1 != 0).any()


def test_proposals_are_what_the_second_stage_sees():
    head, features = make_head("text"), make_features(SIZE)
    with torch.no_grad():
        boxes, objectness = head.proposals(features)
        outputs = head(features, make_text())
    assert torch.equal(torch.cat(objectness), outputs.objectness)
    assert [len(found) for found in boxes] == [len(found) for found in outputs.boxes]
    assert all((found.diff() <= 0).all() for found in objectness)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_objects_no_regions_no_proposals(variant):
    head, samples = make_head(variant).train(), make_samples(SIZE)
    nn.init.constant_(head.detector.proposal_network.head.bbox_pred.bias, 1e4)  # all beyond the image
    for sample in samples:
        sample.instances = Instances(
            torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, *SIZE, dtype=torch.bool)
        )
        sample.regions = Regions(torch.zeros(0, 4), torch.zeros(0, TEXT_DIM))
    losses = losses_of(head, samples)
    total(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(loss == 0 for name, loss in losses.items() if not name.startswith("loss_rpn"))
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
    for prediction in predict(head.eval()):
        assert prediction.boxes.shape == (0, 4) and prediction.masks == []


def test_missing_targets_are_named_with_the_fix():
    head, samples = make_head("vild"), make_samples(SIZE)
    samples[1].regions = None
    with pytest.raises(ValueError, match="'image1' has no regions.*LoadRegions.*variant='text'"):
        losses_of(head, samples)
    assert "loss_distill" not in losses_of(make_head("text"), samples)
    samples[1].instances = None
    with pytest.raises(ValueError, match="'image1' has no instances"):
        losses_of(head, samples)


def test_a_teacher_of_another_clip_is_named():
    samples = make_samples(SIZE)
    for sample in samples:
        sample.regions = make_regions(4, SIZE, dim=TEXT_DIM + 4)
    with pytest.raises(ValueError, match="the teacher as .*16.*one CLIP"):
        losses_of(make_head("vild"), samples)


def test_different_vocabularies_in_one_batch_are_named():
    samples = make_samples(SIZE)
    samples[1].vocabulary = WITH_UNSEEN
    with pytest.raises(ValueError, match="different vocabularies"):
        losses_of(make_head("text"), samples)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(variant="both"), "variant: expected one of .*ensemble.*got 'both'"),
        (dict(unseen_logits="-inf"), "unseen_logits: expected one of"),
        (dict(temperature=0), "temperature: expected more than 0"),
        (dict(test_temperature=0), "temperature: expected more than 0"),
        (dict(test_temperature=-0.1), "temperature: expected more than 0"),
        (dict(base_weight=-0.5), "base_weight: expected 0..1"),
        (dict(novel_weight=2), "novel_weight: expected 0..1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_head(**{"variant": "vild", **arguments})


def test_boxes_outside_the_image_are_read_as_zeros_and_do_not_fail():
    samples = make_samples(SIZE)
    samples[0].regions = Regions(make_boxes(3, SIZE) + 500, F.normalize(torch.randn(3, TEXT_DIM), dim=1))
    assert losses_of(make_head("vild"), samples)["loss_distill"].isfinite()
