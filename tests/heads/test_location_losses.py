"""The losses of a batch of locations: the official ones, images without objects, and two ranks."""

import copy
from dataclasses import replace

import pytest
import torch
from glip_reference import GT_BOXES, INPUT_SIZE, MODELS, counts, expected, needs_reference
from torch import Tensor, nn
from two_ranks import run_two_ranks

from openvocab.detection.box_coding import encode_boxes, inclusive_corners
from openvocab.detection.location_anchors import location_anchors
from openvocab.detection.location_candidates import BOX_WEIGHTS
from openvocab.detection.location_targets import match_locations
from openvocab.heads.location_losses import LocationOutputs, location_losses
from openvocab.structures import Instances, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

GRIDS = [(8, 12), (4, 6), (2, 3)]
COUNTS = [height * width for height, width in GRIDS]
ANCHORS = location_anchors(GRIDS, (8, 16, 32), (32, 64, 128))
PHRASES = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 1, 1, 0]]).bool()
OWNERS = torch.tensor([1, 0])
IS_TOKEN = torch.tensor([1, 1, 1, 1, 0]).bool()
VOCABULARY = Vocabulary.from_names(["cat", "dog", "lamp"])
NO_BOXES = torch.zeros(0, 4)


def labeled(boxes: Tensor, classes: list[int], crowd: list[bool] | None = None, name: str = "image") -> Sample:
    is_crowd = None if crowd is None else torch.tensor(crowd)
    instances = Instances(boxes, torch.tensor(classes, dtype=torch.int64), is_crowd=is_crowd)
    return Sample(name, VOCABULARY, (64, 96), (64, 96), instances=instances)


SAMPLES = [
    labeled(torch.tensor([[5.0, 10, 40, 50], [50, 8, 90, 60]]), [0, 1]),
    labeled(torch.tensor([[20.0, 20, 61, 58]]), [1]),
    labeled(NO_BOXES, []),
    labeled(torch.tensor([[30.0, 2, 90, 62], [2, 2, 30, 29]]), [0, 0]),
]


class Outputs(nn.Module):
    """Learned raw outputs of four images."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.raw = nn.Parameter(torch.randn(4, len(ANCHORS), 10, generator=generator))

    def forward(self, samples: list[Sample], images: slice = slice(None)) -> dict[str, Tensor]:
        logits, offsets, centers = self.raw[images].split([5, 4, 1], dim=2)
        outputs = LocationOutputs(logits, offsets, centers[..., 0], ANCHORS, COUNTS)
        return losses_of(outputs, samples)


def losses_of(outputs: LocationOutputs, samples: list[Sample]) -> dict[str, Tensor]:
    count = len(samples)
    return location_losses(outputs, samples, [PHRASES] * count, [OWNERS] * count, IS_TOKEN.expand(count, -1))


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_the_official_losses(model):
    logits, offsets, centers = (expected(f"{model}_{name}")[None] for name in ("dot_logits", "bbox_reg", "centerness"))
    outputs = LocationOutputs(logits, offsets, centers, expected(f"{model}_anchors"), counts(model))
    instances = Instances(GT_BOXES + torch.tensor([0, 0, 1, 1]), torch.arange(3))
    sample = Sample("image", None, INPUT_SIZE, INPUT_SIZE, instances=instances)
    is_token = torch.ones(1, logits.shape[2], dtype=torch.bool)
    losses = location_losses(outputs, [sample], [expected(f"{model}_positive_map")], [torch.arange(3)], is_token)
    names = {"loss_token": "loss_dot_product_token", "loss_box": "loss_reg", "loss_centerness": "loss_centerness"}
    assert losses.keys() == names.keys()
    for name, official in names.items():
        assert losses[name].item() == pytest.approx(expected(f"{model}_{official}").item(), rel=1e-5)


def test_a_batch_is_the_mean_over_the_locations_of_its_images():
    """Token and centerness losses of single images, weighted by their numbers of positive locations."""
    module = Outputs()
    batch = module(SAMPLES[:2], slice(0, 2))
    single = [module(SAMPLES[i : i + 1], slice(i, i + 1)) for i in (0, 1)]
    doubled = module([SAMPLES[0], SAMPLES[0]], [0, 0])
    for name in ("loss_token", "loss_centerness"):
        low, high = sorted(losses[name].item() for losses in single)
        assert low < batch[name].item() < high
    for name, loss in doubled.items():
        torch.testing.assert_close(loss, single[0][name])


def test_crowds_are_not_targets():
    module, boxes = Outputs(), SAMPLES[0].instances.boxes
    crowd = labeled(torch.cat([boxes, torch.tensor([[0.0, 0, 90, 60]])]), [0, 1, 2], [False, False, True])
    for name, loss in module([crowd], slice(0, 1)).items():
        assert torch.equal(loss, module(SAMPLES[:1], slice(0, 1))[name])


def test_a_batch_without_objects_has_zero_box_losses_and_gradients_for_all_outputs():
    module = Outputs()
    losses = module([SAMPLES[2]], slice(2, 3))
    assert losses["loss_box"].item() == losses["loss_centerness"].item() == 0
    assert losses["loss_token"].item() > 0
    sum(losses.values()).backward()
    assert module.raw.grad.isfinite().all()
    assert module.raw.grad[2, :, :4].abs().min() > 0
    assert not module.raw.grad[2, :, 5:].any()


def test_perfect_outputs_have_almost_no_loss():

    boxes = inclusive_corners(SAMPLES[0].instances.boxes)
    matches = match_locations(ANCHORS, COUNTS, boxes)
    offsets = encode_boxes(boxes[matches.clamp(min=0)], ANCHORS, BOX_WEIGHTS, inclusive=True)
    tokens = PHRASES[torch.tensor([1, 0])][matches.clamp(min=0)] & (matches >= 0)[:, None]
    outputs = LocationOutputs(
        40 * tokens.float()[None] - 20, offsets[None], torch.zeros(1, len(ANCHORS)), ANCHORS, COUNTS
    )
    losses = losses_of(outputs, SAMPLES[:1])
    assert losses["loss_token"].item() == pytest.approx(0, abs=1e-6)
    assert losses["loss_box"].item() == pytest.approx(0, abs=1e-5)


def test_an_object_that_the_prompt_does_not_name_is_an_error_of_its_sample():
    sample = replace(SAMPLES[0], sample_id="street.jpg")
    sample.instances = Instances(sample.instances.boxes, torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"sample 'street.jpg': objects of the classes \[2\]"):
        Outputs()([sample], slice(0, 1))


def test_a_sample_without_labels_is_named():
    with pytest.raises(ValueError, match="instances of sample 'image'"):
        Outputs()([replace(SAMPLES[0], instances=None)], slice(0, 1))


def test_samples_and_targets_are_not_changed():
    before = copy.deepcopy(SAMPLES)
    Outputs()(SAMPLES)
    for one, other in zip(SAMPLES, before):
        assert torch.equal(one.instances.boxes, other.instances.boxes)


def work_of_rank(rank: int) -> dict[str, tuple[dict[str, Tensor], Tensor]]:
    """Two of the four images, the third of which has no object; and one image, with no object on the second rank."""
    images = slice(2 * rank, 2 * rank + 2)
    return {
        "two_images_each": trained(SAMPLES[images], images),
        "one_rank_without_objects": trained(SAMPLES[2 * rank : 2 * rank + 1], slice(2 * rank, 2 * rank + 1)),
    }


def trained(samples: list[Sample], images: slice) -> tuple[dict[str, Tensor], Tensor]:
    model = nn.parallel.DistributedDataParallel(Outputs())
    losses = model(samples, images)
    sum(losses.values()).backward()
    return {name: loss.detach() for name, loss in losses.items()}, model.module.raw.grad


@pytest.fixture(scope="module")
def two_ranks() -> list[dict]:
    return run_two_ranks(work_of_rank)


@pytest.mark.parametrize(
    ("name", "images"), [("two_images_each", slice(0, 4)), ("one_rank_without_objects", slice(0, 4, 2))]
)
def test_two_ranks_give_value_and_gradient_of_one_with_the_joint_batch(two_ranks, name, images):
    module = Outputs()
    joint = module(SAMPLES[images], images)
    sum(joint.values()).backward()
    for results in two_ranks:
        losses, grad = results[name]
        for key, loss in joint.items():
            assert losses[key].item() == pytest.approx(loss.item(), rel=1e-5)
        torch.testing.assert_close(grad, module.raw.grad, atol=1e-6, rtol=1e-4)
