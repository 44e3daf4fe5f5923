"""What mkdocs does beyond its own: pages from files that stand elsewhere, generated parts, links out of `docs/`.

Sources keep links that work where the repository is browsed. On the site a link to a file that has a page here becomes
a link to that page, and one to any other file of the repository becomes the file's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reference
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]

# Files of the repository that are pages of the site, too.
MIRRORED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "cluster/README.md": "how-to/cluster-setups.md",
    "studies/README.md": "results/studies.md",
}
PAGES = {"README.md": "index.md", **MIRRORED}
GENERATED: dict[str, Callable[[], str]] = {
    "cli": reference.cli_reference,
    "study-file": reference.study_file_reference,
    "methods": reference.methods_reference,
}
# A link, after what may look like one and is not: a code block, code, a picture. A link's text may hold code.
_LINK = re.compile(
    r"^```.*?^```|`[^`\n]*`|!\[[^\[\]]*\]\([^()]*\)|\[([^\[\]]*)\]\(([^()\s#]+)(#[^()\s]*)?\)",
    re.MULTILINE | re.DOTALL,
)
_MARKER = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that stand elsewhere in the repository."""
    for source, page in MIRRORED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill the generated parts, and turn links out of `docs/` into links of the site."""
    return linked(filled(markdown), page.file.src_uri)


def filled(markdown: str) -> str:
    """The text with what each marker `<!-- generated: NAME -->` stands for."""
    return _MARKER.sub(lambda marker: GENERATED[marker[1]](), markdown)


def linked(markdown: str, page: str) -> str:
    """The text of a page, whose links lead to pages or, where there is none, are a file's name."""
    source = {page: source for source, page in MIRRORED.items()}.get(page, f"docs/{page}")
    return _LINK.sub(lambda found: _link(found, source, page), markdown)


def _link(found: re.Match[str], source: str, page: str) -> str:
    text, target, anchor = found[1], found[2], found[3] or ""
    if target is None or ":" in target or target.startswith("/"):
        return found[0]
    file = os.path.normpath(os.path.join(os.path.dirname(source), target))
    if file.startswith("docs/"):
        there = file.removeprefix("docs/")
    elif file in PAGES:
        there = PAGES[file]
    elif (ROOT / file).exists():
        return (
            f"`{file}`" if text.strip("`") in (file, target, os.path.basename(file)) else f"{text} (`{file}`)"
        )
    else:
        return found[0]
    return f"[{text}]({os.path.relpath(there, os.path.dirname(page) or '.')}{anchor})"
