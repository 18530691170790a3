/*
 * dnnl_cache.c: making, keeping and running plans (dnnl_cache.h).
 *
 * Plans lie in a hash table of a fixed size; a full table is emptied, which only costs making plans again.  Scratch
 * memory belongs to the cache and not to oneDNN, whose own is bound to the host thread that made a primitive.
 */
#include "ops/dnnl_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#define PLAN_SLOTS 1024 /* a power of two */
#define PLAN_LIMIT 768
#define SCRATCH_ALIGN 64

typedef struct plan {
    d2c_plan_key key;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, weights, y, bias, scratch;
    size_t scratch_bytes, packed_bytes;
    dnnl_primitive_t pack; /* reorder of the weights; only in packed plans */
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
    memory_destroy(p->x);
    memory_destroy(p->weights);
    memory_destroy(p->y);
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

static dnnl_status_t
make_memory(dnnl_memory_t *memory, dnnl_md_arg md, dnnl_engine_t engine)
{
    return dnnl_memory_create(memory, md, engine, DNNL_MEMORY_NONE);
}

static dnnl_status_t
make_pack(plan *p, d2c_plan_descriptors *d, dnnl_md_arg packed, const d2c_plan_cache *cache)
{
    dnnl_engine_t engine = cache->engine;

    omp_set_num_threads(cache->pack_threads);
    p->packed_bytes = dnnl_memory_desc_get_size(packed);
    DNNL_TRY(dnnl_reorder_primitive_desc_create(&d->pack, md_arg(&d->source), engine, packed, engine, NULL));
    DNNL_TRY(dnnl_primitive_create(&p->pack, d->pack));
    DNNL_TRY(make_memory(&p->pack_from, md_arg(&d->source), engine));
    return make_memory(&p->pack_to, packed, engine);
}

static dnnl_status_t
make_primitive(plan *p, d2c_plan_descriptors *d, const d2c_plan_cache *cache)
{
    dnnl_engine_t engine = cache->engine;
    dnnl_md_arg weights, scratch;

    DNNL_TRY(p->key.kind->describe(d, &p->key, engine));
    DNNL_TRY(dnnl_primitive_create(&p->primitive, d->primitive));
    weights = dnnl_primitive_desc_query_md(d->primitive, dnnl_query_weights_md, 0);
    scratch = dnnl_primitive_desc_query_md(d->primitive, dnnl_query_scratchpad_md, 0);
    p->scratch_bytes = scratch == NULL ? 0 : dnnl_memory_desc_get_size(scratch);
    DNNL_TRY(make_memory(&p->x, md_arg(&d->x), engine));
    DNNL_TRY(make_memory(&p->weights, weights, engine));
    DNNL_TRY(make_memory(&p->y, md_arg(&d->y), engine));
    if (d->has_bias)
        DNNL_TRY(make_memory(&p->bias, md_arg(&d->bias), engine));
    if (p->scratch_bytes > 0)
        DNNL_TRY(make_memory(&p->scratch, scratch, engine));
    return d->packed ? make_pack(p, d, weights, cache) : dnnl_success;
}

static void
descriptors_destroy(d2c_plan_descriptors *d)
{
    if (d->primitive != NULL)
        dnnl_primitive_desc_destroy(d->primitive);
    if (d->pack != NULL)
        dnnl_primitive_desc_destroy(d->pack);
    if (d->attr != NULL)
        dnnl_primitive_attr_destroy(d->attr);
    if (d->post_ops != NULL)
        dnnl_post_ops_destroy(d->post_ops);
    md_destroy(&d->x);
    md_destroy(&d->weights);
    md_destroy(&d->source);
    md_destroy(&d->y);
    md_destroy(&d->bias);
}

/* Makes a plan for the cache's number of threads, whatever the caller's setting was. */
static d2c_status
plan_create(plan **made, d2c_plan_cache *cache, const d2c_plan_key *key, d2c_error *err)
{
    d2c_plan_descriptors d;
    plan *p = calloc(1, sizeof *p);
    dnnl_status_t status;

    if (p == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate a %s", key->kind->name);
    memset(&d, 0, sizeof d);
    p->key = *key;
    omp_set_num_threads(cache->threads);
    status = make_primitive(p, &d, cache);
    descriptors_destroy(&d);
    if (status != dnnl_success) {
        d2c_status failure = dnnl_failure(err, status, key->kind->name);

        plan_destroy(p);
        key->kind->explain(err, key);
        return failure;
    }
    *made = p;
    return D2C_OK;
}

static uint64_t
key_hash(const d2c_plan_key *key)
{
    uint64_t words[sizeof *key / sizeof(uint64_t)], hash = 0xCBF29CE484222325u;
    size_t i;

    _Static_assert(sizeof *key % sizeof(uint64_t) == 0, "a key is whole words");
    memcpy(words, key, sizeof words);
    for (i = 0; i < sizeof words / sizeof words[0]; i++) {
        hash = (hash ^ words[i]) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    return hash;
}

/* Finds the plan of a key, or makes it. */
static d2c_status
plan_find(plan **found, d2c_plan_cache *cache, const d2c_plan_key *key, d2c_error *err)
{
    uint64_t at = key_hash(key) % PLAN_SLOTS;

    if (cache->count >= PLAN_LIMIT)
        forget_plans(cache);
    while (cache->slot[at] != NULL) {
        if (memcmp(&cache->slot[at]->key, key, sizeof *key) == 0) {
            *found = cache->slot[at];
            return D2C_OK;
        }
        at = (at + 1) % PLAN_SLOTS;
    }
    D2C_TRY(plan_create(found, cache, key, err));
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
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate %zu bytes for a product", rounded);
    return D2C_OK;
}

d2c_status
d2c_plan_run(d2c_plan_cache *cache, const d2c_plan_key *key, void *y, const void *x, const void *weights,
             const float *bias, d2c_error *err)
{
    dnnl_exec_arg_t arg[5];
    dnnl_status_t status;
    int count = 3;
    plan *p;

    D2C_TRY(plan_find(&p, cache, key, err));
    D2C_TRY(reserve_scratch(cache, p->scratch_bytes, err));
    dnnl_memory_set_data_handle(p->x, (void *)x);
    dnnl_memory_set_data_handle(p->weights, (void *)weights);
    dnnl_memory_set_data_handle(p->y, y);
    arg[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, p->x};
    arg[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, p->weights};
    arg[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, p->y};
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
    return status == dnnl_success ? D2C_OK : dnnl_failure(err, status, key->kind->name);
}

d2c_status
d2c_plan_pack_size(d2c_plan_cache *cache, const d2c_plan_key *key, size_t *bytes, d2c_error *err)
{
    plan *p;

    D2C_TRY(plan_find(&p, cache, key, err));
    *bytes = p->packed_bytes;
    return D2C_OK;
}

d2c_status
d2c_plan_pack(d2c_plan_cache *cache, const d2c_plan_key *key, void *packed, const void *weights,
              d2c_error *err)
{
    dnnl_exec_arg_t arg[2];
    dnnl_status_t status;
    plan *p;

    D2C_TRY(plan_find(&p, cache, key, err));
    dnnl_memory_set_data_handle(p->pack_from, (void *)weights);
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
