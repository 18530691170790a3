/* cpu_diffusion.c: draws, interpolation and losses. */
#include "ops/cpu.h"

#include <math.h>
#include <omp.h>

#include "base/pixel_bits.h"

/* What a row's draw is keyed by. */
static uint64_t
row_id(d2c_tensor id, int64_t b)
{
    return (uint64_t)((const int64_t *)id.data)[b];
}

static uint32_t
row_stream(d2c_tensor epoch, int64_t b, int purpose)
{
    return d2c_philox_stream(((const int64_t *)epoch.data)[b], purpose);
}

d2c_status
d2c_cpu_draw_normal(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                    int purpose)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = y.dim[1], b;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, y.dim[0] * n)) schedule(static)
    for (b = 0; b < y.dim[0]; b++)
        cpu->kernels->normal((float *)y.data + b * n, seed, row_id(id, b), row_stream(epoch, b, purpose), n);
    return D2C_OK;
}

d2c_status
d2c_cpu_diffuse(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
                d2c_tensor coefficient)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = x.dim[1], b;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, x.dim[0] * n)) schedule(static)
    for (b = 0; b < x.dim[0]; b++) {
        const float *c = (const float *)coefficient.data + 4 * b;
        const float *data = (const float *)x.data + b * n, *drawn = (const float *)noise.data + b * n;

        cpu->kernels->combine((float *)xt.data + b * n, c[0], data, c[1], drawn, n);
        if (target.data != NULL)
            cpu->kernels->combine((float *)target.data + b * n, c[2], data, c[3], drawn, n);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_mse_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
                 const d2c_step_record *record)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = v.dim[1], b;
    float factor = dv.data == NULL ? 0.0f : 2.0f / (float)n * record->loss_scale;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, v.dim[0] * n)) schedule(static)
    for (b = 0; b < v.dim[0]; b++) {
        double sum = cpu->kernels->square_error(dv.data == NULL ? NULL : (float *)dv.data + b * n,
                                                (const float *)v.data + b * n,
                                                (const float *)target.data + b * n, factor, n);

        ((float *)loss.data)[b] = (float)(sum / (double)n);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_cosine_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q, float weight,
                    const d2c_step_record *record)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t tokens = z.dim[1], width = z.dim[2], b;
    float factor = dz.data == NULL ? 0.0f : -weight / (float)tokens * record->loss_scale;
    size_t dz_size = d2c_dtype_size(dz.dtype), z_size = d2c_dtype_size(z.dtype),
           q_size = d2c_dtype_size(q.dtype);

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, z.dim[0] * tokens * width)) schedule(static)
    for (b = 0; b < z.dim[0]; b++) {
        double sum = 0.0;
        int64_t row;

        for (row = b * tokens; row < (b + 1) * tokens; row++) {
            size_t at = (size_t)(row * width);

            sum += cpu->kernels->cosine(dz.data == NULL ? NULL : (char *)dz.data + at * dz_size, dz.dtype,
                                        (const char *)z.data + at * z_size, z.dtype,
                                        (const char *)q.data + at * q_size, q.dtype, factor, width);
        }
        ((float *)loss.data)[b] = (float)(-(double)weight * sum / (double)tokens);
    }
    return D2C_OK;
}

/* The first step: few rows have it. */
static double
first_step(float *dv, const float *v, const float *noise, const float *x, const float *bound, float scale,
           int64_t n)
{
    double range = (double)bound[2] - bound[1], squares = 0.0, nats = 0.0;
    int64_t i;

    for (i = 0; i < n; i++) {
        double error = (double)v[i] - noise[i], slope;

        squares += error * error;
        nats += d2c_pixel_nats(&slope, x[i], bound[0] * error, bound[1] + range * (v[n + i] + 1.0) / 2.0);
        if (dv != NULL) {
            dv[i] = (float)(2.0 * error * scale);
            dv[n + i] = (float)(slope * range / 2.0 / M_LN2 * scale);
        }
    }
    return squares + nats / M_LN2;
}

d2c_status
d2c_cpu_dit_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor noise,
                 d2c_tensor x, d2c_tensor bound, const d2c_step_record *record)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t n = noise.dim[1], b;
    float scale = dv.data == NULL ? 0.0f : record->loss_scale / (float)n;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, v.dim[0] * n)) schedule(static)
    for (b = 0; b < v.dim[0]; b++) {
        const float *term = (const float *)bound.data + 4 * b, *out = (const float *)v.data + 2 * b * n;
        const float *drawn = (const float *)noise.data + b * n;
        float *gradient = dv.data == NULL ? NULL : (float *)dv.data + 2 * b * n;
        double square = (double)term[0] * term[0] * exp(-(double)term[1]), sum;

        if (term[3] != 0.0f)
            sum = first_step(gradient, out, drawn, (const float *)x.data + b * n, term, scale, n);
        else
            sum = cpu->kernels->dit_error(gradient, out, drawn, (float)square, term[2] - term[1], scale, n);
        ((float *)loss.data)[b] = (float)(sum / (double)n);
    }
    return D2C_OK;
}
