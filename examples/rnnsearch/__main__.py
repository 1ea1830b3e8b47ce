"""``python -m examples.rnnsearch``: RNNSearch as a newcomer to MindSpore writes it, then with the fixes."""

from examples.common.command_line import main

raise SystemExit(main("rnnsearch"))
