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
from functools import cache, partial
from pathlib import Path
from typing import Any

from rarl.files import atomic_writer, read_json, write_text
from rarl.reporting import tables
from rarl.reporting.charts import Chart
from rarl.reporting.player import Player

FOLDER = "interactive"
VEGA_LITE = "6.4"  # of those in vl-convert-python
_PICTURE = r"""<img\b[^>]*\bsrc=["'](?:\.\./)*figures/({})\.(?:svg|png|webp)["'][^>]*>"""  # of these names


def save(report: Path, name: str, what: Chart | Player) -> None:
    """Write what takes the place of the picture `name`: interactive/`name`.json and, of a chart, its numbers
    tables/`name`-chart.csv, of a player its pictures figures/`name`-sheet.webp."""
    if isinstance(what, Chart):
        beside = report / "tables" / f"{name}-chart.csv"
        tables.write_csv(beside, what.frame)
        document = {"element": "data-chart", "table": f"tables/{beside.name}", **what.document}
    else:
        beside = report / "figures" / f"{name}-sheet.webp"
        with atomic_writer(beside, "wb") as file:
            file.write(what.sheet)
        document = {"element": "retrieval-player", "sheet": f"figures/{beside.name}", **what.data}
    write_text(report / FOLDER / f"{name}.json", _line(document) + "\n")


def put_in(site: Path, report: Path) -> int:
    """Put what a report's interactive/ says into its built site; how many. Once after each build.

    Args:
      site: the folder of the built pages, which has the report's figures/ and, beside its first page, assets/.
      report: that of the Markdown, figures/, tables/ and interactive/.
    """
    count, names = 0, [re.escape(path.stem) for path in (report / FOLDER).glob("*.json")]
    for page in sorted(site.rglob("*.html")) if names else ():
        up = "../" * (len(page.relative_to(site).parts) - 1)
        element = partial(_element, report, up)
        text, found = re.subn(_PICTURE.format("|".join(names)), element, page.read_text(encoding="utf-8"))
        write_text(page, text)
        count += found
    if count:
        write_text(site / "vega.js", _vega())
    return count


@cache
def _vega() -> str:
    """window.vegaEmbed, and none of its other names for the page; takes seconds."""
    import vl_convert  # 80 MB

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    return f"// See vega-license.txt.\n(() => {{{bundle}}})();\n"


def _element(report: Path, up: str, picture: re.Match[str]) -> str:
    what = read_json(report / FOLDER / f"{picture[1]}.json")
    if "table" in what:
        what["csv"] = (report / what["table"]).read_text(encoding="utf-8")
    inlined = _line(what).replace("<", "\\u003c")  # nothing in it ends the element
    script = f'<script type="application/json">{inlined}</script>'
    return f'<{what["element"]} root="{html.escape(up)}">{picture[0]}{script}</{what["element"]}>'


def _line(what: Mapping[str, Any]) -> str:
    return json.dumps(what, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
