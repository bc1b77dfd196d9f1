"""transformers' Trainer for a CLIP model on rendered stills: the loss of a step, its optimizer, what is measured.

The loss is for pictures that have many true captions, and captions of many pictures: "something red" is true of every
picture with something red in it; with CLIP's loss (Radford et al., ICML 2021) the others of them would count as
negatives.

The optimizer is Muon for the matrices inside the layers, AdamW for everything else. Muon: Jordan et al., 2024, as in
torch, with updates as large as AdamW's (Liu et al., arXiv 2502.16982). Embeddings, projections, norms and biases are
not what it is for. From random weights a small CLIP learns shapes with it within 2,400 steps, at whose end AdamW alone
is still at chance.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from transformers import CLIPModel, PreTrainedTokenizerBase, TrainingArguments

from ...modeling.configuration_froster import FrosterConfig
from ...modeling.modeling_froster import FrosterModel
from ...training.checkpointing import AtomicCheckpointing
from ...training.student import decay_parameter_names, look_for_signals
from .stills import HeldOutStills, StillBatches, held_out_accuracy, single_batch

# Of a pair of a still and a caption, in `caption_loss`: its score, and in each direction what its backward pass reads,
# with what is made on the way in the second.
LOSS_BYTES = 30


class ClipPretrainer(AtomicCheckpointing):
    """Trains a CLIP model from random weights, in one process; everything else is as in the Trainer.

    Args:
        model: to train.
        args: with `per_device_train_batch_size=1`, an item of the data being a batch, and
            `train_sampling_strategy="sequential"`.
        batches: to train on.
        held_out: to evaluate on.
        tokenizer: tokenizer of the captions, saved with the checkpoints.
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

        self._embedder = embedder_of(self.clip)
        look_for_signals(self.clip)

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
        """See [`caption_loss`]."""
        stills = self._embedder.get_video_features(inputs["pixel_values"][:, None], only_embeds=True).video_embeds
        texts = self._embedder.get_text_features(inputs["input_ids"], only_embeds=True).text_embeds
        logits = self._embedder.logit_scale.exp() * stills @ texts.T
        loss = caption_loss(logits.float(), inputs["matches"])
        return (loss, {"logits_per_image": logits}) if return_outputs else loss

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


def embedder_of(clip: CLIPModel) -> FrosterModel:
    """A model of the same parameters that computes embeddings and nothing else: a fifth less work in a training.

    Its last blocks are evaluated where they are read, and what texts begin with alike is encoded once.
    """
    model = FrosterModel(FrosterConfig.from_dual_encoder_config(clip.config, temporal_module="none"))
    model.load_state_dict(clip.state_dict(keep_vars=True), assign=True)
    return model


def caption_loss(logits: Tensor, matches: Tensor) -> Tensor:
    """Each picture finds each of its captions among the captions that are not true of it, and the other way round.

    For a picture i with positives P(i) and negatives N(i), and the same with pictures and captions exchanged:

        L_i = mean over p in P(i) of -log( exp(s_ip) / (exp(s_ip) + sum over n in N(i) of exp(s_in)) )

    This is the supervised contrastive loss (Khosla et al., NeurIPS 2020, eq. 2, the mean outside the logarithm) but
    for the denominator: there it holds all positives, so that they compete, and a vague caption and a detailed one of
    the same picture push each other away; here it holds one at a time. With one positive each this is CLIP's loss.

    Args:
        logits: (B, C) scaled similarities of B pictures and C captions.
        matches: (B, C) bool, which captions are true of which pictures. Rows and columns without any do not count.

    Returns:
        The mean of both directions; each is a mean over the rows that count, zero when there is none.
    """
    return (_loss_of_rows(logits, matches) + _loss_of_rows(logits.T, matches.T)) / 2


def _loss_of_rows(logits: Tensor, matches: Tensor) -> Tensor:
    # The lowest number and not -inf, whose logsumexp has no gradient where a row has no negatives.
    negatives = logits.masked_fill(matches, torch.finfo(logits.dtype).min).logsumexp(dim=1, keepdim=True)
    losses = F.softplus(negatives - logits).masked_fill(~matches, 0)
    num_positives = matches.sum(dim=1)
    rows = losses.sum(dim=1) / num_positives.clamp(min=1)
    return rows.sum() / (num_positives > 0).sum().clamp(min=1)


class SinglePrecisionMuon(Muon):
    """torch's Muon, with the orthogonalization in float32 on every device.

    torch's own is in bfloat16. A CPU without bfloat16 arithmetic spends most of a training of small matrices in it,
    and what is learned would depend on the processor.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """See [`torch.optim.Muon.step`]."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                buffer = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
                update = orthogonalize(update, coefficients=group["ns_coefficients"], steps=group["ns_steps"])
                # Updates as large as AdamW's: `adjust_lr_fn="match_rms_adamw"`.
                size = 0.2 * math.sqrt(max(parameter.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * size)
        return loss


def orthogonalize(matrix: torch.Tensor, *, coefficients: tuple[float, float, float], steps: int) -> torch.Tensor:
    """The singular vectors of a matrix with singular values near 1, by the quintic iteration of Newton and Schulz.

    Args:
        matrix: (m, n).
        coefficients: coefficients of the polynomial a x + b x^3 + c x^5 that all singular values go through in a step.
        steps: steps of the iteration.
    """
    a, b, c = coefficients
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).to(matrix.dtype)


class MuonAndAdamW(Optimizer):
    """Two optimizers that the Trainer, its schedule and its checkpoints see as one.

    Args:
        muon: optimizer of some parameters.
        adamw: optimizer of the others.
    """

    def __init__(self, muon: Muon, adamw: AdamW):
        self.muon, self.adamw = muon, adamw
        # AdamW's first: the learning rate of the first group is the one that the Trainer logs.
        super().__init__([*adamw.param_groups, *muon.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Both work on the groups and the state of this one, which are what is scheduled, saved and loaded."""
        num_adamw = len(self.adamw.param_groups)
        self.adamw.param_groups, self.muon.param_groups = self.param_groups[:num_adamw], self.param_groups[num_adamw:]
        self.muon.state = self.adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See [`torch.optim.Optimizer.load_state_dict`]."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """See [`torch.optim.Optimizer.step`]."""
        loss = self.muon.step(closure)
        self.adamw.step()
        return loss


def muon_and_adamw(
    model: nn.Module,
    *,
    muon_learning_rate: float,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> MuonAndAdamW:
    """The optimizer of a CLIP model that is trained from random weights.

    Args:
        model: whose transformer layers are in modules named `layers`.
        muon_learning_rate: for the matrices of the layers.
        learning_rate: for everything else.
        weight_decay: for all but vectors and position embeddings.
        betas: those of AdamW.
    """
    decays = set(decay_parameter_names(model))
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and ".layers." in name:
            matrices.append(parameter)
        else:
            (decayed if name in decays else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return MuonAndAdamW(
        SinglePrecisionMuon(matrices, lr=muon_learning_rate, weight_decay=weight_decay),
        AdamW(groups, lr=learning_rate, betas=betas, fused=True),
    )
