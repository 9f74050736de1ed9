"""A checkpoint carries its config as data: enough to build the model from, and nothing that could be run."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from config_parts import CONFIGS, REPOSITORY, without_weights
from mmengine.config import Config

from openvocab import load
from openvocab.checkpoint.checkpoint import load_checkpoint, save_checkpoint, to_plain
from openvocab.config.config import ConfigError, read_config
from openvocab.config.saved import config_changes, config_of, config_to_data
from openvocab.heads.lseg import LSegHead
from openvocab.registry import HEADS, MODELS

LSEG = str(REPOSITORY / "configs" / "lseg_shapes.py")
NAMES = "cat, sofa, other"


def plain_config(**model_parts) -> dict:
    """Return the data of lseg_shapes with random weights, some parts of its model changed."""
    config = Config.fromfile(LSEG)
    data = config_to_data(Config({**config, "model": without_weights(config.model)}))
    for place, value in model_parts.items():
        node = data["model"]
        *parents, leaf = place.split("__")
        for name in parents:
            node = node[name]
        node[leaf] = value
    return data


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    with_scope = config_of({"meta": {"config": plain_config()}}, "x").model
    return MODELS.build(with_scope).state_dict()


def write(path: Path, weights: dict, config: object) -> Path:
    save_checkpoint({"state_dict": weights, "meta": {"config": config}}, path)
    return path


UNTRAINED = ("clip_on_regions_shapes", "conse_coco_mobilenetv2")
"""They test what a teacher or a classifier sees; nothing of them is trained, so that no checkpoint is loaded alone."""


@pytest.mark.parametrize("path", [c for c in CONFIGS if c.stem not in UNTRAINED], ids=lambda path: path.stem)
def test_every_config_of_the_repository_comes_out_as_it_went_in(path):
    config = read_config(path)
    data = config_to_data(config)
    assert to_plain(data) == data
    back = config_of({"meta": {"config": data}}, "x")
    assert dict(back.model.items()) == _without_folders(dict(config.model.items()))
    pipeline = config.get("test_dataloader", {}).get("dataset", {}).get("pipeline", [])
    assert [dict(step.items()) for step in back.test_dataloader.dataset.pipeline] == [dict(s.items()) for s in pipeline]
    assert config_changes(data, config_to_data(config)) == {}
    dumped = config_to_data(Config({"model": config.to_dict()["model"]}))  # with classes named as they were imported
    assert dict(config_of({"meta": {"config": dumped}}, "x").model.items()) == dict(back.model.items())


def _without_folders(node):
    if isinstance(node, dict):
        return {key: _without_folders(value) for key, value in node.items() if key != "cache_dir"}
    return type(node)(map(_without_folders, node)) if isinstance(node, (list, tuple)) else node


@pytest.mark.parametrize("alone", [lambda path: load(path), lambda path: load(checkpoint=path)], ids=["first", "named"])
def test_a_checkpoint_alone_predicts_as_with_its_config(tmp_path, weights, alone):
    path = write(tmp_path / "best.pth", weights, plain_config())
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    config = Config.fromfile(LSEG)
    given = load(Config({**config, "model": without_weights(config.model)}), path, "cpu")
    mine = alone(path)
    assert np.array_equal(mine(image, NAMES).label_map, given(image, NAMES).label_map)
    assert [type(step) for step in mine.pipeline] == [type(step) for step in given.pipeline]


def test_a_checkpoint_alone_has_the_pipeline_of_a_data_set_within_another(tmp_path, weights):
    data = plain_config()
    steps = [{"type": "LoadImage"}, {"type": "Resize", "short_side": 32}, {"type": "PackSample"}]
    dataset = {"type": "OtherVocabulary", "dataset": {"type": "SegmentationDataset", "pipeline": steps}}
    data["test_dataloader"]["dataset"] = dataset
    mine, given = load(write(tmp_path / "best.pth", weights, data)), load(Config(data), tmp_path / "best.pth")
    for predictor in (mine, given):
        assert [type(step).__name__ for step in predictor.pipeline] == ["LoadImage", "Resize", "PackSample"]


@pytest.mark.parametrize("part", [3, "dataset", ["dataset"], None])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_what_is_no_data_set_has_no_pipeline(part, depth):
    for _ in range(depth):
        part = {"dataset": part}
    assert config_of({"meta": {"config": plain_config() | {"test_dataloader": part}}}, "x.pth").test_dataloader == {
        "dataset": {"pipeline": []}
    }


@pytest.mark.parametrize("pipeline", [3, "LoadImage", {"type": "LoadImage"}])
def test_a_pipeline_that_is_no_list_is_refused(pipeline):
    data = plain_config() | {"test_dataloader": {"dataset": {"dataset": {"pipeline": pipeline}}}}
    with pytest.raises(ConfigError, match=r"x\.pth: the test pipeline is not a list"):
        config_of({"meta": {"config": data}}, "x.pth")


def test_data_sets_in_one_another_without_end_are_refused():
    endless: dict = {"type": "OtherVocabulary"}
    endless["dataset"] = endless
    with pytest.raises(ConfigError, match=r"x\.pth: .* nested datasets"):
        config_of({"meta": {"config": plain_config() | {"test_dataloader": {"dataset": endless}}}}, "x.pth")


def test_a_checkpoint_trained_with_other_settings_brings_them(tmp_path):
    config = plain_config(head__decoder__features=32)
    model = MODELS.build(config_of({"meta": {"config": config}}, "x").model)
    path = write(tmp_path / "best.pth", model.state_dict(), config)
    assert load(path).model.head.features == 32 if hasattr(model.head, "features") else load(path)
    with pytest.raises(ValueError) as caught:
        load(Config(dict(model=without_weights(Config.fromfile(LSEG).model))), path)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 4 and "of another shape: head." in lines[-1] and all(len(line) < 300 for line in lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"config": "open('canary', 'w')"}, "its config as program text, which is not run; give the config itself"),
        ({}, "no config of its model; give the config itself: load"),
        ({"config": {"model": 3}}, "no config of its model"),
    ],
)
def test_a_checkpoint_without_data_asks_for_the_config_in_one_line(tmp_path, weights, content, message):
    save_checkpoint({"state_dict": weights, "meta": content}, tmp_path / "old.pth")
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path / "old.pth")
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="no such model or config"):
        load("dense_clip")
    with pytest.raises(ValueError, match="expected a config, a checkpoint, or both"):
        load()


@pytest.fixture
def evil(tmp_path, monkeypatch) -> Path:
    """Put a module into reach that leaves a canary when it is imported or called; return the canary's path."""
    canary = tmp_path / "canary"
    line = f"open({str(canary)!r}, 'w').close()"
    (tmp_path / "evil_module.py").write_text(f"{line}\nclass Boom:\n    def __init__(self, **_):\n        {line}\n")
    (tmp_path / "evil_scope").mkdir()
    (tmp_path / "evil_scope" / "__init__.py").write_text("")
    (tmp_path / "evil_scope" / "registry.py").write_text(line)
    (tmp_path / "evil_config.py").write_text(line)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield canary
    for name in ("evil_module", "evil_scope", "evil_scope.registry"):
        sys.modules.pop(name, None)


def gadgets(canary: Path) -> dict[str, dict]:
    """Return model configs that would run something if a name in them were imported or called."""
    touch = f"touch {canary}"
    command = {"type": "os.system", "command": touch}
    boom = {"type": "evil_module.Boom"}
    detector = {
        "type": "openvocab.teacher.detector_proposals.DetectorProposals",
        "config": str(canary.parent / "evil_config.py"),
    }
    plain = plain_config()["model"]
    return {
        "model": command,
        "imported model": boom,
        "backbone": {**plain, "backbone": command},
        "text encoder": {**plain, "text_encoder": {"type": "subprocess.Popen", "args": touch, "shell": True}},
        "head": {**plain, "head": {**plain["head"], "type": "evil_module.Boom"}},
        "inner part": {**plain, "head": {**plain["head"], "layers": boom}},
        "in a list": {**plain, "inference": [[boom]]},
        "scope": {**plain, "_scope_": "evil_scope"},
        "inner scope": {**plain, "head": {**plain["head"], "_scope_": "evil_scope"}},
        "scope in a name": {**plain, "head": {**plain["head"], "type": "evil_scope.Head"}},
        "torch.load": {**plain, "head": {"type": "torch.load", "f": str(canary), "weights_only": False}},
        "torch.hub.load": {**plain, "head": {"type": "torch.hub.load", "repo_or_dir": str(canary.parent)}},
        "eval": {**plain, "head": {"type": "builtins.eval", "source": f"open({str(canary)!r}, 'w')"}},
        "reader of configs": {
            "type": "openvocab.config.config.read_config",
            "path": str(canary.parent / "evil_config.py"),
        },
        "config of a detector": {**plain, "head": {**plain["head"], "block": detector}},
        "list of pairs": {**plain, "head": [["type", "os.system"], ["command", touch]]},
        "type of a type": {**plain, "head": {"type": command}},
        "number as type": {**plain, "head": {"type": 3}},
        "model file": {**plain, "backbone": {**plain["backbone"], "model": "../../evil"}},
        "timm file": {
            **plain,
            "backbone": {
                "type": "TimmBackbone",
                "model": "resnet18",
                "model_args": {"checkpoint_path": str(canary.parent / "evil_module.py")},
            },
        },
    }


HARMLESS = {"scope", "inner scope"}
"""What is dropped from the config instead of being refused."""


@pytest.mark.parametrize("name", gadgets(Path("canary")))
def test_no_name_in_a_checkpoint_is_imported_or_called(tmp_path, weights, evil, name):
    path = write(tmp_path / "best.pth", weights, {**plain_config(), "model": gadgets(evil)[name]})
    if name in HARMLESS:
        load(path)
    else:
        with pytest.raises(ValueError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
    assert not evil.exists() and "evil_module" not in sys.modules and "evil_scope.registry" not in sys.modules


@pytest.mark.parametrize(
    "step",
    [
        {"type": "evil_module.Boom"},
        {"type": "Resize", "scale": {"type": "evil_module.Boom"}},
        {"type": "EmbedRegions", "teacher": {"model": "ViT-Ti-8-shapes", "proposals": [["type", "evil_module.Boom"]]}},
        {"type": "mmcv.transforms.LoadImageFromFile"},
        {"type": "RandomResize", "scale": (8, 8), "ratio_range": (1, 2), "resize_type": "evil_module.Boom"},
        {"type": "RandomChoiceResize", "scales": [(8, 8)], "resize_type": "evil_module.Boom"},
        {"type": "TestTimeAug", "transforms": [[{"type": "RandomResize", "scale": 8, "resize_type": "evil_module.B"}]]},
    ],
)
def test_no_step_of_a_pipeline_is_imported_or_called(tmp_path, weights, evil, step):
    config = plain_config()
    config["test_dataloader"]["dataset"]["pipeline"] = [step]
    with pytest.raises(ConfigError, match="is not registered for this kind of part"):
        load(write(tmp_path / "best.pth", weights, config))
    assert not evil.exists()


@pytest.mark.parametrize(
    "backbone",
    [
        {"type": "TimmBackbone", "model": "resnet18", "model_args": {"pretrained": True}},
        {"type": "TimmBackbone", "model": "resnet18", "pretrained": True},
        {"type": "ConSEBackbone", "model": "resnet18", "pretrained": True},
        {"type": "ConSEBackbone", "model": "resnet18"},
    ],
)
def test_no_part_of_a_checkpoint_fetches_weights(tmp_path, weights, monkeypatch, backbone):
    text = {"type": "CLIPTextEncoder", "model": "ViT-B-32", "pretrained": "openai"}
    if backbone["type"] == "ConSEBackbone":
        backbone = {**backbone, "text_encoder": text}
    asked = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *address, **_: asked.append(address) or [])
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: asked.append("timm"))
    with pytest.raises(ValueError):
        load(write(tmp_path / "best.pth", weights, plain_config(backbone=backbone)))
    assert not asked


@pytest.mark.parametrize("change", [{"head__decoder__features": -1}, {"head__decoder__features": 10**14}])
def test_a_model_that_cannot_be_made_is_one_line(tmp_path, weights, change):
    with pytest.raises(ConfigError, match=r"best\.pth: no model can be built from its config") as caught:
        load(write(tmp_path / "best.pth", weights, plain_config(**change)))
    assert "\n" not in str(caught.value)


def test_settings_that_import_or_run_elsewhere_are_not_looked_at(tmp_path, weights, evil):
    more = {
        "custom_imports": {"imports": ["evil_module"]},
        "custom_hooks": [{"type": "evil_module.Boom"}],
        "default_scope": "evil_scope",
        "visualizer": {"type": "evil_module.Boom"},
        "_base_": str(tmp_path / "evil_config.py"),
    }
    load(write(tmp_path / "best.pth", weights, {**plain_config(), **more}))
    assert not evil.exists() and "evil_module" not in sys.modules


def test_a_folder_in_a_checkpoint_is_not_written_to(tmp_path, weights):
    config = plain_config(text_encoder__cache_dir=str(tmp_path / "cache"))
    predictor = load(write(tmp_path / "best.pth", weights, config))
    predictor(np.zeros((16, 16, 3), np.uint8), NAMES)
    assert not (tmp_path / "cache").exists()


def test_a_class_that_the_caller_has_registered_is_built(tmp_path, weights):
    @HEADS.register_module(name="HeadOfAUser")
    class HeadOfAUser(LSegHead):
        pass

    head = {**plain_config()["model"]["head"], "type": "HeadOfAUser"}
    path = write(tmp_path / "best.pth", weights, plain_config(head=head))
    try:
        assert type(load(path).model.head) is HeadOfAUser
    finally:
        del HEADS.module_dict["HeadOfAUser"]
    with pytest.raises(ConfigError, match=r"model.head.type: 'HeadOfAUser' is not registered .* load\(config="):
        load(path)


def test_a_config_without_end_is_refused(tmp_path):
    deep: dict = {"type": "OpenVocabModel"}
    deep["backbone"] = deep
    laughs: list = [1]
    for _ in range(50):
        laughs = [laughs, laughs]
    for model in (deep, {"type": "OpenVocabModel", "backbone": laughs}):
        with pytest.raises(ConfigError, match="has more than"):
            config_of({"meta": {"config": {"model": model}}}, "x.pth")
        with pytest.raises(ConfigError, match="has more than"):
            config_changes({"model": model}, {"model": model})


def test_what_is_no_data_is_named_and_not_built(tmp_path, weights):
    config = plain_config()
    config["model"]["head"]["block"] = config_to_data(Config({"x": [lambda: 3]}))["x"][0]
    path = write(tmp_path / "best.pth", weights, config)
    assert "not data: <function" in load_checkpoint(path)["meta"]["config"]["model"]["head"]["block"]
    with pytest.raises(ConfigError, match="model.head.block: 'not data: <function"):
        load(path)


def test_changes_are_found_at_their_places():
    then, now = plain_config(), plain_config(head__decoder__features=32)
    now["train_cfg"]["max_iters"] = 7
    del now["precision"]
    now["work_dir"] = "elsewhere"
    assert config_changes(then, now) == {
        "model.head.decoder.features": (64, 32),
        "train_cfg.max_iters": (1200, 7),
        "precision": ("auto", "absent"),
    }
