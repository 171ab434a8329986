"""clamp: ReLU, ReLU6, Hardtanh."""
