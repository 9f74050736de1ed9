"""Configs are read with a user's own modules, and a mistake in one is one clear line."""

import argparse
import codecs
import re
import sys

import pytest
from torch import nn

from openvocab.config import imports as config_imports
from openvocab.config.config import ConfigError, check_teacher, read_config, require_keys
from openvocab.config.options import add_config_options
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
        ("steps", "'steps' is read only while the file runs, so an override has no effect; change train_cfg.steps$"),
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


READ_BASE = "from mmengine.config import read_base\n\nwith read_base():\n    from .base import *\n\n"


@pytest.fixture
def read_text(tmp_path):
    """A function that reads a config of the given text, beside one called `base` that defines `root` and `model`."""
    (tmp_path / "base.py").write_text("from torch.nn import Linear\n\nroot = 'data'\nmodel = dict(type=Linear)\n")

    def read(text):
        (tmp_path / "my.py").write_text(text)
        return read_config(tmp_path / "my.py")

    return read


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("import os\nx = os.environ.get('A', 'data')\n", 2, "`os.environ.get` has no value here"),
        ("import os\n\n" + READ_BASE + "x = os.environ['HOME']\n", 8, "`os.environ` has no value here"),
        ("import os\n\n" + READ_BASE + "root = f'{os.sep}data'\n", 8, "`os.sep` has no value here"),
        ("import numpy as np\n" + READ_BASE + "x = [n for n in np.arange(3)]\n", 7, "`np.arange` has no value here"),
        ("import math\nx = math.pi + 1\n", 2, "`math.pi` has no value here"),
        ("from torch.nn import Linear\nx = dict(n=3, m=-Linear)\n", 2, "`Linear` has no value here"),
        (READ_BASE + "from numpy import pi\nx = str(3 + len(pi))\n", 7, "'LazyObject' has no len"),
    ],
)
def test_a_value_of_an_import_that_is_not_carried_out_is_refused_with_its_line(read_text, text, line, message):
    with pytest.raises(ConfigError) as caught:
        read_text(text)
    assert f"my.py:{line}: " in str(caught.value) and message in str(caught.value)
    assert "it can only pass their names on (type=Name)" in str(caught.value)


def test_names_of_any_module_can_be_passed_on(read_text):
    config = read_text(
        "import torch\nfrom math import floor\nfrom torch import nn\n\n" + READ_BASE +
        "root = root + '/x'\nmodel.update(act=dict(type=nn.ReLU), parts=[torch.nn.Tanh], rounding=floor)\n"
    )  # fmt: skip
    assert config.root == "data/x"
    assert (config.model.type, config.model.act.type.__name__) == (nn.Linear, "ReLU")


INHERITANCE = "a config inherits by `with read_base(): from .name import *`"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from configs.base import *", f"my.py:4: `from configs.base import *`: {INHERITANCE}"),
        ("from base import *", f"my.py:4: `from base import *`: {INHERITANCE}"),
        ("from openvocab.base import *", INHERITANCE),
        ("import base", f"my.py:4: `import base`: {INHERITANCE}"),
        ("from . import base", INHERITANCE),
        ("from .bse import *", "bse.py; " + INHERITANCE),
        ("from .base import modl", "base.py defines no 'modl'; did you mean 'model'?"),
        ("from .my import *", "my.py:4: `from .my import *`: it inherits from itself"),
    ],
)
def test_a_base_that_is_not_imported_by_its_place_is_refused(read_text, text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_text(f"from mmengine.config import read_base\n\nwith read_base():\n    {text}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from .base import *", f"my.py:1: `from .base import *`: {INHERITANCE}"),
        ("from torch.nn import *", f"my.py:1: `from torch.nn import *`: {INHERITANCE}"),
        ("_base_ = ['base.py']", f"base.py has imports itself; {INHERITANCE}"),
        ("_base_ = 'nothing.py'", f"nothing.py does not exist; {INHERITANCE}"),
        ("import json, math", "my.py:1: `import json, math`: import one module per line"),
    ],
)
def test_other_ways_to_inherit_are_refused_with_the_one_there_is(read_text, text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_text(f"{text}\nx = 1\n")


def test_single_names_and_bases_of_bases_are_inherited(read_text, tmp_path):
    (tmp_path / "child.py").write_text(READ_BASE)
    config = read_text(
        "from mmengine.config import read_base\n\nwith read_base():\n    from .child import model as m\n"
    )
    assert config.m.type is nn.Linear and "root" not in config


def test_a_base_that_is_reached_by_two_ways_is_checked_once(tmp_path, monkeypatch):
    (tmp_path / "level0.py").write_text("x = 1\n")
    for level in range(1, 5):
        imports = "".join(f"    from .level{base} import *\n" for base in range(level))
        text = f"from mmengine.config import read_base\n\nwith read_base():\n{imports}"
        (tmp_path / f"level{level}.py").write_text(text)
    read = []
    monkeypatch.setattr(config_imports, "decode_text", lambda content, file: read.append(file.name) or content.decode())
    assert config_imports.check_imports(tmp_path / "level4.py") == {"x", "read_base"}
    assert sorted(read) == [f"level{level}.py" for level in range(5)]


def test_an_error_without_a_message_has_a_line(read_text):
    with pytest.raises(ConfigError, match=r"my\.py:7: AssertionError: without a message"):
        read_text(READ_BASE + "x = 1\nassert not x\n")


def test_a_byte_order_mark_is_named(tmp_path):
    (tmp_path / "my.py").write_bytes(codecs.BOM_UTF8 + b"x = 1\n")
    with pytest.raises(ConfigError, match=r"my\.py: a config cannot begin with a byte order mark"):
        read_config(tmp_path / "my.py")
