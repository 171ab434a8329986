"""RV32IMC: memory where QEMU's `virt` has it: one ELF runs in both emulators."""

from isobit.core.features import Feature
from isobit.targets.base import Isa, Qemu, Region, Target

TARGET = Target(
    name="rv32imc",
    title="RISC-V RV32IMC",
    core="rv32imc",
    isa=Isa.RISCV,
    features=frozenset({Feature.RV32M, Feature.RV32C}),
    regions=(
        # `virt` has RAM only, from 0x80000000 on: its first megabyte stands for the flash.
        Region(name="FLASH", kind="flash", base=0x80000000, size_bytes=1024 * 1024),
        Region(name="RAM", kind="ram", base=0x80400000, size_bytes=256 * 1024),
    ),
    zig_flags=("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+c", "-mabi=ilp32"),
    gcc="riscv64-unknown-elf-gcc",
    gcc_flags=("-march=rv32imc", "-mabi=ilp32"),
    unicorn_model="UC_CPU_RISCV32_ANY",
    qemu=Qemu(program="qemu-system-riscv32", machine="virt", args=("-bios", "none")),
    unaligned_access=False,
    source="RISC-V Unprivileged ISA 20191213, chapters RV32I, M, C",
)
