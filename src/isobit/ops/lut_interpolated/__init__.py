"""lut_interpolated: sigmoid and tanh of int16 codes."""
