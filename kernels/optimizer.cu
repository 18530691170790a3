/*
 * optimizer.cu: gradient norm and AdamW with EMA and shadow, over flat ranges of all parameters.
 *
 * Both are bound by memory: 4 bytes a parameter for the norm, up to 38 for the step, each read or written once.  What
 * changes from step to step is read from the record in device memory.
 */
#include "pack.cuh"

#define THREADS 256

/* ---- gradient norm ------------------------------------------------------------------------------------------------- */

#define PIECE 16384 /* elements of one partial sum, whatever the device */

/* part [pieces] = sums of squares of grad [n]: f32 over a thread's own elements, 64 at most, and double beyond. */
template <int W>
static __global__ void
square_kernel(double *part, const float *grad, int64_t n)
{
    __shared__ double warp_part[D2C_WARP];
    int64_t start = (int64_t)blockIdx.x * PIECE;
    float square[W] = {0.0f}, value[W];
    double sum = 0.0;

    n = n - start < PIECE ? n : start + PIECE;
#pragma unroll 8
    for (int64_t at = start + threadIdx.x * W; at < n; at += THREADS * W) {
        d2c_load<W>(value, grad + at);
#pragma unroll
        for (int i = 0; i < W; i++)
            square[i] = fmaf(value[i], value[i], square[i]);
    }
#pragma unroll
    for (int i = 0; i < W; i++)
        sum += square[i];
    sum = d2c_block_sum(sum, warp_part);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

#define FINISH_THREADS 1024

/* The record's norm, clip scale (torch's formula) and whether the step is skipped.  One block. */
static __global__ void
norm_kernel(d2c_step_record *record, const double *part, int64_t pieces)
{
    __shared__ double warp_part[D2C_WARP];
    double sum = 0.0, norm;

    for (int64_t i = threadIdx.x; i < pieces; i += FINISH_THREADS)
        sum += part[i];
    norm = sqrt(d2c_block_sum(sum, warp_part));
    if (threadIdx.x != 0)
        return;
    record->grad_norm = (float)norm;
    record->clip_scale =
        record->max_grad_norm > 0.0f ? (float)fmin(1.0, record->max_grad_norm / (norm + 1e-6)) : 1.0f;
    record->skip = isfinite(record->loss) && isfinite(record->grad_norm) ? 0.0f : 1.0f;
}

d2c_status
d2c_cuda_gradient_norm(d2c_backend *be, d2c_step_record *record, d2c_tensor grad)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int64_t n = grad.dim[0];
    unsigned pieces = d2c_blocks(n, PIECE);
    void *part;

    D2C_TRY(d2c_cuda_scratch(cuda, &part, pieces * sizeof(double)));
    D2C_TRY(D2C_LAUNCH(cuda, (d2c_packs(grad, 4) ? square_kernel<4> : square_kernel<1>), pieces, THREADS, 0,
                       (double *)part, (const float *)grad.data, n));
    return D2C_LAUNCH(cuda, norm_kernel, 1, FINISH_THREADS, 0, record, (const double *)part, (int64_t)pieces);
}

/* ---- AdamW --------------------------------------------------------------------------------------------------------- */

/* The flat ranges [n]; ema and shadow may be NULL. */
typedef struct ranges {
    float *value, *m, *v, *ema;
    d2c_b16 *shadow;
    const float *grad;
    int64_t n;
} ranges;

/* What is the same for all elements of a step. */
typedef struct rates {
    float clip, joined, step, root, keep, follow;
} rates;

/* torch's formulas; a few instructions, so that every thread works them out. */
static __device__ __forceinline__ rates
step_rates(const d2c_adamw &setting, const d2c_step_record *record)
{
    rates r;

    r.clip = record->clip_scale;
    r.step = record->learning_rate / record->bias_correction1;
    r.root = 1.0f / sqrtf(record->bias_correction2);
    r.joined = setting.coupled ? setting.weight_decay : 0.0f;
    r.keep = 1.0f - record->learning_rate * (setting.weight_decay - r.joined);
    r.follow = 1.0f - record->ema_decay;
    return r;
}

/* torch's AdamW or Adam: decay by the old value, eps outside the root, after the corrections. */
static __device__ __forceinline__ void
step_element(float *value, float *m, float *v, float grad, const d2c_adamw &setting, const rates &r)
{
    float g = fmaf(r.joined, *value, grad * r.clip);

    *m = fmaf(setting.beta1, *m, (1.0f - setting.beta1) * g);
    *v = fmaf(setting.beta2, *v, (1.0f - setting.beta2) * g * g);
    *value = fmaf(*value, r.keep, -r.step * *m / fmaf(sqrtf(*v), r.root, setting.eps));
}

/* A skipped step reads and writes nothing but the record. */
template <int W, int EMA, int SHADOW>
static __global__ void
adamw_kernel(ranges at, d2c_adamw setting, const d2c_step_record *record)
{
    int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    float value[W], m[W], v[W], grad[W], ema[W];
    rates r;

    if (i >= at.n || record->skip != 0.0f)
        return;
    d2c_load<W>(value, at.value + i);
    d2c_load<W>(m, at.m + i);
    d2c_load<W>(v, at.v + i);
    d2c_load<W>(grad, at.grad + i);
    if (EMA)
        d2c_load<W>(ema, at.ema + i);
    r = step_rates(setting, record);
#pragma unroll
    for (int k = 0; k < W; k++) {
        step_element(&value[k], &m[k], &v[k], grad[k], setting, r);
        if (EMA)
            ema[k] = fmaf(r.follow, value[k] - ema[k], ema[k]);
    }
    d2c_store<W>(at.value + i, value);
    d2c_store<W>(at.m + i, m);
    d2c_store<W>(at.v + i, v);
    if (EMA)
        d2c_store<W>(at.ema + i, ema);
    if (SHADOW)
        d2c_store<W>(at.shadow + i, value);
}

/* A kernel for each choice of optional ranges. */
template <int W>
static d2c_status
launch_adamw(d2c_cuda *cuda, ranges r, d2c_adamw setting, const d2c_step_record *record)
{
    unsigned blocks = d2c_blocks(r.n, THREADS * W);

    if (r.ema != NULL && r.shadow != NULL)
        return D2C_LAUNCH(cuda, (adamw_kernel<W, 1, 1>), blocks, THREADS, 0, r, setting, record);
    if (r.ema != NULL)
        return D2C_LAUNCH(cuda, (adamw_kernel<W, 1, 0>), blocks, THREADS, 0, r, setting, record);
    if (r.shadow != NULL)
        return D2C_LAUNCH(cuda, (adamw_kernel<W, 0, 1>), blocks, THREADS, 0, r, setting, record);
    return D2C_LAUNCH(cuda, (adamw_kernel<W, 0, 0>), blocks, THREADS, 0, r, setting, record);
}

d2c_status
d2c_cuda_adamw_step(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
                    d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting,
                    const d2c_step_record *record)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    ranges r = {(float *)value.data,    (float *)m.data,          (float *)v.data, (float *)ema.data,
                (d2c_b16 *)shadow.data, (const float *)grad.data, value.dim[0]};

    if (d2c_packs(value, 4) && d2c_packs(m, 4) && d2c_packs(v, 4) && d2c_packs(ema, 4) &&
        d2c_packs(shadow, 4) && d2c_packs(grad, 4))
        return launch_adamw<4>(cuda, r, *setting, record);
    return launch_adamw<1>(cuda, r, *setting, record);
}
