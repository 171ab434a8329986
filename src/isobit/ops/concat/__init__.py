"""concat: tensors one after the other along an axis."""
