/*
 * attention.cuh: what the attention kernels share.
 *
 * One head of one image is a unit.  A block computes some rows of one unit's results: the queries' or, in half of the
 * backward pass, the keys'.  It keeps the rows it owns and passes over the rows of the other side in tiles, which meet
 * the owned rows in scores that live in registers and nowhere else.
 *
 * Rows and columns beyond a unit's are zero in shared memory, so they add nothing to a product; where that is not
 * enough, it says so.  No block reads another unit's rows: a NaN stays in its image.
 */
#ifndef D2C_KERNELS_ATTENTION_CUH
#define D2C_KERNELS_ATTENTION_CUH

#include "kernel.cuh"

#define D2C_LOG2E 1.44269504f
#define D2C_LN2 0.693147181f

/* A call's sizes and its bias. */
typedef struct d2c_attention {
    int units; /* images * heads */
    int tokens, heads, width;
    float scale;
    const float *bias; /* NULL: none */
    int64_t bias_stride[4];
} d2c_attention;

/* The tensors of a pass; those of the other pass are NULL.  qkv, o, dout and dqkv are of one type. */
typedef struct d2c_attention_data {
    const void *qkv, *dout;
    void *o, *dqkv;
    float *lse;   /* NULL: not wanted */
    float *delta; /* scratch [B, H, T]: the rows' dot products of dout and o */
} d2c_attention_data;

/* attention_general.cu: any width up to D2C_ATTENTION_WIDEST, f32 or bf16. */
#define D2C_ATTENTION_WIDEST 256
d2c_status d2c_attention_general_forward(d2c_cuda *cuda, const d2c_attention *a,
                                         const d2c_attention_data *data, d2c_dtype dtype);
d2c_status d2c_attention_general_backward(d2c_cuda *cuda, const d2c_attention *a,
                                          const d2c_attention_data *data, d2c_dtype dtype);

/* attention_wide.cu: any width, f32 or bf16. */
d2c_status d2c_attention_wide_forward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data,
                                      d2c_dtype dtype);

/* attention_forward.cu and attention_backward.cu: bf16 on tensor cores; rows of qkv, o and their gradients aligned to 16
 * bytes, widths a multiple of 8 up to D2C_ATTENTION_WIDEST_FAST, a positive scale. */
#define D2C_ATTENTION_WIDEST_FAST 128
d2c_status d2c_attention_fast_forward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data);
d2c_status d2c_attention_fast_backward(d2c_cuda *cuda, const d2c_attention *a,
                                       const d2c_attention_data *data);

/* Lets a kernel have `bytes` of dynamic shared memory. */
template <typename... Parameters>
static d2c_status
d2c_attention_reserve(d2c_cuda *cuda, void (*kernel)(Parameters...), size_t bytes)
{
    if (bytes > cuda->shared_most) {
        d2c_fail(&cuda->base.error, D2C_UNSUPPORTED, "attention's heads are too wide for device cuda:%d",
                 cuda->device);
        d2c_detail(&cuda->base.error, "They need %zu bytes of shared memory; a block may have %zu.", bytes,
                   cuda->shared_most);
        return D2C_UNSUPPORTED;
    }
    return d2c_cuda_check(
        cuda, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
        "reserve shared memory");
}

/* ---- where a unit's rows lie --------------------------------------------------------------------------------------- */

/* Element 0 of token 0 of a unit in a tensor [B, T, parts * C]. */
static __device__ __forceinline__ int64_t
d2c_unit_at(const d2c_attention *a, int unit, int parts, int part)
{
    int64_t row = (int64_t)(unit / a->heads) * a->tokens * parts + part;

    return (row * a->heads + unit % a->heads) * a->width;
}

/* Elements from one token to the next of such a tensor. */
static __device__ __forceinline__ int64_t
d2c_row_stride(const d2c_attention *a, int parts)
{
    return (int64_t)parts * a->heads * a->width;
}

/* A unit's bias of (query, key) lies at d2c_unit_bias()[query * bias_stride[2] + key * bias_stride[3]]. */
static __device__ __forceinline__ const float *
d2c_unit_bias(const d2c_attention *a, int unit)
{
    return a->bias + unit / a->heads * a->bias_stride[0] + unit % a->heads * a->bias_stride[1];
}

/* One side's rows in a unit: queries with dout, or keys with values. */
template <typename T> struct d2c_side {
    const T *first, *second;
    int64_t first_stride, second_stride;
};

template <typename T>
static __device__ __forceinline__ d2c_side<T>
d2c_queries(const T *qkv, const T *dout, const d2c_attention *a, int unit)
{
    return {qkv + d2c_unit_at(a, unit, 3, 0), dout + d2c_unit_at(a, unit, 1, 0), d2c_row_stride(a, 3),
            d2c_row_stride(a, 1)};
}

template <typename T>
static __device__ __forceinline__ d2c_side<T>
d2c_keys(const T *qkv, const d2c_attention *a, int unit)
{
    return {qkv + d2c_unit_at(a, unit, 3, 1), qkv + d2c_unit_at(a, unit, 3, 2), d2c_row_stride(a, 3),
            d2c_row_stride(a, 3)};
}

#endif
