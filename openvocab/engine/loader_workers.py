"""Limit the loader workers to the available cores."""

import os

from mmengine.config import Config

from openvocab.process.processor_cores import available_cores

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def limit_workers(config: Config) -> str:
    """Lower the `num_workers` of a config's loaders to the number of cores per rank.

    Samples do not depend on the number of workers; the order of a stream (`WebCaptionDataset`) does.

    Returns:
        A line for the log, "" if nothing is lowered.
    """
    cores = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    lowered = {}
    for name in LOADERS:
        if config.get(name) is None:
            continue
        loader = config[name].copy()  # the caller's config does not change
        if loader.get("num_workers", 0) > cores:
            lowered[name] = loader.num_workers
            loader.num_workers = cores
        config[name] = loader
    asked = ", ".join(f"{name} {number}" for name, number in lowered.items())
    return f"loader workers: {cores}, as many as cores for each process (the config: {asked})" if lowered else ""
