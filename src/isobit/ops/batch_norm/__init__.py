"""batch_norm: float graphs only; folds into the operator before it."""
