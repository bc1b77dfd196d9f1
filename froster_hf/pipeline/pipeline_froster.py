"""`ZeroShotVideoClassificationPipeline`: a video and a list of action names in, scores out.

The end of the data flow, in transformers' own frame: `pipeline("zero-shot-video-classification", model=...)`. A plain
CLIP checkpoint works as well, or SigLIP's, or MetaCLIP 2's; it classifies every frame for itself and is the baseline
that FROSTER (arXiv 2402.03241) is measured against.

transformers' pipelines run three steps (`preprocess`, `forward`, `postprocess`) over a dataset, the first in worker
processes, the second on batches. Here an *entry* passes from step to step: a pair of the video's position in the call
and what is known of it, that is, pixels, then logits, or the error that stands in their place from then on. So a video
that cannot be read costs only itself.

Letters: B videos, V views (windows times crops), T frames, S pixels, K labels.
"""

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import CONFIG_MAPPING, PROCESSOR_MAPPING, AutoModelForVideoClassification, Pipeline
from transformers.utils.logging import get_logger, tqdm

from .scoring_froster import (
    LOGIT_FUNCTIONS,
    Answer,
    Calibration,
    LabelBanks,
    ScoreFunction,
    Scoring,
    check_finite,
    choose_scoring,
    fit_platt,
    has_arithmetic,
    join_banks,
    rank,
    whole_number,
)
from .timeline_froster import (
    MOST_BATCH_VALUES,
    MOST_WINDOW_FRAMES,
    ScoredWindow,
    SegmentFinder,
    Timeline,
    TimelineSegment,
    WindowStream,
    check_seconds,
    check_strides,
    collect_segments,
    contrast_segments,
    smooth_scores,
)

logger = get_logger(__name__)

# Longer lists show a progress bar on a terminal.
VIDEOS_WITHOUT_PROGRESS = 8

# Threads that read videos while the model computes; each keeps one decoding process busy.
NUM_READING_THREADS = 2
# The end of a program waits for what they do so long.
LONGEST_END_SECONDS = 2.0
# What reading or scoring one raises, also where its frames find no room in memory: those behind it are smaller.
ERRORS_OF_VIDEOS = (OSError, TypeError, ValueError, MemoryError)

OnError = Literal["raise", "return"]
# A list of names, or a mapping from name to one describing sentence or several; `FrosterProcessor.read_labels` takes
# more forms.
Labels = Sequence[str] | Mapping[str, str | Sequence[str] | None]

# What prompts are made of labels.
PROMPT_OPTIONS = ("templates", "hypothesis_template", "text_pooling")
# What labels are compared with, and how their logits become scores.
SCORING_OPTIONS = ("candidate_labels", "background_labels", "function_to_apply", "multi_label", *PROMPT_OPTIONS)
# What says how clips are scored, beside the labels.
SCORER_OPTIONS = ("threshold", *SCORING_OPTIONS[1:])
# The options of a call, by the step that takes them.
STEP_OPTIONS: dict[str, tuple[str, ...]] = {
    "preprocess": ("num_views", "num_crops", "num_frames", "on_error", "timeout"),
    "forward": SCORING_OPTIONS,
    "postprocess": (*SCORING_OPTIONS, "top_k", "threshold", "on_error"),
}
# Whole numbers from 1 on.
COUNTS = {"num_views", "num_crops", "num_frames", "top_k"}

# Position of a video among those of a call (`None` for a single one), and its tensor or its error.
Entry = tuple[int | None, Any]


class ZeroShotVideoClassificationPipeline(Pipeline):
    """Classifies videos by labels that are given as text.

    Example:

    ```python
    >>> import froster_hf
    >>> from transformers import pipeline

    >>> classify = pipeline("zero-shot-video-classification", model="visual-ai/froster-b16")  # doctest: +SKIP
    >>> classify("clip.mp4", candidate_labels=["chopping wood", "juggling"])  # doctest: +SKIP
    [{'score': 0.93, 'label': 'chopping wood'}, {'score': 0.07, 'label': 'juggling'}]
    ```"""

    _load_processor = True  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    processor: Any

    def __init__(self, model: Any, processor: Any = None, **kwargs: Any):
        if processor is None:
            raise ValueError(
                "The pipeline needs the checkpoint's processor. With a model that is loaded already, pass "
                "`processor=AutoProcessor.from_pretrained(...)`."
            )
        if model.config.model_type != "froster":
            model, processor = wrap_dual_encoder(model, processor)
        _check_sizes(model.config, processor.video_processor)
        _check_tokenizer(model.config, processor.tokenizer)
        self.processor = processor
        if (video_processor := processor.video_processor).is_random and video_processor.seed is None:
            logger.warning_once(
                "The checkpoint's video processor draws random numbers, as for training (sampling "
                f"{video_processor.sampling!r}, cropping {video_processor.cropping!r}): each time it reads a video, "
                "but for a timeline, the scores are others. For the same ones, store a `sampling` of 'uniform' or "
                "'dense' and the `cropping` 'center'."
            )
        super().__init__(model=model, processor=processor, **kwargs)
        # The type of the weights as they were given.
        self.stored_dtype: torch.dtype = model.dtype
        if self.device.type == "cpu" and not has_arithmetic(model.dtype):
            logger.warning_once(
                f"The weights are {model.dtype}, in which this processor has no arithmetic; the pipeline computes in "
                "float32, which is faster and holds them exactly."
            )
            model.float()

    def __call__(self, inputs: Any, candidate_labels: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Score videos.

        Args:
            inputs: a video in any form that `FrosterVideoProcessor` takes, a list of them, or a generator, iterator,
                dataset or dataset column of them, which is read as the answers are asked for. A generator gets on
                when what it has given is read; of the others, several are read side by side.
            candidate_labels: K class names, or a mapping from class name to a describing sentence or a list of
                several, from index to name or from name to index (`FrosterProcessor.read_labels` tells them apart).
                May be left out for a model that has stored labels (`set_labels`).
            hypothesis_template: one prompt template with `{}` for the label, or
            templates: a list of templates, or a named set (`froster`, `actionclip`, `single`, `none`); by default
                those of the checkpoint.
            text_pooling: how several sentences about a label are combined: `mean` of their embeddings, or `max`, the
                highest of their scores; by default as the checkpoint says.
            top_k: best labels to report; all by default.
            multi_label: score each label for itself, for videos in which several occur or none. It is compared with
                the background: `background_labels`, or else the checkpoint's own. Where the processor has a
                calibration, scores are the probabilities that it was fitted for. One label alone is always scored so.
            function_to_apply: `softmax` (default) over the labels, `none` for logits, `sigmoid` for each label, of
                checkpoints that are calibrated or were trained so, or `evidence`: the log odds of each label against
                the background, to which `calibrate` fits.
            num_views: windows of frames per video; their scores are averaged.
            num_crops: crops of each window; their scores are averaged, too.
            num_frames: frames per window, by default those of the checkpoint.
            background_labels: things that are not an answer. They compete with the labels, and what they win is
                reported as "none of these". One label alone is compared with those of the checkpoint by default,
                which "none of these" then lists as its `background`.
            threshold: labels that score less are left out; where none remains, the answer is "none of these", with
                the score `None` unless there is a background that has one.
            on_error: what becomes of a video that cannot be read or scored. `raise` (default) raises its error, which
                says which video it is; an iterator of answers can be read on after that. `return` gives the error in
                the place of the video's answers, so that there are as many results as videos.
            timeout: seconds that reading one video may take, in place of the video processor's limit.
            batch_size: videos that go through the model together.
            num_workers: processes that read videos ahead. By default two threads do, or one for a generator, which is
                enough as long as decoding, which is done in processes of its own, takes longer than resizing.

        Returns:
            A list of `{"score", "label"}`, best first, for one video; a list of such lists for a list of videos; an
            iterator of them for anything that is read lazily.

        Raises:
            VideoDecodeError: a video cannot be read; names it.
            ValueError: labels or options are wrong, or a video's scores are not finite.
            TypeError: an unknown option, or a value of another type.
        """
        if candidate_labels is not None:
            kwargs["candidate_labels"] = candidate_labels
        video_processor = self.processor.video_processor
        inputs = video_processor.without_video_decoding(inputs)
        videos = several_videos(inputs, video_processor)
        if videos is None:
            # A list of frames is one video; the base class would take it for a list of videos.
            return super().__call__(tuple(inputs) if isinstance(inputs, list) else inputs, **kwargs)
        answers = super().__call__(videos, **kwargs)
        if isinstance(videos, VideoStream) or not isinstance(inputs, list | tuple | np.ndarray | torch.Tensor):
            return answers
        hidden = True if len(videos) <= VIDEOS_WITHOUT_PROGRESS else None
        return list(tqdm(answers, total=len(videos), desc="Classifying", unit="video", disable=hidden))

    def get_iterator(
        self, inputs, num_workers: int, batch_size: int, preprocess_params, forward_params, postprocess_params
    ):
        """Run the three steps, the first ahead of the others, unless it draws random numbers in turn."""
        batch_size = whole_number("batch_size", batch_size, least=1)
        num_workers = whole_number("num_workers", num_workers, least=0)
        ahead: dict[type, Any] = {VideoSequence: SequenceAhead, VideoStream: StreamAhead}
        if num_workers == 0 and type(inputs) in ahead and not self.processor.video_processor.is_random:
            read = partial(self.preprocess, **preprocess_params)
            inputs = ahead[type(inputs)](inputs, read, max(NUM_READING_THREADS, batch_size))
        self.processor.video_processor.check_queues_of_workers(num_workers)
        answers = super().get_iterator(
            inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
        )
        if num_workers > 0 and sys.platform == "linux":
            # transformers' workers hold local functions, which only forked processes can have; before Python 3.14,
            # forking was the default.
            answers.loader.loader.multiprocessing_context = "fork"
        return answers

    def _sanitize_parameters(
        self, *, hypothesis_template: str | None = None, tokenizer_kwargs: Any = None, **options: Any
    ) -> tuple[dict[str, Any], ...]:
        """Sort the options of the constructor or a call into the three steps; `None` means not given."""
        given = {name: value for name, value in options.items() if value is not None}
        if tokenizer_kwargs:
            raise ValueError(
                f"`tokenizer_kwargs` is {dict(tokenizer_kwargs)}, but how prompts are tokenized is up to the "
                "checkpoint: padded to the longest of them, and refused where they are too long. Leave it out."
            )
        if hypothesis_template is not None:
            if "templates" in given:
                raise ValueError(
                    "Give `hypothesis_template`, one template, or `templates`, a list or a set; not both."
                )
            given["templates"] = [hypothesis_template]
        _check_options(given)
        for name in COUNTS & given.keys():
            given[name] = whole_number(name, given[name], least=1)
        # A threshold that the pipeline was built with is one of scores; a call for logits does without it.
        without = ("threshold",) if given.get("function_to_apply") in LOGIT_FUNCTIONS else ()
        # Read here once for all videos: a generator can be read only once, and a long list takes its time.
        if "candidate_labels" in given:
            given["candidate_labels"] = self.processor.read_labels(given["candidate_labels"])
        if "background_labels" in given:
            given["background_labels"] = self._read_background(given["background_labels"])
        return tuple(
            {name: given.get(name) for name in names if given.get(name) is not None or name in without}
            for names in STEP_OPTIONS.values()
        )

    def _read_background(self, background_labels: Any) -> Any:
        """`FrosterProcessor.read_labels`; `None` for an empty list."""
        is_empty = isinstance(background_labels, Sequence | Mapping) and not background_labels
        return None if background_labels is None or is_empty else self.processor.read_labels(background_labels)

    def preprocess(  # type: ignore[override]
        self, input_: Any, *, on_error: OnError = "raise", timeout: float | None = None, **options: Any
    ) -> dict[str, Any]:
        """One video to an entry with its pixels (V, T, 3, S, S), or with the error for which there are none.

        A future holds such an entry.
        """
        if isinstance(input_, Future):
            return input_.result()
        position, video = input_ if isinstance(input_, NumberedVideo) else (None, input_)
        video_processor = self.processor.video_processor
        if timeout is not None:
            options["video_limits"] = {**(video_processor.video_limits or {}), "timeout_seconds": timeout}
        try:
            inputs = video_processor.share_batch(video_processor([video], return_tensors="pt", **options))
        except ERRORS_OF_VIDEOS as error:
            if position is None and on_error == "raise":
                raise
            return {"entries": (position, without_traceback(error))}
        return {"entries": (position, inputs["pixel_values_videos"])}

    def _forward(  # type: ignore[override]
        self,
        input_tensors: dict[str, Any],
        *,
        templates: Sequence[str] | str | None = None,
        text_pooling: str | None = None,
        **labels: Any,
    ) -> dict[str, Any]:
        """Entries with pixels (V, T, 3, S, S) to entries with logits (V, K + M), those of the background last."""
        background = self.scoring(**labels, templates=templates, text_pooling=text_pooling).background
        bank = self.label_embeds(
            labels.get("candidate_labels"),
            background_labels=labels.get("background_labels") or background,
            templates=templates,
            text_pooling=text_pooling,
        )

        def classify(pixels: torch.Tensor) -> torch.Tensor:
            clips = pixels.flatten(0, 1).to(self.dtype)
            outputs = self.model(pixel_values_videos=clips, text_embeds=bank, return_dict=True)
            logits = outputs.logits if "logits" in outputs else outputs.logits_per_video  # of a `FrosterModel`
            return logits.unflatten(0, pixels.shape[:2])

        return {"entries": map_tensors(list_entries(input_tensors), classify)}

    @property
    def model(self) -> Any:
        """The model that answers; another, compiled or wrapped one may be put in its place."""
        return self._model

    @model.setter
    def model(self, model: Any) -> None:
        self._model = model
        self.label_banks = LabelBanks(self.processor, getattr(model, "froster", model))

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: dict[str, Any],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        on_error: OnError = "raise",
        **labels: Any,
    ) -> list[Answer] | Exception:
        """An entry with the logits (V, K + M) of one video to its answers; its error is raised or handed on."""
        scoring = self.scoring(**labels)
        scoring.check_threshold(threshold)
        [(position, content)] = list_entries(model_outputs)
        try:
            if isinstance(content, Exception):
                raise content
            check_finite(content)
        except ERRORS_OF_VIDEOS as error:
            if on_error == "return":
                return without_traceback(error)
            raise error_of(error, position) from None
        return rank(
            scoring.score_views(content),
            self.label_names(labels.get("candidate_labels")),
            top_k=top_k,
            threshold=threshold,
            background=scoring.background if scoring.is_own else (),
        )

    def scoring(
        self,
        candidate_labels: Any = None,
        *,
        background_labels: Any = None,
        function_to_apply: ScoreFunction | None = None,
        multi_label: bool = False,
        **prompts: Any,
    ) -> Scoring:
        """How a call with these arguments turns logits into scores, and what it compares the labels with.

        Its `description` says so in one line. A calibration holds for the processor's own prompts, and is not taken
        with others (`templates`, `hypothesis_template`, `text_pooling`).

        Raises:
            ValueError: see `choose_scoring`.
        """
        has_own_prompts = all(prompts.get(name) is None for name in PROMPT_OPTIONS)
        stored = self.processor.calibration if has_own_prompts else None
        background = self._read_background(background_labels)
        return choose_scoring(
            self.label_names(candidate_labels),
            function_to_apply=function_to_apply,
            multi_label=multi_label,
            background=None if background is None else background.names,
            own_background=self.processor.background_labels,
            calibration=None if stored is None else Calibration.from_dict(stored),
            has_own_sigmoid=self.label_banks.model.config.backbone_entry.has_calibrated_sigmoid,
        )

    def label_names(self, candidate_labels: Any = None) -> list[str]:
        """The K labels of a call: those given, in any form that a call takes, or those stored in the model.

        Raises:
            ValueError: there are neither.
        """
        if candidate_labels is not None:
            return list(self.processor.read_labels(candidate_labels).names)
        # The base model has no place for embeddings of labels, whatever its configuration names.
        id2label = self.model.config.id2label if hasattr(self.model, "stored_label_embeds") else {}
        if not id2label:
            raise ValueError(
                "Give `candidate_labels`, the list of actions to choose from; this checkpoint has no stored labels."
            )
        # By index: a configuration's file need not list them in order.
        return [id2label[index] for index in range(len(id2label))]

    def label_embeds(
        self,
        candidate_labels: Any = None,
        *,
        background_labels: Any = None,
        templates: Sequence[str] | str | None = None,
        text_pooling: str | None = None,
    ) -> torch.Tensor:
        """Embeddings (K, D) of the labels, those of the background behind them; kept from call to call.

        With `text_pooling="max"` and several sentences about a label, (K, S, D); a model takes both as `text_embeds`.

        Raises:
            ValueError: there are no labels, names without embeddings, or templates or a pooling for labels whose
                embeddings are stored in the model.
        """
        prompts: dict[str, Any] = {"templates": templates, "text_pooling": text_pooling}
        if candidate_labels is not None:
            embeds = self.label_banks.get(self.processor.read_labels(candidate_labels), **prompts)
        else:
            self.label_names()
            for option, value in (("templates` or `hypothesis_template", templates), ("text_pooling", text_pooling)):
                if value is not None:
                    raise ValueError(
                        f"`{option}` is {value!r}, but without `candidate_labels` the embeddings that are stored in "
                        "the checkpoint are used, whose prompts are fixed. Give the labels too, or leave it out."
                    )
            embeds = self.model.stored_label_embeds()
        read_background = self._read_background(background_labels)
        if read_background is None:
            return embeds
        return join_banks(embeds, self.label_banks.get(read_background, **prompts))

    def timeline(
        self,
        video: Any,
        candidate_labels: Labels | None = None,
        *,
        window_seconds: float = 4.0,
        stride_seconds: float = 2.0,
        smoothing_seconds: float = 4.0,
        min_segment_seconds: float = 0.0,
        num_frames: int | None = None,
        batch_size: int = 8,
        num_thumbnails: int = 8,
        max_frames: int = MOST_WINDOW_FRAMES,
        on_segment: Callable[[TimelineSegment], None] | None = None,
        **options: Any,
    ) -> Timeline:
        """Find what happens when in a long video, which is read once, as a stream.

        Args:
            video: a path, URL, bytes or open binary file.
            candidate_labels: K class names, or a mapping from class name to a describing sentence or several.
            window_seconds: length of a window, which is classified as a video of its own.
            stride_seconds: from the start of one window to that of the next.
            smoothing_seconds: scores are averaged over the windows whose centers lie within half of it, at most 1,000
                strides; 0 switches it off.
            min_segment_seconds: shorter segments go to a neighbor, or with each label for itself are left out.
            num_frames: frames per window; by default the checkpoint's.
            batch_size: windows that go through the model together.
            num_thumbnails: frames kept for a plot.
            max_frames: frames of all windows together; a video whose windows have more is not read.
            on_segment: called with each segment as soon as nothing that follows can change it, before its `contrast`
                is known.
            options: `threshold`, `background_labels`, `templates`, `hypothesis_template`, `text_pooling`,
                `function_to_apply` and `multi_label`, as when the pipeline is called. Windows in which a label scores
                less than `threshold` do not show it; with each label for itself, it is by default that of the
                calibration, or 0.5, and segments may overlap.

        Raises:
            VideoDecodeError: the video cannot be read.
            ValueError: labels or options are wrong, scores are not finite, or there are more segments than are held.
        """
        check_seconds(smoothing_seconds=smoothing_seconds, min_segment_seconds=min_segment_seconds)
        scorer = ClipScorer(self, candidate_labels, **options)
        stream = WindowStream(
            self.processor.video_processor,
            video,
            window_seconds=window_seconds,
            stride_seconds=stride_seconds,
            num_frames=self.frames_per_window(num_frames),
            num_thumbnails=num_thumbnails,
            max_frames=max_frames,
        )
        check_strides(stride_seconds, smoothing_seconds=smoothing_seconds)
        finder = scorer.segment_finder(min_segment_seconds)
        scored = smooth_scores(_score_windows(stream, scorer, batch_size), smoothing_seconds)
        scores, segments = collect_segments(scored, finder, on_segment=on_segment)
        return Timeline(
            labels=scorer.labels,
            start_seconds=stream.start_seconds,
            duration_seconds=stream.duration_seconds,
            windows=stream.windows,
            scores=scores,
            segments=contrast_segments(segments, scorer.labels, stream.windows, scores),
            thumbnails=stream.thumbnails,
            threshold=finder.threshold,
            multi_label=finder.multi_label,
            compared_with=scorer.scoring.description,
            name=os.path.basename(video) if isinstance(video, str | os.PathLike) else None,
        )

    def frames_per_window(self, num_frames: int | None = None) -> int:
        """The number that is given here, else to the constructor, else the checkpoint's.

        Raises:
            ValueError: a number below 1, or frames that no memory holds, or no model of this size computes, as a
                protocol, a checkpoint or an index may ask for.
        """
        preprocess, _, _ = self._sanitize_parameters(num_frames=num_frames)
        video_processor = self.processor.video_processor
        found = {**self._preprocess_params, **preprocess}.get("num_frames", video_processor.num_frames)
        most = MOST_BATCH_VALUES // (3 * self.model.config.vision_config.image_size**2)
        if found > most:
            raise ValueError(f"`num_frames` is {found}; a window of this checkpoint has at most {most} frames.")
        self.model.config.costs(found).check()
        return found

    def calibrate(
        self,
        videos: Any,
        targets: Sequence[Sequence[str]] | torch.Tensor,
        candidate_labels: Any = None,
        *,
        background_labels: Any = None,
        **options: Any,
    ) -> Calibration:
        """Fit the probabilities of `multi_label` to a list of labeled videos, and keep them in the processor.

        Use a list that the checkpoint was not trained on, and save the processor afterwards. The background goes into
        the calibration: by default the checkpoint's own, or none where it has none.

        Args:
            videos: n videos, or one, in any form that a call takes.
            targets: for each video the names of the labels in it, or (n, K), true for those.
            candidate_labels: K labels, as in a call.
            background_labels: as in a call.
            options: further options of a call, such as `num_views` or `batch_size`.

        Raises:
            VideoDecodeError: a video cannot be read.
            ValueError: see `fit_platt`; a target that is none of the labels, or another number of targets than videos;
                templates or a pooling of texts, here or where the pipeline was built: what the processor keeps holds
                for its own.
        """
        for option in PROMPT_OPTIONS:
            if (found := options.get(option, self._forward_params.get(option))) is not None:
                raise ValueError(
                    f"`{option}` is {found!r}, but a calibration is kept in the processor and holds for its "
                    "prompts. Give the processor these (`prompt_templates`, `text_pooling`), and leave it out here."
                )
        given = {"candidate_labels": candidate_labels, "background_labels": background_labels}
        # What the pipeline was built with stands in for what is left out, as in a call.
        call = {name: self._forward_params.get(name) if labels is None else labels for name, labels in given.items()}
        call |= {"function_to_apply": "evidence", "multi_label": False}
        names = self.label_names(call["candidate_labels"])
        video_processor = self.processor.video_processor
        if several_videos(video_processor.without_video_decoding(videos), video_processor) is None:
            videos = [videos]
        rows = []
        for answers in self(videos, **{**options, **call, "on_error": "raise", "top_k": len(names)}):
            evidence = {answer["label"]: answer["score"] for answer in answers}
            rows.append([evidence[name] for name in names])
        background = self.scoring(**call).background
        present = _present(targets, names)
        if len(present) != len(rows):
            raise ValueError(f"There are {len(rows)} videos and targets for {len(present)} of them.")
        calibration = fit_platt(torch.tensor(rows), present, background_labels=background)
        self.processor.calibration = calibration.to_dict()
        return calibration

    def clear_label_bank(self) -> None:
        """Forget the embeddings of all label lists; they are computed again when they are next asked for.

        Needed only where weights are written behind torch's back, through `parameter.data` (as PEFT's
        `merge_and_unload` does) or a NumPy view: training, loading, moving and switching adapters are noticed.
        """
        self.label_banks.clear()

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model, the processor, and the code of both and of this pipeline.

        The base class forgets the processor.
        """
        # transformers hands `dtype` on to the tokenizer, which could not be written with it.
        self.processor.tokenizer.init_kwargs.pop("dtype", None)
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class ClipScorer:
    """Scores clips that are videos of their own, such as the windows of a timeline, against one list of labels.

    Args:
        classify: the pipeline.
        candidate_labels: K labels, as in a call.
        options: of a call, those of `SCORER_OPTIONS`. Where each label is scored for itself, the `threshold` is by
            default that of the calibration, or 0.5.

    Attributes:
        labels: the K names.
        scoring: how their logits become scores.

    Raises:
        TypeError: another option.
        ValueError: labels or options are wrong.
    """

    def __init__(self, classify: ZeroShotVideoClassificationPipeline, candidate_labels: Any = None, **options: Any):
        if others := sorted(set(options) - set(SCORER_OPTIONS)):
            raise TypeError(f"There is no option `{others[0]}` here; there are {', '.join(SCORER_OPTIONS)}.")
        _, forward, postprocess = classify._sanitize_parameters(candidate_labels=candidate_labels, **options)
        self._classify = classify
        self._forward = {**classify._forward_params, **forward}
        self.labels = classify.label_names(self._forward.get("candidate_labels"))
        self.scoring = classify.scoring(
            **{name: self._forward[name] for name in SCORING_OPTIONS if name in self._forward}
        )
        given = {**classify._postprocess_params, **postprocess}
        self.scoring.check_threshold(given.get("threshold"))
        self._threshold = given.get("threshold", self.scoring.default_threshold)

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips (b, T, 3, S, S) to scores (b, K), or (b, K + 1) where "none of these" has one, on the CPU.

        Raises:
            ValueError: logits that are not finite.
        """
        entries: list[Entry] = [(None, clip[None]) for clip in clips]
        outputs = list_entries(self._classify.forward({"entries": entries}, **self._forward))
        logits = torch.cat([views for _, views in outputs])
        check_finite(logits)
        return self.scoring.scores(logits).cpu()

    def segment_finder(self, min_segment_seconds: float) -> SegmentFinder:
        """Makes segments of windows with these scores."""
        return SegmentFinder(
            self.labels,
            threshold=self._threshold,
            min_segment_seconds=min_segment_seconds,
            multi_label=self.scoring.function == "sigmoid",
        )


def _score_windows(stream: WindowStream, scorer: ClipScorer, batch_size: int) -> Iterator[ScoredWindow]:
    """The windows of a stream with their scores."""
    position = 0
    with tqdm(desc="Classifying", unit="window", disable=None) as progress:
        for clips, counts in take_ahead(stream.batches(batch_size), 1):
            batch_scores = scorer(clips)
            progress.total = len(stream.windows)
            progress.update(sum(counts))
            for scores, count in zip(batch_scores, counts):
                yield from ((window, scores) for window in stream.windows[position : position + count])
                position += count


def _check_options(given: Mapping[str, Any]) -> None:
    """Refuse options of a call that no step takes, and values that cannot be.

    Raises:
        TypeError: an unknown option, or a value of another type.
        ValueError: a value that the option does not take.
    """
    known = sorted({name for names in STEP_OPTIONS.values() for name in names})
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"The pipeline has no option `{unknown[0]}`; it has {', '.join(known)}.")
    functions = get_args(ScoreFunction)
    if given.get("function_to_apply", functions[0]) not in functions:
        raise ValueError(
            f"`function_to_apply` is {given['function_to_apply']!r}; it must be one of "
            f"{', '.join(map(repr, functions))}."
        )
    # Text would count as true, "no" as well.
    if not isinstance(given.get("multi_label", False), int | np.bool_):
        raise TypeError(f"`multi_label` is {given['multi_label']!r:.100}; it must be True or False.")
    if given.get("on_error", "raise") not in get_args(OnError):
        raise ValueError(f"`on_error` is {given['on_error']!r}; it must be 'raise' or 'return'.")


def _present(targets: Any, labels: Sequence[str]) -> torch.Tensor:
    """(n, K), true where a label is in a video, from such a tensor or from the names of those that are.

    Raises:
        ValueError: a name that is none of the labels.
    """
    if isinstance(targets, torch.Tensor):
        return targets.bool()
    index = {label: position for position, label in enumerate(labels)}
    present = torch.zeros(len(targets), len(labels), dtype=torch.bool)
    for row, names in enumerate(targets):
        for name in [names] if isinstance(names, str) else names:
            if name not in index:
                raise ValueError(f"Video {row}, counted from 0, has the target {name!r}, which is none of the labels.")
            present[row, index[name]] = True
    return present


def _check_sizes(config: Any, video_processor: Any) -> None:
    """Refuse a processor that makes frames of another size than its model sees (both files say it), or endless clips.

    Numbers of frames may differ: the processor's counts, and a model whose weights are tied to one refuses others.
    """
    video_processor.refuse_other_pictures(config.vision_config.image_size)
    num_clips = video_processor.num_views * video_processor.num_crops
    config.costs(video_processor.num_frames).check(num_clips=num_clips)


def _check_tokenizer(config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer whose tokens the text tower does not have, or after which it does not read."""
    text = config.text_config
    if type(tokenizer.model_max_length) is not int or tokenizer.pad_token_id is None:
        raise ValueError(
            f"The tokenizer has the `model_max_length` {tokenizer.model_max_length!r:.100} and the `pad_token` "
            f"{tokenizer.pad_token!r:.100}; a number and a token are needed. Load the tokenizer of this "
            "model's checkpoint."
        )
    if len(tokenizer) > text.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens, and the model {text.vocab_size}. Load the tokenizer of this "
            "model's checkpoint."
        )
    end = config.end_token_id
    if end is not None and tokenizer.eos_token_id != end:
        raise ValueError(
            f"The tokenizer ends texts with token {tokenizer.eos_token_id}, and the model reads them at {end}. Load "
            "the tokenizer of this model's checkpoint."
        )
    pads = config.backbone_entry.pad_tokens
    if pads and tokenizer.pad_token not in pads:
        raise ValueError(
            f"The tokenizer fills texts up with {tokenizer.pad_token!r:.100}, and the text tower reads its padding, "
            f"which is {' or '.join(pads)}. Load the tokenizer of this model's checkpoint."
        )


# The videos of a call.


class NumberedVideo(NamedTuple):
    """A video and its position among those of a call."""

    position: int
    video: Any


class VideoSequence(Dataset):
    """Videos that are read by index: those of a list, of a dataset or of a dataset's column."""

    def __init__(self, videos: Any):
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> NumberedVideo:
        return NumberedVideo(index, self.videos[index])


class VideoStream(IterableDataset):
    """Videos that can only be read from start to end: those of a generator, or of a streaming dataset."""

    def __init__(self, videos: Any):
        self.videos = videos

    def __iter__(self) -> Iterator[NumberedVideo]:
        return (NumberedVideo(position, video) for position, video in enumerate(self.videos))


def several_videos(inputs: Any, video_processor: Any) -> VideoSequence | VideoStream | None:
    """The inputs of a call as a dataset of numbered videos; `None` for a single video.

    Args:
        inputs: a video, a list or array of them, or what is read as the answers are asked for: a generator, iterator,
            dataset, or column of a dataset.
        video_processor: knows a single video from a batch.
    """
    if isinstance(inputs, Dataset):
        return VideoSequence(inputs) if hasattr(inputs, "__len__") else VideoStream(inputs)
    if isinstance(inputs, list | tuple | np.ndarray | torch.Tensor):
        return None if video_processor.is_single_video(inputs) else VideoSequence(inputs)
    if isinstance(inputs, str | bytes | bytearray | memoryview | Mapping):
        return None
    if isinstance(inputs, Sequence):
        # A column of a `datasets` table, and anything else with a length that is read by index.
        return VideoSequence(inputs)
    # An open file and a video decoder can be iterated over, too.
    is_video = hasattr(inputs, "read") or hasattr(inputs, "get_frames_at")
    return VideoStream(inputs) if isinstance(inputs, Iterable) and not is_video else None


def list_entries(step: dict[str, Any]) -> list[Entry]:
    """The entries that a step gets: transformers passes a single one as it is, and those of a batch as a list."""
    entries = step["entries"]
    return entries if isinstance(entries, list) else [entries]


def map_tensors(entries: Sequence[Entry], function: Callable[[torch.Tensor], torch.Tensor]) -> list[Entry]:
    """Entries whose tensors have gone through `function` as one batch; errors stay in their places."""
    tensors = [content for _, content in entries if isinstance(content, torch.Tensor)]
    results = iter(function(torch.stack(tensors))) if tensors else iter(())
    return [
        (position, next(results) if isinstance(content, torch.Tensor) else content) for position, content in entries
    ]


def without_traceback(error: Exception) -> Exception:
    """An error that is kept: a traceback, its own or of another behind it, would keep a video's frames, file and
    connection as long."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def error_of(error: Exception, position: int | None) -> Exception:
    """A video's error with the position of the video in its message."""
    if position is not None and not isinstance(error, OSError):
        error.args = (
            f"Video {position} of the call, counted from 0: {error} (`on_error='return'` gives the answers of the "
            "other videos, and each error in its place.)",
        )
    return error


def wrap_dual_encoder(dual_encoder: Any, processor: Any) -> tuple[Any, Any]:
    """A plain CLIP, SigLIP or MetaCLIP 2 and its processor as a FROSTER model without a temporal module, with the same
    weights.

    The classes are those that are registered with transformers: this file also runs in a checkpoint's folder, where
    there is no package to import them from.

    Raises:
        RuntimeError: froster_hf has not been imported.
        ValueError: a model of another type.
    """
    if "froster" not in CONFIG_MAPPING:
        raise RuntimeError("Plain checkpoints such as CLIP's need the installed package: `import froster_hf` first.")
    config_class: Any = CONFIG_MAPPING["froster"]
    config = config_class.from_dual_encoder_config(dual_encoder.config, temporal_module="none")
    model = AutoModelForVideoClassification.from_config(
        config, dtype=dual_encoder.dtype, attn_implementation=dual_encoder.config._attn_implementation
    )
    model.froster.load_state_dict(dual_encoder.state_dict())
    if hasattr(processor, "image_processor"):
        processor_class: Any = PROCESSOR_MAPPING[config_class]
        processor = processor_class.from_dual_encoder_processor(processor, config)
    return model.to(dual_encoder.device).eval(), processor


# Reading ahead.


class SequenceAhead(Dataset):
    """A `VideoSequence` read ahead: the future of a video's entry at its index, and the next ones under way."""

    def __init__(self, videos: VideoSequence, read: Callable[[NumberedVideo], Any], num_ahead: int):
        self.videos, self.read, self.num_ahead = videos, read, num_ahead
        self._threads = ReadingThreads(NUM_READING_THREADS)
        self._futures: dict[int, Future] = {}
        # Somebody's data set need not bear being read by two threads at once.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Future:
        for following in range(index, min(index + self.num_ahead + 1, len(self))):
            if following not in self._futures:
                self._futures[following] = self._threads.submit(self._read, following)
        return self._futures.pop(index)

    def _read(self, index: int) -> Any:
        with self._lock:
            video = self.videos[index]
        return self.read(video)


class StreamAhead(IterableDataset):
    """A `VideoStream` read ahead: futures of the videos' entries, in order.

    A video is asked for when the one before it has been read, since a generator may fill one array, or write one file,
    for all of them, and may close or delete what it has given.
    """

    def __init__(self, videos: VideoStream, read: Callable[[NumberedVideo], Any], num_ahead: int):
        self.videos, self.read, self.num_ahead = videos, read, num_ahead

    def __iter__(self) -> Iterator[Future]:
        return take_ahead(self._entries(), self.num_ahead)

    def _entries(self) -> Iterator[Future]:
        threads = ReadingThreads(1)
        for video in self.videos:
            future = threads.submit(self.read, video)
            yield future
            future.exception()


class CallsUnderWay:
    """What daemon threads do now, which the end of the program waits for a little.

    A thread that comes back from torch, be it to free a tensor, after Python has ended would abort the process.
    """

    def __init__(self):
        self._changed, self._number, self._is_over = threading.Condition(), 0, False

    def __enter__(self) -> None:
        with self._changed:
            if self._is_over:
                sys.exit()  # of the thread
            self._number += 1

    def __exit__(self, *error: Any) -> None:
        with self._changed:
            self._number -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Wait for those under way; no other one begins."""
        with self._changed:
            self._is_over = True
            self._changed.wait_for(lambda: not self._number, timeout=LONGEST_END_SECONDS)


calls_under_way = CallsUnderWay()
atexit.register(calls_under_way.end)
if hasattr(os, "register_at_fork"):
    # The threads of a process that was forked are not in the new one.
    os.register_at_fork(after_in_child=calls_under_way.__init__)  # type: ignore[misc]


class ReadingThreads:
    """Threads that read videos; the decoding processes that they wait for do the work.

    Daemons, unlike those of `concurrent.futures`: an interrupted program does not wait for what is being read.

    Args:
        count: how many.
    """

    def __init__(self, count: int):
        self._tasks: SimpleQueue[tuple[Future, Callable[[], Any]] | None] = SimpleQueue()
        for _ in range(count):
            threading.Thread(target=_work, args=(self._tasks,), name="video-reading", daemon=True).start()
        weakref.finalize(self, _end_work, self._tasks, count)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Have a thread call a function; its result or error is the future's."""
        future: Future = Future()
        self._tasks.put((future, partial(function, *arguments)))
        return future


def _work(tasks: SimpleQueue) -> None:
    while (task := tasks.get()) is not None:
        with calls_under_way:
            future, call = task
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            # Nothing that was read is kept while the thread waits.
            del task, future, call


def _end_work(tasks: SimpleQueue, count: int) -> None:
    for _ in range(count):
        tasks.put(None)


def take_ahead(items: Iterable[Any], num_ahead: int) -> Iterator[Any]:
    """The items of an iterable, in order, which a thread takes from it while those before them are used.

    Args:
        items: any iterable; an error that it raises is raised in its place.
        num_ahead: items that are taken beyond the one in use.
    """
    taken: SimpleQueue[tuple[Any, BaseException | None] | None] = SimpleQueue()
    room, is_abandoned = threading.Semaphore(num_ahead), threading.Event()

    def take(given: list[Iterator[Any]]) -> None:
        iterator = given.pop()
        try:
            while room.acquire() and not is_abandoned.is_set():
                with calls_under_way:
                    taken.put((next(iterator), None))
        except StopIteration:
            taken.put(None)
        except BaseException as error:
            taken.put((None, error))
        # With what it holds.
        with calls_under_way:
            del iterator

    threading.Thread(target=take, args=([iter(items)],), name="video-taking", daemon=True).start()
    del items
    try:
        while (item_or_error := taken.get()) is not None:
            room.release()
            item, error = item_or_error
            if error is not None:
                raise error
            yield item
    finally:
        is_abandoned.set()
        room.release()
