/*
 * arena.h: one allocation per run, handed out by a moving mark.
 *
 * The same code plans and runs: with base NULL an arena only counts, so a network's forward and backward are
 * sized by calling their allocation code once with a planning arena, then once with memory behind it.
 */
#ifndef D2C_BASE_ARENA_H
#define D2C_BASE_ARENA_H

#include <stddef.h>

#include "base/status.h"

#define D2C_ARENA_ALIGN 256 /* the alignment CUDA gives; more than any vector unit needs */

typedef struct d2c_arena {
    char *base;      /* NULL while planning */
    size_t capacity; /* bytes behind base; unused while planning */
    size_t used;
    size_t peak; /* the largest value that used has had */
    int failed;  /* an allocation did not fit; every later one fails as well */
} d2c_arena;

/* Multiplies and adds sizes; 0 on success, -1 when the result does not fit a size_t. */
int d2c_size_mul(size_t *result, size_t a, size_t b);
int d2c_size_add(size_t *result, size_t a, size_t b);

/* Returns an aligned block.  While planning, an address that must not be used; NULL when it does not fit. */
void *d2c_arena_alloc(d2c_arena *arena, size_t bytes);

/* Everything allocated after the mark is given back by the release. */
size_t d2c_arena_mark(const d2c_arena *arena);
void d2c_arena_release(d2c_arena *arena, size_t mark);

/* D2C_OK, or D2C_NO_MEMORY with the sizes, when an allocation since the start did not fit. */
d2c_status d2c_arena_check(const d2c_arena *arena, d2c_error *err);

#endif
