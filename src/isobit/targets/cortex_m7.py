"""Arm Cortex-M7F: memory where QEMU's `mps2-an500` has it: one ELF runs in both emulators."""

from isobit.core.features import Feature
from isobit.targets.base import Isa, Qemu, Region, Target

TARGET = Target(
    name="cortex-m7",
    title="Arm Cortex-M7F",
    core="cortex-m7",
    isa=Isa.ARM_M,
    features=frozenset({Feature.THUMB2, Feature.DSP, Feature.FPU}),
    regions=(
        Region(name="FLASH", kind="flash", base=0x00000000, size_bytes=1024 * 1024),
        Region(name="RAM", kind="ram", base=0x20000000, size_bytes=256 * 1024),
    ),
    zig_flags=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m7+fp_armv8d16sp"),
    gcc="arm-none-eabi-gcc",
    gcc_flags=("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
    unicorn_model="UC_CPU_ARM_CORTEX_M7",
    qemu=Qemu(program="qemu-system-arm", machine="mps2-an500"),
    source="Arm DDI 0489, Cortex-M7 Technical Reference Manual",
)
