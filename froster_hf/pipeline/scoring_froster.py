"""From label embeddings to answers: the label bank of a list, scores of labels, views and windows, "none of these".

The zero-shot pipeline asks the bank for the embeddings of its labels, compares videos with them, and turns the logits
into answers. Labels are written, tokenized and encoded a chunk at a time, so that ten thousand of them need no more
memory than a chunk and the K embeddings; a list that was seen before is not encoded again.

Letters: V views, n windows, K labels, M background labels, P prompts per label, D the joint embedding width.
"""

import math
import numbers
import operator
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakTensorKeyDictionary

ScoreFunction = Literal["softmax", "sigmoid", "evidence", "none"]
# Those whose scores are not between 0 and 1.
LOGIT_FUNCTIONS: tuple[ScoreFunction, ...] = ("none", "evidence")
Answer = dict[str, Any]

NONE_OF_THESE = "none of these"
# Of embeddings that are repeated where labels have other numbers of sentences than the background: half a gigabyte.
MOST_REPEATED_NUMBERS = 2**27
# Pairs of video and label that are scored each for itself, measured or fitted to together: some 60 bytes each.
MOST_PAIRS = 2**25
# Background labels that a sentence lists.
LISTED_BACKGROUND = 5
_CALIBRATION_ADVICE = (
    "it needs scale, bias, threshold and background_labels, a list of names. Fit it again with "
    "`froster evaluate LIST --calibrate`, or set it to None."
)
# Of a calibration: evidence is a difference of logits, which are up to 100 by CLIP's scale, and a list of ten million
# pairs of video and label has at least one that is there. Beyond these, all evidence would become one score.
LEAST_SCALE, MAX_SCALE = 1e-5, 1e6
MAX_EVIDENCE, MAX_ODDS = 1_000, 16
# Type -> capabilities of processors (`torch.cpu.get_capabilities`), any of which means arithmetic in this type. Where
# there is none, every number is converted to float32 and back, and layers take three times as long and more.
ARITHMETIC: dict[torch.dtype, tuple[str, ...]] = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "avx10_2", "fp16_arith"),
}


def whole_number(name: str, value: Any, *, least: int) -> int:
    """The value of an option that counts something.

    Args:
        name: name of the option.
        value: a whole number, of Python, NumPy or torch.
        least: least that it may be.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is less.
    """
    allowed = f"it must be a whole number of at least {least}."
    try:
        # To Python, true is 1.
        number = operator.index(cast(Any, None) if isinstance(value, bool) else value)
    except TypeError:
        raise TypeError(f"`{name}` is {value!r:.100}; {allowed}") from None
    if number < least:
        raise ValueError(f"`{name}` is {number}; {allowed}")
    return number


def has_arithmetic(dtype: torch.dtype) -> bool:
    """Whether this machine's CPU computes in a type; true of float32 and wider ones."""
    capabilities = torch.cpu.get_capabilities()
    return dtype not in ARITHMETIC or any(capabilities.get(name, False) for name in ARITHMETIC[dtype])


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: what turns the evidence for a label into the probability that it is in the video.

    p = sigmoid(scale * evidence + bias); the evidence is the label's logit, less what the background reaches
    (`Scoring.evidence`). Fitted by `fit_platt`, stored with the processor.

    Args:
        scale: factor of the evidence; positive.
        bias: what is added.
        threshold: least probability of an answer, chosen for the best F1 on the list that it was fitted on.
        background_labels: the background against which it was fitted; it holds for no other.

    Raises:
        ValueError: numbers that are not finite, a scale that is not positive, a threshold outside of 0 to 1, or a
            scale and a bias that make one score of all evidence.
    """

    scale: float
    bias: float
    threshold: float = 0.5
    background_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.scale, self.bias, self.threshold)
        # An integer of JSON can be larger than any float.
        if not all(isinstance(number, int | float) and abs(number) <= 1e300 for number in numbers):
            raise ValueError(f"A calibration has finite numbers, got {str(self)[:200]}.")
        if self.scale <= 0 or not 0 <= self.threshold <= 1:
            raise ValueError(f"A calibration has a positive scale and a threshold from 0 to 1, got {self}.")
        if not LEAST_SCALE <= self.scale <= MAX_SCALE or abs(self.bias) > MAX_EVIDENCE * self.scale + MAX_ODDS:
            raise ValueError(
                f"A calibration with the scale {self.scale:g} and the bias {self.bias:g} would give every video and "
                f"label one score; the scale is from {LEAST_SCALE:g} to {MAX_SCALE:g}, and the bias at most "
                f"{MAX_EVIDENCE} times it and {MAX_ODDS}. Fit it again with `froster evaluate LIST --calibrate`."
            )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Calibration":
        """From what `to_dict` gives.

        Raises:
            ValueError: other fields, or values that make no calibration.
        """
        if not isinstance(stored, Mapping) or set(stored) != {"scale", "bias", "threshold", "background_labels"}:
            raise ValueError(f"The processor's `calibration` is {stored!r:.200}; {_CALIBRATION_ADVICE}")
        names = stored["background_labels"]
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"The calibration's `background_labels` are {names!r:.200}; {_CALIBRATION_ADVICE}")
        return cls(**{**stored, "background_labels": tuple(names)})

    def to_dict(self) -> dict[str, Any]:
        """For the processor's JSON file."""
        return {**asdict(self), "background_labels": list(self.background_labels)}


@dataclass(frozen=True)
class Scoring:
    """How the logits of K labels, and of M background labels behind them, become scores.

    Args:
        num_labels: K.
        function: `softmax`, a contest of all labels and the background; `sigmoid`, each label for itself; `evidence`,
            the same before the sigmoid; or `none`.
        background: names of the M background labels.
        is_own: the background is the checkpoint's own, not the caller's.
        calibration: turns evidence into probabilities; without it they are those of a contest between one label and
            the background, or what a model's own sigmoid says.
        answers_none: there is a score of "none of these".
    """

    num_labels: int
    function: ScoreFunction = "softmax"
    background: tuple[str, ...] = ()
    is_own: bool = False
    calibration: Calibration | None = None
    answers_none: bool = False

    def evidence(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (..., K + M) to the evidence for each label (..., K).

        The logit, less the log of the summed exponentials of the background's: the log odds of a softmax over the one
        label and the background.
        """
        logits = logits.float()
        labels, background = logits[..., : self.num_labels], logits[..., self.num_labels :]
        return labels - background.logsumexp(-1, keepdim=True) if background.shape[-1] else labels

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (..., K + M) to scores (..., K), with one more column where "none of these" has a score.

        That is all of the probability that the background won, or its best logit where there are no probabilities.
        """
        logits = logits.float()
        if self.function == "sigmoid":
            return self._probabilities(self.evidence(logits))
        if self.function == "evidence":
            return self.evidence(logits)
        if self.function == "softmax":
            logits = logits.softmax(-1)
        scores, background = logits[..., : self.num_labels], logits[..., self.num_labels :]
        if not self.answers_none:
            return scores
        none = background.sum(-1) if self.function == "softmax" else background.amax(-1)
        return torch.cat([scores, none[..., None]], -1)

    def _probabilities(self, evidence: torch.Tensor) -> torch.Tensor:
        """Evidence (..., K) to the scores of each label for itself; one label has its opposite behind it."""
        if self.calibration is not None:
            evidence = self.calibration.scale * evidence + self.calibration.bias
        return torch.cat([evidence, -evidence], -1).sigmoid() if self.answers_none else evidence.sigmoid()

    def score_views(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (V, K + M) of the views of a video to its scores, (K,) or (K + 1,).

        Those of each view, then the mean; where each label is scored for itself, the mean of the evidence, to which
        calibrations are fitted.
        """
        if self.function == "sigmoid":
            return self._probabilities(self.evidence(logits).mean(0))
        if self.function == "none":
            logits = logits.float().mean(0, keepdim=True)
        return self.scores(logits).mean(0)

    def check_threshold(self, threshold: float | None) -> None:
        """Refuse a threshold that scores cannot be compared with.

        Raises:
            ValueError: scores are logits, or the threshold is outside of 0 to 1.
        """
        if threshold is None:
            return
        is_number = isinstance(threshold, numbers.Real) and not isinstance(threshold, bool)
        if self.function in LOGIT_FUNCTIONS or not is_number or not 0 <= threshold <= 1:
            raise ValueError(
                f"`threshold` is {threshold!r:.100} with the function {self.function!r}; it is one of scores from 0 "
                "to 1, which 'softmax' and `multi_label` give."
            )

    @property
    def default_threshold(self) -> float | None:
        """From which score on a label is said to be there, where each is scored for itself."""
        if self.function != "sigmoid":
            return None
        return 0.5 if self.calibration is None else self.calibration.threshold

    @property
    def description(self) -> str | None:
        """One line on what the labels are compared with; `None` for the ordinary contest among labels."""
        if not self.background:
            return "each label for itself" if self.function == "sigmoid" else None
        listed = ", ".join(self.background[:LISTED_BACKGROUND])
        more = len(self.background) - LISTED_BACKGROUND
        owner = "the checkpoint's background" if self.is_own else "the background"
        for_itself = self.function == "sigmoid" and self.num_labels > 1
        what = "each label for itself against" if for_itself else "compared with"
        calibrated = "; calibrated" if self.calibration is not None else ""
        return f"{what} {owner}: {listed}{f' and {more} more' if more > 0 else ''}{calibrated}"


def choose_scoring(
    labels: Sequence[str],
    *,
    function_to_apply: ScoreFunction | None = None,
    multi_label: bool = False,
    background: Sequence[str] | None = None,
    own_background: Sequence[str] | None = None,
    calibration: Calibration | None = None,
    has_own_sigmoid: bool = False,
) -> Scoring:
    """Choose how a call's logits become scores, from what it asks for and what the checkpoint has.

    Several labels compete in a softmax. One alone, or each of several with `multi_label`, is compared with a
    background: the caller's, else the one that the calibration was fitted against, else the checkpoint's own. A model
    that was trained with a sigmoid needs none.

    Args:
        labels: K names. Those that stand in the checkpoint's own background are taken out of it.
        function_to_apply: as when the pipeline is called.
        multi_label: as when the pipeline is called.
        background: names of the caller's background labels.
        own_background: names of the checkpoint's background labels.
        calibration: the checkpoint's calibration.
        has_own_sigmoid: the model was trained with a sigmoid loss, with a bias of its own (SigLIP).

    Raises:
        ValueError: a sigmoid of logits that were trained in a softmax and are not calibrated, one label with nothing
            to compare it with, a label that stands in the caller's background too or is called as the answer for it,
            or `multi_label` together with a function.
    """
    if multi_label and function_to_apply is not None:
        raise ValueError(
            f"`multi_label` scores each label for itself; leave out `function_to_apply`, got {function_to_apply!r}."
        )
    num_labels, given = len(labels), tuple(background or ())
    if twice := _names_in(labels, given):
        raise ValueError(
            f"{twice[0]!r} is asked for and stands in the background as well; take it out of one of them."
        )
    is_contest = num_labels > 1 and not multi_label and function_to_apply not in ("sigmoid", "evidence")
    if is_contest or function_to_apply == "none":
        _check_none_of_these(labels, given)
        return Scoring(num_labels, function_to_apply or "softmax", given, answers_none=bool(given))
    if function_to_apply == "evidence":
        # What calibrations are fitted to; it knows of none.
        calibration = None
    if given:
        fits = calibration is not None and calibration.background_labels == given
        used, calibration, is_own = given, calibration if fits else None, False
    elif calibration is not None:
        used, is_own = calibration.background_labels, True
    elif has_own_sigmoid:
        used, is_own = (), True
    else:
        used, is_own = tuple(own_background or ()), True
    if is_own and (asked := _names_in(used, labels)):
        used = tuple(name for name in used if name not in asked)
        if calibration is not None:
            # It holds for no other background.
            calibration, used = None, () if has_own_sigmoid else used
    if function_to_apply == "evidence":
        return Scoring(num_labels, "evidence", used, is_own)
    if calibration is None and not has_own_sigmoid:
        _check_comparison(used, function_to_apply, multi_label)
    answers_none = bool(used) and num_labels == 1 and not multi_label
    _check_none_of_these(labels, used if answers_none else given)
    return Scoring(num_labels, "sigmoid", used, is_own, calibration, answers_none=answers_none)


def _check_none_of_these(labels: Sequence[str], background: Sequence[str]) -> None:
    """Refuse a label that is called as the answer for a background."""
    if background and NONE_OF_THESE in labels:
        raise ValueError(
            f"{NONE_OF_THESE!r} is the answer where the background wins; take it out of the labels, or leave the "
            "background out."
        )


def _names_in(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of the names that stand among others, however their blanks, accents and capitals are written."""
    if not names or not others:
        return []

    def spelling(name: str) -> str:
        return " ".join(unicodedata.normalize("NFC", name).casefold().split())

    known = set(map(spelling, others))
    return [name for name in names if spelling(name) in known]


def _check_comparison(background: Sequence[str], function_to_apply: ScoreFunction | None, multi_label: bool) -> None:
    """Refuse scores of a softmax model without a calibration that would say nothing of a label by itself."""
    if function_to_apply == "sigmoid":
        raise ValueError(
            "`function_to_apply='sigmoid'`: this checkpoint was trained with a softmax, and the sigmoid of its logits "
            "is near 1 for whatever is asked. Use `multi_label=True`, which compares each label with a background, or "
            "calibrate the checkpoint first: `froster evaluate LIST --calibrate`."
        )
    if not background:
        subject = "Each label for itself" if multi_label else "One label alone"
        raise ValueError(
            f"{subject} has nothing to be compared with, and this checkpoint has no background of its own. Give "
            "`background_labels` (`--background`): things that the video may show instead, such as 'a person standing "
            "still', 'an empty room'. Or give several labels, of which one is chosen."
        )


def refuse_many_pairs(num_videos: int, num_labels: int) -> None:
    """Refuse more evidence than is measured or fitted to together.

    Args:
        num_videos: n videos.
        num_labels: K labels, each for itself.

    Raises:
        ValueError: more than `MOST_PAIRS`.
    """
    if (count := num_videos * num_labels) > MOST_PAIRS:
        raise ValueError(
            f"{num_videos:,} videos x {num_labels:,} labels, each for itself, are {count:,} pairs; at most "
            f"{MOST_PAIRS:,} are measured or calibrated together. Take part of the videos, or fewer labels."
        )


def fit_platt(evidence: torch.Tensor, targets: torch.Tensor, *, background_labels: Sequence[str] = ()) -> Calibration:
    """Scale and bias with which the sigmoid of the evidence is the probability that a label is there.

    Maximum likelihood with Platt's smoothed targets, by Newton's method with halved steps (Platt 1999; Lin, Lin and
    Weng 2007). One scale and one bias for all labels: they serve labels that were not in the list.

    Args:
        evidence: (n, K) of n videos for K labels (`Scoring.evidence`), from a list that the checkpoint has not seen.
        targets: (n, K), true where the label is in the video.
        background_labels: the background that the evidence was computed against.

    Raises:
        ValueError: different shapes, more pairs than `MOST_PAIRS`, values that are not finite, labels that are all
            there or all absent, or evidence that is no higher where a label is there.
    """
    if evidence.shape != targets.shape or not evidence.numel():
        raise ValueError(f"Evidence {tuple(evidence.shape)} and targets {tuple(targets.shape)} must have one shape.")
    refuse_many_pairs(len(evidence), evidence[0].numel())
    check_finite(evidence)
    x, present = evidence.detach().double().flatten().cpu(), targets.flatten().cpu().bool()
    positives, negatives = int(present.sum()), int((~present).sum())
    if not positives or not negatives:
        raise ValueError(
            f"A calibration needs labels that are in the videos and labels that are not; the list has {positives} of "
            f"the first and {negatives} of the second."
        )
    target = torch.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2)).double()
    # Standardized, one step of Newton's is of the right size whatever the logits' scale.
    center, spread = x.mean(), x.std().clamp(min=1e-12)
    x = (x - center) / spread
    theta = torch.tensor([0.0, math.log((positives + 1) / (negatives + 1))], dtype=torch.float64)

    def loss(theta: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(theta[0] * x + theta[1], target, reduction="sum")

    for _ in range(100):
        p = (theta[0] * x + theta[1]).sigmoid()
        gradient = torch.stack([((p - target) * x).sum(), (p - target).sum()])
        if float(gradient.abs().max()) < 1e-9 * len(x):
            break
        weight = p * (1 - p)
        cross = (weight * x).sum()
        hessian = torch.stack([torch.stack([(weight * x * x).sum(), cross]), torch.stack([cross, weight.sum()])])
        step = torch.linalg.solve(hessian + 1e-12 * len(x) * torch.eye(2, dtype=torch.float64), gradient)
        size = 1.0
        while size > 1e-10 and loss(theta - size * step) > loss(theta):
            size /= 2
        theta = theta - size * step
    scale = float(theta[0] / spread)
    if not scale > 0:
        raise ValueError(
            "The evidence is no higher for labels that are in the videos than for others: this checkpoint cannot tell "
            "them apart on this list. Look at the list, the labels and the background."
        )
    bias = float(theta[1] - theta[0] * center / spread)
    threshold = best_f1_threshold((scale * evidence.detach().double().cpu() + bias).sigmoid(), targets)
    return Calibration(scale, bias, threshold, tuple(background_labels))


def best_f1_threshold(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """The least score of an answer for which F1 over all pairs of video and label is highest.

    Args:
        scores: any shape.
        targets: the same, true where the label is there.
    """
    values, order = scores.flatten().double().cpu().sort(descending=True)
    hits = targets.flatten().cpu().bool()[order].cumsum(0)
    f1 = 2 * hits / (torch.arange(1, len(values) + 1) + hits[-1])
    # Equal scores are answers together: only the last of them is a place to cut.
    f1[:-1][values[:-1] == values[1:]] = -1
    best = int(f1.argmax())
    return float((values[best] + values[best + 1]) / 2) if best + 1 < len(values) else float(values[best])


def check_finite(logits: torch.Tensor) -> None:
    """Refuse logits from which no score can be computed, or embeddings that have no direction.

    Raises:
        ValueError: logits or embeddings that are infinite or NaN.
    """
    if not bool(logits.isfinite().all()):
        raise ValueError(
            "The model gave logits or embeddings that are infinite or NaN. Its weights are damaged, its pixels "
            "were not finite (look at `image_std` and the like of the processor), or half precision was too "
            "narrow: try dtype=float32."
        )


def rank(
    scores: torch.Tensor,
    labels: Sequence[str],
    *,
    top_k: int | None = None,
    threshold: float | None = None,
    background: Sequence[str] = (),
) -> list[Answer]:
    """Answers, best first.

    Args:
        scores: (K,), or (K + 1,) where "none of these" has a score.
        labels: K names.
        top_k: labels to report.
        threshold: labels below it are left out; where none remains, the answer is "none of these", whose score is
            `None` where nothing was measured that it could be.
        background: names to report with "none of these".
    """
    values, indices = scores[: len(labels)].topk(min(top_k or len(labels), len(labels)))
    answers: list[Answer] = [
        {"score": score, "label": labels[index]} for score, index in zip(values.tolist(), indices.tolist())
    ]
    if threshold is not None:
        answers = [answer for answer in answers if answer["score"] >= threshold]
    none: Answer = {"score": None, "label": NONE_OF_THESE}
    if background:
        none["background"] = list(background)
    if len(scores) > len(labels):
        answers.append({**none, "score": float(scores[len(labels)])})
        answers.sort(key=lambda answer: -answer["score"])
    return answers or [none]


def join_banks(labels: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """Two label banks as one, each (K, D), or (K, S, D) where the best of S sentences counts.

    Raises:
        ValueError: one has so many more sentences than the other that repetitions would fill memory.
    """
    banks = [labels.to(background), background]
    most = max(bank.shape[1] if bank.ndim == 3 else 0 for bank in banks)
    if not most:
        return torch.cat(banks)
    # A repeated embedding changes no maximum.
    banks = [bank if bank.ndim == 3 else bank[:, None] for bank in banks]
    num_labels, width = sum(map(len, banks)), banks[0].shape[2]
    if num_labels * most * width > max(MOST_REPEATED_NUMBERS, 4 * sum(bank.numel() for bank in banks)):
        raise ValueError(
            f"The labels and the background are {num_labels}, one of them with {most} sentences, and the maximum over "
            "sentences keeps as many embeddings of each. Combine them by the mean (`text_pooling='mean'`), or give a "
            "background of your own."
        )
    return torch.cat([torch.cat([bank, bank[:, -1:].expand(-1, most - bank.shape[1], -1)], dim=1) for bank in banks])


class LabelBanks:
    """The label banks of one model and processor, the most recently used of them kept. Threads may share it.

    Args:
        processor: a `FrosterProcessor`.
        model: a `FrosterModel`.
        capacity: banks that are kept.
    """

    def __init__(self, processor: Any, model: Any, *, capacity: int = 8):
        self.processor, self.model, self.capacity = processor, model, capacity
        self.clear()

    def clear(self) -> None:
        """Forget all banks."""
        self._lock = threading.Lock()
        self._banks: OrderedDict[tuple, Future[torch.Tensor]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes and copies compute their own, if they need any.
        return {"processor": self.processor, "model": self.model, "capacity": self.capacity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.clear()

    def get(
        self, labels: Any, *, templates: Sequence[str] | str | None = None, text_pooling: str | None = None
    ) -> torch.Tensor:
        """Embeddings of the labels, (K, D), or (K, S, D) where the best of a label's S sentences counts; computed
        where they are not known for these labels and these weights.

        Of several threads that ask for a new list at once, one computes it and the others wait.

        Args:
            labels: what `FrosterProcessor.read_labels` makes of a label list.
            templates: prompt templates, by default the processor's.
            text_pooling: how several sentences of a label are combined, by default as the processor says.

        Raises:
            ValueError: labels that the processor refuses.
        """
        processor = self.processor
        key = (
            labels.names,
            labels.descriptions,
            repr(templates),
            text_pooling,
            tuple(processor.prompt_templates),
            processor.label_style,
            processor.text_pooling,
            repr(processor.label_descriptions),
            weights_state(self.model),
        )
        with self._lock:
            bank = self._banks.get(key)
            is_new = bank is None
            if bank is None:
                bank = self._banks[key] = Future()
            self._banks.move_to_end(key)
            while len(self._banks) > self.capacity:
                self._banks.popitem(last=False)
        if is_new:
            try:
                # Kept for callers of all kinds: what inference mode makes cannot be used where gradients are wanted.
                with torch.inference_mode(False):
                    embeds = processor.embed_labels(
                        labels, model=self.model, templates=templates, text_pooling=text_pooling
                    )
                bank.set_result(embeds)
            except BaseException as error:
                with self._lock:
                    self._banks.pop(key, None)
                bank.set_exception(error)
        return bank.result()


# Steps of optimizers that have written a parameter: torch counts no version for its fused kernels, nor for others.
_STEPS: Any = WeakTensorKeyDictionary()


def _count_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            _STEPS[parameter] = _STEPS.get(parameter, 0) + 1


register_optimizer_step_post_hook(_count_step)


def weights_state(module: nn.Module) -> tuple:
    """A value that changes when what the module computes does: by a step of training, by loading, moving or casting,
    by switching or merging adapters.

    Nothing is read from the device. Writes past torch and its optimizers (`parameter.data`) leave no trace.
    """
    return tuple(_identity(parameter) for parameter in module.parameters()), adapter_state(module)


def _identity(parameter: torch.Tensor) -> tuple:
    """Which tensor it is, where its values lie, and how often they were written."""
    version = 0 if parameter.is_inference() else parameter._version
    return id(parameter), parameter.data_ptr(), parameter.dtype, version, _STEPS.get(parameter, 0)


def adapter_state(module: nn.Module) -> tuple:
    """Which of PEFT's adapters take part, and how strongly.

    PEFT's layers have the property `disable_adapters`; the models of transformers have a method of this name.
    """
    return tuple(
        (
            layer.disable_adapters,
            tuple(getattr(layer, "active_adapters", ())),
            tuple(getattr(layer, "merged_adapters", ())),
            repr(getattr(layer, "scaling", None)),
        )
        for layer in module.modules()
        if isinstance(getattr(layer, "disable_adapters", None), bool)
    )
