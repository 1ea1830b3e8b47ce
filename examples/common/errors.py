"""The errors that the examples raise on purpose; the command line prints their one line and exits with status 2."""

from __future__ import annotations

from ascend_fixes.errors import AscendFixesError

__all__ = ["CheckpointError", "DataError", "ExampleError", "UsageError"]


class ExampleError(AscendFixesError, ValueError):
    """Base of the errors about what an example was given."""


class DataError(ExampleError):
    """A data folder or file that is missing or malformed; names the file, the line and what was expected."""


class CheckpointError(ExampleError):
    """A checkpoint that is damaged or belongs to another run."""


class UsageError(ExampleError):
    """Options that do not exist or do not go together."""
