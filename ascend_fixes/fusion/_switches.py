"""CANN's own fusions on Ascend, switched off by a file.

Besides the graph kernel, whose flags `guard` sets, CANN fuses by itself: graph fusion rewrites the graph by
patterns, UB fusion joins operators in the unified buffer. Both are switched by one JSON file. Format and names:
the vendor's page on ``--fusion_switch_file``,
https://www.hiascend.com/document/detail/en/canncommercial/850/devaids/atctool/atlasatcparam_16_0053.html.
The form of the file is tested; its effect was not tried on a device.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.files import replacing

__all__ = ["SwitchNameError", "write_switch_file"]


class SwitchNameError(AscendFixesError, ValueError):
    """A name that cannot be that of a fusion."""


def write_switch_file(
    path: str | os.PathLike,
    graph: Iterable[str] | Mapping[str, bool] = (),
    ub: Iterable[str] | Mapping[str, bool] = (),
) -> dict[str, dict[str, str]]:
    """Write a CANN ``fusion_switch_file``; unverified on a device.

        options = fusion.write_switch_file("fusion.cfg", graph={"ALL": False, "SoftmaxFusionPass": True})
        mindspore.set_context(ascend_config={"ge_options": options})      # before the first compilation

    Args:
        path: the file; an existing one is overwritten.
        graph: graph fusions to switch off, or a mapping of names to on (True) and off (False); ``"ALL"`` means those
            that are not named. Names are CANN's, as ``"ConvBatchnormFusionPass"``, not operators'.
        ub: UB fusions, in the same forms.

    Returns:
        What MindSpore's ``ascend_config`` takes as ``ge_options`` to make CANN read the file.

    Raises:
        SwitchNameError: nothing is named, a name is no identifier, or one string was given for several names.
        FileError: the file cannot be written; an existing one is as it was.
    """
    switches = {"GraphFusion": _states(graph, "graph"), "UBFusion": _states(ub, "ub")}
    named = {kind: states for kind, states in switches.items() if states}
    if not named:
        raise SwitchNameError("graph and ub name no fusion; name some, or 'ALL'")
    with replacing(path) as file:
        file.write((json.dumps({"Switch": named}, indent=4) + "\n").encode())
    return {"global": {"ge.fusionSwitchFile": str(Path(path).resolve())}}


def _states(names: Iterable[str] | Mapping[str, bool], argument: str) -> dict[str, str]:
    if isinstance(names, str):
        raise SwitchNameError(f"{argument}={names!r} must be a sequence of names, not a string; write [{names!r}]")
    wanted = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, False)
    for name, on in wanted.items():
        if not isinstance(name, str) or not re.fullmatch(r"\w+", name, re.ASCII) or not isinstance(on, bool):
            raise SwitchNameError(
                f"{argument}: {name!r}: {on!r} must be a fusion's name and True (on) or False (off), "
                "as 'ConvBatchnormFusionPass': False"
            )
    return {name: "on" if on else "off" for name, on in wanted.items()}
