"""Every file under configs/ loads, says what it is, and builds its model on the meta device."""

import ast
import inspect
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from config_parts import CONFIGS, without_weights
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from openvocab.config.config import read_config, typed_parts
from openvocab.engine.run_config import complete_training
from openvocab.foreign.transformers_model import TransformersModel
from openvocab.model import OpenVocabModel
from openvocab.registry import METRICS, MODELS, PARAM_SCHEDULERS, TRANSFORMS

pytestmark = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def test_config_opens_with_paper_command_and_score(path: Path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "a config opens with a docstring"
    for word in ("tools/", "xpected"):
        assert word in docstring, f"the docstring of {path.name} does not say its command and expected score"


def test_model_builds_with_random_weights(path: Path):
    init_default_scope("openvocab")
    config = read_config(path)
    if config.model.type is TransformersModel:
        pytest.skip("needs the files of a model; tests/tools/test_foreign_configs.py builds it from tiny ones")
    text_encoder = config.model.text_encoder
    if "path" in text_encoder and not Path(text_encoder["path"]).is_file():
        pytest.skip(f"needs the text rows {text_encoder['path']}")
    with torch.device("meta"):
        model = MODELS.build(without_weights(config.model.to_dict()))
    assert isinstance(model, OpenVocabModel)
    if config.get("optim_wrapper") is not None and any(p.requires_grad for p in model.parameters()):
        check_training(config, model)


def check_training(config: Config, model: OpenVocabModel) -> None:
    """Check that an optimizer with all parameters that learn, and its schedules, can be built as a training does."""
    complete_training(config)
    config.optim_wrapper.pop("amp", None)  # its probe takes time
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    trained = {id(parameter) for group in wrapper.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    for schedule in config.get("param_scheduler") or ():
        PARAM_SCHEDULERS.build(dict(schedule, optimizer=wrapper.optimizer))


def test_transforms_and_metrics_take_their_arguments(path: Path):
    init_default_scope("openvocab")
    config = read_config(path)
    for part in ("train", "val", "test"):
        for _, dataset in typed_parts(config.get(f"{part}_dataloader") or {}, part):
            for transform in dataset.get("pipeline") or ():
                with suppress(FileNotFoundError, ImportError):  # of what the user makes or installs first
                    TRANSFORMS.build(dict(transform))
        evaluators = config.get(f"{part}_evaluator") or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            METRICS.build(dict(evaluator))


def test_arguments_of_every_part_exist(path: Path):
    for place, part in parts_of(path):
        if place.split(".")[0] != "model" and place != "optim_wrapper":  # both are built, in another test
            arguments = {key: value for key, value in part.items() if key != "type"}
            try:
                inspect.signature(part["type"]).bind_partial(**arguments)
            except TypeError as error:
                pytest.fail(f"{place}: {part['type'].__name__}: {error}")


def test_a_data_set_has_no_name_that_a_user_would_inherit_with_the_config(path: Path):
    for place, part in parts_of(path):
        if issubclass(part["type"], torch.utils.data.Dataset):
            assert "name" not in part, place


def parts_of(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the place and the settings of everything that a config builds of a class."""
    config = read_config(path)
    parts = [found for key in config for found in typed_parts(config.get(key), key)]
    found = [(place, part) for place, part in parts if inspect.isclass(part["type"])]
    assert any(place == "model" for place, _ in found) and len(found) > len(parts) / 2
    return found
