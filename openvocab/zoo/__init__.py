"""Published models by name: what they are, and their weights, fetched, checked and converted."""

from typing import TYPE_CHECKING

from openvocab.lazy_names import lazy_names

if TYPE_CHECKING:
    from openvocab.zoo.models import ZooModel, find_model, zoo_models
    from openvocab.zoo.named_config import read_named_config
    from openvocab.zoo.weights import prepare_weights

__all__ = ["ZooModel", "find_model", "prepare_weights", "read_named_config", "zoo_models"]

_, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".models": ["ZooModel", "find_model", "zoo_models"],
        ".named_config": ["read_named_config"],
        ".weights": ["prepare_weights"],
    },
)
