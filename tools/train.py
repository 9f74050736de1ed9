"""Train the model of a config.

python tools/train.py configs/lseg_shapes.py [--resume] [--amp]
torchrun --nproc_per_node 8 tools/train.py configs/lseg_ade.py --launcher pytorch
"""

import argparse

from mmengine.config import DictAction


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of checkpoints and logs; default: work_dirs/<config name>")
    parser.add_argument("--resume", action="store_true", help="continue from the newest whole checkpoint there")
    parser.add_argument("--amp", action="store_true", help="bfloat16 mixed precision, on CPUs too")
    parser.add_argument("--seed", type=int, help="of everything random")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="change the config")
    return parser.parse_args()


def main() -> None:
    """Run the tool."""
    arguments = parse_arguments()
    # after the arguments, so that --help and a mistyped option need not wait for torch and mmengine's runner
    from openvocab.command_line import one_line_errors
    from openvocab.config import read_config
    from openvocab.engine.own_process import own_process
    from openvocab.engine.runner import build_runner

    with one_line_errors():
        config = read_config(arguments.config, arguments.cfg_options)
        runner = build_runner(
            config,
            work_dir=arguments.work_dir,
            resume=arguments.resume,
            amp=arguments.amp,
            launcher=arguments.launcher,
            seed=arguments.seed,
        )
        own_process(config)
        runner.train()


if __name__ == "__main__":
    main()
