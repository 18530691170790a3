/* checkpoint.c: saving and restoring a run's state. */
#include "train/checkpoint.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARTS 4
#define TABLES 2

static const char *const prefix[PARTS] = {"model.", "ema.", "opt.m.", "opt.v."};

static void
ranges_of(float *range[PARTS], const d2c_params *params)
{
    range[0] = params->value;
    range[1] = params->ema;
    range[2] = params->m;
    range[3] = params->v;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

/* The ranges on the host and the list of tensors in them. */
typedef struct image_of_state {
    float *host[PARTS];
    char (*name)[112]; /* [PARTS * params->count] */
    d2c_st_item *item;
    int items;
} image_of_state;

static void
free_image(image_of_state *image)
{
    int part;

    for (part = 0; part < PARTS; part++)
        free(image->host[part]);
    free(image->name);
    free(image->item);
}

static void
list_part(image_of_state *image, const d2c_params *params, int part)
{
    int i, d;

    for (i = 0; i < params->count; i++) {
        const d2c_param *param = &params->item[i];
        size_t at = (size_t)part * (size_t)params->count + (size_t)i;
        d2c_st_item *item = &image->item[at];

        snprintf(image->name[at], sizeof image->name[at], "%s%s", prefix[part], param->name);
        memset(item, 0, sizeof *item);
        item->name = image->name[at];
        item->dtype = D2C_ST_F32;
        item->ndim = param->ndim;
        for (d = 0; d < param->ndim; d++)
            item->dim[d] = param->dim[d];
        item->data = image->host[part] + param->offset;
    }
}

static d2c_status
take_image(image_of_state *image, const d2c_params *params, d2c_backend *be, d2c_error *err)
{
    size_t bytes = (size_t)params->total * sizeof(float), count = PARTS * (size_t)params->count;
    float *range[PARTS];
    int part;

    ranges_of(range, params);
    image->name = calloc(count, sizeof *image->name);
    image->item = calloc(count + TABLES, sizeof *image->item);
    if (image->name == NULL || image->item == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a checkpoint");
    for (part = 0; part < PARTS; part++) {
        image->host[part] = malloc(bytes);
        if (image->host[part] == NULL)
            return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a checkpoint");
        if (d2c_download(be, image->host[part], range[part], bytes) != D2C_OK)
            return d2c_backend_error(be, err);
        list_part(image, params, part);
    }
    image->items = PARTS * params->count;
    return D2C_OK;
}

static void
list_table(image_of_state *image, const d2c_sit_config *config, const char *name, const float *table)
{
    if (table != NULL)
        image->item[image->items++] =
            (d2c_st_item){name, D2C_ST_F32, 2, {config->classes + config->null_class, config->hidden}, table};
}

/* Hexadecimal floats and decimal integers: reading gives back the very values. */
static void
print_position(char *text, size_t size, const d2c_position *position)
{
    char last[2 * D2C_ORDER_BYTES + 1];

    d2c_order_key_print(last, &position->last);
    snprintf(text, size,
             "step=%" PRId64 " epoch=%" PRId64 " row=%" PRId64
             " loss=%a denoise=%a projection=%a count=%" PRId64 " mixed=%d last=%s mean=%a above=%d",
             position->step, position->epoch, position->row, position->loss_sum, position->denoise_sum,
             position->projection_sum, position->loss_count, position->mixed_texts, last,
             position->divergence.mean, position->divergence.above);
}

d2c_status
d2c_checkpoint_save(const char *path, const d2c_sit *sit, d2c_backend *be, const d2c_position *position,
                    const d2c_checkpoint_facts *facts, const d2c_checkpoint_tables *tables, d2c_error *err)
{
    char where[512], *config = d2c_sit_config_json(&sit->config);
    d2c_st_pair pairs[] = {{"d2c.checkpoint", "1"},
                           {"d2c.position", where},
                           {"d2c.required", facts->required},
                           {"d2c.exact", facts->exact},
                           {"d2c.choices", facts->choices != NULL ? facts->choices : ""},
                           {"d2c.content", facts->content != NULL ? facts->content : ""},
                           {"d2c.vae", facts->vae != NULL ? facts->vae : ""},
                           {"d2c.selection", facts->selection != NULL ? facts->selection : ""},
                           {"d2c.sit", config}};
    image_of_state image = {0};
    d2c_status status =
        config != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory for a checkpoint");

    print_position(where, sizeof where, position);
    if (status == D2C_OK)
        status = take_image(&image, &sit->params, be, err);
    if (status == D2C_OK && tables != NULL) {
        list_table(&image, &sit->config, "folded.model", tables->model);
        list_table(&image, &sit->config, "folded.ema", tables->ema);
    }
    if (status == D2C_OK)
        status =
            d2c_safetensors_write(path, image.item, image.items, pairs, sizeof pairs / sizeof pairs[0], err);
    free_image(&image);
    free(config);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static d2c_status
damaged(const char *path, const char *what, d2c_error *err)
{
    return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" is not a checkpoint of d2c train: %s", path, what);
}

static d2c_status
read_position(d2c_position *position, const char *path, const d2c_safetensors *file, d2c_error *err)
{
    const char *text = d2c_safetensors_metadata(file, "d2c.position");
    char last[2 * D2C_ORDER_BYTES + 1];

    if (text == NULL)
        return damaged(path, "it has no position", err);
    if (sscanf(text,
               "step=%" SCNd64 " epoch=%" SCNd64 " row=%" SCNd64
               " loss=%la denoise=%la projection=%la count=%" SCNd64 " mixed=%d last=%64s mean=%la above=%d",
               &position->step, &position->epoch, &position->row, &position->loss_sum, &position->denoise_sum,
               &position->projection_sum, &position->loss_count, &position->mixed_texts, last,
               &position->divergence.mean, &position->divergence.above) != 11 ||
        d2c_order_key_parse(&position->last, last) != 0 || position->step < 0)
        return damaged(path, "its position cannot be read", err);
    return D2C_OK;
}

static void
read_digest(d2c_checkpoint_head *head, const d2c_safetensors *file)
{
    const char *required = d2c_safetensors_metadata(file, "d2c.required");
    cJSON *facts = required != NULL ? cJSON_Parse(required) : NULL;
    const cJSON *digest = cJSON_GetObjectItemCaseSensitive(facts, "table_digest");

    if (cJSON_IsString(digest))
        snprintf(head->table_digest, sizeof head->table_digest, "%s", digest->valuestring);
    cJSON_Delete(facts);
}

static d2c_status
read_head(d2c_checkpoint_head *head, const char *path, const d2c_safetensors *file, d2c_error *err)
{
    const char *exact = d2c_safetensors_metadata(file, "d2c.exact");
    const char *choices = d2c_safetensors_metadata(file, "d2c.choices");
    const char *content = d2c_safetensors_metadata(file, "d2c.content");
    cJSON *facts = exact != NULL ? cJSON_Parse(exact) : NULL;
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(facts, "micro_batch");
    const cJSON *arithmetic = cJSON_GetObjectItemCaseSensitive(facts, "arithmetic");
    d2c_position position;
    d2c_status status = read_position(&position, path, file, err);

    head->step = status == D2C_OK ? position.step : 0;
    head->mixed_texts = status == D2C_OK && position.mixed_texts;
    if (cJSON_IsNumber(rows) && rows->valueint > 0)
        head->micro_batch = rows->valueint;
    if (cJSON_IsString(arithmetic))
        snprintf(head->arithmetic, sizeof head->arithmetic, "%s", arithmetic->valuestring);
    cJSON_Delete(facts);
    read_digest(head, file);
    head->choices = strdup(choices != NULL ? choices : "");
    head->content = strdup(content != NULL ? content : "");
    if (head->choices == NULL || head->content == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    return status;
}

d2c_status
d2c_checkpoint_peek(d2c_checkpoint_head *head, const char *path, d2c_error *err)
{
    d2c_safetensors *file;
    d2c_status status;

    memset(head, 0, sizeof *head);
    D2C_TRY(d2c_safetensors_open(&file, path, err));
    status = read_head(head, path, file, err);
    d2c_safetensors_close(file);
    return status;
}

/* The other's fact; what checkpoints of version 0.1.0 do not say was always so. */
static cJSON *
fact_of(const cJSON *facts, const char *name)
{
    static const struct {
        const char *name, *value;
    } older[] = {{"time_sampling", "uniform"}, {"init", ""}, {"optimizer", "adamw"}};
    cJSON *fact = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(facts, name), 1);
    size_t i;

    for (i = 0; i < sizeof older / sizeof older[0] && fact == NULL; i++)
        if (strcmp(name, older[i].name) == 0)
            fact = cJSON_CreateString(older[i].value);
    return fact;
}

/* Names the first fact that differs, as `name: here X, in the checkpoint Y`; empty when all agree. */
static d2c_status
compare_facts(char *difference, size_t size, const char *here, const char *there, d2c_error *err)
{
    cJSON *ours = cJSON_Parse(here), *theirs = there != NULL ? cJSON_Parse(there) : NULL, *fact;
    d2c_status status = D2C_OK;

    difference[0] = '\0';
    if (!cJSON_IsObject(ours) || !cJSON_IsObject(theirs))
        status = d2c_fail(err, D2C_BAD_MODEL, "the checkpoint does not say what it was made with");
    for (fact = ours != NULL ? ours->child : NULL; status == D2C_OK && fact != NULL; fact = fact->next) {
        cJSON *other = fact_of(theirs, fact->string);
        char *a, *b;

        if (cJSON_Compare(fact, other, 1)) {
            cJSON_Delete(other);
            continue;
        }
        a = cJSON_PrintUnformatted(fact);
        b = other != NULL ? cJSON_PrintUnformatted(other) : NULL;
        snprintf(difference, size, "%s: now %s, in the checkpoint %s", fact->string, a != NULL ? a : "?",
                 b != NULL ? b : "not given");
        cJSON_free(a);
        cJSON_free(b);
        cJSON_Delete(other);
        break;
    }
    cJSON_Delete(ours);
    cJSON_Delete(theirs);
    return status;
}

static d2c_status
check_facts(const char *path, const d2c_safetensors *file, const d2c_checkpoint_facts *facts,
            char *difference, size_t size, d2c_error *err)
{
    D2C_TRY(compare_facts(difference, size, facts->required, d2c_safetensors_metadata(file, "d2c.required"),
                          err));
    if (difference[0] != '\0') {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "checkpoint \"%s\" belongs to another run", path);
        d2c_detail(err, "%s.", difference);
        d2c_hint(err,
                 "Resume with the options and the table that it was made with, or start afresh under another "
                 "--name.");
        return D2C_INVALID_ARGUMENT;
    }
    return compare_facts(difference, size, facts->exact, d2c_safetensors_metadata(file, "d2c.exact"), err);
}

static d2c_status
read_ranges(d2c_sit *sit, d2c_backend *be, const d2c_safetensors *file, d2c_error *err)
{
    d2c_status status = D2C_OK;
    d2c_weights *weights;
    float *range[PARTS];
    int part;

    D2C_TRY(d2c_weights_borrow(&weights, file, err));
    ranges_of(range, &sit->params);
    for (part = 0; part < PARTS && status == D2C_OK; part++)
        status = d2c_params_load(&sit->params, be, range[part], weights, prefix[part], err);
    d2c_weights_close(weights);
    D2C_TRY(status);
    return d2c_params_refresh(&sit->params, be, err);
}

d2c_status
d2c_checkpoint_load(const char *path, d2c_sit *sit, d2c_backend *be, d2c_position *position,
                    const d2c_checkpoint_facts *facts, char *difference, size_t size, d2c_error *err)
{
    d2c_safetensors *file;
    d2c_status status;

    D2C_TRY(d2c_safetensors_open(&file, path, err));
    status = read_position(position, path, file, err);
    if (status == D2C_OK)
        status = check_facts(path, file, facts, difference, size, err);
    if (status == D2C_OK)
        status = read_ranges(sit, be, file, err);
    d2c_safetensors_close(file);
    return status;
}

/* ---- the folder ------------------------------------------------------------------------------------------------ */

void
d2c_checkpoint_path(char *path, size_t size, const char *folder, int64_t step)
{
    snprintf(path, size, "%s/%07" PRId64 ".safetensors", folder, step);
}

/* The step in a checkpoint's file name; -1 for other files. */
static int64_t
step_of(const char *name)
{
    char expected[64];
    int64_t step = strtoll(name, NULL, 10);

    snprintf(expected, sizeof expected, "%07" PRId64 ".safetensors", step);
    return strcmp(name, expected) == 0 ? step : -1;
}

/* The greatest step in the folder that is below `limit`; -1 when there is none. */
static int64_t
latest_below(const char *folder, int64_t limit)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    int64_t latest = -1;

    if (directory == NULL)
        return -1;
    while ((entry = readdir(directory)) != NULL) {
        int64_t step = step_of(entry->d_name);

        if (step > latest && step < limit)
            latest = step;
    }
    closedir(directory);
    return latest;
}

int64_t
d2c_checkpoint_latest(const char *folder)
{
    return latest_below(folder, INT64_MAX);
}

void
d2c_checkpoint_clean(const char *folder)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    char path[4096], name[64];

    if (directory == NULL)
        return;
    while ((entry = readdir(directory)) != NULL) {
        snprintf(name, sizeof name, "%07" PRId64 ".safetensors.tmp",
                 (int64_t)strtoll(entry->d_name, NULL, 10));
        if (strcmp(entry->d_name, name) == 0 &&
            snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path)
            unlink(path);
    }
    closedir(directory);
}

void
d2c_checkpoint_prune(const char *folder, int keep)
{
    char path[4096];
    int64_t step = INT64_MAX;
    int kept = 0;

    while ((step = latest_below(folder, step)) >= 0 && keep > 0)
        if (kept++ >= keep) {
            d2c_checkpoint_path(path, sizeof path, folder, step);
            unlink(path);
        }
}
