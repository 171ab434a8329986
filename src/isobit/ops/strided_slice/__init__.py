"""strided_slice: every stride-th element from a begin, per axis."""
