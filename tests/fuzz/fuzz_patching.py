"""Sequences of patch, unpatch, patched and status on the real catalogue, from many threads, with late imports.

Run in a process of its own: ``python fuzz_patching.py SEQUENCES THREADS SEED``. After every sequence each attribute that a patch of
the catalogue touches, and each name of MindSpore's modules, is the object that it was. Prints what was done, as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import types
import warnings
from typing import Any

import mindspore  # noqa: F401  what is patched

import ascend_fixes
from ascend_fixes.defects import FAMILIES, catalogue

IDS = [defect.id for defect in catalogue().values() if defect.patch is not None]
COUNTERS = {"total_instance_count"}  # cells that live


def owners() -> list[Any]:
    """Every module of MindSpore that is loaded, and every class that a patch touches."""
    found: list[Any] = [module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] == "mindspore"]
    for id_ in IDS:
        for part in catalogue()[id_].patch.replacements:
            module, _, path = part.target.partition(":")
            owner: Any = sys.modules.get(module)
            for name in path.split(".")[:-1]:
                owner = getattr(owner, name, None)
            if isinstance(owner, type) and owner not in found:
                found.append(owner)
    return [owner for owner in found if owner is not None]


def snapshot() -> list[tuple[Any, dict[str, Any]]]:
    return [(owner, {n: v for n, v in vars(owner).items() if n not in COUNTERS}) for owner in owners()]


def differences(before: list[tuple[Any, dict[str, Any]]]) -> list[str]:
    absent = object()
    found = []
    for owner, names in before:
        now = vars(owner)
        found += [f"{owner}.{name}" for name, value in names.items() if now.get(name, absent) is not value]
    return found


def late_import(chance: random.Random) -> None:
    """A module of MindSpore's that comes into being while cures are in force, and re-exports what it finds."""
    module = types.ModuleType(f"mindspore.late_{chance.randrange(10**9)}")
    for id_ in chance.sample(IDS, 3):
        for part in catalogue()[id_].patch.replacements:
            home, _, path = part.target.partition(":")
            if "." not in path and home in sys.modules:
                setattr(module, path, getattr(sys.modules[home], path, None))
    sys.modules[module.__name__] = module


def act(chance: random.Random, counts: dict[str, int], errors: list[str]) -> None:
    """What one thread does in one sequence."""
    try:
        for _ in range(chance.randrange(2, 6)):
            names = chance.sample([*IDS, *FAMILIES], chance.randrange(0, 3))
            skip = chance.sample(IDS, chance.randrange(0, 3))
            what = chance.choice(("patch", "patched", "patched", "unpatch", "status", "late import"))
            counts[what] = counts.get(what, 0) + 1
            if what == "patch":
                ascend_fixes.patch(*names, skip=skip)
            elif what == "patched":
                with ascend_fixes.patched(*names, skip=skip):
                    if chance.random() < 0.5:
                        with ascend_fixes.patched(*chance.sample(IDS, 1)):
                            ascend_fixes.status()
            elif what == "unpatch":
                ascend_fixes.unpatch()
            elif what == "late import":
                late_import(chance)
            else:
                assert len(ascend_fixes.status()) == len(catalogue())
    except Exception as error:
        errors.append(f"{type(error).__name__}: {error}")


def run(sequences: int, threads: int, seed: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    counts: dict[str, int] = {}
    with ascend_fixes.patched():
        pass  # what cures import on first use is there before the first snapshot
    for number in range(sequences):
        before, errors = snapshot(), []
        chances = [random.Random(f"{seed} {number} {thread}") for thread in range(threads)]
        workers = [threading.Thread(target=act, args=(chance, counts, errors)) for chance in chances]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        ascend_fixes.unpatch()
        assert not errors, (number, errors)
        changed = differences(before)
        assert not changed, (number, changed[:5])
        for name in [name for name in sys.modules if name.startswith("mindspore.late_")]:
            late = sys.modules.pop(name)
            wrong = [key for key, value in vars(late).items() if callable(value) and "ascend_fixes" in str(value)]
            assert not wrong, (number, wrong)
    return {"sequences": sequences, "threads": threads, **counts}


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:4]))))
