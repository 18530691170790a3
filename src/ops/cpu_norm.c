/*
 * cpu_norm.c: LayerNorm with modulation, gates.
 *
 * Forward passes divide an image's rows into runs; backward passes give a whole image to one thread, because its
 * shift, scale and gate have one sum over its rows.
 */
#include "ops/cpu.h"

#include <string.h>

#include <omp.h>

#define RUN 16 /* rows at a time; a run lies within one image */

/* A run of rows: which image, from which row of all, how many. */
typedef struct row_run {
    int64_t image, row, rows;
} row_run;

static int64_t
run_count(int64_t images, int64_t tokens)
{
    return images * ((tokens + RUN - 1) / RUN);
}

static row_run
run_at(int64_t run, int64_t tokens)
{
    int64_t per_image = (tokens + RUN - 1) / RUN, first = run % per_image * RUN;
    row_run r = {run / per_image, run / per_image * tokens + first,
                 tokens - first < RUN ? tokens - first : RUN};

    return r;
}

static d2c_rows_in
rows_in(d2c_tensor t, int64_t row)
{
    int64_t width = t.dim[t.ndim - 1];
    d2c_rows_in in = {(const char *)t.data + (size_t)(row * width) * d2c_dtype_size(t.dtype), t.dtype, width};

    return in;
}

static d2c_rows_out
rows_out(d2c_tensor t, int64_t row)
{
    int64_t width = t.dim[t.ndim - 1];
    d2c_rows_out out = {(char *)t.data + (size_t)(row * width) * d2c_dtype_size(t.dtype), t.dtype, width};

    return out;
}

/* Row b of a tensor [B, C] f32 whose rows may be strided. */
static float *
image_row(d2c_tensor t, int64_t image)
{
    return (float *)t.data + image * t.stride[0];
}

d2c_status
d2c_cpu_modulate_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor shift,
                         d2c_tensor scale, float eps)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t images = x.dim[0], tokens = x.dim[1], c = x.dim[2], run;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, images *tokens *c)) schedule(static)
    for (run = 0; run < run_count(images, tokens); run++) {
        row_run r = run_at(run, tokens);

        cpu->kernels->norm(rows_out(y, r.row), (float *)stat.data + 2 * r.row, rows_in(x, r.row),
                           image_row(scale, r.image), image_row(shift, r.image), 1.0f, eps, r.rows, c);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_gate_modulate_forward(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat, d2c_tensor x,
                              d2c_tensor y, d2c_tensor gate, d2c_tensor shift, d2c_tensor scale, float eps)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t images = x.dim[0], tokens = x.dim[1], c = x.dim[2], run;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, images *tokens *c)) schedule(static)
    for (run = 0; run < run_count(images, tokens); run++) {
        row_run r = run_at(run, tokens);

        cpu->kernels->gate_norm((float *)out.data + r.row * c, rows_out(h, r.row),
                                (float *)stat.data + 2 * r.row, (const float *)x.data + r.row * c,
                                rows_in(y, r.row), image_row(gate, r.image), image_row(scale, r.image),
                                image_row(shift, r.image), eps, r.rows, c);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_modulate_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale, d2c_tensor dy,
                          d2c_tensor x, d2c_tensor stat, d2c_tensor scale)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t images = x.dim[0], tokens = x.dim[1], c = x.dim[2], b;
    size_t stripe = d2c_cpu_round((size_t)c * sizeof(float));
    void *work;

    D2C_TRY(d2c_cpu_scratch(cpu, &work, stripe * (size_t)be->threads));
#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, images *tokens *c)) schedule(static)
    for (b = 0; b < images; b++) {
        float *own = (float *)((char *)work + stripe * (size_t)omp_get_thread_num());

        memset(image_row(dshift, b), 0, (size_t)c * sizeof(float));
        memset(image_row(dscale, b), 0, (size_t)c * sizeof(float));
        cpu->kernels->norm_gradient(rows_out(dx, b * tokens), 1, image_row(dscale, b), image_row(dshift, b),
                                    rows_in(dy, b * tokens), rows_in(x, b * tokens),
                                    (const float *)stat.data + 2 * b * tokens, image_row(scale, b), 1.0f, own,
                                    tokens, c);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_gate_residual_forward(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t images = x.dim[0], tokens = x.dim[1], c = x.dim[2], run;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, images *tokens *c)) schedule(static)
    for (run = 0; run < run_count(images, tokens); run++) {
        row_run r = run_at(run, tokens);

        cpu->kernels->gate((float *)x.data + r.row * c, rows_in(y, r.row), image_row(gate, r.image), r.rows,
                           c);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_gate_residual_backward(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx, d2c_tensor y,
                               d2c_tensor gate)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t images = dx.dim[0], tokens = dx.dim[1], c = dx.dim[2], b;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, images *tokens *c)) schedule(static)
    for (b = 0; b < images; b++) {
        memset(image_row(dgate, b), 0, (size_t)c * sizeof(float));
        cpu->kernels->gate_gradient(rows_out(dy, b * tokens), image_row(dgate, b),
                                    (const float *)dx.data + b * tokens * c, rows_in(y, b * tokens),
                                    image_row(gate, b), tokens, c);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_layernorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor gamma,
                          d2c_tensor beta, float eps)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t rows = x.dim[0], c = x.dim[1], run;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, rows *c)) schedule(static)
    for (run = 0; run < run_count(1, rows); run++) {
        row_run r = run_at(run, rows);

        cpu->kernels->norm(rows_out(y, r.row), stat.data == NULL ? NULL : (float *)stat.data + 2 * r.row,
                           rows_in(x, r.row), gamma.data, beta.data, 0.0f, eps, r.rows, c);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_rmsnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, float eps)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t rows = x.dim[0], c = x.dim[1], run;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, rows *c)) schedule(static)
    for (run = 0; run < run_count(1, rows); run++) {
        row_run r = run_at(run, rows);

        cpu->kernels->rms(rows_out(y, r.row), rows_in(x, r.row), gamma.data, eps, r.rows, c);
    }
    return D2C_OK;
}

/* The sums over all rows are one thread's; without them the rows are divided. */
d2c_status
d2c_cpu_layernorm_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta, d2c_tensor dy,
                           d2c_tensor x, d2c_tensor stat, d2c_tensor gamma)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t rows = x.dim[0], c = x.dim[1], run;
    int threads = dgamma.data != NULL ? 1 : d2c_cpu_threads(cpu, rows * c);
    size_t stripe = d2c_cpu_round((size_t)c * sizeof(float));
    void *work;

    D2C_TRY(d2c_cpu_scratch(cpu, &work, stripe * (size_t)be->threads));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (run = 0; run < run_count(1, rows); run++) {
        row_run r = run_at(run, rows);

        cpu->kernels->norm_gradient(rows_out(dx, r.row), 0, dgamma.data, dbeta.data, rows_in(dy, r.row),
                                    rows_in(x, r.row), (const float *)stat.data + 2 * r.row, gamma.data, 0.0f,
                                    (float *)((char *)work + stripe * (size_t)omp_get_thread_num()), r.rows,
                                    c);
    }
    return D2C_OK;
}
