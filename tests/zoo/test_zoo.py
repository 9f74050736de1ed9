"""Published models by name: the list itself, and weights from a hub, from the cache, by hand, changed or closed."""

import json
import shutil
import sys
from functools import cache as cache_results

import pytest
import torch
from config_parts import with_local_tokenizers
from local_hub import use_hub
from open_clip.pretrained import get_pretrained_cfg
from safetensors.torch import save_file
from tiny_bert import tokenizer_folder

import openvocab
from openvocab.backbones.tower_facts import license_of, tower_facts
from openvocab.checkpoint.start_weights import start_weights
from openvocab.config.config import read_config
from openvocab.config.shipped import config_file, configs_folder, shipped_configs
from openvocab.converters import CONVERTERS
from openvocab.foreign.transformers_model import TransformersModel
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS
from openvocab.zoo import cache, models, prepare_weights, zoo_models

CONFIG = """
from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.foreign.transformers_model import TransformersModel
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

clip = dict(model="ViT-Ti-8-shapes")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, **clip),
    text_encoder=dict(type=CLIPTextEncoder, **clip),
    head=dict(type=DenseCLIPHead),
)
test_dataloader = dict(dataset=dict(pipeline=[dict(type=LoadImage), dict(type=PackSample)]))
"""
ENTRY = """
tiny:
  what: a tiny model
  task: semantic segmentation
  config: {config}
  {source}
  license: {license}
  commercial: {commercial}
  megabytes: 1
  published: none
  ours: not yet measured
"""
OPEN = dict(license="MIT", commercial="yes")
IMAGE = torch.randint(0, 255, (64, 64, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A function that writes a list of one model, whose official layout prefixes each name with "official."."""
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "our cache"))
    (tmp_path / "tiny_config.py").write_text(CONFIG)
    monkeypatch.setitem(
        CONVERTERS, "tiny", lambda state: {name.removeprefix("official."): value for name, value in state.items()}
    )

    def write(source: str, **fields):
        path = tmp_path / f"models{len(list(tmp_path.glob('models*')))}.yaml"
        path.write_text(ENTRY.format(config=tmp_path / "tiny_config.py", source=source, **{**OPEN, **fields}))
        monkeypatch.setattr(models, "MODELS_FILE", path)

    write("hub: owner/tiny\n  files: [model.safetensors, pytorch_model.bin]\n  converter: tiny")
    return write


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> dict[str, torch.Tensor]:
    """Weights of the tiny model."""
    path = tmp_path_factory.mktemp("config") / "tiny_config.py"
    path.write_text(CONFIG)
    torch.manual_seed(0)
    return MODELS.build(read_config(path).model).state_dict()


def embed(predictor: openvocab.Predictor) -> torch.Tensor:
    """Return what tells whether a predictor has certain weights, which it no longer shows."""
    return torch.cat([predictor.encode_image(IMAGE), predictor.encode_text(["a cat"])])


@pytest.fixture(scope="module")
def expected(state, tmp_path_factory) -> torch.Tensor:
    """The embeddings by these weights."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "tiny_config.py").write_text(CONFIG)
    torch.save(state, folder / "weights.pth")
    return embed(openvocab.load(folder / "tiny_config.py", folder / "weights.pth"))


@pytest.fixture
def published(hub, state, tmp_path):
    """The tiny model on the local hub, in its official layout."""
    torch.save({f"official.{name}": value for name, value in state.items()}, tmp_path / "official.bin")
    hub.add("owner/tiny", "pytorch_model.bin", tmp_path / "official.bin")
    return hub


def test_a_published_model_is_loaded_by_its_name(zoo, published, expected, caplog):
    predictor = openvocab.load("tiny")
    assert isinstance(predictor.model, OpenVocabModel)
    assert embed(predictor).equal(expected)
    assert predictor(IMAGE, "cat, dog").label_map.shape == (64, 64)
    assert "tiny: the license of the weights is MIT" in caplog.text
    caplog.clear()
    assert embed(openvocab.load("tiny")).equal(expected)
    assert "license" not in caplog.text


def test_without_a_network_the_first_load_works_from_the_cache_and_the_message_says_what_to_fetch(
    zoo, published, monkeypatch, tmp_path
):
    openvocab.load("tiny")
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub cache")
    openvocab.load("tiny")
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "empty cache")
    with pytest.raises(
        FileNotFoundError, match="download model.safetensors or pytorch_model.bin from .*owner/tiny"
    ) as error:
        openvocab.load("tiny")
    assert "\n" not in str(error.value)


def test_a_file_that_has_changed_is_refused(zoo, published, tmp_path):
    openvocab.load("tiny")
    (file,) = (tmp_path / "hub cache").rglob("pytorch_model.bin")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    target = file.resolve()
    target.unlink()
    target.write_bytes(content)
    with pytest.raises(ValueError, match="is not the file of the first use.*delete .*tiny.json") as error:
        openvocab.load("tiny")
    assert "\n" not in str(error.value)


def test_a_layout_that_does_not_fit_is_named(zoo, hub, tmp_path, state):
    wrong = dict(state)
    wrong["backbone.visual.proj"] = torch.zeros(3, 3)
    torch.save(wrong, tmp_path / "official.bin")
    hub.add("owner/tiny", "pytorch_model.bin", tmp_path / "official.bin")
    with pytest.raises(ValueError, match="backbone.visual.proj"):
        openvocab.load("tiny")


def test_a_license_that_restricts_commercial_use_is_accepted_once(zoo, published):
    zoo("hub: owner/tiny\n  files: [pytorch_model.bin]\n  converter: tiny", license="for research", commercial="no")
    with pytest.raises(PermissionError, match="tiny: the license.*for research, restricts.*accept_license=True"):
        openvocab.load("tiny")
    openvocab.load("tiny", accept_license=True)
    openvocab.load("tiny")
    zoo("hub: owner/tiny\n  files: [pytorch_model.bin]\n  converter: tiny", license="stricter", commercial="no")
    with pytest.raises(PermissionError, match="stricter"):
        openvocab.load("tiny")


def test_a_gated_model_says_where_to_ask(zoo, published):
    published.gated.add("owner/tiny")
    with pytest.raises(PermissionError, match="is gated: accept its conditions at"):
        openvocab.load("tiny")


def test_weights_that_are_fetched_by_hand_have_a_place(zoo, state, expected, tmp_path):
    zoo("by hand: https://example.org/weights\n  file: official.pth\n  converter: tiny")
    with pytest.raises(FileNotFoundError, match="download official.pth from https://example.org/weights") as error:
        openvocab.load("tiny")
    place = tmp_path / "our cache" / "zoo" / "tiny" / "official.pth"
    assert str(place) in str(error.value)
    place.parent.mkdir(parents=True)
    torch.save({f"official.{name}": value for name, value in state.items()}, place)
    assert embed(openvocab.load("tiny")).equal(expected)
    (record,) = (tmp_path / "our cache" / "zoo").glob("*.json")
    assert set(json.loads(record.read_text())) == {"sha256", "file", "size", "modified", "license", "source"}


def test_a_file_without_a_text_tower_gets_that_of_a_clip(zoo, hub, tmp_path, state, expected, monkeypatch):
    source = "by hand: https://example.org/weights\n  file: official.pth"
    zoo(f"{source}\n  converter: tiny\n  text tower: ViT-Ti-8-shapes/tiny")
    place = tmp_path / "our cache" / "zoo" / "tiny" / "official.pth"
    place.parent.mkdir(parents=True)
    text = {name: value for name, value in state.items() if name.startswith("text_encoder.")}
    torch.save({f"official.{name}": value for name, value in state.items() if name not in text}, place)
    clip = {name.removeprefix("text_encoder."): value for name, value in text.items()}
    save_file(clip | {"visual.conv1.weight": torch.zeros(1)}, tmp_path / "clip.safetensors")
    hub.add("owner/clip", "open_clip_model.safetensors", tmp_path / "clip.safetensors")
    monkeypatch.setattr(
        "openvocab.clip.open_clip_model.get_pretrained_cfg", lambda model, tag: {"hf_hub": "owner/clip/"}
    )
    assert embed(openvocab.load("tiny")).equal(expected)


def test_a_model_of_a_tag_loads_its_towers_itself(zoo, hub, tmp_path, state, monkeypatch):
    zoo("tag: ViT-Ti-8-shapes/tiny")
    clip = {name: value for name, value in state.items() if name.startswith(("backbone.visual.", "text_encoder.text."))}
    names = {"backbone.visual.": "visual.", "text_encoder.text.": "text."}
    renamed = {
        new + name.removeprefix(old): value
        for name, value in clip.items()
        for old, new in names.items()
        if name.startswith(old)
    }
    save_file(renamed | {"logit_scale": state["text_encoder.logit_scale"]}, tmp_path / "clip.safetensors")
    hub.add("owner/clip", "open_clip_model.safetensors", tmp_path / "clip.safetensors")
    monkeypatch.setattr(
        "openvocab.clip.open_clip_model.get_pretrained_cfg", lambda model, tag: {"hf_hub": "owner/clip/"}
    )
    assert prepare_weights(zoo_models()[0]) is None


def test_a_checkpoint_of_the_user_replaces_the_published_weights(zoo, state, expected, tmp_path):
    torch.save(state, tmp_path / "mine.pth")  # nothing is served or fetched
    assert embed(openvocab.load("tiny", tmp_path / "mine.pth")).equal(expected)


def test_a_model_of_transformers_asks_for_transformers_before_it_is_fetched(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    model = next(model for model in zoo_models() if model.name == "grounding-dino-tiny")
    with pytest.raises(ImportError, match=r"grounding-dino-tiny .*pip install 'openvocab\[hf\]'"):
        prepare_weights(model)


# --- the list itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", zoo_models(), ids=lambda model: model.name)
def test_an_entry_of_the_list_is_true(model):
    config = read_config(model.config, model.settings)
    assert model.what and model.published
    if model.tag is not None:
        architecture, _, tag = model.tag.rpartition("/")
        assert get_pretrained_cfg(architecture, tag)
        for part in (config.model.backbone, config.model.text_encoder):
            assert (part.model, part.pretrained) == (architecture, tag)
        assert model.license == license_of(architecture, tag)
        facts = tower_facts(architecture)
        assert model.megabytes == pytest.approx(4e-6 * (facts.image_parameters + facts.text_parameters), abs=1)
    elif config.model.type is TransformersModel:
        assert config.model.pretrained == f"hf-hub:{model.hub}" and model.converter is None
    else:
        assert model.converter in CONVERTERS
        assert (model.megabytes is None) != (model.computed_megabytes is None)
        if model.computed_megabytes is not None:
            assert model.computed_megabytes == weights_in_megabytes(model.config, tuple(model.settings.items()))
        assert model.files if model.hub else model.file
    if model.text_tower is not None:
        architecture, _, tag = model.text_tower.rpartition("/")
        assert get_pretrained_cfg(architecture, tag) and config.model.text_encoder.model == architecture


@cache_results
def weights_in_megabytes(config: str, settings: tuple) -> int:
    """Return 4 bytes per weight of the model of a config, which is built without memory for them."""
    with torch.device("meta"), start_weights(load=False):
        model = MODELS.build(with_local_tokenizers(read_config(config, dict(settings)).model.to_dict()))
    return round(4e-6 * sum(value.numel() for value in model.state_dict().values()))


def test_the_list_has_what_is_promised():
    names = [model.name for model in zoo_models()]
    for data, folds in (("pascal5i", 4), ("coco20i", 4)):
        assert {f"lseg-{data}-fold{fold}" for fold in range(folds)} <= set(names)
    assert len(set(names)) == len(names)
    towers = {model.tag.split("/")[0] for model in zoo_models() if model.name.startswith("dense-clip")}
    assert {
        "ViT-B-16-quickgelu",
        "ViT-L-14-336-quickgelu",
        "ViT-B-16-SigLIP2-512",
        "PE-Core-L-14-336",
        "EVA02-L-14-336",
    } <= towers
    assert {
        "groupvit-gcc-yfcc",
        "groupvit-gcc-redcaps",
        "lseg-demo-vit-l16",
        "vild-detpro-lvis-r50",
        "clip-vit-b16",
    } <= set(names)


@pytest.mark.parametrize(
    ("change", "message"),
    [(("hub: owner/tiny", ""), "expected one of tag, hub and by hand"), (("what: a", "wath: a"), "tiny: .*wath")],
)
def test_a_wrong_entry_is_named(zoo, change, message):
    text = models.MODELS_FILE.read_text()
    models.MODELS_FILE.write_text(text.replace(*change))
    with pytest.raises(ValueError, match=message):
        zoo_models()


# --- names of configs -------------------------------------------------------------------------------------------------


def test_a_config_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = configs_folder() / "lseg_ade.py"
    for name in ("lseg_ade", "lseg_ade.py", "configs/lseg_ade.py"):
        assert config_file(name) == shipped
    assert read_config("lseg_ade").filename == str(shipped)
    assert "lseg_ade" in shipped_configs() and "runtime" not in shipped_configs()
    (tmp_path / "lseg_ade.py").write_text("x = 1")
    assert config_file("lseg_ade.py").read_text() == "x = 1"


@pytest.mark.parametrize(
    ("what", "name", "meant"),
    [
        ("model or config", "lseg_adee", "lseg_ade"),
        ("model or config", "groupvit-gcc-yfc", "groupvit-gcc-yfcc"),
        ("config", "lseg-ade.py", "lseg_ade"),
    ],
)
def test_a_name_that_is_none_lists_the_nearest(what, name, meant):
    with pytest.raises(FileNotFoundError, match=f"no such {what}: {name}; did you mean .*{meant}"):
        openvocab.load(name)


def test_a_path_that_is_none_is_not_taken_for_a_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such config: .*sub/lseg_ade.py$"):
        openvocab.load(tmp_path / "sub" / "lseg_ade.py")


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENVOCAB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "openvocab"
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "mine"))
    assert cache.cache_folder() == tmp_path / "mine"


# --- a tokenizer that weights do not bring ----------------------------------------------------------------------------

GLIP_CONFIG = """
from openvocab.backbones.swin import SwinBackbone
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.heads.glip import GLIPHead
from openvocab.model import OpenVocabModel
from openvocab.text.bert import BERTTextEncoder

bert = "hf-hub:google-bert/bert-base-uncased"
sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, vocab_size=200)
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=SwinBackbone, dim=16, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2)),
    text_encoder=dict(type=BERTTextEncoder, config=sizes, tokenizer=bert),
    head=dict(
        type=GLIPHead,
        pyramid=dict(layers=(2, 3, 4), dim=32, extra_levels=2, extra="retinanet"),
        tower=dict(num_blocks=1, text_heads=2, fusion_heads=1, fusion_head_dim=16),
        detections=dict(min_score=0.0),
    ),
    padding="mean",
)
test_dataloader = dict(dataset=dict(pipeline=[dict(type=LoadImage), dict(type=PackSample)]))
"""


@pytest.fixture
def published_glip(zoo, hub, tmp_path):
    """A tiny GLIP on the local hub; of BERT, the hub has the tokenizer alone."""
    path = tmp_path / "tiny_config.py"
    path.write_text(GLIP_CONFIG)
    config = read_config(path).model.to_dict()
    config["text_encoder"]["tokenizer"] = str(tokenizer_folder(tmp_path))
    torch.manual_seed(0)
    state = MODELS.build(config).state_dict()
    torch.save({"model": {f"official.{name}": value for name, value in state.items()}}, tmp_path / "official.bin")
    hub.add("owner/tiny", "pytorch_model.bin", tmp_path / "official.bin")
    hub.add("google-bert/bert-base-uncased", "vocab.txt", tmp_path / "vocab.txt")
    hub.add("google-bert/bert-base-uncased", "tokenizer_config.json", b'{"do_lower_case": true}')
    return hub


def test_a_published_glip_fetches_a_tokenizer_and_no_weights_of_bert(published_glip, tmp_path):
    predictor = openvocab.load("tiny")
    found = predictor(IMAGE, ["cat", "stop sign"])
    assert len(found.boxes) and set(found.classes.tolist()) <= {0, 1}
    fetched = {path.name for path in (tmp_path / "hub cache").rglob("*") if "bert" in str(path) and path.is_symlink()}
    assert fetched == {"vocab.txt", "tokenizer_config.json"}


def test_without_a_network_a_published_glip_names_the_missing_tokenizer(published_glip, tmp_path, monkeypatch):
    openvocab.load("tiny")
    for folder in (tmp_path / "hub cache").glob("*bert*"):
        shutil.rmtree(folder)
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub cache")
    with pytest.raises(
        FileNotFoundError, match="download tokenizer.json or vocab.txt from .*bert-base-uncased"
    ) as error:
        openvocab.load("tiny")
    assert "\n" not in str(error.value)
