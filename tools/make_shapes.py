"""Draw the Shapes dataset: labeled scenes of colored shapes in the formats of real datasets.

Command: python tools/make_shapes.py [--root data/shapes] [--seed 0]. The default set (13,000 pictures of 64 px) takes
under 20 seconds on two cores. A folder that already holds the same set is kept, and gets the grounding
files if an earlier version wrote it.
"""

from openvocab.commands.main import run_tool

if __name__ == "__main__":
    run_tool("shapes", __doc__)
