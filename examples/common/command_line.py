"""An example's whole run: its options, one process per variant, table and figure; and typed text for a trained model.

Without ``--fixes`` and ``--precision`` three variants run: plain in float32, then with all fixes in float32 and in float16.
float16 has the speed on a device; on a CPU it is emulated and shows correctness only, so the two precisions are separate
rows. A run writes its options to ``options.json`` in its output folder, from where ``--resume`` takes them.

Every variant runs in a process of its own, so that MindSpore's state is fresh and the peak memory is that variant's. It finds
``request.json`` in the variant's folder, where it runs because MindSpore leaves files in its working directory, and answers
with ``result.json`` (`training.main`).
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Callable, NamedTuple

import mindspore as ms

from ascend_fixes import shapes
from ascend_fixes.errors import AscendFixesError, nearest
from ascend_fixes.files import write_record
from ascend_fixes.processes import Children, ended
from examples.common import files, report, training
from examples.common.files import ExampleError, expect

Options = dict[str, Any]
FIXES = ("shapes", "host", "fusion", "amp")
INTERRUPTED = 130
_ROOT = Path(__file__).resolve().parents[2]
_FILE, _KIND, _OUTPUT = "options.json", "ascend_fixes.examples options 1", "output.log"


class Variant(NamedTuple):
    """One way to train a model: with which families of fixes, computing in which precision."""

    fixes: tuple[str, ...]
    precision: str

    @property
    def name(self) -> str:
        """As it stands in the table, ``fixed float32``."""
        fixes = {(): "plain", FIXES: "fixed"}.get(self.fixes, ",".join(self.fixes))
        return f"{fixes} {self.precision}"


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """``python -m examples.NAME``; returns the exit status: 0 if all variants finished, 1 if not, 2 for wrong use."""
    command = f"python -m examples.{name}"
    try:
        example = training.load(name)
        options = settled(name, arguments)
        example.check(options)
        if not options["resume"]:
            remember(options)
        try:
            rows = [run_variant(name, options, variant) for variant in asked(options)]
        except KeyboardInterrupt:
            print(f"\ninterrupted; go on with: {command} --resume {options['output']}", file=sys.stderr)
            return INTERRUPTED
        data = Path(options["data"]).name if options["data"] else "built-in data"
        title = f"{example.title} on {data}, {options['epochs']} epochs"
        report.write(rows, Path(options["output"]), title, options["json"])
    except ModuleNotFoundError as error:
        print(f"{command}: needs the package {error.name}: pip install {error.name} (extra: examples)", file=sys.stderr)
        return 2
    except (ExampleError, OSError) as error:
        if str(error):
            print(f"{command}: {error}", file=sys.stderr)
        return 2
    return 0 if all(row["status"] == "finished" for row in rows) else 1


def natural(text: str, least: int = 0) -> int:
    """An argparse type: an integer of at least ``least``."""
    if int(text) < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
    return int(text)


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    return natural(text, 1)


def chosen(option: str, text: str, known: Sequence[str], comma: str = ",", alone: str = "") -> list[str]:
    """The names in a list that an option was given; `ExampleError`, which names the ``alone`` too, for one that is not ``known``."""
    found = [name.strip() for name in text.split(comma.strip())]
    for name in found:
        choice = f"choose from {alone}{comma.join(known)}{nearest(name, known)}"
        expect(name in known, f"{option} {text}: there is no {name!r}; {choice}")
    return found


def parse_fixes(text: str) -> tuple[str, ...]:
    """``none``, ``all``, or comma-separated families, in the order of `FIXES`; `ExampleError` for others."""
    if text in ("none", "all"):
        return FIXES if text == "all" else ()
    named = chosen("--fixes", text, FIXES, alone="none, all, or some of ")
    return tuple(name for name in FIXES if name in named)


def asked(options: Mapping[str, Any]) -> tuple[Variant, ...]:
    """The variants that the options ask for; `ExampleError` for a family that does not exist."""
    if options["fixes"] is not None:
        return (Variant(parse_fixes(options["fixes"]), options["precision"] or "float32"),)
    if options["precision"] is not None:
        return Variant((), options["precision"]), Variant(FIXES, options["precision"])
    return Variant((), "float32"), Variant(FIXES, "float32"), Variant(FIXES, "float16")


def settled(name: str, arguments: Sequence[str] | None) -> Options:
    """The options of a run: what the arguments say, and defaults; raises as `settle` and `asked`.

    None stands for "not given": `settle` fills it in.
    """
    example = training.load(name)
    about = f"Train {example.about} as a newcomer to MindSpore writes it, then with the fixes."
    parser = argparse.ArgumentParser(prog=f"python -m examples.{name}", description=about)
    add = parser.add_argument
    longest = "with the shapes fixes: their batches, all padded to the longest; what padding alone changes"
    add("--data", metavar="DIR", help="corpus folder (default: built-in, generated data)")
    add("--fixes", metavar="LIST", help=f"run only this variant: none, all, or some of {','.join(FIXES)}")
    add("--precision", choices=("float32", "float16"), help="compute only in it (default: the fixes in both)")
    add("--fused", choices=("on", "off"), help="graph-kernel fusion (default: off)")
    add("--epochs", type=positive, metavar="N", help="passes over the training data")
    add("--limit", type=positive, metavar="N", help="train on the first N training examples only (default: on all)")
    add("--seed", type=natural, metavar="N", help="seed of everything random (default: 0)")
    add("--distributed", type=positive, metavar="N", help="train data parallel in N processes (msrun; default: 1)")
    add("--unbucketed", action="store_true", default=None, help=longest)
    add("--output", metavar="DIR", help="where checkpoints, table and figure go (default: under runs/)")
    add("--json", metavar="FILE", help="write the results to FILE as well")
    add("--resume", metavar="DIR", help="go on with the interrupted run whose output is in DIR, with its options")
    for option, settings in example.options.items():
        add(f"--{option}", **settings)
    given = vars(parser.parse_args(arguments))
    options = settle(given, dict.fromkeys(given) | {"seed": 0, "fused": "off", "distributed": 1, "unbucketed": False})
    data = Path(options["data"]).name if options["data"] else "built-in"
    start = next((name for name in ("pretrained", "data") if options.get(name)), "built-in")
    options["epochs"] = options["epochs"] or example.epochs[start]
    options["output"] = options["output"] or str(Path("runs") / f"{name}-{data}-seed{options['seed']}")
    asked(options)
    return options


def settle(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Options:
    """What was given, else what a resumed run was started with, else the default.

    Raises `ExampleError` where ``--resume`` names no run or a damaged one, or an option differs from it.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if "resume" not in given:
        return {**defaults, **given, "resume": None}
    folder = Path(given.pop("resume"))
    expect((folder / _FILE).exists(), f"--resume {folder}: holds no run (no {_FILE})")
    stored = files.read_record(folder / _FILE, _KIND)["options"]
    for name, value in given.items():
        same = name in ("json", "epochs") or value == stored.get(name)
        expect(same, f"--{name} {value}: the run in {folder} has {stored.get(name)}; leave the option out")
    return {**defaults, **stored, **given, "output": str(folder), "resume": str(folder)}


def remember(options: Mapping[str, Any]) -> None:
    """Write the options of a fresh run to its output folder."""
    content = {name: value for name, value in options.items() if name != "resume"}
    folder = Path(options["output"])
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / _FILE, _KIND, {"options": content})


def run_variant(name: str, options: Options, variant: Variant, children: Children | None = None) -> dict[str, Any]:
    """Run one variant in a process of its own; its options and its results.

    A resumed variant that had finished the same request is not run again. With ``children``, for a run from a thread beside
    others, it ends with them, computes in one thread, and prints to ``output.log``. A child that fails gives the status
    "crashed: ..." or "was killed by SIGKILL". Raises `ExampleError` where the child refused its input.
    """
    own = training.load(name).options
    named = ("data", *(option for option, settings in own.items() if settings.get("metavar") in ("DIR", "FILE")))
    paths = {option: options[option] for option in named}
    there = {option: str(Path(path).resolve()) for option, path in paths.items() if path and Path(path).exists()}
    request = {
        **{name: options[name] for name in ("data", *own, "epochs", "limit", "seed", "distributed", "unbucketed")},
        **there,  # the training runs in another folder
        "variant": variant.name,
        "fixes": list(variant.fixes),
        "precision": variant.precision,
        "fused": options["fused"] == "on",
    }
    folder = Path(options["output"]) / variant.name.replace(" ", "-").replace(",", "+")
    result: dict[str, Any] = {}
    if options["resume"] and files.read_answer(folder / training.REQUEST) == request:
        result = files.read_answer(folder / training.RESULT)
    result = result or _train(name, request, folder, options, children)
    return {**request, **paths, **result}  # what is published names files as the user did, and not where they lie here


def _train(
    name: str, request: Mapping[str, Any], folder: Path, options: Options, children: Children | None
) -> dict[str, Any]:
    """Run the training of an example in ``folder``; what it answers, or how it ended.

    On Ctrl-C it is killed, and loses the epoch it is in. Of several ranks the first one's output is shown, the others' is in
    ``folder``/ranks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (training.RESULT, training.LOG, _OUTPUT):
        (folder / stale).unlink(missing_ok=True)
    files.write_json(folder / training.REQUEST, request)
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"GLOG_v": "3", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}  # GLOG_v 3: errors only
    command = [sys.executable, "-m", f"examples.{name}.train"]
    if (count := request["distributed"]) > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ranks = [f"--worker_num={count}", f"--local_worker_num={count}", f"--master_port={port}", "--join=True"]
        ranks += [f"--log_dir={folder.resolve() / 'ranks'}", "--tail_worker_log=0"]
        program = str(_ROOT / "examples" / name / "train.py")
        command = [sys.executable, "-m", "mindspore.parallel.cluster.run", *ranks, program]
        environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    command += [str(folder.resolve()), *(["--resume"] if options["resume"] else [])]
    said = ""  # it prints to this terminal why it refuses its input, unless it prints to the log
    if children is None:
        status = subprocess.run(command, cwd=folder, env=environment).returncode
    else:
        outcome = children.run(command, folder=folder, environment={**environment, "OMP_NUM_THREADS": "1"})
        files.write_text(folder / _OUTPUT, outcome.output)
        status, said = outcome.status or 0, outcome.failure.partition(": ")[2]  # None: there is no time limit
    expect(status != training.WRONG_USE, said)
    answer = files.read_answer(folder / training.RESULT) if status >= 0 else {}
    return answer or {"status": ended(status, 0.0)}


def predict(
    example: str, about: str, what: str, predictor: Callable[[Path], Any], arguments: Sequence[str] | None = None
) -> int:
    """``python -m examples.EXAMPLE.predict RUN [TEXT]``: ``predictor(RUN).show(TEXT)``, or of typed lines; the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m examples.{example}.predict", description=about)
    parser.add_argument("run", type=Path, help=f"output folder of python -m examples.{example}")
    parser.add_argument("text", nargs="*", help=f"the {what} (default: one a line, from standard input)")
    given = parser.parse_args(arguments)
    at_terminal, status = sys.stdin.isatty() and not given.text, 0
    try:
        with kept_graphs(given.run):
            loaded = predictor(given.run)
            if at_terminal:
                print(f"Type a {what}; an empty line ends.", file=sys.stderr)
            for line in [" ".join(given.text)] if given.text else sys.stdin:
                if at_terminal and not line.strip():
                    break
                try:
                    print(loaded.show(line), flush=True)
                except ExampleError as error:  # a typed line that cannot be answered does not end it
                    if given.text:
                        raise
                    print(error, file=sys.stderr)
                    status = 2
    except AscendFixesError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return status


def kept_graphs(run: Path) -> AbstractContextManager[Any]:
    """Compile in graph mode; on the CPU, where `CompileCache` is verified, the next start on the same run finds the graphs."""
    ms.set_context(mode=ms.GRAPH_MODE)
    kept = ms.get_context("device_target") == "CPU" and (run / _FILE).exists()
    return shapes.CompileCache(run / "graphs") if kept else nullcontext()
