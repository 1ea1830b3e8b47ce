"""fusion: what graph-kernel fusion gets wrong, kept out of it.

    with fusion.guard("Transpose"):          # for the graphs compiled in this block
        net(x)

    @fusion.safe                             # for every graph that contains this cell
    class Attention(nn.Cell): ...

    print(fusion.flags())                    # what the graph kernel is told, and by whom

The graph kernel takes types of operators, per process; the toolbox sets them for
one compilation at a time and never loses a flag of the user's. `quirks` is the
table of what is known to go wrong, `bisect` finds what goes wrong in a cell of
yours, and `learn` keeps it in force.
"""

from ascend_fixes.fusion.compiler import FusionUnsupportedError, MissingCompilerError
from ascend_fixes.fusion.crf import CRF
from ascend_fixes.fusion.flags import Flag, FlagConflictError, FlagFileError
from ascend_fixes.fusion.graphs import GatedGraph
from ascend_fixes.fusion.guarding import FlagReport, GuardTypeError, LateGuardWarning, flags, guard, safe
from ascend_fixes.fusion.layers import GELU, LayerError, LayerNorm, LogSumExp, MaskedMax, MaskedMean, Softmax
from ascend_fixes.fusion.learned import LearnError, learn
from ascend_fixes.fusion.quirks import Quirk, quirks
from ascend_fixes.fusion.recurrent import GRU, GRUCell
from ascend_fixes.fusion.search import BisectError, BisectReport, bisect
from ascend_fixes.fusion.switches import SwitchNameError, write_switch_file

__all__ = [
    "CRF", "GELU", "GRU", "BisectError", "BisectReport", "Flag", "FlagConflictError", "FlagFileError", "FlagReport",
    "FusionUnsupportedError", "GRUCell", "GatedGraph", "GuardTypeError", "LateGuardWarning", "LayerError", "LayerNorm",
    "LearnError", "LogSumExp", "MaskedMax", "MaskedMean", "MissingCompilerError", "Quirk", "Softmax", "SwitchNameError",
    "bisect", "flags", "guard", "learn", "quirks", "safe", "write_switch_file",
]  # fmt: skip
