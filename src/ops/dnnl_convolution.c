/* dnnl_convolution.c: convolutions as plans (dnnl_plan.h). */
#include "ops/dnnl_cache.h"

#include <string.h>

/* A descriptor of one picture [height, width, channels], dense, in oneDNN's order of dims. */
static dnnl_status_t
picture_descriptor(dnnl_md *md, int64_t height, int64_t width, int64_t channels, int32_t type)
{
    dnnl_dims_t dims = {1, channels, height, width};
    dnnl_dims_t strides = {height * width * channels, 1, width * channels, channels};

    return md_strided(md, 4, dims, d2c_dnnl_type(type), strides);
}

/* The weights as the layer keeps them, [out, height, width, in], and as the plan wants them. */
static dnnl_status_t
weight_descriptors(d2c_plan_descriptors *d, const d2c_convolution *c)
{
    int64_t height = c->window.height, width = c->window.width;
    dnnl_dims_t dims = {c->out, c->in, height, width};
    dnnl_dims_t strides = {height * width * c->in, 1, width * c->in, c->in};

    DNNL_TRY(md_strided(&d->source, 4, dims, d2c_dnnl_type(c->x_type), strides));
    return md_any(&d->weights, 4, dims, d2c_dnnl_type(c->x_type));
}

static dnnl_status_t
append_act(dnnl_post_ops_t post_ops, d2c_act act)
{
    switch (act) {
    case D2C_ACT_SILU:
        return append_eltwise(post_ops, dnnl_eltwise_swish, 1.0f);
    case D2C_ACT_GELU_QUICK:
        return append_eltwise(post_ops, dnnl_eltwise_swish, 1.702f);
    case D2C_ACT_GELU_TANH:
        return append_eltwise(post_ops, dnnl_eltwise_gelu_tanh, 0.0f);
    case D2C_ACT_GELU_ERF:
        return append_eltwise(post_ops, dnnl_eltwise_gelu_erf, 0.0f);
    case D2C_ACT_RELU: /* not asked for: see cpu_convolution.c */
    case D2C_ACT_NONE:
        break;
    }
    return dnnl_success;
}

static dnnl_status_t
describe_convolution(d2c_plan_descriptors *d, const d2c_plan_key *key, dnnl_engine_t engine)
{
    const d2c_convolution *c = &key->of.convolution;
    const d2c_window *w = &c->window;
    dnnl_dims_t out = {c->out}, one = {1}, strides = {w->stride, w->stride};
    dnnl_dims_t before = {w->top, w->left}, after = {w->bottom, w->right};

    d->has_bias = c->has_bias;
    d->packed = 1;
    DNNL_TRY(picture_descriptor(&d->x, c->height, c->width, c->in, c->x_type));
    DNNL_TRY(picture_descriptor(&d->y, c->rows, c->columns, c->out, c->y_type));
    DNNL_TRY(weight_descriptors(d, c));
    if (c->has_bias)
        DNNL_TRY(md_strided(&d->bias, 1, out, dnnl_f32, one));
    DNNL_TRY(d2c_plan_attributes(d));
    DNNL_TRY(append_act(d->post_ops, (d2c_act)c->act));
    DNNL_TRY(dnnl_primitive_attr_set_post_ops(d->attr, d->post_ops));
    return convolution_descriptor(&d->primitive, engine, &d->x, &d->weights, c->has_bias ? &d->bias : NULL,
                                  &d->y, strides, before, after, d->attr);
}

static void
explain_convolution(d2c_error *err, const d2c_plan_key *key)
{
    const d2c_convolution *c = &key->of.convolution;

    d2c_detail(err, "The convolution is %lld x %lld x %lld, %d x %d, to %lld channels in %s.",
               (long long)c->height, (long long)c->width, (long long)c->in, c->window.height, c->window.width,
               (long long)c->out, c->x_type == D2C_BF16 ? "bf16" : "f32");
}

static const d2c_plan_kind convolution_kind = {"convolution", describe_convolution, explain_convolution};

static d2c_plan_key
convolution_key(const d2c_convolution *convolution)
{
    d2c_plan_key key;

    memset(&key, 0, sizeof key);
    key.kind = &convolution_kind;
    key.of.convolution = *convolution;
    return key;
}

d2c_status
d2c_convolution_run(d2c_plan_cache *cache, const d2c_convolution *convolution, void *y, const void *x,
                    const void *packed, const float *bias, d2c_error *err)
{
    d2c_plan_key key = convolution_key(convolution);

    return d2c_plan_run(cache, &key, y, x, packed, bias, err);
}

d2c_status
d2c_convolution_pack_size(d2c_plan_cache *cache, const d2c_convolution *convolution, size_t *bytes,
                          d2c_error *err)
{
    d2c_plan_key key = convolution_key(convolution);

    return d2c_plan_pack_size(cache, &key, bytes, err);
}

d2c_status
d2c_convolution_pack(d2c_plan_cache *cache, const d2c_convolution *convolution, void *packed,
                     const void *weights, d2c_error *err)
{
    d2c_plan_key key = convolution_key(convolution);

    return d2c_plan_pack(cache, &key, packed, weights, err);
}
