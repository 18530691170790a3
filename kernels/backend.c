/* backend.c: the CUDA backend's table, constructor and failures (cuda.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "product.h"

/* The current device is the thread's, not the backend's.  Opening has taken the device once, so that no failure is
 * expected; one is met again by the call that follows. */
d2c_cuda *
d2c_cuda_enter(d2c_backend *be)
{
    static __thread int current = -1;
    d2c_cuda *cuda = be->impl;

    if (current != cuda->device && cudaSetDevice(cuda->device) == cudaSuccess)
        current = cuda->device;
    if (cuda->copy_pending && !cuda->capturing &&
        cudaStreamWaitEvent(cuda->stream, cuda->copied, 0) == cudaSuccess)
        cuda->copy_pending = 0;
    return cuda;
}

/* A failure that a harmless call meets again is the context's end: no call of this process will succeed any more. */
static int
is_lost(const d2c_cuda *cuda)
{
    cudaGetLastError();
    return !cuda->capturing && cudaStreamSynchronize(0) != cudaSuccess;
}

/* Calls that no device would take are bugs of ours: the numbers behind cudaErrorStreamCaptureUnsupported are captures'. */
static int
is_misuse(cudaError_t error)
{
    return error == cudaErrorInvalidValue || error == cudaErrorInvalidConfiguration ||
           (error >= cudaErrorStreamCaptureUnsupported && error < cudaErrorTimeout);
}

d2c_status
d2c_cuda_check(d2c_cuda *cuda, cudaError_t error, const char *doing)
{
    d2c_error *err = &cuda->base.error;

    if (error == cudaSuccess)
        return D2C_OK;
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return d2c_fail(err, D2C_NO_MEMORY, "device cuda:%d has no memory left", cuda->device);
    }
    if (is_misuse(error)) {
        cudaGetLastError();
        return d2c_fail(err, D2C_INTERNAL, "could not %s: %s", doing, cudaGetErrorString(error));
    }
    cuda->base.lost = is_lost(cuda);
    d2c_fail(err, D2C_DEVICE, "device cuda:%d failed: %s", cuda->device, cudaGetErrorString(error));
    d2c_detail(err, "It was asked to %s.", doing);
    return D2C_DEVICE;
}

d2c_status
d2c_cuda_launched(d2c_cuda *cuda, const char *kernel)
{
    cudaError_t error = cudaPeekAtLastError();
    char doing[128];

    if (error == cudaSuccess)
        return D2C_OK;
    snprintf(doing, sizeof doing, "run the kernel %s", kernel);
    return d2c_cuda_check(cuda, error, doing);
}

/* Gives the block back, or keeps it for the graphs that were captured with it. */
static d2c_status
outgrow_scratch(d2c_cuda *cuda)
{
    int i = 0;

    while (cuda->graphs > 0 && i < D2C_OUTGROWN && cuda->outgrown[i] != NULL)
        i++;
    if (i == D2C_OUTGROWN)
        return d2c_fail(&cuda->base.error, D2C_NO_MEMORY, "scratch memory has grown too often");
    if (cuda->graphs > 0)
        cuda->outgrown[i] = cuda->scratch;
    else
        cudaFree(cuda->scratch);
    cuda->scratch = NULL;
    cuda->scratch_bytes = 0;
    return D2C_OK;
}

void
d2c_cuda_scratch_release(d2c_cuda *cuda)
{
    int i;

    for (i = 0; i < D2C_OUTGROWN; i++) {
        cudaFree(cuda->outgrown[i]);
        cuda->outgrown[i] = NULL;
    }
}

d2c_status
d2c_cuda_scratch(d2c_cuda *cuda, void **scratch, size_t bytes)
{
    size_t rounded = (bytes + 255) / 256 * 256;

    *scratch = NULL;
    if (rounded > cuda->scratch_bytes) {
        if (cuda->capturing)
            return d2c_fail(&cuda->base.error, D2C_INTERNAL, "scratch memory would grow during a capture");
        if (cuda->graphs > 0 && rounded < 2 * cuda->scratch_bytes)
            rounded = 2 * cuda->scratch_bytes;
        D2C_TRY(d2c_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "wait for the stream"));
        D2C_TRY(outgrow_scratch(cuda));
        D2C_TRY(d2c_cuda_alloc(&cuda->base, &cuda->scratch, rounded, D2C_MEMORY_DEVICE));
        cuda->scratch_bytes = rounded;
    }
    *scratch = cuda->scratch;
    return D2C_OK;
}

static void
close_cuda(d2c_backend *be)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    if (cuda->stream != NULL)
        cudaStreamSynchronize(cuda->stream);
    d2c_products_close(cuda->products);
    d2c_cuda_staging_free(cuda);
    d2c_cuda_scratch_release(cuda);
    cudaFree(cuda->scratch);
    if (cuda->copied != NULL)
        cudaEventDestroy(cuda->copied);
    if (cuda->copies != NULL)
        cudaStreamDestroy(cuda->copies);
    if (cuda->stream != NULL)
        cudaStreamDestroy(cuda->stream);
    free(cuda);
}

static const d2c_ops cuda_ops = {
    .size = sizeof(d2c_ops),
    .version = D2C_OPS_VERSION,
    .name = "cuda",
    .close = close_cuda,
    .alloc = d2c_cuda_alloc,
    .free = d2c_cuda_free,
    .upload = d2c_cuda_upload,
    .download = d2c_cuda_download,
    .copy = d2c_cuda_copy,
    .zero = d2c_cuda_zero,
    .synchronize = d2c_cuda_synchronize,
    .event_record = d2c_cuda_event_record,
    .event_wait = d2c_cuda_event_wait,
    .event_free = d2c_cuda_event_free,
    .capture_begin = d2c_cuda_capture_begin,
    .capture_end = d2c_cuda_capture_end,
    .graph_launch = d2c_cuda_graph_launch,
    .graph_free = d2c_cuda_graph_free,
    .linear_forward = d2c_cuda_linear_forward,
    .linear_backward_input = d2c_cuda_linear_backward_input,
    .linear_backward_weight = d2c_cuda_linear_backward_weight,
    .attention_forward = d2c_cuda_attention_forward,
    .attention_backward = d2c_cuda_attention_backward,
    .modulate_forward = d2c_cuda_modulate_forward,
    .modulate_backward = d2c_cuda_modulate_backward,
    .gate_residual_forward = d2c_cuda_gate_residual_forward,
    .gate_residual_backward = d2c_cuda_gate_residual_backward,
    .gate_modulate_forward = d2c_cuda_gate_modulate_forward,
    .layernorm_forward = d2c_cuda_layernorm_forward,
    .layernorm_backward = d2c_cuda_layernorm_backward,
    .act_forward = d2c_cuda_act_forward,
    .act_backward = d2c_cuda_act_backward,
    .axpby = d2c_cuda_axpby,
    .cast = d2c_cuda_cast,
    .add_rows = d2c_cuda_add_rows,
    .gather = d2c_cuda_gather,
    .scatter_add = d2c_cuda_scatter_add,
    .timestep_embedding = d2c_cuda_timestep_embedding,
    .patchify = d2c_cuda_patchify,
    .unpatchify = d2c_cuda_unpatchify,
    .text_unfold = d2c_cuda_text_unfold,
    .draw_normal = d2c_cuda_draw_normal,
    .drop_labels = d2c_cuda_drop_labels,
    .path_coefficients = d2c_cuda_path_coefficients,
    .diffuse = d2c_cuda_diffuse,
    .mse_loss = d2c_cuda_mse_loss,
    .cosine_loss = d2c_cuda_cosine_loss,
    .finish_loss = d2c_cuda_finish_loss,
    .gradient_norm = d2c_cuda_gradient_norm,
    .adamw_step = d2c_cuda_adamw_step,
    .upload_early = d2c_cuda_upload_early,
    .download_later = d2c_cuda_download_later,
    .memory_use = d2c_cuda_memory_use,
    .tune = d2c_cuda_tune,
    .choose = d2c_cuda_choose,
    .tuned = d2c_cuda_tuned,
    .quantize = d2c_cuda_quantize,
    .conv2d_forward = d2c_cuda_conv2d_forward,
    .groupnorm_forward = d2c_cuda_groupnorm_forward,
    .upsample_forward = d2c_cuda_upsample_forward,
    .pool_forward = d2c_cuda_pool_forward,
    .rmsnorm_forward = d2c_cuda_rmsnorm_forward,
    .glu_forward = d2c_cuda_glu_forward,
    .dit_loss = d2c_cuda_dit_loss,
};

/* Versions are 1000 major + 10 minor; that of a driver which is not there is 0, and the error then speaks of an old one. */
static void
blame_driver(cudaError_t error, d2c_error *err)
{
    int driver = 0, library = 0;

    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&library);
    if (driver == 0)
        d2c_detail(err, "There is no NVIDIA driver.");
    else
        d2c_detail(err, "The CUDA driver says: %s.  It is for CUDA %d.%d; d2c was built with %d.%d.",
                   cudaGetErrorString(error), driver / 1000, driver / 10 % 100, library / 1000,
                   library / 10 % 100);
}

/* Why there is no such device: no driver, no GPU, or fewer than asked for. */
static d2c_status
find_device(int device, d2c_error *err)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);

    if (error == cudaSuccess && device < count)
        return D2C_OK;
    cudaGetLastError();
    d2c_fail(err, D2C_UNSUPPORTED, "device \"cuda:%d\" is not available", device);
    if (error != cudaSuccess)
        blame_driver(error, err);
    else
        d2c_detail(err, "The machine has %d CUDA devices, numbered from 0.", count);
    d2c_hint(err, "nvidia-smi lists the devices; the device \"cpu\" is always there.");
    return D2C_UNSUPPORTED;
}

/* While the backend is being opened its failures are the caller's. */
static d2c_status
failed(const d2c_cuda *cuda, d2c_error *err)
{
    if (err != NULL)
        *err = cuda->base.error;
    return cuda->base.error.status;
}

/* The oldest architecture that the kernels are compiled for. */
#define OLDEST_CAPABILITY 80

/* The oldest whose tensor cores multiply e4m3. */
#define F8_CAPABILITY 89

static d2c_status
describe_device(d2c_cuda *cuda, d2c_error *err)
{
    struct cudaDeviceProp properties;

    if (d2c_cuda_check(cuda, cudaGetDeviceProperties(&properties, cuda->device), "describe the device") !=
        D2C_OK)
        return failed(cuda, err);
    cuda->capability = 10 * properties.major + properties.minor;
    cuda->shared_most = properties.sharedMemPerBlockOptin;
    cuda->base.has_f8 = cuda->capability >= F8_CAPABILITY;
    if (cuda->capability < OLDEST_CAPABILITY) {
        d2c_fail(err, D2C_UNSUPPORTED, "device cuda:%d is too old", cuda->device);
        d2c_detail(err, "%s has compute capability %d.%d; 8.0 is the least.", properties.name,
                   properties.major, properties.minor);
        return D2C_UNSUPPORTED;
    }
    d2c_products_describe(cuda->base.arithmetic, sizeof cuda->base.arithmetic, properties.name);
    return D2C_OK;
}

static d2c_status
open_streams(d2c_cuda *cuda, d2c_error *err)
{
    if (d2c_cuda_check(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
                       "make a stream") != D2C_OK ||
        d2c_cuda_check(cuda, cudaStreamCreateWithFlags(&cuda->copies, cudaStreamNonBlocking),
                       "make a stream") != D2C_OK ||
        d2c_cuda_check(cuda, cudaEventCreateWithFlags(&cuda->copied, cudaEventDisableTiming),
                       "make an event") != D2C_OK)
        return failed(cuda, err);
    return D2C_OK;
}

/* Whoever waits leaves its core to others, the database's above all.  A device that is there may still be closed to this
 * process. */
static d2c_status
take_device(d2c_cuda *cuda, d2c_error *err)
{
    if (cudaInitDevice(cuda->device, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid) !=
        cudaSuccess)
        cudaGetLastError();
    if (d2c_cuda_check(cuda, cudaSetDevice(cuda->device), "take the device") != D2C_OK)
        return failed(cuda, err);
    return D2C_OK;
}

/* The driver may be unable to load the kernels, as for a device newer than all their machine code where it has no compiler:
 * better known now than by the first request. */
static d2c_status
try_kernel(d2c_cuda *cuda, d2c_error *err)
{
    d2c_backend *be = &cuda->base;
    void *block;
    d2c_tensor one;
    d2c_status status = d2c_cuda_alloc(be, &block, sizeof(float), D2C_MEMORY_DEVICE);

    if (status != D2C_OK)
        return failed(cuda, err);
    one = d2c_tensor1(block, D2C_F32, 1);
    status = d2c_cuda_zero(be, block, sizeof(float));
    if (status == D2C_OK)
        status = d2c_cuda_axpby(be, one, 1, one, 1);
    if (status == D2C_OK)
        status = d2c_cuda_synchronize(be);
    d2c_cuda_free(be, block, D2C_MEMORY_DEVICE);
    return status == D2C_OK ? D2C_OK : failed(cuda, err);
}

__attribute__((visibility("default"))) d2c_status
d2c_cuda_backend(d2c_backend **be, int device, d2c_error *err)
{
    d2c_cuda *cuda;
    d2c_status status;

    *be = NULL;
    D2C_TRY(find_device(device, err));
    cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate a backend");
    cuda->base.ops = &cuda_ops;
    cuda->base.impl = cuda;
    cuda->base.threads = 1;
    cuda->base.has_bf16 = 1;
    cuda->device = device;
    status = take_device(cuda, err);
    if (status == D2C_OK)
        status = describe_device(cuda, err);
    if (status == D2C_OK)
        status = open_streams(cuda, err);
    if (status == D2C_OK)
        status = try_kernel(cuda, err);
    if (status == D2C_OK)
        status = d2c_products_open(&cuda->products, cuda, err);
    if (status != D2C_OK) {
        close_cuda(&cuda->base);
        return status;
    }
    *be = &cuda->base;
    return D2C_OK;
}
