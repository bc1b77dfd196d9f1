"""The loss of contrastive pre-training where one picture has many true captions, and one caption many pictures.

"something red" is true of every picture with something red in it: with CLIP's loss (Radford et al., ICML 2021) the
others of them would count as negatives.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(logits: Tensor, matches: Tensor) -> Tensor:
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
