/*
 * memory.c: device and pinned memory, and copies between host and device.
 *
 * Uploads pass through pinned memory, so that they return as soon as the source may be reused and the device fetches
 * on its own: one ring of blocks for the stream, another for early uploads.  A block is used again when the copies out
 * of it are done.
 */
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

#define BLOCKS 4
#define BLOCK_BYTES ((size_t)4 << 20)
#define PIECE_ALIGN ((size_t)256)

typedef struct ring {
    cudaStream_t stream;
    char *block[BLOCKS];       /* pinned, allocated at first use */
    cudaEvent_t event[BLOCKS]; /* behind the newest copy out of the block */
    int current;
    size_t used; /* of the current block */
} ring;

struct d2c_staging {
    ring ordered, early;
};

/* ---- allocation ---------------------------------------------------------------------------------------------------- */

d2c_status
d2c_cuda_alloc(d2c_backend *be, void **block, size_t bytes, d2c_memory kind)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    size_t available = 0, total = 0;
    cudaError_t error;

    *block = NULL;
    if (bytes == 0)
        bytes = 1;
    error = kind == D2C_MEMORY_PINNED ? cudaMallocHost(block, bytes) : cudaMalloc(block, bytes);
    if (error == cudaSuccess)
        return D2C_OK;
    *block = NULL;
    if (error == cudaErrorMemoryAllocation && kind == D2C_MEMORY_DEVICE) {
        cudaGetLastError();
        cudaMemGetInfo(&available, &total);
        d2c_fail(&be->error, D2C_NO_MEMORY, "out of memory on device cuda:%d", cuda->device);
        d2c_detail(&be->error, "Asked for %.1f MiB; %.1f of %.1f MiB are free.", (double)bytes / (1 << 20),
                   (double)available / (1 << 20), (double)total / (1 << 20));
        return D2C_NO_MEMORY;
    }
    return d2c_cuda_check(cuda, error, "allocate memory");
}

void
d2c_cuda_free(d2c_backend *be, void *block, d2c_memory kind)
{
    d2c_cuda_enter(be);
    if (kind == D2C_MEMORY_PINNED)
        cudaFreeHost(block);
    else
        cudaFree(block);
}

d2c_status
d2c_cuda_memory_use(d2c_backend *be, size_t *available, size_t *total)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    return d2c_cuda_check(cuda, cudaMemGetInfo(available, total), "ask for free memory");
}

/* ---- uploads ------------------------------------------------------------------------------------------------------- */

static d2c_status
open_staging(d2c_cuda *cuda)
{
    if (cuda->staging != NULL)
        return D2C_OK;
    cuda->staging = calloc(1, sizeof *cuda->staging);
    if (cuda->staging == NULL)
        return d2c_fail(&cuda->base.error, D2C_NO_MEMORY, "out of memory");
    cuda->staging->ordered.stream = cuda->stream;
    cuda->staging->early.stream = cuda->copies;
    return D2C_OK;
}

static void
free_ring(ring *r)
{
    int i;

    for (i = 0; i < BLOCKS; i++) {
        if (r->event[i] != NULL)
            cudaEventDestroy(r->event[i]);
        if (r->block[i] != NULL)
            cudaFreeHost(r->block[i]);
    }
}

void
d2c_cuda_staging_free(d2c_cuda *cuda)
{
    if (cuda->staging == NULL)
        return;
    free_ring(&cuda->staging->ordered);
    free_ring(&cuda->staging->early);
    free(cuda->staging);
}

/* The current block's memory and event, which are made at first use. */
static d2c_status
open_block(d2c_cuda *cuda, ring *r)
{
    void *block;

    if (r->block[r->current] != NULL)
        return D2C_OK;
    D2C_TRY(d2c_cuda_check(
        cuda, cudaEventCreateWithFlags(&r->event[r->current], cudaEventDisableTiming | cudaEventBlockingSync),
        "make an event"));
    D2C_TRY(d2c_cuda_alloc(&cuda->base, &block, BLOCK_BYTES, D2C_MEMORY_PINNED));
    r->block[r->current] = block;
    return D2C_OK;
}

/* Room for the next piece of at most `wanted` bytes: where it is, and how much. */
static d2c_status
take_piece(d2c_cuda *cuda, ring *r, char **piece, size_t *bytes, size_t wanted)
{
    if (r->used == BLOCK_BYTES) {
        D2C_TRY(d2c_cuda_check(cuda, cudaEventRecord(r->event[r->current], r->stream), "record an event"));
        r->current = (r->current + 1) % BLOCKS;
        r->used = 0;
        if (r->block[r->current] != NULL)
            D2C_TRY(d2c_cuda_check(cuda, cudaEventSynchronize(r->event[r->current]), "wait for an upload"));
    }
    D2C_TRY(open_block(cuda, r));
    *piece = r->block[r->current] + r->used;
    *bytes = wanted < BLOCK_BYTES - r->used ? wanted : BLOCK_BYTES - r->used;
    r->used += (*bytes + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    return D2C_OK;
}

static d2c_status
upload_by(d2c_cuda *cuda, ring *r, char *device, const char *host, size_t bytes)
{
    size_t count;
    char *piece;

    for (; bytes > 0; device += count, host += count, bytes -= count) {
        D2C_TRY(take_piece(cuda, r, &piece, &count, bytes));
        memcpy(piece, host, count);
        D2C_TRY(d2c_cuda_check(cuda, cudaMemcpyAsync(device, piece, count, cudaMemcpyHostToDevice, r->stream),
                               "copy to the device"));
    }
    return D2C_OK;
}

d2c_status
d2c_cuda_upload(d2c_backend *be, void *device, const void *host, size_t bytes)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    D2C_TRY(open_staging(cuda));
    return upload_by(cuda, &cuda->staging->ordered, device, host, bytes);
}

d2c_status
d2c_cuda_upload_early(d2c_backend *be, void *device, const void *host, size_t bytes)
{
    d2c_cuda *cuda = be->impl;
    int pending = cuda->copy_pending;

    cuda->copy_pending =
        0; /* entering must not make the stream wait for an event that is about to be recorded anew */
    d2c_cuda_enter(be);
    cuda->copy_pending = pending;
    D2C_TRY(open_staging(cuda));
    D2C_TRY(upload_by(cuda, &cuda->staging->early, device, host, bytes));
    D2C_TRY(d2c_cuda_check(cuda, cudaEventRecord(cuda->copied, cuda->copies), "record an event"));
    cuda->copy_pending = 1;
    return D2C_OK;
}

/* ---- downloads and the rest ---------------------------------------------------------------------------------------- */

d2c_status
d2c_cuda_download_later(d2c_backend *be, void *pinned, const void *device, size_t bytes)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    return d2c_cuda_check(cuda, cudaMemcpyAsync(pinned, device, bytes, cudaMemcpyDeviceToHost, cuda->stream),
                          "copy from the device");
}

d2c_status
d2c_cuda_download(d2c_backend *be, void *host, const void *device, size_t bytes)
{
    D2C_TRY(d2c_cuda_download_later(be, host, device, bytes));
    return d2c_cuda_synchronize(be);
}

d2c_status
d2c_cuda_copy(d2c_backend *be, void *to, const void *from, size_t bytes)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    return d2c_cuda_check(cuda, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda->stream),
                          "copy on the device");
}

d2c_status
d2c_cuda_zero(d2c_backend *be, void *device, size_t bytes)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    return d2c_cuda_check(cuda, cudaMemsetAsync(device, 0, bytes, cuda->stream), "set memory");
}

d2c_status
d2c_cuda_synchronize(d2c_backend *be)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    return d2c_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "finish what it was given");
}
