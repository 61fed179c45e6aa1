"""What answers on the report's site: charts and players, in the place of pictures of its pages.

In Markdown each is an ordinary picture, `figures/NAME.svg` for example, which stands there on GitHub, in print and
without JavaScript. Beside the pages, `interactive/NAME.json` says what takes its place. `put_in` inlines that into the
built pages, since pages that are opened from the file system may not fetch. They load assets/*.js and *.css; Vega,
Vega-Lite and vega-embed (assets/vega-license.txt), as vl-convert-python bundles them, come when a chart is in view.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rarl.files import atomic_writer, read_json, write_text
from rarl.reporting import tables
from rarl.reporting.charts import Chart
from rarl.reporting.player import Player

VEGA_LITE = "6.4"  # of those in vl-convert-python
_PICTURE = re.compile(r"""(<img\b[^>]*\bsrc=["'](?:\.\./)*figures/([\w.-]+)\.(?:svg|png|webp)["'][^>]*>)""")


def save_chart(report: Path, name: str, chart: Chart, table: str = "") -> list[Path]:
    """Write tables/`table`.csv (of the same name, if none is given) and interactive/`name`.json."""
    path = report / "tables" / f"{table or name}.csv"
    tables.write_csv(path, chart.frame)
    return [path, _save(report, name, {"element": "data-chart", "table": f"tables/{path.name}", **chart.document})]


def save_player(report: Path, name: str, player: Player) -> list[Path]:
    """Write figures/`name`-sheet.webp and interactive/`name`.json."""
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
    """Put what a report's interactive/ says into its built site; how many. Once after each build.

    Args:
      site: the folder of the built pages, which has the report's figures/ and, beside its first page, assets/.
      report: that of the Markdown, figures/, tables/ and interactive/.
    """
    count, names = 0, {path.stem for path in (report / "interactive").glob("*.json")}
    for page in sorted(site.rglob("*.html")) if names else ():
        up = "../" * (len(page.relative_to(site).parts) - 1)
        parts = _PICTURE.split(page.read_text(encoding="utf-8"))  # text, picture, its name, text, ...
        for i in range(1, len(parts), 3):
            if parts[i + 1] in names:
                parts[i] = _element(report, parts[i + 1], parts[i], up)
                count += 1
        del parts[2::3]
        write_text(page, "".join(parts))
    if count:
        write_text(site / "vega.js", _vega())
    return count


@cache
def _vega() -> str:
    """window.vegaEmbed, and none of its other names for the page; takes seconds."""
    import vl_convert  # 80 MB

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    return f"// See vega-license.txt.\n(() => {{{bundle}}})();\n"


def _element(report: Path, name: str, picture: str, up: str) -> str:
    what = read_json(report / "interactive" / f"{name}.json")
    if "table" in what:
        what["csv"] = (report / what["table"]).read_text(encoding="utf-8")
    inlined = _line(what).replace("<", "\\u003c")  # nothing in it ends the element
    script = f'<script type="application/json">{inlined}</script>'
    return f'<{what["element"]} root="{html.escape(up)}">{picture}{script}</{what["element"]}>'


def _line(what: Mapping[str, Any]) -> str:
    return json.dumps(what, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
