"""The command line: ``ascend-fixes doctor``, ``ascend-fixes bisect`` and ``ascend-fixes defects``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ascend_fixes import __version__
from ascend_fixes.errors import AscendFixesError

if TYPE_CHECKING:
    from ascend_fixes.defects import Defect

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except AscendFixesError as error:
        print(f"ascend-fixes: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ascend-fixes", description="Find and cure MindSpore's platform defects.")
    parser.add_argument("--version", action="version", version=f"ascend-fixes {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    doctor = commands.add_parser(
        "doctor",
        help="run every probe on this machine, without and with its cure",
        description="Run every probe, each in a process of its own, without and then with its cure. "
        "Exit status: 0 when every defect present is cured, 1 otherwise, 2 for wrong usage.",
    )
    doctor.add_argument("--only", metavar="A1,F1", default="", help="ids or families, separated by commas")
    doctor.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    doctor.add_argument(
        "--jobs", type=_positive(int), default=0, metavar="N", help="probes at a time (default: one a core)"
    )
    doctor.add_argument(
        "--timeout",
        type=_positive(float),
        default=90.0,
        metavar="S",
        help="seconds for one run of a probe (default: 90)",
    )
    doctor.set_defaults(run=_doctor)

    bisect = commands.add_parser(
        "bisect",
        help="find the operators that graph-kernel fusion gets wrong in a cell of yours",
        description="Compare a cell fused and unfused and find a minimal set of operators to leave out of fusion. "
        "Exit status: 0 when there is nothing to do, 1 when operators were found, 2 for wrong usage.",
    )
    bisect.add_argument("factory", metavar="package.module:factory", help="a function that returns (cell, input, ...)")
    bisect.add_argument("--rtol", type=_positive(float), metavar="R", help="largest error that counts as right")
    bisect.add_argument(
        "--no-grad", action="store_true", help="compare the outputs only, or what a training cell updates"
    )
    bisect.add_argument("--limit", type=_positive(float), default=120.0, metavar="S", help="seconds for one run (120)")
    bisect.add_argument("--learn", action="store_true", help='keep the finding for patch("fusion") on this machine')
    bisect.set_defaults(run=_bisect)

    defects = commands.add_parser("defects", help="list the catalogue, or explain one defect")
    defects.add_argument("id", nargs="?", help="a defect's id, for example A1")
    defects.add_argument("--markdown", action="store_true", help="print a Markdown page")
    defects.set_defaults(run=_defects)
    return parser


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return value

    parse.__name__ = kind.__name__  # argparse names it in its message
    return parse


def _doctor(arguments: argparse.Namespace) -> int:
    from ascend_fixes.cures import select
    from ascend_fixes.doctor import Row, examine, healthy, to_json, to_table

    chosen = select([name.strip() for name in arguments.only.split(",") if name.strip()])
    done: list[str] = []

    def progress(row: Row) -> None:
        done.append(row.id)
        if sys.stderr.isatty():
            print(f"\r\033[K{len(done)} of {len(chosen)} examined, last {row.id}", end="", file=sys.stderr, flush=True)

    rows = examine(chosen, arguments.jobs, arguments.timeout, progress)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(to_json(rows) if arguments.json else to_table(rows))
    return 0 if healthy(rows) else 1


def _bisect(arguments: argparse.Namespace) -> int:
    from ascend_fixes import fusion
    from ascend_fixes.fusion._learned import learned_file

    report = fusion.bisect(arguments.factory, grad=not arguments.no_grad, rtol=arguments.rtol, limit=arguments.limit)
    print(report)
    if arguments.learn and report.keep_out:
        fusion.learn(report)
        print(f"kept in {learned_file()}")
    return 1 if report.keep_out else 0


def _defects(arguments: argparse.Namespace) -> int:
    from ascend_fixes.cures import select

    chosen = select([arguments.id] if arguments.id else [])
    if arguments.markdown:
        print(_page(chosen), end="")
    elif arguments.id is None or len(chosen) != 1:
        for defect in chosen:
            print(f"{defect.id:4s}{defect.family:13s}{defect.cure:32s}{defect.symptom}")
    else:
        print(f"{chosen[0].id}  {chosen[0].symptom}\n")
        for name, text in _facts(chosen[0]).items():
            print(f"{name:10s}" + "\n          ".join(text.splitlines() or ["-"]))
    return 0


def _facts(defect: Defect) -> dict[str, str]:
    """What there is to say about a defect, by heading."""
    names = ("family", "error", "cause", "seen", "upstream", "cure", "removal")
    return {name: getattr(defect, name) for name in names}


def _page(defects: Sequence[Defect]) -> str:
    """The catalogue as a Markdown page."""
    lines = [
        "# The catalogue of defects",
        "",
        "Written by `ascend-fixes defects --markdown`; the texts stand in `ascend_fixes/defects/`. "
        "`ascend-fixes doctor` tells which of them your machine has.",
    ]
    for defect in defects:
        facts = _facts(defect)
        error = facts.pop("error")
        lines += ["", f"## {defect.id}: {defect.symptom}", ""]
        lines += [f"- **{name}**: {' '.join(text.split())}" for name, text in facts.items()]
        lines += ["", "```text", error, "```"] if error else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
