/*
 * sum.c: the sum of a range over the ranks.
 *
 * A range is summed in passes; in a pass each rank gets one slice of it from every other rank, adds the slices in the order
 * of the ranks, and sends the sum to all.
 */
#include <stdlib.h>

#include "ops/backend.h"
#include "ranks/ranks.h"

#define SLICE ((int64_t)1 << 20) /* elements that a rank adds in one pass, at most */

/* One pass: `count` elements at data. */
typedef struct pass {
    d2c_ranks *ranks;
    d2c_backend *be;
    float *data, *scratch;
    int64_t count;
    d2c_piece *out, *in; /* [size] */
} pass;

static int64_t
longest_slice(int size, int64_t count)
{
    int64_t slice = (count + size - 1) / size;

    return slice < SLICE ? slice : SLICE;
}

size_t
d2c_ranks_scratch(const d2c_ranks *ranks, int64_t count)
{
    int size = d2c_rank_count(ranks);

    return size > 1 ? (size_t)size * (size_t)longest_slice(size, count) * sizeof(float) : 0;
}

/* A rank's slice of the pass; the last ones may be empty. */
static d2c_piece
slice_of(const pass *p, int rank)
{
    int64_t length = longest_slice(p->ranks->size, p->count), first = rank * length;
    int64_t left = p->count - first;

    if (left <= 0)
        return (d2c_piece){NULL, 0};
    return (d2c_piece){p->data + first, (size_t)(left < length ? left : length) * sizeof(float)};
}

/* Where the own slice of another rank's range is received. */
static d2c_piece
received_from(const pass *p, int rank)
{
    return (d2c_piece){p->scratch + rank * longest_slice(p->ranks->size, p->count),
                       slice_of(p, p->ranks->rank).bytes};
}

/* Everyone's part of the own slice comes in, the own part of the others' slices goes out. */
static d2c_status
scatter(const pass *p, d2c_error *err)
{
    int r;

    for (r = 0; r < p->ranks->size; r++) {
        p->out[r] = slice_of(p, r);
        p->in[r] = received_from(p, r);
    }
    return p->ranks->ops->exchange(p->ranks, p->out, p->in, err);
}

/* The own slice becomes the sum, in the order of the ranks. */
static d2c_status
add(const pass *p)
{
    d2c_piece own = slice_of(p, p->ranks->rank);
    int64_t n = (int64_t)(own.bytes / sizeof(float));
    float *sum = p->ranks->rank == 0 ? own.data : received_from(p, 0).data;
    int r;

    for (r = 1; r < p->ranks->size && n > 0; r++) {
        void *next = r == p->ranks->rank ? own.data : received_from(p, r).data;

        D2C_TRY(d2c_axpby(p->be, d2c_tensor1(sum, D2C_F32, n), 1.0f, d2c_tensor1(next, D2C_F32, n), 1.0f));
    }
    return sum == own.data || n == 0 ? D2C_OK : d2c_copy(p->be, own.data, sum, own.bytes);
}

/* The sums go to everyone. */
static d2c_status
collect(const pass *p, d2c_error *err)
{
    int r;

    for (r = 0; r < p->ranks->size; r++) {
        p->out[r] = slice_of(p, p->ranks->rank);
        p->in[r] = slice_of(p, r);
    }
    return p->ranks->ops->exchange(p->ranks, p->out, p->in, err);
}

static d2c_status
sum_passes(pass *p, int64_t count, d2c_error *err)
{
    int64_t most = p->ranks->size * longest_slice(p->ranks->size, count), left;

    for (left = count; left > 0; left -= p->count, p->data += p->count) {
        p->count = left < most ? left : most;
        D2C_TRY(scatter(p, err));
        if (add(p) != D2C_OK)
            return d2c_backend_error(p->be, err);
        D2C_TRY(collect(p, err));
    }
    return D2C_OK;
}

d2c_status
d2c_ranks_sum(d2c_ranks *ranks, d2c_backend *be, float *data, int64_t count, float *scratch, d2c_error *err)
{
    pass p = {.ranks = ranks, .be = be, .data = data, .scratch = scratch};
    d2c_status status;

    if (d2c_rank_count(ranks) == 1)
        return D2C_OK;
    p.out = calloc(2 * (size_t)ranks->size, sizeof *p.out);
    if (p.out == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    p.in = p.out + ranks->size;
    status = sum_passes(&p, count, err);
    free(p.out);
    return status;
}
