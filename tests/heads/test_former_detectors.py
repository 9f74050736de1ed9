"""Detectors with the arguments of before 0.2, through the heads: from configs, checkpoints and Python."""

import copy
import dataclasses
import warnings

import pytest
import torch
from detection_parts import DETECTOR, SPEC, TEXT_DIM, make_features, make_samples, make_text

from openvocab.config.saved import config_of
from openvocab.detection.class_agnostic_mask_rcnn import ClassAgnosticMaskRCNN
from openvocab.detection.proposal_network import ProposalNetwork
from openvocab.heads.fvlm import FVLMHead
from openvocab.heads.vild import ViLDHead
from openvocab.registry import HEADS, registered_only

OLD = dict(
    DETECTOR,
    proposals=dict(
        anchor_sizes=(16, 24, 32, 48),
        match_iou=(0.2, 0.6),
        samples=32,
        positive_share=0.4,
        before_nms=(60, 50),
        after_nms=(40, 30),
    ),
    sampling=dict(samples=24, positive_share=0.5, match_iou=0.4),
    region_size=5,
    mask_region_size=8,
    read_extra_levels=True,
    mask_samples=3,
    box_beta=0.5,
    box_loss_mean="regions",
    nms_iou=0.6,
    max_detections=9,
    min_score=0.001,
)
del OLD["detections"]
NEW = dict(
    DETECTOR,
    proposals=dict(
        anchor_sizes=(16, 24, 32, 48),
        iou_thresholds=(0.2, 0.6),
        batch_size_per_image=32,
        positive_fraction=0.4,
        pre_nms_top_n=(60, 50),
        post_nms_top_n=(40, 30),
    ),
    sampling=dict(batch_size_per_image=24, positive_fraction=0.5, fg_iou_threshold=0.4),
    align=dict(DETECTOR["align"], region_size=5, mask_region_size=8, read_extra_levels=True),
    box_loss=dict(beta=0.5, mean="regions"),
    mask_loss=dict(max_regions=3),
    detections=dict(nms_iou=0.6, max_detections=9, min_score=0.001),
)


HEAD_SPECS = {"ViLDHead": SPEC, "FVLMHead": dataclasses.replace(SPEC, embed_dim=TEXT_DIM)}


def build(name: str, detector: dict, **arguments) -> torch.nn.Module:
    torch.manual_seed(0)
    config = dict(type=name, backbone=HEAD_SPECS[name], text_dim=TEXT_DIM, detector=detector, temperature=0.3)
    return HEADS.build({**config, **arguments})


def results(head: torch.nn.Module) -> list[torch.Tensor]:
    """Return weights, losses and detections."""
    features, text, samples = make_features(), make_text(), make_samples()
    if isinstance(head, FVLMHead):
        dim = SPEC.hidden_dims[-1]
        features.pool = lambda maps: torch.nn.functional.pad(maps.mean(dim=(2, 3)), (0, TEXT_DIM - dim))
    torch.manual_seed(1)
    losses = head.train().loss(features, text, samples)
    with torch.no_grad():
        predictions = head.eval().postprocess(head(features, text), samples)
    assert all(0 < len(prediction.boxes) <= 9 for prediction in predictions)
    detected = [part for prediction in predictions for part in (prediction.boxes, prediction.scores)]
    return [*head.state_dict().values(), *losses.values(), *detected]


@pytest.mark.parametrize("name", HEAD_SPECS)
def test_an_old_config_is_translated_with_a_warning_per_argument_and_gives_equal_results(name):
    config = copy.deepcopy(OLD)
    with pytest.warns(FutureWarning) as warned:
        old = build(name, config)
    assert config == OLD
    messages = [str(warning.message) for warning in warned if warning.category is FutureWarning]
    assert len(messages) == 17
    assert f"{name}: detector.max_detections=... is detector=dict(detections=dict(max_detections=...)) now" in " ".join(
        messages
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        new = build(name, NEW)
    assert old.state_dict().keys() == new.state_dict().keys()
    for ours, other in zip(results(old), results(new), strict=True):
        assert torch.equal(ours, other)


@pytest.mark.parametrize("name", HEAD_SPECS)
def test_a_head_from_a_checkpoint_is_translated_silently(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with registered_only():
            old = build(name, OLD)
        assert all(torch.equal(*pair) for pair in zip(results(old), results(build(name, NEW)), strict=True))


def test_the_config_of_a_checkpoint_keeps_its_old_form_and_builds_the_same_head():
    kind = f"{ViLDHead.__module__}.ViLDHead"
    head = {"type": kind, "text_dim": TEXT_DIM, "variant": "text", "detector": OLD}
    saved = {"model": {"type": "openvocab.model.OpenVocabModel", "head": head}}
    saved["test_dataloader"] = {"dataset": {"pipeline": [{"type": "LoadImage"}]}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = config_of({"meta": {"config": saved}}, "a checkpoint")
        with registered_only():
            built = HEADS.build({**config.model.head, "backbone": SPEC})
    assert built.detector.detection_options.max_detections == 9


def test_former_settings_of_masks_do_not_add_a_mask_branch():
    """A config whose `masks` are None may still state how many regions their loss reads."""
    with pytest.warns(FutureWarning):
        head = build("ViLDHead", dict(OLD, masks=None), variant="text")
    assert head.detector.masks is None


def test_former_arguments_meet_a_group_that_is_none():
    with pytest.warns(FutureWarning):
        head = build("ViLDHead", dict(DETECTOR, align=None, region_size=5))
    assert head.detector.align.output_size == 5


def test_both_forms_of_an_argument_are_an_error():
    message = "got both detector.detections.max_detections and detector.max_detections, its name before 0.2"
    with pytest.raises(ValueError, match=message):
        build("ViLDHead", dict(DETECTOR, max_detections=5))


def test_the_classes_take_former_arguments_in_python():
    with pytest.warns(FutureWarning, match=r"box_beta=\.\.\. is box_loss=dict\(beta=\.\.\.\) now"):
        assert ClassAgnosticMaskRCNN(SPEC, **DETECTOR, box_beta=0.5).box_loss.beta == 0.5
    with pytest.warns(FutureWarning, match=r"after_nms=\.\.\. is post_nms_top_n=\.\.\. now"):
        ProposalNetwork(8, (4, 8), after_nms=(5, 5))


@pytest.mark.parametrize(
    "group",
    ["pyramid", "proposals", "align", "box_head", "masks", "sampling", "box_loss", "mask_loss", "detections"],
)
def test_an_unknown_argument_of_a_group_is_one_line_with_its_name(group):
    detector = {**DETECTOR, group: {**DETECTOR.get(group, {}), "misspelt": 1}}
    with pytest.raises(TypeError, match=rf"^detector\.{group}: unknown 'misspelt'; .*expected some of \w+") as error:
        build("ViLDHead", detector)
    assert "\n" not in str(error.value)


def test_a_missing_argument_of_a_group_is_named():
    with pytest.raises(
        TypeError, match="^detector.pyramid: 'layers' is missing; expected a dict with some of layers, dim"
    ):
        build("ViLDHead", {"pyramid": {"dim": 8}})


@pytest.mark.parametrize("given", [5, "layers"])
def test_a_group_that_is_no_dict_is_named(given):
    with pytest.raises(TypeError, match=f"^detector.sampling: expected a dict with some of .*got {given!r}"):
        build("ViLDHead", {**DETECTOR, "sampling": given})
