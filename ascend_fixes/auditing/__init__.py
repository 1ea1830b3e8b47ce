"""The audit of a model nobody has ported: what will go wrong with it, how that is known, and what to write instead."""

from __future__ import annotations

from ascend_fixes.auditing._audit import audit
from ascend_fixes.auditing._kinds import CERTAINTIES, FAMILIES, KINDS, Kind
from ascend_fixes.auditing._report import AuditError, AuditReport, Hazard
from ascend_fixes.auditing._script import audit_script

__all__ = ["CERTAINTIES", "FAMILIES", "KINDS", "AuditError", "AuditReport", "Hazard", "Kind", "audit", "audit_script"]
