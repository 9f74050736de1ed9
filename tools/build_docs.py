"""Build the API reference from the docstrings: `python tools/build_docs.py [--out build/docs]`. A warning is an error.

pdoc lists what `__all__` names: in a package that imports its parts when they are used, this leaves out the modules, and
names that are not imported yet. Where a class has a `__new__`, pdoc shows its arguments instead of those of `__init__`.
Both are prepared here, and pdoc does the rest.
"""

import argparse
import inspect
import pkgutil
import runpy
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import openvocab


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    """Import and yield a package and all modules below it."""
    yield package
    for _, name, is_package in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = import_module(name)
        if is_package:
            yield from modules_of(module)
        else:
            yield module


def list_parts(package: ModuleType) -> None:
    """Import what a package names in `__all__`, and name its modules there too."""
    names = list(getattr(package, "__all__", ()))
    for name in names:
        getattr(package, name)
    modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
    vars(package)["__all__"] = names + [name for name in modules if name not in names]


def show_init(module: ModuleType) -> None:
    """Take the docstring from every `__new__` that stands before an `__init__`: pdoc shows the one with a docstring."""
    for _, part in inspect.getmembers(module, inspect.isclass):
        if part.__module__ == module.__name__ and "__new__" in vars(part) and part.__init__ is not object.__init__:
            part.__new__.__doc__ = None


def main() -> None:
    """Prepare the package and run pdoc on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="build/docs", help="folder for the pages; default: %(default)s")
    out = parser.parse_args().out
    for module in list(modules_of(openvocab)):
        show_init(module)
        if hasattr(module, "__path__"):
            list_parts(module)
    warnings.simplefilter("error")
    sys.argv = ["pdoc", "openvocab", "--docformat", "google", "--output-directory", out]
    sys.argv += ["--footer-text", f"openvocab {openvocab.__version__}"]
    runpy.run_module("pdoc", run_name="__main__")


if __name__ == "__main__":
    main()
