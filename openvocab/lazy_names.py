"""Names of a package that are imported on first use: a program pays only for the parts that it uses."""

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from openvocab.former_names import present_part

_REGISTERED = re.compile(r"^@[A-Z_]+\.register_module\(.*\)\n(?:@.*\n)*class (\w+)", re.MULTILINE)


def lazy_names(
    package: str, names_by_module: Mapping[str, Sequence[str]]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a package whose names live in its modules.

    A package that imported all heads would import timm, torchvision and open_clip for a head that needs none of them,
    which takes twice as long as importing torch itself.

    Args:
        package: its `__name__`.
        names_by_module: the names that each module defines, `{".lseg": ["LSegHead"]}`; modules as in a relative import.
    """
    module_of = {name: module for module, names in names_by_module.items() for name in names}

    def get(name: str) -> Any:
        name = present_part(name)
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module_of[name], package), name)
        vars(sys.modules[package])[name] = value  # the next access does not call this function
        return value

    return sorted(module_of), get, lambda: sorted(module_of)


def registered_in(package: str, path: Iterable[str]) -> dict[str, list[str]]:
    """Return the classes that each module of a package registers, `{".lseg": ["LSegHead"]}`, without importing them.

    A new file needs no entry in a list.

    Args:
        package: its `__name__`.
        path: its `__path__`.
    """
    names_by_module = {}
    for module in pkgutil.iter_modules(path):
        full_name = f"{package}.{module.name}"
        source = "" if module.ispkg else _source(module, full_name)
        if source is None:  # a program that was packed without sources
            source, classes = "", inspect.getmembers(import_module(full_name), inspect.isclass)
            names_by_module[f".{module.name}"] = [name for name, cls in classes if cls.__module__ == full_name]
        if names := _REGISTERED.findall(source):
            names_by_module[f".{module.name}"] = names
    return names_by_module


@runtime_checkable
class _ReadsSource(Protocol):
    """An import loader that can return the source of a module; None if there is only bytecode."""

    def get_source(self, fullname: str) -> str | None: ...


def _source(module: pkgutil.ModuleInfo, full_name: str) -> str | None:
    spec = module.module_finder.find_spec(full_name, None)
    loader = None if spec is None else spec.loader
    return loader.get_source(full_name) if isinstance(loader, _ReadsSource) else None
