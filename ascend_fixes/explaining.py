"""From an error's text, or a log, to the defect behind it and its cure.

What is known are the texts of the catalogue and the messages of this library's own errors. A line is compared word by
word, numbers left out, and a rare word counts for more than one that many messages have (Sparck Jones 1972), so that a text is
found when it is cut short, carries other numbers, or stands behind a time and a file name.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ascend_fixes.defects import Defect, catalogue
from ascend_fixes.files import PathLike, open_regular

__all__ = ["Explanation", "errors", "explain", "explain_lines", "log_lines"]

ENOUGH = 0.6  # of the weight of the shorter one of two texts has to be in the other
_APART = 0.05  # a line that resembles one text by so much more is that one and not the other
_FEWEST_WORDS = 2  # that two texts share; one alone says too little, unless no other text has it and it is long
_LONG = 10
_CUT = 9  # letters of a word that was cut in two which still tell it
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*[A-Za-z_]|[A-Za-z]")
_ROOT = Path(__file__).parent
_LOG_BYTES = 64 << 20
_SYMPTOM = 0.8  # what a match with a symptom is worth: nobody prints it


@dataclass(frozen=True)
class Explanation:
    """A known text that a line resembles.

    Attributes:
        id: of the defect, "H1"; of an error of this library its class, "GraphLimitError".
        title: the defect's symptom, or what the error means.
        known: the text as it is known.
        line, number: the line that resembles it, and its number from 1.
        score: how much of the shorter text is in the other, from 0 to 1.
        remedy: what to do, one line each.
    """

    id: str
    title: str
    known: str
    line: str
    number: int
    score: float
    remedy: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.id}: {self.title}", f"  line {self.number}: {self.line.strip()[:160]}"]
        return "\n".join([*lines, *(f"  {line}" for line in self.remedy)])


@dataclass(frozen=True)
class _Known:
    """One text of the index: whose it is, its words, and what it is worth."""

    id: str
    text: str
    words: frozenset[str]
    worth: float = 1.0


def explain(text: str, most: int = 3, language: str = "en") -> list[Explanation]:
    """The defects and errors that a text resembles, best first; none where it resembles nothing known.

    Args:
        text: one message, of one line or several.
        most: how many to return.
        language: of the titles, "en" or "zh".
    """
    return explain_lines(text.splitlines(), most, language)


def explain_lines(lines: Iterable[str], most: int = 20, language: str = "en") -> list[Explanation]:
    """As `explain`, over the lines of a log; each defect or error once, with the line that resembles it best."""
    best: dict[str, Explanation] = {}
    for number, line in enumerate(lines, 1):
        found = list(_matches(line))
        nearly = max((score for _, score in found), default=0.0) - _APART
        for known, score in found:
            if score >= nearly and (known.id not in best or score > best[known.id].score):
                best[known.id] = Explanation(known.id, "", known.text, line, number, score, ())
    ranked = sorted(best.values(), key=lambda found: (-found.score, _needless(found.id), found.number))
    return [_told(found, language) for found in ranked if not _is_elsewhere(found, ranked)][:most]


def log_lines(path: PathLike) -> Iterator[str]:
    """The lines of a log, of the first 64 MB; what is no UTF-8 is replaced.

    Raises:
        FileError: it cannot be read, or is no ordinary file.
    """
    with open_regular(path) as stream:
        yield from stream.read(_LOG_BYTES).decode("utf-8", "replace").splitlines()


# --- comparing ------------------------------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


def _said(line: str, known: Iterable[str]) -> frozenset[str]:
    """The words of a line; its first and last may be what was left of a longer one, and stand for that."""
    words = [word.lower() for word in _WORD.findall(line)]
    whole = set(words)
    if words and len(words[0]) >= _CUT:
        whole |= {word for word in known if word.endswith(words[0])}
    if words and len(words[-1]) >= _CUT:
        whole |= {word for word in known if word.startswith(words[-1])}
    return frozenset(whole)


def _matches(line: str) -> Iterator[tuple[_Known, float]]:
    """The known texts that a line resembles, with the score."""
    index, weights = _index()
    unknown = math.log(len(index) + 1.0)  # as much as a word that one text alone has
    words = _said(line, weights)
    said = sum(weights.get(word, unknown) for word in _words(line))
    for known in index:
        both = known.words & words
        telling = any(weights[word] == unknown and len(word) >= _LONG for word in both)
        if len(both) < min(_FEWEST_WORDS, len(known.words)) and not telling:
            continue
        shared, whole = (sum(weights[word] for word in some) for some in (both, known.words))
        # All of a known text may stand in a long line; all of a short line in a known text, of which it has a good part.
        score = max(shared / whole, min(shared / max(said, shared), 0.5 + shared / whole)) * known.worth
        if score >= ENOUGH:
            yield known, score


@functools.cache
def _index() -> tuple[tuple[_Known, ...], dict[str, float]]:
    """Every known text, and the weight of every word in them."""
    texts = [*_of_the_catalogue(), *_of_the_library()]
    seen = Counter(word for known in texts for word in known.words)
    weights = {word: math.log(1.0 + len(texts) / count) for word, count in seen.items()}
    return tuple(texts), weights


def _of_the_catalogue() -> Iterator[_Known]:
    for defect in catalogue().values():
        for line in defect.error.splitlines():
            yield _Known(defect.id, line, _words(line))
        yield _Known(defect.id, defect.symptom, _words(defect.symptom), _SYMPTOM)


def _of_the_library() -> Iterator[_Known]:
    """The messages of this library's errors, read from its source."""
    for path in sorted(_ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                name = getattr(node.exc.func, "id", "")
                text = _constant(node.exc.args[0])
                if name in errors() and len(_words(text)) > _FEWEST_WORDS:
                    yield _Known(name, f"{name}: {text}", _words(f"{name} {text}"))


def _constant(node: ast.AST) -> str:
    """What a message always says: its constant parts."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    if isinstance(node, ast.BinOp):
        return f"{_constant(node.left)} {_constant(node.right)}"
    return " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))


# --- telling --------------------------------------------------------------------------------------


@functools.cache
def errors() -> dict[str, tuple[str, str]]:
    """Every error class of this library by name: what it means, and the page that explains it."""
    found: dict[str, tuple[str, str]] = {}
    classes: dict[str, tuple[Sequence[str], str, Path]] = {"AscendFixesError": ((), "", _ROOT / "errors.py")}
    for path in sorted(_ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases = [getattr(base, "id", "") for base in node.bases]
                classes[node.name] = (bases, (ast.get_docstring(node) or "").partition("\n")[0], path)

    def is_error(name: str) -> bool:
        return name == "AscendFixesError" or any(is_error(base) for base in classes.get(name, ((), "", _ROOT))[0])

    for name, (_, meaning, path) in classes.items():
        if is_error(name):
            room = path.relative_to(_ROOT).parts[0].removesuffix(".py")
            page = room if room in ("shapes", "host", "fusion", "amp", "dryrun") else ""
            found[name] = (meaning, f"docs/{page}.md" if page else "README.md")
    return found


def _told(found: Explanation, language: str) -> Explanation:
    """With its title and its remedy."""
    if found.id in catalogue():
        defect = catalogue()[found.id]
        title, remedy = defect.symptom_in(language), _cure(defect)
    else:
        title, page = errors()[found.id]
        remedy = ("an error of this library: its message ends with the remedy", f"more: {page}")
    return Explanation(found.id, title, found.known, found.line, found.number, found.score, remedy)


def _cure(defect: Defect) -> tuple[str, ...]:
    from ascend_fixes.cures import status

    here = next(one for one in status() if one.id == defect.id)
    if defect.patch is not None:
        first = f'cure: ascend_fixes.patch("{defect.id}"), or patch("{defect.family}") for the whole family'
    else:
        first = f"cure: {defect.cure}, see docs/{defect.family}.md"
    return first, f"here: {here.state}, {here.reason}", f"why: ascend-fixes defects {defect.id}"


def _is_elsewhere(found: Explanation, all_found: Sequence[Explanation]) -> bool:
    """Whether another defect has this very text, and on this machine it can only be that one's."""
    others = [one for one in all_found if one.id != found.id and one.known == found.known]
    defect = catalogue().get(found.id)
    return bool(others) and defect is not None and bool(defect.elsewhere())


def _needless(name: str) -> bool:
    """Whether this installation does not need the cure: of two defects with one text, the other one is meant."""
    defect = catalogue().get(name)
    return defect is not None and defect.patch is not None and bool(defect.patch.unneeded())
