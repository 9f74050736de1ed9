"""Registries: the names by which configs and command lines refer to parts.

`BACKBONES`, `READOUTS`, `TEXT_ENCODERS`, `HEADS`, `CONTRASTIVE_TERMS`, `INFERENCERS` and `PROPOSAL_SOURCES` are ours;
the others are children of mmengine's, so that its runner finds our classes by name. Looking up a name imports the
module of that part alone, so that a model imports only the libraries that it is built from.
"""

import difflib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry, build_from_cfg

from openvocab.former_names import present_arguments, present_part, present_path

SCOPE = "openvocab"
_IMPORTS = ContextVar("imports", default=True)


@contextmanager
def registered_only() -> Iterator[None]:
    """Build only registered parts in this block: no dotted name and no scope in a config imports a module."""
    token = _IMPORTS.set(False)
    try:
        yield
    finally:
        _IMPORTS.reset(token)


class PartRegistry(Registry):
    """A registry of lazily imported parts; for an unknown name it suggests the nearest one and lists all."""

    def get(self, key: str) -> type:
        """Return the class registered as `key`.

        Raises:
            KeyError: the name is unknown; the message lists the known ones.
        """
        key = present_part(key)
        self._import_home(key)
        part = next((classes[key] for classes in self._registered() if key in classes), None)
        if part is None and _IMPORTS.get():
            part = super().get(key)
        if part is None:
            names = sorted({name for classes in self._registered() for name in classes})
            close = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise KeyError(f"unknown {self.name} {key!r}; {hint}registered: {', '.join(names)}")
        return part

    def import_from_location(self) -> None:
        """Import all parts of this registry."""
        for location in self._locations:
            module = import_module(location)
            for name in getattr(module, "__all__", ()):
                getattr(module, name)

    def _import_home(self, key: str) -> None:
        """Import the module that registers `key`, if a package of ours lists that name."""
        for location in self._locations:
            if key in self.module_dict:
                return
            module = import_module(location)
            if key in getattr(module, "__all__", ()):
                getattr(module, key)

    def _registered(self) -> list[Mapping[str, type]]:
        """Return the classes registered so far, by name, here and in mmengine."""
        return [self.module_dict, *([self.parent.module_dict] if self.parent else [])]


def build_part(registry: Registry, config: Any, **facts: Any) -> Any:
    """Build a part from `config`, a dict with `type`; return an object that is already built as it is.

    `facts` are further keyword arguments: what the model knows and a config must not repeat, such as widths.
    """
    if not isinstance(config, dict):
        return config
    return registry.build({**config, **facts})


def _build(config: Mapping[str, Any], registry: Registry) -> Any:
    """Build a part from its config, for `PartRegistry.build`.

    Unlike mmengine's, it ignores the default scope, which a host program may have set to its own, and opens no log.
    mmengine builds a part whose config names another `_scope_`, from the registries of that scope.

    Raises:
        KeyError: the config has no `type`, or one that is not registered.
        TypeError: the config is not a dict, or the part does not take one of the arguments.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"{registry.name}: expected a dict with a 'type', got {type(config).__name__}")
    if "type" not in config:
        raise KeyError(f"{registry.name}: the config has no 'type', only {list(config)}")
    if config.get("_scope_", SCOPE) != SCOPE and not _IMPORTS.get():
        raise KeyError(f"{registry.name}: parts of the scope {config['_scope_']!r} are not built from a file's config")
    if config.get("_scope_", SCOPE) != SCOPE:
        return build_from_cfg(dict(config), registry)
    arguments = {key: value for key, value in config.items() if key not in ("type", "_scope_")}
    part = config["type"]
    part = registry.get(part) if isinstance(part, str) else part
    return part(**(present_arguments(part, arguments, warn=_IMPORTS.get()) if isinstance(part, type) else arguments))


def _root(name: str, location: str) -> PartRegistry:
    return PartRegistry(name, build_func=_build, scope=SCOPE, locations=[location])


BACKBONES = _root("backbone", "openvocab.backbones")
TEXT_ENCODERS = _root("text encoder", "openvocab.text")
READOUTS = _root("readout", "openvocab.backbones.readouts")
HEADS = _root("head", "openvocab.heads")
CONTRASTIVE_TERMS = _root("contrastive term", "openvocab.heads.terms")
INFERENCERS = _root("inference strategy", "openvocab.inference")
PROPOSAL_SOURCES = _root("proposal source", "openvocab.teacher")


def _child(parent: Registry, *locations: str) -> Registry:
    return PartRegistry(parent.name, build_func=_build, parent=parent, scope=SCOPE, locations=list(locations))


MODELS = _child(mmengine_registry.MODELS, "openvocab.model", "openvocab.foreign")
DATASETS = _child(mmengine_registry.DATASETS, "openvocab.datasets")
TRANSFORMS = _child(
    mmengine_registry.TRANSFORMS, "openvocab.datasets.transforms", "openvocab.teacher.region_transforms"
)
METRICS = _child(mmengine_registry.METRICS, "openvocab.metrics", "openvocab.metrics.detection")
HOOKS = _child(mmengine_registry.HOOKS, "openvocab.engine.hooks")
OPTIM_WRAPPERS = _child(mmengine_registry.OPTIM_WRAPPERS, "openvocab.engine.optim_wrapper")
DATA_SAMPLERS = _child(mmengine_registry.DATA_SAMPLERS, "openvocab.datasets")
LOOPS = _child(mmengine_registry.LOOPS, "openvocab.engine.train_loop", "openvocab.engine.evaluation_loops")
LOG_PROCESSORS = _child(mmengine_registry.LOG_PROCESSORS, "openvocab.engine.log_processor")
PARAM_SCHEDULERS = _child(mmengine_registry.PARAM_SCHEDULERS, "openvocab.engine.unshifted_cosine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmengine_registry.OPTIM_WRAPPER_CONSTRUCTORS, "openvocab.engine.optim_wrapper")

_WITH_PARTS = (
    *(MODELS, BACKBONES, READOUTS, TEXT_ENCODERS, HEADS, CONTRASTIVE_TERMS, INFERENCERS, PROPOSAL_SOURCES),
    *(DATASETS, TRANSFORMS, METRICS, HOOKS),
)

# mmengine warns about each of its registries without a child of our scope, even if we add nothing to it
_WITHOUT_OWN_PARTS = [
    _child(getattr(mmengine_registry, name))
    for name in (
        "EVALUATOR",
        "FUNCTIONS",
        "MODEL_WRAPPERS",
        "OPTIMIZERS",
        "RUNNERS",
        "VISBACKENDS",
        "VISUALIZERS",
    )
]


def class_named(name: str) -> type | None:
    """Return the class of a part that a config states as a string, "LSegHead" or "openvocab.heads.lseg.LSegHead".

    Modules of other packages are not imported; a class in one of them is found once it is registered or imported.
    """
    module, _, last = present_path(name).rpartition(".")
    found = vars(sys.modules[module]).get(last) if module in sys.modules else None
    if found is None and module.partition(".")[0] in ("", SCOPE):
        for registry in _WITH_PARTS:
            registry._import_home(last)
        found = next((registry.module_dict[last] for registry in _WITH_PARTS if last in registry.module_dict), None)
    return found if isinstance(found, type) else None
