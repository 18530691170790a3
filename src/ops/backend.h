/*
 * backend.h: what a backend builds on, and the constructors that d2c_backend_open knows.
 *
 * An entry of the table gets tensors that ops.c has checked: dtypes, shapes and strides are those that ops.h states.
 * It checks only values (indices), fills be->error when it fails and returns its status.
 */
#ifndef D2C_OPS_BACKEND_H
#define D2C_OPS_BACKEND_H

#include "ops/ops.h"

#define D2C_DEVICE_ALIGN 256

/* Declares a function of the type of a table's entry: D2C_ENTRY(d2c_cpu_, cast) is d2c_cpu_cast. */
#define D2C_ENTRY(prefix, entry) __typeof__(*((d2c_ops *)0)->entry) prefix##entry

d2c_status d2c_reference_backend(d2c_backend **be, int threads, d2c_error *err);
d2c_status d2c_cpu_backend(d2c_backend **be, int threads, d2c_error *err);

/* Opens the device of that name, or, for "auto", `gpu` ("cuda:0") where it opens and the CPU otherwise: `notice` [size]
 * then says so and why, in one line, and is empty in every other case.  *device: the name of what was opened.  A device
 * that was named and is not there is an error. */
d2c_status d2c_backend_choose(d2c_backend **be, const char **device, char *notice, size_t size,
                              const char *name, const char *gpu, int threads, d2c_error *err);

/* What libd2c_cuda.so exports under that name, once a backend of it has been opened; NULL when there is none. */
void *d2c_backend_symbol(const char *name);

/* Whether calls return before what they ask for is done.  The CPU's do not: its results are there at once. */
int d2c_backend_is_asynchronous(const d2c_backend *be);

/* Whether device memory is the host's, so that a mapped file can be used as it is. */
int d2c_backend_is_host(const d2c_backend *be);

/* Entries for a backend whose device memory is the host's and that computes before it returns. */
d2c_status d2c_host_alloc(d2c_backend *be, void **block, size_t bytes, d2c_memory kind);
void d2c_host_free(d2c_backend *be, void *block, d2c_memory kind);
d2c_status d2c_host_upload(d2c_backend *be, void *device, const void *host, size_t bytes);
d2c_status d2c_host_download(d2c_backend *be, void *host, const void *device, size_t bytes);
d2c_status d2c_host_copy(d2c_backend *be, void *to, const void *from, size_t bytes);
d2c_status d2c_host_zero(d2c_backend *be, void *device, size_t bytes);
d2c_status d2c_host_synchronize(d2c_backend *be);

/* D2C_OK when every index [N] lies in 0..rows-1; otherwise the first that does not goes to be->error. */
d2c_status d2c_host_check_index(d2c_backend *be, const char *op, d2c_tensor index, int64_t rows);

#endif
