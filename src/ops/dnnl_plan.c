/*
 * dnnl_plan.c: the cache of products (dnnl_plan.h).
 *
 * Plans lie in a hash table of a fixed size; a full table is emptied, which only costs making plans again.  Scratch
 * memory belongs to the cache and not to oneDNN, whose own is bound to the host thread that made a primitive.
 */
#include "ops/dnnl_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#include "ops/dnnl_compat.h"

#define PLAN_SLOTS 1024 /* a power of two */
#define PLAN_LIMIT 768
#define SCRATCH_ALIGN 64

typedef struct plan {
    d2c_product product;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c, bias, scratch;
    size_t scratch_bytes, packed_bytes;
    dnnl_primitive_t pack; /* reorder of b; only in packed plans */
    dnnl_memory_t pack_from, pack_to;
} plan;

struct d2c_plan_cache {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int threads, pack_threads;
    int count;
    plan *slot[PLAN_SLOTS];
    void *scratch;
    size_t scratch_bytes;
};

static d2c_status
dnnl_failure(d2c_error *err, dnnl_status_t status, const char *what)
{
    if (status == dnnl_out_of_memory)
        return d2c_fail(err, D2C_NO_MEMORY, "oneDNN is out of memory (%s)", what);
    if (status == dnnl_unimplemented)
        return d2c_fail(err, D2C_UNSUPPORTED, "oneDNN has no implementation on this processor (%s)", what);
    return d2c_fail(err, D2C_INTERNAL, "oneDNN returned status %d (%s)", (int)status, what);
}

d2c_status
d2c_plan_cache_open(d2c_plan_cache **cache, int threads, int pack_threads, d2c_error *err)
{
    d2c_plan_cache *c = calloc(1, sizeof *c);
    dnnl_status_t status;

    *cache = NULL;
    if (c == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate a cache of matrix products");
    c->threads = threads;
    c->pack_threads = pack_threads;
    status = dnnl_engine_create(&c->engine, dnnl_cpu, 0);
    if (status == dnnl_success)
        status = dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags);
    if (status != dnnl_success) {
        d2c_plan_cache_close(c);
        return dnnl_failure(err, status, "opening");
    }
    *cache = c;
    return D2C_OK;
}

static void
memory_destroy(dnnl_memory_t memory)
{
    if (memory != NULL)
        dnnl_memory_destroy(memory);
}

static void
plan_destroy(plan *p)
{
    if (p == NULL)
        return;
    if (p->primitive != NULL)
        dnnl_primitive_destroy(p->primitive);
    if (p->pack != NULL)
        dnnl_primitive_destroy(p->pack);
    memory_destroy(p->a);
    memory_destroy(p->b);
    memory_destroy(p->c);
    memory_destroy(p->bias);
    memory_destroy(p->scratch);
    memory_destroy(p->pack_from);
    memory_destroy(p->pack_to);
    free(p);
}

static void
forget_plans(d2c_plan_cache *cache)
{
    int i;

    for (i = 0; i < PLAN_SLOTS; i++) {
        plan_destroy(cache->slot[i]);
        cache->slot[i] = NULL;
    }
    cache->count = 0;
}

void
d2c_plan_cache_close(d2c_plan_cache *cache)
{
    if (cache == NULL)
        return;
    forget_plans(cache);
    if (cache->stream != NULL)
        dnnl_stream_destroy(cache->stream);
    if (cache->engine != NULL)
        dnnl_engine_destroy(cache->engine);
    free(cache->scratch);
    free(cache);
}

int
d2c_plan_cache_count(const d2c_plan_cache *cache)
{
    return cache->count;
}

static dnnl_data_type_t
data_type(int32_t type)
{
    return type == D2C_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* A descriptor of [batch, rows, columns], or of [rows, columns] when batch is 0. */
static dnnl_status_t
matrix_descriptor(dnnl_md *md, int64_t batch, int64_t rows, int64_t columns, const int64_t stride[3],
                  int32_t type)
{
    dnnl_dims_t dims = {batch, rows, columns}, strides = {stride[0], stride[1], stride[2]};

    if (batch > 0)
        return md_strided(md, 3, dims, data_type(type), strides);
    memmove(dims, dims + 1, 2 * sizeof dims[0]);
    memmove(strides, strides + 1, 2 * sizeof strides[0]);
    return md_strided(md, 2, dims, data_type(type), strides);
}

static dnnl_status_t
bias_descriptor(dnnl_md *md, int64_t batch, int64_t n)
{
    int64_t stride[3] = {n, n, 1};

    return matrix_descriptor(md, batch > 0 ? 1 : 0, 1, n, stride, D2C_F32);
}

/* The memory descriptors of a product while its plan is made. */
typedef struct plan_descriptors {
    dnnl_md a, b, b_source, c, bias;
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t post_ops;
    dnnl_primitive_desc_t product, pack;
} plan_descriptors;

#define DNNL_TRY(call)                                                                                       \
    do {                                                                                                     \
        dnnl_status_t dnnl_try_status = (call);                                                              \
        if (dnnl_try_status != dnnl_success)                                                                 \
            return dnnl_try_status;                                                                          \
    } while (0)

static dnnl_status_t
make_attributes(plan_descriptors *d, const d2c_product *p)
{
    DNNL_TRY(dnnl_primitive_attr_create(&d->attr));
    DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(d->attr, dnnl_scratchpad_mode_user));
    if (!p->accumulate)
        return dnnl_success;
    DNNL_TRY(dnnl_post_ops_create(&d->post_ops));
    DNNL_TRY(append_sum(d->post_ops));
    return dnnl_primitive_attr_set_post_ops(d->attr, d->post_ops);
}

static dnnl_status_t
make_descriptors(plan_descriptors *d, const d2c_product *p, dnnl_engine_t engine)
{
    dnnl_dims_t b_dims = {p->k, p->n};

    DNNL_TRY(matrix_descriptor(&d->a, p->batch, p->m, p->k, p->a_stride, p->a_type));
    DNNL_TRY(matrix_descriptor(&d->c, p->batch, p->m, p->n, p->c_stride, p->c_type));
    DNNL_TRY(matrix_descriptor(&d->b_source, p->batch, p->k, p->n, p->b_stride, p->b_type));
    if (p->packed)
        DNNL_TRY(md_any(&d->b, 2, b_dims, data_type(p->b_type)));
    else
        DNNL_TRY(md_clone(&d->b, md_arg(&d->b_source)));
    if (p->has_bias)
        DNNL_TRY(bias_descriptor(&d->bias, p->batch, p->n));
    DNNL_TRY(make_attributes(d, p));
    return product_descriptor(&d->product, engine, &d->a, &d->b, p->has_bias ? &d->bias : NULL, &d->c,
                              d->attr);
}

static dnnl_status_t
make_memory(dnnl_memory_t *memory, dnnl_md_arg md, dnnl_engine_t engine)
{
    return dnnl_memory_create(memory, md, engine, DNNL_MEMORY_NONE);
}

static dnnl_status_t
make_pack(plan *p, plan_descriptors *d, dnnl_md_arg packed, const d2c_plan_cache *cache)
{
    dnnl_engine_t engine = cache->engine;

    omp_set_num_threads(cache->pack_threads);
    p->packed_bytes = dnnl_memory_desc_get_size(packed);
    DNNL_TRY(
        dnnl_reorder_primitive_desc_create(&d->pack, md_arg(&d->b_source), engine, packed, engine, NULL));
    DNNL_TRY(dnnl_primitive_create(&p->pack, d->pack));
    DNNL_TRY(make_memory(&p->pack_from, md_arg(&d->b_source), engine));
    return make_memory(&p->pack_to, packed, engine);
}

static dnnl_status_t
make_primitive(plan *p, plan_descriptors *d, const d2c_plan_cache *cache)
{
    dnnl_engine_t engine = cache->engine;
    dnnl_md_arg weights, scratch;

    DNNL_TRY(make_descriptors(d, &p->product, engine));
    DNNL_TRY(dnnl_primitive_create(&p->primitive, d->product));
    weights = dnnl_primitive_desc_query_md(d->product, dnnl_query_weights_md, 0);
    scratch = dnnl_primitive_desc_query_md(d->product, dnnl_query_scratchpad_md, 0);
    p->scratch_bytes = scratch == NULL ? 0 : dnnl_memory_desc_get_size(scratch);
    DNNL_TRY(make_memory(&p->a, md_arg(&d->a), engine));
    DNNL_TRY(make_memory(&p->b, weights, engine));
    DNNL_TRY(make_memory(&p->c, md_arg(&d->c), engine));
    if (p->product.has_bias)
        DNNL_TRY(make_memory(&p->bias, md_arg(&d->bias), engine));
    if (p->scratch_bytes > 0)
        DNNL_TRY(make_memory(&p->scratch, scratch, engine));
    return p->product.packed ? make_pack(p, d, weights, cache) : dnnl_success;
}

static void
descriptors_destroy(plan_descriptors *d)
{
    if (d->product != NULL)
        dnnl_primitive_desc_destroy(d->product);
    if (d->pack != NULL)
        dnnl_primitive_desc_destroy(d->pack);
    if (d->attr != NULL)
        dnnl_primitive_attr_destroy(d->attr);
    if (d->post_ops != NULL)
        dnnl_post_ops_destroy(d->post_ops);
    md_destroy(&d->a);
    md_destroy(&d->b);
    md_destroy(&d->b_source);
    md_destroy(&d->c);
    md_destroy(&d->bias);
}

/* Makes a plan for the cache's number of threads, whatever the caller's setting was. */
static d2c_status
plan_create(plan **made, d2c_plan_cache *cache, const d2c_product *product, d2c_error *err)
{
    plan_descriptors d;
    plan *p = calloc(1, sizeof *p);
    dnnl_status_t status;

    if (p == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate a matrix product");
    memset(&d, 0, sizeof d);
    p->product = *product;
    omp_set_num_threads(cache->threads);
    status = make_primitive(p, &d, cache);
    descriptors_destroy(&d);
    if (status != dnnl_success) {
        plan_destroy(p);
        dnnl_failure(err, status, "matrix product");
        d2c_detail(err, "The product is %lld x %lld x %lld in %s.", (long long)product->m,
                   (long long)product->k, (long long)product->n,
                   product->a_type == D2C_BF16 ? "bf16" : "f32");
        return err == NULL ? D2C_INTERNAL : err->status;
    }
    *made = p;
    return D2C_OK;
}

static uint64_t
product_hash(const d2c_product *product)
{
    uint64_t words[sizeof *product / sizeof(uint64_t)], hash = 0xCBF29CE484222325u;
    size_t i;

    _Static_assert(sizeof *product % sizeof(uint64_t) == 0, "a product is whole words");
    memcpy(words, product, sizeof words);
    for (i = 0; i < sizeof words / sizeof words[0]; i++) {
        hash = (hash ^ words[i]) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    return hash;
}

/* Finds the plan of a product, or makes it. */
static d2c_status
plan_find(plan **found, d2c_plan_cache *cache, const d2c_product *product, d2c_error *err)
{
    uint64_t at = product_hash(product) % PLAN_SLOTS;

    if (cache->count >= PLAN_LIMIT)
        forget_plans(cache);
    while (cache->slot[at] != NULL) {
        if (memcmp(&cache->slot[at]->product, product, sizeof *product) == 0) {
            *found = cache->slot[at];
            return D2C_OK;
        }
        at = (at + 1) % PLAN_SLOTS;
    }
    D2C_TRY(plan_create(found, cache, product, err));
    cache->slot[at] = *found;
    cache->count++;
    return D2C_OK;
}

static d2c_status
reserve_scratch(d2c_plan_cache *cache, size_t bytes, d2c_error *err)
{
    size_t rounded = (bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;

    if (rounded <= cache->scratch_bytes)
        return D2C_OK;
    free(cache->scratch);
    cache->scratch = aligned_alloc(SCRATCH_ALIGN, rounded);
    cache->scratch_bytes = cache->scratch == NULL ? 0 : rounded;
    if (cache->scratch == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate %zu bytes for a matrix product", rounded);
    return D2C_OK;
}

d2c_status
d2c_product_run(d2c_plan_cache *cache, const d2c_product *product, void *c, const void *a, const void *b,
                const float *bias, d2c_error *err)
{
    dnnl_exec_arg_t arg[5];
    dnnl_status_t status;
    int count = 3;
    plan *p;

    D2C_TRY(plan_find(&p, cache, product, err));
    D2C_TRY(reserve_scratch(cache, p->scratch_bytes, err));
    dnnl_memory_set_data_handle(p->a, (void *)a);
    dnnl_memory_set_data_handle(p->b, (void *)b);
    dnnl_memory_set_data_handle(p->c, c);
    arg[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, p->a};
    arg[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, p->b};
    arg[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, p->c};
    if (p->bias != NULL) {
        dnnl_memory_set_data_handle(p->bias, (void *)bias);
        arg[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, p->bias};
    }
    if (p->scratch != NULL) {
        dnnl_memory_set_data_handle(p->scratch, cache->scratch);
        arg[count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratch};
    }
    omp_set_num_threads(cache->threads);
    status = dnnl_primitive_execute(p->primitive, cache->stream, count, arg);
    return status == dnnl_success ? D2C_OK : dnnl_failure(err, status, "matrix product");
}

d2c_status
d2c_product_pack_size(d2c_plan_cache *cache, const d2c_product *product, size_t *bytes, d2c_error *err)
{
    plan *p;

    D2C_TRY(plan_find(&p, cache, product, err));
    *bytes = p->packed_bytes;
    return D2C_OK;
}

d2c_status
d2c_product_pack(d2c_plan_cache *cache, const d2c_product *product, void *packed, const void *b,
                 d2c_error *err)
{
    dnnl_exec_arg_t arg[2];
    dnnl_status_t status;
    plan *p;

    D2C_TRY(plan_find(&p, cache, product, err));
    dnnl_memory_set_data_handle(p->pack_from, (void *)b);
    dnnl_memory_set_data_handle(p->pack_to, packed);
    arg[0] = (dnnl_exec_arg_t){DNNL_ARG_FROM, p->pack_from};
    arg[1] = (dnnl_exec_arg_t){DNNL_ARG_TO, p->pack_to};
    omp_set_num_threads(cache->pack_threads);
    status = dnnl_primitive_execute(p->pack, cache->stream, 2, arg);
    return status == dnnl_success ? D2C_OK : dnnl_failure(err, status, "packing");
}

/* The numbers of dnnl_cpu_isa_t are sets of features; AMX and AVX10 contain AVX512_BF16's. */
int
d2c_dnnl_has_bf16(void)
{
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)dnnl_cpu_isa_avx512_core_bf16) ==
           (unsigned)dnnl_cpu_isa_avx512_core_bf16;
}

void
d2c_dnnl_describe(char *text, size_t size)
{
    const dnnl_version_t *version = dnnl_version();

    snprintf(text, size, "oneDNN %d.%d.%d, isa 0x%x", version->major, version->minor, version->patch,
             (unsigned)dnnl_get_effective_cpu_isa());
}
