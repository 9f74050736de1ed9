"""A part is known because its file lies in the folder of its kind, and is imported when it is asked for."""

import compileall
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import openvocab
from openvocab.lazy_names import registered_in

HEAD = """
'''A head.'''
from made_up.registry import HEADS

EXAMPLE = '''
    @HEADS.register_module()
    class InText:
'''


@HEADS.register_module()
class {name}:
    pass


class Helper:
    pass
"""
REGISTRY = """
from mmengine.registry import Registry
HEADS = Registry("head", locations=["made_up.heads"])
"""
HEADS = """
from openvocab.lazy_names import lazy_names, registered_in
__all__, __getattr__, __dir__ = lazy_names(__name__, registered_in(__name__, __path__))
"""


@pytest.fixture
def package(tmp_path):
    """A package with a folder of two heads, and a module that registers nothing."""
    heads = tmp_path / "made_up" / "heads"
    heads.mkdir(parents=True)
    (tmp_path / "made_up" / "__init__.py").touch()
    (tmp_path / "made_up" / "registry.py").write_text(REGISTRY)
    (heads / "__init__.py").write_text(HEADS)
    (heads / "first.py").write_text(HEAD.format(name="FirstHead"))
    (heads / "second.py").write_text(
        HEAD.format(name="SecondHead").replace("module()", "module(name='two', force=True)")
    )
    (heads / "broken.py").write_text("raise RuntimeError('nobody asked for this module')")
    return tmp_path


def run(folder, program):
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, text=True, stdout=-1, stderr=-2, timeout=60
    ).stdout


def test_a_file_in_the_folder_is_a_part_and_no_other_is_imported(package):
    program = "import sys, made_up.heads as h; print(h.__all__, dir(h), 'made_up.heads.first' in sys.modules)"
    assert run(package, program) == "['FirstHead', 'SecondHead'] ['FirstHead', 'SecondHead'] False\n"
    program = "import sys; from made_up.heads import FirstHead; print('made_up.heads.second' in sys.modules)"
    assert run(package, program) == "False\n"


def test_a_program_that_is_packed_without_sources_knows_them_too(package):
    (package / "made_up" / "heads" / "broken.py").unlink()
    compileall.compile_dir(package / "made_up", quiet=1, legacy=True)
    for path in package.rglob("*.py"):
        path.unlink()
    output = run(package, "import made_up.heads as h; print(h.__all__, h.SecondHead.__name__)")
    assert output == "['FirstHead', 'Helper', 'SecondHead'] SecondHead\n"


def test_names_of_modules_are_those_of_a_relative_import(package):
    homes = registered_in("made_up.heads", [str(package / "made_up" / "heads")])
    assert homes == {".first": ["FirstHead"], ".second": ["SecondHead"]}


def test_no_module_has_the_name_of_something_else_in_its_package():
    # importing such a module would put it in the place of the other
    for module in pkgutil.walk_packages(openvocab.__path__, "openvocab."):
        if module.ispkg and not module.name.startswith("openvocab.commands"):
            package = import_module(module.name)
            if not hasattr(package, "__getattr__"):  # names that are imported at once replace the modules
                continue
            modules = {inner.name for inner in pkgutil.iter_modules(package.__path__)}
            assert not modules & {*getattr(package, "__all__", ())}, module.name
