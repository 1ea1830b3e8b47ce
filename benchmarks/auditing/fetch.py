"""``python -m benchmarks.auditing.fetch DIR``: the checkouts of the public models, by git, into ``DIR/<owner>/<name>``.

Only Python and YAML of the folders that ``models/manifest.json`` names is checked out, at the commits it names. ``--from URL`` takes
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
        folders = entry.get("folders", ["/".join(Path(entry["file"]).parts[:3])])
        wanted.setdefault((entry["repository"], entry["commit"]), set()).update(folders)
    for (repository, commit), folders in wanted.items():
        path = target / repository
        if not path.exists():
            _git("clone", "--filter=blob:none", "--no-checkout", f"{host}/{repository}", str(path))
        listed = _git("-C", str(path), "ls-tree", "-r", "-z", "--name-only", commit, "--", *sorted(folders))
        sources = [name for name in listed.split("\0") if name.endswith((".py", ".yaml"))]
        _git("-C", str(path), "checkout", commit, "--", *sources)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--from", dest="host", default="https://github.com")
    options = parser.parse_args()
    fetch(options.target, options.host)


if __name__ == "__main__":
    main()
