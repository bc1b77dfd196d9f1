"""transformers' Trainer for a CLIP model on rendered stills: what is in a step, and what is measured."""

from typing import Any, cast

from torch import nn
from torch.optim import Optimizer
from transformers import CLIPModel, PreTrainedTokenizerBase, TrainingArguments

from ..checkpointing import AtomicCheckpointing
from .contrastive_loss import contrastive_loss
from .held_out_accuracy import held_out_accuracy
from .optimizer import muon_and_adamw
from .stills import HeldOutStills, StillBatches, single_batch


class ClipPretrainer(AtomicCheckpointing):
    """Trains a CLIP model from random weights, in one process; what is not named here is as in the Trainer.

    Args:
        model: to train.
        args: with `per_device_train_batch_size=1`, an item of the data being a batch, and
            `train_sampling_strategy="sequential"`.
        batches: to train on.
        held_out: to evaluate on.
        tokenizer: of the captions, saved with the checkpoints.
        muon_learning_rate: for the matrices inside the layers; `args.learning_rate` is for the others.

    Raises:
        ValueError: several processes were started.
    """

    def __init__(
        self,
        model: CLIPModel,
        args: TrainingArguments,
        *,
        batches: StillBatches,
        held_out: HeldOutStills,
        tokenizer: PreTrainedTokenizerBase,
        muon_learning_rate: float,
        **kwargs: Any,
    ):
        if args.world_size > 1:
            raise ValueError(
                f"{args.world_size} processes were started; pre-training of a small CLIP runs in one. Start it "
                "without `accelerate launch` or `torchrun`."
            )
        args._n_gpu = min(args.n_gpu, 1)  # DataParallel would cut captions and stills apart
        self.tokenizer, self.muon_learning_rate = tokenizer, muon_learning_rate
        super().__init__(
            model,
            args,
            data_collator=single_batch,
            train_dataset=batches,
            eval_dataset=held_out,
            processing_class=tokenizer,
            **kwargs,
        )

    @property
    def clip(self) -> CLIPModel:
        """The model without wrappers."""
        return cast(CLIPModel, self.accelerator.unwrap_model(self.model))

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """See [`muon_and_adamw`]."""
        if self.optimizer is None:
            self.optimizer = muon_and_adamw(
                cast(nn.Module, self.model if model is None else model),
                muon_learning_rate=self.muon_learning_rate,
                learning_rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
            )
        return self.optimizer

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """See [`contrastive_loss`]."""
        outputs = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])
        loss = contrastive_loss(outputs.logits_per_image.float(), inputs["matches"])
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: HeldOutStills | None = None,  # type: ignore[override]
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure and log [`held_out_accuracy`]; see [`~transformers.Trainer.evaluate`]."""
        held_out = cast(HeldOutStills, self.eval_dataset if eval_dataset is None else eval_dataset)
        found = held_out_accuracy(self.clip.eval(), self.tokenizer, held_out)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
