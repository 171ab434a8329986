"""quantize: float32 to int8 in integer arithmetic."""
