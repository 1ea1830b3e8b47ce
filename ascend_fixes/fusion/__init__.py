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

from ascend_fixes.fusion._attention import AttentionGRU
from ascend_fixes.fusion._compiler import FusionCompileError, FusionUnsupportedError, MissingCompilerError
from ascend_fixes.fusion._crf import CRF
from ascend_fixes.fusion._dot_product import Attention
from ascend_fixes.fusion._dynamic_rnn import DynamicRNN
from ascend_fixes.fusion._flags import Flag, FlagConflictError, FlagFileError
from ascend_fixes.fusion._graphs import GatedGraph
from ascend_fixes.fusion._guarding import FlagReport, GuardTypeError, LateGuardWarning, flags, guard, keeping_out, safe
from ascend_fixes.fusion._layers import GELU, LayerError, LayerNorm, LogSumExp, MaskedMax, MaskedMean, Softmax
from ascend_fixes.fusion._learned import quirks
from ascend_fixes.fusion._lstm import LSTM
from ascend_fixes.fusion._quirks import Quirk
from ascend_fixes.fusion._recurrent import GRU, GRUCell
from ascend_fixes.fusion._search import BisectError, BisectReport, LearnError, bisect, learn
from ascend_fixes.fusion._switches import SwitchNameError, write_switch_file

__all__ = [
    "CRF",
    "GELU",
    "GRU",
    "LSTM",
    "Attention",
    "AttentionGRU",
    "BisectError",
    "BisectReport",
    "DynamicRNN",
    "Flag",
    "FlagConflictError",
    "FlagFileError",
    "FlagReport",
    "FusionCompileError",
    "FusionUnsupportedError",
    "GRUCell",
    "GatedGraph",
    "GuardTypeError",
    "LateGuardWarning",
    "LayerError",
    "LayerNorm",
    "LearnError",
    "LogSumExp",
    "MaskedMax",
    "MaskedMean",
    "MissingCompilerError",
    "Quirk",
    "Softmax",
    "SwitchNameError",
    "bisect",
    "flags",
    "guard",
    "keeping_out",
    "learn",
    "quirks",
    "safe",
    "write_switch_file",
]
