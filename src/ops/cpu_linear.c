/*
 * cpu_linear.c: linear layers: oneDNN's products, with our activations and bias gradients around them.
 *
 * Layers over many rows are divided by ourselves: a thread multiplies a run of rows by weights that were packed once
 * for the call, and applies the activation while the run is in its cache.  One product of all rows takes up to twice
 * as long.  Layers over few rows are one product of all threads.
 */
#include "ops/cpu.h"

#include <string.h>

#include <omp.h>

#define MANY_ROWS 512 /* from here on packing the weights pays */

/* The product of a layer, and what happens to its rows: out = act(product), or product * act'(pre) backward. */
typedef struct linear {
    d2c_cpu *cpu;
    d2c_product product;
    d2c_tensor a;      /* [rows, k] */
    const void *b;     /* the weights */
    const float *bias; /* [n] or NULL */
    d2c_tensor out;    /* [rows, n] */
    d2c_tensor pre;    /* [rows, n] written forward, read backward; may be absent */
    d2c_act act;
    int backward;
} linear;

/* The copy of the weights that a product with operands of this dtype reads. */
static const void *
operand(const d2c_weight *w, d2c_dtype dtype)
{
    return dtype == D2C_BF16 ? w->shadow.data : w->value.data;
}

/* Rows from `first` on. */
static d2c_tensor
rows_from(d2c_tensor t, int64_t first, int64_t rows)
{
    if (t.data != NULL)
        t.data = d2c_cpu_row(t, first);
    t.dim[0] = rows;
    return t;
}

/*
 * Where the product goes: straight to its place, or to f32 scratch memory.  oneDNN writes bf16 only from bf16 operands,
 * and a result that is still to be changed is not rounded before; only pre may be seen as it is stored.
 */
static d2c_tensor
product_target(const linear *l)
{
    d2c_tensor place = l->pre.data != NULL && !l->backward ? l->pre : l->out;
    int changed = l->act != D2C_ACT_NONE && place.data == l->out.data;

    if (place.dtype == D2C_BF16 && (l->a.dtype == D2C_F32 || changed))
        place.data = NULL;
    return place;
}

static d2c_tensor
scratch_target(void *scratch, int64_t rows, int64_t width)
{
    return d2c_tensor2(scratch, D2C_F32, rows, width);
}

/* One row of the epilogue, or all of them when they lie back to back. */
static void
finish_row(const linear *l, d2c_tensor from, int64_t row, int64_t width)
{
    const d2c_cpu_kernels *k = l->cpu->kernels;
    char *source = d2c_cpu_row(from, row), *out = d2c_cpu_row(l->out, row);

    if (l->backward) {
        if (l->act != D2C_ACT_NONE)
            k->act_gradient(out, l->out.dtype, source, from.dtype, d2c_cpu_row(l->pre, row), l->pre.dtype,
                            width, l->act);
        else if (source != out)
            k->convert(out, l->out.dtype, source, from.dtype, width);
        return;
    }
    if (l->pre.data != NULL && source != d2c_cpu_row(l->pre, row))
        k->convert(d2c_cpu_row(l->pre, row), l->pre.dtype, source, from.dtype, width);
    if (source != out || l->act != D2C_ACT_NONE)
        k->act(out, l->out.dtype, source, from.dtype, width, l->act);
}

/* From the product to out, and to pre. */
static void
finish_rows(const linear *l, d2c_tensor from, int threads)
{
    int64_t rows = l->out.dim[0], width = l->out.dim[1], row;
    int dense = from.stride[0] == width && l->out.stride[0] == width &&
                (l->pre.data == NULL || l->pre.stride[0] == width);

    if (dense && threads == 1) {
        finish_row(l, from, 0, rows * width);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (row = 0; row < rows; row++)
        finish_row(l, from, row, width);
}

/* Whether the rows need anything after the product. */
static int
needs_finish(const linear *l, d2c_tensor target)
{
    return l->act != D2C_ACT_NONE || target.data != l->out.data;
}

static d2c_product
product_into(const linear *l, d2c_tensor target)
{
    d2c_product p = l->product;

    p.m = target.dim[0];
    p.c_type = (int32_t)target.dtype;
    p.c_stride[1] = target.stride[0];
    return p;
}

/* All rows in one product of all threads. */
static d2c_status
run_whole(linear *l)
{
    int64_t rows = l->out.dim[0], width = l->out.dim[1];
    d2c_tensor target = product_target(l);
    d2c_product p;
    void *scratch;

    if (target.data == NULL) {
        D2C_TRY(d2c_cpu_scratch(l->cpu, &scratch, (size_t)(rows * width) * sizeof(float)));
        target = scratch_target(scratch, rows, width);
    }
    p = product_into(l, target);
    D2C_TRY(d2c_product_run(l->cpu->team, &p, target.data, l->a.data, l->b, l->bias, &l->cpu->base.error));
    if (needs_finish(l, target))
        finish_rows(l, target, d2c_cpu_threads(l->cpu, rows * width));
    return D2C_OK;
}

/* A run of rows on one thread; packed: the weights in the layout of a full run. */
static d2c_status
run_rows(const linear *whole, int64_t first, int64_t rows, const void *packed, void *scratch, int thread)
{
    linear l = *whole;
    d2c_tensor target;
    d2c_product p;

    l.a = rows_from(l.a, first, rows);
    l.out = rows_from(l.out, first, rows);
    l.pre = rows_from(l.pre, first, rows);
    target = product_target(&l);
    if (target.data == NULL)
        target = scratch_target(scratch, rows, l.out.dim[1]);
    p = product_into(&l, target);
    p.packed = packed != NULL;
    D2C_TRY(d2c_product_run(l.cpu->worker[thread], &p, target.data, l.a.data, packed != NULL ? packed : l.b,
                            l.bias, &l.cpu->worker_error[thread]));
    if (needs_finish(&l, target))
        finish_rows(&l, target, 1);
    return D2C_OK;
}

/* Rows of a run: its f32 results stay in a core's second-level cache, beside the weights in bf16, whose products are so
 * fast that waiting for the third level would double their time. */
static int64_t
run_length(int64_t width, d2c_dtype operands)
{
    int64_t bytes = operands == D2C_BF16 ? 192 << 10 : 768 << 10;
    int64_t rows = bytes / ((int64_t)sizeof(float) * width) / 32 * 32;

    return rows < 32 ? 32 : rows > 256 ? 256 : rows;
}

static d2c_status
run_divided(linear *l)
{
    d2c_cpu *cpu = l->cpu;
    int64_t rows = l->out.dim[0], width = l->out.dim[1], run = run_length(width, l->a.dtype), first;
    d2c_tensor full = product_target(l);
    size_t packed_bytes, run_bytes = d2c_cpu_round((size_t)(run * width) * sizeof(float));
    d2c_product p;
    void *packed;

    full = full.data == NULL ? scratch_target(NULL, run, width) : rows_from(full, 0, run);
    p = product_into(l, full);
    p.packed = 1;
    D2C_TRY(d2c_product_pack_size(cpu->worker[0], &p, &packed_bytes, &cpu->base.error));
    packed_bytes = d2c_cpu_round(packed_bytes);
    D2C_TRY(d2c_cpu_scratch(cpu, &packed, packed_bytes + run_bytes * (size_t)cpu->base.threads));
    D2C_TRY(d2c_product_pack(cpu->worker[0], &p, packed, l->b, &cpu->base.error));
#pragma omp parallel for num_threads(cpu->base.threads) schedule(dynamic)
    for (first = 0; first < rows; first += run) {
        int thread = omp_get_thread_num();
        int64_t count = rows - first < run ? rows - first : run;

        if (cpu->worker_error[thread].status == D2C_OK)
            run_rows(l, first, count, count == run ? packed : NULL,
                     (char *)packed + packed_bytes + run_bytes * (size_t)thread, thread);
    }
    return d2c_cpu_worker_status(cpu);
}

static d2c_status
run_linear(linear *l)
{
    return l->out.dim[0] >= MANY_ROWS ? run_divided(l) : run_whole(l);
}

d2c_status
d2c_cpu_linear_forward(d2c_backend *be, d2c_tensor y, d2c_tensor pre, d2c_tensor x, const d2c_weight *w,
                       d2c_act act)
{
    linear l = {.cpu = d2c_cpu_enter(be),
                .a = x,
                .b = operand(w, x.dtype),
                .bias = w->bias.data,
                .out = y,
                .pre = pre,
                .act = act};
    d2c_product *p = &l.product;

    memset(p, 0, sizeof *p);
    p->n = y.dim[1];
    p->k = x.dim[1];
    p->a_type = p->b_type = (int32_t)x.dtype;
    p->a_stride[1] = x.stride[0];
    p->b_stride[2] = x.dim[1];
    p->a_stride[2] = p->b_stride[1] = p->c_stride[2] = 1;
    p->has_bias = w->bias.data != NULL;
    return run_linear(&l);
}

d2c_status
d2c_cpu_linear_backward_input(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, const d2c_weight *w,
                              d2c_tensor pre, d2c_act act, int accumulate)
{
    linear l = {.cpu = d2c_cpu_enter(be),
                .a = dy,
                .b = operand(w, dy.dtype),
                .out = dx,
                .pre = pre,
                .act = act,
                .backward = 1};
    d2c_product *p = &l.product;

    memset(p, 0, sizeof *p);
    p->n = dx.dim[1];
    p->k = dy.dim[1];
    p->a_type = p->b_type = (int32_t)dy.dtype;
    p->a_stride[1] = dy.stride[0];
    p->b_stride[1] = dx.dim[1];
    p->a_stride[2] = p->b_stride[2] = p->c_stride[2] = 1;
    p->accumulate = accumulate;
    return run_linear(&l);
}

/*
 * Weight gradients are divided into tiles of the weight; a tile is one thread's, and adds the products of short runs
 * of rows one after the other.  The tiles of the first column of tiles also add their rows' sums to the bias.
 */
#define TILE 384
#define TILE_ROWS 512

typedef struct weight_gradient {
    d2c_cpu *cpu;
    d2c_tensor dy, x;
    float *grad, *bias; /* bias may be NULL */
} weight_gradient;

static int64_t
limit(int64_t total, int64_t first, int64_t most)
{
    return total - first < most ? total - first : most;
}

/* bias += column sums of a run of rows. */
static void
add_bias(const weight_gradient *g, int64_t row, int64_t rows, int64_t first, int64_t columns)
{
    float part[TILE];
    d2c_rows_in in = {d2c_cpu_row(g->dy, row) + (size_t)first * d2c_dtype_size(g->dy.dtype), g->dy.dtype,
                      g->dy.stride[0]};

    memset(part, 0, (size_t)columns * sizeof *part);
    g->cpu->kernels->column_sum(part, in, rows, columns);
    g->cpu->kernels->axpby(g->bias + first, 1.0f, part, 1.0f, columns);
}

static d2c_status
add_tile(const weight_gradient *g, int64_t out, int64_t in, int thread)
{
    int64_t rows = g->dy.dim[0], width = g->x.dim[1], row;
    size_t size = d2c_dtype_size(g->x.dtype);
    d2c_product p;

    memset(&p, 0, sizeof p);
    p.m = limit(g->dy.dim[1], out, TILE);
    p.n = limit(width, in, TILE);
    p.a_type = p.b_type = (int32_t)g->x.dtype;
    p.c_type = D2C_F32;
    p.a_stride[2] = g->dy.stride[0];
    p.b_stride[1] = g->x.stride[0];
    p.c_stride[1] = width;
    p.a_stride[1] = p.b_stride[2] = p.c_stride[2] = 1;
    p.accumulate = 1;
    for (row = 0; row < rows; row += TILE_ROWS) {
        p.k = limit(rows, row, TILE_ROWS);
        D2C_TRY(d2c_product_run(g->cpu->worker[thread], &p, g->grad + out * width + in,
                                d2c_cpu_row(g->dy, row) + (size_t)out * size,
                                d2c_cpu_row(g->x, row) + (size_t)in * size, NULL,
                                &g->cpu->worker_error[thread]));
        if (in == 0 && g->bias != NULL)
            add_bias(g, row, p.k, out, p.m);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_linear_backward_weight(d2c_backend *be, const d2c_weight *w, d2c_tensor dy, d2c_tensor x)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    weight_gradient g = {cpu, dy, x, w->grad.data, w->bias_grad.data};
    int64_t across = (x.dim[1] + TILE - 1) / TILE, tiles = (dy.dim[1] + TILE - 1) / TILE * across, tile;

#pragma omp parallel for num_threads(be->threads) schedule(dynamic)
    for (tile = 0; tile < tiles; tile++) {
        int thread = omp_get_thread_num();

        if (cpu->worker_error[thread].status == D2C_OK)
            add_tile(&g, tile / across * TILE, tile % across * TILE, thread);
    }
    return d2c_cpu_worker_status(cpu);
}
