"""What setup.cfg cannot say: the description that package indexes show is the README without links into the repository.

Whoever reads it there has no folder beside it; what the links name is in the source distribution. Everything else is in setup.cfg.
"""

import re
from pathlib import Path

from setuptools import setup

INTO_REPOSITORY = re.compile(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)")

readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(long_description=INTO_REPOSITORY.sub(r"\1", readme))
