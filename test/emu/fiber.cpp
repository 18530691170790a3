/*
 * fiber.cpp: stacks that a kernel's threads run on, and the switch between them.
 *
 * Stacks come from a pool and are guarded by a page that may not be touched; their tops are staggered, or the stacks of
 * a warp would share few lines of the processor's first cache.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

#include "internal.h"

#define STACK_BYTES ((size_t)256 << 10)
#define STAGGER 320                 /* bytes, of which 4096 hold 12 */
#define OUTERMOST ((size_t)8 << 10) /* more than the frames of a fiber that was left for the last time */

#if defined(__x86_64__)
typedef void *context;
#else
#include <ucontext.h>
typedef ucontext_t context;
#endif

struct emu_fiber {
    context saved;
    void (*main)(void);
    char *stack; /* bounds, as ASan wants them */
    size_t bytes;
    void *fake; /* ASan's copy of the frames */
    bool free;
};

static std::vector<emu_fiber *> &fibers = *new std::vector<emu_fiber *>;
static std::vector<emu_fiber *> &idle = *new std::vector<emu_fiber *>;
static emu_fiber host;
static emu_fiber *current = &host, *previous;

/* ---- the switch ------------------------------------------------------------------------------------------------ */

static void enter(void);

#if defined(__x86_64__)
/* Keeps what a function must keep on the stack that is left, and takes it back from the other. */
extern "C" void emu_switch_stack(void **save, void *to) __attribute__((visibility("hidden")));
asm(".text\n"
    ".hidden emu_switch_stack\n"
    ".globl emu_switch_stack\n"
    ".type emu_switch_stack, @function\n"
    "emu_switch_stack:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size emu_switch_stack, . - emu_switch_stack\n");

/* The stack as emu_switch_stack would have left it: six registers, where to go on, and no caller. */
static void
prepare(emu_fiber *fiber, size_t offset)
{
    void **top = (void **)(fiber->stack + fiber->bytes - 64 - offset);

    *--top = NULL;
    *--top = (void *)enter;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    fiber->saved = top;
}

static void
switch_context(emu_fiber *from, emu_fiber *to)
{
    emu_switch_stack(&from->saved, to->saved);
}
#else
static void
prepare(emu_fiber *fiber, size_t offset)
{
    getcontext(&fiber->saved);
    fiber->saved.uc_stack.ss_sp = fiber->stack;
    fiber->saved.uc_stack.ss_size = fiber->bytes - offset;
    fiber->saved.uc_link = NULL;
    makecontext(&fiber->saved, enter, 0);
}

static void
switch_context(emu_fiber *from, emu_fiber *to)
{
    swapcontext(&from->saved, &to->saved);
}
#endif

/* The host thread's bounds are learnt when it is left: each grid may be another thread's. */
static void
arrived(void *fake)
{
#ifdef EMU_ASAN
    const void *stack;
    size_t bytes;

    __sanitizer_finish_switch_fiber(fake, &stack, &bytes);
    if (previous == &host) {
        host.stack = (char *)stack;
        host.bytes = bytes;
    }
#else
    (void)fake;
#endif
}

static void
enter(void)
{
    arrived(NULL);
    current->main();
    abort();
}

void
emu_fiber_switch(emu_fiber *to, bool last)
{
    emu_fiber *from = current;

    (void)last;
    if (to == NULL)
        to = &host;
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(last ? NULL : &from->fake, to->stack, to->bytes);
#endif
    previous = from;
    current = to;
    switch_context(from, to);
    arrived(from->fake);
}

emu_fiber *
emu_fiber_current(void)
{
    return current;
}

/* ---- the pool -------------------------------------------------------------------------------------------------- */

static emu_fiber *
make_fiber(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    emu_fiber *fiber = new emu_fiber();
    void *stack = mmap(NULL, STACK_BYTES + page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (stack == MAP_FAILED || mprotect(stack, page, PROT_NONE) != 0) {
        perror("emulator: no memory for a stack");
        abort();
    }
    fiber->stack = (char *)stack + page;
    fiber->bytes = STACK_BYTES;
    fibers.push_back(fiber);
    return fiber;
}

emu_fiber *
emu_fiber_take(void (*main)(void))
{
    emu_fiber *fiber;

    if (idle.empty()) {
        fiber = make_fiber();
    } else {
        fiber = idle.back();
        idle.pop_back();
    }
    ASAN_UNPOISON_MEMORY_REGION(fiber->stack + fiber->bytes - OUTERMOST, OUTERMOST);
    fiber->main = main;
    fiber->free = false;
    prepare(fiber, (size_t)((uintptr_t)fiber->stack / STACK_BYTES % 12) * STAGGER);
    return fiber;
}

void
emu_fiber_release(emu_fiber *fiber)
{
    fiber->free = true;
    idle.push_back(fiber);
}

/* Frames that were never left are no longer guarded. */
void
emu_fiber_reset(void)
{
    for (emu_fiber *fiber : fibers) {
        ASAN_UNPOISON_MEMORY_REGION(fiber->stack, fiber->bytes);
        if (!fiber->free)
            emu_fiber_release(fiber);
    }
}
