"""Tests of the command line: every verb, every way to use it wrongly."""
