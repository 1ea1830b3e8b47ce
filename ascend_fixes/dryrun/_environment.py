"""The machine: whether dry runs can be made on it, which libraries are used, and the environment of the child."""

from __future__ import annotations

import glob
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ascend_fixes import _mindspore, processes
from ascend_fixes.dryrun._standins import CANN, folder_of_standins, is_standin
from ascend_fixes.errors import AscendFixesError

__all__ = ["DryRunError", "Libraries", "check_machine", "environment", "libraries_for", "vendor_libraries"]

_LIBRARY = "libascendcl.so"
# Set by the vendor's script set_env.sh.
_HOMES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
_MACHINES = ("x86_64", "aarch64")


class DryRunError(AscendFixesError, ValueError):
    """A dry run was asked for that cannot be made: a wrong argument, or an unsuitable machine."""


@dataclass(frozen=True)
class Libraries:
    """The libraries that MindSpore's plugin is linked to.

    Attributes:
        label: what a report says of them.
        folder: where they are.
        modules: a folder with Python modules that belong to them; None where the user's own environment has them.
        standins: whether they are stand-ins.
    """

    label: str
    folder: Path
    modules: Path | None
    standins: bool


def check_machine(on_device: bool) -> None:
    """Refuse machines on which no dry run can be made, or where it might use a device.

    Raises:
        DryRunError: it is such a machine.
    """
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        raise DryRunError(
            f"dry runs need Linux on x86-64 or aarch64, not {platform.system()} on {platform.machine()}: "
            "only those wheels of MindSpore carry the Ascend back end"
        )
    devices = sorted(glob.glob("/dev/davinci[0-9]*"))
    if devices and not on_device:
        raise DryRunError(
            f"an Ascend device is present ({devices[0]}), and the process might use it: "
            "compile on it for real, or pass on_device=True (--on-device)"
        )


def libraries_for(wheel: Path, progress: Callable[[str], None]) -> Libraries:
    """The vendor's own libraries where they are installed, else stand-ins, made now if need be.

    Raises:
        StandInError: the stand-ins cannot be made or kept.
    """
    own = vendor_libraries()
    if own is not None:
        return Libraries(f"the vendor's own libraries in {own}", own, None, standins=False)
    folder = folder_of_standins(wheel, lambda done, of: progress(f"reading MindSpore's Ascend plugin: {done} of {of}"))
    label = "stand-ins for the vendor's libraries"
    if platform.machine() == "aarch64":
        label += ", which were checked by structure only on aarch64"
    return Libraries(label, folder / CANN / "lib64", folder / "python", standins=True)


def vendor_libraries() -> Path | None:
    """The folder with the vendor's libraries; None where they are not installed.

    They are looked for where the vendor's variables point, and where the dynamic linker looks.
    """
    for folder in _folders():
        if (folder / _LIBRARY).is_file() and not is_standin(folder / _LIBRARY):
            return folder
    return None


def _folders() -> Iterator[Path]:
    for name in _HOMES:
        if os.environ.get(name):
            yield Path(os.environ[name]) / "lib64"
    for part in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        if part:
            yield Path(part)
    yield from _linker_folders()


def _linker_folders() -> Iterator[Path]:
    """Where the dynamic linker's cache has the library."""
    try:
        listed = processes.run(["ldconfig", "-p"], timeout=10).output
    except OSError:  # there is no such program, or not for this user
        return
    for found in re.findall(rf"{re.escape(_LIBRARY)}\S* .*=> (\S+)", listed):
        yield Path(found).parent


# What MindSpore and its tools take from the environment, and what would make a dry run something else: a kept graph would
# not be compiled, a server's address would be waited for, a log would go to a file.
_UNSET = (
    *("MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH", "MS_JIT", "MS_DEV_PRECOMPILE_ONLY", "GLOG_log_dir"),
    *("MS_ROLE", "MS_SCHED_HOST", "MS_SCHED_PORT", "MS_WORKER_NUM", "RANK_TABLE_FILE", "VLOG_v"),
)


def environment(libraries: Libraries, graphs: Path, ranks: int) -> dict[str, str | None]:
    """What the child's environment has beside this process's; None unsets.

    Args:
        libraries: what the plugin is linked to.
        graphs: where MindSpore is to save graphs.
        ranks: of how many devices the child is the first.
    """
    paths = [str(libraries.folder), os.environ.get("LD_LIBRARY_PATH", "")]
    modules = [str(libraries.modules or ""), *map(os.path.abspath, sys.path), os.getcwd()]
    return {
        **dict.fromkeys(_UNSET),
        **(_mindspore.plugin_environment(libraries.folder.parent) if libraries.standins else {}),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths)),
        "PYTHONPATH": os.pathsep.join(filter(None, modules)),
        "MS_SIMULATION_LEVEL": "1",
        "RANK_SIZE": str(ranks),
        "RANK_ID": "0",
        "DEVICE_ID": "0",
        # What is read afterwards: the log lines of the plugin, and the graphs as they were built, with what was fused.
        "GLOG_v": "3",
        "GLOG_logtostderr": "1",
        "MS_SUBMODULE_LOG_v": "{DEVICE:1}",
        "MS_DEV_SAVE_GRAPHS": "2",
        "MS_DEV_SAVE_GRAPHS_PATH": str(graphs),
        "MS_DEV_DUMP_IR_PASSES": "graph_build,deal_with_side_effect",
    }
