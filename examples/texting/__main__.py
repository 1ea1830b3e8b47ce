"""``python -m examples.texting``: TextING as a newcomer to MindSpore writes it, then with the fixes."""

from examples.common.command_line import main

raise SystemExit(main("texting"))
