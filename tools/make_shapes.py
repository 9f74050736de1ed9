"""Draw the Shapes data set: labelled scenes of coloured forms in the formats of real data sets.

Command: python tools/make_shapes.py [--root data/shapes] [--seed 0]. The default set (13,000 pictures of 64 px) takes
under 20 seconds on two cores. A folder that already holds the same set is kept.
"""

import argparse
import sys
from pathlib import Path

from mmengine.utils import ProgressBar

from openvocab.command_line import one_line_errors
from openvocab.datasets.shapes import write_shapes


class Progress:
    """A bar with the time left, started by its first call."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` pictures are on disk."""
        if self._bar is None:
            self._bar = ProgressBar(total, file=sys.stdout)
        if done > self._bar.completed:
            self._bar.update(done - self._bar.completed)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/shapes", type=Path, help="folder to make (default: %(default)s)")
    parser.add_argument("--seed", default=0, type=int, help="of all choices (default: %(default)s)")
    parser.add_argument("--num-train", default=12_000, type=int, help="training scenes (default: %(default)s)")
    parser.add_argument("--num-val", default=500, type=int, help="validation scenes (default: %(default)s)")
    parser.add_argument(
        "--objects-per-class", default=10, type=int, help="single-object pictures a class (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, help="worker processes (default: one a core); the result is the same")
    return parser.parse_args()


def main() -> None:
    """Run the tool."""
    args = parse_args()
    with one_line_errors():
        made = write_shapes(progress=Progress(), **vars(args))
        print(f"\n{args.root} is complete" if made else f"{args.root} holds this data set already")


if __name__ == "__main__":
    main()
