"""From an audit to a training step: the cures applied, what they do measured, and the code that a person would write."""

from __future__ import annotations

from ascend_fixes.adapting._adapt import Adapted, AdaptError, adapt
from ascend_fixes.adapting._report import AdaptReport, Comparison, Cured

__all__ = ["AdaptError", "AdaptReport", "Adapted", "Comparison", "Cured", "adapt"]
