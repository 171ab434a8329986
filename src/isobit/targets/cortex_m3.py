"""Arm Cortex-M3: memory where QEMU's `mps2-an385` has it: one ELF runs in both emulators."""

from isobit.core.features import Feature
from isobit.targets.base import Isa, Qemu, Region, Target

TARGET = Target(
    name="cortex-m3",
    title="Arm Cortex-M3",
    core="cortex-m3",
    isa=Isa.ARM_M,
    features=frozenset({Feature.THUMB2}),
    regions=(
        Region(name="FLASH", kind="flash", base=0x00000000, size_bytes=1024 * 1024),
        Region(name="RAM", kind="ram", base=0x20000000, size_bytes=256 * 1024),
    ),
    zig_flags=("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m3"),
    gcc="arm-none-eabi-gcc",
    gcc_flags=("-mcpu=cortex-m3", "-mthumb"),
    unicorn_model="UC_CPU_ARM_CORTEX_M3",
    qemu=Qemu(program="qemu-system-arm", machine="mps2-an385"),
    source="Arm DDI 0337, Cortex-M3 Technical Reference Manual",
)
