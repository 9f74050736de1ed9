"""Write the folder of a published model, and upload it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.checkpoint.published import save_published
from openvocab.config.config import read_config, test_pipeline
from openvocab.config.saved import config_of, config_to_data
from openvocab.files.atomic_files import put_in_place, replacing, temporary_sibling
from openvocab.predictor import Predictor, load
from openvocab.publishing.facts import Scores, parts_of, result_files, result_scores, task_of, validation_scores
from openvocab.publishing.model_card import ModelCard
from openvocab.version import __version__

logger = logging.getLogger(__name__)

WEIGHTS, CARD = "model.safetensors", "README.md"


def publish(
    checkpoint: Path,
    out: Path,
    *,
    config: str | None = None,
    metrics: Sequence[Path] = (),
    name: str | None = None,
    license: str | None = None,
    repository: str | None = None,
) -> None:
    """Write a folder with the weights of a checkpoint, the config of its model, and a model card.

    `openvocab.load` reads the folder, or the file of weights alone; it is tried before the folder appears.

    Args:
        checkpoint: a checkpoint of our training.
        out: folder to create.
        config: name or path of its config, for a checkpoint without one.
        metrics: result files of `openvocab test --out` of these weights; default: the one next to the checkpoint that
            is newer, if there is exactly one.
        name: of the model, for the card; default: that of the folder.
        license: of the weights, for the card.
        repository: OWNER/NAME on the hub, for the example in the card; default: the name of the folder.

    Raises:
        FileExistsError: `out` exists.
        FileNotFoundError: there is no such checkpoint, config or result file.
        ValueError: the checkpoint is damaged, has no config or is of another model; or a result file is none.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already; name another folder")
    if not checkpoint.is_file():
        raise FileNotFoundError(f"no such checkpoint: {checkpoint}")
    content = load_checkpoint(checkpoint)
    meta = _meta(content, checkpoint, config)
    scores = [*map(result_scores, metrics or _only_result(checkpoint))]
    units = {key: unit for each in scores for key, unit in each.units.items()}
    scores = [*validation_scores(content, units), *scores]
    out.parent.mkdir(parents=True, exist_ok=True)
    with temporary_sibling(out, Path.mkdir) as folder:
        save_published(content.get("state_dict") or {}, meta, folder / WEIGHTS)
        predictor = load(folder / WEIGHTS, device="cpu")
        for key, named in _files_in(meta["config"]["model"], "model"):
            logger.warning(
                f"{key}={named}: the weights do not hold this file; whoever loads the model needs it there, too"
            )
        source = f"hf-hub:{repository}" if repository else out.name
        card = _card(predictor, meta, scores, name or out.name, license, source)
        with replacing(folder / CARD) as file:
            file.write(card.text())
        put_in_place(folder, out)


def _meta(content: Mapping[str, Any], checkpoint: Path, config: str | None) -> dict[str, Any]:
    """Return the part of a checkpoint's `meta` that a user of the weights needs.

    Raises:
        ConfigError: there is no config from which a model can be built.
    """
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    saved = meta.get("config") if config is None else config_to_data(read_config(config))
    config_of({"meta": {"config": saved}}, str(checkpoint))  # raises
    assert isinstance(saved, Mapping)
    pipeline = test_pipeline(saved, str(checkpoint))
    kept = {
        key: meta[key] for key in ("iter", "class_names", "experiment_name", "versions") if meta.get(key) is not None
    }
    parts = {"model": saved["model"], "test_dataloader": {"dataset": {"pipeline": pipeline}}}
    return {**kept, "config": _without_cache(parts), "published_by": __version__}


def _without_cache(node: Any) -> Any:
    """Return a config without the folders in which this machine keeps its caches."""
    if isinstance(node, Mapping):
        return {key: _without_cache(value) for key, value in node.items() if key != "cache_dir"}
    return type(node)(map(_without_cache, node)) if isinstance(node, (list, tuple)) else node


def _files_in(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, path) of the files that a config names, except for the weights that a training starts from."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name != "pretrained":
                yield from _files_in(value, f"{key}.{name}")
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _files_in(value, f"{key}.{index}")
    elif isinstance(node, str) and Path(node).suffix and Path(node).expanduser().is_file():
        yield key, node


def _only_result(checkpoint: Path) -> list[Path]:
    found = result_files(checkpoint)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        logger.warning(f"{checkpoint.parent} holds several result files ({names}): --metrics chooses those of the card")
        return []
    return found


def _card(
    predictor: Predictor,
    meta: Mapping[str, Any],
    scores: Sequence[Scores],
    name: str,
    license: str | None,
    source: str,
) -> ModelCard:
    task, hub_task = task_of(predictor.model.head)
    training = {"run": meta.get("experiment_name"), "iterations": meta.get("iter")}
    return ModelCard(
        name=name,
        source=source,
        license=license,
        task=task,
        hub_task=hub_task,
        parts=parts_of(predictor.model),
        class_names=meta.get("class_names", ()),
        training={key: value for key, value in training.items() if value is not None},
        scores=scores,
        versions={"openvocab": __version__, **{k: v for k, v in meta.get("versions", {}).items() if k != "openvocab"}},
    )
