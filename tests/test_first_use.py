"""What the first lines of a user's program cost, show and print."""

import ast
import importlib
import json

import pytest
from config_parts import REPOSITORY
from fresh_process import run_fresh
from mmengine.registry import DefaultScope

import openvocab
from openvocab import registry
from openvocab.registry import BACKBONES

HEAVY = """
faster_coco_eval matplotlib mmcv mmengine.dataset mmengine.hooks mmengine.model mmengine.runner mmengine.visualization
open_clip pandas pycocotools scipy sympy tensorboard timm torch._dynamo torchvision transformers
""".split()

IMPORTED = "import json, sys; print(json.dumps([name for name in sys.argv[1:] if name in sys.modules]))"

TIMM_CONFIG = """
model = dict(
    type="OpenVocabModel",
    backbone=dict(type="TimmBackbone", model="mobilenetv2_035"),
    text_encoder=dict(type="OneHotTextEncoder", classes=["cat", "dog"]),
    head=dict(type="LinearHead", source="mean"),
)
"""

PREDICT = """
import sys
import numpy as np
from openvocab import load
{setting}
load(sys.argv[1])(np.zeros((64, 64, 3), np.uint8), "cat, dog")
"""

LAZY_PACKAGES = [
    "openvocab.backbones", "openvocab.datasets", "openvocab.datasets.transforms", "openvocab.engine.hooks",
    "openvocab.heads", "openvocab.heads.terms", "openvocab.inference", "openvocab.metrics", "openvocab.teacher",
    "openvocab.text",
]  # fmt: skip


def imported(statements: str, *names: str) -> list[str]:
    return json.loads(run_fresh(f"{statements}\n{IMPORTED}", *names).stdout)


@pytest.fixture
def timm_config(tmp_path):
    path = tmp_path / "timm.py"
    path.write_text(TIMM_CONFIG)
    return path


def test_the_package_itself_imports_no_torch():
    assert imported("import openvocab; openvocab.__version__; dir(openvocab)", "torch", "numpy", "mmengine") == []


def test_the_public_names_import_only_what_every_model_needs():
    statements = "from openvocab import load, Predictor, Vocabulary"
    assert imported(statements, "torch", *HEAVY) == ["torch"]


def test_a_model_without_clip_imports_no_open_clip(timm_config):
    program = f"{PREDICT.format(setting='')}\nsys.argv.pop(1)\n{IMPORTED}"
    found = run_fresh(program, timm_config, "timm", "open_clip", "mmengine.runner", "matplotlib", "pycocotools").stdout
    assert json.loads(found) == ["timm"]


def test_dir_lists_the_public_names():
    assert dir(openvocab) == ["Predictor", "Vocabulary", "load", "retrieve"]
    assert set(openvocab.__all__) == {*dir(openvocab), "__version__"}
    with pytest.raises(AttributeError, match="'openvocab' has no attribute 'Predictr'"):
        openvocab.Predictr  # noqa: B018


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_every_name_of_a_package_is_there(package):
    module = importlib.import_module(package)
    assert dir(module) == module.__all__
    assert all(getattr(module, name).__name__ == name for name in module.__all__)


def registrations() -> list[tuple[str, str, str]]:
    """Find (registry, name, class) of every class that the package registers, in its source."""
    found = []
    for path in (REPOSITORY / "openvocab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for decorator in getattr(node, "decorator_list", ()):
                words = ast.unparse(decorator).split(".register_module(")
                if len(words) == 2:
                    names = [keyword.value.value for keyword in decorator.keywords if keyword.arg == "name"]
                    found.append((words[0], (names or [node.name])[0], node.name))
    return found


def test_a_registry_finds_every_part_by_its_name():
    """By its package's list alone: other names are found only after everything was imported."""
    of_a_tool = ("OtherVocabulary", "SharedClassesIoU", "NoMetric")
    parts = [part for part in registrations() if part[1] not in of_a_tool]
    assert len(parts) > 60
    for kind, name, class_name in parts:
        home = getattr(registry, kind)
        home._import_home(name)
        assert home.module_dict[name].__name__ == class_name


def test_a_miss_lists_parts_that_nothing_has_imported():
    program = """
from openvocab.registry import BACKBONES
try:
    BACKBONES.get("TimmBackbon")
except KeyError as error:
    print(error)
"""
    shown = run_fresh(program).stdout
    assert "did you mean 'TimmBackbone'?" in shown and "CLIPBackbone, ConSEBackbone, DINOBackbone" in shown


def test_a_part_is_built_from_the_registries_of_openvocab_whatever_the_hosts_scope_is():
    with DefaultScope.overwrite_default_scope("mmengine"):
        assert type(BACKBONES.build(dict(type="PatchEmbedding", width=8))).__name__ == "PatchEmbedding"


@pytest.mark.parametrize("config", ["PatchEmbedding", dict(width=8)])
def test_a_part_without_a_type_is_refused(config):
    with pytest.raises((TypeError, KeyError), match="backbone: "):
        BACKBONES.build(config)


# ---- what is printed ----


def test_loading_and_predicting_print_nothing(timm_config):
    result = run_fresh(PREDICT.format(setting=""), timm_config)
    assert (result.stdout, result.stderr) == ("", "")


def test_the_log_is_the_standard_one(timm_config):
    shown = run_fresh(PREDICT.format(setting="import logging; logging.basicConfig(level=logging.INFO)"), timm_config)
    assert "INFO:openvocab.model:backbone: TimmBackbone" in shown.stderr and shown.stdout == ""


def test_its_levels_silence_the_log(timm_config):
    setting = "import logging; logging.basicConfig(level=0); logging.getLogger('openvocab').setLevel(logging.ERROR)"
    assert "openvocab" not in run_fresh(PREDICT.format(setting=setting), timm_config).stderr


def test_a_warning_reaches_stderr_of_a_program_that_set_up_no_logging():
    program = "import logging, openvocab; logging.getLogger('openvocab.text').warning('shortened')"
    assert run_fresh(program).stderr == "shortened\n"


def test_no_module_prints_or_logs_past_the_standard_log():
    for path in (REPOSITORY / "openvocab").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not {"print", "print_log"} & {ast.unparse(call.func).split(".")[-1] for call in calls}, path


@pytest.mark.parametrize("tool", ["train", "test"])
def test_help_and_a_mistyped_option_do_not_wait_for_torch(tool):
    program = "import runpy, sys; tool = sys.argv.pop(1); code = 0\ntry: runpy.run_path(tool, run_name='__main__')\n"
    program += "except SystemExit as end: code = end.code\nprint('torch' in sys.modules, code)"
    path = REPOSITORY / "tools" / f"{tool}.py"
    assert run_fresh(program, path, "--help").stdout.splitlines()[-1] == "False 0"
    assert run_fresh(program, path, "--hlep").stdout.splitlines()[-1] == "False 2"
