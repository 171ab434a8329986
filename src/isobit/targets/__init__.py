"""Cores and boards, one data file each: a scan finds them, so adding one edits nothing else."""

from isobit.targets.base import Isa, Qemu, Region, Target, load, names

__all__ = ["Isa", "Qemu", "Region", "Target", "load", "names"]
