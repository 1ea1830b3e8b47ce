"""``python -m benchmarks.auditing.fetch DIR``: the checkouts of the public models, by git, into ``DIR/<owner>/<name>``.

Only the folders that ``models/manifest.json`` names are checked out, at the commits it names. ``--from URL`` takes
another host than GitHub, or a directory of mirrors: repositories are then at ``URL/<owner>/<name>``.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from benchmarks import records

MANIFEST = Path(__file__).with_name("models") / "manifest.json"


def fetch(target: Path, host: str) -> None:
    """Clones each repository without its files, and checks out the models' folders."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for entry in records.read(MANIFEST)["models"]:
        folder = "/".join(Path(entry["file"]).parts[:3])
        wanted.setdefault((entry["repository"], entry["commit"]), set()).add(folder)
    for (repository, commit), folders in wanted.items():
        path = target / repository
        if not path.exists():
            _git("clone", "--filter=blob:none", "--no-checkout", f"{host}/{repository}", str(path))
        _git(
            "-C",
            str(path),
            "checkout",
            commit,
            "--",
            *(f":(glob){folder}/**/*.{kind}" for folder in sorted(folders) for kind in ("py", "yaml")),
        )


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--from", dest="host", default="https://github.com")
    options = parser.parse_args()
    fetch(options.target, options.host)


if __name__ == "__main__":
    main()
