"""The training of a detector whose locations find objects and are aligned with the tokens of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openvocab.detection.box_coding import decode_boxes, inclusive_corners
from openvocab.detection.location_candidates import BOX_WEIGHTS
from openvocab.detection.location_targets import centerness, match_locations
from openvocab.detection.phrase_scores import object_tokens
from openvocab.detection.region_sampling import without_crowds
from openvocab.losses.location_boxes import centered_giou, centerness_cross_entropy
from openvocab.losses.token_focal import token_focal
from openvocab.structures import Instances, Sample, known


@dataclass
class LocationOutputs:
    """Raw outputs for the N locations of each of B images; level after level, each row by row."""

    token_logits: Tensor
    """(B, N, T) of each image's own prompt."""
    offsets: Tensor
    """(B, N, 4) of boxes from the anchors, see `encode_boxes`."""
    centerness: Tensor
    """(B, N) logits."""
    anchors: Tensor
    """(N, 4) of `location_anchors`."""
    counts: list[int]
    """Locations of each level; their sum is N."""


def location_losses(
    outputs: LocationOutputs,
    samples: Sequence[Sample],
    phrases: Sequence[Tensor],
    owners: Sequence[Tensor],
    is_token: Tensor,
    box_weight: float = 2.0,
) -> dict[str, Tensor]:
    """Return the losses of a batch, each () float32.

    Args:
        outputs: of B images.
        samples: B samples with `instances`; crowds are left out of the targets, as in official training, and so are
            objects of the class that means "everything else", which no phrase names.
        phrases: of each image's prompt: (P, T) bool, the tokens of each phrase.
        owners: of each image's prompt: (P,) int64, the class of each phrase.
        is_token: (B, T) bool, False for padding.
        box_weight: factor of the box loss.

    Returns:
        `loss_token`, `loss_box` and `loss_centerness`.

    Raises:
        ValueError: a sample without labeled objects, or with an object that no phrase of its prompt names.
    """
    objects = [_objects(sample) for sample in samples]
    # (G_i, 4) of each image
    boxes = [inclusive_corners(of_image.boxes.to(outputs.anchors)) for of_image in objects]
    matches = [match_locations(outputs.anchors, outputs.counts, of_image) for of_image in boxes]  # (N,) of each image
    tokens = [
        object_tokens(of_image.classes, names, classes, sample.sample_id).to(is_token.device)
        for of_image, names, classes, sample in zip(objects, phrases, owners, samples, strict=True)
    ]
    image, location = torch.stack([of_image >= 0 for of_image in matches]).nonzero(as_tuple=True)  # (P,) each
    targets = torch.cat([box[match[match >= 0]] for box, match in zip(boxes, matches)])  # (P, 4)
    anchors = outputs.anchors[location]
    centers = centerness(anchors, targets)
    found = decode_boxes(outputs.offsets[image, location], anchors, BOX_WEIGHTS, inclusive=True)
    return {
        "loss_token": token_focal(outputs.token_logits, matches, tokens, is_token),
        "loss_box": box_weight * centered_giou(found, targets, centers),
        "loss_centerness": centerness_cross_entropy(outputs.centerness[image, location], centers),
    }


def _objects(sample: Sample) -> Instances:
    """Return the objects of a sample that a phrase has to name."""
    objects = without_crowds(known(sample.instances, f"instances of sample {sample.sample_id!r}"))
    background = None if sample.vocabulary is None else sample.vocabulary.background
    if background is None:
        return objects
    keep = objects.classes != background
    return Instances(objects.boxes[keep], objects.classes[keep])
