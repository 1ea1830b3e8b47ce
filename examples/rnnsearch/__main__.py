"""``python -m examples.rnnsearch``: RNNSearch as a newcomer to MindSpore writes it, then with the fixes."""

import sys

from examples.common.command_line import main

if __name__ == "__main__":
    sys.exit(main("rnnsearch"))
