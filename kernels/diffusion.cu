/*
 * diffusion.cu: interpolation paths and losses.
 *
 * An image's loss is summed by one block, or by one warp a token and then by one block, always in the same order: it
 * depends on the image's own shape alone.  Sums go to double after each pack.
 */
#include "pack.cuh"

#include "base/pixel_bits.h"

#define THREADS 256

/* ---- paths --------------------------------------------------------------------------------------------------------- */

#define HALF_PI 1.57079632679489661923

/* The variance-preserving path's two constants (willisma/SiT transport/path.py, VPCPlan). */
#define VP_SIGMA_MIN 0.1
#define VP_SIGMA_MAX 20.0

/* alpha, sigma and their derivatives at t, in double: a few numbers a step. */
static __device__ void
path_at(double out[4], double t, d2c_path path)
{
    double rest = 1.0 - t, log_mean, slope;

    if (path == D2C_PATH_GVP) {
        out[0] = sin(HALF_PI * t);
        out[1] = cos(HALF_PI * t);
        out[2] = HALF_PI * out[1];
        out[3] = -HALF_PI * out[0];
    } else if (path == D2C_PATH_VP) {
        log_mean = -0.25 * rest * rest * (VP_SIGMA_MAX - VP_SIGMA_MIN) - 0.5 * rest * VP_SIGMA_MIN;
        slope = 0.5 * rest * (VP_SIGMA_MAX - VP_SIGMA_MIN) + 0.5 * VP_SIGMA_MIN;
        out[0] = exp(log_mean);
        out[1] = sqrt(-expm1(2.0 * log_mean));
        out[2] = out[0] * slope;
        out[3] = -exp(2.0 * log_mean) * slope / out[1];
    } else {
        out[0] = t;
        out[1] = rest;
        out[2] = 1.0;
        out[3] = -1.0;
    }
}

/* coefficient [B, 4] at t [B] */
static __global__ void
path_kernel(float *coefficient, const float *t, int64_t batch, d2c_path path)
{
    int64_t b = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    double value[4];

    if (b >= batch)
        return;
    path_at(value, t[b], path);
    for (int i = 0; i < 4; i++)
        coefficient[4 * b + i] = (float)value[i];
}

d2c_status
d2c_cuda_path_coefficients(d2c_backend *be, d2c_tensor coefficient, d2c_tensor t, d2c_path path)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int64_t batch = t.dim[0];

    return D2C_LAUNCH(cuda, path_kernel, d2c_blocks(batch, THREADS), THREADS, 0, (float *)coefficient.data,
                      (const float *)t.data, batch, path);
}

/* to [W] = a x + b y */
template <int W>
static __device__ __forceinline__ void
combine(float (&to)[W], float a, const float (&x)[W], float b, const float (&y)[W])
{
#pragma unroll
    for (int i = 0; i < W; i++)
        to[i] = fmaf(a, x[i], b * y[i]);
}

/* xt and target [B, n] from x and noise: 16 bytes an element, 12 where target is NULL. */
template <int W>
static __global__ void
diffuse_kernel(float *xt, float *target, const float *x, const float *noise, const float *coefficient,
               int64_t n)
{
    int64_t row = d2c_row(), column = d2c_column(W), at = row * n + column;
    float data[W], drawn[W], value[W];

    if (column >= n)
        return;
    coefficient += 4 * row;
    d2c_load<W>(data, x + at);
    d2c_load<W>(drawn, noise + at);
    combine<W>(value, coefficient[0], data, coefficient[1], drawn);
    d2c_store<W>(xt + at, value);
    if (target == NULL)
        return;
    combine<W>(value, coefficient[2], data, coefficient[3], drawn);
    d2c_store<W>(target + at, value);
}

d2c_status
d2c_cuda_diffuse(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
                 d2c_tensor coefficient)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int wide = d2c_packs(xt, 4) && d2c_packs(target, 4) && d2c_packs(x, 4) && d2c_packs(noise, 4);
    d2c_row_grid grid = d2c_row_blocks(x.dim[0], x.dim[1], wide ? 4 : 1);

    return D2C_LAUNCH(cuda, (wide ? diffuse_kernel<4> : diffuse_kernel<1>), grid.blocks, grid.threads, 0,
                      (float *)xt.data, (float *)target.data, (const float *)x.data,
                      (const float *)noise.data, (const float *)coefficient.data, x.dim[1]);
}

/* ---- squared error ------------------------------------------------------------------------------------------------- */

#define MSE_THREADS 512

/* loss [B] and dv [B, n], which may be NULL, of v and target [B, n]: 12 bytes an element.  A block an image. */
template <int W>
static __global__ void
mse_kernel(float *loss, float *dv, const float *v, const float *target, int64_t n,
           const d2c_step_record *record)
{
    __shared__ double part[D2C_WARP];
    float factor = dv == NULL ? 0.0f : 2.0f / (float)n * record->loss_scale;
    int64_t start = blockIdx.x * n;
    double sum = 0.0;

    for (int64_t at = (int64_t)threadIdx.x * W; at < n; at += MSE_THREADS * W) {
        float error[W], wanted[W], squares = 0.0f;

        d2c_load<W>(error, v + start + at);
        d2c_load<W>(wanted, target + start + at);
#pragma unroll
        for (int i = 0; i < W; i++) {
            error[i] -= wanted[i];
            squares = fmaf(error[i], error[i], squares);
            error[i] *= factor;
        }
        sum += squares;
        if (dv != NULL)
            d2c_store<W>(dv + start + at, error);
    }
    sum = d2c_block_sum(sum, part);
    if (threadIdx.x == 0)
        loss[blockIdx.x] = (float)(sum / (double)n);
}

d2c_status
d2c_cuda_mse_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
                  const d2c_step_record *record)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int wide = d2c_packs(dv, 4) && d2c_packs(v, 4) && d2c_packs(target, 4);

    return D2C_LAUNCH(cuda, (wide ? mse_kernel<4> : mse_kernel<1>), (unsigned)v.dim[0], MSE_THREADS, 0,
                      (float *)loss.data, (float *)dv.data, (const float *)v.data, (const float *)target.data,
                      v.dim[1], record);
}

/* ---- DiT's loss ---------------------------------------------------------------------------------------------------- */

#define BITS 1.44269504088896341

/* What an image's elements share. */
typedef struct dit_terms {
    float half, square, by_noise,
        by_fraction; /* half of the variance's range; an error's divergence; gradients */
} dit_terms;

static __device__ __forceinline__ dit_terms
dit_terms_of(const float *bound, float scale)
{
    float range = bound[2] - bound[1];
    dit_terms t;

    t.half = 0.5f * range;
    t.square = (float)((double)bound[0] * bound[0] * exp(-(double)bound[1]));
    t.by_noise = 2.0f * scale;
    t.by_fraction = 0.25f * range * (float)BITS * scale;
    return t;
}

/* With s the logarithm of the variance over the least one, the divergence is (s - 1 + e^-s (1 + square error^2)) / 2 nats.
 * error and fraction become their gradients; returns the sum of squares and bits. */
template <int W>
static __device__ __forceinline__ float
dit_pack(float (&error)[W], float (&fraction)[W], const dit_terms &t)
{
    float sum = 0.0f;

#pragma unroll
    for (int i = 0; i < W; i++) {
        float s = fmaf(t.half, fraction[i], t.half);
        float g = expf(-s) * fmaf(t.square * error[i], error[i], 1.0f);

        sum += fmaf(error[i], error[i], 0.5f * (float)BITS * (s - 1.0f + g));
        error[i] *= t.by_noise;
        fraction[i] = t.by_fraction * (1.0f - g);
    }
    return sum;
}

/* The first step, which few images have: v [2n], noise and x [n] of one. */
static __device__ double
dit_first_step(float *dv, const float *v, const float *noise, const float *x, const float *bound, float scale,
               int64_t n)
{
    double range = (double)bound[2] - bound[1], sum = 0.0;

    for (int64_t i = threadIdx.x; i < n; i += MSE_THREADS) {
        double error = (double)v[i] - noise[i], slope;
        double nats =
            d2c_pixel_nats(&slope, x[i], bound[0] * error, bound[1] + range * (v[n + i] + 1.0) / 2.0);

        sum += error * error + nats * BITS;
        if (dv != NULL) {
            dv[i] = (float)(2.0 * error * scale);
            dv[n + i] = (float)(slope * range / 2.0 * BITS * scale);
        }
    }
    return sum;
}

/* loss [B] and dv [B, 2n], which may be NULL, of v [B, 2n] and noise [B, n]: 20 bytes an element.  A block an image. */
template <int W>
static __global__ void
dit_kernel(float *loss, float *dv, const float *v, const float *noise, const float *x, const float *bound,
           int64_t n, const d2c_step_record *record)
{
    __shared__ double part[D2C_WARP];
    float scale = dv == NULL ? 0.0f : record->loss_scale / (float)n;
    double sum = 0.0;

    v += 2 * blockIdx.x * n;
    noise += blockIdx.x * n;
    bound += 4 * blockIdx.x;
    dv = dv == NULL ? NULL : dv + 2 * blockIdx.x * n;
    if (bound[3] != 0.0f)
        sum = dit_first_step(dv, v, noise, x + blockIdx.x * n, bound, scale, n);
    else {
        dit_terms terms = dit_terms_of(bound, scale);

        for (int64_t at = (int64_t)threadIdx.x * W; at < n; at += MSE_THREADS * W) {
            float error[W], drawn[W], fraction[W];

            d2c_load<W>(error, v + at);
            d2c_load<W>(drawn, noise + at);
            d2c_load<W>(fraction, v + n + at);
#pragma unroll
            for (int i = 0; i < W; i++)
                error[i] -= drawn[i];
            sum += dit_pack<W>(error, fraction, terms);
            if (dv != NULL) {
                d2c_store<W>(dv + at, error);
                d2c_store<W>(dv + n + at, fraction);
            }
        }
    }
    sum = d2c_block_sum(sum, part);
    if (threadIdx.x == 0)
        loss[blockIdx.x] = (float)(sum / (double)n);
}

d2c_status
d2c_cuda_dit_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor noise,
                  d2c_tensor x, d2c_tensor bound, const d2c_step_record *record)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int wide = d2c_packs(dv, 4) && d2c_packs(v, 4) && d2c_packs(noise, 4);

    return D2C_LAUNCH(cuda, (wide ? dit_kernel<4> : dit_kernel<1>), (unsigned)v.dim[0], MSE_THREADS, 0,
                      (float *)loss.data, (float *)dv.data, (const float *)v.data, (const float *)noise.data,
                      (const float *)x.data, (const float *)bound.data, noise.dim[1], record);
}

/* ---- alignment ----------------------------------------------------------------------------------------------------- */

#define COSINE_NORM_MIN 1e-12f

/* Packs that a lane holds: a row of up to 1024 columns, in packs of four, stays in registers between its sums and its
 * gradient.  Longer rows are read again piece by piece. */
#define HELD 8

/* A lane's share of a piece of a row, from column `at` on; 0 beyond the row's end.  It is kept as it is stored. */
template <typename T, int W>
static __device__ __forceinline__ void
hold_piece(d2c_pack<T, W> (&held)[HELD], const T *row, int64_t at, int64_t width)
{
#pragma unroll
    for (int h = 0; h < HELD; h++, at += D2C_WARP * W) {
        held[h] = {};
        if (at < width)
            held[h] = d2c_read<W>(row + at);
    }
}

/* sums = z.z, q.q and z.q, added to */
template <typename Z, typename Q, int W>
static __device__ __forceinline__ void
add_products(float (&sums)[3], const d2c_pack<Z, W> (&z)[HELD], const d2c_pack<Q, W> (&q)[HELD])
{
#pragma unroll
    for (int h = 0; h < HELD; h++) {
        float u[W], v[W];

        d2c_unpack<W, Z>(u, z[h]);
        d2c_unpack<W, Q>(v, q[h]);
#pragma unroll
        for (int i = 0; i < W; i++) {
            sums[0] = fmaf(u[i], u[i], sums[0]);
            sums[1] = fmaf(v[i], v[i], sums[1]);
            sums[2] = fmaf(u[i], v[i], sums[2]);
        }
    }
}

/* dz = from_q q - from_z z for a piece. */
template <typename DZ, typename Z, typename Q, int W>
static __device__ __forceinline__ void
store_piece(DZ *dz, int64_t at, int64_t width, float from_q, const d2c_pack<Q, W> (&q)[HELD], float from_z,
            const d2c_pack<Z, W> (&z)[HELD])
{
#pragma unroll
    for (int h = 0; h < HELD; h++, at += D2C_WARP * W) {
        float u[W], v[W];

        d2c_unpack<W, Z>(u, z[h]);
        d2c_unpack<W, Q>(v, q[h]);
#pragma unroll
        for (int i = 0; i < W; i++)
            u[i] = fmaf(from_q, v[i], -from_z * u[i]);
        if (at < width)
            d2c_store<W>(dz + at, u);
    }
}

/* cosine [rows] of z and q [rows, width], a warp a row, and factor times its gradient in dz, which may be NULL.  With
 * a = |z| and b = |q|, at least 1e-12, the gradient is (q / b - cos z / a) / a; where z was raised to the limit its norm
 * is a constant and the second term is missing.  Bound by memory: z and q are read, and dz written, once. */
template <typename DZ, typename Z, typename Q, int W>
static __global__ void
cosine_kernel(float *cosine, DZ *dz, const Z *z, const Q *q, int64_t rows, int64_t width, float factor,
              const d2c_step_record *record)
{
    const int64_t piece = HELD * D2C_WARP * W;
    int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / D2C_WARP, first, start;
    int lane = threadIdx.x % D2C_WARP;
    d2c_pack<Z, W> held_z[HELD];
    d2c_pack<Q, W> held_q[HELD];
    float sums[3] = {0.0f, 0.0f, 0.0f}, a, b, norm, from_q, from_z;

    if (row >= rows)
        return;
    start = row * width;
    for (first = 0; first < width; first += piece) {
        hold_piece<Z, W>(held_z, z + start, first + lane * W, width);
        hold_piece<Q, W>(held_q, q + start, first + lane * W, width);
        add_products<Z, Q, W>(sums, held_z, held_q);
    }
    norm = sqrtf(d2c_warp_sum(sums[0]));
    a = fmaxf(norm, COSINE_NORM_MIN);
    b = fmaxf(sqrtf(d2c_warp_sum(sums[1])), COSINE_NORM_MIN);
    sums[2] = d2c_warp_sum(sums[2]) / a / b;
    if (lane == 0)
        cosine[row] = sums[2];
    if (dz == NULL)
        return;
    factor *= record->loss_scale;
    from_q = factor / a / b;
    from_z = norm > COSINE_NORM_MIN ? factor * sums[2] / a / a : 0.0f;
    for (first = 0; first < width; first += piece) {
        if (width > piece) {
            hold_piece<Z, W>(held_z, z + start, first + lane * W, width);
            hold_piece<Q, W>(held_q, q + start, first + lane * W, width);
        }
        store_piece<DZ, Z, Q, W>(dz + start, first + lane * W, width, from_q, held_q, from_z, held_z);
    }
}

/* loss [B] = -weight times the mean of an image's cosines [B, tokens].  A warp an image. */
static __global__ void
cosine_mean_kernel(float *loss, const float *cosine, int64_t tokens, float weight)
{
    double sum = 0.0;

    cosine += blockIdx.x * tokens;
    for (int64_t t = threadIdx.x; t < tokens; t += D2C_WARP)
        sum += cosine[t];
    sum = d2c_warp_sum(sum);
    if (threadIdx.x == 0)
        loss[blockIdx.x] = (float)(-(double)weight * sum / (double)tokens);
}

template <typename DZ, typename Z, typename Q>
static d2c_status
cosine_rows(d2c_cuda *cuda, float *cosine, d2c_tensor dz, d2c_tensor z, d2c_tensor q, float weight,
            const d2c_step_record *record)
{
    int wide = d2c_packs(dz, 4) && d2c_packs(z, 4) && d2c_packs(q, 4);
    int64_t rows = z.dim[0] * z.dim[1];

    return D2C_LAUNCH(cuda, (wide ? cosine_kernel<DZ, Z, Q, 4> : cosine_kernel<DZ, Z, Q, 1>),
                      d2c_blocks(rows, THREADS / D2C_WARP), THREADS, 0, cosine, (DZ *)dz.data,
                      (const Z *)z.data, (const Q *)q.data, rows, z.dim[2], -weight / (float)z.dim[1],
                      record);
}

template <typename DZ, typename Z>
static d2c_status
cosine_rows_of(d2c_cuda *cuda, float *cosine, d2c_tensor dz, d2c_tensor z, d2c_tensor q, float weight,
               const d2c_step_record *record)
{
    if (q.dtype == D2C_F16)
        return cosine_rows<DZ, Z, d2c_h16>(cuda, cosine, dz, z, q, weight, record);
    return q.dtype == D2C_BF16 ? cosine_rows<DZ, Z, d2c_b16>(cuda, cosine, dz, z, q, weight, record)
                               : cosine_rows<DZ, Z, float>(cuda, cosine, dz, z, q, weight, record);
}

template <typename DZ>
static d2c_status
cosine_rows_to(d2c_cuda *cuda, float *cosine, d2c_tensor dz, d2c_tensor z, d2c_tensor q, float weight,
               const d2c_step_record *record)
{
    return z.dtype == D2C_BF16 ? cosine_rows_of<DZ, d2c_b16>(cuda, cosine, dz, z, q, weight, record)
                               : cosine_rows_of<DZ, float>(cuda, cosine, dz, z, q, weight, record);
}

d2c_status
d2c_cuda_cosine_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q,
                     float weight, const d2c_step_record *record)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    void *cosine;

    D2C_TRY(d2c_cuda_scratch(cuda, &cosine, (size_t)(z.dim[0] * z.dim[1]) * sizeof(float)));
    D2C_TRY(D2C_BY_TYPE(dz.dtype, cosine_rows_to, cuda, (float *)cosine, dz, z, q, weight, record));
    return D2C_LAUNCH(cuda, cosine_mean_kernel, (unsigned)z.dim[0], D2C_WARP, 0, (float *)loss.data,
                      (const float *)cosine, z.dim[1], weight);
}

/* ---- a step's loss ------------------------------------------------------------------------------------------------- */

/* One block, for a batch is some hundred numbers. */
static __global__ void
finish_kernel(d2c_step_record *record, const float *loss, int64_t count)
{
    __shared__ double part[D2C_WARP];
    double sum = 0.0;

    for (int64_t i = threadIdx.x; i < count; i += THREADS)
        sum += loss[i];
    sum = d2c_block_sum(sum, part);
    if (threadIdx.x == 0)
        record->loss = (float)(record->loss + record->loss_scale * sum);
}

d2c_status
d2c_cuda_finish_loss(d2c_backend *be, d2c_step_record *record, d2c_tensor loss)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    return D2C_LAUNCH(cuda, finish_kernel, 1, THREADS, 0, record, (const float *)loss.data, loss.dim[0]);
}
