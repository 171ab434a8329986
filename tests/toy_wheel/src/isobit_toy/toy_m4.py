"""An imaginary Cortex-M4F with 16 KiB of RAM: small enough to be refused."""

from isobit.core.features import Feature
from isobit.targets import Isa, Qemu, Region, Target

TARGET = Target(
    name="toy-m4",
    title="Toy Cortex-M4F, 16 KiB RAM",
    core="cortex-m4",
    isa=Isa.ARM_M,
    features=frozenset({Feature.THUMB2, Feature.DSP, Feature.FPU}),
    regions=(
        Region(name="FLASH", kind="flash", base=0x00000000, size_bytes=128 * 1024),
        Region(name="RAM", kind="ram", base=0x20000000, size_bytes=16 * 1024),
    ),
    clock_hz=48_000_000,
    zig_flags=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"),
    gcc="arm-none-eabi-gcc",
    gcc_flags=("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    unicorn_model="UC_CPU_ARM_CORTEX_M4",
    qemu=Qemu(program="qemu-system-arm", machine="mps2-an386"),
    cycle_model="cortex-m4",
    source="invented for docs/add-a-target.md",
)
