/*
 * emu.h: what the emulator offers beside the run-time library: device work that is no kernel, and controls for tests.
 *
 * The controls are exported; a test finds them by dlsym, and a real device has none of them.
 */
#ifndef D2C_EMU_EMU_H
#define D2C_EMU_EMU_H

#include <stddef.h>

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMU_EXPORT __attribute__((visibility("default")))

/* Queues run(argument) as the device's work on a stream; it may touch device memory and calls nothing of the run-time
 * library.  `bytes` of the argument are copied now.  Counts as a launch; a capture records it. */
cudaError_t emu_enqueue(cudaStream_t stream, void (*run)(const void *argument), const void *argument,
                        size_t bytes);

/* What the device may allocate in all; blocks that are there stay. */
EMU_EXPORT void emu_set_memory(size_t bytes);

/* The n-th launch from now (1: the next) fails: at the call for an error that a context survives, when it runs and for
 * good for one that it does not (cudaErrorLaunchFailure).  0: none. */
EMU_EXPORT void emu_fail_launch(long n, int error);

/* Calls so far that launched a kernel or queued other work of the device; those of a capture count when captured. */
EMU_EXPORT long emu_launches(void);

/* The order of threads, blocks and streams: 0 the natural one, else a permutation (EMU_ORDER). */
EMU_EXPORT void emu_set_order(unsigned long seed);

/* Breaks a rule of CUDA (misuse.cpp has their names): 0 when that went unseen, EMU_WRONG when it gave a wrong result,
 * else the error that it ended with; -1: there is no such rule. */
#define EMU_WRONG 1000
EMU_EXPORT int emu_misuse(const char *rule);

#ifdef __cplusplus
}
#endif

#endif
