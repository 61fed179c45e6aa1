"""The report's Markdown pages as a site: built by MkDocs with the theme Material, opened without server or network."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
import warnings
import xml.etree.ElementTree as etree
from pathlib import Path
from typing import Any

import yaml
from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor

from rarl.errors import RarlError
from rarl.files import read_yaml
from rarl.reporting.interactive import FOLDER as INTERACTIVE
from rarl.reporting.interactive import put_in
from rarl.reporting.registry import NAVIGATION
from rarl.reporting.sheet import TABLE
from rarl.reporting.tables import NONE

FOLDER = "site"
_ASSETS = Path(__file__).parent / "assets"
_SHIM = "iframe-worker.js"  # by whose name the plugin `offline` knows that it need not bring its own, from the network
_SCHEMES = {"default": ("light", "dark", "weather-night"), "slate": ("dark", "light", "weather-sunny")}


def configuration(title: str, navigation: list[Any]) -> dict[str, Any]:
    """MkDocs' settings, all but the folders. navigation: [{title: file, or a list of the same kind}]."""
    return {
        "site_name": title,
        "nav": navigation,
        "theme": {
            "name": "material",
            "font": False,  # those of the system: none from the network
            "features": ["navigation.indexes", "navigation.prune", "navigation.top", "search.highlight", "toc.follow"],
            "icon": {"logo": "material/database-search"},
            "palette": [
                {"media": f"(prefers-color-scheme: {now})", "scheme": scheme, "primary": "indigo", "accent": "indigo",
                 "toggle": {"icon": f"material/{icon}", "name": f"Switch to {then} mode"}}
                for scheme, (now, then, icon) in _SCHEMES.items()
            ],
        },
        "plugins": ["search", "offline"],
        "extra_css": [path.name for path in sorted(_ASSETS.glob("*.css"))],
        "extra_javascript": [path.name for path in sorted(_ASSETS.glob("*.js")) if path.name != _SHIM],
        "extra": {"generator": False, "polyfills": [_SHIM]},
        "markdown_extensions": [
            "md_in_html", "tables", "attr_list", {"toc": {"permalink": True}}, {"pymdownx.quotes": {"callouts": True}},
            "rarl.reporting.site:TablesExtension",
        ],
        "validation": {"links": {"anchors": "warn"}},
    }  # fmt: skip


def build_site(folder: Path, title: str) -> Path:
    """Build the site of the Markdown pages in `folder` into `folder`/site; returns the path of its first page.

    Raises:
      RarlError: there is no navigation, it leads nowhere or is of another kind, or MkDocs cannot build the site.
    """
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import MkDocsException

    folder = folder.resolve()
    navigation = folder / NAVIGATION
    if not navigation.is_file():
        raise RarlError(f"{navigation} is not there; `rarl report` writes it with the pages")
    entries = read_yaml(navigation)
    if not _is_navigation(entries, folder):
        raise RarlError(f"{navigation}: must be a list of {{title: a page that is there, or such a list}}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".site-") as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pages, made = Path(temporary) / "pages", Path(temporary) / "site"
        shutil.copytree(folder, pages, ignore=shutil.ignore_patterns(FOLDER, INTERACTIVE))
        for asset in _ASSETS.iterdir():
            shutil.copy(asset, pages / asset.name)
        settings = configuration(title, entries)
        file = io.BytesIO(yaml.safe_dump(settings).encode())
        file.name = str(Path(temporary) / "mkdocs.yml")
        logger = logging.getLogger("mkdocs")
        logger.setLevel(logging.ERROR)
        try:
            with file:
                build(load_config(file, docs_dir=str(pages), site_dir=str(made)))
        except (MkDocsException, OSError) as error:
            raise RarlError(f"{folder}: MkDocs cannot build the site: {error}") from None
        put_in(made, folder)
        (made / "404.html").unlink(missing_ok=True)  # its links are those of a server's root
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        made.rename(folder / FOLDER)
    return folder / FOLDER / "index.html"


def _is_navigation(entries: Any, folder: Path) -> bool:
    """Whether it is as `configuration` asks for, of pages in a folder."""
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and len(entry) == 1
        and all((folder / to).is_file() if isinstance(to, str) else _is_navigation(to, folder) for to in entry.values())
        for entry in entries
    )  # fmt: skip


class _TableMarks(Treeprocessor):
    """Captions, scopes and, for narrow screens, the head beside each cell."""

    def run(self, root: etree.Element) -> None:
        for parent in list(root.iter()):
            above = None
            for child in list(parent):
                if child.tag == "table":
                    self._table(child)
                    if above is not None and above.tag == "p" and (above.text or "").startswith(TABLE):
                        above.tag, above.text = "caption", (above.text or "").removeprefix(TABLE)
                        parent.remove(above)
                        child.insert(0, above)
                above = child

    @staticmethod
    def _table(table: etree.Element) -> None:
        heads = ["".join(th.itertext()) for th in table.iterfind("thead/tr/th")]
        for th in table.iterfind("thead/tr/th"):
            th.set("scope", "col")
        for row in table.iterfind("tbody/tr"):
            for head, cell in zip(heads, row, strict=False):
                cell.set("data-head", head)
                if cell.text == NONE:
                    cell.set("data-none", "")
            if len(row):
                row[0].tag = "th"
                row[0].set("scope", "row")
        words = {"".join(th.itertext()) for th in table.iterfind("thead/tr/th") if "right" not in th.get("style", "")}
        # On a narrow screen verdicts must be in sight, and a column holds too little prose.
        if words & {"Verdict", "Why not", "That change", "Effect"} or len(words) == len(heads) > 3:
            table.set("data-cards", "")
        if {"Claim", "Verdict", "Environment"} <= words:
            table.set("data-filters", "Verdict,Environment")  # for assets/tables.js


class TablesExtension(Extension):
    """By which Markdown finds `_TableMarks`."""

    def extendMarkdown(self, md: Markdown) -> None:
        """As Markdown asks for."""
        md.treeprocessors.register(_TableMarks(md), "rarl", 5)  # after inline text is read
