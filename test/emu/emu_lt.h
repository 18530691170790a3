/*
 * emu_lt.h: controls of the emulated cuBLASLt, for tests that find them by dlsym.
 *
 * Its algorithms differ in the order of their sums, and so in last bits: 0 one after another; 1 four sums in turn, for
 * any alignment of 4 bytes; 2 sums of 32; 3 and 4 two and four parts of k through the workspace.  It has none for bf16
 * matrices that are aligned to 2 bytes.
 */
#ifndef D2C_EMU_EMU_LT_H
#define D2C_EMU_EMU_LT_H

#include "emu.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMU_LT_ALGORITHMS 5
#define EMU_LT_GELU 0x80000000u /* products with GELU in their epilogue */
#define EMU_LT_BARE 0x40000000u /* those without */

/* Products by these algorithms, a bit each, and those of these kinds take that much longer from now on, to
 * events: nobody waits for it. */
EMU_EXPORT void emu_lt_slow(unsigned algorithms, long microseconds);

/* The n-th product from now (1: the next) returns this status.  0: none. */
EMU_EXPORT void emu_lt_fail(long n, int status);

/* How often algorithms were asked for. */
EMU_EXPORT long emu_lt_queries(void);

#ifdef __cplusplus
}
#endif

#endif
