/*
 * ranks.h: the processes that share a training: rank 0 to size - 1.
 *
 * Every process calls the functions below in the same order with the same sizes; NULL ranks are one process alone, for
 * which nothing is sent.  There is one primitive, `exchange`, and everything else is written once on top of it: so a sum has
 * one order, that of the ranks, whatever carries the messages, and has the same bits on every run and in every process.
 *
 * No wait is without a bound.  What ends one process ends all: its error reaches the others in the exchange they wait in or
 * come to next, and a process that is silent for longer than the patience is an error that names it.  A process that waits
 * on a GPU for another one's hears nothing: it is ended by who has the error, which must not wait for its own GPU either.
 */
#ifndef D2C_RANKS_RANKS_H
#define D2C_RANKS_RANKS_H

#include <stdint.h>

#include "ops/ops.h"

typedef struct d2c_ranks d2c_ranks;

/* What goes to one rank, or comes from it; no bytes: no message. */
typedef struct d2c_piece {
    void *data;
    size_t bytes;
} d2c_piece;

/* Of one way to carry messages; out and in [size], the own rank's are ignored. */
typedef struct d2c_ranks_ops {
    size_t size;
    int version;
    const char *name; /* "mpi", "staged", "nccl" */
    d2c_status (*exchange)(d2c_ranks *ranks, const d2c_piece *out, const d2c_piece *in, d2c_error *err);
    void (*fail)(d2c_ranks *ranks, const d2c_error *why);
    void (*close)(d2c_ranks *ranks);
} d2c_ranks_ops;

#define D2C_RANKS_VERSION 2
#define D2C_RANKS_LIMIT 4096

struct d2c_ranks {
    const d2c_ranks_ops *ops;
    int rank, size;
    int node_rank, node_size; /* among those on the same machine */
    int on_stream; /* 1: an exchange is queued on the backend's stream, and may be part of a graph */
    int deaf;      /* 1: the others may wait on their devices, where no error of this rank reaches them */
};

static inline int
d2c_rank_of(const d2c_ranks *ranks)
{
    return ranks != NULL ? ranks->rank : 0;
}

static inline int
d2c_rank_count(const d2c_ranks *ranks)
{
    return ranks != NULL ? ranks->size : 1;
}

/* Joins the processes that mpirun (or srun) started together with this one, by MPI and in the host's memory; NULL when this
 * one was started alone.  patience: seconds that an exchange waits for another rank. */
d2c_status d2c_ranks_open(d2c_ranks **ranks, double patience, d2c_error *err);

/* Ends together, waiting for all; after d2c_ranks_fail every process is ended, this one with them. */
void d2c_ranks_close(d2c_ranks *ranks);

/* Tells the others that this process ends, and why.  Rank 0 returns, and tells the user.  The others are ended by it; so
 * they return only where rank 0 did not do so within the patience, or within seconds where it may be deaf: they tell the
 * user then. */
void d2c_ranks_fail(d2c_ranks *ranks, const d2c_error *why);

/* The same processes on a backend's memory, which is of one kind for all (else D2C_INVALID_ARGUMENT): `host` itself where
 * that is the host's, NCCL where it is a GPU and NCCL is there, otherwise copies by way of the host.  Closed before `host`
 * and the backend, by d2c_ranks_device_close. */
d2c_status d2c_ranks_device(d2c_ranks **device, d2c_ranks *host, d2c_backend *be, d2c_error *err);
void d2c_ranks_device_close(d2c_ranks *device, const d2c_ranks *host);

/* all [size][bytes]: each rank's part, of which the caller has filled in its own. */
d2c_status d2c_ranks_gather(d2c_ranks *ranks, void *all, size_t bytes, d2c_error *err);

/* Everyone's data become those of `root`. */
d2c_status d2c_ranks_broadcast(d2c_ranks *ranks, int root, void *data, size_t bytes, d2c_error *err);

/* data [count], in the backend's memory, becomes the sum over the ranks, ((rank 0 + rank 1) + rank 2) + ..., the same bits
 * everywhere.  scratch: d2c_ranks_scratch bytes of the same memory. */
d2c_status d2c_ranks_sum(d2c_ranks *ranks, d2c_backend *be, float *data, int64_t count, float *scratch,
                         d2c_error *err);
size_t d2c_ranks_scratch(const d2c_ranks *ranks, int64_t count);

#endif
