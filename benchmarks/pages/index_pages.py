"""The index of errors, in two languages, and the Chinese list of defects, generated from the catalogue.

`python -m benchmarks.pages.support` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ascend_fixes.defects import Defect, catalogue
from ascend_fixes.explaining import errors

__all__ = ["wanted"]

ERRORS = {
    "en": """# Index of errors

Generated from the catalogue. `ascend-fixes explain "any text"`, or `explain train.log`, finds the same texts, also when
they are cut or carry other numbers.

## What MindSpore says

{said}

## What is seen without a text

{silent}

## What this library says

Its messages name the argument, the value and the remedy; every class is an `AscendFixesError`, and the built-in type that fits.

{own}
""",
    "zh": """# 报错索引

由缺陷目录生成。`ascend-fixes explain "报错文本"` 或 `explain train.log` 能找到同样的内容，文本被截断、数字不同也没有关系。

## MindSpore 的报错

{said}

## 没有报错的现象

{silent}

## 本库的报错

报错里写明参数、取值和解决办法；每个类都是 `AscendFixesError`，同时也是合适的内置异常类型。各类的含义用英文写在源码里。

{own}
""",
}
HEADS = {
    "en": (("text", "defect", "cure"), ("symptom", "defect", "cure"), ("error", "what it means", "more")),
    "zh": (("报错", "缺陷", "办法"), ("现象", "缺陷", "办法"), ("报错", "含义", "更多")),
}
DEFECTS_ZH = """# 缺陷目录

由 `ascend_fixes/defects/` 里的文件生成。原因、在哪里见过、什么时候可以不再需要，见[英文目录](../defects.md)；
你的机器上有哪些，由 `ascend-fixes doctor --lang zh` 检查。

{table}
"""
FAMILIES_ZH = {"shapes": "形状", "host": "主机", "fusion": "融合", "amp": "混合精度", "environment": "环境"}


def wanted() -> dict[str, str]:
    """The pages by their path."""
    rows = [
        (_link(defect, "../defects.md"), FAMILIES_ZH[defect.family], defect.symptom_zh, _code(defect.cure))
        for defect in catalogue().values()
    ]
    listed = DEFECTS_ZH.format(table=_table(("编号", "类别", "现象", "办法"), rows))
    pages = {"docs/zh/defects.md": listed}
    for language, path in (("en", "docs/errors.md"), ("zh", "docs/zh/errors.md")):
        pages[path] = _errors(language)
    return pages


def _errors(language: str) -> str:
    page = "defects.md" if language == "en" else "../defects.md"
    said, silent = [], []
    for defect in catalogue().values():
        for line in defect.error.splitlines():
            said.append((_code(line), _link(defect, page), _cure(defect)))
        if not defect.error:
            silent.append((defect.symptom_in(language), _link(defect, page), _cure(defect)))
    own = [(_code(name), meaning, _page(more, language)) for name, (meaning, more) in sorted(errors().items())]
    tables = [_table(head, rows) for head, rows in zip(HEADS[language], (said, silent, own))]
    return ERRORS[language].format(said=tables[0], silent=tables[1], own=tables[2])


def _cure(defect: Defect) -> str:
    return _code(f'patch("{defect.id}")' if defect.patch is not None else defect.cure.removeprefix("tool: "))


def _link(defect: Defect, page: str) -> str:
    return f"[{defect.id}]({page}#{defect.id.lower()})"


def _page(more: str, language: str) -> str:
    """A link to the page that explains an error of the library; none for the README, which is not in the folder."""
    name = more.removeprefix("docs/")
    if name == "README.md":
        return ""
    return f"[{name}]({'' if language == 'en' else '../'}{name})"


def _code(text: str) -> str:
    text = text.replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
