/* Files and exit through the debugger or emulator that runs the firmware (Arm semihosting, which
 * RISC-V adopted with another trap instruction). Every call stops the core: keep them few. */
#ifndef ISOBIT_SEMIHOST_H
#define ISOBIT_SEMIHOST_H

#include <stdint.h>

#define SEMIHOST_READ_BINARY 1u   /* "rb" */
#define SEMIHOST_WRITE_BINARY 5u  /* "wb" */
#define SEMIHOST_APPEND_BINARY 9u /* "ab" */

/* Returns a handle, or -1. */
int32_t semihost_open(const char *name, uint32_t mode);

/* Returns the number of bytes read: fewer than `bytes` only at the end of the file. */
uint32_t semihost_read(int32_t handle, void *data, uint32_t bytes);

/* Returns 0, or the number of bytes that were not written. */
uint32_t semihost_write(int32_t handle, const void *data, uint32_t bytes);

/* Returns 0, or -1. */
int32_t semihost_close(int32_t handle);

/* Ends the emulation with this exit code. */
_Noreturn void semihost_exit(int32_t code);

#endif
