"""Train the model of a config.

python tools/train.py configs/lseg_shapes.py [--resume] [--amp]
torchrun --nproc_per_node 8 tools/train.py configs/lseg_ade.py --launcher pytorch

SIGTERM and Ctrl-C save before the next step and end with exit code 143 and 130; a second one ends at once.
"""

import argparse

from mmengine.config import DictAction

from openvocab.command_line import one_line_errors
from openvocab.config import read_config
from openvocab.engine.runner import build_runner


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of checkpoints and logs; default: work_dirs/<config name>")
    earlier = parser.add_mutually_exclusive_group()  # what to do about a run that the folder holds already
    earlier.add_argument("--resume", action="store_true", help="continue from the newest whole checkpoint there")
    earlier.add_argument("--overwrite", action="store_true",
                         help="start again there; the files of the earlier run are moved to earlier-TIME/")  # fmt: skip
    parser.add_argument("--amp", action="store_true", help="bfloat16 mixed precision, on CPUs too")
    parser.add_argument("--seed", type=int, help="of everything random")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="change the config")
    return parser.parse_args()


def main() -> None:
    """Run the tool."""
    arguments = parse_arguments()
    with one_line_errors():
        config = read_config(arguments.config, arguments.cfg_options)
        runner = build_runner(
            config,
            work_dir=arguments.work_dir,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            amp=arguments.amp,
            launcher=arguments.launcher,
            seed=arguments.seed,
        )
        runner.train()


if __name__ == "__main__":
    main()
