/* device.h: what libd2c_cuda.so exports for the ranks of GPUs (kernels/nccl.c), and copies by way of the host. */
#ifndef D2C_RANKS_DEVICE_H
#define D2C_RANKS_DEVICE_H

#include "ranks/ranks.h"

#define D2C_RANKS_ID 128 /* bytes: NCCL's */

/* An id for a group of ranks, made by one of them; id NULL: only whether NCCL is there.  D2C_UNSUPPORTED without it. */
d2c_status d2c_cuda_ranks_id(char id[D2C_RANKS_ID], d2c_error *err);

/* Joins the group, which all of host's ranks do at once. */
d2c_status d2c_cuda_ranks(d2c_ranks **device, d2c_ranks *host, d2c_backend *be, const char id[D2C_RANKS_ID],
                          d2c_error *err);

/* staged.c */
d2c_status d2c_ranks_staged(d2c_ranks **device, d2c_ranks *host, d2c_backend *be, d2c_error *err);

#endif
