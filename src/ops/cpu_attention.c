/*
 * cpu_attention.c: softmax attention in groups of heads that stay in a core's second-level cache.
 *
 * A group's q, k and v are gathered into dense matrices, because oneDNN's products of dense bf16 matrices are twice
 * as fast as those of strided ones.  A group belongs to one thread, and which heads make a group depends on the shape
 * alone.  The backward pass computes the probabilities again from lse; they are never stored.  It works on the scores'
 * transposes, keys by queries: then two of the three products that follow need no transposed operand.
 *
 * Tokens are padded with zeros to whole vectors: rows of 49 scores would spend more time on their ends than on the
 * rest.  Padded keys get no probability, padded queries no results.
 */
#include "ops/cpu_attention.h"

#include <string.h>

#include <omp.h>

#define GROUP_SCORE_BYTES (384 << 10) /* f32 scores of a group */
#define GROUP_HEADS 16
/* From so many tokens on a forward pass takes a head's scores in blocks; of a single head earlier, since blocks are
 * what several threads can divide it into. */
#define LONG_TOKENS 1024
#define LONG_TOKENS_ALONE 512

typedef struct attention {
    d2c_cpu *cpu;
    d2c_tensor qkv, bias, o;
    d2c_tensor dqkv, dout; /* of the backward pass */
    float *lse;            /* [B, H, T]; may be NULL forward */
    d2c_dtype dtype;
    int64_t images, tokens, heads, width; /* width of a head */
    int64_t padded;                       /* tokens, P in the shapes below */
    int64_t group;                        /* heads in a group; the last may have fewer */
    float scale;
} attention;

/* One thread's memory; which of it is used depends on the pass. */
typedef struct slab {
    void *q, *k, *v, *dout;   /* [group, P, width] in dtype */
    float *s, *dp;            /* [group, P, P] */
    void *p, *ds;             /* [group, P, P] in dtype; in f32 they lie over s and dp */
    float *out, *out2, *out3; /* [group, P, width] */
    float *row, *inverse;     /* [group, T] */
} slab;

static attention
attention_shape(d2c_cpu *cpu, d2c_tensor qkv, d2c_tensor bias, int heads, float scale)
{
    attention a = {.cpu = cpu, .qkv = qkv, .bias = bias, .dtype = qkv.dtype, .heads = heads, .scale = scale};
    int64_t units;

    a.images = qkv.dim[0];
    a.tokens = qkv.dim[1];
    a.width = qkv.dim[2] / 3 / heads;
    a.padded = d2c_cpu_pad_tokens(a.tokens, a.dtype);
    units = a.images * heads;
    a.group = GROUP_SCORE_BYTES / (a.padded * a.padded * (int64_t)sizeof(float));
    a.group = a.group < 1 ? 1 : a.group > GROUP_HEADS ? GROUP_HEADS : a.group;
    a.group = a.group > units ? units : a.group;
    return a;
}

/* Takes the next part of a slab; with base NULL it only counts. */
static void *
take(char *base, size_t *used, int64_t elements, size_t size)
{
    void *at = base == NULL ? NULL : base + *used;

    *used += d2c_cpu_round((size_t)elements * size);
    return at;
}

/* Lays out a slab at base; returns its size. */
static size_t
slab_layout(slab *m, const attention *a, char *base, int backward)
{
    int64_t rows = a->group * a->padded, vectors = rows * a->width, scores = rows * a->padded;
    size_t used = 0, size = d2c_dtype_size(a->dtype);

    m->q = take(base, &used, vectors, size);
    m->k = take(base, &used, vectors, size);
    m->v = take(base, &used, vectors, size);
    m->s = take(base, &used, scores, sizeof(float));
    m->p = a->dtype == D2C_F32 ? m->s : take(base, &used, scores, size);
    m->out = take(base, &used, vectors, sizeof(float));
    m->row = take(base, &used, rows, sizeof(float));
    m->inverse = take(base, &used, rows, sizeof(float));
    if (!backward)
        return used;
    m->dout = take(base, &used, vectors, size);
    m->dp = take(base, &used, scores, sizeof(float));
    m->ds = a->dtype == D2C_F32 ? m->dp : take(base, &used, scores, size);
    m->out2 = take(base, &used, vectors, sizeof(float));
    m->out3 = take(base, &used, vectors, sizeof(float));
    return used;
}

/* The first of T rows of head `unit` = image * heads + head in a tensor [B, T, stride]; part 0, 1, 2 is q, k, v. */
static char *
head_rows(const attention *a, d2c_tensor t, int64_t unit, int64_t part)
{
    int64_t stride = t.dim[2], image = unit / a->heads, head = unit % a->heads;
    int64_t element = image * a->tokens * stride + part * a->heads * a->width + head * a->width;

    return (char *)t.data + (size_t)element * d2c_dtype_size(t.dtype);
}

/* to [units, P, width] = a part of the heads from `first` on, then zeros. */
static void
gather_heads(const attention *a, void *to, d2c_tensor t, int64_t part, int64_t first, int64_t units)
{
    size_t size = d2c_dtype_size(t.dtype), bytes = (size_t)a->width * size, stride = (size_t)t.dim[2] * size;
    int64_t unit, token;
    char *next = to;

    for (unit = first; unit < first + units; unit++) {
        const char *from = head_rows(a, t, unit, part);

        for (token = 0; token < a->tokens; token++, next += bytes, from += stride)
            memcpy(next, from, bytes);
        memset(next, 0, bytes * (size_t)(a->padded - a->tokens));
        next += bytes * (size_t)(a->padded - a->tokens);
    }
}

/* Heads of t = from [units, P, width] f32, each row times its factor (NULL: 1). */
static void
scatter_heads(const attention *a, d2c_tensor t, int64_t part, const float *from, const float *factor,
              int64_t first, int64_t units)
{
    int64_t unit;

    for (unit = 0; unit < units; unit++) {
        d2c_rows_out to = {head_rows(a, t, first + unit, part), t.dtype, t.dim[2]};
        d2c_rows_in in = {from + unit * a->padded * a->width, D2C_F32, a->width};

        a->cpu->kernels->scale_rows(to, in, factor == NULL ? NULL : factor + unit * a->padded, a->tokens,
                                    a->width);
    }
}

/* Which operands of a product are transposed. */
enum { PLAIN = 0, TRANSPOSE_A = 1, TRANSPOSE_B = 2 };

/* c [units, m, n] f32 = a [units, m, k] b [units, k, n], dense, each operand stored plainly or transposed. */
static d2c_status
multiply(const attention *a, int thread, int64_t units, float *c, const void *x, const void *y, int64_t m,
         int64_t k, int64_t n, int transpose)
{
    d2c_product p;

    memset(&p, 0, sizeof p);
    p.batch = units > 1 ? units : 0;
    p.m = m;
    p.n = n;
    p.k = k;
    p.a_type = p.b_type = (int32_t)a->dtype;
    p.c_type = D2C_F32;
    p.a_stride[0] = m * k;
    p.b_stride[0] = k * n;
    p.c_stride[0] = m * n;
    p.a_stride[1] = transpose == TRANSPOSE_A ? 1 : k;
    p.a_stride[2] = transpose == TRANSPOSE_A ? m : 1;
    p.b_stride[1] = transpose == TRANSPOSE_B ? 1 : n;
    p.b_stride[2] = transpose == TRANSPOSE_B ? k : 1;
    p.c_stride[1] = n;
    p.c_stride[2] = 1;
    return d2c_product_run(a->cpu->worker[thread], &p, c, x, y, NULL, &a->cpu->worker_error[thread]);
}

static const float *
head_bias(const attention *a, int64_t unit)
{
    if (a->bias.data == NULL)
        return NULL;
    return (const float *)a->bias.data + unit / a->heads * a->bias.stride[0] +
           unit % a->heads * a->bias.stride[1];
}

static d2c_status
forward_group(const attention *a, const slab *m, int thread, int64_t first, int64_t units)
{
    int64_t t = a->tokens, p = a->padded, w = a->width, unit;

    gather_heads(a, m->q, a->qkv, 0, first, units);
    gather_heads(a, m->k, a->qkv, 1, first, units);
    gather_heads(a, m->v, a->qkv, 2, first, units);
    D2C_TRY(multiply(a, thread, units, m->s, m->q, m->k, p, w, p, TRANSPOSE_B));
    for (unit = 0; unit < units; unit++) {
        a->cpu->kernels->softmax((char *)m->p + (size_t)(unit * p * p) * d2c_dtype_size(a->dtype), a->dtype,
                                 m->row + unit * p, m->inverse + unit * p, m->s + unit * p * p,
                                 head_bias(a, first + unit), a->bias.stride[2], a->scale, t, t, p);
        if (a->lse != NULL)
            memcpy(a->lse + (first + unit) * t, m->row + unit * p, (size_t)t * sizeof(float));
    }
    D2C_TRY(multiply(a, thread, units, m->out, m->p, m->v, p, p, w, PLAIN));
    scatter_heads(a, a->o, 0, m->out, m->inverse, first, units);
    return D2C_OK;
}

/*
 * The transposes of p and ds of one head from those of s and dp; delta = the rows' dot products of dout and o.  Padded
 * keys, the last rows, become zero; padded queries meet rows of zeros in what follows, and need only be finite.
 */
static void
backward_scores(const attention *a, const slab *m, int64_t first, int64_t unit)
{
    int64_t t = a->tokens, p = a->padded, at = unit * p * p;
    size_t size = d2c_dtype_size(a->dtype), padding = (size_t)((p - t) * p) * size;
    char *probability = (char *)m->p + (size_t)at * size, *ds = (char *)m->ds + (size_t)at * size;
    d2c_rows_in g = {head_rows(a, a->dout, first + unit, 0), a->dtype, a->dout.dim[2]};
    d2c_rows_in kept = {head_rows(a, a->o, first + unit, 0), a->dtype, a->o.dim[2]};

    memcpy(m->inverse, a->lse + (first + unit) * t, (size_t)t * sizeof(float));
    memset(m->inverse + t, 0, (size_t)(p - t) * sizeof(float));
    a->cpu->kernels->row_dot(m->row, g, kept, t, a->width);
    memset(m->row + t, 0, (size_t)(p - t) * sizeof(float));
    a->cpu->kernels->softmax_gradient(probability, ds, a->dtype, m->s + at, m->dp + at,
                                      head_bias(a, first + unit), a->bias.stride[2], m->inverse, m->row,
                                      a->scale, t, t, p);
    memset(probability + (size_t)(t * p) * size, 0, padding);
    memset(ds + (size_t)(t * p) * size, 0, padding);
}

static d2c_status
backward_group(const attention *a, const slab *m, int thread, int64_t first, int64_t units)
{
    int64_t p = a->padded, w = a->width, unit;

    gather_heads(a, m->q, a->qkv, 0, first, units);
    gather_heads(a, m->k, a->qkv, 1, first, units);
    gather_heads(a, m->v, a->qkv, 2, first, units);
    gather_heads(a, m->dout, a->dout, 0, first, units);
    D2C_TRY(multiply(a, thread, units, m->s, m->k, m->q, p, w, p, TRANSPOSE_B));
    D2C_TRY(multiply(a, thread, units, m->dp, m->v, m->dout, p, w, p, TRANSPOSE_B));
    for (unit = 0; unit < units; unit++)
        backward_scores(a, m, first, unit);
    D2C_TRY(multiply(a, thread, units, m->out, m->ds, m->k, p, p, w, TRANSPOSE_A));
    D2C_TRY(multiply(a, thread, units, m->out2, m->ds, m->q, p, p, w, PLAIN));
    D2C_TRY(multiply(a, thread, units, m->out3, m->p, m->dout, p, p, w, PLAIN));
    scatter_heads(a, a->dqkv, 0, m->out, NULL, first, units);
    scatter_heads(a, a->dqkv, 1, m->out2, NULL, first, units);
    scatter_heads(a, a->dqkv, 2, m->out3, NULL, first, units);
    return D2C_OK;
}

/* One pass, group by group. */
static d2c_status
run_groups(const attention *a, int backward)
{
    d2c_cpu *cpu = a->cpu;
    int64_t units = a->images * a->heads, first;
    int threads = cpu->base.threads;
    slab size;
    size_t bytes = slab_layout(&size, a, NULL, backward);
    void *scratch;

    D2C_TRY(d2c_cpu_scratch(cpu, &scratch, bytes * (size_t)threads));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (first = 0; first < units; first += a->group) {
        int thread = omp_get_thread_num();
        int64_t count = units - first < a->group ? units - first : a->group;
        slab m;

        slab_layout(&m, a, (char *)scratch + bytes * (size_t)thread, backward);
        if (cpu->worker_error[thread].status == D2C_OK)
            (backward ? backward_group : forward_group)(a, &m, thread, first, count);
    }
    return d2c_cpu_worker_status(cpu);
}

d2c_status
d2c_cpu_attention_forward(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias,
                          int heads, float scale)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    attention a = attention_shape(cpu, qkv, bias, heads, scale);

    if (a.tokens > (heads == 1 ? LONG_TOKENS_ALONE : LONG_TOKENS))
        return d2c_cpu_attention_long(cpu, o, lse, qkv, bias, heads, scale);
    a.o = o;
    a.lse = lse.data;
    return run_groups(&a, 0);
}

d2c_status
d2c_cpu_attention_backward(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o, d2c_tensor lse,
                           d2c_tensor qkv, d2c_tensor bias, int heads, float scale)
{
    attention a = attention_shape(d2c_cpu_enter(be), qkv, bias, heads, scale);

    a.dqkv = dqkv;
    a.dout = dout;
    a.o = o;
    a.lse = lse.data;
    return run_groups(&a, 1);
}
