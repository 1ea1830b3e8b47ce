"""Public models, built tiny from a checkout: the set on which ``audit`` is measured. Nothing of theirs is kept here.

``manifest.json`` names each with its address, its commit and the hazards that ``benchmarks/auditing/establish.py`` shows by
running it. The factories (``text``, ``speech``, ``recommend``; ``apart`` and ``unseen`` of the two sets kept apart) return
``(cell, inputs)``; ``AUDIT_MODELS`` is the directory that holds the checkouts, ``<owner>/<name>`` each, as
``python -m benchmarks.auditing.fetch DIR`` puts them there.
"""
