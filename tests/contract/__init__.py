"""What every operator gets for free: each definition, kernel and claim held to the others, bit for
bit.
"""
