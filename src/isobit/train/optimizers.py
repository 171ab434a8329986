"""torch's optimizers as a recipe names them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isobit.core.arguments import Arguments
from isobit.train.recipe.types import Optimizer


def make(optimizer: Optimizer, module: nn.Module) -> torch.optim.Optimizer:
    """Return torch's optimizer of the parameters of `module` that want a gradient.

    It works on lists of tensors (`foreach`), which computes the same bits as one tensor after the
    other. There is one group of parameters, or, without `decay_biases_and_norms`, two: first those
    that decay, then those of at most one axis, which are the biases and the weights of norms.

    The rules, with gradient g, weight w, rate r, decay d (torch's documentation has them in full):

        sgd       g += d w;  v = momentum v + g;  w -= r v
        nesterov  g += d w;  v = momentum v + g;  w -= r (g + momentum v)
        adam      g += d w;  w -= r m' / (sqrt(v') + 1e-8),  m', v' bias-corrected moments of g
        adamw     w -= r d w; then as adam without decay

    Raises `BadArgument` for a module without parameters to train.
    """
    given = Arguments("optimizers.make")
    given.instance("optimizer", optimizer, Optimizer, "an Optimizer")
    parameters: list[Tensor] = []
    if given.instance("module", module, nn.Module, "a torch module"):
        parameters = trained(module)
        if not parameters:
            given.refuse("module", "parameters to train", "none that requires a gradient")
    given.check()
    groups: list[dict[str, object]] = [{"params": parameters}]
    if optimizer.weight_decay and not optimizer.decay_biases_and_norms:
        decaying = [p for p in parameters if p.dim() > 1]
        others = [p for p in parameters if p.dim() <= 1]
        groups = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
    rate, decay = optimizer.learning_rate, optimizer.weight_decay
    match optimizer.name:
        case "sgd" | "nesterov":
            return torch.optim.SGD(
                groups,
                lr=rate,
                momentum=optimizer.momentum,
                weight_decay=decay,
                nesterov=optimizer.name == "nesterov",
                foreach=True,
            )
        case "adam" | "adamw":
            rule = torch.optim.Adam if optimizer.name == "adam" else torch.optim.AdamW
            return rule(groups, lr=rate, betas=optimizer.betas, weight_decay=decay, foreach=True)


def clip(optimizer: Optimizer, module: nn.Module) -> float | None:
    """Scale the gradients of `module` as `clip_norm` says; return their Euclidean norm before it.

    Over all parameters together, g *= min(1, clip_norm / (|g| + 1e-6)), torch's `clip_grad_norm_`.
    Without `clip_norm` nothing happens, and None comes back: the norm would cost time. A gradient
    that is not finite stays so, for the caller to find.
    """
    if optimizer.clip_norm is None:
        return None
    norm = nn.utils.clip_grad_norm_(trained(module), optimizer.clip_norm, foreach=True)
    return float(norm)


def trained(module: nn.Module) -> list[Tensor]:
    """Return the parameters that want a gradient, in the module's order."""
    return [p for p in module.parameters() if p.requires_grad]
