/* sit_io.c: a SiT's weights from and to files, and the plain class-conditional network within a larger one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/dit_diffusers.h"
#include "nn/sit_layers.h"

static const char label_table_name[] = "y_embedder.embedding_table.weight";

int
sit_name_in_file(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *closure)
{
    const sit_naming *n = closure;
    int block, first = 0, at = 0;

    if (n->prefix[0] == '\0' && d2c_dit_diffusers_is(n->file))
        return d2c_dit_diffusers_name(name, parameter);
    snprintf(name[0], D2C_NAME_SIZE, "%s%s", n->prefix, parameter);
    if (sscanf(parameter, "blocks.%d.%n", &block, &at) != 1 || at == 0 ||
        d2c_weights_has(n->file, n->prefix, parameter))
        return 1;
    do
        snprintf(name[0], D2C_NAME_SIZE, "%sblocks.%d.%s", n->prefix, first, parameter + at);
    while (d2c_weights_find(n->file, name[0]) != NULL && ++first < block);
    snprintf(name[0], D2C_NAME_SIZE, "%sdecoder_blocks.%d.%s", n->prefix, block - first, parameter + at);
    if (d2c_weights_find(n->file, name[0]) == NULL)
        snprintf(name[0], D2C_NAME_SIZE, "%s%s", n->prefix, parameter);
    return 1;
}

d2c_status
d2c_sit_load(d2c_sit *sit, d2c_backend *be, float *range, const d2c_weights *file, const char *prefix,
             d2c_error *err)
{
    const sit_naming naming = {file, prefix};

    return d2c_params_load_named(&sit->params, be, range, file, sit_name_in_file, &naming, err);
}

/* The config without the attachments. */
static d2c_status
plain_config(d2c_sit_config *plain, const d2c_sit_config *config, const float *label_table, d2c_error *err)
{
    *plain = *config;
    plain->text_tokens = plain->text_width = 0;
    plain->proj_block = plain->proj_hidden = plain->proj_width = 0;
    if (config->text_tokens > 0 && label_table == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "the text condition must be folded into a label table first");
    return D2C_OK;
}

static int
is_attachment(const d2c_param *p)
{
    return strncmp(p->name, "text_embedder.", 14) == 0 || strncmp(p->name, "projectors.", 11) == 0;
}

/* Copies a parameter from `range` (or the label table from the host) to the plain network's. */
static d2c_status
copy_parameter(d2c_sit *plain, d2c_backend *be, const d2c_params *params, const d2c_param *from,
               const float *range, const float *label_table, d2c_error *err)
{
    const d2c_param *to = d2c_params_find(&plain->params, from->name);
    size_t bytes = (size_t)from->count * sizeof(float);
    float *value = plain->params.value + to->offset;
    d2c_status status;

    if (label_table != NULL && strcmp(from->name, label_table_name) == 0)
        status = d2c_upload(be, value, label_table, bytes);
    else
        status = d2c_copy(be, value, d2c_params_at(params, from, range), bytes);
    return status == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

d2c_status
d2c_sit_plain(d2c_sit **plain, d2c_sit *sit, d2c_backend *be, const float *range, const float *label_table,
              d2c_error *err)
{
    d2c_sit_config config;
    d2c_status status = D2C_OK;
    int i;

    *plain = NULL;
    D2C_TRY(plain_config(&config, &sit->config, label_table, err));
    D2C_TRY(d2c_sit_create(plain, be, &config, sit->precision, 0, err));
    for (i = 0; i < sit->params.count && status == D2C_OK; i++)
        if (!is_attachment(&sit->params.item[i]))
            status = copy_parameter(*plain, be, &sit->params, &sit->params.item[i], range, label_table, err);
    if (status == D2C_OK)
        status = d2c_params_refresh(&(*plain)->params, be, err);
    if (status != D2C_OK) {
        d2c_sit_destroy(*plain, be);
        *plain = NULL;
    }
    return status;
}

/* What a file of the plain network is made of; values [params.total] on the host. */
static int
plain_items(d2c_st_item *item, const d2c_params *params, const float *values, const float *label_table)
{
    int count = 0, i, d;

    for (i = 0; i < params->count; i++) {
        const d2c_param *p = &params->item[i];
        d2c_st_item *next = &item[count];

        if (is_attachment(p))
            continue;
        count++;
        next->name = p->name;
        next->dtype = D2C_ST_F32;
        next->ndim = p->ndim;
        for (d = 0; d < p->ndim; d++)
            next->dim[d] = p->dim[d];
        next->data = p->mapped != NULL ? p->mapped : values + p->offset;
        if (label_table != NULL && strcmp(p->name, label_table_name) == 0)
            next->data = label_table;
    }
    return count;
}

/* values [params.total], items and pairs are buffers of the caller. */
static d2c_status
write_plain(const char *path, const d2c_sit *sit, d2c_backend *be, float *values, d2c_st_item *item,
            d2c_st_pair *pair, const float *range, const float *label_table, const d2c_st_pair *metadata,
            int pairs, d2c_error *err)
{
    d2c_sit_config config;
    char *json;
    d2c_status status;
    int items;

    D2C_TRY(plain_config(&config, &sit->config, label_table, err));
    if (d2c_download(be, values, range, (size_t)sit->params.total * sizeof *values) != D2C_OK)
        return d2c_backend_error(be, err);
    json = d2c_sit_config_json(&config);
    if (json == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    if (pairs > 0)
        memcpy(pair, metadata, (size_t)pairs * sizeof *pair);
    pair[pairs] = (d2c_st_pair){"d2c.sit", json};
    items = plain_items(item, &sit->params, values, label_table);
    status = d2c_safetensors_write(path, item, items, pair, pairs + 1, err);
    free(json);
    return status;
}

d2c_status
d2c_sit_save_plain(const char *path, d2c_sit *sit, d2c_backend *be, const float *range,
                   const float *label_table, const d2c_st_pair *metadata, int pairs, d2c_error *err)
{
    float *values = malloc((size_t)sit->params.total * sizeof *values);
    d2c_st_item *item = calloc((size_t)sit->params.count, sizeof *item);
    d2c_st_pair *pair = calloc((size_t)pairs + 1, sizeof *pair);
    d2c_status status;

    if (values == NULL || item == NULL || pair == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    else
        status = write_plain(path, sit, be, values, item, pair, range, label_table, metadata, pairs, err);
    free(values);
    free(item);
    free(pair);
    return status;
}
