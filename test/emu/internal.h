/*
 * internal.h: what the emulator's files share.
 *
 * One mutex serialises everything: every entry of the run-time library takes it, and work runs while it is held.  The
 * functions here are called under it.
 */
#ifndef D2C_EMU_INTERNAL_H
#define D2C_EMU_INTERNAL_H

#include <functional>
#include <memory>
#include <mutex>

#include "cuda_runtime.h"
#include "emu.h"

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif

/* ---- device.cpp: errors, settings ------------------------------------------------------------------------------ */

/* Held by an entry while it works. */
struct emu_entry {
    std::lock_guard<std::mutex> lock;
    emu_entry();
};

/* Remembers a failure as the thread's newest; returns it. */
cudaError_t emu_result(cudaError_t error);

/* Why nothing can be done: no device, no driver, or the device is lost. */
cudaError_t emu_usable(void);

/* The device fails for good, unless it has. */
void emu_lose(cudaError_t error);
bool emu_lost(void);

/* "emulator: ..." on standard error. */
void emu_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A number of the environment. */
long emu_setting(const char *name, long otherwise);

/* Random numbers of EMU_ORDER; below(n) < n.  Without a seed the order is the natural one. */
bool emu_permuted(void);
unsigned emu_below(unsigned n);

/* What a device of today bears. */
#define EMU_MOST_THREADS 1024
#define EMU_SHARED_DEFAULT ((size_t)48 << 10) /* without cudaFuncSetAttribute */

/* ---- memory.cpp ------------------------------------------------------------------------------------------------ */

size_t emu_memory_size(void);

enum emu_place { EMU_DEVICE, EMU_PINNED, EMU_PAGEABLE, EMU_NOWHERE };

/* Where all of a range lies; EMU_NOWHERE: partly outside a block. */
emu_place emu_place_of(const void *start, size_t bytes);

/* Device memory may be touched while one exists. */
struct emu_open_memory {
    emu_open_memory();
    ~emu_open_memory();
};

/* ---- stream.cpp ------------------------------------------------------------------------------------------------ */

/* Queues work on a stream or records it for a capture. */
cudaError_t emu_queue(cudaStream_t stream, std::function<void()> run);
cudaError_t emu_drain(cudaStream_t stream);
cudaError_t emu_drain_all(void);

/* The calling thread does what a capture forbids: captures that mind are invalid from now on. */
cudaError_t emu_forbidden_in_capture(void);
bool emu_is_capturing(cudaStream_t stream);
cudaError_t emu_spoil_capture(cudaStream_t stream);

/* To events, the work that runs takes that much longer. */
void emu_pretend_seconds(double seconds);

/* ---- block.cpp and fiber.cpp ----------------------------------------------------------------------------------- */

/* Runs run() as every thread of a grid. */
void emu_run_grid(const std::function<void()> &run, dim3 grid, dim3 block, size_t shared);

struct emu_fiber;

/* A fiber that runs main, or one that ran and was released, ready to run it anew. */
emu_fiber *emu_fiber_take(void (*main)(void));
void emu_fiber_release(emu_fiber *fiber);

/* Leaves the running fiber for another; `last` when nothing comes back to it.  NULL is the host thread's own stack. */
void emu_fiber_switch(emu_fiber *to, bool last);
emu_fiber *emu_fiber_current(void);

/* Every fiber is free again, wherever it stopped. */
void emu_fiber_reset(void);

#endif
