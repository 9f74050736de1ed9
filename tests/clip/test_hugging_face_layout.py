"""CLIP and SigLIP as Hugging Face saves them: the same outputs as its own models, or a refusal by name."""

import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openvocab.clip import open_clip_model
from openvocab.clip.clip_layout import clip_layout
from openvocab.clip.open_clip_model import create_clip
from openvocab.converters.clip_text import text_tower

transformers = pytest.importorskip("transformers")

TINY = "ViT-Ti-8-shapes"
TEXT = dict(hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=2, eos_token_id=49407)
VISION = dict(
    hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=3, image_size=64, patch_size=8
)
TOKENS = torch.zeros(2, 77, dtype=torch.long)
TOKENS[0, :4] = torch.tensor([49406, 320, 1125, 49407])
TOKENS[1, :3] = torch.tensor([49406, 518, 49407])


def randomised(model: nn.Module) -> nn.Module:
    """Give a model weights that make every part count."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
            if value.ndim == 1 and "norm" in name and name.endswith("weight"):
                value.add_(1)
    return model.eval()


def clip_folder(folder, activation: str):
    """Save a small CLIP of Hugging Face's, with the towers of our tiny one."""
    config = transformers.CLIPConfig(
        text_config=dict(TEXT, hidden_act=activation),
        vision_config=dict(VISION, hidden_act=activation),
        projection_dim=128,
    )
    model = randomised(transformers.CLIPModel(config))
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip-of-hugging-face")
    return clip_folder(folder, "gelu"), folder


@pytest.fixture
def twins(tmp_path, monkeypatch):
    """Make known: the tiny CLIP, its twin with QuickGELU, and a tiny SigLIP."""
    text = (open_clip_model.CONFIG_FOLDER / f"{TINY}.json").read_text()
    folder = tmp_path / "model_configs"
    folder.mkdir()
    (folder / f"{TINY}.json").write_text(text)
    (folder / f"{TINY}-quickgelu.json").write_text(text.replace('"quick_gelu": false', '"quick_gelu": true'))
    (folder / "Tiny-SigLIP.json").write_text(json.dumps(SIGLIP))
    monkeypatch.setattr(open_clip_model, "CONFIG_FOLDER", folder)


@torch.no_grad()
def assert_same_outputs(theirs: nn.Module, ours: nn.Module, tokens: Tensor) -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for expected, got in (
        (theirs.get_image_features(images), ours.visual(images)),
        (theirs.get_text_features(tokens), ours.text(tokens)),
    ):
        expected = getattr(expected, "pooler_output", expected)
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(ours.logit_scale, theirs.logit_scale.reshape(()))


@pytest.mark.parametrize("form", ["folder", "model.safetensors", "pytorch_model.bin", "older, with position ids"])
def test_a_clip_gives_the_outputs_of_hugging_faces_own(clip, form, tmp_path):
    model, folder = clip
    path = folder if form == "folder" else tmp_path / form
    if form == "model.safetensors":
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    elif form == "pytorch_model.bin":
        torch.save(model.state_dict(), path)
    elif form.startswith("older"):
        ids = {f"{part}_model.embeddings.position_ids": torch.arange(9)[None] for part in ("text", "vision")}
        torch.save({**model.state_dict(), **ids}, path)
    assert_same_outputs(model, create_clip(TINY, str(path)), TOKENS)


def test_the_config_beside_the_weights_says_which_activation_they_need(tmp_path, twins):
    model = clip_folder(tmp_path / "hub", "quick_gelu")
    with pytest.raises(ValueError, match=f"QuickGELU.*model='{TINY}-quickgelu'"):
        create_clip(TINY, str(tmp_path / "hub"))
    assert_same_outputs(model, create_clip(f"{TINY}-quickgelu", str(tmp_path / "hub")), TOKENS)
    config = json.loads((tmp_path / "hub/config.json").read_text())
    for part in ("text_config", "vision_config"):  # older files leave out what is transformers' default
        del config[part]["hidden_act"]
    (tmp_path / "hub/config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"model='{TINY}-quickgelu'"):
        create_clip(TINY, str(tmp_path / "hub"))


def test_gelu_weights_in_a_quick_gelu_model_are_refused(clip, twins):
    with pytest.raises(ValueError, match=f"trained with GELU.*model='{TINY}'"):
        create_clip(f"{TINY}-quickgelu", str(clip[1]))


def test_weights_without_a_config_do_not_record_their_activation(clip, tmp_path, twins, logged):
    (tmp_path / "model.safetensors").write_bytes((clip[1] / "model.safetensors").read_bytes())
    create_clip(TINY, str(tmp_path))
    assert len(logged) == 1 and "does not record its activation" in logged[0].getMessage()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_model.post_layernorm.bias": None}, "1 missing: visual.ln_post.bias"),
        ({"vision_model.extra.weight": torch.ones(1)}, "CLIP: 1 of .* entries are unknown: vision_model.extra.weight"),
        (
            {"text_model.encoder.layers.1.self_attn.v_proj.bias": None},
            "not text_model.encoder.layers.1.self_attn.v_proj.bias",
        ),
        ({"visual_projection.weight": torch.ones(7, 192)}, r"visual.proj: model \(192, 128\), file \(192, 7\)"),
        ({"text_model.embeddings.position_embedding.weight": None}, "1 missing: text.positional_embedding"),
    ],
)
def test_what_is_missing_unknown_or_of_another_shape_is_named(clip, change, message, tmp_path):
    state = {key: value for key, value in {**clip[0].state_dict(), **change}.items() if value is not None}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message):
        create_clip(TINY, str(tmp_path))


def test_the_text_tower_of_a_detector_may_come_from_it(clip):
    ours = create_clip(TINY, str(clip[1])).text.state_dict()
    tower = text_tower(load_file(clip[1] / "model.safetensors"))
    assert tower.keys() == {f"text_encoder.text.{key}" for key in ours} | {"text_encoder.logit_scale"}
    assert all(torch.equal(value, tower[f"text_encoder.text.{key}"]) for key, value in ours.items())


def test_a_full_size_clip_fills_open_clips_architecture():
    with torch.device("meta"):
        theirs = transformers.CLIPModel(transformers.CLIPConfig())  # openai/clip-vit-base-patch32
        ours = create_clip("ViT-B-32-quickgelu")
    state = clip_layout(theirs.state_dict())
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in ours.state_dict().items()
    }


# --- SigLIP -------------------------------------------------------------------------------------------------------

SIGLIP = {
    "embed_dim": 32,
    "init_logit_bias": -10,
    "vision_cfg": {
        "image_size": 64,
        "timm_model_name": "vit_siglip_of_this_test",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 6,
        "vocab_size": 50,
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}


def vit_siglip_of_this_test(pretrained=False, **options) -> VisionTransformer:
    """Build a tiny tower as timm builds SigLIP's, with the activation that SigLIP was trained with."""
    fixed = dict(img_size=64, patch_size=16, embed_dim=32, depth=2, num_heads=2, class_token=False, global_pool="map")
    unused = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    options = {key: value for key, value in options.items() if key not in unused and value is not None}
    return VisionTransformer(**(fixed | dict(act_layer="gelu_tanh") | options))


@pytest.fixture
def tiny_siglip(monkeypatch):
    monkeypatch.setitem(timm.models._registry._model_entrypoints, "vit_siglip_of_this_test", vit_siglip_of_this_test)
    part = dict(hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
    text = dict(part, vocab_size=50, max_position_embeddings=6, projection_size=32)
    config = transformers.SiglipConfig(text_config=text, vision_config=dict(part, image_size=64, patch_size=16))
    return randomised(transformers.SiglipModel(config))


def test_a_siglip_gives_the_outputs_of_hugging_faces_own(tiny_siglip, tmp_path, twins, logged):
    tiny_siglip.save_pretrained(tmp_path / "siglip")
    ours = create_clip("Tiny-SigLIP", str(tmp_path / "siglip"))
    tokens = torch.randint(0, 50, (2, 6), generator=torch.Generator().manual_seed(2))
    assert_same_outputs(tiny_siglip, ours, tokens)
    torch.testing.assert_close(ours.logit_bias, tiny_siglip.logit_bias.reshape(()))
    assert not logged


def test_what_a_siglip_lacks_is_named(tiny_siglip, tmp_path, twins):
    state = dict(tiny_siglip.state_dict())
    del state["vision_model.head.probe"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="1 missing: visual.trunk.attn_pool.latent"):
        create_clip("Tiny-SigLIP", str(tmp_path))
    torch.save({**state, "vision_model.head.gate": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="SigLIP: 1 of .* entries are unknown: vision_model.head.gate"):
        create_clip("Tiny-SigLIP", str(tmp_path))


def test_a_full_size_siglip_fills_open_clips_architecture():
    with torch.device("meta"):
        theirs = transformers.SiglipModel(transformers.SiglipConfig())  # google/siglip-base-patch16-224
        ours = create_clip("ViT-B-16-SigLIP")
    state = clip_layout(theirs.state_dict())
    assert {key: value.numel() for key, value in state.items()} == {
        key: value.numel() for key, value in ours.state_dict().items()
    }
