/* arena.c: the moving mark of arena.h. */
#include "base/arena.h"

#include <stdint.h>

int
d2c_size_mul(size_t *result, size_t a, size_t b)
{
    return __builtin_mul_overflow(a, b, result) ? -1 : 0;
}

int
d2c_size_add(size_t *result, size_t a, size_t b)
{
    return __builtin_add_overflow(a, b, result) ? -1 : 0;
}

void *
d2c_arena_alloc(d2c_arena *arena, size_t bytes)
{
    size_t start = arena->used;
    size_t end;

    if (arena->failed || d2c_size_add(&end, bytes, D2C_ARENA_ALIGN - 1) != 0 ||
        d2c_size_add(&end, start, end / D2C_ARENA_ALIGN * D2C_ARENA_ALIGN) != 0 ||
        (arena->base != NULL && end > arena->capacity)) {
        arena->failed = 1;
        return NULL;
    }
    arena->used = end;
    if (end > arena->peak)
        arena->peak = end;
    if (arena->base == NULL)
        return (void *)(uintptr_t)(start + D2C_ARENA_ALIGN);
    return arena->base + start;
}

size_t
d2c_arena_mark(const d2c_arena *arena)
{
    return arena->used;
}

void
d2c_arena_release(d2c_arena *arena, size_t mark)
{
    arena->used = mark;
}

d2c_status
d2c_arena_check(const d2c_arena *arena, d2c_error *err)
{
    if (!arena->failed)
        return D2C_OK;
    d2c_fail(err, D2C_NO_MEMORY, "working memory is too small");
    d2c_detail(err, "%zu of %zu bytes are in use.", arena->used, arena->capacity);
    return D2C_NO_MEMORY;
}
