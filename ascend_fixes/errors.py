"""The common base of the errors this library raises on purpose, and what their messages share.

Each carries one line that names the argument, the value and the remedy; the command line prints that line instead of
a traceback. Each is also of the built-in type that fits, so that code which knows nothing of this library catches it:

    AscendFixesError
        UnknownNameError (ValueError)           a name that does not exist; the message offers the nearest
            amp.UnknownTargetError              no part of the network has this name
        PatchError (RuntimeError)               a replacement could not be made or written
            MissingSymbolError                  the platform lacks what a cure replaces
            ConflictError                       somebody else replaced it
        FileError (OSError)                     a file that cannot be written, or that is damaged or something else
            LockedError                         another process holds its lock
            MissingFileError (FileNotFoundError)
        ScratchError (OSError)                  no folder for what a child process writes
        StoppedError (RuntimeError)             a child process was to be started after its block had ended
        FactoryError (ValueError)               ``module:factory`` names nothing that gives a cell and its inputs
        EvidenceError (ValueError)              a file that is no evidence of the doctor's
        shapes: LengthError, SizesError, PadValueError, AxesError, DatasetError, StateError, PaddingCheckError,
                PackingError, PackingCheckError (ValueError)
                CellTypeError (TypeError)       GraphLimitError, CompileCacheError (RuntimeError)
        host:   KeysError, EmbeddingError, SizeError, InputsError, DecodingError, CallbackError (ValueError)
                UnknownKeyError (LookupError)   FrozenError (TypeError)
                FeedError (RuntimeError)        FeedTimeoutError (FeedError, TimeoutError)
        fusion: FlagConflictError, FlagFileError, LayerError, LearnError, SwitchNameError (ValueError)
                GuardTypeError (TypeError)      MissingCompilerError (ImportError)
                FusionCompileError, FusionUnsupportedError, BisectError (RuntimeError)
        amp:    PolicyError, ScalerError, ScalerStateError, StepError, WrittenError, UndeclaredWriteError (ValueError)
                ArgumentTypeError (TypeError)   StuckScaleError (RuntimeError)
        dryrun: DryRunError, ElfError (ValueError)                                  StandInError (RuntimeError)
        AuditError (ValueError)                 a cell, inputs or options that cannot be audited
        AdaptError, LengthsError (ValueError)   no training step can be made of it

Warnings (`UncheckedVersionWarning`, `RecompilationWarning`, `LateGuardWarning`, `SinkingWarning`, `PrecisionWarning`)
are UserWarning. An error stands beside the code that raises it; `tests/test_errors.py` holds this tree to what is
there.
"""

from __future__ import annotations

import difflib
import re
import sys
import textwrap
import warnings
from collections.abc import Iterable

__all__ = ["AscendFixesError", "UnknownNameError", "first_line", "nearest", "warn"]

_SITE_PACKAGES = re.compile(r"/[^\s'\"]*/site-packages/")
_OURS = ("ascend_fixes", "mindspore", "contextlib")  # what may stand between a user's line and a warning about it


class AscendFixesError(Exception):
    """Base of every error that ascend_fixes raises about wrong use or an unusable platform."""


class UnknownNameError(AscendFixesError, ValueError):
    """A defect id, family, operator or option that does not exist; the message offers the nearest one."""


def first_line(error: BaseException, containing: str = "") -> str:
    """``ErrorType: first line`` of an error's text, or of its first line that holds ``containing``.

    Words of MindSpore's beyond 200 characters are left out; our own messages end in a remedy and stay whole. Files of
    installed packages are named from ``site-packages`` on: where that is says nothing of the error.
    """
    text = _SITE_PACKAGES.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    line = next((line for line in lines if containing in line), lines[0])
    text = f"{type(error).__name__}: {line}"
    return (
        text
        if isinstance(error, AscendFixesError) or len(text) <= 200
        else textwrap.shorten(text, 200, placeholder=" ...")
    )


def nearest(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about an unknown name: ``; did you mean 'x'?``, or ``; `` and ``otherwise``.

    Args:
        name: what was given.
        known: the names there are; the closest one is offered, whatever its case.
        otherwise: another remedy, for a name that is close to none of them.
    """
    by_lower = {candidate.lower(): candidate for candidate in sorted(known, reverse=True)}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.4)
    remedy = f"did you mean {by_lower[close[0]]!r}?" if close else otherwise
    return f"; {remedy}" if remedy else ""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn about the line of the user's code that led here, however many frames of ours and MindSpore's lie between."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
