/* dnnl_product.c: matrix products as plans (dnnl_plan.h). */
#include "ops/dnnl_cache.h"

#include <string.h>

/* A descriptor of [batch, rows, columns], or of [rows, columns] when batch is 0. */
static dnnl_status_t
matrix_descriptor(dnnl_md *md, int64_t batch, int64_t rows, int64_t columns, const int64_t stride[3],
                  int32_t type)
{
    dnnl_dims_t dims = {batch, rows, columns}, strides = {stride[0], stride[1], stride[2]};

    if (batch > 0)
        return md_strided(md, 3, dims, d2c_dnnl_type(type), strides);
    memmove(dims, dims + 1, 2 * sizeof dims[0]);
    memmove(strides, strides + 1, 2 * sizeof strides[0]);
    return md_strided(md, 2, dims, d2c_dnnl_type(type), strides);
}

static dnnl_status_t
bias_descriptor(dnnl_md *md, int64_t batch, int64_t n)
{
    int64_t stride[3] = {n, n, 1};

    return matrix_descriptor(md, batch > 0 ? 1 : 0, 1, n, stride, D2C_F32);
}

static dnnl_status_t
describe_product(d2c_plan_descriptors *d, const d2c_plan_key *key, dnnl_engine_t engine)
{
    const d2c_product *p = &key->of.product;
    dnnl_dims_t b_dims = {p->k, p->n};

    d->has_bias = p->has_bias;
    d->packed = p->packed;
    DNNL_TRY(matrix_descriptor(&d->x, p->batch, p->m, p->k, p->a_stride, p->a_type));
    DNNL_TRY(matrix_descriptor(&d->y, p->batch, p->m, p->n, p->c_stride, p->c_type));
    DNNL_TRY(matrix_descriptor(&d->source, p->batch, p->k, p->n, p->b_stride, p->b_type));
    if (p->packed)
        DNNL_TRY(md_any(&d->weights, 2, b_dims, d2c_dnnl_type(p->b_type)));
    else
        DNNL_TRY(md_clone(&d->weights, md_arg(&d->source)));
    if (p->has_bias)
        DNNL_TRY(bias_descriptor(&d->bias, p->batch, p->n));
    DNNL_TRY(d2c_plan_attributes(d));
    if (p->accumulate)
        DNNL_TRY(append_sum(d->post_ops));
    DNNL_TRY(dnnl_primitive_attr_set_post_ops(d->attr, d->post_ops));
    return product_descriptor(&d->primitive, engine, &d->x, &d->weights, p->has_bias ? &d->bias : NULL, &d->y,
                              d->attr);
}

static void
explain_product(d2c_error *err, const d2c_plan_key *key)
{
    const d2c_product *p = &key->of.product;

    d2c_detail(err, "The product is %lld x %lld x %lld in %s.", (long long)p->m, (long long)p->k,
               (long long)p->n, p->a_type == D2C_BF16 ? "bf16" : "f32");
}

static const d2c_plan_kind product_kind = {"matrix product", describe_product, explain_product};

static d2c_plan_key
product_key(const d2c_product *product)
{
    d2c_plan_key key;

    memset(&key, 0, sizeof key);
    key.kind = &product_kind;
    key.of.product = *product;
    return key;
}

d2c_status
d2c_product_run(d2c_plan_cache *cache, const d2c_product *product, void *c, const void *a, const void *b,
                const float *bias, d2c_error *err)
{
    d2c_plan_key key = product_key(product);

    return d2c_plan_run(cache, &key, c, a, b, bias, err);
}

d2c_status
d2c_product_pack_size(d2c_plan_cache *cache, const d2c_product *product, size_t *bytes, d2c_error *err)
{
    d2c_plan_key key = product_key(product);

    return d2c_plan_pack_size(cache, &key, bytes, err);
}

d2c_status
d2c_product_pack(d2c_plan_cache *cache, const d2c_product *product, void *packed, const void *b,
                 d2c_error *err)
{
    d2c_plan_key key = product_key(product);

    return d2c_plan_pack(cache, &key, packed, b, err);
}
