/*
 * cpu_convolution.c: convolutions, each picture one of oneDNN's, activations included.  But for ReLU: oneDNN's makes 0
 * of a NaN, so ours follows while the picture is in the cache.
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
    d2c_act after; /* what oneDNN leaves to us */
    float *wide;   /* where oneDNN cannot write y's type: f32 of one picture */
} convolution;

static d2c_convolution
convolution_plan(d2c_tensor y, d2c_tensor x, int has_bias, const d2c_window *window, d2c_act act)
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
    c.has_bias = has_bias;
    c.act = (int32_t)act;
    return c;
}

/* One picture of a tensor [B, ...]. */
static void *
picture_at(d2c_tensor t, int64_t image)
{
    return d2c_cpu_row(t, image);
}

/* Each picture by all threads. */
static d2c_status
convolve_together(const convolution *c)
{
    d2c_cpu *cpu = c->cpu;
    int64_t image, n = c->y.stride[0];

    for (image = 0; image < c->x.dim[0]; image++) {
        d2c_tensor y = d2c_tensor1(picture_at(c->y, image), c->y.dtype, n), made = y;

        if (c->wide != NULL)
            made = d2c_tensor1(c->wide, D2C_F32, n);
        D2C_TRY(d2c_convolution_run(cpu->team, &c->plan, made.data, picture_at(c->x, image), c->packed,
                                    c->bias, &cpu->base.error));
        if (c->wide != NULL || c->after != D2C_ACT_NONE)
            D2C_TRY(d2c_cpu_act_forward(&cpu->base, y, made, c->after));
    }
    return D2C_OK;
}

static void
convolve_picture(const convolution *c, int64_t image, int thread)
{
    void *y = picture_at(c->y, image);
    d2c_status status = d2c_convolution_run(c->cpu->worker[thread], &c->plan, y, picture_at(c->x, image),
                                            c->packed, c->bias, &c->cpu->worker_error[thread]);

    if (status == D2C_OK && c->after != D2C_ACT_NONE)
        c->cpu->kernels->act(y, c->y.dtype, y, c->y.dtype, c->y.stride[0], c->after);
}

/* Each picture by one thread. */
static d2c_status
convolve_apart(const convolution *c)
{
    d2c_cpu *cpu = c->cpu;
    int64_t image;

#pragma omp parallel for num_threads(cpu->base.threads) schedule(dynamic)
    for (image = 0; image < c->x.dim[0]; image++) {
        int thread = omp_get_thread_num();

        if (cpu->worker_error[thread].status == D2C_OK)
            convolve_picture(c, image, thread);
    }
    return d2c_cpu_worker_status(cpu);
}

/* Packs the weights and lays out the scratch memory. */
static d2c_status
prepare(convolution *c, d2c_plan_cache *cache, const void *weights)
{
    d2c_error *err = &c->cpu->base.error;
    int widened = c->plan.y_type != (int32_t)c->y.dtype;
    size_t bytes;
    void *packed;

    D2C_TRY(d2c_convolution_pack_size(cache, &c->plan, &bytes, err));
    bytes = d2c_cpu_round(bytes);
    D2C_TRY(d2c_cpu_scratch(c->cpu, &packed, bytes + (widened ? (size_t)c->y.stride[0] * sizeof(float) : 0)));
    c->packed = packed;
    c->wide = widened ? (float *)((char *)packed + bytes) : NULL;
    return d2c_convolution_pack(cache, &c->plan, packed, weights, err);
}

d2c_status
d2c_cpu_conv2d_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_weight *w,
                       const d2c_window *window, d2c_act act)
{
    convolution c = {.cpu = d2c_cpu_enter(be), .x = x, .y = y, .bias = w->bias.data};
    int apart = x.dim[0] >= be->threads && (x.dtype == D2C_BF16 || y.dtype == D2C_F32);

    if (x.dtype == D2C_BF16 && !be->has_bf16)
        return d2c_fail(&be->error, D2C_UNSUPPORTED, "this processor does not multiply bf16");
    c.after = act == D2C_ACT_RELU ? act : D2C_ACT_NONE;
    c.plan = convolution_plan(y, x, c.bias != NULL, window, act == D2C_ACT_RELU ? D2C_ACT_NONE : act);
    D2C_TRY(prepare(&c, apart ? c.cpu->worker[0] : c.cpu->team,
                    x.dtype == D2C_BF16 ? w->shadow.data : w->value.data));
    return apart ? convolve_apart(&c) : convolve_together(&c);
}
