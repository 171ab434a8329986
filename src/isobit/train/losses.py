"""Losses of classifiers, as the mean over a batch."""

from __future__ import annotations

import torch.nn.functional as F  # torch's own convention
from torch import Tensor


def classification(
    logits: Tensor, y_a: Tensor, y_b: Tensor, lam: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Return the cross entropy to one or two labels per image.

        mean_n  lam[n] CE(logits[n], y_a[n]) + (1 - lam[n]) CE(logits[n], y_b[n])
        CE(z, y) = -sum_k t_k log softmax(z)_k,   t_k = (1 - s) [k = y] + s / K

    logits: float32 [N, K]. y_a, y_b: int64 [N], class numbers in 0..K-1. lam: float32 [N] in 0..1.
    label_smoothing: s, in [0, 1). What `augment.apply` returns fits; where it mixed nothing, y_b is
    y_a itself, and the result is `torch.nn.functional.cross_entropy` bit for bit. Label smoothing:
    Szegedy et al., arXiv 1512.00567.
    """
    if y_b is y_a:
        return F.cross_entropy(logits, y_a, label_smoothing=label_smoothing)
    first = F.cross_entropy(logits, y_a, label_smoothing=label_smoothing, reduction="none")
    second = F.cross_entropy(logits, y_b, label_smoothing=label_smoothing, reduction="none")
    return (lam * first + (1 - lam) * second).mean()


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return how far a student's softened outputs are from its teacher's.

        T^2 mean_n sum_k p_k log(p_k / q_k),   p = softmax(teacher / T),  q = softmax(student / T)

    student, teacher: logits float32 [N, K]; temperature: T > 0. The teacher gets no gradient. This
    is the soft cross entropy of Hinton et al., arXiv 1503.02531, section 2, less the teacher's own
    entropy, which has no gradient: equal logits have loss 0. T^2 keeps the size of the gradient
    where T changes, as they write there.
    """
    soft = F.log_softmax(teacher.detach() / temperature, dim=1)
    own = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(own, soft, reduction="batchmean", log_target=True) * temperature**2
