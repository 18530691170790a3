/*
 * misuse.cpp: programs that break CUDA's rules, for the test of what the emulator finds (test_emulator.c).
 *
 * Some end the process, as they should.
 */
#include <string.h>

#include "cuda_runtime.h"
#include "emu.h"

#define COUNT 64 /* floats of a block of memory, threads of a block */

typedef struct fixture {
    cudaStream_t stream, other;
    float *out;    /* [COUNT] of the device */
    float *pinned; /* [COUNT] */
} fixture;

static void
open_fixture(fixture *f)
{
    cudaStreamCreateWithFlags(&f->stream, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&f->other, cudaStreamNonBlocking);
    cudaMalloc((void **)&f->out, COUNT * sizeof(float));
    cudaMallocHost((void **)&f->pinned, COUNT * sizeof(float));
    for (int i = 0; i < COUNT; i++)
        f->pinned[i] = (float)(100 + i);
}

/* Whether out [COUNT] is 100, 101, ... */
static int
compare(fixture *f)
{
    float got[COUNT];
    cudaError_t error;

    cudaMemcpyAsync(got, f->out, sizeof got, cudaMemcpyDeviceToHost, f->stream);
    error = cudaStreamSynchronize(f->stream);
    if (error != cudaSuccess)
        return error;
    for (int i = 0; i < COUNT; i++)
        if (got[i] != (float)(100 + i))
            return EMU_WRONG;
    return 0;
}

/* The newest error, or what waiting for the stream says. */
static int
finish(fixture *f)
{
    cudaError_t error = cudaGetLastError();

    return error != cudaSuccess ? error : cudaStreamSynchronize(f->stream);
}

/* ---- threads that do not meet ---------------------------------------------------------------------------------- */

static __global__ void
leave_before_barrier(float *out)
{
    if (threadIdx.x >= 40)
        return;
    __syncthreads();
    out[threadIdx.x] = 0;
}

static __global__ void
barriers_apart(float *out)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 0;
}

static __global__ void
half_a_shuffle(float *out)
{
    float value = 1;

    if (threadIdx.x % 32 < 16)
        value = __shfl_xor_sync(0xFFFFFFFFu, value, 1);
    out[threadIdx.x] = value;
}

static __global__ void
shuffle_and_barrier(float *out)
{
    float value = 1;

    if (threadIdx.x < 5)
        __syncthreads();
    else
        value = __shfl_xor_sync(0xFFFFFFFFu, value, 1);
    out[threadIdx.x] = value;
}

static __global__ void
part_of_mask(float *out)
{
    out[threadIdx.x] = __shfl_xor_sync(0xFFFFu, 1.0f, 1);
}

static int
run(fixture *f, void (*kernel)(float *))
{
    emu_launch(kernel, 3, COUNT, 0, f->stream, f->out);
    return finish(f);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static __global__ void
fill(float *out, int count)
{
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        out[i] = (float)(100 + i);
}

static __global__ void
fill_dynamic_shared(float *out, int count)
{
    float *shared = (float *)emu_dynamic_shared();

    shared[threadIdx.x + (count - COUNT)] = 0;
    out[threadIdx.x] = shared[threadIdx.x];
}

static __global__ void
fill_static_shared(float *out, int count)
{
    __shared__ float shared[COUNT];

    shared[threadIdx.x + (count - COUNT)] = 0;
    out[threadIdx.x] = shared[threadIdx.x];
}

static int
past_the_end(fixture *f)
{
    emu_launch(fill, 1, COUNT, 0, f->stream, f->out, COUNT + 1);
    return finish(f);
}

static int
freed(fixture *f)
{
    cudaFree(f->out);
    emu_launch(fill, 1, COUNT, 0, f->stream, f->out, COUNT);
    return finish(f);
}

static int
past_dynamic_shared(fixture *f)
{
    emu_launch(fill_dynamic_shared, 1, COUNT, COUNT * sizeof(float), f->stream, f->out, COUNT + 1);
    return finish(f);
}

static int
past_static_shared(fixture *f)
{
    emu_launch(fill_static_shared, 1, COUNT, 0, f->stream, f->out, COUNT + 1);
    return finish(f);
}

static int
host_reads_device(fixture *f)
{
    cudaMemsetAsync(f->out, 0, COUNT * sizeof(float), f->stream);
    cudaStreamSynchronize(f->stream);
    return f->out[0] != 0 ? EMU_WRONG : 0;
}

static int
kernel_gets_host_memory(fixture *f)
{
    float out[COUNT];

    emu_launch(fill, 1, COUNT, 0, f->stream, out, COUNT);
    return finish(f);
}

static int
copy_past_the_end(fixture *f)
{
    return cudaMemcpyAsync(f->out + 1, f->pinned, COUNT * sizeof(float), cudaMemcpyHostToDevice, f->stream);
}

static __global__ void
nothing_written(float *out)
{
    if (out[0] == 12345)
        out[0] = 0;
}

static int
reads_fresh_memory(fixture *f)
{
    emu_launch(nothing_written, 1, 32, 0, f->stream, f->out);
    return compare(f);
}

/* ---- launches -------------------------------------------------------------------------------------------------- */

static int
part_of_warp(fixture *f)
{
    emu_launch(fill, 1, 33, 0, f->stream, f->out, COUNT);
    return finish(f);
}

static int
too_many_threads(fixture *f)
{
    emu_launch(fill, 1, dim3(1024, 2), 0, f->stream, f->out, COUNT);
    return finish(f);
}

static int
too_much_shared(fixture *f)
{
    emu_launch(fill, 1, COUNT, (48 << 10) + 1, f->stream, f->out, COUNT);
    return finish(f);
}

static int
no_kernel(fixture *f)
{
    void (*kernel)(float *, int) = NULL;

    emu_launch(kernel, 1, COUNT, 0, f->stream, f->out, COUNT);
    return finish(f);
}

/* ---- order ----------------------------------------------------------------------------------------------------- */

/* Right when threads run one after another. */
static __global__ void
no_barrier(float *out)
{
    __shared__ float shared[COUNT];

    shared[threadIdx.x] = (float)(100 + threadIdx.x);
    if (threadIdx.x > 0)
        out[threadIdx.x] = shared[threadIdx.x - 1] + 1;
    else
        out[0] = shared[0];
}

static int
forgotten_barrier(fixture *f)
{
    emu_launch(no_barrier, 1, COUNT, 0, f->stream, f->out);
    return compare(f);
}

/* The second block reads what the first wrote. */
static __global__ void
blocks_in_order(float *out)
{
    int i = blockIdx.x * 32 + threadIdx.x;

    out[i] = i < 32 ? (float)(100 + i) : out[i - 32] + 32;
}

static int
blocks_depend(fixture *f)
{
    emu_launch(blocks_in_order, COUNT / 32, 32, 0, f->stream, f->out);
    return compare(f);
}

static int
forgotten_wait(fixture *f)
{
    cudaMemcpyAsync(f->out, f->pinned, COUNT * sizeof(float), cudaMemcpyHostToDevice, f->other);
    return compare(f);
}

static int
source_changed(fixture *f)
{
    cudaMemcpyAsync(f->out, f->pinned, COUNT * sizeof(float), cudaMemcpyHostToDevice, f->stream);
    memset(f->pinned, 0, COUNT * sizeof(float));
    return compare(f);
}

static int
result_read_early(fixture *f)
{
    memset(f->pinned, 0, COUNT * sizeof(float));
    emu_launch(fill, 1, COUNT, 0, f->stream, f->out, COUNT);
    cudaMemcpyAsync(f->pinned, f->out, COUNT * sizeof(float), cudaMemcpyDeviceToHost, f->stream);
    return f->pinned[1] == 101 ? 0 : EMU_WRONG;
}

/* ---- by name --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*kernel)(float *); /* run over out, or: */
    int (*run)(fixture *f);
} rules[] = {
    {"leave before barrier", leave_before_barrier, NULL},
    {"barriers apart", barriers_apart, NULL},
    {"half a shuffle", half_a_shuffle, NULL},
    {"shuffle and barrier", shuffle_and_barrier, NULL},
    {"part of mask", part_of_mask, NULL},
    {"past the end", NULL, past_the_end},
    {"freed", NULL, freed},
    {"past dynamic shared", NULL, past_dynamic_shared},
    {"past static shared", NULL, past_static_shared},
    {"host reads device", NULL, host_reads_device},
    {"kernel gets host memory", NULL, kernel_gets_host_memory},
    {"copy past the end", NULL, copy_past_the_end},
    {"reads fresh memory", NULL, reads_fresh_memory},
    {"part of warp", NULL, part_of_warp},
    {"too many threads", NULL, too_many_threads},
    {"too much shared", NULL, too_much_shared},
    {"no kernel", NULL, no_kernel},
    {"forgotten barrier", NULL, forgotten_barrier},
    {"blocks depend", NULL, blocks_depend},
    {"forgotten wait", NULL, forgotten_wait},
    {"source changed", NULL, source_changed},
    {"result read early", NULL, result_read_early},
};

int
emu_misuse(const char *rule)
{
    fixture f;

    open_fixture(&f);
    for (const auto &known : rules)
        if (strcmp(known.name, rule) == 0)
            return known.kernel != NULL ? run(&f, known.kernel) : known.run(&f);
    return -1;
}
