"""The common base of the errors this library raises on purpose.

Each carries one line that names the argument, the value and the remedy; the
command line prints that line instead of a traceback.
"""

__all__ = ["AscendFixesError", "UnknownNameError"]


class AscendFixesError(Exception):
    """Base of every error that ascend_fixes raises about wrong use or an unusable platform."""


class UnknownNameError(AscendFixesError, ValueError):
    """A defect id, family, operator or option that does not exist; the message offers the nearest one."""
