"""Settings of a whole process, for programs whose only work is one run."""

from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process

from openvocab.config.modules import keep_sibling_modules
from openvocab.engine.allocator import keep_freed_memory
from openvocab.engine.mmengine_loaders import guard_mmengine_loaders
from openvocab.engine.precision import MatmulPrecision, Precision, use_fast_matmul
from openvocab.process.start_up import collect_as_usual


def own_process(config: Config) -> None:
    """Set up this process for a run of `config`, as our tools do; call it once the run's log is open.

    Freed memory is kept for reuse, float32 matrix products are computed in the `precision` of the config, modules next
    to the config stay importable (for spawned loader workers), and mmengine's loaders read only plain types.

    The library itself changes none of these: `load`, `Predictor`, datasets and metrics leave the process as the host
    program has set it up. `build_runner` sets what mmengine's runner sets (random generators, start method and OpenCV
    threads of the loader, limit of open files, default scope) and the log; a resumed run computes its matrix products
    as it did when it began. A training program of your own may call this function, too.

    Raises:
        ValueError: `precision` is not one of its choices.
    """
    collect_as_usual()
    keep_freed_memory()
    _use_matmul_of_rank_0(config.get("precision", "auto"))
    guard_mmengine_loaders()
    if config.filename:
        keep_sibling_modules(Path(config.filename))


def _use_matmul_of_rank_0(precision: Precision) -> None:
    """Let all ranks follow rank 0: a checkpoint stores one choice, and every rank of a resumed run takes that one."""
    choice: list[MatmulPrecision | None] = [use_fast_matmul(precision) if is_main_process() else None]
    broadcast_object_list(choice)
    if not is_main_process():
        use_fast_matmul(precision, keep=choice[0])
