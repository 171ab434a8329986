"""How users write an operator in torch: the base of the classes of `isobit.nn`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Layer:
    """How users write an operator: one class of `isobit.nn`, described without importing torch.

    Subclass in an `op.py` as `class ReLULayer(Layer, name="ReLU")`; `isobit.nn` makes
    `isobit.nn.ReLU`, a subclass of `torch.nn.ReLU` with the same arguments and defaults that also
    remembers where it was written.
    """

    public_name: ClassVar[str] = ""
    functions: ClassVar[tuple[str, ...]] = ()
    """Functions and tensor methods with the same meaning, as dotted names: `torch.relu`,
    `Tensor.relu`.
    """
    takes_several: ClassVar[bool] = False
    """Whether the first argument of those may be several values, as in `torch.cat`."""

    def __init_subclass__(
        cls, name: str = "", functions: tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.public_name, cls.functions = name, functions

    @classmethod
    def module_class(cls) -> Any:
        """Return the `torch.nn.Module` class that users know; torch's own of the same name by
        default.
        """
        import torch

        return getattr(torch.nn, cls.public_name)

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        """Emit float nodes for a call of `module` on `x`, a value of the builder; return the result
        value.
        """
        raise AssertionError("every layer defines lower")

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Emit nodes for a function call; by default as the module built from the remaining
        arguments.
        """
        settings = {
            key: value for key, value in kwargs.items() if key not in ("inplace", "training")
        }
        return cls.lower(build, cls.module_class()(*args[1:], **settings), args[0])
