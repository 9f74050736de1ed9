"""OWLv2 weights of transformers in our names: strictly, through the command, and where they belong."""

import subprocess
import sys

import pytest
import torch
from config_parts import CONFIGS, REPOSITORY, without_weights
from mmengine.config import Config
from mmengine.registry import init_default_scope
from safetensors.torch import save_file

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.config.config import read_config
from openvocab.converters.owlv2 import convert
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS
from openvocab.zoo import find_model

transformers = pytest.importorskip("transformers")

# google/owlv2-large-patch14-ensemble, from its config.json
LARGE = dict(
    text_config=dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12),
    vision_config=dict(
        hidden_size=1024,
        intermediate_size=4096,
        image_size=1008,
        num_attention_heads=16,
        num_hidden_layers=24,
        patch_size=14,
    ),
    projection_dim=768,
)
BASE = dict(vision_config=dict(image_size=960))


def their_state(**sizes) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return transformers.Owlv2ForObjectDetection(transformers.Owlv2Config(**sizes)).state_dict()


def build(config: Config) -> OpenVocabModel:
    init_default_scope("openvocab")
    with torch.device("meta"):
        return MODELS.build(without_weights(config.model.to_dict()))


@pytest.mark.parametrize(
    ("name", "sizes"), [("owlv2-base-patch16-ensemble", BASE), ("owlv2-large-patch14-ensemble", LARGE)]
)
def test_it_loads_strictly_into_the_published_models(name: str, sizes: dict):
    published = find_model(name)
    config = next(path for path in CONFIGS if path.stem == published.config)
    build(read_config(config, published.settings)).load_state_dict(convert(their_state(**sizes)), assign=True)


def test_position_ids_of_older_files_are_dropped():
    ids = {f"owlv2.{tower}_model.embeddings.position_ids": torch.arange(3) for tower in ("text", "vision")}
    assert convert(their_state(**BASE) | ids).keys() == convert(their_state(**BASE)).keys()


def test_other_files_are_rejected_by_name():
    state = their_state(**BASE)
    with pytest.raises(ValueError, match=r"OWLv2.* 1 of .* unknown: class_predictor"):
        convert(state | {"class_predictor.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="OWLv2"):
        convert({})
    missing = {key: value for key, value in state.items() if "post_layernorm" not in key}
    with pytest.raises(ValueError, match="lacks owlv2.vision_model.post_layernorm"):
        convert(missing)


def test_the_command_converts_a_folder_of_transformers(tmp_path):
    config = transformers.Owlv2Config(
        text_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2),
        vision_config=dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1),
        projection_dim=32,
    )
    state = transformers.Owlv2ForObjectDetection(config).state_dict()
    (tmp_path / "theirs").mkdir()
    save_file(state, tmp_path / "theirs" / "model.safetensors")
    command = [
        sys.executable,
        "tools/convert_checkpoint.py",
        "owlv2",
        str(tmp_path / "theirs"),
        str(tmp_path / "o.pth"),
    ]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    converted = load_checkpoint(tmp_path / "o.pth")["state_dict"]
    assert torch.equal(converted["head.box_mlp.2.weight"], state["box_head.dense1.weight"])
    assert torch.equal(converted["head.token_norm.bias"], state["owlv2.vision_model.post_layernorm.bias"])
