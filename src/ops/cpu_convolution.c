/*
 * cpu_convolution.c: convolutions, each picture one of oneDNN's.
 *
 * The weights are brought into oneDNN's layout at every call: 0.2 to 6 % of an f32 convolution's time at the
 * autoencoder's sizes.  Keeping them would double a network's memory in every worker, and nothing tells when a weight
 * has changed.
 */
#include "ops/cpu.h"

#include <string.h>

#include <omp.h>

typedef struct convolution {
    d2c_cpu *cpu;
    d2c_convolution plan;
    d2c_tensor x, y;
    const void *packed;
    const float *bias;
} convolution;

static d2c_convolution
convolution_plan(d2c_tensor y, d2c_tensor x, const d2c_weight *w, const d2c_window *window, d2c_act act)
{
    d2c_convolution c;

    memset(&c, 0, sizeof c);
    c.height = x.dim[1];
    c.width = x.dim[2];
    c.in = x.dim[3];
    c.rows = y.dim[1];
    c.columns = y.dim[2];
    c.out = y.dim[3];
    c.window = *window;
    c.x_type = (int32_t)x.dtype;
    c.y_type = (int32_t)(x.dtype == D2C_BF16 ? y.dtype : D2C_F32);
    c.has_bias = w->bias.data != NULL;
    c.act = (int32_t)act;
    return c;
}

/* One picture of a tensor [B, ...]. */
static d2c_tensor
picture_of(d2c_tensor t, int64_t image)
{
    t.data = d2c_cpu_row(t, image);
    t.dim[0] = 1;
    return t;
}

/* Each picture by all threads; where oneDNN cannot write y's type, through f32 of one picture. */
static d2c_status
convolve_together(const convolution *c, float *wide)
{
    d2c_cpu *cpu = c->cpu;
    int64_t image, n = c->plan.rows * c->plan.columns * c->plan.out;

    for (image = 0; image < c->x.dim[0]; image++) {
        d2c_tensor x = picture_of(c->x, image), y = picture_of(c->y, image);

        D2C_TRY(d2c_convolution_run(cpu->team, &c->plan, wide == NULL ? y.data : wide, x.data, c->packed,
                                    c->bias, &cpu->base.error));
        if (wide != NULL)
            D2C_TRY(d2c_cpu_cast(&cpu->base, d2c_tensor2(y.data, y.dtype, 1, n),
                                 d2c_tensor2(wide, D2C_F32, 1, n)));
    }
    return D2C_OK;
}

/* Each picture by one thread. */
static d2c_status
convolve_apart(const convolution *c)
{
    d2c_cpu *cpu = c->cpu;
    int64_t image;

#pragma omp parallel for num_threads(cpu->base.threads) schedule(dynamic)
    for (image = 0; image < c->x.dim[0]; image++) {
        d2c_tensor x = picture_of(c->x, image), y = picture_of(c->y, image);
        int thread = omp_get_thread_num();

        if (cpu->worker_error[thread].status == D2C_OK)
            d2c_convolution_run(cpu->worker[thread], &c->plan, y.data, x.data, c->packed, c->bias,
                                &cpu->worker_error[thread]);
    }
    return d2c_cpu_worker_status(cpu);
}

d2c_status
d2c_cpu_conv2d_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_weight *w,
                       const d2c_window *window, d2c_act act)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    convolution c = {cpu, convolution_plan(y, x, w, window, act), x, y, NULL, w->bias.data};
    int widened = c.plan.y_type != (int32_t)y.dtype, apart = !widened && x.dim[0] >= be->threads;
    d2c_plan_cache *cache = apart ? cpu->worker[0] : cpu->team;
    size_t packed_bytes, wide_bytes = widened ? (size_t)(c.plan.rows * c.plan.columns * c.plan.out) * 4 : 0;
    void *packed;

    if (x.dtype == D2C_BF16 && !be->has_bf16)
        return d2c_fail(&be->error, D2C_UNSUPPORTED, "this processor does not multiply bf16");
    D2C_TRY(d2c_convolution_pack_size(cache, &c.plan, &packed_bytes, &be->error));
    packed_bytes = d2c_cpu_round(packed_bytes);
    D2C_TRY(d2c_cpu_scratch(cpu, &packed, packed_bytes + wide_bytes));
    D2C_TRY(d2c_convolution_pack(cache, &c.plan, packed, x.dtype == D2C_BF16 ? w->shadow.data : w->value.data,
                                 &be->error));
    c.packed = packed;
    return apart ? convolve_apart(&c)
                 : convolve_together(&c, widened ? (float *)((char *)packed + packed_bytes) : NULL);
}
