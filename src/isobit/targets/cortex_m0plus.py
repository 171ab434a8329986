"""Arm Cortex-M0+: memory where QEMU's `mps2-an385` has it: one ELF runs in both emulators."""

from isobit.targets.base import Isa, Qemu, Region, Target

TARGET = Target(
    name="cortex-m0plus",
    title="Arm Cortex-M0+",
    core="cortex-m0plus",
    isa=Isa.ARM_M,
    features=frozenset(),
    regions=(
        Region(name="FLASH", kind="flash", base=0x00000000, size_bytes=1024 * 1024),
        Region(name="RAM", kind="ram", base=0x20000000, size_bytes=256 * 1024),
    ),
    zig_flags=("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m0plus"),
    gcc="arm-none-eabi-gcc",
    gcc_flags=("-mcpu=cortex-m0plus", "-mthumb"),
    unicorn_model="UC_CPU_ARM_CORTEX_M0",
    # QEMU has no M0+; ARMv6-M is a subset of the M3's ARMv7-M. The compiler keeps code inside it.
    qemu=Qemu(program="qemu-system-arm", machine="mps2-an385"),
    unaligned_access=False,
    source="Arm DDI 0484, Cortex-M0+ Technical Reference Manual",
)
