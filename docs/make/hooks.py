"""What mkdocs does besides: files of the repository's root become pages, so that links to them hold on either side."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Let links point to these pages, and links of these pages to what is in docs/."""
    if page.file.src_uri in PAGES.values():
        return markdown.replace("](docs/", "](")
    for name, there in PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({there}")
    return markdown
