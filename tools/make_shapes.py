"""Draw the Shapes dataset: labeled scenes of colored shapes in the formats of real datasets.

Command: python tools/make_shapes.py [--root data/shapes] [--seed 0]. The default set (13,000 pictures of 64 px) takes
under 20 seconds on two cores. A folder that already holds the same set is kept.
"""

import argparse
from pathlib import Path

from openvocab.command_line import one_line_errors
from openvocab.datasets.shapes.writing import write_shapes
from openvocab.progress import Progress


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/shapes", type=Path, help="folder to create (default: %(default)s)")
    parser.add_argument("--seed", default=0, type=int, help="of all random choices (default: %(default)s)")
    parser.add_argument("--num-train", default=12_000, type=int, help="training scenes (default: %(default)s)")
    parser.add_argument("--num-val", default=500, type=int, help="validation scenes (default: %(default)s)")
    parser.add_argument(
        "--objects-per-class", default=10, type=int, help="single-object pictures per class (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, help="workers, which do not change the result (default: one per core)")
    return parser.parse_args()


def main() -> None:
    """Run the tool."""
    args = parse_args()
    with one_line_errors():
        has_written = write_shapes(progress=Progress(), **vars(args))
        print(f"{args.root} is complete" if has_written else f"{args.root} holds this dataset already")


if __name__ == "__main__":
    main()
