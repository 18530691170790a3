/* cache.c: the set in memory of cache.h. */
#include "train/cache.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "train/copy_out.h"

#define CHUNK_BYTES (1 << 20)
#define CHUNK_ROWS 512

/* The distinct text conditions, found by hash with open addressing. */
typedef struct text_set {
    float *text, *mask;  /* [capacity, L, W], [capacity, L] */
    uint64_t *hash;      /* [capacity] */
    int32_t *slot;       /* [2 * capacity] of index + 1 */
    int count, capacity; /* a power of two */
} text_set;

struct d2c_cache {
    d2c_row_shape shape;
    const d2c_content *content; /* while it is read */
    int64_t rows, capacity;
    char **id;
    int64_t *number, *label;
    uint8_t *pixels;
    float *latent;
    uint16_t *visual;
    int32_t *text;
    text_set texts;
    int64_t *permutation, epoch; /* of that epoch; -1: of none yet */
    uint64_t seed;
};

static size_t
bytes_of_row(const d2c_row_shape *shape)
{
    return d2c_row_image(shape) + d2c_row_latent(shape) * sizeof(float) + 2 * d2c_row_visual(shape) + 128;
}

size_t
d2c_cache_estimate(const d2c_table *table, const d2c_row_shape *shape)
{
    size_t row = bytes_of_row(shape);

    return (size_t)table->rows > SIZE_MAX / row ? SIZE_MAX : (size_t)table->rows * row;
}

size_t
d2c_cache_bytes(const d2c_cache *cache)
{
    size_t text = (d2c_row_text(&cache->shape) + (size_t)cache->shape.text_tokens) * sizeof(float);

    return (size_t)cache->rows * bytes_of_row(&cache->shape) + (size_t)cache->texts.count * text;
}

const uint8_t *
d2c_cache_pixels(const d2c_cache *cache)
{
    return cache->shape.latent_scale > 0 ? NULL : cache->pixels;
}

/* ---- distinct texts
 * -------------------------------------------------------------------------------------------- */

static void
place_hash(text_set *set, int index)
{
    size_t mask = 2 * (size_t)set->capacity - 1, at = set->hash[index] & mask;

    while (set->slot[at] != 0)
        at = (at + 1) & mask;
    set->slot[at] = index + 1;
}

static d2c_status
grow_texts(text_set *set, const d2c_row_shape *shape, d2c_error *err)
{
    size_t capacity = set->capacity > 0 ? 2 * (size_t)set->capacity : 64;
    float *text = realloc(set->text, capacity * d2c_row_text(shape) * sizeof(float));
    float *mask =
        text != NULL ? realloc(set->mask, capacity * (size_t)shape->text_tokens * sizeof(float)) : NULL;
    uint64_t *hash = mask != NULL ? realloc(set->hash, capacity * sizeof *hash) : NULL;
    int32_t *slot = hash != NULL ? calloc(2 * capacity, sizeof *slot) : NULL;
    int i;

    set->text = text != NULL ? text : set->text;
    set->mask = mask != NULL ? mask : set->mask;
    set->hash = hash != NULL ? hash : set->hash;
    if (slot == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for %zu texts", capacity);
    free(set->slot);
    set->slot = slot;
    set->capacity = (int)capacity;
    for (i = 0; i < set->count; i++)
        place_hash(set, i);
    return D2C_OK;
}

/* The index of this text among the distinct ones. */
static d2c_status
intern_text(text_set *set, int32_t *index, const d2c_row *row, const d2c_row_shape *shape, d2c_error *err)
{
    size_t count = d2c_row_text(shape), length = (size_t)shape->text_tokens, at, mask;
    uint64_t hash = d2c_text_hash(row->text, row->mask, shape);

    if (set->count == set->capacity)
        D2C_TRY(grow_texts(set, shape, err));
    mask = 2 * (size_t)set->capacity - 1;
    for (at = hash & mask; set->slot[at] != 0; at = (at + 1) & mask) {
        size_t i = (size_t)set->slot[at] - 1;

        *index = (int32_t)i;
        if (set->hash[i] == hash && memcmp(set->text + i * count, row->text, count * sizeof(float)) == 0 &&
            memcmp(set->mask + i * length, row->mask, length * sizeof(float)) == 0)
            return D2C_OK;
    }
    *index = set->count;
    set->hash[set->count] = hash;
    memcpy(set->text + (size_t)set->count * count, row->text, count * sizeof(float));
    memcpy(set->mask + (size_t)set->count * length, row->mask, length * sizeof(float));
    place_hash(set, set->count++);
    return D2C_OK;
}

/* ---- reading
 * --------------------------------------------------------------------------------------------------- */

static d2c_status
allocate(d2c_cache *cache, d2c_error *err)
{
    size_t rows = (size_t)cache->capacity;

    cache->id = calloc(rows, sizeof *cache->id);
    cache->number = malloc(rows * sizeof *cache->number);
    cache->label = malloc(rows * sizeof *cache->label);
    cache->pixels = malloc(rows * d2c_row_image(&cache->shape) + 1);
    cache->latent = malloc(rows * d2c_row_latent(&cache->shape) * sizeof(float) + 1);
    cache->visual = malloc(rows * d2c_row_visual(&cache->shape) * sizeof(uint16_t) + 1);
    cache->text = malloc(rows * sizeof *cache->text);
    cache->permutation = malloc(rows * sizeof *cache->permutation);
    if (cache->id != NULL && cache->number != NULL && cache->label != NULL && cache->pixels != NULL &&
        cache->latent != NULL && cache->visual != NULL && cache->text != NULL && cache->permutation != NULL)
        return D2C_OK;
    d2c_fail(err, D2C_NO_MEMORY, "out of memory for %" PRId64 " rows", cache->capacity);
    d2c_hint(err, "Lower --cache-memory to stream the rows instead.");
    return D2C_NO_MEMORY;
}

/* Decodes one row into its place; id and text pass through the thread's own row. */
static d2c_status
decode_into(d2c_cache *cache, int64_t place, d2c_row *scratch, const d2c_field *fields, d2c_error *err)
{
    d2c_row row = *scratch;
    d2c_status status = D2C_OK;

    row.pixels = cache->pixels + (size_t)place * d2c_row_image(&cache->shape);
    row.latent = cache->latent + (size_t)place * d2c_row_latent(&cache->shape);
    row.visual = cache->visual + (size_t)place * d2c_row_visual(&cache->shape);
    D2C_TRY(d2c_row_decode(&row, &cache->shape, fields, err));
    D2C_TRY(d2c_content_check(cache->content, fields, err));
    cache->id[place] = strdup(row.id);
    cache->number[place] = row.number;
    cache->label[place] = row.label;
    if (cache->id[place] == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for ids");
    if (cache->shape.text_tokens > 0) {
#pragma omp critical(d2c_cache_texts)
        status = intern_text(&cache->texts, &cache->text[place], &row, &cache->shape, err);
    }
    return status;
}

/* Decodes the chunk's rows side by side; the error is that of the first bad row. */
static d2c_status
decode_chunk(d2c_cache *cache, d2c_field (*fields)[D2C_TABLE_COLUMNS], int count, int threads, d2c_error *err)
{
    d2c_status worst = D2C_OK;
    int bad = count, i;

#pragma omp parallel num_threads(threads)
    {
        d2c_row scratch;
        d2c_error error;
        d2c_status ready = d2c_row_allocate(&scratch, &cache->shape, &error);

#pragma omp for schedule(dynamic, 16)
        for (i = 0; i < count; i++) {
            d2c_status status = ready;

            if (ready == D2C_OK)
                status = decode_into(cache, cache->rows + i, &scratch, fields[i], &error);
#pragma omp critical(d2c_cache_error)
            if (status != D2C_OK && i < bad) {
                bad = i;
                worst = status;
                if (err != NULL)
                    *err = error;
            }
        }
        d2c_row_free(&scratch);
    }
    cache->rows += count;
    return worst;
}

/* The rows that wait in the reader, at most CHUNK_ROWS at a time. */
static d2c_status
take_rows(d2c_cache *cache, d2c_copy_out *out, int threads, d2c_error *err)
{
    d2c_field fields[CHUNK_ROWS][D2C_TABLE_COLUMNS];
    int count, found = 1;

    while (found) {
        for (count = 0; count < CHUNK_ROWS && found; count += found)
            D2C_TRY(d2c_copy_row(&out->reader, fields[count], &found, err));
        if (count > cache->capacity - cache->rows)
            return d2c_fail(err, D2C_BAD_DATA, "the table has changed while it was read: rows were added");
        D2C_TRY(decode_chunk(cache, fields, count, threads, err));
    }
    return D2C_OK;
}

static d2c_status
read_all(d2c_cache *cache, PGconn *connection, const d2c_table *table, size_t limit, int threads, int *fits,
         d2c_error *err)
{
    char *sql = d2c_table_copy(table);
    d2c_copy_out out;
    d2c_status status;
    int more = 1;

    *fits = 1;
    if (sql == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = d2c_copy_out_start(&out, connection, sql, D2C_TABLE_COLUMNS, err);
    free(sql);
    while (status == D2C_OK && more && *fits) {
        status = d2c_copy_out_fill(&out, CHUNK_BYTES, &more, err);
        if (status == D2C_OK)
            status = take_rows(cache, &out, threads, err);
        *fits = d2c_cache_bytes(cache) <= limit;
    }
    if (status == D2C_OK && *fits && !out.reader.ended)
        status = d2c_fail(err, D2C_BAD_DATA, "binary COPY data ends in the middle of a row");
    d2c_copy_out_stop(&out);
    if (status == D2C_OK && *fits && cache->rows != table->rows)
        status = d2c_fail(err, D2C_BAD_DATA, "the table has changed while it was read: rows are missing");
    return status;
}

d2c_status
d2c_cache_open(d2c_cache **cache, PGconn *connection, const d2c_table *table, const d2c_row_shape *shape,
               size_t limit, int threads, d2c_error *err)
{
    d2c_cache *made;
    d2c_status status;
    int fits = 0;

    *cache = NULL;
    if (d2c_cache_estimate(table, shape) > limit)
        return D2C_OK;
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    made->shape = *shape;
    made->content = table->content;
    made->capacity = table->rows;
    made->epoch = -1;
    status = allocate(made, err);
    if (status == D2C_OK)
        status = read_all(made, connection, table, limit, threads, &fits, err);
    if (status == D2C_OK && fits)
        *cache = made;
    else
        d2c_cache_close(made);
    return status;
}

void
d2c_cache_close(d2c_cache *cache)
{
    int64_t i;

    if (cache == NULL)
        return;
    for (i = 0; cache->id != NULL && i < cache->capacity; i++)
        free(cache->id[i]);
    free(cache->id);
    free(cache->number);
    free(cache->label);
    free(cache->pixels);
    free(cache->latent);
    free(cache->visual);
    free(cache->text);
    free(cache->permutation);
    free(cache->texts.text);
    free(cache->texts.mask);
    free(cache->texts.hash);
    free(cache->texts.slot);
    free(cache);
}

d2c_status
d2c_cache_row(d2c_cache *cache, d2c_row *row, uint64_t seed, int64_t epoch, int64_t place, d2c_error *err)
{
    size_t i, text;

    if (cache->epoch != epoch || cache->seed != seed) {
        D2C_TRY(d2c_order_permute(cache->permutation, (const char *const *)cache->id, cache->rows, seed,
                                  epoch, err));
        cache->epoch = epoch;
        cache->seed = seed;
    }
    i = (size_t)cache->permutation[place];
    row->id = cache->id[i];
    row->number = cache->number[i];
    row->label = cache->label[i];
    row->pixels = cache->pixels + i * d2c_row_image(&cache->shape);
    row->latent = cache->latent + i * d2c_row_latent(&cache->shape);
    row->visual = cache->visual + i * d2c_row_visual(&cache->shape);
    row->text = row->mask = NULL;
    if (cache->shape.text_tokens > 0) {
        text = (size_t)cache->text[i];
        row->text = cache->texts.text + text * d2c_row_text(&cache->shape);
        row->mask = cache->texts.mask + text * (size_t)cache->shape.text_tokens;
    }
    return D2C_OK;
}
