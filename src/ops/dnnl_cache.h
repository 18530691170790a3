/*
 * dnnl_cache.h: plans and their cache, within the dnnl_*.c files; others see dnnl_plan.h.
 *
 * A kind of plan says what a plan's operands look like to oneDNN; the cache makes the primitive and its memory objects
 * of that, keeps them, and runs them.
 */
#ifndef D2C_OPS_DNNL_CACHE_H
#define D2C_OPS_DNNL_CACHE_H

#include "ops/dnnl_compat.h"
#include "ops/dnnl_plan.h"

#define DNNL_TRY(call)                                                                                       \
    do {                                                                                                     \
        dnnl_status_t dnnl_try_status = (call);                                                              \
        if (dnnl_try_status != dnnl_success)                                                                 \
            return dnnl_try_status;                                                                          \
    } while (0)

/* oneDNN's view of a plan while it is made; a kind fills in all but pack. */
typedef struct d2c_plan_descriptors {
    dnnl_md x, weights, bias, y;
    dnnl_md source; /* the weights before they are packed */
    int has_bias, packed;
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t post_ops;
    dnnl_primitive_desc_t primitive, pack;
} d2c_plan_descriptors;

typedef struct d2c_plan_key d2c_plan_key;

typedef struct d2c_plan_kind {
    const char *name;
    dnnl_status_t (*describe)(d2c_plan_descriptors *d, const d2c_plan_key *key, dnnl_engine_t engine);
    void (*explain)(d2c_error *err, const d2c_plan_key *key); /* sets the detail of a failure */
} d2c_plan_kind;

/* Zeroed before it is filled in: plans are found by its bytes. */
struct d2c_plan_key {
    const d2c_plan_kind *kind;
    union {
        d2c_product product;
        d2c_convolution convolution;
    } of;
};

d2c_status d2c_plan_run(d2c_plan_cache *cache, const d2c_plan_key *key, void *y, const void *x,
                        const void *weights, const float *bias, d2c_error *err);
d2c_status d2c_plan_pack_size(d2c_plan_cache *cache, const d2c_plan_key *key, size_t *bytes, d2c_error *err);
d2c_status d2c_plan_pack(d2c_plan_cache *cache, const d2c_plan_key *key, void *packed, const void *weights,
                         d2c_error *err);

static inline dnnl_data_type_t
d2c_dnnl_type(int32_t type)
{
    return type == D2C_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* Attributes of every plan: scratch memory is the cache's. */
static inline dnnl_status_t
d2c_plan_attributes(d2c_plan_descriptors *d)
{
    DNNL_TRY(dnnl_primitive_attr_create(&d->attr));
    DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(d->attr, dnnl_scratchpad_mode_user));
    return dnnl_post_ops_create(&d->post_ops);
}

#endif
