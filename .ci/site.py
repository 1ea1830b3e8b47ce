"""A hook of mkdocs: what a page links to outside of docs/ is named, not linked, for the site stands by itself."""

import posixpath
import re

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_page_markdown(markdown, page, **_):
    """Replace links that lead out of docs/, or to the scripts of the reports, by text."""
    folder = posixpath.dirname(page.file.src_uri)

    def named(match):
        text, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match.group()
        place = posixpath.normpath(posixpath.join("docs", folder, target.partition("#")[0]))
        inside = place.startswith("docs/") and not place.startswith("docs/reports")
        if inside:
            return match.group()
        return f"`{place}`" if text.strip("`") in place else f"{text} (`{place}`)"

    return _LINK.sub(named, markdown)
