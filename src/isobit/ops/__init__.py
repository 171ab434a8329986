"""One folder per operator; `base` finds them."""
