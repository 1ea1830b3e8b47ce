"""One defect of each family, met and cured, in at most 30 lines: ``python -m examples.minimal.shapes``."""
