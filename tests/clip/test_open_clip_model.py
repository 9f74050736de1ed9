import copy

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.checkpoint.start_weights import start_weights
from openvocab.clip import open_clip_model
from openvocab.clip.open_clip_model import clip_config, create_clip, known_models, pixel_statistics, uses_quick_gelu
from openvocab.text.clip_text import CLIPTextEncoder

TINY = "ViT-Ti-8-shapes"


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return create_clip(TINY)


@pytest.fixture
def quick_gelu_twin(tmp_path, monkeypatch):
    """Make `<TINY>-quickgelu` a known model, as open_clip has twins of OpenAI's."""
    folder = tmp_path / "model_configs"
    folder.mkdir()
    text = (open_clip_model.CONFIG_FOLDER / f"{TINY}.json").read_text()
    (folder / f"{TINY}.json").write_text(text)
    (folder / f"{TINY}-quickgelu.json").write_text(text.replace('"quick_gelu": false', '"quick_gelu": true'))
    monkeypatch.setattr(open_clip_model, "CONFIG_FOLDER", folder)


def old_layout(state: dict) -> dict:
    """Rename to OpenAI's names: the text tower at the top level."""
    return {key.removeprefix("text."): value for key, value in state.items()}


def assert_same(clip, expected):
    for (name, value), other in zip(expected.state_dict().items(), clip.state_dict().values()):
        assert torch.equal(value, other), name


def test_parts_are_there_and_in_eval_mode(tiny):
    assert tiny.visual.output_dim == 128 and tiny.logit_scale.ndim == 0
    assert not tiny.training and not tiny.text.training
    assert tiny.text(torch.ones(1, 77, dtype=torch.long)).shape == (1, 128)


def test_building_leaves_open_clips_registry_alone(tiny):
    assert TINY not in open_clip.list_models()
    assert TINY in known_models() and "RN50-quickgelu" in known_models()
    clip_config(TINY)["vision_cfg"].clear()
    assert clip_config(TINY)["vision_cfg"]


@pytest.mark.parametrize("model", ["ViT-L-14-336-quickgelu", "RN50x4", "convnext_large_d_320", "ViT-H-14"])
def test_architecture_is_that_of_open_clips_factory(model):
    with torch.device("meta"):
        ours = create_clip(model)
        config = clip_config(model)
        if "timm_model_name" in config["vision_cfg"]:
            config["vision_cfg"]["timm_model_pretrained"] = False
        theirs = open_clip.CustomTextCLIP(**config)
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == expected


def test_unknown_name_suggests_known_ones():
    with pytest.raises(ValueError, match="ViT-B-16"):
        create_clip("ViT-B16")


def test_neither_file_nor_tag_lists_the_tags():
    with pytest.raises(FileNotFoundError, match="neither a file nor a tag of ViT-B-32.*laion400m_e31"):
        create_clip("ViT-B-32", "no/such/file.pt")


@pytest.mark.parametrize("layout", ["open_clip", "openai", "ours", "module", "safetensors"])
def test_every_layout_of_a_local_file_loads(layout, tiny, tmp_path):
    state = tiny.state_dict()
    path = tmp_path / "weights.pt"
    if layout == "open_clip":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif layout == "openai":
        torch.save(old_layout(state), path)
    elif layout == "ours":
        ours = {f"backbone.{k}": v for k, v in state.items() if k.startswith("visual.")}
        ours |= {f"text_encoder.{k}": v for k, v in state.items() if k.startswith(("text.", "logit_scale"))}
        save_checkpoint({"state_dict": ours | {"head.weight": torch.ones(2)}, "meta": {"quick_gelu": False}}, path)
    elif layout == "module":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        path = tmp_path / "weights.safetensors"
        save_file({key: value.clone() for key, value in state.items()}, path)
    torch.manual_seed(1)
    assert_same(create_clip(TINY, str(path)), tiny)


def test_logit_scale_of_one_element_is_the_same_number(tiny, tmp_path):
    state = dict(tiny.state_dict(), logit_scale=torch.tensor([3.5]))
    torch.save(state, tmp_path / "weights.pt")
    assert create_clip(TINY, str(tmp_path / "weights.pt")).logit_scale.item() == 3.5


def test_half_precision_file_fills_a_float32_model(tiny, tmp_path):
    torch.save({key: value.half() for key, value in tiny.state_dict().items()}, tmp_path / "weights.pt")
    loaded = create_clip(TINY, str(tmp_path / "weights.pt"))
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    torch.testing.assert_close(loaded.visual.proj, tiny.visual.proj, atol=1e-3, rtol=1e-3)


def test_misfit_gives_a_short_difference(tiny, tmp_path):
    state = copy.copy(dict(tiny.state_dict()))
    del state["visual.ln_post.weight"]
    state["visual.extra"] = torch.ones(1)
    state["visual.proj"] = torch.ones(3, 4)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ValueError) as error:
        create_clip(TINY, str(tmp_path / "weights.pt"))
    message = str(error.value)
    assert "1 missing: visual.ln_post.weight" in message and "1 unexpected: visual.extra" in message
    assert "visual.proj: model (192, 128), file (3, 4)" in message and len(message) < 500


@pytest.mark.parametrize("origin", ["markers", "file name", "our metadata"])
def test_openai_weights_in_a_gelu_model_are_refused(origin, tiny, tmp_path, quick_gelu_twin):
    state = old_layout(tiny.state_dict())
    path = tmp_path / ("openai_vit.pt" if origin == "file name" else "weights.pt")
    if origin == "markers":
        state |= {name: torch.tensor(64) for name in open_clip_model.OPENAI_MARKERS}
    if origin == "our metadata":
        ours = {f"backbone.{k}": v for k, v in tiny.state_dict().items() if k.startswith("visual.")}
        ours |= {f"text_encoder.{k}": v for k, v in tiny.state_dict().items() if not k.startswith("visual.")}
        save_checkpoint({"state_dict": ours, "meta": {"quick_gelu": True}}, path)
    else:
        torch.save(state, path)
    with pytest.raises(ValueError, match=f"QuickGELU.*model='{TINY}-quickgelu'"):
        create_clip(TINY, str(path))
    assert_same(create_clip(f"{TINY}-quickgelu", str(path)), tiny)


def test_gelu_weights_in_a_quick_gelu_model_are_refused(tiny, tmp_path, quick_gelu_twin):
    ours = {f"backbone.{k}": v for k, v in tiny.state_dict().items() if k.startswith("visual.")}
    save_checkpoint({"state_dict": ours, "meta": {"quick_gelu": False}}, tmp_path / "ours.pth")
    with pytest.raises(ValueError, match=f"trained with GELU.*model='{TINY}'"):
        create_clip(f"{TINY}-quickgelu", str(tmp_path / "ours.pth"))


def test_weights_of_the_other_direction_of_the_text_tower_are_refused(tmp_path):
    causal, bidirectional = "ConvNet-8-shapes", "ConvNet-8-shapes-bidirectional"
    for model, other in ((causal, bidirectional), (bidirectional, causal)):
        state = create_clip(model).state_dict()
        ours = {f"{'backbone' if k.startswith('visual.') else 'text_encoder'}.{k}": v for k, v in state.items()}
        record = CLIPTextEncoder(model).bidirectional
        save_checkpoint({"state_dict": ours, "meta": {"bidirectional_text": record}}, tmp_path / "ours.pth")
        assert create_clip(model, str(tmp_path / "ours.pth")).text.use_pad_mask == record
        with pytest.raises(ValueError, match=f"text tower, but that of '{other}' is .* silently wrong"):
            create_clip(other, str(tmp_path / "ours.pth"))


def test_unrecorded_activation_is_said_aloud(tiny, tmp_path, quick_gelu_twin, logged):
    torch.save(tiny.state_dict(), tmp_path / "weights.pt")
    create_clip(TINY, str(tmp_path / "weights.pt"))
    assert len(logged) == 1 and "does not record its activation" in logged[0].getMessage()


@pytest.mark.parametrize(
    ("model", "tag", "fix"),
    [
        ("ViT-B-32", "openai", "ViT-B-32-quickgelu"),
        ("RN50", "openai", "RN50-quickgelu"),
        ("ViT-H-14", "dfn5b", "ViT-H-14-quickgelu"),
    ],
)
def test_tag_of_the_other_activation_is_refused_before_any_download(model, tag, fix):
    if not open_clip.pretrained.get_pretrained_cfg(model, tag):
        pytest.skip(f"open_clip does not list {tag} under {model}")
    with torch.device("meta"), pytest.raises(ValueError, match=f"model='{fix}'"):
        create_clip(model, tag)


def test_tag_without_network_says_which_file_to_pass(monkeypatch):
    def no_network(repository, names):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip_model, "hub_file", no_network)
    with torch.device("meta"), pytest.raises(FileNotFoundError, match="pretrained="):
        create_clip("ViT-B-32-quickgelu", "openai")


def test_where_a_checkpoint_follows_neither_tag_nor_file_is_read(monkeypatch):
    def no_network(*_):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(open_clip_model, "download_pretrained", no_network)
    monkeypatch.setattr(open_clip_model, "hub_file", no_network)
    with torch.device("meta"), start_weights(load=False):
        tag = create_clip("ViT-B-32-quickgelu", "openai")
        create_clip(TINY, "not/here.pt")
    assert tag.visual.output_dim == 512
    with pytest.raises(FileNotFoundError, match="not/here.pt"):  # as before, behind the block
        create_clip(TINY, "not/here.pt")


def test_statistics_follow_the_tag():
    assert pixel_statistics(TINY)[0] == pytest.approx([122.7709, 116.7460, 104.0937], abs=1e-3)
    assert pixel_statistics("ViT-B-16-SigLIP", "webli") == ((127.5,) * 3, (127.5,) * 3)
    assert uses_quick_gelu("ViT-B-32-quickgelu") and not uses_quick_gelu("ViT-B-32")
