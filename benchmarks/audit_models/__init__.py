"""Public models, built tiny from a checkout: the set on which ``audit`` is measured. Nothing of theirs is kept here.

``manifest.json`` names each with its address, its commit and the hazards that ``benchmarks/audit_establish.py`` shows by
running it. The factories (``text``, ``speech``, ``recommend``) return ``(cell, inputs)``; ``AUDIT_MODELS`` is the
directory that holds the checkouts, ``<owner>/<name>`` each, as ``python -m benchmarks.audit_fetch DIR`` puts them there.
"""
