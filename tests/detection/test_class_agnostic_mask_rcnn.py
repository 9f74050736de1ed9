"""The two stages together: equal to torchvision's class-aware detector whose classes all have the same boxes and masks.

ViLD's text variant gives it words, since torchvision's detector has no other form.
"""

import pytest
import torch
from detection_parts import (
    DETECTOR,
    SPEC,
    TEXT_DIM,
    VOCABULARY,
    detector_args,
    enliven,
    make_boxes,
    make_features,
    make_instances,
    make_samples,
    make_text,
    total,
)
from pycocotools import mask as rle
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision_detector import MAPS, TinyBackbone, make_mask_rcnn, make_region_heads

from openvocab.detection.class_agnostic_mask_rcnn import ClassAgnosticMaskRCNN
from openvocab.detection.region_outputs import RegionOutputs
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.structures import DetectionPrediction, Instances, Sample
from openvocab.text.base import TextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

SIZE = (64, 96)
AS_TORCHVISION = detector_args(
    align=dict(canonical_size=224, canonical_stride=16, aligned=False),
    proposals=dict(DETECTOR["proposals"], box_loss_mean="samples"),
    box_loss=dict(beta=1 / 9, mean="regions"),
)


class FixedTexts(TextEncoder):
    """The same rows for any vocabulary of the length."""

    embed_dim = TEXT_DIM

    def forward(self, texts):
        return make_text(len(texts))


def make_head(**arguments) -> ViLDHead:
    torch.manual_seed(0)
    head = ViLDHead(SPEC, TEXT_DIM, **{"detector": AS_TORCHVISION, "variant": "text", "temperature": 0.3, **arguments})
    enliven(head, seed=1).eval()
    spread_embeddings(head)
    return head


@torch.no_grad()
def spread_embeddings(head: ViLDHead) -> None:
    """Move the mean of the embeddings to zero: random layers see the same class everywhere."""
    maps, proposals = head.detector.propose(make_features(SIZE))
    regions = head.detector.box_head(head.detector.align(maps, proposals.boxes))
    head.classifier.project.bias -= head.classifier.project(regions).mean(dim=0)


def make_detector(**changes) -> ClassAgnosticMaskRCNN:
    torch.manual_seed(0)
    return enliven(ClassAgnosticMaskRCNN(SPEC, **detector_args(**changes)), seed=2).eval()


def check_detections(found: DetectionPrediction, expected: dict[str, Tensor], size: tuple[int, int]) -> None:
    """Compare with torchvision's boxes, scores, labels (background is 0) and masks as they fill the image."""
    torch.testing.assert_close(found.boxes, expected["boxes"], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.scores, expected["scores"], atol=1e-5, rtol=1e-4)
    assert torch.equal(found.classes, expected["labels"] - 1)
    masks = torch.from_numpy(rle.decode(found.masks)).permute(2, 0, 1).bool()
    assert masks.shape[1:] == size and masks.any()
    differing = (masks != (expected["masks"][:, 0] > 0.5)).float().mean()
    assert differing < 1e-3  # a pixel whose probability is one half


# --- parity -----------------------------------------------------------------------------------------------------------


def test_detections_equal_torchvisions_region_heads_on_copied_weights():
    head, features, text = make_head(), make_features(SIZE), make_text()
    samples = make_samples(SIZE)
    for sample in samples:
        sample.original_size = SIZE
    theirs = make_region_heads(head, text, samples=24, max_detections=15).eval()
    with torch.no_grad():
        outputs = head(features, text)
        maps, proposals = head.detector.propose(features)
        expected, _ = theirs(dict(zip(MAPS, maps)), proposals.boxes, [SIZE, SIZE])
        predictions = head.postprocess(outputs, samples)
    for found, other in zip(predictions, expected, strict=True):
        assert len(found.boxes) == 15 and len(found.classes.unique()) > 1
        other["masks"] = paste_masks_in_image(other["masks"], other["boxes"], SIZE)
        check_detections(found, other, SIZE)


@pytest.mark.parametrize("seed", [0, 5])
def test_losses_equal_torchvisions_region_heads_on_the_same_samples(seed):
    head, features, text = make_head().train(), make_features(SIZE, seed=seed), make_text()
    samples = make_samples(SIZE)
    samples[1].input_size, samples[1].instances = (50, 70), make_instances(2, (50, 70), seed)
    theirs = make_region_heads(head, text, samples=24, max_detections=15).train()
    targets = [
        {
            "boxes": sample.instances.boxes,
            "labels": sample.instances.classes + 1,
            "masks": sample.instances.masks.byte(),
        }
        for sample in samples
    ]
    maps = head.detector.pyramid(features)
    sizes = [sample.input_size for sample in samples]
    torch.manual_seed(seed)
    ours = head.loss(features, text, samples)
    torch.manual_seed(seed)
    proposals, of_proposals = head.detector.proposal_network(maps, sizes, [sample.instances for sample in samples])
    _, expected = theirs(dict(zip(MAPS, maps)), proposals.boxes, sizes, targets)
    assert set(ours) == {"loss_rpn_objectness", "loss_rpn_box", "loss_class", "loss_box", "loss_mask"}
    for name in ("loss_rpn_objectness", "loss_rpn_box"):
        torch.testing.assert_close(ours[name], of_proposals[name])
    for name, other in (("class", "loss_classifier"), ("box", "loss_box_reg"), ("mask", "loss_mask")):
        torch.testing.assert_close(ours[f"loss_{name}"], expected[other])
        assert expected[other] > 0.01


@pytest.fixture(scope="module")
def both():
    """Our model and torchvision's Mask R-CNN of the same weights, and two photos of 96 px."""
    head = make_head()
    model = OpenVocabModel(enliven(TinyBackbone(), seed=3), FixedTexts(), head)
    theirs = make_mask_rcnn(head, model.backbone, make_text(), 96, AS_TORCHVISION)
    generator = torch.Generator().manual_seed(4)
    photos = [torch.randint(0, 256, (3, 96, 96), generator=generator, dtype=torch.uint8) for _ in range(2)]
    return model, theirs, photos


def test_the_whole_model_predicts_what_torchvisions_mask_rcnn_predicts(both):
    model, theirs, photos = both
    samples = [Sample(f"image{i}", VOCABULARY, (96, 96), (96, 96)) for i in range(2)]
    with torch.no_grad():
        expected = theirs.eval()([photo / 255 for photo in photos])
        found = model.eval()(**model.data_preprocessor({"image": photos, "sample": samples}), mode="predict")
    for ours, other in zip(found, expected, strict=True):
        assert len(ours.boxes) == 15
        check_detections(ours, other, (96, 96))


def test_the_whole_model_learns_by_the_losses_of_torchvisions_mask_rcnn(both):
    model, theirs, photos = both
    instances = [make_instances(count, (96, 96), count) for count in (3, 2)]
    samples = [
        Sample(f"image{i}", VOCABULARY, (96, 96), (96, 96), instances=found) for i, found in enumerate(instances)
    ]
    targets = [{"boxes": found.boxes, "labels": found.classes + 1, "masks": found.masks.byte()} for found in instances]
    model.train(), theirs.train()
    images, targets = theirs.transform(
        [photo / 255 for photo in photos], targets
    )  # draws a size, of which there is one
    maps = theirs.backbone(images.tensors)
    torch.manual_seed(6)
    proposals, expected = theirs.rpn(images, maps, targets)
    expected |= theirs.roi_heads(maps, proposals, images.image_sizes, targets)[1]
    batch = model.data_preprocessor({"image": photos, "sample": samples}, True)
    torch.manual_seed(6)
    losses = model(**batch, mode="loss")
    names = {
        "loss_rpn_objectness": "loss_objectness",
        "loss_rpn_box": "loss_rpn_box_reg",
        "loss_class": "loss_classifier",
        "loss_box": "loss_box_reg",
        "loss_mask": "loss_mask",
    }
    assert set(losses) == set(names)
    for ours, other in names.items():
        torch.testing.assert_close(losses[ours], expected[other], atol=1e-5, rtol=1e-4)


# --- decisions --------------------------------------------------------------------------------------------------------


def make_outputs(boxes: Tensor, batch: int = 1) -> RegionOutputs:
    maps = [torch.zeros(batch, 8, SIZE[0] // s, SIZE[1] // s) for s in (4, 8, 16)]
    return RegionOutputs(maps, [boxes] * batch, torch.ones(batch * len(boxes)))


def detect(boxes: Tensor, scores: Tensor, vocabulary: Vocabulary = VOCABULARY, detector=None, **sizes):
    sample = Sample("a", vocabulary, **{"original_size": SIZE, "input_size": SIZE, **sizes})
    with torch.no_grad():
        return (detector or make_detector()).detections(make_outputs(boxes), scores, [sample])[0]


def test_boxes_return_to_the_original_frame():
    boxes = torch.tensor([[8.0, 10, 40, 50], [60, 0, 96, 64]])
    scores = torch.tensor([[0.1, 0, 0.3, 0, 0], [0, 0.9, 0, 0, 0]])
    found = detect(boxes, scores, original_size=(128, 480))  # twice as high, five times as wide
    torch.testing.assert_close(
        found.boxes, torch.tensor([[300.0, 0, 480, 128], [40, 20, 200, 100], [40, 20, 200, 100]])
    )
    assert found.classes.tolist() == [1, 2, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.3, 0.1]))
    assert [mask["size"] for mask in found.masks] == [[128, 480]] * 3


def test_what_lies_in_the_padding_is_cut_off_or_left_out():
    boxes = torch.tensor([[30.0, 30, 90, 60], [75, 10, 95, 30], [10, 51, 40, 64]])  # the image ends at 70 x 50
    found = detect(boxes, torch.full((3, 5), 0.5), input_size=(50, 70), original_size=(100, 140))
    assert found.boxes.unique(dim=0).tolist() == [[60, 60, 140, 100]]


def test_a_background_class_of_the_vocabulary_is_never_detected():
    vocabulary = Vocabulary.from_names(["cat", "other", "dog", "lamp", "bus"], background="other")
    found = detect(make_boxes(30, SIZE), torch.rand(30, 5).index_fill(1, torch.tensor(1), 1.0), vocabulary)
    assert len(found.boxes) == 15 and 1 not in found.classes


def test_no_region_is_no_detection():
    found = detect(torch.zeros(0, 4), torch.zeros(0, 5))
    assert found.boxes.shape == (0, 4) and found.scores.shape == found.classes.shape == (0,) and found.masks == []
    assert found.boxes.dtype == torch.float32 and found.classes.dtype == torch.int64
    assert len(detect(make_boxes(3, SIZE), torch.zeros(3, 5)).boxes) == 0  # a score of 0 is none


def test_thousands_of_names_in_one_pass():
    vocabulary = Vocabulary.from_names(f"name {i}" for i in range(3000))
    boxes, scores = make_boxes(30, SIZE), torch.rand(30, 3000, generator=torch.Generator().manual_seed(0))
    found = detect(boxes, scores, vocabulary)
    order = scores.flatten().topk(15)
    torch.testing.assert_close(found.scores, order.values)  # random scores: the best of a class overlap no other
    assert torch.equal(found.classes, order.indices % 3000)


def test_without_masks_there_are_none():
    detector = make_detector(masks=None)
    assert detect(make_boxes(3, SIZE), torch.rand(3, 5), detector=detector).masks is None
    samples = make_samples(SIZE)
    for sample in samples:
        sample.instances.masks = None
    maps, sampled, losses = detector.training_regions(make_features(SIZE), samples)
    regions = detector.box_head(detector.align(maps, sampled.boxes))
    assert set(losses | detector.losses(maps, sampled, regions)) == {
        "loss_rpn_objectness",
        "loss_rpn_box",
        "loss_box",
    }


# --- learning ---------------------------------------------------------------------------------------------------------


def losses_of(detector: ClassAgnosticMaskRCNN, samples: list[Sample], features=None) -> dict[str, Tensor]:
    maps, sampled, losses = detector.training_regions(features or make_features(SIZE), samples)
    regions = detector.box_head(detector.align(maps, sampled.boxes))
    return losses | detector.losses(maps, sampled, regions)


def test_box_and_mask_know_no_class():
    detector, samples = make_detector().train(), make_samples(SIZE)
    assert detector.box_offsets.weight.shape[0] == 4
    torch.manual_seed(0)
    before = losses_of(detector, samples)
    for sample in samples:
        sample.instances.classes = 4 - sample.instances.classes
    torch.manual_seed(0)
    after = losses_of(detector, samples)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("mean, count", [("offsets", 4), ("regions", 2)])
@pytest.mark.parametrize("beta", [1.0, 1 / 9])
def test_box_loss_by_hand(beta, mean, count):
    """One region, 4 px left of an object of 40 x 20: an offset of 10 * 4 / 40 = 1 to the right, and none else."""
    sampling = dict(batch_size_per_image=2, positive_fraction=0.5)
    detector = make_detector(box_loss=dict(beta=beta, mean=mean), masks=None, sampling=sampling)
    torch.nn.init.zeros_(detector.box_offsets.weight)
    torch.nn.init.constant_(detector.box_offsets.bias, 0)
    target = Instances(torch.tensor([[14.0, 10, 54, 30]]), torch.tensor([2]))
    sample = Sample("a", VOCABULARY, SIZE, SIZE, instances=target)
    maps, sampled, _ = detector.training_regions(make_features(SIZE, batch=1), [sample])
    sampled.boxes, sampled.objects = [torch.tensor([[10.0, 10, 50, 30], [0, 0, 9, 9]])], [torch.tensor([0, -1])]
    regions = torch.zeros(2, detector.box_head.out_dim)
    expected = (0.5 if beta == 1 else 1 - beta / 2) / count  # smooth L1 of 1, over four offsets or two regions
    assert detector.losses(maps, sampled, regions)["loss_box"].item() == pytest.approx(expected)


def test_an_unknown_mean_of_the_box_loss_is_named():
    with pytest.raises(ValueError, match="box_loss.mean: expected one of offsets, regions"):
        make_detector(box_loss=dict(mean="objects"))


def empty_instances() -> Instances:
    return Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, *SIZE, dtype=torch.bool))


@pytest.mark.parametrize("norm", [None, "batch", "group"])
@pytest.mark.parametrize("case", ["no objects", "only crowds", "one empty image", "no proposals", "nothing at all"])
def test_losses_stay_finite_and_every_weight_has_a_gradient(case, norm):
    parts = {name: {**detector_args()[name], "norm": norm} for name in ("pyramid", "box_head", "masks")}
    detector, samples = make_detector(**parts).train(), make_samples(SIZE)
    if case in ("no proposals", "nothing at all"):
        torch.nn.init.constant_(detector.proposal_network.head.bbox_pred.bias, 1e4)
    for sample in samples[: 1 if case == "one empty image" else 2]:
        if case == "only crowds":
            sample.instances.is_crowd = torch.ones(3, dtype=torch.bool)
        elif case != "no proposals":
            sample.instances = empty_instances()
    losses = losses_of(detector, samples)
    total(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in detector.parameters())
    assert all(buffer.isfinite().all() for buffer in detector.buffers())
    if case in ("no objects", "only crowds", "nothing at all"):
        assert losses["loss_box"] == losses["loss_mask"] == losses["loss_rpn_box"] == 0


@pytest.mark.parametrize("max_regions", [1, 2, 100])
def test_masks_are_learnt_from_so_many_regions_at_most(max_regions):
    detector = make_detector(
        sampling=dict(batch_size_per_image=24, positive_fraction=0.5), mask_loss=dict(max_regions=max_regions)
    ).train()
    counts = []
    detector.masks.predictor.register_forward_hook(lambda part, inputs, output: counts.append(len(output)))
    losses_of(detector, make_samples(SIZE))
    (count,) = counts
    assert count == 2 * max_regions if max_regions < 3 else 6 <= count <= 24  # of two images with 3 objects each


def test_pixels_of_padding_propose_nothing_while_training():
    """Proposals are clipped to their own image: no region lies in the padding."""
    detector, samples = make_detector().train(), make_samples(SIZE)
    samples[1].input_size, samples[1].instances = (32, 40), make_instances(2, (32, 40))
    _, sampled, _ = detector.training_regions(make_features(SIZE), samples)
    assert (sampled.boxes[1] <= torch.tensor([40, 32, 40, 32])).all() and len(sampled.boxes[1]) > 5
    assert (sampled.boxes[0].amax(dim=0)[2:] > torch.tensor([40, 32])).all()


def test_missing_objects_and_masks_are_named_with_the_fix():
    detector, samples = make_detector(), make_samples(SIZE)
    samples[1].instances.masks = None
    with pytest.raises(ValueError, match="'image1' has no masks.*with_masks=True.*masks=None"):
        detector.training_regions(make_features(SIZE), samples)
    samples[1].instances = None
    with pytest.raises(ValueError, match="'image1' has no instances.*LoadInstances"):
        detector.training_regions(make_features(SIZE), samples)
