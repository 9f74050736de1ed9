"""`python -m openvocab` is the console command `openvocab`."""

import sys

from openvocab.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
