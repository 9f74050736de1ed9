"""The teacher equals a plain loop over single crops through open_clip."""

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from open_clip.transformer import ResidualAttentionBlock
from PIL import Image
from teacher_parts import MODEL
from torch import nn

from openvocab.clip.open_clip_model import create_clip
from openvocab.layers.packed_linear import PackedLinear, can_pack
from openvocab.teacher.region_teacher import RegionTeacher

BOXES = torch.tensor([[2.0, 3, 30, 20], [0, 0, 60, 40], [20.5, 10.25, 25.75, 39.9], [55, 1, 60, 39]])


def image(seed, size=(40, 60)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@torch.no_grad()
def one_at_a_time(path, picture, boxes, model=MODEL, side=64):
    """What the papers describe, box by box and scale by scale."""
    clip = create_clip(model, path)
    preprocess = image_transform(side, is_train=False)
    rows = []
    for x1, y1, x2, y2 in boxes.tolist():
        total = 0
        for scale in (1.0, 1.5):
            x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) * scale / 2, (y2 - y1) * scale / 2
            low = np.floor([x - w - 0.001, y - h - 0.001]).clip(0)
            high = np.ceil([x + w + 0.001, y + h + 0.001]).clip(max=picture.shape[1::-1])
            crop = Image.fromarray(picture).crop((*map(int, low), *map(int, high)))
            total = total + clip.encode_image(preprocess(crop)[None])[0]
        rows.append(total / total.norm())
    return torch.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_embeddings_equal_a_plain_loop(clip_file, batch_size):
    teacher = RegionTeacher(MODEL, clip_file, batch_size=batch_size, device="cpu")
    pairs = [(image(0), BOXES), (image(1), BOXES[:0]), (image(2, (50, 70)), BOXES[1:])]
    found = teacher(iter(pairs))
    assert [len(embed) for embed in found] == [4, 0, 3]
    for (picture, boxes), embed in zip(pairs, found):
        if len(boxes):
            expected = one_at_a_time(clip_file, picture, boxes)
            assert (embed - expected).abs().max() < 1e-5


def test_a_convnet_is_a_teacher_too(tmp_path):
    model = "ConvNet-8-shapes"
    torch.manual_seed(1)
    clip = create_clip(model)
    torch.save(clip.state_dict(), tmp_path / "other.pth")
    (found,) = RegionTeacher(model, tmp_path / "other.pth", device="cpu")([(image(0), BOXES)])
    expected = one_at_a_time(tmp_path / "other.pth", image(0), BOXES, model)
    assert (found - expected).abs().max() < 1e-5


def test_a_scale_is_summed_before_the_norm(clip_file):
    teacher = RegionTeacher(MODEL, clip_file, device="cpu")
    single = [RegionTeacher(MODEL, clip_file, scales=(s,), device="cpu")([(image(0), BOXES)])[0] for s in (1, 1.5)]
    (both,) = teacher([(image(0), BOXES)])
    assert both.norm(dim=1).sub(1).abs().max() < 1e-6
    assert (both - torch.nn.functional.normalize(single[0] + single[1], dim=1)).abs().max() > 1e-6


def test_batches_are_full_across_images(clip_file, monkeypatch):
    teacher = RegionTeacher(MODEL, clip_file, batch_size=5, device="cpu")
    counts = []
    encode = RegionTeacher._encode
    monkeypatch.setattr(RegionTeacher, "_encode", lambda self, crops: counts.append(len(crops)) or encode(self, crops))
    assert [len(embed) for embed in teacher([(image(0), BOXES), (image(1), BOXES[:2])])] == [4, 2]
    assert counts == [5, 5, 2] and teacher([]) == []


def test_the_teacher_is_frozen_and_no_part_of_a_model(clip_file):
    teacher = RegionTeacher(MODEL, clip_file, device="cpu")
    (embed,) = teacher([(image(0), BOXES)])
    assert not embed.requires_grad and not embed.is_inference()
    assert not isinstance(teacher, nn.Module) and not teacher._visual.training
    student = nn.Linear(4, 4)
    student.teacher = teacher
    assert len(list(student.parameters())) == 2 and len(student.state_dict()) == 2
    loss = (torch.ones_like(embed).requires_grad_() - embed).abs().sum()  # autograd may save it
    loss.backward()


def test_bfloat16_is_near(clip_file):
    (exact,) = RegionTeacher(MODEL, clip_file, device="cpu")([(image(0), BOXES)])
    (near,) = RegionTeacher(MODEL, clip_file, dtype="bfloat16", device="cpu")([(image(0), BOXES)])
    assert near.dtype == torch.float32 and (near * exact).sum(1).min() > 0.999


def test_its_facts_follow_all_that_matters_and_nothing_else(tmp_path, clip_file):
    def facts(**changes):
        return str(RegionTeacher(MODEL, **{"pretrained": clip_file, "device": "cpu"} | changes).facts)

    torch.manual_seed(5)
    torch.save(create_clip(MODEL).state_dict(), tmp_path / "retrained.pth")
    (tmp_path / "copy.pth").write_bytes(clip_file.read_bytes())
    assert facts() == facts() == facts(batch_size=3) == facts(pretrained=tmp_path / "copy.pth")
    changed = [
        {"crop": "squash"},
        {"scales": (1.0,)},
        {"dtype": "bfloat16"},
        {"pretrained": tmp_path / "retrained.pth"},
    ]
    assert len({facts(), *(facts(**change) for change in changed)}) == 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"crop": "middle"}, "crop: expected one of center, squash"),
        ({"scales": ()}, "positive scales"),
        ({"scales": (1.0, -1)}, "positive scales"),
        ({"dtype": "int8"}, "dtype: expected one of auto, float32, bfloat16"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RegionTeacher(MODEL, **arguments)


@pytest.mark.skipif(not can_pack(torch.float32), reason="this processor or build of torch works on plain weights only")
def test_the_feed_forwards_of_a_transformer_are_packed(clip_file):
    layers = list(RegionTeacher(MODEL, clip_file, device="cpu")._visual.modules())
    blocks = [layer for layer in layers if isinstance(layer, ResidualAttentionBlock)]
    assert blocks and all(isinstance(block.mlp.c_fc, PackedLinear) for block in blocks)
