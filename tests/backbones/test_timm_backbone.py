"""timm towers at any size: equal to timm itself where timm can, resampled as LSeg does elsewhere."""

import re
import time
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from local_hub import use_hub
from safetensors.torch import save_file
from torch import nn

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.backbones.timm_vit import TokenReader
from openvocab.checkpoint.start_weights import start_weights
from openvocab.converters.mobilenet_v2 import torchvision_to_timm

SMALL = dict(embed_dim=32, depth=3, num_heads=2)


def make_vit(**arguments) -> TimmBackbone:
    torch.manual_seed(0)
    backbone = TimmBackbone("vit_tiny_patch16_384", model_args=SMALL, **arguments)
    nn.init.normal_(backbone.visual.pos_embed, std=0.5)
    nn.init.normal_(backbone.visual.cls_token, std=0.5)
    return backbone.eval()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_384", "vit_small_patch14_reg4_dinov2", "vit_tiny_r_s16_p8_384"])
def test_tokens_equal_timm_at_another_size(name):
    """timm resamples positions bicubically; with that choice both agree at every block."""
    torch.manual_seed(0)
    args = SMALL if "_r_" not in name else dict(SMALL, embed_dim=32)
    backbone = TimmBackbone(name, position_resize="bicubic", model_args=args).eval()
    nn.init.normal_(backbone.visual.pos_embed)
    peer = timm.create_model(name, num_classes=0, dynamic_img_size=True, **args).eval()
    peer.load_state_dict(backbone.visual.state_dict(), strict=False)
    stride = backbone.spec.stride
    images = torch.randn(2, 3, 3 * stride, 5 * stride)
    maps, prefixes = zip(*peer.forward_intermediates(images, intermediates_only=True, return_prefix_tokens=True))
    features = backbone(images, range(4))
    for i in range(3):
        torch.testing.assert_close(features.hidden[i + 1], maps[i])
        torch.testing.assert_close(features.prefix[i + 1], prefixes[i])
    assert features.hidden[0].shape == maps[0].shape
    assert backbone.spec.hidden_dims == (32,) * 4 and backbone.spec.embed_dim is None


def test_positions_are_resampled_bilinearly_as_lseg_does():
    backbone = make_vit()
    with torch.no_grad():
        backbone.visual.patch_embed.proj.weight.zero_()
        backbone.visual.patch_embed.proj.bias.zero_()
        features = backbone(torch.randn(1, 3, 96, 160), (0,))
    grid = backbone.visual.pos_embed[:, 1:].view(1, 24, 24, 32).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, size=(6, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(features.hidden[0], expected)
    torch.testing.assert_close(features.prefix[0], backbone.visual.cls_token + backbone.visual.pos_embed[:, :1])


def test_the_official_lseg_tower_has_its_facts():
    with torch.device("meta"):
        backbone = TimmBackbone("vit_large_patch16_384")
    assert backbone.spec.stride == 16
    assert backbone.spec.hidden_dims == (1024,) * 25
    assert backbone.mean == backbone.std == (127.5,) * 3
    assert isinstance(backbone.reader, TokenReader)
    assert not any(name.startswith(("norm.", "head.")) for name in backbone.visual.state_dict())


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv2_100"])
def test_pyramids_equal_timm_features(name):
    backbone = TimmBackbone(name).eval()
    images = torch.randn(1, 3, 64, 96)
    features = backbone(images, (1, 3))
    stages = backbone.visual(images)
    assert sorted(features.hidden) == [1, 3] and not features.prefix
    for i in (1, 3):
        torch.testing.assert_close(features.hidden[i], stages[i])
        assert features.hidden[i].shape[1] == backbone.spec.hidden_dims[i]
        assert 64 // features.hidden[i].shape[2] == backbone.spec.hidden_strides[i]
    assert backbone.mean == pytest.approx((123.675, 116.28, 103.53))


def test_a_size_or_layer_that_does_not_exist_is_refused():
    backbone = make_vit()
    with pytest.raises(ValueError, match="100x96.*16"):
        backbone(torch.randn(1, 3, 100, 96))
    with pytest.raises(ValueError, match=r"\[7\].*0 to 3"):
        backbone(torch.randn(1, 3, 96, 96), (7,))


def test_trainability_and_batch_norm_modes():
    backbone = TimmBackbone("resnet18", trainable=1)
    trained = {name.split(".")[0] for name, p in backbone.visual.named_parameters() if p.requires_grad}
    assert trained == {"layer4"}
    assert not backbone.visual.bn1.training and backbone.visual.layer4[0].bn1.training
    backbone = TimmBackbone("resnet18", norm_eval=True).train()
    norms = [part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and not any(part.training for part in norms)
    assert all(p.requires_grad for p in backbone.parameters())
    attention = make_vit(trainable="attention")
    trained = {name.split(".")[2] for name, p in attention.visual.named_parameters() if p.requires_grad}
    assert trained == {"attn"}


def test_checkpointing_keeps_outputs_and_gradients():
    plain, saving = make_vit(), make_vit(checkpointing=True)
    images = torch.randn(1, 3, 32, 48)
    for backbone in (plain, saving):
        backbone(images, (3,)).hidden[3].square().sum().backward()
    ours = dict(saving.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(ours[name].grad, parameter.grad)


@pytest.mark.parametrize("name,args", [("vit_tiny_patch16_384", SMALL), ("resnet18", {}), ("convnext_atto", {})])
def test_local_files_in_timms_layout_load_and_drop_the_classifier(tmp_path, name, args):
    torch.manual_seed(0)
    peer = timm.create_model(name, **args)
    path = tmp_path / "weights.safetensors"
    save_file(peer.state_dict(), str(path))
    backbone = TimmBackbone(name, path, model_args=args).eval()
    fresh = backbone.state_dict()
    source = {key.replace(".", "_", 1): value for key, value in peer.state_dict().items()} | peer.state_dict()
    for key, value in fresh.items():
        torch.testing.assert_close(value, source[key.removeprefix("visual.")])


@pytest.mark.parametrize("model", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])  # the second is JAX elsewhere
def test_timms_own_weights_come_from_the_hub_or_from_where_the_user_has_put_them(
    model, hub, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "ours"))
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model(model).state_dict(), str(path))
    expected = TimmBackbone(model, path).state_dict()
    repository = timm.get_pretrained_cfg(model).hf_hub_id
    began = time.monotonic()
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub cache")
    with pytest.raises(FileNotFoundError, match=f"download model.safetensors from .*{repository}") as error:
        TimmBackbone(model, pretrained=True)
    assert time.monotonic() - began < 5 and "\n" not in str(error.value)
    put = Path(re.search("put it at (.*), or", str(error.value))[1])
    put.parent.mkdir(parents=True)
    put.write_bytes(path.read_bytes())
    by_hand = TimmBackbone(model, pretrained=True).state_dict()
    put.unlink()
    use_hub(monkeypatch, hub.address, tmp_path / "hub cache")
    hub.add(repository, "model.safetensors", path)
    from_hub = TimmBackbone(model, pretrained=True).state_dict()
    for name, value in expected.items():
        assert torch.equal(by_hand[name], value) and torch.equal(from_hub[name], value)
    assert "Unexpected keys" not in caplog.text  # those of the classifier, in every such file


def test_a_file_of_another_model_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), str(path))
    with pytest.raises(ValueError, match="does not fit mobilenetv2_100"):
        TimmBackbone("mobilenetv2_100", path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        TimmBackbone("resnet18", tmp_path / "absent.pth")


def test_unknown_models_and_arguments_are_named():
    with pytest.raises(ValueError, match="vit_large_patch16_384"):
        TimmBackbone("vit_large_patch16_385")
    with pytest.raises(ValueError, match="no_such_argument"):
        TimmBackbone("resnet18", model_args=dict(no_such_argument=1))


def test_torchvision_mobilenet_v2_weights_give_torchvisions_features(tmp_path):
    torch.manual_seed(0)
    peer = torchvision.models.mobilenet_v2().eval()
    path = tmp_path / "mobilenet_v2.safetensors"
    save_file(peer.state_dict(), str(path))
    backbone = TimmBackbone("mobilenetv2_100", path).eval()
    images = torch.randn(1, 3, 64, 96)
    hidden = backbone(images, range(5)).hidden
    for stage, last in enumerate((1, 3, 6, 13, 17)):  # torchvision's index of each stage's last block
        torch.testing.assert_close(hidden[stage], peer.features[: last + 1](images))
    with pytest.raises(ValueError, match="surplus"):
        torchvision_to_timm({"surplus.weight": torch.zeros(1)})


def test_same_padding_pads_right_and_bottom():
    backbone = TimmBackbone("mobilenetv2_100", model_args=dict(pad_type="same")).eval()
    images = torch.randn(1, 3, 32, 32)
    expected = F.conv2d(F.pad(images, (0, 1, 0, 1)), backbone.visual.conv_stem.weight, stride=2)
    torch.testing.assert_close(backbone.visual.conv_stem(images), expected)


def test_real_mobilenet_weights_load(shared_data):
    path = shared_data / "weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision_fp16.safetensors"
    backbone = TimmBackbone(
        "mobilenetv2_100", path, mean=(127.5,) * 3, std=(127.5,) * 3, model_args=dict(pad_type="same")
    ).eval()
    assert backbone.visual.conv_stem.weight.dtype == torch.float32
    assert backbone(torch.rand(1, 3, 64, 64), (4,)).hidden[4].std() > 0.1


def test_where_a_checkpoint_follows_no_weights_are_read():
    with start_weights(load=False):
        backbone = TimmBackbone("mobilenetv2_100", pretrained="not/here.safetensors", mean=(1, 2, 3))
        TimmBackbone("resnet18", pretrained=True)
    assert backbone.mean == (1, 2, 3)
