"""Compute the teacher's embeddings of the regions of all training images of a config, once, for ViLD.

python tools/cache_region_embeddings.py configs/vild_shapes.py
torchrun --nproc_per_node 8 tools/cache_region_embeddings.py configs/vild_lvis_r50.py

The config's `teacher` describes the embeddings and names the folder of the cache. The same command resumes an
interrupted run. Processes divide the shards among themselves, and each takes a GPU of its machine.
"""

import openvocab.process.tool_process  # noqa: F401  first: it sets how OpenMP, which torch loads, works

# isort: split
import argparse
import os
from typing import Any

import torch
from mmengine.config import Config

from openvocab.command_line import one_line_errors, show_log
from openvocab.config.config import ConfigError, read_config
from openvocab.config.options import add_config_options
from openvocab.datasets.base import PipelineDataset
from openvocab.datasets.transforms import LoadImage
from openvocab.engine.own_process import own_process
from openvocab.former_names import present_arguments
from openvocab.missing_file import argument_of
from openvocab.progress import Progress
from openvocab.registry import DATASETS
from openvocab.teacher.region_cache_dtype import settle_cache_dtype
from openvocab.teacher.region_cache_writing import write_region_cache
from openvocab.teacher.region_embedder import build_embedder
from openvocab.teacher.region_shard import EMBED_DTYPES


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file with a teacher")
    parser.add_argument("--embed-dtype", choices=sorted(EMBED_DTYPES), default="float16",
                        help="dtype on disk (default: %(default)s, half the size of float32)")  # fmt: skip
    parser.add_argument("--images-per-shard", type=int, default=100,
                        help="computed again at most after a kill (default: %(default)s)")  # fmt: skip
    add_config_options(parser)
    return parser.parse_args()


def build_images(config: Config) -> PipelineDataset:
    """Build the training dataset of a config with a pipeline that only loads the images."""
    dataset = DATASETS.build({**dataset_settings(config), "pipeline": [{"type": LoadImage}], "loading": {}})
    if not isinstance(dataset, PipelineDataset):
        raise ConfigError(f"{config.filename}: regions of a {type(dataset).__name__} cannot be cached")
    return dataset


def dataset_settings(config: Config) -> dict[str, Any]:
    """Return the settings of the training dataset, its arguments under their present names."""
    settings: dict[str, Any] = dict(config.train_dataloader.dataset)
    kind = settings.pop("type")
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    return {"type": kind, **present_arguments(kind, settings, warn=False)}


def main() -> None:
    """Run the tool."""
    arguments = parse_arguments()
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    with one_line_errors("--cfg-options"):
        config = read_config(arguments.config, arguments.cfg_options)
        for key in ("teacher", "train_dataloader"):
            if config.get(key) is None:
                raise ConfigError(f"{arguments.config}: no {key!r}")
        if "folder" not in config.teacher:
            raise ConfigError(f"{arguments.config}: teacher names no folder for its cache")
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        own_process(config)
        show_log()
        device = config.teacher.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        teacher = settle_cache_dtype(config.teacher, torch.device(device))
        with argument_of("teacher"):
            embedder = build_embedder(teacher)
        written = write_region_cache(
            build_images(config),
            embedder,
            config.teacher.folder,
            embed_dtype=arguments.embed_dtype,
            images_per_shard=arguments.images_per_shard,
            skip_bad=dict(dataset_settings(config).get("loading") or {}).get("bad_samples") == "skip",
            rank=rank,
            world_size=world_size,
            progress=Progress() if rank == 0 else None,
        )
    if written.is_finished:
        written_now = f"{written.num_new} of them written now" if written.num_new else "it was finished already"
        print(f"region cache {config.teacher.folder}: {written.num_shards} shards, {written_now}", flush=True)


if __name__ == "__main__":
    main()
