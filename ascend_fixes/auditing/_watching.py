"""The process in which a training script runs and is watched: what compiles, what its data holds, which loss scales it makes.

Every event is one line of JSON, written when it happens, so that a crash loses nothing. The script runs as it is: on
this machine's backend, with its own arguments, until so many steps are done. A step is a call of a compiled graph, or,
where the script runs operator by operator, a call of an optimizer.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from ascend_fixes.compiling import Compilation  # which imports MindSpore

__all__ = ["LOSS_SCALES", "SINKING", "Task", "main"]

SINKING = {
    "train": {"train_dataset": "dataset_sink_mode"},
    "fit": {"train_dataset": "dataset_sink_mode", "valid_dataset": "valid_dataset_sink_mode"},
    "eval": {"valid_dataset": "dataset_sink_mode"},
}
"""Methods of `mindspore.Model`: the arguments that may be sunk, and those that ask for it."""

LOSS_SCALES = (
    "mindspore.amp:DynamicLossScaler",
    "mindspore.amp:StaticLossScaler",
    "mindspore.train.loss_scale_manager:DynamicLossScaleManager",
    "mindspore.train.loss_scale_manager:FixedLossScaleManager",
    "mindspore.nn:DynamicLossScaleUpdateCell",
    "mindspore.nn:FixedLossScaleUpdateCell",
    "mindspore.nn:TrainOneStepWithLossScaleCell",
)

_MOST_BATCHES = 256  # of a pipeline, that are looked at


@dataclass(frozen=True)
class Task:
    """What the process is asked to do: the script with its own arguments, after how many steps to stop, where to write."""

    script: str
    arguments: tuple[str, ...]
    steps: int
    log: str


class _Stop(BaseException):
    """The steps that were asked for are done. Not an `Exception`: a script may catch those."""


def main(path: str) -> None:
    """Run the script described in a file, and watch."""
    fields = json.loads(Path(path).read_text(encoding="utf-8"))
    task = Task(**{**fields, "arguments": tuple(fields["arguments"])})
    with open(task.log, "a", encoding="utf-8") as stream:
        watch = _Watch(stream, task.steps)
        _prepare(watch)
        sys.argv = [task.script, *task.arguments]
        try:
            _run(Path(task.script))
        except _Stop:
            watch.write("stopped")
        except SystemExit as error:
            if error.code not in (None, 0):
                watch.write("failed", error=f"it ended with status {error.code}", source="")
        except BaseException as error:
            told = traceback.format_exception_only(type(error), error)[-1].strip().splitlines()[0]
            watch.write("failed", error=told, source=_place(traceback.extract_tb(error.__traceback__)))
        watch.write("end", steps=watch.steps, applied=_applied())
    sys.stdout.flush()
    os._exit(0)  # the teardown of MindSpore can crash or hang; all has been said


def _run(script: Path) -> None:
    from ascend_fixes.dryrun._child import run_script

    run_script(script)


def _prepare(watch: _Watch) -> None:
    from mindspore import nn

    from ascend_fixes import _mindspore, compiling
    from ascend_fixes.compiling import Hook

    compiling.hold("audit of a script", {"audit": (Hook("announce", watch.compiling),)})
    _mindspore.around_runs(watch.run)
    _replace(nn.Optimizer, "__call__", watch.optimizer)
    for iterator in _mindspore.pipeline_iterators():
        _replace(iterator, "__init__", watch.opened)
        _replace(iterator, "__next__", watch.read)
    _watch_sinking(watch)
    for name in LOSS_SCALES:
        made = _found(name)
        if made is not None:
            _replace(made, "__init__", functools.partial(watch.made, name=made.__name__))


def _replace(owner: type, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put a wrapper in a method's place: for good, the process is the script's own."""
    setattr(owner, name, make(getattr(owner, name)))


def _found(name: str) -> Any:
    """What ``"module:Class"`` names; None where this MindSpore has it not."""
    module, _, path = name.partition(":")
    with contextlib.suppress(ImportError):
        return getattr(importlib.import_module(module), path, None)
    return None


def _watch_sinking(watch: _Watch) -> None:
    import mindspore
    from mindspore.train import Model

    for method in SINKING:
        _replace(Model, method, functools.partial(watch.model, method=method))
    for owner in (mindspore, mindspore.train):
        if inspect.isfunction(getattr(owner, "data_sink", None)):
            owner.data_sink = watch.sunk


def _applied() -> list[str]:
    """The ids of the cures in force."""
    from ascend_fixes.cures import status

    with contextlib.suppress(Exception):
        return [one.id for one in status() if one.state == "applied"]
    return []


class _Watch:
    """Writes down what happens."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._limit, self.steps = stream, limit, 0
        self._kept: list[Any] = []  # what was written of lives on: no other object may get its id
        self._batches: dict[int, int] = {}
        self._columns: dict[tuple[int, str], set[str]] = {}

    def write(self, event: str, **facts: Any) -> None:
        self._stream.write(json.dumps({"event": event, **facts}, default=str) + "\n")
        self._stream.flush()

    # --- compilations ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def compiling(self, compilation: Compilation) -> Iterator[None]:
        """A hook around every compilation."""
        start = time.perf_counter()
        yield
        if compilation.kind == "gradient":
            return
        subject = compilation.subject
        self._kept.append(subject)
        self.write(
            "graph",
            subject=f"{id(subject)} {compilation.method}",
            kind=compilation.kind,
            seconds=time.perf_counter() - start,
            source=_place(traceback.extract_stack()),
            **_described(compilation),
        )

    # --- steps -------------------------------------------------------------------------------------

    def run(self, phase: str, run: Callable[[], Any]) -> Any:
        """Around every run of a compiled graph."""
        result = run()
        self._count()
        return result

    def optimizer(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A call of an optimizer is a step where there are no graphs."""
        from ascend_fixes import _mindspore

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if not _mindspore.in_graph_mode():
                self._count()
            return result

        return call

    def _count(self) -> None:
        self.steps += 1
        if self.steps >= self._limit:
            raise _Stop

    # --- data --------------------------------------------------------------------------------------

    def opened(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """An iterator remembers the pipeline that it reads, and the names of its columns."""

        @functools.wraps(original)
        def init(iterator: Any, dataset: Any, *args: Any, **kwargs: Any) -> None:
            original(iterator, dataset, *args, **kwargs)
            self._kept.append(dataset)
            chosen = kwargs.get("columns")
            with contextlib.suppress(Exception):
                names = [chosen] if isinstance(chosen, str) else chosen or dataset.get_col_names()
                iterator.watched = id(dataset), list(names)

        return init

    def read(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A batch's columns are noted where they have a new type or shape."""

        @functools.wraps(original)
        def following(iterator: Any) -> Any:
            batch = original(iterator)
            dataset, names = getattr(iterator, "watched", (0, []))
            count = self._batches[dataset] = self._batches.get(dataset, 0) + 1
            if count <= _MOST_BATCHES:
                named = batch if isinstance(batch, Mapping) else dict(zip(names, batch))
                for name, value in named.items():
                    self._column(dataset, name, value)
            return batch

        return following

    def _column(self, dataset: int, name: str, value: Any) -> None:
        kind = (
            "string"
            if "str" in str(value.dtype).lower() or getattr(value.dtype, "kind", "") in ("U", "S")
            else "number"
        )
        text, seen = f"{kind}{list(value.shape)}", self._columns.setdefault((dataset, name), set())
        if text not in seen:
            seen.add(text)
            self.write("column", dataset=dataset, name=name, kind=kind, shape=list(value.shape))

    def model(self, original: Callable[..., Any], method: str) -> Callable[..., Any]:
        """A method of `mindspore.Model` that may sink."""
        signature = inspect.signature(original)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            for data, switch in SINKING[method].items():
                if given.arguments.get(switch) is True and given.arguments.get(data) is not None:
                    self._sinks(given.arguments[data], f"Model.{method}({switch}=True)")
            return original(*args, **kwargs)

        return call

    def sunk(self, fn: Callable[..., Any], dataset: Any, sink_size: int = 1, *_: Any, **__: Any) -> Callable[..., Any]:
        """In place of `mindspore.data_sink`, which a CPU refuses: the function is fed from the host."""
        self._sinks(dataset, "data_sink(...)")
        batches = iter(())

        def sink_process(*args: Any, **kwargs: Any) -> Any:
            nonlocal batches
            out = None
            for _ in range(sink_size):
                batch = next(batches, None)
                if batch is None:
                    batches = dataset.create_tuple_iterator()
                    batch = next(batches)
                out = fn(*batch)
            return out

        return sink_process

    def _sinks(self, dataset: Any, call: str) -> None:
        self._kept.append(dataset)
        self.write("sink", dataset=id(dataset), call=call, source=_place(traceback.extract_stack()))

    # --- loss scales -------------------------------------------------------------------------------

    def made(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The constructor of one of `LOSS_SCALES`."""

        @functools.wraps(original)
        def init(scale: Any, *args: Any, **kwargs: Any) -> None:
            if type(scale).__name__ == name:
                source = _place(traceback.extract_stack())
                given = {**{str(place): value for place, value in enumerate(args)}, **kwargs}
                self.write("loss scale", name=name, source=source, arguments=_texts(given))
            original(scale, *args, **kwargs)

        return init


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: repr(value)[:60] for name, value in values.items()}


def _described(compilation: Compilation) -> dict[str, Any]:
    """Whose graph it is, and its arguments: text, shape, and how each is part of the graph."""
    from mindspore import Tensor

    from ascend_fixes.shapes._graphs import is_bucketed
    from ascend_fixes.shapes._reasons import described, name_of

    subject = compilation.subject
    found = described(subject, compilation.args, compilation.kwargs, compilation.method)
    values = dict(zip(found.texts, (*compilation.args, *compilation.kwargs.values())))
    arguments = {}
    for name, text in found.texts.items():
        how = "value"
        if name in found.shapes:
            how = "tensor"
        elif name in found.constants:
            how = "dict" if isinstance(values.get(name), Mapping) else "container"
        elif _holds(values.get(name), Tensor):
            how = "mutable"
        arguments[name] = {"text": text, "shape": list(found.shapes.get(name, ())), "how": how}
    return {"name": name_of(subject), "arguments": arguments, "bucketed": is_bucketed(subject, compilation.method)}


def _holds(value: Any, kind: type) -> bool:
    if isinstance(value, Mapping):
        return any(_holds(one, kind) for one in value.values())
    if isinstance(value, (tuple, list)):
        return any(_holds(one, kind) for one in value)
    return isinstance(value, kind)


def _place(frames: Any) -> str:
    """The innermost line of the script or of what it imports, "train.py:31": not of MindSpore, this library or Python."""
    theirs = (f"{os.sep}mindspore{os.sep}", str(Path(__file__).parents[1]) + os.sep, "<", os.path.dirname(os.__file__))
    for frame in reversed(list(frames)):
        if not any(one in frame.filename if one == theirs[0] else frame.filename.startswith(one) for one in theirs):
            return f"{os.path.basename(frame.filename)}:{frame.lineno}"
    return ""
