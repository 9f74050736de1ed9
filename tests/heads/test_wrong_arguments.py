"""A wrong argument in a group of a head's arguments is one line with its name."""

from dataclasses import replace

import pytest
from detection_parts import DETECTOR
from detection_parts import SPEC as DETECTION_SPEC

from openvocab.heads.fvlm import FVLMHead
from openvocab.heads.groupvit import GroupViTHead
from openvocab.heads.lseg import LSegHead
from openvocab.heads.vild import ViLDHead
from openvocab.structures import BackboneSpec

TEXT_DIM = 16
SPEC = BackboneSpec(None, 16, (24,) * 5, (16,) * 5)
JOINT = replace(DETECTION_SPEC, embed_dim=TEXT_DIM)
NO_NUMBERS = ["abc", True, [1], float("nan")]
NO_LISTS = [3, "abc", None, {1: 2}, (1, "2"), (1, None), (True, 1)]
NO_CHOICES = ["abc", 3, ["project"]]
NO_FLAGS = ["yes", None, 1]
NO_FRACTIONS = [*NO_NUMBERS, None, -0.1, 1.1]
NO_PAIRS = [3, "ab", None, (1,), (1, 2, 3), (1, "2"), (1, None)]
HEADS = {
    LSegHead: {
        "decoder.factors": [3, "abc", (4, 2, 1, "x"), (4, 2, 1, 0.25), (4, 2, 1, 0), (4, 2, 1, True)],
        "decoder.dims": [*NO_LISTS, (8, 8, 8, 0), (8, 8, 8, 8.5)],
        "decoder.features": [*NO_NUMBERS, None, 0, 8.5],
        "decoder.readout": [*NO_CHOICES, None],
        "spatial_block.kind": NO_CHOICES,
        "spatial_block.depth": [*NO_NUMBERS, None, -1, 1.5],
        "spatial_block.activation": [*NO_CHOICES, None],
    },
    GroupViTHead: {
        "transformer.depths": [*NO_LISTS, (1, -1, 1), (1, 1.5, 1)],
        "transformer.num_groups": [*NO_LISTS, (8, -1, 0), (8, 1.5, 0)],
        "transformer.num_heads": [*NO_NUMBERS, None, 0, 1.5, 7],
        "transformer.mlp_ratio": [*NO_NUMBERS, None, -1],
        "transformer.drop_path": [*NO_NUMBERS, None, -0.1, 1],
        "transformer.soft_scale": [*NO_NUMBERS, 0],
        "multi_label.num_prompts": [*NO_NUMBERS, None, -1, 1.5],
        "multi_label.weight": [*NO_NUMBERS, None, -1],
        "multi_label.match": [*NO_CHOICES, None],
        "multi_label.positives_by_text": NO_FLAGS,
        "scoring.background_threshold": [*NO_NUMBERS, 1.5, -0.1],
        "scoring.logit_scale": [*NO_NUMBERS, 0],
        "scoring.top_k": [*NO_NUMBERS, 0, 1.5],
        "scoring.output_stride": [*NO_NUMBERS, None, 0, 1.5],
    },
}
IN_DETECTORS = {
    "align.region_size": [*NO_NUMBERS, None, 0, 1.5],
    "align.mask_region_size": [*NO_NUMBERS, None, 0, 1.5],
    "align.read_extra_levels": NO_FLAGS,
    "align.canonical_size": [*NO_NUMBERS, None],
    "align.canonical_stride": [*NO_NUMBERS, None],
    "align.sampling_ratio": [*NO_NUMBERS, None, 1.5],
    "align.aligned": NO_FLAGS,
    "box_loss.beta": [*NO_NUMBERS, None, -1],
    "box_loss.mean": [*NO_CHOICES, None],
    "mask_loss.max_regions": [*NO_NUMBERS, None, 0, 1.5],
    "detections.nms_iou": NO_FRACTIONS,
    "detections.max_detections": [*NO_NUMBERS, None, -1, 1.5],
    "detections.min_score": [*NO_NUMBERS, None, -1],
    "pyramid.layers": [*NO_LISTS, (0, 9), (0, 1.5), ()],
    "pyramid.dim": [*NO_NUMBERS, None, 0, 1.5],
    "pyramid.extra_levels": [*NO_NUMBERS, None, -1, 1.5],
    "pyramid.factors": [3, "abc", (4, "2"), (4, 2, 1, 1, 1)],
    "pyramid.extra": [*NO_CHOICES, None],
    "proposals.anchor_sizes": [3, "abc", (8, 16), (8, "16"), (64, 32, 16, 8)],
    "proposals.aspect_ratios": NO_LISTS,
    "proposals.convs": [*NO_NUMBERS, None, 0, 1.5],
    "proposals.norm": NO_CHOICES,
    "proposals.iou_thresholds": [*NO_PAIRS, (0.7, 0.3), (-0.1, 0.7)],
    "proposals.batch_size_per_image": [*NO_NUMBERS, None, 0, 1.5],
    "proposals.positive_fraction": NO_FRACTIONS,
    "proposals.pre_nms_top_n": [*NO_PAIRS, (0, 5), (5, 1.5)],
    "proposals.post_nms_top_n": [*NO_PAIRS, (0, 5), (5, 1.5)],
    "proposals.nms_iou": NO_FRACTIONS,
    "proposals.box_loss_mean": [*NO_CHOICES, None],
    "box_head.convs": [*NO_NUMBERS, None, -1, 1.5],
    "box_head.conv_dim": [*NO_NUMBERS, None, 0, 1.5],
    "box_head.layers": [*NO_NUMBERS, None, 0, 1.5],
    "box_head.dim": [*NO_NUMBERS, None, 0, 1.5],
    "box_head.norm": NO_CHOICES,
    "box_head.norm_linears": NO_FLAGS,
    "masks.dim": [*NO_NUMBERS, None, 0, 1.5],
    "masks.convs": [*NO_NUMBERS, None, 0, 1.5],
    "masks.norm": NO_CHOICES,
    "masks.norm_upsampled": NO_FLAGS,
    "sampling.batch_size_per_image": [*NO_NUMBERS, None, 0, 1.5],
    "sampling.positive_fraction": NO_FRACTIONS,
    "sampling.fg_iou_threshold": NO_FRACTIONS,
}


def cases(table: dict) -> list:
    """Return one case per wrong value."""
    return [(argument, value) for argument, values in table.items() for value in values]


@pytest.mark.parametrize(
    ("kind", "argument", "value"), [(kind, *case) for kind, table in HEADS.items() for case in cases(table)]
)
def test_a_wrong_value_is_one_line_with_its_group_and_name(kind, argument, value):
    group, name = argument.split(".")
    layers = (1, 2, 3, 4) if kind is LSegHead else (0,)
    with pytest.raises(ValueError, match=rf"^{argument}: (expected .*, got |7 does not divide)") as error:
        kind(SPEC, TEXT_DIM, layers, **{group: {name: value}})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("argument", "value"), cases(IN_DETECTORS))
def test_a_wrong_value_in_a_detector_is_one_line_with_its_group_and_name(argument, value):
    group, name = argument.split(".")
    detector = {**DETECTOR, group: {**DETECTOR.get(group, {}), name: value}}
    with pytest.raises(ValueError, match=f"^detector.{argument}: expected .*, got "):
        ViLDHead(DETECTION_SPEC, TEXT_DIM, detector)


def test_a_pyramid_needs_no_sizes_of_levels():
    assert LSegHead(SPEC, TEXT_DIM, (1, 2), dict(factors=None, features=8)).reassemble is None


def test_the_fourth_argument_of_before_is_told_its_present_form():
    with pytest.raises(TypeError) as error:
        LSegHead(SPEC, TEXT_DIM, (0,), (4, 2, 1, 0.5))
    assert str(error.value) == (
        "decoder: expected a dict with some of factors, dims, features, readout, such as decoder=dict(factors=...), "
        "got (4, 2, 1, 0.5)"
    )


@pytest.mark.parametrize("kind", [ViLDHead, FVLMHead])
@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (None, "^detector: 'pyramid' is missing; expected a dict with some of pyramid, proposals, align"),
        ({}, "^detector: 'pyramid' is missing; expected a dict with some of pyramid, proposals, align"),
        (5, r"^detector: expected a dict with some of pyramid, .*, such as detector=dict\(pyramid=\.\.\.\), got 5$"),
        ([("pyramid", {})], "^detector: expected a dict with some of pyramid, .*, got "),
        (
            {**DETECTOR, "region_sizes": 7},
            r"^detector: unknown 'region_sizes'; did you mean align=dict\(region_size=\.\.\.\)\?",
        ),
        ({**DETECTOR, "proposal": {}}, "^detector: unknown 'proposal'; did you mean 'proposals'?"),
        ({**DETECTOR, "backbone": 5}, "^detector: unknown 'backbone'; .*expected some of pyramid"),
    ],
)
def test_a_wrong_detector_is_one_line(kind, detector, message):
    with pytest.raises(TypeError, match=message) as error:
        kind(JOINT, TEXT_DIM, detector)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [ViLDHead, FVLMHead])
def test_former_arguments_of_a_detector_are_translated_first(kind):
    with pytest.warns(FutureWarning, match="max_detections"):
        head = kind(JOINT, TEXT_DIM, detector={**DETECTOR, "detections": {}, "max_detections": 9})
    assert head.detector.detection_options.max_detections == 9
