"""Train the model of a config, or one on your own data.

openvocab train lseg_shapes [--resume] [--amp {auto,bf16,off}]
openvocab train my_config.py --work-dir run --cfg-options train_cfg.max_iters=1000
openvocab train --data my.yaml --head lseg [--minutes 20] [--model NAME] [--out DIR]
torchrun --nproc_per_node 8 -m openvocab train lseg_ade --launcher pytorch

On SIGTERM or Ctrl-C, training saves before the next step and ends with exit code 143 or 130; a second signal ends it at
once. --json prints the work dir, the best checkpoint (the last one without validation), its score and the iterations.
"""

import argparse
from pathlib import Path
from typing import Any

from openvocab.commands.answers import write_answer
from openvocab.commands.data_config import add_data_options, check_data_options, config_of_data
from openvocab.commands.parser import offer
from openvocab.config.options import AMP_CHOICES, add_config_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    offer(parser.add_argument("config", nargs="?",
                              help="config file, or the name of one that comes with openvocab"), "configs")  # fmt: skip
    parser.add_argument("--work-dir", "--out",
                        help="folder of checkpoints and logs; default: work_dirs/<config name>, or "
                             "work_dirs/<head>_<name of the data>")  # fmt: skip
    earlier_run = parser.add_mutually_exclusive_group()
    earlier_run.add_argument("--resume", action="store_true", help="continue from the newest intact checkpoint there")
    earlier_run.add_argument("--overwrite", action="store_true",
                             help="start anew there; the earlier run is moved to earlier-TIME/")  # fmt: skip
    parser.add_argument("--amp", nargs="?", choices=AMP_CHOICES, const="bf16",
                        help="bfloat16 mixed precision: auto if it is faster, bf16 (or no value) always, off never; "
                             "default: the config's")  # fmt: skip
    parser.add_argument("--seed", type=int, help="seed of all random choices")
    parser.add_argument("--tracker", choices=["tensorboard", "wandb", "mlflow"],
                        help="also write the numbers of the run there")  # fmt: skip
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    add_data_options(parser)
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    from mmengine.dist import is_main_process

    from openvocab.config.config import read_config
    from openvocab.engine.own_process import own_process
    from openvocab.engine.run_length import bound_minutes
    from openvocab.engine.runner import build_runner
    from openvocab.engine.trackers import add_tracker

    check_data_options(arguments)
    config = config_of_data(arguments) if arguments.data else read_config(arguments.config, arguments.cfg_options)
    add_tracker(config, arguments.tracker)
    if arguments.minutes is not None:
        bound_minutes(config, arguments.minutes)
    runner = build_runner(
        config,
        work_dir=arguments.work_dir,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        amp=arguments.amp,
        launcher=arguments.launcher,
        seed=arguments.seed,
    )
    own_process(config)
    runner.train()
    if arguments.json and is_main_process():
        write_answer("", _outcome(Path(runner.work_dir)), as_json=True)
    return 0


def _outcome(work_dir: Path) -> dict[str, Any]:
    """Describe a finished run by its files, which a resumed run that had nothing left to do has, too."""
    from openvocab.checkpoint.checkpoint import load_checkpoint

    last = load_checkpoint(work_dir / "last.pth", map_location="meta")
    name, score = last.get("best_metric"), last.get("best_score")
    best = work_dir / "best.pth"
    return {
        "work_dir": work_dir,
        "checkpoint": best if best.is_file() else work_dir / "last.pth",
        "best": None if score is None else {"name": name, "score": score},
        "iterations": last["meta"]["iter"],
    }
