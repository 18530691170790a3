/*
 * block.cpp: runs the blocks of a grid one after another, a block's threads as fibers.
 *
 * A thread runs until it ends or waits for others at a meeting: the block's (__syncthreads) or its warp's (shuffles).
 * A thread that never waits leaves its stack to the next one, so that a kernel without meetings costs no switches.
 * When no thread can go on and some have not ended, they wait for what cannot come: they and their places are told, and
 * the device is lost.
 */
#include <stdio.h>
#include <string.h>

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

#include "internal.h"

#define WARP 32
#define MOST_WARPS (EMU_MOST_THREADS / WARP)
#define MOST_SHARED ((size_t)256 << 10)
#define ALL_LANES 0xFFFFFFFFu

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

typedef struct place {
    const char *file;
    int line;
} place;

/* Threads that have come to a meeting, and where that is. */
typedef struct meeting {
    int arrived;
    place at;
    size_t bytes;
} meeting;

typedef enum progress { AHEAD, RUNNING, AT_BLOCK, AT_WARP, ENDED } progress;

typedef struct thread {
    uint3 index;
    progress state;
    emu_fiber *fiber; /* NULL: not begun */
    place at;
} thread;

/* What lanes give lies in one half while the other is still read. */
typedef struct warp {
    meeting meets;
    int half;
    unsigned char given[2][WARP][EMU_LANE_BYTES];
} warp;

static thread threads[EMU_MOST_THREADS];
static warp warps[MOST_WARPS];
static meeting block_meets;
static int count, ended, running;
static int runnable[EMU_MOST_THREADS], runnables; /* a stack */
static const std::function<void()> *body;
static bool failed, inside;
static unsigned char shared_bytes[MOST_SHARED + 64] __attribute__((aligned(1024)));

/* ---- who runs next --------------------------------------------------------------------------------------------- */

/* -1: no thread can go on. */
static int
next_runnable(void)
{
    int chosen, t;

    if (runnables == 0)
        return -1;
    chosen = emu_permuted() ? (int)emu_below((unsigned)runnables) : runnables - 1;
    t = runnable[chosen];
    runnable[chosen] = runnable[--runnables];
    return t;
}

/* Marks threads first..last runnable, but for one; the first will be the next. */
static void
let_go(int first, int last, int but)
{
    for (int t = last; t >= first; t--)
        if (t != but) {
            threads[t].state = RUNNING;
            runnable[runnables++] = t;
        }
}

static void
resume(int t)
{
    running = t;
    threadIdx = threads[t].index;
}

/* A fiber's life: threads that have not begun, one after another. */
static void
run_threads(void)
{
    for (;;) {
        emu_fiber *self = emu_fiber_current();
        int t = next_runnable();

        if (t < 0 || threads[t].fiber != NULL) {
            emu_fiber_release(self);
            emu_fiber_switch(t < 0 ? NULL : threads[t].fiber, true);
        }
        threads[t].fiber = self;
        threads[t].state = RUNNING;
        resume(t);
        (*body)();
        threads[running].state = ENDED;
        ended++;
    }
}

/* The running thread waits until it is let go. */
static void
wait_for_others(progress state)
{
    int self = running, t = next_runnable();

    threads[self].state = state;
    if (t < 0)
        emu_fiber_switch(NULL, true);
    else if (threads[t].fiber != NULL)
        emu_fiber_switch(threads[t].fiber, false);
    else {
        runnable[runnables++] = t;
        emu_fiber_switch(emu_fiber_take(run_threads), false);
    }
    resume(self);
}

/* ---- what goes wrong ------------------------------------------------------------------------------------------- */

#define AT_THREAD "block (%u, %u, %u), thread (%u, %u, %u)"
#define INDICES(i, t) (i).x, (i).y, (i).z, (t).x, (t).y, (t).z

static void
tell_thread(int t)
{
    static const char *const what[] = {"has not begun", "runs", "waits in __syncthreads",
                                       "waits for its warp", "has ended"};
    const thread *self = &threads[t];

    if (self->state == AT_BLOCK || self->state == AT_WARP)
        emu_complain("  " AT_THREAD " %s at %s:%d", INDICES(blockIdx, self->index), what[self->state],
                     self->at.file, self->at.line);
    else
        emu_complain("  " AT_THREAD " %s", INDICES(blockIdx, self->index), what[self->state]);
}

#ifdef EMU_ASAN
/* After a sanitizer's report, which knows nothing of blocks. */
static void
tell_running(void)
{
    if (inside)
        tell_thread(running);
}
#endif

/* Abandons the block. */
static void
fail_block(void)
{
    failed = true;
    emu_fiber_switch(NULL, true);
}

/* The first threads of each kind that stand where no other can join them. */
static void
tell_stuck(void)
{
    int told = 0;

    emu_complain("threads of a block wait for others that do not come:");
    for (int t = 0; t < count && told < 8; t++) {
        const thread *before = t > 0 ? &threads[t - 1] : NULL;

        if (before == NULL || before->state != threads[t].state || before->at.line != threads[t].at.line) {
            tell_thread(t);
            told++;
        }
    }
}

static bool
same_place(place a, place b)
{
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

/* Adds the running thread to a meeting; the others must have come to the same one. */
static void
join(meeting *m, place at, size_t bytes)
{
    threads[running].at = at;
    if (m->arrived++ == 0) {
        m->at = at;
        m->bytes = bytes;
        return;
    }
    if (same_place(m->at, at) && m->bytes == bytes)
        return;
    emu_complain("threads meet at different places, %s:%d and %s:%d:", m->at.file, m->at.line, at.file,
                 at.line);
    tell_thread(running);
    fail_block();
}

/* ---- meetings -------------------------------------------------------------------------------------------------- */

void
emu_meet_block(const char *file, int line)
{
    join(&block_meets, {file, line}, 0);
    if (block_meets.arrived < count) {
        wait_for_others(AT_BLOCK);
        return;
    }
    block_meets.arrived = 0;
    let_go(0, count - 1, running);
}

const unsigned char *
emu_meet_warp(unsigned mask, const void *mine, size_t bytes, const char *file, int line)
{
    int first = running / WARP * WARP;
    warp *w = &warps[running / WARP];
    unsigned char(*given)[EMU_LANE_BYTES] = w->given[w->half];

    join(&w->meets, {file, line}, bytes);
    if (mask != ALL_LANES || bytes > EMU_LANE_BYTES) {
        emu_complain(
            "a warp shares %zu bytes among the lanes %08x at %s:%d; all lanes and %d bytes are allowed",
            bytes, mask, file, line, EMU_LANE_BYTES);
        fail_block();
    }
    if (bytes > 0)
        memcpy(given[running - first], mine, bytes);
    if (w->meets.arrived < WARP) {
        wait_for_others(AT_WARP);
    } else {
        w->meets.arrived = 0;
        w->half = 1 - w->half;
        let_go(first, first + WARP - 1, running);
    }
    return given[0];
}

void *
emu_dynamic_shared(void)
{
    return shared_bytes + 16;
}

/* ---- blocks and grids ------------------------------------------------------------------------------------------ */

static void
begin_block(void)
{
    ended = runnables = 0;
    block_meets.arrived = 0;
    for (int w = 0; w < count / WARP; w++)
        warps[w].meets.arrived = 0;
    for (int t = count - 1; t >= 0; t--) {
        threads[t].state = AHEAD;
        threads[t].fiber = NULL;
        runnable[runnables++] = t;
    }
}

/* Whether every thread came to its end. */
static bool
run_block(size_t shared)
{
    begin_block();
    memset(shared_bytes + 16, 0xFF, shared);
    emu_fiber_switch(emu_fiber_take(run_threads), false);
    if (!failed && ended < count) {
        tell_stuck();
        failed = true;
    }
    if (failed)
        emu_fiber_reset();
    return !failed;
}

static uint3
index_in(dim3 size, unsigned i)
{
    return {i % size.x, i / size.x % size.y, i / size.x / size.y};
}

static uint64_t
common_divisor(uint64_t a, uint64_t b)
{
    return b == 0 ? a : common_divisor(b, a % b);
}

/* The i-th block to run is (start + i * stride) modulo their number. */
static void
choose_blocks(uint64_t blocks, uint64_t *start, uint64_t *stride)
{
    *start = 0;
    *stride = 1;
    if (!emu_permuted() || blocks > UINT32_MAX)
        return;
    *start = emu_below((unsigned)blocks);
    do
        *stride = 1 + emu_below((unsigned)blocks);
    while (common_divisor(*stride, blocks) != 1);
}

void
emu_run_grid(const std::function<void()> &run, dim3 grid, dim3 block, size_t shared)
{
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, start, stride;
    emu_open_memory open;

    choose_blocks(blocks, &start, &stride);
    body = &run;
    blockDim = block;
    gridDim = grid;
    count = (int)(block.x * block.y * block.z);
    for (int t = 0; t < count; t++)
        threads[t].index = index_in(block, (unsigned)t);
    failed = false;
#ifdef EMU_ASAN
    __sanitizer_set_death_callback(tell_running);
#endif
    inside = true;
    ASAN_POISON_MEMORY_REGION(shared_bytes, sizeof shared_bytes);
    ASAN_UNPOISON_MEMORY_REGION(shared_bytes + 16, shared);
    for (uint64_t i = 0; i < blocks && !failed; i++) {
        blockIdx = index_in(grid, (unsigned)((start + i * stride) % blocks));
        if (!run_block(shared))
            emu_lose(cudaErrorLaunchFailure);
    }
    ASAN_UNPOISON_MEMORY_REGION(shared_bytes, sizeof shared_bytes);
    inside = false;
}
