/*
 * dnnl_compat.h: the differences between oneDNN 2.6 (memory descriptors by value, operation descriptors) and 3.x
 * (opaque memory descriptors, none of the others).
 */
#ifndef D2C_OPS_DNNL_COMPAT_H
#define D2C_OPS_DNNL_COMPAT_H

#include <string.h>

#include <dnnl.h>
#include <dnnl_version.h>

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t dnnl_md;
typedef const_dnnl_memory_desc_t dnnl_md_arg;

static inline dnnl_md_arg
md_arg(const dnnl_md *md)
{
    return *md;
}

static inline dnnl_status_t
md_strided(dnnl_md *md, int ndims, dnnl_dims_t dims, dnnl_data_type_t type, dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(md, ndims, dims, type, strides);
}

static inline dnnl_status_t
md_any(dnnl_md *md, int ndims, dnnl_dims_t dims, dnnl_data_type_t type)
{
    return dnnl_memory_desc_create_with_tag(md, ndims, dims, type, dnnl_format_tag_any);
}

static inline void
md_destroy(dnnl_md *md)
{
    if (*md != NULL)
        dnnl_memory_desc_destroy(*md);
    *md = NULL;
}

static inline dnnl_status_t
md_clone(dnnl_md *md, dnnl_md_arg from)
{
    return dnnl_memory_desc_clone(md, from);
}

static inline dnnl_status_t
product_descriptor(dnnl_primitive_desc_t *descriptor, dnnl_engine_t engine, const dnnl_md *a,
                   const dnnl_md *b, const dnnl_md *bias, const dnnl_md *c, dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(descriptor, engine, *a, *b, bias == NULL ? NULL : *bias, *c,
                                             attr);
}

static inline dnnl_status_t
convolution_descriptor(dnnl_primitive_desc_t *descriptor, dnnl_engine_t engine, const dnnl_md *x,
                       const dnnl_md *weights, const dnnl_md *bias, const dnnl_md *y, dnnl_dims_t strides,
                       dnnl_dims_t before, dnnl_dims_t after, dnnl_primitive_attr_t attr)
{
    dnnl_dims_t dense = {0, 0};

    return dnnl_convolution_forward_primitive_desc_create(
        descriptor, engine, dnnl_forward_inference, dnnl_convolution_direct, *x, *weights,
        bias == NULL ? NULL : *bias, *y, strides, dense, before, after, attr);
}

static inline dnnl_status_t
append_sum(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_sum(post_ops, 1.0f, 0, dnnl_data_type_undef);
}

static inline dnnl_status_t
append_eltwise(dnnl_post_ops_t post_ops, dnnl_alg_kind_t function, float alpha)
{
    return dnnl_post_ops_append_eltwise(post_ops, function, alpha, 0.0f);
}

#else

typedef dnnl_memory_desc_t dnnl_md;
typedef const dnnl_memory_desc_t *dnnl_md_arg;

static inline dnnl_md_arg
md_arg(const dnnl_md *md)
{
    return md;
}

static inline dnnl_status_t
md_strided(dnnl_md *md, int ndims, dnnl_dims_t dims, dnnl_data_type_t type, dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(md, ndims, dims, type, strides);
}

static inline dnnl_status_t
md_any(dnnl_md *md, int ndims, dnnl_dims_t dims, dnnl_data_type_t type)
{
    return dnnl_memory_desc_init_by_tag(md, ndims, dims, type, dnnl_format_tag_any);
}

static inline void
md_destroy(dnnl_md *md)
{
    memset(md, 0, sizeof *md);
}

static inline dnnl_status_t
md_clone(dnnl_md *md, dnnl_md_arg from)
{
    *md = *from;
    return dnnl_success;
}

static inline dnnl_status_t
product_descriptor(dnnl_primitive_desc_t *descriptor, dnnl_engine_t engine, const dnnl_md *a,
                   const dnnl_md *b, const dnnl_md *bias, const dnnl_md *c, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t operation;
    dnnl_status_t status = dnnl_matmul_desc_init(&operation, a, b, bias, c);

    if (status != dnnl_success)
        return status;
    return dnnl_primitive_desc_create(descriptor, &operation, attr, engine, NULL);
}

static inline dnnl_status_t
convolution_descriptor(dnnl_primitive_desc_t *descriptor, dnnl_engine_t engine, const dnnl_md *x,
                       const dnnl_md *weights, const dnnl_md *bias, const dnnl_md *y, dnnl_dims_t strides,
                       dnnl_dims_t before, dnnl_dims_t after, dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t operation;
    dnnl_status_t status =
        dnnl_convolution_forward_desc_init(&operation, dnnl_forward_inference, dnnl_convolution_direct, x,
                                           weights, bias, y, strides, before, after);

    if (status != dnnl_success)
        return status;
    return dnnl_primitive_desc_create(descriptor, &operation, attr, engine, NULL);
}

static inline dnnl_status_t
append_sum(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_sum(post_ops, 1.0f);
}

static inline dnnl_status_t
append_eltwise(dnnl_post_ops_t post_ops, dnnl_alg_kind_t function, float alpha)
{
    return dnnl_post_ops_append_eltwise(post_ops, 1.0f, function, alpha, 0.0f);
}

#endif

#endif
