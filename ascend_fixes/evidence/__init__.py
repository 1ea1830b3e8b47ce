"""What the doctor found on one machine, as a file that can be sent, checked and counted.

    ascend-fixes doctor --report mine.json      # shown, then written: versions, wheel, device, findings, seconds
    ascend-fixes evidence check mine.json       # does it say what such a file has to say, and nothing private?

The project keeps such files in its folder ``evidence/``. What the catalogue says of where a defect was seen, and the
table of supported versions, are generated from them; `seen` reads what was generated.
"""

from ascend_fixes.evidence._record import FORMAT, SCHEMA, EvidenceError, Field, check, record, written
from ascend_fixes.evidence._seen import seen

__all__ = ["FORMAT", "SCHEMA", "EvidenceError", "Field", "check", "record", "seen", "written"]
