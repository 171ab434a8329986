"""Compilers and everything that executes a network: host, Unicorn, QEMU."""
