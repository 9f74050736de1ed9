"""Official ViLD variables in our names: strictly, and with the outputs that they have in TensorFlow's conventions."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.registry import init_default_scope
from tensorflow_vild import TensorFlowViLD, official_layout, random_variables
from torch import Tensor

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.config.config import read_config
from openvocab.converters.clip_text import text_tower
from openvocab.converters.vild import convert
from openvocab.detection.box_coding import decode_boxes
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS
from openvocab.text.clip_text import CLIPTextEncoder

DEPTH, DIM, HIDDEN, EMBED = 26, 4, 6, 5
SIZE = 128


@pytest.fixture(scope="module")
def variables() -> dict[str, Tensor]:
    return random_variables(official_layout(DEPTH, DIM, HIDDEN, EMBED))


@pytest.fixture(scope="module")
def official(variables: dict[str, Tensor]) -> TensorFlowViLD:
    return TensorFlowViLD(variables, DEPTH)


@pytest.fixture(scope="module")
def backbone() -> TimmBackbone:
    return TimmBackbone("resnet26", resnet_style="tensorflow")


@pytest.fixture(scope="module")
def head(variables: dict[str, Tensor], backbone: TimmBackbone) -> ViLDHead:
    """Converted weights in our network, at test time."""
    detector = dict(
        pyramid=dict(layers=(1, 2, 3, 4), dim=DIM, output_norm="slow_batch", extra="convolve"),
        proposals=dict(convs=2, norm="slow_batch"),
        align=dict(sampling_ratio=1, aligned=False, read_extra_levels=True),
        box_head=dict(conv_dim=DIM, dim=HIDDEN, norm="slow_batch", norm_linears=True),
        masks=dict(dim=DIM, norm="slow_batch", norm_upsampled=True),
    )
    head = ViLDHead(backbone.spec, text_dim=EMBED, detector=detector).eval()
    converted = convert(variables)
    for prefix, part in (("backbone.", backbone.eval()), ("head.", head)):
        part.load_state_dict({k.removeprefix(prefix): v for k, v in converted.items() if k.startswith(prefix)})
    return head


@pytest.fixture(scope="module")
def maps() -> list[Tensor]:
    """A pyramid, channels last."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(1, side, side, DIM, generator=generator) for side in (32, 16, 8, 4, 2)]


def channels_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)


def channels_last(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1)


def meta(state: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in state.items()}


@pytest.mark.parametrize(
    ("name", "depth", "double_branch"), [("vild_lvis_r50", 50, True), ("vild_lvis_r152", 152, False)]
)
def test_the_full_layout_loads_strictly_into_the_model_of_its_config(name: str, depth: int, double_branch: bool):
    init_default_scope("openvocab")
    config = without_weights(read_config(REPOSITORY / f"configs/{name}.py").model.to_dict())
    config["head"]["variant"] = "ensemble" if double_branch else "vild"
    with torch.device("meta"):
        model = MODELS.build(config)
        converted = convert(meta(official_layout(depth, double_branch=double_branch)))
    model.load_state_dict(converted | text_tower(model.state_dict()), strict=True, assign=True)
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-4, 0.003)}  # TensorFlow's 0.997


def test_pyramid_equals_the_official_one(head: ViLDHead, backbone: TimmBackbone, official: TensorFlowViLD):
    images = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = head.detector.pyramid(backbone(images, head.layers))
    theirs = official.pyramid(official.backbone(channels_last(images)))
    assert [level.shape[-1] for level in ours] == [32, 16, 8, 4, 2]
    for level, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(channels_last(level), expected, rtol=1e-3, atol=1e-3)


def test_proposals_equal_the_official_ones(head: ViLDHead, official: TensorFlowViLD, maps: list[Tensor]):
    wide, square, tall = 1, 0, 2  # index of each of our anchors among theirs
    with torch.no_grad():
        predictions = head.detector.proposal_network.head([channels_first(level) for level in maps])
    for number, (logits, offsets, level) in enumerate(zip(*predictions, maps, strict=True), start=2):
        their_logits, their_boxes = official.proposals(level, number)  # (h, w, 3), (h, w, 3, 4) y1 x1 y2 x2
        torch.testing.assert_close(
            logits[0].permute(1, 2, 0), their_logits[..., [wide, square, tall]], rtol=1e-4, atol=1e-4
        )
        boxes = decode_boxes(offsets[0].permute(1, 2, 0).reshape(-1, 4), our_anchors(number, level.shape[1]), [1] * 4)
        theirs = their_boxes[..., [wide, square, tall], :][..., [1, 0, 3, 2]].reshape(-1, 4)
        torch.testing.assert_close(boxes, theirs, rtol=1e-4, atol=1e-3)


def our_anchors(level: int, side: int) -> Tensor:
    """Return (h * w * 3, 4) anchors as torchvision places them, at the corners of cells, but not rounded to pixels."""
    y, x = (part.flatten() * 2.0**level for part in torch.meshgrid([torch.arange(side)] * 2, indexing="ij"))
    centers = torch.stack([x, y], dim=1)[:, None]  # (h * w, 1, 2)
    half = 4 * 2**level * torch.tensor([[2**0.5, 0.5**0.5], [1, 1], [0.5**0.5, 2**0.5]])  # width / height 2, 1, 1/2
    return torch.cat([centers - half, centers + half], dim=2).flatten(0, 1)


@pytest.mark.parametrize("distill", [False, True])
def test_regions_get_the_official_embedding(head: ViLDHead, official: TensorFlowViLD, distill: bool):
    regions = torch.randn(3, 7, 7, DIM, generator=torch.Generator().manual_seed(2))
    box_head = head.image_box_head if distill else head.detector.box_head
    classifier = head.image_classifier if distill else head.classifier
    hidden, embed = official.embed(regions, distill)
    with torch.no_grad():
        ours = box_head(regions.permute(0, 3, 1, 2))
        torch.testing.assert_close(ours, hidden, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(classifier.project(ours), embed, rtol=1e-4, atol=1e-5)


def test_boxes_move_as_officially(head: ViLDHead, official: TensorFlowViLD):
    hidden = torch.randn(1, HIDDEN, generator=torch.Generator().manual_seed(3))
    dy, dx, dh, dw = official.dense(hidden, "frcnn_layer_0/fast_rcnn_head/box-predict")[0] / torch.tensor(
        [10, 10, 5, 5]
    )
    with torch.no_grad():
        moved = head.detector.refine(hidden, [torch.tensor([[40.0, 50.0, 60.0, 90.0]])])[0][0]
    center, size = torch.stack([50 + 20 * dx, 70 + 40 * dy]), torch.stack([20 * dw.exp(), 40 * dh.exp()])
    torch.testing.assert_close(moved, torch.cat([center - size / 2, center + size / 2]))


def test_masks_equal_the_official_ones(head: ViLDHead, official: TensorFlowViLD):
    regions = torch.randn(2, 14, 14, DIM, generator=torch.Generator().manual_seed(4))
    branch = head.detector.masks
    with torch.no_grad():
        ours = branch.predictor(branch.head(regions.permute(0, 3, 1, 2)))[:, 0]
    torch.testing.assert_close(ours, official.masks(regions), rtol=1e-4, atol=1e-5)


def test_regions_are_read_where_official_vild_reads_them(head: ViLDHead, maps: list[Tensor]):
    """One point at the center of each cell, at the position of the map that the box's scaled coordinates name."""
    box = torch.tensor([[20.0, 30.0, 76.0, 100.0]])  # sizes below 112 are read at stride 4
    levels = [channels_first(level) for level in maps]
    read = head.detector.align(levels, [box])[0]  # (D, 7, 7)
    left, top, right, bottom = (box[0] / 4).tolist()
    y, x = top + 3.5 * (bottom - top) / 7, left + 5.5 * (right - left) / 7
    low_y, low_x = int(y), int(x)
    cells = levels[0][0, :, low_y : low_y + 2, low_x : low_x + 2]
    weights = torch.tensor([[1 - y % 1], [y % 1]]) * torch.tensor([[1 - x % 1, x % 1]])
    torch.testing.assert_close(read[:, 3, 5], (cells * weights).sum(dim=(1, 2)), rtol=1e-4, atol=1e-5)
    large = torch.tensor([[0.0, 0.0, 1000.0, 1000.0]])
    assert head.detector.align.levels_of(large).item() == 4


def test_background_is_the_official_vector(variables: dict[str, Tensor]):
    kernel = variables["frcnn_layer_0/fast_rcnn_head/background-class-predict/kernel"]
    assert torch.equal(convert(variables)["head.classifier.background"], kernel[:, 0])


def test_variables_are_not_changed(variables: dict[str, Tensor]):
    before = {name: value.clone() for name, value in variables.items()}
    convert(variables)
    assert all(torch.equal(value, before[name]) for name, value in variables.items())


def test_another_checkpoint_is_refused(variables: dict[str, Tensor]):
    with pytest.raises(ValueError, match="not an official ViLD checkpoint: 1 of .* unknown: .*class_net"):
        convert(variables | {"class_net/kernel": torch.zeros(1)})
    lacking = {name: value for name, value in variables.items() if name != "fpn/l4/kernel"}
    with pytest.raises(ValueError, match=r"lacks the variable 'fpn/l4/kernel'"):
        convert(lacking)
    with pytest.raises(ValueError, match="not an official ViLD checkpoint"):
        convert({})


def test_the_tool_adds_the_text_tower(variables: dict[str, Tensor], tmp_path: Path):
    tower = dict(model="ViT-Ti-8-shapes")
    clip = OpenVocabModel(
        backbone=dict(type=CLIPBackbone, **tower),
        text_encoder=dict(type=CLIPTextEncoder, **tower),
        head=dict(type=ContrastiveHead),
    )
    torch.save({"state_dict": clip.state_dict()}, tmp_path / "clip.pth")
    safetensors.torch.save_file(variables, tmp_path / "vild.safetensors")
    command = [sys.executable, REPOSITORY / "tools/convert_checkpoint.py", "vild", tmp_path / "vild.safetensors"]
    command += [tmp_path / "out.pth", "--clip", tmp_path / "clip.pth"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    written = load_checkpoint(tmp_path / "out.pth")["state_dict"]
    text = {key for key in clip.state_dict() if key.startswith("text_encoder.")}
    assert {key for key in written if key.startswith("text_encoder.")} == text
    assert written.keys() - text == convert(variables).keys()


def test_a_file_without_text_tower_is_no_clip():
    with pytest.raises(ValueError, match="no CLIP with a text tower: conv1.weight"):
        text_tower({"conv1.weight": torch.zeros(1)})
