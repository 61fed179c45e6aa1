"""What answers on the report's site: charts and players, in the place of pictures of its pages.

In Markdown each is an ordinary picture, `figures/NAME.svg` for example, which stands there on GitHub, in print and
without JavaScript. Beside it, `interactive/NAME.json` says what takes its place; `put_in` inlines that into the built
pages, since pages that are opened from the file system may not fetch, and brings the code: assets/, and Vega, Vega-Lite
and vega-embed (BSD 3-Clause) as vl-convert-python bundles them, loaded when the first chart comes into view.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rarl.files import atomic_writer, read_json, write_text
from rarl.reporting import tables
from rarl.reporting.charts import Chart
from rarl.reporting.player import Player

ASSETS = Path(__file__).parent / "assets"
CODE = "interactive"  # the folder of the code in the site
_PICTURE = re.compile(r"""(<img\b[^>]*\bsrc=["'](?:\.\./)*figures/([\w.-]+)\.(?:svg|png|webp)["'][^>]*>)""")


def save_chart(report: Path, name: str, chart: Chart) -> list[Path]:
    """Write tables/`name`.csv and interactive/`name`.json, for the picture of this name."""
    table = report / "tables" / f"{name}.csv"
    tables.write_csv(table, chart.frame)
    return [table, _save(report, name, {"element": "data-chart", "table": f"tables/{table.name}", **chart.document})]


def save_player(report: Path, name: str, player: Player) -> list[Path]:
    """Write figures/`name`-sheet.webp and interactive/`name`.json, for the picture of this name."""
    sheet = report / "figures" / f"{name}-sheet.webp"
    with atomic_writer(sheet, "wb") as file:
        file.write(player.sheet)
    what = {"element": "retrieval-player", "sheet": f"figures/{sheet.name}", **player.data}
    return [sheet, _save(report, name, what)]


def _save(report: Path, name: str, what: Mapping[str, Any]) -> Path:
    path = report / "interactive" / f"{name}.json"
    write_text(path, _line(what) + "\n")
    return path


def put_in(site: Path, report: Path) -> int:
    """Put what a report's interactive/ says into its built site; how many. Every page is changed once: build it anew.

    Args:
      site: the folder of the built pages.
      report: that of the Markdown, figures/, tables/ and interactive/.
    """
    names, count = {path.stem for path in (report / "interactive").glob("*.json")}, 0
    for page in sorted(site.rglob("*.html")) if names else ():
        up, text = "../" * (len(page.relative_to(site).parts) - 1), page.read_text(encoding="utf-8")
        parts = _PICTURE.split(text)  # text, picture, its name, text, ...
        found = [i for i in range(1, len(parts), 3) if parts[i + 1] in names]
        for i in found:
            parts[i] = _element(report, parts[i + 1], parts[i], up)
        if found:
            del parts[2::3]
            head = f'<link rel="stylesheet" href="{up}{CODE}/interactive.css">'
            head += "".join(f'<script defer src="{up}{CODE}/{name}.js"></script>' for name in ("charts", "player"))
            write_text(page, "".join(parts).replace("</head>", f"{head}</head>", 1))
            count += len(found)
    if count:
        shutil.copytree(ASSETS, site / CODE, dirs_exist_ok=True)
        write_text(site / CODE / "vega.js", _vega())
        for sheet in (report / "figures").glob("*-sheet.webp"):
            shutil.copyfile(sheet, site / "figures" / sheet.name)
    return count


@cache
def _vega() -> str:
    """window.vegaEmbed, with nothing else of its names for the page; takes seconds."""
    import vl_convert  # 80 MB

    licence = "// vega, vega-lite, vega-embed: BSD 3-Clause, github.com/vega"
    return f"{licence}\n(() => {{{vl_convert.javascript_bundle()}}})();\n"


def _element(report: Path, name: str, picture: str, up: str) -> str:
    what = read_json(report / "interactive" / f"{name}.json")
    if "table" in what:
        what["csv"] = (report / what["table"]).read_text(encoding="utf-8")
    inlined = _line(what).replace("<", "\\u003c")  # nothing in it ends the element
    script = f'<script type="application/json">{inlined}</script>'
    return f'<{what["element"]} root="{html.escape(up)}">{picture}{script}</{what["element"]}>'


def _line(what: Mapping[str, Any]) -> str:
    return json.dumps(what, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
