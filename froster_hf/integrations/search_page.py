"""What a search found, as one page: pictures, times and scores. Nothing is fetched, and nothing runs.

Names of videos are foreign text: they are printed through `printable` and escaped. A picture leads to its file at its
time, where the file lies on this machine.
"""

import base64
import html
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..pipeline.timeline_files import short_clocks
from ..printing import html_text
from ..whole_files import write_text_whole
from .search import FoundSegment

STYLE = """
:root { color-scheme: light dark; --muted: #777; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1.2rem; padding: 0; }
li { list-style: none; font-size: .9rem; overflow-wrap: anywhere; }
img { width: 100%; aspect-ratio: 16 / 9; object-fit: contain; border-radius: 4px; background: #8882; display: block; }
.score { float: right; font-variant-numeric: tabular-nums; } .folder { color: var(--muted); font-size: .8rem; }
a { color: inherit; text-decoration: none; } a:hover b { text-decoration: underline; }
"""


def write_search_page(
    found: Sequence[FoundSegment], file: str | os.PathLike[str], *, title: str, overwrite: bool = True
) -> None:
    """Write what a search found as an HTML file, which appears when it is whole.

    Args:
        found: best first.
        file: path of the page.
        title: what was looked for.
        overwrite: whether a page that is there by then is replaced.

    Raises:
        ResultExistsError: a page is there, which stays; names where this one is instead.
        OSError: the file cannot be written.
    """
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html_text(title)}</title><style>{STYLE}</style>"
    )
    number = "Nothing found: the index is empty." if not found else "Best first; the score is the cosine."
    items = [_item(segment) for segment in found]
    lines = [head, f"<h1>{html_text(title)}</h1><p>{number}</p><ol>", *items, "</ol></html>\n"]
    write_text_whole(file, "\n".join(lines), overwrite=overwrite)


def _item(segment: FoundSegment) -> str:
    name, folder = os.path.basename(segment.video), os.path.dirname(segment.video)
    times = " – ".join(short_clocks(segment))
    picture = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(segment.picture).decode()}">'
    shown = f"{picture}<span class=score>{segment.score:.3f}</span><b>{html_text(name)}</b>"
    # Of two slashes or with a host it would lead to another machine, which Windows tells who is asking.
    if os.path.isabs(segment.video) and re.match("file:///(?!/)", uri := Path(segment.video).as_uri()):
        # Players take the part after `#t=` as the time to show.
        place = f"{uri}#t={segment.start_seconds:.2f},{segment.end_seconds:.2f}"
        shown = f'<a href="{html.escape(place)}">{shown}</a>'
    return f"<li>{shown}<br>{times}<div class=folder>{html_text(folder)}</div></li>"
