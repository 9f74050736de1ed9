"""Names of a package that are imported when they are first used: a program pays for the parts that it takes."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


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
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home[name], package), name)
        vars(sys.modules[package])[name] = value  # found at once the next time
        return value

    return sorted(home), get, lambda: sorted(home)
