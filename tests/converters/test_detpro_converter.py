"""DetPro's ViLD checkpoints in our names: strictly, and where they belong."""

import pytest
import torch
import torch.nn.functional as F
from config_parts import REPOSITORY, without_weights
from mmengine.registry import init_default_scope
from torch import Tensor

from openvocab.config.config import read_config
from openvocab.converters.detpro import convert
from openvocab.detection.region_classifier import RegionClassifier
from openvocab.registry import MODELS
from openvocab.structures import TextFeatures

Layout = dict[str, tuple[int, ...]]


def pair(name: str, *shape: int) -> Layout:
    """A weight with its bias."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def norm(name: str, dim: int) -> Layout:
    statistics = {f"{name}.running_mean": (dim,), f"{name}.running_var": (dim,), f"{name}.num_batches_tracked": ()}
    return pair(name, dim) | statistics


def module(name: str, *shape: int) -> Layout:
    """mmcv's ConvModule with a norm."""
    return {f"{name}.conv.weight": shape} | norm(f"{name}.bn", shape[0])


def resnet_layout() -> Layout:
    layout: Layout = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64)
    width = 64
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        inner = 32 * 2**stage
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes = ((inner, width, 1, 1), (inner, inner, 3, 3), (4 * inner, inner, 1, 1))
            for n, shape in enumerate(shapes, start=1):
                layout |= {f"{name}.conv{n}.weight": shape} | norm(f"{name}.bn{n}", shape[0])
            if block == 0:
                layout |= {f"{name}.downsample.0.weight": (4 * inner, width, 1, 1)}
                layout |= norm(f"{name}.downsample.1", 4 * inner)
            width = 4 * inner
    return layout


def clip_layout() -> Layout:
    layout: Layout = {"positional_embedding": (77, 512), "text_projection": (512, 512), "logit_scale": ()}
    layout |= {"token_embedding.weight": (49408, 512), "visual.conv1.weight": (768, 3, 32, 32)} | pair("ln_final", 512)
    for i in range(12):
        name = f"transformer.resblocks.{i}"
        layout |= {f"{name}.attn.in_proj_weight": (1536, 512), f"{name}.attn.in_proj_bias": (1536,)}
        layout |= pair(f"{name}.attn.out_proj", 512, 512) | pair(f"{name}.ln_1", 512) | pair(f"{name}.ln_2", 512)
        layout |= pair(f"{name}.mlp.c_fc", 2048, 512) | pair(f"{name}.mlp.c_proj", 512, 2048)
    return layout


def detector_layout(ensemble: bool = True) -> Layout:
    layout: Layout = {}
    for i in range(4):
        layout |= module(f"neck.lateral_convs.{i}", 256, 256 * 2**i, 1, 1) | module(
            f"neck.fpn_convs.{i}", 256, 256, 3, 3
        )
    layout |= pair("rpn_head.rpn_conv", 256, 256, 3, 3) | pair("rpn_head.rpn_cls", 3, 256, 1, 1)
    layout |= pair("rpn_head.rpn_reg", 12, 256, 1, 1)
    box_head, mask_head = "roi_head.bbox_head", "roi_head.mask_head"
    for suffix in ("", "_for_image")[: 1 + ensemble]:
        for i in range(4):
            layout |= module(f"{box_head}.shared_convs{suffix}.{i}", 256, 256, 3, 3)
        layout |= pair(f"{box_head}.shared_fcs{suffix}.0", 1024, 256 * 49)
        layout |= pair(f"roi_head.projection{suffix}", 512, 1024)
    layout |= pair(f"{box_head}.fc_reg", 4, 1024)
    for i in range(4):
        layout |= pair(f"{mask_head}.convs.{i}.conv", 256, 256, 3, 3)
    layout |= {f"{mask_head}.upsample.weight": (256, 256, 2, 2), f"{mask_head}.upsample.bias": (256,)}
    layout |= pair(f"{mask_head}.conv_logits", 1, 256, 1, 1)
    return layout | {"roi_head.bg_embedding.weight": (512, 1), "roi_head.bg_embedding.bias": (512,)}


def official_layout(ensemble: bool = True) -> Layout:
    layout = {f"backbone.{key}": shape for key, shape in resnet_layout().items()} | detector_layout(ensemble)
    return layout | {f"roi_head.clip_model.{key}": shape for key, shape in clip_layout().items()}


def meta_model(ensemble: bool = True) -> torch.nn.Module:
    init_default_scope("openvocab")
    config = without_weights(read_config(REPOSITORY / "configs/vild_lvis_r50_detpro.py").model.to_dict())
    config["head"]["variant"] = "ensemble" if ensemble else "vild"
    with torch.device("meta"):
        return MODELS.build(config)


def small_checkpoint() -> dict[str, Tensor]:
    """Random values for every entry of the official layout, tiny ones for its large entries."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn([min(length, 8) for length in shape], generator=generator)
        for key, shape in official_layout().items()
    }


@pytest.mark.parametrize("ensemble", [True, False])
def test_the_full_layout_loads_strictly_into_the_model_of_its_config(ensemble: bool):
    source = {key: torch.empty(shape, device="meta") for key, shape in official_layout(ensemble).items()}
    meta_model(ensemble).load_state_dict(convert(source), strict=True, assign=True)


def test_values_arrive_where_they_belong():
    source = small_checkpoint()
    converted = convert(source)
    expected = {
        "backbone.visual.layer3.0.downsample.1.running_var": "backbone.layer3.0.downsample.1.running_var",
        "head.detector.pyramid.network.inner_blocks.2.0.weight": "neck.lateral_convs.2.conv.weight",
        "head.detector.pyramid.network.layer_blocks.0.1.running_mean": "neck.fpn_convs.0.bn.running_mean",
        "head.detector.proposal_network.head.conv.0.0.bias": "rpn_head.rpn_conv.bias",
        "head.detector.proposal_network.head.cls_logits.weight": "rpn_head.rpn_cls.weight",
        "head.detector.proposal_network.head.bbox_pred.bias": "rpn_head.rpn_reg.bias",
        "head.detector.box_head.layers.3.0.weight": "roi_head.bbox_head.shared_convs.3.conv.weight",
        "head.detector.box_head.layers.5.weight": "roi_head.bbox_head.shared_fcs.0.weight",
        "head.image_box_head.layers.0.1.bias": "roi_head.bbox_head.shared_convs_for_image.0.bn.bias",
        "head.image_box_head.layers.5.bias": "roi_head.bbox_head.shared_fcs_for_image.0.bias",
        "head.detector.box_offsets.weight": "roi_head.bbox_head.fc_reg.weight",
        "head.detector.masks.head.1.0.weight": "roi_head.mask_head.convs.1.conv.weight",
        "head.detector.masks.predictor.conv5_mask.weight": "roi_head.mask_head.upsample.weight",
        "head.detector.masks.predictor.mask_fcn_logits.bias": "roi_head.mask_head.conv_logits.bias",
        "head.classifier.project.weight": "roi_head.projection.weight",
        "head.image_classifier.project.weight": "roi_head.projection_for_image.weight",
        "text_encoder.text.transformer.resblocks.5.ln_2.weight": (
            "roi_head.clip_model.transformer.resblocks.5.ln_2.weight"
        ),
        "text_encoder.logit_scale": "roi_head.clip_model.logit_scale",
    }
    for ours, theirs in expected.items():
        assert torch.equal(converted[ours], source[theirs]), ours
    assert not any("visual.conv1" in key for key in converted if not key.startswith("backbone."))


def test_background_is_their_linear_map_of_one():
    source = small_checkpoint()
    their_layer = torch.nn.Linear(1, 8)
    their_layer.load_state_dict({name: source[f"roi_head.bg_embedding.{name}"] for name in ("weight", "bias")})
    torch.testing.assert_close(convert(source)["head.classifier.background"], their_layer(torch.ones(1)).detach())


def test_the_carried_clip_becomes_float32():
    source = {key: value.half() if "clip_model" in key else value for key, value in small_checkpoint().items()}
    assert {value.dtype for key, value in convert(source).items() if key.startswith("text_encoder.")} == {torch.float32}


def test_scores_are_theirs():
    """Softmax over texts and background, cosines over 0.007, in their order: classes first, background last."""
    generator = torch.Generator().manual_seed(1)
    classifier = RegionClassifier(6, 8, temperature=0.007)
    source = small_checkpoint()
    background = source["roi_head.bg_embedding.weight"][:, 0] + source["roi_head.bg_embedding.bias"]
    classifier.background.data = convert(source)["head.classifier.background"]
    regions, texts = torch.randn(3, 8, generator=generator), torch.randn(4, 8, generator=generator)
    embed, rows = F.normalize(regions, dim=1), F.normalize(texts, dim=1)
    theirs = embed @ torch.cat([rows, F.normalize(background, dim=0)[None]]).T / 0.007
    ours = classifier.logits(embed, TextFeatures(rows, torch.tensor(1.0)))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_another_checkpoint_is_refused():
    with pytest.raises(ValueError, match=r"not a ViLD checkpoint of DetPro: 1 of 1 entries are unknown: decode_head"):
        convert({"decode_head.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="not a ViLD checkpoint of DetPro"):
        convert({})


def test_a_file_without_its_clip_gives_the_detector_alone():
    without_clip = {key: value for key, value in small_checkpoint().items() if "clip_model" not in key}
    converted = convert(without_clip)
    assert converted and not any(key.startswith("text_encoder.") for key in converted)
    assert converted.keys() < convert(small_checkpoint()).keys()
