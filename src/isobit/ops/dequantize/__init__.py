"""dequantize: int8 to float32 by a table of 256."""
