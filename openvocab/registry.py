"""Registries: the names by which configs and command lines refer to parts.

`BACKBONES`, `READOUTS`, `TEXT_ENCODERS`, `HEADS`, `CONTRASTIVE_TERMS`, `INFERENCERS` and `PROPOSAL_SOURCES` are ours;
the others are children of mmengine's, so that its runner finds our classes by name. Looking up a name imports the
module of that part, and of no other: a model costs the libraries that it is built of.
"""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry, build_from_cfg

from openvocab.former_names import present_arguments, present_part

SCOPE = "openvocab"
_IMPORTS = ContextVar("imports", default=True)


@contextmanager
def registered_only() -> Iterator[None]:
    """Build parts within from names that are registered: no dotted name or scope in a config imports a module."""
    token = _IMPORTS.set(False)
    try:
        yield
    finally:
        _IMPORTS.reset(token)


class PartRegistry(Registry):
    """A registry of lazily imported parts, whose miss suggests and lists the names it knows."""

    def get(self, key: str) -> type:
        """Return the class registered as `key`.

        Raises:
            KeyError: the name is unknown; the message lists the known ones.
        """
        key = present_part(key)
        self._import_home(key)
        found = next((known[key] for known in self._known() if key in known), None)
        if found is None and _IMPORTS.get():
            found = super().get(key)
        if found is None:
            known = sorted({name for names in self._known() for name in names})
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise KeyError(f"unknown {self.name} {key!r}; {hint}registered: {', '.join(sorted(known))}")
        return found

    def import_from_location(self) -> None:
        """Import all parts of this registry."""
        for location in self._locations:
            module = import_module(location)
            for name in getattr(module, "__all__", ()):
                getattr(module, name)

    def _import_home(self, key: str) -> None:
        """Import the module that registers `key`, where a package of ours lists that name."""
        for location in self._locations:
            if key in self.module_dict:
                return
            module = import_module(location)
            if key in getattr(module, "__all__", ()):
                getattr(module, key)

    def _known(self) -> list[Mapping[str, type]]:
        """Return what is registered so far here and at mmengine."""
        return [self.module_dict, *([self.parent.module_dict] if self.parent else [])]


def build_part(registry: Registry, config: Any, **facts: Any) -> Any:
    """Build `config` (a dict with `type`, or an object already built) and hand it the `facts` of its neighbors.

    Facts are what the model knows and a config must not repeat: widths, strides. They become keyword arguments.
    """
    if not isinstance(config, dict):
        return config
    return registry.build({**config, **facts})


def _build(config: Mapping[str, Any], registry: Registry) -> Any:
    """Build a part from its config, for `PartRegistry.build`.

    Unlike mmengine's, it reads no default scope, which a host may have set to its own, and opens no log. A part whose
    config names another `_scope_` is built by mmengine, from the registries of that scope.

    Raises:
        KeyError: the config has no `type`, or one that is not registered.
        TypeError: the config is no dict, or an argument is one that the part does not take.
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
    kind = config["type"]
    kind = registry.get(kind) if isinstance(kind, str) else kind
    return kind(**(present_arguments(kind, arguments, warn=_IMPORTS.get()) if isinstance(kind, type) else arguments))


def _own(name: str, location: str) -> PartRegistry:
    return PartRegistry(name, build_func=_build, scope=SCOPE, locations=[location])


BACKBONES = _own("backbone", "openvocab.backbones")
TEXT_ENCODERS = _own("text encoder", "openvocab.text")
READOUTS = _own("readout", "openvocab.backbones.readouts")
HEADS = _own("head", "openvocab.heads")
CONTRASTIVE_TERMS = _own("contrastive term", "openvocab.heads.terms")
INFERENCERS = _own("inference strategy", "openvocab.inference")
PROPOSAL_SOURCES = _own("proposal source", "openvocab.teacher")


def _child(parent: Registry, *locations: str) -> Registry:
    return PartRegistry(parent.name, build_func=_build, parent=parent, scope=SCOPE, locations=list(locations))


MODELS = _child(mmengine_registry.MODELS, "openvocab.model")
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

# mmengine warns for each of its registries in which our scope has no child, even where we add nothing
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
