"""Tests of training: the forward pass is the chip's integers."""
