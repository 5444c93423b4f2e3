"""Matrices stored in 8 or 4 bits: how they are marked, what they stand for, how to multiply by them."""
