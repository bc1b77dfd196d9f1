"""`FrosterProcessor`: videos and label names in, the model's tensors out.

The video processor, CLIP's tokenizer and the prompt templates of a checkpoint, saved and loaded together. Labels
become prompts here and nowhere else: the model and the video processor know no words.

Letters: B videos, T frames, S pixels, K labels, N sentences about them, P templates, L text tokens, D the joint
embedding width.
"""

import contextlib
import functools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

import torch
from transformers import CONFIG_MAPPING, AutoProcessor, CLIPProcessor, PreTrainedConfig
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, Unpack
from transformers.tokenization_utils_base import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils.logging import get_logger, tqdm

from .prompts_froster import (
    MAX_PADDED_NUMBERS,
    Description,
    LabelList,
    checked_label_list,
    fill_templates,
    find_text_pooling,
    pair_with_descriptions,
    plain_words,
    read_label_list,
    readable_label,
    resolve_templates,
    sentences_of,
    without_unseen,
)
from .video_processing_froster import FrosterVideoProcessor, package_module

logger = get_logger(__name__)

LabelStyle = Literal["as_given", "words"]

# What a video may show instead of one action that is asked for; the background of CLIP checkpoints.
EVERYDAY_BACKGROUND = (
    "standing still",
    "sitting",
    "lying down",
    "walking around",
    "talking to someone",
    "looking at the camera",
    "waiting",
    "doing something else",
    "an empty room",
    "an empty street",
    "a landscape",
    "a crowd of people",
    "an animal",
    "an object on a table",
    "text on a screen",
)
# More of them is a label list, which a call may bring.
MAX_BACKGROUND_LABELS = 1000
# Far beyond any logit.
MAX_CALIBRATION = 1e9
# Tokens per character of a text; where there are more, a tokenizer spells the words out and does not know them.
MAX_TOKENS_PER_CHARACTER = 0.33

# What a CLIP checkpoint says about its pixels; the rest of a video processor's options are about time.
_PIXEL_OPTIONS = (
    *("do_resize", "size", "crop_size", "resample"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)

# Prompts that are padded together, and texts that the text tower reads together.
PROMPTS_PER_CHUNK = 4096
TEXTS_PER_BATCH = 256
# Characters of a text, and of those that are tokenized together: a tokenizer takes some hundred bytes for each token,
# of which the files of a stranger may make a hundred per character, in one call that nothing ends.
MOST_CHARACTERS = 2**14
# Of all texts of a list together, where they are not encoded a chunk at a time: a gigabyte.
MOST_TOKENS = 2**27
# Beyond every text tower; a file from a stranger cannot ask for more.
MAX_TEXT_LENGTH = 4096
# A label list with more prompts than this shows a progress bar on a terminal.
PROMPTS_WITHOUT_PROGRESS = 8192


class FrosterProcessor(ProcessorMixin):
    """Video processor, tokenizer and prompt templates of one checkpoint.

    Args:
        video_processor: reads and crops videos.
        tokenizer: the backbone's.
        prompt_templates: `froster` (28 sentences and the bare label), `actionclip` (16), `single` ("a video of a
            person {}."), `none` (the bare label), one template, or a list of templates with one `{}` each.
        label_descriptions: sentences about labels, one or a list of several for each, used for every label that is
            found in it.
        label_style: `words` writes `brushHair`, `brush_hair` and `ApplyEyeMakeup` as words in the prompts; `as_given`
            changes nothing. Results always carry the names as given.
        background_labels: what one label alone, or each of several that may occur together, is compared with; `None`
            where the checkpoint has no such list.
        calibration: what turns logits into probabilities of single labels, as the pipeline's `calibrate` fits it.
        text_length: tokens that every text is padded to, for a text tower that reads its padding (64 for SigLIP);
            `None` pads to the longest text of a call.
        text_pooling: how several sentences about a label are combined: `mean` of their embeddings, or `max`, the
            highest of their scores.

    Raises:
        ValueError: a template without a place for the label, an unknown style or pooling, a background that is not a
            label list, descriptions that are not texts.
    """

    # Texts are padded to the longest of them, unless the call says otherwise or the text tower reads its padding.
    text_kwargs = {"padding": True}

    def __init__(
        self,
        video_processor: FrosterVideoProcessor,
        tokenizer: PreTrainedTokenizerBase,
        prompt_templates: str | Sequence[str] = "froster",
        label_descriptions: Mapping[str, Any] | None = None,
        label_style: LabelStyle = "as_given",
        background_labels: Sequence[str] | None = None,
        calibration: dict[str, Any] | None = None,
        text_length: int | None = None,
        text_pooling: str = "mean",
        **kwargs: Any,
    ):
        if label_style not in ("as_given", "words"):
            raise ValueError(f"`label_style` is {label_style!r:.100}; it must be 'as_given' or 'words'.")
        self.prompt_templates = resolve_templates(prompt_templates)
        self.label_descriptions: Mapping[str, Any] | None = _checked_descriptions(label_descriptions)
        self.label_style = label_style
        self.background_labels = _checked_background(background_labels)
        self.calibration = _checked_calibration(calibration)
        if text_length is not None and (type(text_length) is not int or not 1 <= text_length <= MAX_TEXT_LENGTH):
            raise ValueError(f"`text_length` is {text_length!r:.100}; it must be None or from 1 to {MAX_TEXT_LENGTH}.")
        self.text_length = text_length
        find_text_pooling(text_pooling)
        self.text_pooling = text_pooling
        super().__init__(video_processor, tokenizer, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, trust_remote_code=None, **kwargs):
        """As in transformers, but nobody is asked whether code of the checkpoint may run: the caller says so."""
        return super().from_pretrained(
            pretrained_model_name_or_path, *args, trust_remote_code=bool(trust_remote_code), **kwargs
        )

    @classmethod
    def from_clip(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        prompt_templates: str | Sequence[str] = "froster",
        video_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> "FrosterProcessor":
        """[`from_dual_encoder`] of a CLIP checkpoint, of which the processor's files are enough.

        Raises:
            ValueError: the checkpoint says that it is of another kind.
        """
        processor = _load_processor(pretrained_model_name_or_path, **kwargs)
        if not isinstance(processor, CLIPProcessor):
            raise ValueError(
                f"{str(pretrained_model_name_or_path)!r} has a {type(processor).__name__}, not a CLIPProcessor. Take "
                "`from_dual_encoder`, or load a FROSTER checkpoint's processor with `from_pretrained`."
            )
        return cls.from_dual_encoder_processor(
            processor, prompt_templates=prompt_templates, video_options=video_options
        )

    @classmethod
    def from_dual_encoder(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        prompt_templates: str | Sequence[str] = "froster",
        video_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> "FrosterProcessor":
        """The processor of a plain CLIP checkpoint, or of another backbone's, whose pixels and tokens are those of its
        image processor and tokenizer.

        Args:
            pretrained_model_name_or_path: a checkpoint on the Hub or in a folder.
            prompt_templates: see the class.
            video_options: options of `FrosterVideoProcessor`, such as `num_frames` or `sampling`.
            kwargs: passed on to the loaders (`revision`, `token`, `cache_dir`, ...).

        Raises:
            ValueError: the checkpoint is not that of a backbone.
            RuntimeError: froster_hf has not been imported.
        """
        if "froster" not in CONFIG_MAPPING:
            raise RuntimeError(
                "Plain checkpoints such as CLIP's need the installed package: `import froster_hf` first."
            )
        processor = _load_processor(pretrained_model_name_or_path, **kwargs)
        fields, _ = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **kwargs)
        config: Any = CONFIG_MAPPING["froster"]
        config = config.from_dual_encoder_config(config.from_fields(fields))
        return cls.from_dual_encoder_processor(
            processor, config, prompt_templates=prompt_templates, video_options=video_options
        )

    @classmethod
    def from_dual_encoder_processor(
        cls,
        processor: Any,
        config: Any = None,
        *,
        prompt_templates: str | Sequence[str] = "froster",
        video_options: Mapping[str, Any] | None = None,
    ) -> "FrosterProcessor":
        """As `from_dual_encoder`, of a processor that is loaded already.

        Args:
            processor: a CLIPProcessor, SiglipProcessor or the like.
            config: the [`FrosterConfig`] of the dual encoder; CLIP does without.
            prompt_templates: see the class.
            video_options: see `from_dual_encoder`.

        Raises:
            ValueError: no video can be processed with these options.
        """
        image_options = processor.image_processor.to_dict()
        pixels = {name: image_options[name] for name in _PIXEL_OPTIONS if image_options.get(name) is not None}
        # SigLIP's images are not cropped: their sides are scaled to the square.
        pixels["do_center_crop"] = bool(image_options.get("do_center_crop"))
        tokenizer = processor.tokenizer
        if config is not None:
            side = config.vision_config.image_size
            pixels.setdefault("crop_size", {"height": side, "width": side})
            # Some multilingual tokenizers state no length, or their own language model's.
            tokenizer.model_max_length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
        video_processor = FrosterVideoProcessor(**{**pixels, **(video_options or {})})
        video_processor.try_options()
        background = _everyday_background(tokenizer)
        return cls(
            video_processor,
            tokenizer,
            prompt_templates,
            background_labels=background,
            text_length=None if config is None else config.text_length,
        )

    @classmethod
    def get_processor_dict(cls, pretrained_model_name_or_path, **kwargs):
        """As in transformers, if the files name nothing else to load."""
        if (files := package_module("processing.tokenizer_files")) is not None:
            files.check_processor_files(pretrained_model_name_or_path, **kwargs)
        return super().get_processor_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def _load_tokenizer_from_pretrained(
        cls, sub_processor_type, pretrained_model_name_or_path, subfolder="", **kwargs
    ):
        """As in transformers, if the tokenizer does to texts what those of the backbones do."""
        load = functools.partial(
            super()._load_tokenizer_from_pretrained,
            sub_processor_type,
            pretrained_model_name_or_path,
            subfolder=subfolder,
            **kwargs,
        )
        files = package_module("processing.tokenizer_files")
        if files is None:
            return load()
        return files.checked(load, pretrained_model_name_or_path, subfolder=subfolder, **kwargs)

    def __call__(
        self,
        videos: Any = None,
        text: str | list[str] | None = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature:
        """Prepare videos, texts, or both.

        Args:
            videos: see `FrosterVideoProcessor`.
            text: texts as they are; see `encode_labels` for labels.
            kwargs: options of the video processor and the tokenizer; `return_tensors="pt"` for tensors.

        Returns:
            `pixel_values_videos` (B, T, 3, S, S) for videos, `input_ids` and `attention_mask` (n, L) for texts.

        Raises:
            VideoDecodeError: a video cannot be read.
            ValueError: neither is given, or a text has more tokens than the text tower takes and `truncation` is off.
        """
        if text is not None and self.text_length is not None:
            # Any other padding is refused by the model, so it is not a choice: callers pad by habit.
            options: dict[str, Any] = {name: kwargs[name] for name in kwargs if name not in ("padding", "max_length")}
            options["text_kwargs"] = {**options.get("text_kwargs", {}), **self._padding()}
        else:
            options = dict(kwargs)
            if "padding" not in options:
                # Which transformers does by itself from 5.23 on.
                options["text_kwargs"] = {**self.text_kwargs, **options.get("text_kwargs", {})}
        if text is not None and not options.get("truncation", options.get("text_kwargs", {}).get("truncation")):
            # All are padded to the longest, and are as long as that only once it is known to be read.
            self._token_rows([text] if isinstance(text, str) else text)
        inputs = super().__call__(videos=videos, text=text, **options)
        if text is not None:
            self._refuse_long_texts([text] if isinstance(text, str) else text, inputs["input_ids"])
        return inputs

    def _merge_kwargs(self, *args: Any, tokenizer_init_kwargs: Any = None, **kwargs: Any) -> dict[str, dict[str, Any]]:
        """As in transformers, but what a tokenizer's file says, which transformers takes for options of texts and of
        videos alike, is none of a call: a number in it would take any memory, or other frames."""
        return super()._merge_kwargs(*args, **kwargs)

    @property
    def num_prompts(self) -> int:
        """P, the number of templates."""
        return len(self.prompt_templates)

    @staticmethod
    def read_labels(labels: Any) -> LabelList:
        """Labels in any form that programs hold them in; see `read_label_list`."""
        return read_label_list(labels)

    def write_prompts(
        self,
        labels: Any,
        descriptions: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        templates: str | Sequence[str] | None = None,
    ) -> list[str]:
        """The N * P prompts of a label list, all prompts of the first label first. See `encode_sentences`."""
        return list(self.iter_prompts(labels, descriptions, templates=templates))

    def iter_prompts(
        self,
        labels: Any,
        descriptions: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        templates: str | Sequence[str] | None = None,
    ) -> Iterator[str]:
        """As `write_prompts`, one after another: all of a long list take more memory than its labels by far."""
        return self._fill(self._sentences(labels, descriptions)[0], templates)

    def encode_labels(
        self,
        labels: Any,
        descriptions: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        templates: str | Sequence[str] | None = None,
        truncation: bool = False,
        config: Any = None,
    ) -> BatchEncoding:
        """A label list as the text tower reads it, with at most one sentence about each label.

        Args:
            labels: K class names, or a mapping from class name to description, from index to name or from name to
                index.
            descriptions: a mapping from class name to description, or one per label; `None` takes those that are
                stored in the processor.
            templates: other templates than the processor's.
            truncation: cut prompts that are too long for the text tower instead of refusing them.
            config: the [`FrosterConfig`] of a model, to refuse tokens that it cannot read or tell apart.

        Returns:
            `input_ids` (K*P, L), padded to the longest prompt or to `text_length`, and `num_prompts` P: what
            `FrosterForVideoClassification` and its `set_labels` take.

        Raises:
            ValueError: empty or repeated labels, a label with several sentences, or a prompt that is too long.
        """
        encoded = self.encode_sentences(
            labels, descriptions, templates=templates, truncation=truncation, config=config
        )
        if len(counts := encoded.pop("num_sentences")) < sum(counts):
            row = next(row for row, count in enumerate(counts) if count > 1)
            raise ValueError(
                f"The label {self.read_labels(labels).names[row]!r:.200} has {counts[row]} sentences, which no single "
                "list of prompts combines. Give one per label, or take `embed_labels(labels, model=model)`, whose "
                "result is the `text_embeds` of a model's call."
            )
        return encoded

    def encode_sentences(
        self,
        labels: Any,
        descriptions: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        templates: str | Sequence[str] | None = None,
        truncation: bool = False,
        config: Any = None,
    ) -> BatchEncoding:
        """As `encode_labels`, with any number of sentences about each label, every one under all templates.

        Returns:
            `input_ids` (N*P, L), `num_prompts` P, and `num_sentences`, K counts with the sum N.

        Raises:
            ValueError: empty or repeated labels, a prompt that is too long, or more tokens than are held together.
        """
        sentences, counts = self._sentences(labels, descriptions)
        chunks, length, num_texts = [], 0, len(sentences) * len(self._templates(templates))
        for chunk in self._tokenize(sentences, templates, truncation=truncation, config=config):
            chunks.append(chunk)
            length = max(length, chunk.shape[1])
            if num_texts * length > MOST_TOKENS:
                raise ValueError(
                    f"{num_texts:,} texts of up to {length:,} tokens are more than the {MOST_TOKENS:,} tokens that "
                    "are held together. Take fewer labels or templates, or `embed_labels`, which holds a chunk."
                )
        input_ids = torch.cat([self.pad_tokens(chunk, length) for chunk in chunks])
        num_prompts = len(input_ids) // len(sentences)
        return BatchEncoding({"input_ids": input_ids, "num_prompts": num_prompts, "num_sentences": counts})

    def iter_tokens(
        self,
        labels: Any,
        descriptions: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        templates: str | Sequence[str] | None = None,
    ) -> Iterator[torch.Tensor]:
        """The `input_ids` of `encode_sentences` a chunk at a time, (n*P, L), each padded to its own longest prompt."""
        return self._tokenize(self._sentences(labels, descriptions)[0], templates)

    def pad_tokens(self, input_ids: torch.Tensor, length: int) -> torch.Tensor:
        """(n, L) to (n, length), as the tokenizer pads: at the end, whatever its files say."""
        return torch.nn.functional.pad(input_ids, (0, length - input_ids.shape[1]), value=self.tokenizer.pad_token_id)

    @torch.no_grad()
    def embed_labels(
        self,
        labels: Any,
        descriptions: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        model: Any,
        templates: str | Sequence[str] | None = None,
        text_pooling: str | None = None,
    ) -> torch.Tensor:
        """A label list as a model sees it: what its videos are compared with.

        Written, tokenized and encoded a chunk of sentences at a time: ten thousand labels need no more memory than a
        chunk and their embeddings. Without gradients.

        Args:
            labels: K class names, see `encode_labels`.
            descriptions: see `encode_labels`; several sentences per label, too.
            model: a `FrosterModel`, or a model that has one as `froster`.
            templates: other templates than the processor's.
            text_pooling: how several sentences are combined, `mean` or `max`; by default as the processor says.

        Returns:
            (K, D), one embedding of unit length for each label, on the model's device; or, where a label has several
            sentences whose maximum counts, (K, S, D), one for each of S sentences. A model takes both as
            `text_embeds`.

        Raises:
            ValueError: empty or repeated labels, an unknown pooling, or a prompt that is too long.
        """
        pooling = find_text_pooling(self.text_pooling if text_pooling is None else text_pooling)
        return pooling.pool(*self.embed_sentences(labels, descriptions, model=model, templates=templates))

    @torch.no_grad()
    def embed_sentences(
        self,
        labels: Any,
        descriptions: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        model: Any,
        templates: str | Sequence[str] | None = None,
    ) -> tuple[torch.Tensor, list[int]]:
        """As `embed_labels`, before the sentences about a label are combined.

        Returns:
            (N, D), one embedding of unit length for each sentence, all of the first label first; and how many each of
            the K labels has. A label without sentences has one embedding.
        """
        model = getattr(model, "froster", model)
        labels = read_label_list(labels)
        sentences, counts = self._sentences(labels, descriptions)
        self._refuse_many_sentences(len(sentences), width=model.config.projection_dim)
        num_prompts = len(self._templates(templates))
        num_chunks = math.ceil(len(sentences) / max(1, PROMPTS_PER_CHUNK // num_prompts))
        hidden = True if len(sentences) * num_prompts <= PROMPTS_WITHOUT_PROGRESS else None
        chunks = self._tokenize(sentences, templates, config=model.config)
        embeds = []
        for input_ids in tqdm(chunks, total=num_chunks, desc="Encoding labels", unit="chunk", disable=hidden):
            # Offloaded weights are on no device; accelerate then moves the tokens to where it computes.
            input_ids = input_ids if model.device.type == "meta" else input_ids.to(model.device)
            embeds.append(model.get_label_embeds(input_ids, num_prompts=num_prompts, chunk_size=TEXTS_PER_BATCH))
        return torch.cat(embeds), counts

    @staticmethod
    def _refuse_many_sentences(num_sentences: int, *, width: int) -> None:
        """Refuse a list, or a checkpoint's descriptions of its labels, whose embeddings would fill memory."""
        if (numbers := num_sentences * width) > MAX_PADDED_NUMBERS:
            raise ValueError(
                f"These labels, with a sentence or more for each, are {num_sentences:,} texts, whose embeddings are "
                f"{numbers:,} numbers; up to {MAX_PADDED_NUMBERS:,} are held at once. Give fewer labels, or fewer "
                "descriptions of your own in place of the checkpoint's."
            )

    def _sentences(self, labels: Any, descriptions: Any = None) -> tuple[list[tuple[str, str | None]], list[int]]:
        """N pairs of a label and a sentence, all of the first label first, and how many each of K labels has."""
        labels = read_label_list(labels)
        if descriptions is None and labels.descriptions is None:
            descriptions = self.label_descriptions
        described = [(name, sentences_of(texts)) for name, texts in pair_with_descriptions(labels, descriptions)]
        return [(name, text) for name, texts in described for text in texts], [len(texts) for _, texts in described]

    def _templates(self, templates: str | Sequence[str] | None) -> Sequence[str]:
        return self.prompt_templates if templates is None else resolve_templates(templates)

    def _fill(
        self, sentences: Iterable[tuple[str, str | None]], templates: str | Sequence[str] | None
    ) -> Iterator[str]:
        """One after another: the templates multiply the length of a sentence."""
        templates = self._templates(templates)
        for label, sentence in sentences:
            words = readable_label(label) if self.label_style == "words" else without_unseen(label)
            yield from fill_templates(templates, words, sentence)

    def _tokenize(
        self,
        sentences: Sequence[tuple[str, str | None]],
        templates: str | Sequence[str] | None,
        *,
        truncation: bool = False,
        config: Any = None,
    ) -> Iterator[torch.Tensor]:
        """(n*P, L) of n sentences after n others, each padded to its longest prompt; see `encode_sentences`."""
        chunks = self._chunks(sentences, templates, truncation=truncation)
        return chunks if config is None else self._told_apart(chunks, sentences, templates, config)

    def _chunks(
        self, sentences: Sequence[tuple[str, str | None]], templates: str | Sequence[str] | None, *, truncation: bool
    ) -> Iterator[torch.Tensor]:
        step = max(1, PROMPTS_PER_CHUNK // len(self._templates(templates)))
        for start in range(0, len(sentences), step):
            rows = self._token_rows(self._fill(sentences[start : start + step], templates), truncation=truncation)
            yield self.tokenizer.pad({"input_ids": rows}, return_tensors="pt", **self._padding())["input_ids"]

    def _token_rows(self, texts: Iterable[str], *, truncation: bool = False) -> list[list[int]]:
        """The tokens of each text, without padding.

        Raises:
            ValueError: a text has more than the text tower takes, and is not to be truncated, or more characters than
                are read.
        """
        rows: list[list[int]] = []
        for chunk in _chunks_of_characters(texts, MOST_CHARACTERS):
            options = {"truncation": truncation, "max_length": self.text_length, "verbose": False}
            with errors_of_tokenizers(ValueError, "a text"):
                chunk_rows = self.tokenizer(chunk, **options)["input_ids"]
            self._refuse_long_texts(chunk, chunk_rows)
            rows += chunk_rows
        return rows

    def _refuse_long_texts(self, texts: Sequence[str], rows: Sequence[Any]) -> None:
        # A tokenizer that states none has 10^30.
        longest = self.text_length or min(self.tokenizer.model_max_length, MAX_TEXT_LENGTH)
        lengths = [len(row) for row in rows]
        if lengths and max(lengths) > longest:
            worst = lengths.index(max(lengths))
            raise ValueError(
                f"A text has {lengths[worst]} tokens and the text tower takes {longest}: {texts[worst][:100]!r}. "
                "Shorten its label or description, or pass `truncation=True`."
            )

    def _told_apart(
        self,
        chunks: Iterable[torch.Tensor],
        sentences: Sequence[tuple[str, str | None]],
        templates: str | Sequence[str] | None,
        config: Any,
    ) -> Iterator[torch.Tensor]:
        """The chunks of a list's tokens, if the model of this configuration reads every label as another one.

        Raises:
            ValueError: two labels become the same tokens, or see `_lengths_read`.
        """
        templates = self._templates(templates)
        # A byte-level tokenizer has no such token, and calls another one that.
        unknown = self.tokenizer.unk_token_id
        is_own = unknown not in (None, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        first_of: dict[bytes, tuple[str, str | None]] = {}
        unread: dict[str, None] = {}
        rest = iter(sentences)
        for input_ids in chunks:
            lengths = self._lengths_read(input_ids, config)
            is_read = torch.arange(input_ids.shape[1]) < lengths[:, None]
            for tokens in input_ids[is_read].split(lengths.view(-1, len(templates)).sum(dim=1).tolist()):
                sentence = next(rest)
                first = first_of.setdefault(blake2b(tokens.numpy().data, digest_size=16).digest(), sentence)
                if first[0] != sentence[0] and not self._are_alike(first, sentence, templates):
                    raise ValueError(
                        f"The labels {first[0]!r:.100} and {sentence[0]!r:.100} become the same tokens, so the model "
                        "cannot tell them apart: its tokenizer does not know their letters, or leaves them out. Leave "
                        "one of the two out, or write them in words of a language that it knows."
                    )
                if is_own and unknown in tokens:
                    unread[sentence[0]] = None
            yield input_ids
        if unread:
            logger.warning(
                f"The tokenizer does not know all letters of {len(unread)} label(s), such as "
                f"{next(iter(unread))!r:.100}; the model reads its unknown token in their place."
            )

    def _are_alike(self, one: tuple[str, str | None], other: tuple[str, str | None], templates: Sequence[str]) -> bool:
        """Whether two sentences are the same words."""
        first, second = self._fill([one, other], templates[:1])
        return plain_words(first) == plain_words(second)

    def _lengths_read(self, input_ids: torch.Tensor, config: Any) -> torch.Tensor:
        """How many tokens of each text the text tower of this configuration reads, all of its words among them.

        Args:
            input_ids: (n, L), on the CPU.
            config: the [`FrosterConfig`] of the model.

        Returns:
            (n,), the number of tokens up to and including the one at which the text is read.

        Raises:
            ValueError: the model does not have a token, or a text lacks the token at which it is read, or has words
                behind it.
        """
        highest, vocabulary = int(input_ids.max()), config.text_config.vocab_size
        if highest >= vocabulary:
            name = self.tokenizer.convert_ids_to_tokens(highest)
            raise ValueError(
                f"The tokenizer gives {name!r:.100}, the token {highest}, but the model has {vocabulary}, from 0 on. "
                "Load the tokenizer of this model's checkpoint."
            )
        is_highest = config.end_token == "highest"
        end = self.tokenizer.eos_token_id if is_highest else config.end_token
        if end is None:
            return input_ids.new_full(input_ids.shape[:1], input_ids.shape[1])
        is_end = input_ids == end
        if not is_end.any(dim=-1).all() or (is_highest and highest != end):
            raise ValueError(
                f"The tokenizer gives texts without the token {end}, at which the model reads them. Load the "
                "tokenizer of this model's checkpoint."
            )
        lengths = is_end.int().argmax(dim=-1) + 1
        is_behind = torch.arange(input_ids.shape[1]) >= lengths[:, None]
        unseen = is_behind & ~is_end & (input_ids != self.tokenizer.pad_token_id)
        if unseen.any():
            with errors_of_tokenizers(ValueError, "the tokens of a text"):
                text = self.tokenizer.decode(input_ids[unseen.any(dim=-1)][0])
            raise ValueError(
                f"The text {text!r:.200} goes on behind the token {end}, at which the model reads it. Leave such "
                "tokens out of the labels, or load the tokenizer of this model's checkpoint."
            )
        return lengths

    def _padding(self) -> dict[str, Any]:
        """How the tokenizer pads."""
        if self.text_length is None:
            return dict(self.text_kwargs)
        return {"padding": "max_length", "max_length": self.text_length}


@contextlib.contextmanager
def errors_of_tokenizers(kind: type[ValueError], what: str) -> Iterator[None]:
    """Raise an error of this kind where the tokenizers library raises one of none, or panics (no `Exception`)."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise kind(
            f"The tokenizers library fails over {what} ({str(error)!r:.300}). Take the tokenizer of the CLIP, "
            "MetaCLIP 2, SigLIP or SigLIP 2 that the checkpoint was made from."
        ) from error


def _chunks_of_characters(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """Texts in lists of at most so many characters.

    Raises:
        ValueError: one text has more.
    """
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if len(text) > most:
            raise ValueError(
                f"A text has {len(text)} characters; up to {most} are read: {text[:100]!r}. Shorten its label, its "
                "description or the prompt template."
            )
        if chunk and characters + len(text) > most:
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    if chunk:
        yield chunk


def _load_processor(name: str | os.PathLike[str], *, trust_remote_code: bool | None = None, **kwargs: Any) -> Any:
    """The processor of a checkpoint of any kind."""
    files = package_module("processing.tokenizer_files")
    load = AutoProcessor.from_pretrained if files is None else files.load_processor
    return load(name, trust_remote_code=bool(trust_remote_code), **kwargs)


def _checked_descriptions(descriptions: Any) -> dict[str, Description] | None:
    """Sentences by label as they are stored.

    Raises:
        ValueError: other than texts, or lists of texts, by name.
    """
    if descriptions is None or (isinstance(descriptions, Mapping) and not descriptions):
        return None
    if not isinstance(descriptions, Mapping):
        raise ValueError(
            f"`label_descriptions` is of the type {type(descriptions).__name__}; it must be a mapping from label to "
            "description, or None."
        )
    checked = checked_label_list(descriptions, descriptions.values(), source="`label_descriptions`")
    return {name: text for name, text in checked.pairs if text} or None


def _checked_background(labels: Any, *, source: str = "`background_labels`") -> list[str] | None:
    """The names of a stored background.

    Raises:
        ValueError: no label list, or a very long one, which would be encoded for every list that is asked for.
    """
    if labels is None or (isinstance(labels, list | tuple) and not labels):
        return None
    names = list(read_label_list(labels, source=source).names)
    if len(names) > MAX_BACKGROUND_LABELS:
        raise ValueError(f"{source} has {len(names)} names; at most {MAX_BACKGROUND_LABELS} are stored.")
    return names


def _checked_calibration(calibration: Any) -> dict[str, Any] | None:
    """A stored calibration with a background and numbers that can be computed with; the pipeline knows the rest.

    Raises:
        ValueError: it is not a mapping, or has a background that is none, or a number that is none.
    """
    if calibration is None:
        return None
    if not isinstance(calibration, Mapping):
        raise ValueError(f"`calibration` is of the type {type(calibration).__name__}; it must be a mapping or None.")
    _checked_background(calibration.get("background_labels"), source="`calibration`, `background_labels`")
    for name in ("scale", "bias", "threshold"):
        number = calibration.get(name, 0.0)
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= MAX_CALIBRATION:
            raise ValueError(f"`calibration`, `{name}` is {repr(number)[:80]}; it must be a finite number.")
    return dict(calibration) or None


def _everyday_background(tokenizer: PreTrainedTokenizerBase) -> list[str] | None:
    """The everyday background, for a text tower that knows its words: that of a toy world does not."""
    with errors_of_tokenizers(ValueError, "everyday words"):
        rows = tokenizer(list(EVERYDAY_BACKGROUND), add_special_tokens=False)["input_ids"]
    tokens = sum(map(len, rows))
    characters = sum(map(len, EVERYDAY_BACKGROUND))
    return list(EVERYDAY_BACKGROUND) if tokens <= MAX_TOKENS_PER_CHARACTER * characters else None


__all__ = ["FrosterProcessor"]
