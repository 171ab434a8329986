"""What a core can execute, as far as a kernel may ask for it."""

from __future__ import annotations

from enum import Enum


class Feature(Enum):
    """An instruction-set feature. `guard` is the C preprocessor condition that proves it at compile
    time.
    """

    THUMB2 = "thumb2"
    """32-bit Thumb instructions: IT blocks, wide immediates, UMULL/SMULL."""
    DSP = "dsp"
    """ARMv7E-M / ARMv8-M DSP extension: SMLAD, SXTB16, SSAT16, SMMLA."""
    MVE = "mve"
    """M-profile Vector Extension, integer (Helium)."""
    FPU = "fpu"
    """A single-precision FPU. No integer kernel may use it; it decides the float ABI only."""
    RV32M = "rv32m"
    """RISC-V integer multiply and divide."""
    RV32C = "rv32c"
    """RISC-V compressed instructions."""

    @property
    def guard(self) -> str:
        """A C preprocessor expression that holds where the feature exists; "" where none is
        needed.
        """
        return _GUARDS.get(self, "")


_GUARDS = {
    Feature.DSP: "defined(__ARM_FEATURE_DSP)",
    Feature.MVE: "defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)",
    Feature.RV32M: "defined(__riscv_mul)",
}
