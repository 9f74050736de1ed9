"""Build the API reference from the docstrings: `python tools/build_docs.py [--out build/docs]`. A warning is an error.

pdoc shows what `__all__` lists. A package that imports its parts when they are used lists no modules, and names that
are not imported yet; so all parts are imported here and the modules are added, and pdoc does the rest.
"""

import argparse
import pkgutil
import runpy
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import openvocab


def packages(package: ModuleType) -> Iterator[ModuleType]:
    """Yield a package and all packages below it."""
    yield package
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            yield from packages(import_module(f"{package.__name__}.{module.name}"))


def list_parts(package: ModuleType) -> None:
    """Import what a package lists in `__all__`, and list its modules there too."""
    names = list(getattr(package, "__all__", ()))
    for name in names:
        getattr(package, name)
    modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
    vars(package)["__all__"] = names + [name for name in modules if name not in names]


def main() -> None:
    """Prepare the packages and run pdoc on them."""
    parser = argparse.ArgumentParser(description="Build the API reference from the docstrings.")
    parser.add_argument("--out", default="build/docs", help="folder for the pages; default: %(default)s")
    out = parser.parse_args().out
    for package in list(packages(openvocab)):
        list_parts(package)
    warnings.simplefilter("error")
    sys.argv = ["pdoc", "openvocab", "--docformat", "google", "--output-directory", out]
    sys.argv += ["--footer-text", f"openvocab {openvocab.__version__}"]
    runpy.run_module("pdoc", run_name="__main__")


if __name__ == "__main__":
    main()
