"""What the page of `froster app` looks like: foreign text as HTML, colors that follow light and dark, the seeking."""

import base64
import html
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..extras import import_extra
from ..pipeline.timeline_files import short_clocks
from ..printing import html_text

MOST_ROWS = 200

CSS = """
.gradio-container { width: 100%; max-width: 1200px !important; min-width: 0 !important; margin: 0 auto !important; }
.froster-html .html-container { padding: 0 !important; }
/* Gradio cuts videos by a program that browsers would have to fetch from elsewhere. */
#froster-video button[aria-label^="Trim"], #froster-video button[aria-label^="Reset"] { display: none; }
.froster-wide .image-container { overflow-x: auto; }
.froster-wide .image-container > button, .froster-wide .image-frame { justify-content: flex-start; width: 100%; }
.froster-wide img { width: 100%; height: auto; object-fit: contain; }
/* Not by @media, where Gradio looks for the selector below its own container. All tabs fit a phone, those too by which
   Gradio measures whether they do. */
.gradio-container .main { padding: clamp(12px, 2.5vw, 32px) !important; }
.gradio-container .tab-container button { padding: 0 clamp(8px, 2vw, 16px) !important; }
@media (max-width: 640px) {
  .froster-wide .image-frame { min-width: 640px; }
}
.froster-head h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
.froster-head p, .froster-note { color: var(--body-text-color-subdued); margin: .25rem 0; overflow-wrap: anywhere; }
.froster-error { color: var(--error-text-color); background: var(--error-background-fill); padding: .55rem .75rem;
  border: 1px solid var(--error-border-color); border-radius: 8px; margin: .25rem 0; overflow-wrap: anywhere; }
.froster-rows { list-style: none; margin: 0; padding: 0; }
.froster-row { position: relative; display: flex; gap: .75rem; width: 100%; padding: .55rem .75rem; margin: .25rem 0;
  border: 1px solid var(--border-color-primary); border-radius: 8px; overflow: hidden; text-align: left;
  color: var(--body-text-color); background: var(--background-fill-primary); font: inherit; box-sizing: border-box; }
.froster-row > * { position: relative; }
.froster-row > .froster-bar { position: absolute; inset: 0 auto 0 0; background: var(--color-accent); opacity: .22; }
.froster-row > .froster-name { flex: 1; overflow-wrap: anywhere; }
.froster-row > .froster-number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.froster-found { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; padding: 0;
  list-style: none; margin: .25rem 0; font-size: .9rem; overflow-wrap: anywhere; }
.froster-found img { width: 100%; aspect-ratio: 16 / 9; object-fit: contain; border-radius: 8px; margin: 0 0 .25rem;
  background: var(--background-fill-secondary); }
button.froster-row { cursor: pointer; }
button.froster-row:hover, button.froster-row:focus-visible, .froster-row.froster-here {
  border-color: var(--color-accent); outline: none; box-shadow: 0 0 0 1px var(--color-accent); }
"""

# A row of the segments takes the player there. The listener is the table's, whose rows change with every timeline.
SEEK = """
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-seconds]');
  const player = document.querySelector('#froster-video video');
  if (!row || !player) return;
  element.querySelectorAll('.froster-here').forEach((other) => other.classList.remove('froster-here'));
  row.classList.add('froster-here');
  player.currentTime = Number(row.dataset.seconds);
  player.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
});
"""


def page_theme() -> Any:
    """Gradio's theme with the fonts of the reader's machine; its own default asks nothing elsewhere, others do."""
    themes = import_extra("app").themes
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    theme = themes.Default(primary_hue="teal", secondary_hue="teal", **fonts)
    # Its own gray of notes is too light to be read on white.
    return theme.set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")


def note_html(text: str) -> str:
    """A note, as text."""
    return f'<p class="froster-note">{html_text(text)}</p>'


def error_html(reason: str) -> str:
    """Why there is no answer; it stays until there is one."""
    return f'<p class="froster-error" role="alert">{html.escape(reason)}</p>'


def heading_html(model: str) -> str:
    """The head of the page."""
    return (
        '<div class="froster-head"><h1>What happens in a video?</h1>'
        f"<p>Actions in words of your own, scored by {html_text(model)}.</p></div>"
    )


def answers_html(answers: Sequence[Mapping[str, Any]], *, compared_with: str | None) -> str:
    """The answers of the pipeline for one video, best first, each with a bar."""
    rows = [
        f'<li class="froster-row">{_bar(answer["score"])}'
        f'<span class="froster-name">{html_text(answer["label"])}</span>'
        f'<span class="froster-number">{_number(answer["score"])}</span></li>'
        for answer in answers[:MOST_ROWS]
    ]
    return f'<ol class="froster-rows">{"".join(rows)}</ol>{_more(len(answers))}{_note(compared_with)}'


def segments_html(timeline: Any) -> str:
    """The segments of a timeline, each of them a button with the second at which it begins."""
    if not timeline.segments:
        return note_html("None of these, from start to end.") + _note(timeline.compared_with)
    rows = []
    for segment in timeline.segments[:MOST_ROWS]:
        start, end = short_clocks(segment)
        rows.append(
            f'<li><button type="button" class="froster-row" data-seconds="{segment.start_seconds:.3f}">'
            f'{_bar(segment.score)}<span class="froster-number">{start} - {end}</span>'
            f'<span class="froster-name">{html_text(segment.label)}</span>'
            f'<span class="froster-number">{_number(segment.score)}</span></button></li>'
        )
    return (
        f'<ol class="froster-rows">{"".join(rows)}</ol>{_more(len(timeline.segments))}{_note(timeline.compared_with)}'
    )


def found_html(found: Sequence[Any]) -> str:
    """What a search found, best first: a picture, the video's name, times, and the score."""
    items = []
    for segment in found:
        start, end = short_clocks(segment)
        picture = base64.b64encode(segment.picture).decode()
        items.append(
            f'<li><img alt="" src="data:image/jpeg;base64,{picture}">'
            f"<b>{html_text(os.path.basename(segment.video))}</b><br>{start} - {end}, {segment.score:.3f}</li>"
        )
    return f'<ol class="froster-found">{"".join(items)}</ol>' if found else note_html("The index is empty.")


def _bar(score: float | None) -> str:
    percent = 100 * min(max(score or 0.0, 0.0), 1.0)
    return f'<span class="froster-bar" style="width: {percent:.1f}%"></span>'


def _number(score: float | None) -> str:
    return "no score" if score is None else f"{score:.3f}"


def _more(count: int) -> str:
    return note_html(f"and {count - MOST_ROWS} more") if count > MOST_ROWS else ""


def _note(text: str | None) -> str:
    return note_html(text) if text else ""
