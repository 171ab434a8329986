"""ST NUCLEO-L4R5ZI: three SRAMs that the bus shows as one block of 640 KiB."""

from isobit.targets import cortex_m4
from isobit.targets.base import Qemu, Region, Target

TARGET = Target(
    name="nucleo-l4r5zi",
    title="ST NUCLEO-L4R5ZI (STM32L4R5ZI, Cortex-M4F)",
    core=cortex_m4.TARGET.core,
    isa=cortex_m4.TARGET.isa,
    features=cortex_m4.TARGET.features,
    regions=(
        Region(name="FLASH", kind="flash", base=0x08000000, size_bytes=2048 * 1024),
        Region(name="SRAM1", kind="ram", base=0x20000000, size_bytes=192 * 1024),
        # SRAM2 also appears at 0x10000000; here it is the alias that continues SRAM1.
        Region(name="SRAM2", kind="ram", base=0x20030000, size_bytes=64 * 1024),
        Region(name="SRAM3", kind="ram", base=0x20040000, size_bytes=384 * 1024),
    ),
    clock_hz=120_000_000,
    zig_flags=cortex_m4.TARGET.zig_flags,
    gcc=cortex_m4.TARGET.gcc,
    gcc_flags=cortex_m4.TARGET.gcc_flags,
    unicorn_model=cortex_m4.TARGET.unicorn_model,
    # QEMU has no such board: firmware for it is linked for the M4 machine with equal sizes.
    qemu=Qemu(
        program="qemu-system-arm",
        machine="mps2-an386",
        regions=(
            Region(name="FLASH", kind="flash", base=0x00000000, size_bytes=2048 * 1024),
            Region(name="RAM", kind="ram", base=0x20000000, size_bytes=640 * 1024),
        ),
    ),
    cycle_model=cortex_m4.TARGET.cycle_model,
    source="ST DS12023 (STM32L4R5xx), memory map; ST RM0432 section 2.2",
)
