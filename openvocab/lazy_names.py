"""Names of a package that are imported when they are first used: a program pays for the parts that it takes."""

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from openvocab.former_names import present_part

_REGISTERED = re.compile(r"^@[A-Z_]+\.register_module\(.*\)\n(?:@.*\n)*class (\w+)", re.MULTILINE)


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a package whose names live in its modules.

    A package that imported all heads would import timm, torchvision and open_clip for a head that needs none of them:
    twice the time of torch's own import.

    Args:
        package: its `__name__`.
        homes: which names each module defines; modules as in a relative import, `{".lseg": ["LSegHead"]}`.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        name = present_part(name)
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home[name], package), name)
        vars(sys.modules[package])[name] = value  # found at once the next time
        return value

    return sorted(home), get, lambda: sorted(home)


def registered_in(package: str, path: Iterable[str]) -> dict[str, list[str]]:
    """Return which classes the modules of a package register, `{".lseg": ["LSegHead"]}`, without importing them.

    A new file is found by lying there; no list can forget it.

    Args:
        package: its `__name__`.
        path: its `__path__`.
    """
    homes = {}
    for module in pkgutil.iter_modules(path):
        full_name = f"{package}.{module.name}"
        spec = module.module_finder.find_spec(full_name, None)
        source = spec.loader.get_source(full_name) if not module.ispkg else ""
        if source is None:  # a program that was packed without sources
            source, found = "", inspect.getmembers(import_module(full_name), inspect.isclass)
            homes[f".{module.name}"] = [name for name, kind in found if kind.__module__ == full_name]
        if names := _REGISTERED.findall(source):
            homes[f".{module.name}"] = names
    return homes
