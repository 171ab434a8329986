"""Networks that train on the chip's integers: tracing, ranges, the trainable twin and its export.
Needs torch.
"""
