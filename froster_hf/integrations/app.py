"""`froster app`: a page, by Gradio, on which colleagues try a checkpoint with videos of their own, and its HTTP API.

Uploads come from anybody: they are limited in size, reach the model by way of the decoding process alone, and lie in a
folder that nobody else can read, which goes with the app. What people and files are called is shown as text. Neither
the server nor the page asks anything of another machine.
"""

import contextlib
import html
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..extras import import_extra
from ..printing import printable
from ..processing.label_files import label_lines
from ..video.types import DecodingUnavailableError
from ..whole_files import make_folder
from .app_page import (
    CSS,
    SEEK,
    answers_html,
    error_html,
    found_html,
    heading_html,
    note_html,
    page_theme,
    segments_html,
)
from .app_requests import (
    GuardedServer,
    SessionMessages,
    guarded_blocks,
    is_own_name,
    nothing_of_bad_requests,
    one_line_of_full_descriptors,
    print_failure,
    request_reason,
)

LONGEST_LABELS = 50_000
"""Characters of a list of labels."""

MOST_LABELS = 1000
"""Labels of a question, each of which is encoded with all templates before the next question is answered."""

MOST_TIMELINE_FRAMES = 2**17
"""Frames of all windows of a timeline, or of the video of a search: nine hours as the page and an index have it at
first, with eight frames per window."""

MOST_STRIDES = 100
"""Strides of a timeline's window, and of what its scores are averaged over."""

MOST_SEGMENTS = 20_000
"""Segments of a timeline."""

MOST_WAITING = 16
"""Questions that wait while one is answered; the model answers one at a time."""

MOST_PICTURES = 100
"""Answers whose pictures are kept."""

MOST_SESSIONS = 100
"""Sessions that Gradio remembers: the settings of all fields, which nothing of this page needs, and answers that
nobody has read."""

# What is wrong with a question or a video, or with this machine; all else is an error of the program, for its log.
EXPECTED = (ValueError, OSError, DecodingUnavailableError)
# One question at a time: maps of attention change the model for a moment.
EVENT = {"concurrency_id": "model", "concurrency_limit": 1}
PAGE_EVENT = {**EVENT, "api_visibility": "private"}
# Uploads and pictures are deleted after this time, and all of them when the app ends.
KEPT_SECONDS = 3600

# Of a timeline, as the page has them at first, in the order of its fields.
WINDOWS = {"window_seconds": 4.0, "stride_seconds": 2.0, "smoothing_seconds": 4.0}
# Of a search, as the page has it at first.
NUM_FOUND = 10


@dataclass(frozen=True)
class AppExample:
    """A video at hand, with what is asked about it.

    Args:
        video: its file.
        labels: actions to choose from.
        windows: settings of its timeline that differ from `WINDOWS`.
    """

    video: str | os.PathLike[str]
    labels: Sequence[str]
    windows: Mapping[str, float] = field(default_factory=dict)


def build_app(classify: Any, *, index: Any = None, examples: Sequence[AppExample] = ()) -> Any:
    """The page and its API as a `gradio.Blocks`, to be served by `launch_app`, or mounted in an app of yours.

    What the page promises of requests takes [`~froster_hf.integrations.app_requests.GuardedServer`] around it.

    Args:
        classify: the zero-shot pipeline.
        index: folder or address of an index of the same model, to search in; without one, the page has no search.
        examples: videos at hand.

    Raises:
        ImportError: Gradio or matplotlib is not installed, or for an index LanceDB.
        SearchIndexError: there is no such index, or it is of another model.
    """
    gr = import_extra("app")
    import_extra("plots")
    answering = Answering(classify, index)
    # The folder's own name: where it lies on this machine is nobody's business.
    from .search import model_name

    name = os.path.basename(os.path.normpath(model_name(classify)))
    app = guarded_blocks(gr)(
        title="What happens in a video?", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)
    )
    with app:
        gr.HTML(heading_html(name), elem_classes="froster-html")
        with gr.Row():
            with gr.Column(min_width=320):
                asked, seconds = _add_questions(gr, examples)
            with gr.Column(min_width=320), gr.Tabs():
                _add_which(gr, answering, asked)
                _add_when(gr, answering, asked, seconds)
                _add_where(gr, answering, asked)
                if index is not None:
                    _add_search(gr, answering, asked)
    app.state_session_capacity = MOST_SESSIONS
    # Gradio would answer a question that is sent past the queue at once, beside all others.
    app.queue(max_size=MOST_WAITING, api_open=False)
    app._queue.pending_messages_per_session = SessionMessages(app._queue, MOST_SESSIONS)
    return app


def _add_questions(gr: Any, examples: Sequence[AppExample]) -> tuple[list[Any], list[Any]]:
    """What is asked: video, labels, multi-label, background and threshold; and the timeline's seconds."""
    video = gr.Video(label="Video", sources=["upload"], elem_id="froster-video", height=300)
    labels = gr.Textbox(
        label="Labels, one per line",
        placeholder="riding a bike\njuggling\nplaying the cello",
        lines=4,
        max_lines=12,
        max_length=LONGEST_LABELS,
        elem_id="froster-labels",
    )
    multi_label = gr.Checkbox(label="Each label for itself: several may occur, or none")
    with gr.Accordion("Settings", open=False):
        background = gr.Textbox(
            label="Background, one per line",
            info="What is not an answer. One label alone, and each label for itself, is compared with it.",
            lines=2,
            max_length=LONGEST_LABELS,
        )
        threshold = gr.Number(
            None, label="Threshold", info="Least score of an answer, from 0 to 1", minimum=0, maximum=1, step=0.05
        )
        names = (
            "Timeline: seconds per window",
            "Seconds from window to window",
            "Seconds that scores are averaged over",
        )
        seconds = [
            gr.Number(value, label=name, minimum=least, step=0.05)
            for name, value, least in zip(names, WINDOWS.values(), (0.1, 0.05, 0))
        ]
    if examples:
        gr.Examples(
            [
                [str(example.video), "\n".join(example.labels), *{**WINDOWS, **example.windows}.values()]
                for example in examples
            ],
            [video, labels, *seconds],
            example_labels=[printable(Path(example.video).stem.replace("_", " ")) for example in examples],
            cache_examples=False,
            api_visibility="private",
        )
    return [video, labels, multi_label, background, threshold], seconds


def _add_which(gr: Any, answering: "Answering", asked: list[Any]) -> None:
    with gr.Tab("Which?"):
        score = gr.Button("Score the labels", variant="primary", elem_id="froster-score")
        answers = _html(gr, "froster-answers", "Upload a video, write labels, and ask.")
        _add_endpoint(gr, "predict", answering.predict, asked, [gr.JSON(visible=False)])
    score.click(answering.show_answers, asked, answers, **PAGE_EVENT)


def _add_when(gr: Any, answering: "Answering", asked: list[Any], seconds: list[Any]) -> None:
    with gr.Tab("When?"):
        find = gr.Button("Draw the timeline", variant="primary", elem_id="froster-find")
        picture = _picture(gr, "Timeline", "froster-plot")
        segments = _html(gr, "froster-segments", "A row of the table takes the player there.", js_on_load=SEEK)
        _add_endpoint(gr, "timeline", answering.timeline, [*asked, *seconds], [gr.JSON(visible=False)])
    find.click(answering.show_timeline, [*asked, *seconds], [picture, segments], **PAGE_EVENT)


def _add_where(gr: Any, answering: "Answering", asked: list[Any]) -> None:
    video, labels = asked[:2]
    with gr.Tab("Where?"):
        label = gr.Dropdown(
            [], label="Label", info="Whose score is explained", allow_custom_value=True, interactive=True
        )
        method = gr.Radio(
            [("what speaks for the label", "gradient"), ("where information comes from", "rollout")],
            value="gradient",
            label="Map",
        )
        explain = gr.Button("Show where it looks", variant="primary", elem_id="froster-explain")
        movie = _picture(gr, "As a movie", "froster-movie", wide=False)
        strip = _picture(gr, "Frame by frame", "froster-strip")
        told = _html(gr, "froster-told")
        inputs = [video, label, labels, method]
        _add_endpoint(gr, "explain", answering.explain, inputs, [gr.Image(visible=False), gr.Image(visible=False)])
    labels.change(
        answering.choices,
        labels,
        label,
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    explain.click(answering.show_where, inputs, [movie, strip, told], **PAGE_EVENT)


def _add_search(gr: Any, answering: "Answering", asked: list[Any]) -> None:
    video = asked[0]
    with gr.Tab("Search"):
        words = gr.Textbox(label="What to look for", placeholder="a person opens a door", elem_id="froster-words")
        like = gr.Checkbox(label="Like the video on this page")
        top_k = gr.Number(NUM_FOUND, label="How many", minimum=1, maximum=100, precision=0)
        search = gr.Button("Search", variant="primary", elem_id="froster-search")
        found = _html(gr, "froster-found", "Looks for segments of the indexed videos.")
        _add_endpoint(gr, "search", answering.search, [words, video, top_k], [gr.JSON(visible=False)])
    search.click(answering.show_found, [words, like, video, top_k], found, **PAGE_EVENT)


def _add_endpoint(gr: Any, name: str, function: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
    """What programs ask: values in place of what is shown."""
    gr.Button(visible=False).click(function, inputs, outputs, api_name=name, **EVENT)


@contextlib.contextmanager
def served_app(
    classify: Any,
    *,
    index: Any = None,
    examples: Sequence[AppExample] = (),
    host: str = "127.0.0.1",
    port: int | None = None,
    max_megabytes: int = 512,
    share: bool = False,
    names: Sequence[str] = (),
) -> Iterator[str]:
    """Serves the app inside of a `with` block, which is given its address; uploads are deleted behind it.

    Args:
        classify: the zero-shot pipeline.
        index: folder or address of an index of the same model, to search in.
        examples: videos at hand.
        host: on which it listens; `0.0.0.0` is every network that this machine is in.
        port: by default the first free one from 7860 on.
        max_megabytes: size of an upload; all together have the room of 16 of this size.
        share: also give it a public address, by way of a server of Gradio's, for at most a week. Downloads Gradio's
            program for that.
        names: under which a reverse proxy on this machine gives it out. Where it listens on this machine alone, and is
            not shared, it answers to these, to `localhost` and to this machine's own addresses, and to no other name:
            a page of somebody else could give itself one that leads here.

    Raises:
        ImportError: Gradio or matplotlib is not installed.
        OSError: the port is taken.
    """
    import_extra("app")
    middleware = import_extra("app", "starlette.middleware")
    # Of forms that are refused; whoever sent one is told.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    with (
        tempfile.TemporaryDirectory(prefix="froster-app-") as folder,
        _environment(GRADIO_TEMP_DIR=folder),
        one_line_of_full_descriptors(),
        nothing_of_bad_requests(),
    ):
        app = build_app(classify, index=index, examples=examples)
        try:
            _, address, public = app.launch(
                server_name=host,
                server_port=port,
                share=share,
                max_file_size=max_megabytes * 2**20,
                state_session_capacity=MOST_SESSIONS,
                theme=page_theme(),
                css=CSS,
                footer_links=["api", "settings"],
                app_kwargs={
                    "middleware": [
                        middleware.Middleware(
                            GuardedServer,
                            max_upload_bytes=max_megabytes * 2**20,
                            folder=folder,
                            names=names if is_own_name(host) and not share else None,
                        )
                    ]
                },
                prevent_thread_lock=True,
                quiet=True,
                # Given, where Gradio would ask the environment or its own taste.
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                run_history=False,
                enable_monitoring=False,
            )
            yield public or address
        finally:
            app.close(verbose=False)


def launch_app(classify: Any, **options: Any) -> None:
    """Serves the app until the process is interrupted; says where on standard error.

    Args:
        classify: the zero-shot pipeline.
        options: as `served_app` takes them.

    Raises:
        ImportError: Gradio or matplotlib is not installed.
        OSError: the port is taken.
    """
    with served_app(classify, **options) as address:
        print(f"froster: the app is at {address} (Ctrl-C ends it)", file=sys.stderr, flush=True)  # noqa: T201
        while True:
            time.sleep(3600)


class Answering:
    """What the page and the API ask of a pipeline: the API gets values and errors, the page gets HTML of both.

    Args:
        classify: the zero-shot pipeline.
        index: folder or address of an index of the same model.

    Raises:
        SearchIndexError: there is no such index, or it is of another model.
    """

    def __init__(self, classify: Any, index: Any = None):
        self.classify = classify
        self.index: Any = None
        if index is not None:
            from .search import open_index

            self.index = open_index(index)
            self.index.check_model(classify)
        self._folders: deque[Path] = deque()

    def predict(
        self,
        video: str,
        labels: str,
        multi_label: bool = False,
        background: str | None = None,
        threshold: float | None = None,
    ) -> list[dict[str, Any]]:
        """Scores of labels (one per line) for a video, best first."""
        with _told(video):
            return self._answers(video, _options(labels, multi_label, background, threshold))

    def timeline(
        self,
        video: str,
        labels: str,
        multi_label: bool = False,
        background: str | None = None,
        threshold: float | None = None,
        window_seconds: float = WINDOWS["window_seconds"],
        stride_seconds: float = WINDOWS["stride_seconds"],
        smoothing_seconds: float = WINDOWS["smoothing_seconds"],
    ) -> dict[str, Any]:
        """Segments of a video with the labels (one per line) that hold in them."""
        with _told(video):
            options = _options(labels, multi_label, background, threshold)
            return self._timeline(video, options, window_seconds, stride_seconds, smoothing_seconds).outline()

    def explain(self, video: str, label: str, labels: str | None = None, method: str = "gradient") -> tuple[str, str]:
        """Which regions of a video a label's score looks at: a movie and a strip of all frames."""
        with _told(video):
            return self._pictures(video, label, labels, method)

    def search(
        self, words: str | None = None, video: str | None = None, top_k: int | None = NUM_FOUND
    ) -> list[dict[str, Any]]:
        """Segments of the indexed videos that show what the words say, or that are like a video, or both."""
        with _told(video):
            return [
                {
                    "video": os.path.basename(segment.video),
                    "start_seconds": segment.start_seconds,
                    "end_seconds": segment.end_seconds,
                    "score": segment.score,
                }
                for segment in self._found(words, video, top_k)
            ]

    def show_answers(
        self, video: str, labels: str, multi_label: bool, background: str | None, threshold: float | None
    ) -> str:
        """`predict` as a list with bars."""
        try:
            options = _options(labels, multi_label, background, threshold)
            answers = self._answers(video, options)
            options.pop("threshold", None)
            return answers_html(answers, compared_with=self.classify.scoring(**options).description)
        except EXPECTED as error:
            return error_html(_reason(error, video))

    def show_timeline(self, video: str, labels: str, *settings: Any) -> tuple[str | None, str]:
        """`timeline` as a picture and as a table whose rows take the player there."""
        from ..pipeline.timeline_files import write_timeline

        try:
            multi_label, background, threshold, *windows = settings
            timeline = self._timeline(video, _options(labels, multi_label, background, threshold), *windows)
            path = self._new_folder() / "timeline.png"
            write_timeline(timeline, path)
            return str(path), segments_html(timeline)
        except EXPECTED as error:
            return None, error_html(_reason(error, video))

    def show_where(
        self, video: str, label: str, labels: str | None, method: str
    ) -> tuple[str | None, str | None, str]:
        """`explain` as pictures, or why there are none."""
        try:
            return *self._pictures(video, label, labels, method), ""
        except EXPECTED as error:
            return None, None, error_html(_reason(error, video))

    def show_found(self, words: str | None, like: bool, video: str | None, top_k: int | None) -> str:
        """`search` as pictures with times and scores."""
        try:
            return found_html(self._found(words, _given(video) if like else None, top_k))
        except EXPECTED as error:
            return error_html(_reason(error, video))

    def choices(self, labels: str | None) -> Any:
        """The labels, to choose one from."""
        with _told(None):
            names = _lines(labels)
        return import_extra("app").Dropdown(choices=names, value=names[0] if names else None)

    def _found(self, words: str | None, video: str | None, top_k: int | None) -> list[Any]:
        from .search import SearchIndexError, search_videos

        # A field that somebody has emptied means the default.
        number = NUM_FOUND if top_k is None else top_k
        try:
            return search_videos(
                self.index,
                words,
                like=video,
                top_k=number,
                classify=self.classify,
                max_frames=MOST_TIMELINE_FRAMES,
            )
        except SearchIndexError as error:
            # It names the place of the index, which is for whoever runs the app.
            print_failure(error)
            raise ValueError("The index cannot be searched any more; the server's terminal says why.") from error

    def _answers(self, video: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self.classify(_given(video), **options))

    def _timeline(
        self, video: str, options: dict[str, Any], window: float | None, stride: float | None, smoothing: float | None
    ) -> Any:
        given = zip(WINDOWS.items(), (window, stride, smoothing))
        # A field that somebody has emptied means the default.
        seconds = {name: default if value is None else value for (name, default), value in given}
        _check_strides(**seconds)
        num_segments = 0

        def count(segment: Any) -> None:
            nonlocal num_segments
            num_segments += segment.cost
            if num_segments > MOST_SEGMENTS:
                raise ValueError(
                    f"There are more than {MOST_SEGMENTS} segments, or as much text in fewer: ask for fewer or "
                    "shorter labels, or raise the threshold."
                )

        return self.classify.timeline(
            _given(video), max_frames=MOST_TIMELINE_FRAMES, on_segment=count, **options, **seconds
        )

    def _new_folder(self) -> Path:
        """A folder among the uploads: Gradio shows files from there without a copy, and deletes them by age. Before it
        does, those of the oldest answers go: somebody may ask again and again."""
        uploads = import_extra("app", "gradio.utils").get_upload_folder()
        folder = Path(tempfile.mkdtemp(dir=make_folder(uploads, mode=0o700)))
        self._folders.append(folder)
        if len(self._folders) > MOST_PICTURES:
            shutil.rmtree(self._folders.popleft(), ignore_errors=True)
        return folder

    def _pictures(self, video: str, label: str, labels: str | None, method: str) -> tuple[str, str]:
        from ..evaluation.explaining import explain_video

        _given(video)
        if not (label or "").strip():
            raise ValueError("Choose a label whose score is explained.")
        explanation = explain_video(
            self.classify.model,
            self.classify.processor,
            video,
            label=label.strip(),
            candidate_labels=_lines(labels),
            output_dir=self._new_folder(),
            methods=[method],  # type: ignore[list-item]
        )
        return str(explanation.animations[method]), str(explanation.strips[method])


def _options(labels: str, multi_label: bool, background: str | None, threshold: float | None) -> dict[str, Any]:
    """What the pipeline is called with.

    Raises:
        ValueError: there are no labels, or too many.
    """
    names = _lines(labels)
    if not names:
        raise ValueError("Write at least one label, one per line.")
    options = {
        "candidate_labels": names,
        "background_labels": _lines(background) or None,
        "multi_label": multi_label or None,
        "threshold": threshold,
    }
    return {name: value for name, value in options.items() if value is not None}


def _check_strides(window_seconds: float, stride_seconds: float, smoothing_seconds: float) -> None:
    """Refuse to hold the frames or the scores of many windows at a time.

    Raises:
        ValueError: there are more than `MOST_STRIDES` strides in a window, or in what is averaged.
    """
    for name, value in (("window_seconds", window_seconds), ("smoothing_seconds", smoothing_seconds)):
        # Also where one of them is not a number.
        if not 0 <= value <= MOST_STRIDES * stride_seconds:
            raise ValueError(
                f"`{name}` is {value:g}; from 0 to {MOST_STRIDES} times the {stride_seconds:g} of `stride_seconds` "
                "are taken."
            )


def _lines(text: str | None) -> list[str]:
    if len(text or "") > LONGEST_LABELS:
        raise ValueError(f"The labels have {len(text or '')} characters; at most {LONGEST_LABELS} are taken.")
    lines = label_lines(text or "")
    if len(lines) > MOST_LABELS:
        raise ValueError(f"There are {len(lines)} labels; at most {MOST_LABELS} are taken at once.")
    return lines


def _given(video: str | None) -> str:
    if not video:
        raise ValueError("Upload a video first.")
    return video


@contextlib.contextmanager
def _told(video: str | None) -> Iterator[None]:
    """Errors for whoever asks the API; Gradio takes their message for HTML."""
    gr = import_extra("app")
    try:
        yield
    except EXPECTED as error:
        message = html.escape(_reason(error, video), quote=False)
        raise gr.Error(message, duration=None, print_exception=False) from error


def _reason(error: Exception, video: str | None) -> str:
    """An error as one line, without the folders of the server."""
    folders = [os.path.dirname(video)] if video else []
    return request_reason(error, *folders, import_extra("app", "gradio.utils").get_upload_folder())


def _html(gr: Any, elem_id: str, text: str | None = None, **options: Any) -> Any:
    return gr.HTML(text and note_html(text), elem_id=elem_id, elem_classes="froster-html", **options)


def _picture(gr: Any, name: str, elem_id: str, *, wide: bool = True) -> Any:
    """A picture that is shown; a wide one can be moved sideways on a small screen."""
    return gr.Image(
        label=name,
        show_label=False,
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id=elem_id,
        elem_classes="froster-wide" if wide else None,
    )


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
