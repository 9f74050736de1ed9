"""Every file under configs/ loads, says what it is, and builds its model on the meta device."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
from config_parts import CONFIGS, without_weights
from mmengine.registry import init_default_scope

from openvocab.config import read_config, typed_parts
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS

pytestmark = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def test_config_opens_with_paper_command_and_score(path: Path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "a config opens with a docstring"
    for word in ("tools/", "xpected"):
        assert word in docstring, f"the docstring of {path.name} does not say its command and expected score"


def test_model_builds_with_random_weights(path: Path):
    init_default_scope("openvocab")
    config = read_config(path)
    text_encoder = config.model.text_encoder
    if "path" in text_encoder and not Path(text_encoder["path"]).is_file():
        pytest.skip(f"needs the text rows {text_encoder['path']}")
    with torch.device("meta"):
        model = MODELS.build(without_weights(config.model.to_dict()))
    assert isinstance(model, OpenVocabModel)


def test_arguments_of_every_part_exist(path: Path):
    for place, part in typed_parts(read_config(path).to_dict(), path.stem):
        arguments = {key: value for key, value in part.items() if key != "type"}
        if not inspect.isclass(part["type"]) or place.startswith(f"{path.stem}.model"):
            continue
        try:
            inspect.signature(part["type"]).bind_partial(**arguments)
        except TypeError as error:
            pytest.fail(f"{place}: {part['type'].__name__}: {error}")


def test_a_data_set_has_no_name_that_a_user_would_inherit_with_the_config(path: Path):
    for place, part in typed_parts(read_config(path).to_dict(), path.stem):
        if inspect.isclass(part["type"]) and issubclass(part["type"], torch.utils.data.Dataset):
            assert "name" not in part, place
