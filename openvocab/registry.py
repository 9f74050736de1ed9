"""Registries: the names by which configs and command lines refer to parts.

`BACKBONES`, `TEXT_ENCODERS`, `HEADS`, `CONTRASTIVE_TERMS`, `INFERENCERS` and `PROPOSAL_SOURCES` are ours; the others
are children of mmengine's, so that its runner finds our classes by name. A module is imported when a name is first
looked up, never before.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

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
    """A registry whose miss suggests and lists the names it knows."""

    def get(self, key: str) -> type:
        """Return the class registered as `key`.

        Raises:
            KeyError: the name is unknown; the message lists the known ones.
        """
        self.import_from_location()
        known = {**(self.parent.module_dict if self.parent else {}), **self.module_dict}
        found = super().get(key) if _IMPORTS.get() else known.get(key)
        if found is None:
            close = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise KeyError(f"unknown {self.name} {key!r}; {hint}registered: {', '.join(sorted(known))}")
        return found


def build_part(registry: Registry, config: Any, **facts: Any) -> Any:
    """Build `config` (a dict with `type`, or an object already built) and hand it the `facts` of its neighbours.

    Facts are what the model knows and a config must not repeat: widths, strides. They become keyword arguments.
    """
    if not isinstance(config, dict):
        return config
    return registry.build({**config, **facts})


BACKBONES = PartRegistry("backbone", scope=SCOPE, locations=["openvocab.backbones"])
TEXT_ENCODERS = PartRegistry(
    "text encoder",
    scope=SCOPE,
    locations=["openvocab.text.clip_text", "openvocab.text.one_hot", "openvocab.text.precomputed"],
)
HEADS = PartRegistry("head", scope=SCOPE, locations=["openvocab.heads"])
CONTRASTIVE_TERMS = PartRegistry("contrastive term", scope=SCOPE, locations=["openvocab.heads.terms"])
INFERENCERS = PartRegistry("inference strategy", scope=SCOPE, locations=["openvocab.inference"])
PROPOSAL_SOURCES = PartRegistry(
    "proposal source",
    scope=SCOPE,
    locations=["openvocab.teacher.proposal_sources", "openvocab.teacher.detector_proposals"],
)


def _child(parent: Registry, *locations: str) -> Registry:
    return PartRegistry(parent.name, parent=parent, scope=SCOPE, locations=list(locations))


MODELS = _child(mmengine_registry.MODELS, "openvocab.model")
DATASETS = _child(mmengine_registry.DATASETS, "openvocab.datasets")
TRANSFORMS = _child(mmengine_registry.TRANSFORMS, "openvocab.datasets.transforms")
METRICS = _child(mmengine_registry.METRICS, "openvocab.metrics")
HOOKS = _child(mmengine_registry.HOOKS, "openvocab.engine.hooks")
OPTIM_WRAPPERS = _child(mmengine_registry.OPTIM_WRAPPERS, "openvocab.engine.optim_wrapper")
DATA_SAMPLERS = _child(mmengine_registry.DATA_SAMPLERS, "openvocab.datasets")
LOOPS = _child(mmengine_registry.LOOPS, "openvocab.engine.train_loop")
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmengine_registry.OPTIM_WRAPPER_CONSTRUCTORS, "openvocab.engine.optim_wrapper")

# mmengine warns for each of its registries in which our scope has no child, even where we add nothing
_WITHOUT_OWN_PARTS = [
    _child(getattr(mmengine_registry, name))
    for name in (
        "EVALUATOR",
        "FUNCTIONS",
        "LOG_PROCESSORS",
        "MODEL_WRAPPERS",
        "OPTIMIZERS",
        "PARAM_SCHEDULERS",
        "RUNNERS",
        "VISBACKENDS",
        "VISUALIZERS",
    )
]
