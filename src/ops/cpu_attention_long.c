/*
 * cpu_attention_long.c: the forward pass of attention over many tokens, whose scores would not fit a cache, nor in the
 * end memory: a head's keys and values are packed once, and a thread takes a block of queries at a time.  No more than
 * a block's scores exist at once in a thread.  Which queries make a block depends on the shape alone.
 */
#include "ops/cpu_attention.h"

#include <string.h>

#include <omp.h>

#define BLOCK_SCORE_BYTES (1 << 20) /* f32 scores of a block */
#define BLOCK_MOST 256

typedef struct long_attention {
    d2c_cpu *cpu;
    d2c_tensor o, qkv, bias;
    float *lse; /* may be NULL */
    int64_t heads, tokens, width;
    int64_t block;  /* queries */
    int64_t padded; /* tokens, to whole vectors: the distance of rows of scores */
    float scale;
    size_t slab_bytes;
    char *keys, *values, *slabs; /* packed ones of the head that is worked on; [threads] slabs */
} long_attention;

/* One thread's memory. */
typedef struct slab {
    float *scores;        /* [block, padded] */
    void *probability;    /* the same in qkv's dtype; in f32 over the scores */
    float *out;           /* [block, width] */
    float *row, *inverse; /* [block] */
} slab;

static slab
slab_layout(const long_attention *a, char *base, size_t *bytes)
{
    int64_t scores = a->block * a->padded;
    size_t wide = d2c_cpu_round((size_t)scores * sizeof(float));
    size_t narrow = a->qkv.dtype == D2C_BF16 ? d2c_cpu_round((size_t)scores * 2) : 0;
    size_t out = d2c_cpu_round((size_t)(a->block * a->width) * sizeof(float));
    size_t row = d2c_cpu_round((size_t)a->block * sizeof(float));
    slab m = {NULL, NULL, NULL, NULL, NULL};

    *bytes = wide + narrow + out + 2 * row;
    if (base == NULL)
        return m;
    m.scores = (float *)base;
    m.probability = narrow > 0 ? base + wide : base;
    m.out = (float *)(base + wide + narrow);
    m.row = (float *)(base + wide + narrow + out);
    m.inverse = (float *)(base + wide + narrow + out + row);
    return m;
}

/* From token `first` on, head `unit` = image * heads + head of a tensor; part 0, 1, 2 is q, k, v. */
static char *
head_rows(const long_attention *a, d2c_tensor t, int64_t unit, int64_t part, int64_t first)
{
    int64_t row = unit / a->heads * a->tokens + first;
    int64_t column = (part * a->heads + unit % a->heads) * a->width;

    return (char *)t.data + (size_t)(row * t.dim[2] + column) * d2c_dtype_size(t.dtype);
}

/* scores [rows, T] = q k^T */
static d2c_product
score_product(const long_attention *a, int64_t rows)
{
    d2c_product p;

    memset(&p, 0, sizeof p);
    p.m = rows;
    p.n = a->tokens;
    p.k = a->width;
    p.a_type = p.b_type = (int32_t)a->qkv.dtype;
    p.c_type = D2C_F32;
    p.a_stride[1] = p.b_stride[2] = a->qkv.dim[2];
    p.c_stride[1] = a->padded;
    p.a_stride[2] = p.b_stride[1] = p.c_stride[2] = 1;
    p.packed = rows == a->block;
    return p;
}

/* out [rows, width] = probability v */
static d2c_product
value_product(const long_attention *a, int64_t rows)
{
    d2c_product p;

    memset(&p, 0, sizeof p);
    p.m = rows;
    p.n = a->width;
    p.k = a->tokens;
    p.a_type = p.b_type = (int32_t)a->qkv.dtype;
    p.c_type = D2C_F32;
    p.a_stride[1] = a->padded;
    p.b_stride[1] = a->qkv.dim[2];
    p.c_stride[1] = a->width;
    p.a_stride[2] = p.b_stride[2] = p.c_stride[2] = 1;
    p.packed = rows == a->block;
    return p;
}

static const float *
block_bias(const long_attention *a, int64_t unit, int64_t first)
{
    if (a->bias.data == NULL)
        return NULL;
    return (const float *)a->bias.data + unit / a->heads * a->bias.stride[0] +
           unit % a->heads * a->bias.stride[1] + first * a->bias.stride[2];
}

static d2c_status
attend_block(const long_attention *a, int thread, int64_t unit, int64_t first)
{
    int64_t left = a->tokens - first, rows = left < a->block ? left : a->block;
    d2c_product scores = score_product(a, rows), values = value_product(a, rows);
    d2c_plan_cache *cache = a->cpu->worker[thread];
    d2c_error *err = &a->cpu->worker_error[thread];
    size_t bytes;
    slab m = slab_layout(a, a->slabs + a->slab_bytes * (size_t)thread, &bytes);
    d2c_rows_out to = {head_rows(a, a->o, unit, 0, first), a->o.dtype, a->o.dim[2]};

    D2C_TRY(d2c_product_run(cache, &scores, m.scores, head_rows(a, a->qkv, unit, 0, first),
                            scores.packed ? a->keys : head_rows(a, a->qkv, unit, 1, 0), NULL, err));
    a->cpu->kernels->softmax(m.probability, a->qkv.dtype, m.row, m.inverse, m.scores,
                             block_bias(a, unit, first), a->bias.stride[2], a->scale, rows, a->tokens,
                             a->padded);
    if (a->lse != NULL)
        memcpy(a->lse + unit * a->tokens + first, m.row, (size_t)rows * sizeof(float));
    D2C_TRY(d2c_product_run(cache, &values, m.out, m.probability,
                            values.packed ? a->values : head_rows(a, a->qkv, unit, 2, 0), NULL, err));
    a->cpu->kernels->scale_rows(to, (d2c_rows_in){m.out, D2C_F32, a->width}, m.inverse, rows, a->width);
    return D2C_OK;
}

static d2c_status
attend_head(const long_attention *a, int64_t unit)
{
    d2c_cpu *cpu = a->cpu;
    d2c_product scores = score_product(a, a->block), values = value_product(a, a->block);
    int64_t first;

    D2C_TRY(d2c_product_pack(cpu->worker[0], &scores, a->keys, head_rows(a, a->qkv, unit, 1, 0),
                             &cpu->base.error));
    D2C_TRY(d2c_product_pack(cpu->worker[0], &values, a->values, head_rows(a, a->qkv, unit, 2, 0),
                             &cpu->base.error));
#pragma omp parallel for num_threads(cpu->base.threads) schedule(dynamic)
    for (first = 0; first < a->tokens; first += a->block) {
        int thread = omp_get_thread_num();

        if (cpu->worker_error[thread].status == D2C_OK)
            attend_block(a, thread, unit, first);
    }
    return d2c_cpu_worker_status(cpu);
}

static d2c_status
reserve(long_attention *a)
{
    d2c_product scores = score_product(a, a->block), values = value_product(a, a->block);
    d2c_error *err = &a->cpu->base.error;
    size_t keys, value_bytes;
    void *scratch;

    D2C_TRY(d2c_product_pack_size(a->cpu->worker[0], &scores, &keys, err));
    D2C_TRY(d2c_product_pack_size(a->cpu->worker[0], &values, &value_bytes, err));
    keys = d2c_cpu_round(keys);
    value_bytes = d2c_cpu_round(value_bytes);
    slab_layout(a, NULL, &a->slab_bytes);
    D2C_TRY(
        d2c_cpu_scratch(a->cpu, &scratch, keys + value_bytes + a->slab_bytes * (size_t)a->cpu->base.threads));
    a->keys = scratch;
    a->values = a->keys + keys;
    a->slabs = a->values + value_bytes;
    return D2C_OK;
}

d2c_status
d2c_cpu_attention_long(d2c_cpu *cpu, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias, int heads,
                       float scale)
{
    long_attention a = {.cpu = cpu,
                        .o = o,
                        .qkv = qkv,
                        .bias = bias,
                        .lse = lse.data,
                        .heads = heads,
                        .tokens = qkv.dim[1],
                        .width = qkv.dim[2] / 3 / heads,
                        .padded = d2c_cpu_pad_tokens(qkv.dim[1], qkv.dtype),
                        .scale = scale};
    int64_t units = qkv.dim[0] * heads, unit;

    a.block = BLOCK_SCORE_BYTES / ((int64_t)sizeof(float) * a.padded) / 32 * 32;
    a.block = a.block < 32 ? 32 : a.block > BLOCK_MOST ? BLOCK_MOST : a.block;
    D2C_TRY(reserve(&a));
    for (unit = 0; unit < units; unit++)
        D2C_TRY(attend_head(&a, unit));
    return D2C_OK;
}
