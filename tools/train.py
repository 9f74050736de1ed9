"""Train the model of a config.

python tools/train.py configs/lseg_shapes.py [--resume] [--amp {auto,bf16,off}]
torchrun --nproc_per_node 8 tools/train.py configs/lseg_ade.py --launcher pytorch

On SIGTERM or Ctrl-C, training saves before the next step and ends with exit code 143 or 130; a second signal ends it at
once.
"""

import openvocab.process.tool_process  # noqa: F401  first: it sets how OpenMP, which torch loads, works

# isort: split
import argparse
import sys

from openvocab.config.config import AMP_CHOICES
from openvocab.config.options import add_config_options


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of checkpoints and logs; default: work_dirs/<config name>")
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
    add_config_options(parser)
    return parser.parse_args(_with_amp_value(sys.argv[1:]))


def _with_amp_value(arguments: list[str]) -> list[str]:
    """Add the value of a bare `--amp`, so that argparse does not take the config after it for its value."""
    following = [*arguments[1:], ""]
    pairs = zip(arguments, following)
    return ["--amp=bf16" if one == "--amp" and after not in AMP_CHOICES else one for one, after in pairs]


def main() -> None:
    """Run the tool."""
    arguments = parse_arguments()
    # imported after the arguments are read, so that --help and a mistyped option need not wait for torch and mmengine
    from openvocab.command_line import one_line_errors
    from openvocab.config.config import read_config
    from openvocab.engine.own_process import own_process
    from openvocab.engine.runner import build_runner
    from openvocab.engine.trackers import add_tracker

    with one_line_errors():
        config = read_config(arguments.config, arguments.cfg_options)
        add_tracker(config, arguments.tracker)
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


if __name__ == "__main__":
    main()
