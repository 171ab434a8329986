"""lut: any function of one code, as a table of 256."""
