"""From a plan to a C project, and the board files that emulated firmware is linked with."""
