"""Configs are read with a user's own modules, and a mistake in one is one clear line."""

import argparse
import sys

import pytest

from openvocab.config import ConfigError, check_teacher, read_config, require_keys
from openvocab.config_options import add_config_options
from openvocab.registry import HEADS

HEAD = """
from openvocab.heads.base import Head
from openvocab.registry import HEADS


@HEADS.register_module()
class {name}(Head):
    pass
"""


@pytest.fixture(autouse=True)
def search_path(monkeypatch):
    """No config changes where the process looks for modules."""
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    yield
    assert sys.path == before


def test_a_class_is_imported_from_beside_the_config(tmp_path):
    (tmp_path / "head_by_class.py").write_text(HEAD.format(name="HeadByClass"))
    (tmp_path / "my.py").write_text(
        "from head_by_class import HeadByClass\n\nmodel = dict(head=dict(type=HeadByClass))\n"
    )
    assert read_config(tmp_path / "my.py").model.head.type.__name__ == "HeadByClass"


def test_a_name_is_registered_from_beside_the_config(tmp_path):
    (tmp_path / "head_by_name.py").write_text(HEAD.format(name="HeadByName"))
    (tmp_path / "base.py").write_text("from mmengine.runner import Runner\n\nrunner = dict(type=Runner)\n")
    (tmp_path / "my.py").write_text(
        "from mmengine.config import read_base\n\nwith read_base():\n    from .base import *\n\n"
        "custom_imports = dict(imports=['head_by_name'])\n"
    )
    read_config(tmp_path / "my.py")
    assert HEADS.get("HeadByName").__name__ == "HeadByName"


def test_a_module_beside_the_config_shadows_no_installed_one(tmp_path):
    (tmp_path / "torch.py").write_text("1 / 0")
    (tmp_path / "my.py").write_text("from torch.nn import Linear\n\nmodel = dict(type=Linear)\n")
    assert read_config(tmp_path / "my.py").model.type.__module__ == "torch.nn.modules.linear"


def test_a_part_beside_a_config_that_inherits_is_imported_while_the_folder_is_searched(tmp_path):
    (tmp_path / "inherited_head.py").write_text(HEAD.format(name="InheritedHead"))
    (tmp_path / "dotted_head.py").write_text(HEAD.format(name="DottedHead"))
    (tmp_path / "base.py").write_text("train_cfg = dict(max_iters=3)\n")
    (tmp_path / "my.py").write_text(
        "from mmengine.config import read_base\nfrom inherited_head import InheritedHead\n\n"
        "with read_base():\n    from .base import *\n\n"
        "model = dict(head=[dict(type=InheritedHead), dict(type='dotted_head.DottedHead')])\n"
    )
    by_class, by_name = read_config(tmp_path / "my.py").model.head
    assert by_class.type.__name__ == "InheritedHead" and HEADS.get(by_name.type).__name__ == "DottedHead"


def test_a_part_beside_the_config_that_fails_is_one_line(tmp_path):
    (tmp_path / "failing_head.py").write_text("1 / 0")
    (tmp_path / "base.py").write_text("train_cfg = dict(max_iters=3)\n")
    (tmp_path / "my.py").write_text(
        "from mmengine.config import read_base\nfrom failing_head import Head\n\n"
        "with read_base():\n    from .base import *\n\nmodel = dict(head=dict(type=Head))\n"
    )
    with pytest.raises(ConfigError, match=r"my\.py: ZeroDivisionError: .*division by zero") as caught:
        read_config(tmp_path / "my.py")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("imports", ["['no_such_module']", "3"])
def test_a_custom_import_that_fails_is_one_line(tmp_path, imports):
    (tmp_path / "my.py").write_text(f"custom_imports = dict(imports={imports})\nfrom mmengine.runner import Runner\n")
    with pytest.raises(ConfigError, match=r"my\.py: custom_imports: .*") as caught:
        read_config(tmp_path / "my.py")
    assert "\n" not in str(caught.value)


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "my.py"
    path.write_text(
        "steps = 7\nmodel = dict(type='TinyModel', head=dict(features=3))\ntrain_datloader = dict()\n"
        "custom_hooks = [dict(n=1)]\ntrain_cfg = dict(steps=steps)\n"
    )
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modl.head.features", "there is no 'modl'; did you mean 'model'"),
        ("model.hed.features", "there is no 'hed'; did you mean 'head'"),
        ("wrk_dir", "'wrk_dir' is not a setting of it; did you mean 'work_dir'"),
        ("teacher", "'teacher' is not a setting of it"),
        ("custom_hooks.3.n", "there is no '3'"),
    ],
)
def test_a_misspelt_override_is_refused(config_file, override, message):
    with pytest.raises(ConfigError, match=rf"my\.py.*{message}"):
        read_config(config_file, {override: 1})


def test_overrides_change_single_values(config_file):
    config = read_config(
        config_file, {"model.head.features": 5, "custom_hooks.0.n": 2, "work_dir": "x", "model.extra": 1}
    )
    assert config.model == dict(type="TinyModel", head=dict(features=5), extra=1)
    assert config.custom_hooks[0].n == 2 and config.work_dir == "x"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "'steps' is read only while the file runs, an override has no effect; change train_cfg.steps$"),
        ("train_datloader.steps", "'train_datloader' is read only .*; change train_cfg.steps$"),
        ("train_datloader.x", "'train_datloader' is read only .*; change the settings that it is part of$"),
    ],
)
def test_an_override_of_a_variable_would_change_nothing_and_says_what_would(config_file, override, message):
    with pytest.raises(ConfigError, match=message):
        read_config(config_file, {override: 1})


def test_a_missing_key_names_file_and_nearest(config_file):
    with pytest.raises(ConfigError, match=r"my\.py: no 'train_dataloader'; did you mean 'train_datloader'"):
        require_keys(read_config(config_file), training=True)


@pytest.mark.parametrize("text", ["model = dict(", "model = undefined_name", "1 / 0"])
def test_a_broken_config_is_one_line(tmp_path, text):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.py") as caught:
        read_config(tmp_path / "broken.py")
    assert "\n" not in str(caught.value)


def test_a_teacher_that_training_would_not_read_is_refused(tmp_path):
    (tmp_path / "student.py").write_text(
        "teacher = dict(crop='center')\n"
        "train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadRegions', teacher=teacher)]))\n"
    )
    check_teacher(read_config(tmp_path / "student.py"))
    with pytest.raises(ConfigError, match=r"teacher and train_dataloader.dataset.pipeline.0.teacher differ"):
        check_teacher(read_config(tmp_path / "student.py", {"teacher.crop": "squash"}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("evil.yaml", "model: !!python/object/apply:pathlib.Path.touch [{path}]\n"),
        ("evil.yml", "model: !!python/object/apply:os.system ['touch {path}']\n"),
        ("evil.json", '{{"_base_": "evil_base.py"}}'),
        ("evil.PY", "open('{path}', 'w')\n"),
        ("evil", "open('{path}', 'w')\n"),
    ],
)
def test_data_and_other_files_given_as_a_config_run_nothing(tmp_path, name, text):
    canary = tmp_path / "canary"
    (tmp_path / "evil_base.py").write_text(f"open({str(canary)!r}, 'w')\n")
    (tmp_path / name).write_text(text.format(path=canary))
    with pytest.raises(ConfigError, match=r"expected a Python config \(\.py\), got"):
        read_config(tmp_path / name)
    assert not canary.exists()


def test_overrides_of_a_command_line_are_values_and_never_run(tmp_path, config_file):
    canary = tmp_path / "canary"
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    program = f"__import__('pathlib').Path('{canary}').touch()"
    texts = [
        program,
        f"[{program}]",
        f"({program},)",
        f"{{{program}}}",
        f"!!python/object/apply:os.system ['{canary}']",
    ]
    for text in texts:
        value = parser.parse_args(["--cfg-options", f"train_cfg.steps={text}"]).cfg_options["train_cfg.steps"]
        read_config(config_file, {"train_cfg.steps": value})
        assert not canary.exists()
