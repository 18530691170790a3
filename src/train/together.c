/* together.c: the agreements of together.h. */
#include "train/together.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* What each process tells before a step. */
struct d2c_word {
    int64_t rows, bytes; /* streamed so far */
    int32_t reconnects, stop;
};

static d2c_status
no_memory(d2c_error *err)
{
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

/* ---- before anything is computed ------------------------------------------------------------------------------- */

d2c_status
d2c_together_share(d2c_train *train, d2c_error *err)
{
    const d2c_train_setting *setting = train->setting;
    int64_t ranks = d2c_rank_count(setting->ranks),
            micro = setting->micro_batch > 0 ? setting->micro_batch : 1;

    if (ranks > 1 && setting->batch % (ranks * micro) != 0) {
        d2c_fail(err, D2C_INVALID_ARGUMENT,
                 "%" PRId64 " processes cannot share a global batch of %" PRId64 " rows%s", ranks,
                 setting->batch, setting->micro_batch > 0 ? " in whole micro-batches" : "");
        d2c_hint(err, "Give --global-batch-size a multiple of %" PRId64 ".", ranks * micro);
        return D2C_INVALID_ARGUMENT;
    }
    train->share = (d2c_share){.batch = setting->batch,
                               .first = d2c_rank_of(setting->ranks) * (setting->batch / ranks),
                               .rows = setting->batch / ranks};
    return D2C_OK;
}

/* What must be the same everywhere. */
typedef struct identity {
    char rows[65], content[512], device[16], arithmetic[64], precision[8];
} identity;

static const char *
first_difference(const identity *a, const identity *b)
{
    if (strcmp(a->rows, b->rows) != 0 || strcmp(a->content, b->content) != 0)
        return "has read other rows than rank 0: the table changes";
    if (strcmp(a->device, b->device) != 0)
        return "computes on another kind of device than rank 0";
    if (strcmp(a->arithmetic, b->arithmetic) != 0 || strcmp(a->precision, b->precision) != 0)
        return "computes with another arithmetic than rank 0";
    return NULL;
}

static identity
identity_of(const d2c_train *train)
{
    const d2c_table *table = train->table;
    identity own;

    memset(&own, 0, sizeof own);
    snprintf(own.rows, sizeof own.rows, "%s", table->digest);
    if (table->content_digest != NULL)
        d2c_sha256(own.content, table->content_digest, strlen(table->content_digest));
    snprintf(own.device, sizeof own.device, "%s", train->be->ops->name);
    snprintf(own.arithmetic, sizeof own.arithmetic, "%s", train->be->arithmetic);
    snprintf(own.precision, sizeof own.precision, "%s", train->setting->precision);
    return own;
}

d2c_status
d2c_together_compare(d2c_train *train, d2c_error *err)
{
    d2c_ranks *ranks = train->setting->ranks;
    int count = d2c_rank_count(ranks), r;
    identity *all = calloc((size_t)count, sizeof *all);
    const char *difference = NULL;
    d2c_status status;

    if (all == NULL)
        return no_memory(err);
    all[d2c_rank_of(ranks)] = identity_of(train);
    status = d2c_ranks_gather(ranks, all, sizeof *all, err);
    for (r = 1; r < count && status == D2C_OK && difference == NULL; r++)
        difference = first_difference(&all[r], &all[0]);
    if (difference != NULL) {
        status = d2c_fail(err, D2C_INVALID_ARGUMENT, "rank %d %s", r - 1, difference);
        d2c_detail(err, "It has \"%s\" %s, rank 0 \"%s\" %s.", all[r - 1].device, all[r - 1].arithmetic,
                   all[0].device, all[0].arithmetic);
    }
    free(all);
    return status;
}

d2c_status
d2c_together_least(d2c_train *train, size_t *bytes, d2c_error *err)
{
    d2c_ranks *ranks = train->setting->ranks;
    int count = d2c_rank_count(ranks), r;
    size_t *all = calloc((size_t)count, sizeof *all);
    d2c_status status;

    if (all == NULL)
        return no_memory(err);
    all[d2c_rank_of(ranks)] = *bytes;
    status = d2c_ranks_gather(ranks, all, sizeof *all, err);
    for (r = 0; r < count && status == D2C_OK; r++)
        *bytes = all[r] < *bytes ? all[r] : *bytes;
    free(all);
    return status;
}

/* ---- what rank 0 knows ----------------------------------------------------------------------------------------- */

/* Its malloc'd text, which may be NULL. */
static d2c_status
tell_text(d2c_ranks *ranks, char **text, d2c_error *err)
{
    int64_t bytes = *text != NULL ? (int64_t)strlen(*text) + 1 : 0;

    D2C_TRY(d2c_ranks_broadcast(ranks, 0, &bytes, sizeof bytes, err));
    if (d2c_rank_of(ranks) != 0) {
        free(*text);
        *text = NULL;
        if (bytes > 0 && (*text = malloc((size_t)bytes)) == NULL)
            return no_memory(err);
    }
    return d2c_ranks_broadcast(ranks, 0, *text, (size_t)bytes, err);
}

d2c_status
d2c_together_head(d2c_train *train, d2c_error *err)
{
    d2c_ranks *ranks = train->setting->ranks;
    d2c_checkpoint_head head = train->head;

    D2C_TRY(d2c_ranks_broadcast(ranks, 0, train->resumed, sizeof train->resumed, err));
    D2C_TRY(d2c_ranks_broadcast(ranks, 0, &head, sizeof head, err));
    if (d2c_rank_of(ranks) != 0) {
        head.choices = head.content = NULL;
        train->head = head;
    }
    D2C_TRY(tell_text(ranks, &train->head.choices, err));
    return tell_text(ranks, &train->head.content, err);
}

d2c_status
d2c_together_weights(d2c_train *train, d2c_error *err)
{
    const d2c_params *params = &train->sit->params;
    float *range[] = {params->value, params->m, params->v, params->ema};
    int i;

    D2C_TRY(d2c_ranks_broadcast(train->setting->ranks, 0, &train->position, sizeof train->position, err));
    for (i = 0; i < 4; i++)
        D2C_TRY(d2c_ranks_broadcast(train->ranks, 0, range[i], (size_t)params->total * sizeof(float), err));
    return d2c_train_speaks(train) ? D2C_OK : d2c_params_refresh(&train->sit->params, train->be, err);
}

d2c_status
d2c_together_choices(d2c_train *train, d2c_error *err)
{
    char *choices = NULL;
    d2c_status status;

    if (train->chosen || d2c_rank_count(train->setting->ranks) == 1)
        return D2C_OK;
    train->chosen = 1;
    if (d2c_tuned(train->be, &choices) != D2C_OK)
        return d2c_backend_error(train->be, err);
    status = tell_text(train->setting->ranks, &choices, err);
    if (status == D2C_OK && !d2c_train_speaks(train) && d2c_choose(train->be, choices) != D2C_OK)
        status = d2c_backend_error(train->be, err);
    free(choices);
    return status;
}

/* ---- from step to step ----------------------------------------------------------------------------------------- */

static void
take_words(d2c_train *train, const d2c_word *now)
{
    int count = d2c_rank_count(train->setting->ranks), r;

    train->streamed = (d2c_stream_counters){0};
    for (r = 0; r < count; r++) {
        if (now[r].reconnects > train->words[r].reconnects && count == 1)
            d2c_notice(train, "lost the connection to the database, and have it again");
        else if (now[r].reconnects > train->words[r].reconnects)
            d2c_notice(train, "rank %d lost the connection to the database, and has it again", r);
        train->streamed.rows += now[r].rows;
        train->streamed.bytes += now[r].bytes;
        train->streamed.reconnects += now[r].reconnects;
        train->stopped |= now[r].stop;
    }
    memcpy(train->words, now, (size_t)count * sizeof *now);
}

d2c_status
d2c_together_step(d2c_train *train, d2c_error *err)
{
    d2c_ranks *ranks = train->setting->ranks;
    size_t count = (size_t)d2c_rank_count(ranks);
    d2c_word *now = calloc(count, sizeof *now);
    d2c_stream_counters streamed;
    d2c_status status;

    if (train->words == NULL)
        train->words = calloc(count, sizeof *train->words);
    if (now == NULL || train->words == NULL) {
        free(now);
        return no_memory(err);
    }
    d2c_loader_count(train->loader, &streamed);
    now[d2c_rank_of(ranks)] = (d2c_word){streamed.rows, streamed.bytes, streamed.reconnects,
                                         train->events.stop != NULL && *train->events.stop};
    status = d2c_ranks_gather(ranks, now, sizeof *now, err);
    if (status == D2C_OK)
        take_words(train, now);
    free(now);
    return status;
}

d2c_status
d2c_together_ids(d2c_train *train, const d2c_batch *batch, char (**id)[D2C_BATCH_ID], d2c_error *err)
{
    size_t bytes = (size_t)batch->size * D2C_BATCH_ID;

    *id = calloc((size_t)train->share.batch, D2C_BATCH_ID);
    if (*id == NULL)
        return no_memory(err);
    memcpy(*id + train->share.first, batch->id, bytes);
    return d2c_ranks_gather(train->setting->ranks, *id, bytes, err);
}

/* ---- checkpoints ----------------------------------------------------------------------------------------------- */

#define BLOCK ((size_t)1 << 20) /* bytes that are taken from the device at once */

/* Takes words into the hash. */
static uint64_t
mix(uint64_t hash, const uint64_t *word, size_t words)
{
    size_t i;

    for (i = 0; i < words; i++) {
        hash = (hash ^ word[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return hash;
}

static d2c_status
hash_range(uint64_t *hash, d2c_backend *be, const float *range, size_t bytes, void *block, d2c_error *err)
{
    size_t at, part;

    for (at = 0; at < bytes; at += part) {
        part = bytes - at < BLOCK ? bytes - at : BLOCK;
        memset(block, 0, BLOCK);
        if (d2c_download(be, block, (const char *)range + at, part) != D2C_OK)
            return d2c_backend_error(be, err);
        *hash = mix(*hash, block, (part + 7) / 8);
    }
    return D2C_OK;
}

static d2c_status
hash_state(const d2c_train *train, uint64_t *hash, d2c_error *err)
{
    const d2c_params *params = &train->sit->params;
    const float *range[] = {params->value, params->m, params->v, params->ema};
    void *block = malloc(BLOCK);
    d2c_status status = block != NULL ? D2C_OK : no_memory(err);
    int i;

    *hash = 0;
    for (i = 0; i < 4 && status == D2C_OK; i++)
        status = hash_range(hash, train->be, range[i], (size_t)params->total * sizeof(float), block, err);
    free(block);
    return status;
}

/* What each process tells before a checkpoint. */
typedef struct state {
    uint64_t hash;
    d2c_order_key last;
    int mixed_texts;
} state;

/* The first rank whose state is not that of most; of two that differ, the second. */
static int
odd_one(const state *all, int count)
{
    int agree[2] = {0, 0}, r;

    for (r = 0; r < count; r++)
        agree[0] += all[r].hash == all[0].hash;
    for (r = 0; r < count && all[r].hash == all[0].hash; r++)
        continue;
    if (r == count)
        return -1;
    return 2 * agree[0] >= count ? r : 0;
}

static d2c_status
compare_states(d2c_train *train, const state *all, int count, d2c_error *err)
{
    int odd = odd_one(all, count), r;

    if (odd >= 0) {
        d2c_fail(err, D2C_INTERNAL, "rank %d has other weights than the other ranks after step %" PRId64, odd,
                 train->position.step);
        d2c_hint(err, "The checkpoints before it are whole; its machine may be at fault.");
        return D2C_INTERNAL;
    }
    train->position.last = all[count - 1].last;
    for (r = 0; r < count; r++)
        train->position.mixed_texts |= all[r].mixed_texts;
    return D2C_OK;
}

d2c_status
d2c_together_checkpoint(d2c_train *train, d2c_error *err)
{
    d2c_ranks *ranks = train->setting->ranks;
    int count = d2c_rank_count(ranks);
    state *all, own = {.last = train->position.last, .mixed_texts = train->position.mixed_texts};
    d2c_status status;

    if (count == 1)
        return D2C_OK;
    D2C_TRY(hash_state(train, &own.hash, err));
    all = calloc((size_t)count, sizeof *all);
    if (all == NULL)
        return no_memory(err);
    all[ranks->rank] = own;
    status = d2c_ranks_gather(ranks, all, sizeof *all, err);
    if (status == D2C_OK)
        status = compare_states(train, all, count, err);
    free(all);
    return status;
}
