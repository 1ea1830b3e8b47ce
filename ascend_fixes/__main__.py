"""The command line: ``ascend-fixes doctor | evidence | audit | bisect | dryrun | explain | demo | defects``."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ascend_fixes import __version__
from ascend_fixes.errors import AscendFixesError, UnknownNameError

if TYPE_CHECKING:
    from ascend_fixes.defects import Defect

__all__ = ["main"]

PATIENCE_SECONDS = 90.0  # for one run of a probe, on a machine that loads MindSpore and the catalogue in
LOADING_SECONDS = 3.0
ASCEND_SECONDS = 300.0  # for one compilation of doctor --ascend


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for wrong usage, 130 after Ctrl-C, 141 where nobody reads the output."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _end("stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes once more when it ends
        return _end("standard output was closed before all was written", 141)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mindspore":
            raise
        return _end("MindSpore is not installed; install it with: pip install 'mindspore>=2.7,<2.11'", 2)
    except (AscendFixesError, OSError) as error:
        return _end(str(error), 2)


def _end(message: str, status: int) -> int:
    print(f"ascend-fixes: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ascend-fixes", description="Find and cure MindSpore's platform defects.")
    parser.add_argument("--version", action="version", version=f"ascend-fixes {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    doctor = commands.add_parser(
        "doctor",
        help="run every probe on this machine, without and with its cure",
        description="Run every probe, each in a process of its own, without and then with its cure. "
        "Exit status: 0 when every defect present is cured, 1 where one is not or a probe crashed, 2 for wrong usage, "
        "3 where nothing is wrong but a probe gave no answer in time.",
    )
    doctor.add_argument("--only", metavar="A1,F1", help="ids or families, separated by commas")
    doctor.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    doctor.add_argument(
        "--jobs", type=_positive(int), default=0, metavar="N", help="probes at a time (default: one a core)"
    )
    doctor.add_argument(
        "--timeout",
        type=_positive(float),
        metavar="S",
        help="seconds for one run of a probe (default: 90, and more in proportion where loading MindSpore takes long)",
    )
    doctor.add_argument(
        "--any-version",
        action="store_true",
        help="also try cures on a MindSpore beyond the versions that they were checked on",
    )
    doctor.add_argument(
        "--ascend",
        action="store_true",
        help="compile the rows with MindSpore's Ascend back end instead; nothing is executed (about 10 s a compilation)",
    )
    doctor.add_argument("--soc", help="the chip for --ascend: Ascend910A, Ascend910B (the default) or Ascend910_93")
    doctor.add_argument(
        "--report",
        metavar="FILE",
        help="also write versions, wheel, device, findings and seconds as JSON, without paths and names; shown first",
    )
    _add_language(doctor)
    doctor.set_defaults(run=_doctor)

    _add_audit(commands)
    evidence = commands.add_parser("evidence", help="check files that doctor --report has written")
    actions = evidence.add_subparsers(required=True, metavar="action")
    check = actions.add_parser(
        "check",
        help="does each file have the form of evidence, and nothing private in it?",
        description="Exit status: 0 when every file is right, 2 when one is not.",
    )
    check.add_argument("files", nargs="+", metavar="FILE")
    check.set_defaults(run=_check_evidence)

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

    _add_dryrun(commands)

    explain = commands.add_parser(
        "explain",
        help="find the defect behind an error's text, or those in a log",
        description="Exit status: 0 when something known was found, 1 when nothing was, 2 for wrong usage.",
    )
    explain.add_argument(
        "text", metavar="TEXT|FILE", help="an error's text, whole or in part; a log file; or - for standard input"
    )
    explain.add_argument("--json", action="store_true", help="print a list of objects")
    _add_language(explain)
    explain.set_defaults(run=_explain)

    demo = commands.add_parser("demo", help="one overflow in float16, without and with the cure; some seconds")
    demo.set_defaults(run=_demo)

    defects = commands.add_parser("defects", help="list the catalogue, or explain one defect")
    defects.add_argument("id", nargs="?", help="a defect's id, for example A1")
    defects.add_argument("--markdown", action="store_true", help="print a Markdown page")
    _add_language(defects)
    defects.set_defaults(run=_defects)
    return parser


def _add_language(parser: argparse.ArgumentParser) -> None:
    set_for_messages = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    default = "zh" if set_for_messages.startswith("zh") else "en"
    parser.add_argument("--lang", choices=("en", "zh"), default=default, help=f"of the symptoms (here: {default})")


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return value

    parse.__name__ = kind.__name__  # argparse names it in its message
    return parse


def _doctor(arguments: argparse.Namespace) -> int:
    start = time.monotonic()
    from ascend_fixes import evidence
    from ascend_fixes.cures import select
    from ascend_fixes.doctor import Row, examine, healthy, to_json, to_table
    from ascend_fixes.files import check_writable, replacing

    if arguments.soc and not arguments.ascend:
        return _end(f"--soc {arguments.soc} says what to compile for; give --ascend with it", 2)
    soc = arguments.soc or "Ascend910B"
    if arguments.report:
        check_writable(arguments.report)  # before minutes of work
    chosen = select(_names(arguments.only))
    timeout = arguments.timeout or PATIENCE_SECONDS * max(1.0, (time.monotonic() - start) / LOADING_SECONDS)
    done: list[str] = []

    def progress(row: Row) -> None:
        done.append(row.id)
        if sys.stderr.isatty():
            print(f"\r\033[K{len(done)} of {len(chosen)} examined, last {row.id}", end="", file=sys.stderr, flush=True)

    if arguments.ascend:
        from ascend_fixes import compiled

        rows = compiled.examine(chosen, arguments.timeout or ASCEND_SECONDS, progress, soc)
    else:
        rows = examine(chosen, arguments.jobs, timeout, progress, arguments.any_version)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    symptoms = {defect.id: defect.symptom_in(arguments.lang) for defect in chosen}
    print(to_json(rows) if arguments.json else to_table(rows, symptoms))
    if arguments.ascend and not arguments.json:
        print("(compiled by MindSpore's Ascend back end, nothing was executed)")
    if arguments.report:
        how = "compiled for Ascend" if arguments.ascend else "ran"
        text = evidence.written(evidence.record(rows, time.monotonic() - start, how, arguments.any_version, soc))
        print(f"{arguments.report} is to hold this and nothing else:\n{text}", end="", file=sys.stderr)
        with replacing(arguments.report) as stream:
            stream.write(text.encode())
    if not healthy(rows):
        return 1
    return 3 if any(row.answer == "no answer" for row in rows) else 0


def _check_evidence(arguments: argparse.Namespace) -> int:
    from ascend_fixes import evidence

    status = 0
    for path in arguments.files:
        try:
            content = evidence.check(path)
        except (AscendFixesError, OSError) as error:
            status = _end(str(error), 2)
            continue
        versions, findings = content["versions"], content["findings"]
        seen, cured = (sum(finding[key] is True for finding in findings) for key in ("present", "cured"))
        print(
            f"{path}: {content['how']}, MindSpore {versions['mindspore']}, Python {versions['python']}, "
            f"{content['device']}; {len(findings)} defects examined, {seen} present, {cured} cured"
        )
    return status


def _names(only: str | None) -> list[str]:
    """The names in ``--only``; none where it was not given.

    Raises:
        UnknownNameError: it was given and names nothing.
    """
    names = [name.strip() for name in (only or "").split(",") if name.strip()]
    if only is not None and not names:
        raise UnknownNameError(f"--only {only!r} names nothing; give ids or families, as in --only A1,fusion")
    return names


def _add_audit(commands: Any) -> None:
    """The command ``audit``. As for ``dryrun``, what it does not know is the script's."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument(
        "--axes", type=_mapping, metavar="JSON", help="""the ragged axes, '{"ids": 1}'; by default inferred"""
    )
    options.add_argument("--soc", help="Ascend910A, Ascend910B (the default) or Ascend910_93")
    options.add_argument("--steps", type=int, metavar="N", help="end a script after N steps (20)")
    options.add_argument("--budget", type=_positive(float), default=120.0, metavar="S", help="seconds (120)")
    options.add_argument("--json", action="store_true", help="print one object instead of a text")
    options.add_argument("--html", metavar="FILE", help="write a page as well")
    audit = commands.add_parser(
        "audit",
        parents=[options],
        allow_abbrev=False,
        help="find what will go wrong with a cell or a training script of yours, with evidence and cures",
        description="Run a cell at other widths, with padding and in float16, fused and compiled for Ascend; or watch the first "
        "steps of a training script; and say what goes wrong. Exit status: 0 when nothing was seen, 1 when hazards were, "
        "2 for wrong usage.",
    )
    audit.add_argument(
        "target",
        metavar="package.module:factory|script.py",
        help="a function that returns (cell, input, ...), or a script",
    )
    audit.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="a script's own arguments")
    audit.set_defaults(run=functools.partial(_audit, options))


def _own_arguments(options: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[str]:
    """What of the rest is a script's own: all that the options do not know, and whatever follows ``--``."""
    cut = arguments.rest.index("--") if "--" in arguments.rest else len(arguments.rest)
    _, own = options.parse_known_args(arguments.rest[:cut], arguments)
    return [*own, *arguments.rest[cut + 1 :]]


def _mapping(text: str) -> dict[str, Any]:
    """A JSON object whose inner objects, ``{"1": "source"}``, have axes for keys."""
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError(f"""{text} is no JSON object, such as '{{"ids": 1}}'""")
    return {
        name: {int(axis) if axis.lstrip("-").isdigit() else axis: length for axis, length in spec.items()}
        if isinstance(spec, dict)
        else spec
        for name, spec in given.items()
    }


def _audit(options: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from ascend_fixes import files
    from ascend_fixes.auditing import AuditError, audit, audit_script

    own = _own_arguments(options, arguments)
    if arguments.target.endswith(".py"):
        if arguments.axes is not None or arguments.soc is not None:
            raise AuditError(f"--axes and --soc are for cells: {arguments.target} is a script")
        steps = {} if arguments.steps is None else {"steps": arguments.steps}
        report = audit_script(arguments.target, *own, budget=arguments.budget, **steps)
    elif own or arguments.steps is not None:
        wrong = f"--steps={arguments.steps}" if arguments.steps is not None else " ".join(own)
        raise AuditError(f"{wrong} is for scripts: {arguments.target} is a factory")
    else:
        sys.path.insert(0, os.getcwd())  # where the factory's module lies
        target = arguments.soc or "Ascend910B"
        report = audit(arguments.target, axes=arguments.axes, target=target, budget=arguments.budget)
    if arguments.html:
        with files.replacing(arguments.html) as stream:
            stream.write(report.to_html().encode())
    print(report.to_json() if arguments.json else report.show())
    return 1 if report.certain else 0


def _bisect(arguments: argparse.Namespace) -> int:
    from ascend_fixes import fusion
    from ascend_fixes.fusion._learned import learned_file

    report = fusion.bisect(arguments.factory, grad=not arguments.no_grad, rtol=arguments.rtol, limit=arguments.limit)
    print(report)
    if arguments.learn and report.keep_out:
        fusion.learn(report)
        print(f"kept in {learned_file()}")
    return 1 if report.keep_out else 0


def _add_dryrun(commands: Any) -> None:
    """The command ``dryrun``. Its options may stand anywhere before ``--``; what it does not know is the script's."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--soc", default="Ascend910B", help="Ascend910A, Ascend910B (the default) or Ascend910_93")
    options.add_argument("--jit-level", default="O1", help="O0, or O1 with graph-kernel fusion (the default)")
    options.add_argument("--ranks", type=int, default=1, metavar="N", help="compile as the first of N devices")
    options.add_argument("--steps", type=int, metavar="N", help="stop a script after N calls of compiled graphs")
    options.add_argument("--timeout", type=_positive(float), default=600.0, metavar="S", help="seconds (600)")
    options.add_argument("--keep", metavar="FOLDER", help="keep MindSpore's graphs and the log there")
    options.add_argument("--on-device", action="store_true", help="also where an Ascend device is present")
    options.add_argument("--json", action="store_true", help="print one object instead of a table")
    dryrun = commands.add_parser(
        "dryrun",
        parents=[options],
        allow_abbrev=False,
        help="compile a cell or a script with MindSpore's Ascend back end, without a device",
        description="Compile with MindSpore's own Ascend back end; nothing is executed. "
        "Exit status: 0 when everything compiled, 1 when not, 2 for wrong usage.",
    )
    dryrun.add_argument("target", metavar="package.module:factory|script.py", help="what is compiled")
    dryrun.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="a script's own arguments")

    def run(arguments: argparse.Namespace) -> int:
        from ascend_fixes import dryrun

        own = _own_arguments(options, arguments)
        choices = {
            name: getattr(arguments, name) for name in ("soc", "jit_level", "ranks", "timeout", "keep", "on_device")
        }
        choices["progress"] = lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        if not sys.stderr.isatty():
            choices["progress"] = lambda text: None
        if arguments.target.endswith(".py"):
            report = dryrun.script(arguments.target, *own, steps=arguments.steps, **choices)
        elif own or arguments.steps is not None:
            wrong = f"--steps={arguments.steps}" if arguments.steps is not None else " ".join(own)
            raise dryrun.DryRunError(f"{wrong} is for scripts: {arguments.target} is a factory")
        else:
            report = dryrun.cell(arguments.target, **choices)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        print(report.to_json() if arguments.json else report.show())
        return 0 if report.verdict == "compiled" else 1

    dryrun.set_defaults(run=run)


def _explain(arguments: argparse.Namespace) -> int:
    from ascend_fixes.explaining import explain, explain_lines, log_lines

    if arguments.text == "-" or os.path.exists(arguments.text):
        found = explain_lines(
            sys.stdin if arguments.text == "-" else log_lines(arguments.text), language=arguments.lang
        )
    else:
        found = explain(arguments.text, language=arguments.lang)
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
    else:
        print("\n\n".join(map(str, found)) or "nothing known resembles it; ascend-fixes defects lists what is known")
    return 0 if found else 1


def _demo(arguments: argparse.Namespace) -> int:
    from ascend_fixes import demo

    print("A small regression in float16 on CPU or your device; the third of five batches overflows.\n")
    print(demo.table(list(demo.steps())))
    print("\nWhich defects does this machine have?  ascend-fixes doctor")
    print("The four models and the small examples are in the repository's folder examples/, not in the wheel.")
    return 0


def _defects(arguments: argparse.Namespace) -> int:
    from ascend_fixes.cures import select

    chosen = select([arguments.id] if arguments.id else [])
    if arguments.markdown:
        print(_page(chosen), end="")
    elif arguments.id is None or len(chosen) != 1:
        for defect in chosen:
            print(f"{defect.id:4s}{defect.family:13s}{defect.cure:32s}{defect.symptom_in(arguments.lang)}")
    else:
        print(f"{chosen[0].id}  {chosen[0].symptom_in(arguments.lang)}\n")
        for name, text in _facts(chosen[0]).items():
            print(f"{name:10s}" + "\n          ".join(text.splitlines() or ["-"]))
    return 0


def _facts(defect: Defect) -> dict[str, str]:
    """What there is to say about a defect, by heading."""
    from ascend_fixes.evidence import seen

    names = ("family", "error", "cause", "seen", "upstream", "cure", "removal")
    facts = {name: getattr(defect, name) for name in names}
    return {**facts, "seen": "; ".join(filter(None, (seen(defect.id), defect.seen)))}


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
        lines += ["", f'<a id="{defect.id.lower()}"></a>', "", f"## {defect.id}: {defect.symptom}", ""]
        lines += [f"- **{name}**: {' '.join(text.split())}" for name, text in facts.items()]
        lines += ["", "```text", error, "```"] if error else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
