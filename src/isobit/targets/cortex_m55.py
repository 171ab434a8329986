"""Arm Cortex-M55 with Helium: runs in QEMU only; its memories are the TCMs of `mps3-an547`."""

from isobit.core.features import Feature
from isobit.targets.base import Isa, Qemu, Region, Target

TARGET = Target(
    name="cortex-m55",
    title="Arm Cortex-M55 with Helium",
    core="cortex-m55",
    isa=Isa.ARM_M,
    features=frozenset({Feature.THUMB2, Feature.DSP, Feature.MVE, Feature.FPU}),
    regions=(
        Region(name="FLASH", kind="flash", base=0x00000000, size_bytes=512 * 1024),
        Region(name="RAM", kind="ram", base=0x20000000, size_bytes=256 * 1024),
    ),
    zig_flags=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m55+mve_fp+fp_armv8d16"),
    gcc="arm-none-eabi-gcc",
    gcc_flags=("-mcpu=cortex-m55", "-mthumb", "-mfpu=auto", "-mfloat-abi=hard"),
    unicorn_model="",
    qemu=Qemu(program="qemu-system-arm", machine="mps3-an547"),
    source="Arm 101051, Cortex-M55 Technical Reference Manual; the memories are the TCMs of AN547",
)
