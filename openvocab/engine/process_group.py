"""The process group of a distributed run: NCCL on GPUs, gloo on CPUs."""

import atexit
import gc
import os
from datetime import timedelta

import torch
import torch.distributed.nn.functional  # if imported after a group starts, its default arguments keep that group alive
from mmengine.config import Config
from mmengine.dist import is_distributed

from openvocab.config.config import ConfigError


def prepare_distributed(config: Config) -> None:
    """Start the process group on a CPU (mmengine assumes CUDA), and set how the model is wrapped.

    Raises:
        ConfigError: this process was not started by torchrun, or there are fewer GPUs than ranks.
    """
    if "LOCAL_RANK" not in os.environ:
        raise ConfigError("launcher 'pytorch' needs torchrun: torchrun --nproc_per_node N -m openvocab train ...")
    on_gpu, rank, devices = torch.cuda.is_available(), int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if on_gpu and rank >= devices:
        raise ConfigError(f"--nproc_per_node: every rank needs a GPU of its own, expected at most {devices}")
    if not on_gpu and not is_distributed():
        seconds = (config.get("env_cfg") or {}).get("dist_cfg", {}).get("timeout")
        timeout = None if seconds is None else timedelta(seconds=seconds)  # None: torch's default
        torch.distributed.init_process_group("gloo", timeout=timeout)
    atexit.register(_leave_process_group)
    if not on_gpu:
        config.pop("sync_bn", None)  # torch synchronizes batch statistics on GPUs only
    if config.get("model_wrapper_cfg") is None:
        config.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=[rank] if on_gpu else None,
            find_unused_parameters=config.get("find_unused_parameters", True),
            broadcast_buffers=True,
        )


def _leave_process_group() -> None:
    """Stop the threads of the group while Python still runs: one that is killed at its exit may abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # a model in a reference cycle still holds the group
