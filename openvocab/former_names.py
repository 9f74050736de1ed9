"""Names of modules, parts and arguments from before 0.2, for older configs, heads and checkpoints.

They will be removed in 0.3.
"""

import inspect
import sys
import warnings
from collections.abc import Callable, Container, Mapping
from dataclasses import is_dataclass
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

Class = TypeVar("Class")

MOVED = {
    "atomic_files": "files.atomic_files",
    "backbones.attention": "layers.attention",
    "backbones.batch_norm_folding": "layers.batch_norm_folding",
    "backbones.checkpointing": "layers.recompute",
    "backbones.clip_attention": "layers.clip_attention",
    "backbones.packed_linear": "layers.packed_linear",
    "backbones.positions": "layers.positions",
    "backbones.quick_gelu_folding": "layers.quick_gelu_folding",
    "backbones.resnet_style": "layers.resnet_style",
    "backbones.token_maps": "layers.token_maps",
    "backbones.trainability": "layers.trainability",
    "bfloat16_probe": "process.bfloat16_probe",
    "checkpoint_seal": "checkpoint.seal",
    "clip_layout": "clip.clip_layout",
    "complete_linkage": "ops.complete_linkage",
    "config_imports": "config.imports",
    "config_modules": "config.modules",
    "config_options": "config.options",
    "datasets.annotation_list": "datasets.annotations.records",
    "datasets.box_checks": "datasets.annotations.box_checks",
    "datasets.caption_files": "datasets.files.caption_files",
    "datasets.category_choice": "datasets.annotations.categories",
    "datasets.class_lists": "vocabulary.class_lists",
    "datasets.coco_annotations": "datasets.annotations.coco",
    "datasets.decompression": "datasets.shards.decompression",
    "datasets.folder_walk": "datasets.files.folder_walk",
    "datasets.image_header": "images.image_header",
    "datasets.image_io": "images.image_io",
    "datasets.image_label_pairs": "datasets.files.image_label_pairs",
    "datasets.instance_table": "datasets.annotations.instances",
    "datasets.json_members": "datasets.annotations.json_stream",
    "datasets.label_survey": "datasets.files.label_survey",
    "datasets.label_table": "datasets.files.label_table",
    "datasets.noun_prompts": "datasets.transforms.noun_prompts",
    "datasets.object_selection": "datasets.annotations.filtering",
    "datasets.packed_index": "datasets.base",
    "datasets.packed_masks": "datasets.annotations.packed_masks",
    "datasets.panoptic": "datasets.files.panoptic",
    "datasets.pil_image": "images.pil_image",
    "datasets.plain_pickle": "datasets.files.safe_pickle",
    "datasets.run_lengths": "datasets.annotations.run_lengths",
    "datasets.shapes_captions": "datasets.shapes.captions",
    "datasets.shapes_classes": "datasets.shapes.classes",
    "datasets.shapes_drawing": "datasets.shapes.drawing",
    "datasets.shapes_forms": "datasets.shapes.forms",
    "datasets.shapes_plan": "datasets.shapes.plan",
    "datasets.shapes_random": "datasets.shapes.random_stream",
    "datasets.shapes_raster": "datasets.shapes.raster",
    "datasets.shapes_scene": "datasets.shapes.scene",
    "datasets.shard_stream": "datasets.shards.shard_stream",
    "datasets.shard_writing": "datasets.shards.shard_writing",
    "datasets.stated_size": "images.stated_size",
    "datasets.tar_shards": "datasets.shards.tar_shards",
    "datasets.transforms.regions": "teacher.region_transforms",
    "datasets.voc_annotations": "datasets.annotations.voc",
    "datasets.yolo_annotations": "datasets.annotations.yolo",
    "datasets.yolo_columns": "datasets.annotations.yolo_columns",
    "detection.class_wise_nms": "ops.class_wise_nms",
    "detection.mask_encoding": "ops.mask_encoding",
    "detection.original_frame": "detection.region_outputs",
    "detection.roi_align": "ops.roi_align",
    "engine.finite_guard": "finite_guard",
    "entry_renaming": "checkpoint.entry_renaming",
    "file_values": "files.file_values",
    "foreign_checkpoint": "checkpoint.foreign",
    "group_signals": "process.group_signals",
    "heads.projector": "layers.projector",
    "heads.upsampled_cosine": "ops.upsampled_cosine",
    "hugging_face_layout": "clip.hugging_face_layout",
    "inference.image_input": "images.image_input",
    "inference.predictor": "predictor",
    "inference.retrieval": "retrieval",
    "label_upsampling": "ops.label_upsampling",
    "leading_argmax": "ops.leading_argmax",
    "losses.chunks": "losses.chunked_sum",
    "losses.nearest_neighbour": "losses.nearest_neighbor",
    "losses.one_way": "losses.one_directional",
    "losses.ranks": "losses.distributed_batch",
    "losses.similarity_regularisation": "losses.similarity_regularization",
    "matmul_precision": "process.matmul_precision",
    "memory_fallback": "process.memory_fallback",
    "metrics.average_precision": "metrics.detection.average_precision",
    "metrics.class_precision": "metrics.detection.class_precision",
    "metrics.coco_average_precision": "metrics.detection.coco",
    "metrics.detection_files": "metrics.detection.exchange",
    "metrics.detection_rows": "metrics.detection.rows",
    "metrics.detection_tables": "metrics.detection.tables",
    "metrics.federated_average_precision": "metrics.detection.lvis",
    "metrics.greedy_matching": "metrics.detection.greedy_matching",
    "open_clip_model": "clip.open_clip_model",
    "pamr": "ops.pamr",
    "pickle_programs": "files.restricted_pickle",
    "printable_text": "files.printable_text",
    "processor_cores": "process.processor_cores",
    "regular_files": "files.regular_files",
    "saved_config": "config.saved",
    "start_weights": "checkpoint.start_weights",
    "strict_loading": "checkpoint.strict_loading",
    "text.list_forms": "vocabulary.list_forms",
    "text.vocabulary": "vocabulary.vocabulary",
    "text_files": "files.text_files",
    "tool_process": "process.tool_process",
    "weights_digest": "checkpoint.weights_digest",
    "weights_file": "checkpoint.weights_file",
    "word_labels": "heads.word_labels",
}
"""Former module: current one, both below `openvocab`."""

PARTS = {
    "NeighbourContrast": "NeighborContrast",
    "SimilarityRegularisation": "SimilarityRegularization",
}
"""Former name of a registered class: current one."""

_PROPOSALS = {
    "match_iou": "iou_thresholds",
    "samples": "batch_size_per_image",
    "positive_share": "positive_fraction",
    "before_nms": "pre_nms_top_n",
    "after_nms": "post_nms_top_n",
}
_DETECTOR = {
    **{f"proposals.{old}": f"proposals.{new}" for old, new in _PROPOSALS.items()},
    "sampling.samples": "sampling.batch_size_per_image",
    "sampling.positive_share": "sampling.positive_fraction",
    "sampling.match_iou": "sampling.fg_iou_threshold",
    "region_size": "align.region_size",
    "mask_region_size": "align.mask_region_size",
    "read_extra_levels": "align.read_extra_levels",
    "mask_samples": "mask_loss.max_regions",
    "box_beta": "box_loss.beta",
    "box_loss_mean": "box_loss.mean",
    "nms_iou": "detections.nms_iou",
    "max_detections": "detections.max_detections",
    "min_score": "detections.min_score",
}
_HEAD_WITH_DETECTOR = {f"detector.{old}": f"detector.{new}" for old, new in _DETECTOR.items()}

ARGUMENTS: dict[str, dict[str, str]] = {
    "ClassificationFolder": {
        "leave_out": "class_options.leave_out",
        "unseen": "class_options.unseen",
        "repeated_names": "class_options.repeated_names",
    },
    "DetectionDataset": {
        "category_ids": "labels.category_ids",
        "unlisted_ids": "labels.unlisted_ids",
        "frequencies": "labels.frequencies",
        "unseen": "class_options.unseen",
        "train_classes": "class_options.train_classes",
    },
    "FewShotDataset": {
        "episodes": "episodes.count",
        "pairs": "episodes.pairs",
        "draw": "episodes.draw",
        "seed": "episodes.seed",
        "first_id": "labels.first_id",
        "boundary": "labels.boundary",
    },
    "PipelineDataset": {
        "bad_samples": "loading.bad_samples",
        "max_bad_share": "loading.max_bad_share",
        "cache_images": "loading.cache_images",
    },
    "SegmentationDataset": {
        "image_suffix": "pairing.image_suffix",
        "annotation_suffix": "pairing.annotation_suffix",
        "require_annotations": "pairing.require_annotations",
        "reduce_zero_label": "labels.reduce_zero_label",
        "ignored_ids": "labels.ignored_ids",
        "label_ids": "labels.label_ids",
        "unlisted_ids": "labels.unlisted_ids",
        "panoptic_json": "labels.panoptic_json",
        "unseen": "class_options.unseen",
        "train_classes": "class_options.train_classes",
        "background": "class_options.background",
        "synonym_merge": "class_options.synonym_merge",
        "repeated_names": "class_options.repeated_names",
    },
    "GroupViTHead": {
        "depths": "transformer.depths",
        "num_groups": "transformer.num_groups",
        "num_heads": "transformer.num_heads",
        "mlp_ratio": "transformer.mlp_ratio",
        "drop_path": "transformer.drop_path",
        "soft_scale": "transformer.soft_scale",
        "num_prompts": "multi_label.num_prompts",
        "multi_label_weight": "multi_label.weight",
        "match": "multi_label.match",
        "positives_by_text": "multi_label.positives_by_text",
        "background_threshold": "scoring.background_threshold",
        "logit_scale": "scoring.logit_scale",
        "top_k": "scoring.top_k",
        "output_stride": "scoring.output_stride",
    },
    "LSegHead": {
        "factors": "decoder.factors",
        "dims": "decoder.dims",
        "features": "decoder.features",
        "readout": "decoder.readout",
        "block": "spatial_block.kind",
        "block_depth": "spatial_block.depth",
        "block_activation": "spatial_block.activation",
    },
    "ClassAgnosticMaskRCNN": _DETECTOR,
    "FVLMHead": _HEAD_WITH_DETECTOR,
    "ProposalNetwork": _PROPOSALS,
    "ViLDHead": _HEAD_WITH_DETECTOR,
}
"""For each class, former argument: present one. A dot leads into a dict: `{"ignore_index": "labels.ignore_index"}`."""


class MovedModule(ModuleType):
    """A module under its former name: its attributes are those of the current module, and using them warns."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a tool that inspects all modules does not use this one
            raise AttributeError(name)
        return getattr(self._present_module(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):  # set by Python, for this module itself
            super().__setattr__(name, value)
        else:
            setattr(self._present_module(), name, value)

    def _present_module(self) -> ModuleType:
        new = f"openvocab.{MOVED[self.__name__.removeprefix('openvocab.')]}"
        _warn(self.__name__, new, stacklevel=4)
        return import_module(new)


def present_part(name: str) -> str:
    """Return the current name of a registered class; a former one warns."""
    if name in PARTS:
        _warn(name, PARTS[name], stacklevel=4)
    return PARTS.get(name, name)


def present_path(path: str) -> str:
    """Return the current form of a part's name, "module.Class" or "Class" alone; any other string as it is."""
    module, _, name = path.rpartition(".")
    if module and module.partition(".")[0] != "openvocab":
        return path
    below = module.removeprefix("openvocab.")
    module = f"openvocab.{MOVED[below]}" if below in MOVED else module
    return f"{module}.{PARTS.get(name, name)}" if module else PARTS.get(name, name)


def present_arguments(
    kind: type | str, arguments: Mapping[str, Any], *, warn: bool, construct: Callable | None = None
) -> dict[str, Any]:
    """Return the arguments of a class under their current names.

    Args:
        kind: the class, or its path if only that is known; the former arguments of its bases count, too.
        arguments: as a config states them.
        warn: whether a former name causes a warning; not for a checkpoint, which a user cannot edit.
        construct: the function that takes the arguments; default: the class. Its own parameters are not renamed.

    Raises:
        ValueError: an argument is given under both names.
    """
    if not _renamed_arguments(kind):
        return dict(arguments)
    present = _copied(arguments)
    taken = () if isinstance(kind, str) else inspect.signature(construct or kind).parameters
    for old, new in _move(kind, present, taken, replace=False).items():
        if warn:
            _warn(f"{_name(kind)}: {old}=...", _spelled(new), stacklevel=4)
    return present


def accept_former_arguments(kind: type[Class]) -> type[Class]:
    """Let the constructor of a class take its arguments under their former names, too, with a warning."""
    construct = vars(kind).get("__init__")
    if construct is not None:

        @wraps(construct)
        def construct_with_present_names(self: Any, *args: Any, **kwargs: Any) -> None:
            if args and not former_arguments().isdisjoint(kwargs):
                args, kwargs = (), {**_named(construct, args), **kwargs}  # a group may have come by position
            construct(self, *args, **present_arguments(type(self), kwargs, warn=True, construct=construct))

        setattr(kind, "__init__", construct_with_present_names)  # noqa: B010  mypy takes no other assignment
    return kind


def former_arguments() -> frozenset[str]:
    """Return the former names of all arguments, of those in groups the first part."""
    return frozenset(old.partition(".")[0] for renamed in ARGUMENTS.values() for old in renamed)


def move_former_arguments(kind: type, arguments: dict[str, Any], source: str) -> None:
    """Give the arguments in the config of a class their present names, in place.

    A value under a former name replaces that under the present one, which an inherited config states.

    Args:
        kind: the class.
        arguments: as the config states them.
        source: file and key of the config, for the warning.
    """
    for old, new in _move(kind, arguments, inspect.signature(kind).parameters, replace=True).items():
        _warn(f"{source}: {kind.__name__}: {old}=...", _spelled(new), stacklevel=5)


def _move(kind: type | str, arguments: dict[str, Any], taken: Container[str], *, replace: bool) -> dict[str, str]:
    """Move former arguments to their present names, in place, and return {former: present} of those that were there.

    Args:
        kind: the class, or its path.
        arguments: of it.
        taken: names that it takes today, which are no former ones.
        replace: whether a value under a former name replaces one under the present name; otherwise that is an error.
    """
    moved = {}
    for old, new in _renamed_arguments(kind).items():
        group, key = _group(arguments, old)
        is_group = new.startswith(f"{old}.")  # named as the argument was: a dict is the group
        if group is None or key not in group or (_is_group(group[key]) if is_group else old in taken):
            continue
        value = group.pop(key)
        target, target_key = _group(arguments, new, make=True)
        if target is None or (target_key in target and not replace):
            raise ValueError(f"{_name(kind)}: got both {new} and {old}, its name before 0.2; give {new} alone")
        target[target_key] = value
        moved[old] = new
    return moved


def present_option(kind: type, option: str, value: Any) -> str:
    """Return the present form of a dotted path below a class's arguments, `cache_images`; a former one warns.

    Args:
        kind: the class.
        option: the path.
        value: what is to be there; a dict or None under a name that is a group now too means the group.
    """
    taken = inspect.signature(kind).parameters
    for old, new in _renamed_arguments(kind).items():
        is_group = new.startswith(f"{old}.")
        if (value is None or _is_group(value)) if is_group else old in taken:
            continue
        if option == old or (option.startswith(f"{old}.") and not new.startswith(f"{old}.")):
            _warn(f"{kind.__name__}: {old}=...", _spelled(new), stacklevel=4)
            return new + option.removeprefix(old)
    return option


def arguments_in_groups(kind: type) -> dict[str, str]:
    """Return {former argument: its present form, `decoder=dict(features=...)`} of a class."""
    return {old: _spelled(new) for old, new in _renamed_arguments(kind).items()}


def _renamed_arguments(kind: type | str) -> dict[str, str]:
    """Return {former: present} argument of a class, those of its bases first; a foreign class has none."""
    if isinstance(kind, str):
        package, names = kind.partition(".")[0], [_name(kind)]
        names = names if package == "openvocab" or package == kind else []
    else:
        names = [base.__name__ for base in reversed(kind.__mro__) if base.__module__.partition(".")[0] == "openvocab"]
    return {old: new for name in names for old, new in ARGUMENTS.get(name, {}).items()}


def _name(kind: type | str) -> str:
    return kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__


def _named(construct: Callable, values: tuple) -> dict[str, Any]:
    """Return positional arguments of a constructor by their names."""
    _, *names = inspect.signature(construct).parameters
    return dict(zip(names, values))


def _is_group(value: Any) -> bool:
    return isinstance(value, Mapping) or is_dataclass(value)


def _spelled(path: str) -> str:
    """Return an argument as Python spells it, `labels=dict(ignore_index=...)` for `labels.ignore_index`."""
    first, _, rest = path.partition(".")
    return f"{first}=dict({_spelled(rest)})" if rest else f"{first}=..."


def _warn(old: str, new: str, stacklevel: int) -> None:
    warnings.warn(f"{old} is {new} now; the old name goes with 0.3", FutureWarning, stacklevel=stacklevel)


def _copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a dict and of the dicts within it, so that no config changes."""
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in arguments.items()}


def _group(arguments: dict[str, Any], path: str, *, make: bool = False) -> tuple[dict[str, Any] | None, str]:
    """Return the dict that a dotted path leads to, and the last name of the path; None where another value is met."""
    *groups, key = path.split(".")
    for name in groups:
        if make and arguments.get(name) is None:  # None gives a group its defaults
            arguments[name] = type(arguments)()
        inner = arguments.get(name)
        if not isinstance(inner, dict):
            return None, key
        arguments = inner
    return arguments, key


def keep_old_names() -> None:
    """Let the modules in `MOVED` be imported by their former names, too."""
    for old in MOVED:
        sys.modules.setdefault(f"openvocab.{old}", MovedModule(f"openvocab.{old}"))
