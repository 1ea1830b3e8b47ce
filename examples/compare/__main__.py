"""``python -m examples.compare``: four models as a newcomer to MindSpore writes them, and with ascend_fixes, in minutes.

``--thorough`` instead trains every model with each family of cures by itself; so does every option that only it has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.common.command_line import INTERRUPTED, chosen, natural, positive
from examples.common.files import ExampleError
from examples.compare import quick, thorough

_THOROUGH = ("data", "families", "cells", "full", "epochs", "limit", "seed", "resume")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 if all that is cured did what it should, 1 if not, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m examples.compare", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    long = "trainings with each family of cures by itself; takes a quarter of an hour"
    add("--models", metavar="LIST", default=",".join(thorough.MODELS), help="some of them (default: %(default)s)")
    add("--jobs", type=positive, metavar="N", help="how many at a time (default: one a core, at most 2; thorough: 4)")
    add("--output", metavar="DIR", type=Path, default=Path("runs/compare"), help="default: %(default)s")
    add("--json", metavar="FILE", type=Path, help="write the results to FILE as well")
    add("--thorough", action="store_true", help=long)
    more = parser.add_argument_group("options of --thorough, each of which implies it").add_argument
    more("--data", metavar="DIR", type=Path, help="real corpora, in the folders that the README names")
    more("--families", metavar="LIST", help="cells of these families only, and plain (default: all)")
    more("--cells", metavar="LIST", help="only these, separated by ';' (default: every cell of the families)")
    more("--full", action="store_true", help="train as long, and on as much, as the examples do: hours on real corpora")
    more("--epochs", type=positive, metavar="N", help="passes over the data")
    more("--limit", type=positive, metavar="N", help="training examples of each model")
    more("--seed", type=natural, metavar="N", help="of everything random (default: 0)")
    more("--resume", action="store_true", help="keep the cells that have finished, and go on")
    options = parser.parse_args(arguments)
    try:
        models = chosen("--models", options.models, list(thorough.MODELS))
        if options.thorough or any(getattr(options, name) not in (None, False) for name in _THOROUGH):
            options.seed = options.seed or 0
            return thorough.run(models, options)
        return quick.run(models, options.output, options.json, options.jobs)
    except KeyboardInterrupt:
        print("\ninterrupted; --thorough goes on with --resume", file=sys.stderr)
        return INTERRUPTED
    except (ExampleError, OSError) as error:
        if str(error):
            print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
