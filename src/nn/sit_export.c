/* sit_export.c: the tensors of a file under their public names into another one (sit_export.h). */
#include "nn/sit_export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/safetensors_header.h"
#include "nn/dit_diffusers.h"
#include "nn/sit_layers.h"
#include "nn/torch_write.h"

typedef struct exporting {
    const d2c_sit_export *how;
    d2c_sit_config config; /* of what is written */
    const d2c_weights *file;
    const char *prefix;
    d2c_st_item *item;
    int count;
    void *wide[2]; /* the final layer's weight and bias with twice the rows, or NULL */
    d2c_error *err;
} exporting;

/* What is written: no text condition, no projector of d2c's own description, perhaps two outputs. */
static d2c_status
config_of(exporting *e, const d2c_sit_config *config)
{
    e->config = *config;
    e->config.text_tokens = e->config.text_width = 0;
    e->config.proj_block = e->config.proj_hidden = e->config.proj_width = 0;
    if (config->text_tokens > 0 && e->how->label_table == NULL)
        return d2c_fail(e->err, D2C_INVALID_ARGUMENT,
                        "the text condition must be folded into a label table first");
    if (e->how->diffusers && config->kind != D2C_SIT_KIND_DIT) {
        d2c_fail(e->err, D2C_UNSUPPORTED, "diffusers has no network for a model of kind \"%s\"",
                 d2c_sit_kind_name(config->kind));
        d2c_detail(e->err, "Its DiTTransformer2DModel is called with steps 0 to 999 and predicts noise; this "
                           "model predicts a velocity at times 0 to 1.");
        return D2C_UNSUPPORTED;
    }
    if (e->how->diffusers && !config->null_class)
        return d2c_fail(e->err, D2C_UNSUPPORTED,
                        "diffusers' layout needs a label for no class, which the model has not");
    if (!e->how->two_outputs || config->out_channels != config->channels)
        return D2C_OK;
    if (config->kind != D2C_SIT_KIND_SIT) {
        d2c_fail(e->err, D2C_INVALID_ARGUMENT, "only SiT has outputs that are dropped");
        d2c_detail(e->err, "The network is of kind \"%s\", whose code uses every output.",
                   d2c_sit_kind_name(config->kind));
        return D2C_INVALID_ARGUMENT;
    }
    e->config.out_channels = 2 * config->channels;
    return D2C_OK;
}

/* Output (pixel, channel) is row pixel * C + channel, and pixel * 2C + channel of the wide layer; the others are zero. */
static d2c_status
widen(void **wide, d2c_st_item *item, int channels, d2c_error *err)
{
    size_t rows = (size_t)item->dim[0], row = (size_t)d2c_st_dtype_bits(item->dtype) / 8, i;
    size_t run = (size_t)channels;

    if (item->ndim == 2)
        row *= (size_t)item->dim[1];
    *wide = calloc(2 * rows, row);
    if (*wide == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < rows; i += run)
        memcpy((char *)*wide + 2 * i * row, (const char *)item->data + i * row, run * row);
    item->data = *wide;
    item->dim[0] *= 2;
    return D2C_OK;
}

static d2c_status
put_tensor(exporting *e, const char *name, const d2c_st_tensor *tensor)
{
    d2c_st_item *item = &e->item[e->count++];

    item->name = name;
    item->dtype = tensor->dtype;
    item->ndim = tensor->ndim;
    memcpy(item->dim, tensor->dim, sizeof item->dim);
    item->data = tensor->data;
    if (e->how->label_table != NULL && strcmp(name, "y_embedder.embedding_table.weight") == 0) {
        item->dtype = D2C_ST_F32;
        item->data = e->how->label_table;
    }
    if (strncmp(name, "final_layer.linear.", 19) == 0 &&
        tensor->dim[0] != (int64_t)e->config.patch * e->config.patch * e->config.out_channels)
        return widen(&e->wide[strcmp(name + 19, "bias") == 0], item, e->config.channels, e->err);
    return D2C_OK;
}

/* The network's parameters, whose shapes were checked. */
static d2c_status
put_parameters(exporting *e, const d2c_params *params)
{
    const sit_naming naming = {e->file, e->prefix};
    char name[D2C_NAME_PARTS][D2C_NAME_SIZE];
    int i;

    for (i = 0; i < params->count; i++) {
        sit_name_in_file(name, params->item[i].name, &naming);
        D2C_TRY(put_tensor(e, params->item[i].name, d2c_weights_find(e->file, name[0])));
    }
    return D2C_OK;
}

static d2c_status
put_projectors(exporting *e)
{
    size_t length = strlen(e->prefix);
    int i, before = e->count;

    for (i = 0; i < d2c_weights_count(e->file); i++) {
        const d2c_st_tensor *tensor = d2c_weights_at(e->file, i);

        if (strncmp(tensor->name, e->prefix, length) == 0 &&
            strncmp(tensor->name + length, "projectors.", 11) == 0)
            D2C_TRY(put_tensor(e, tensor->name + length, tensor));
    }
    if (e->count == before)
        return d2c_fail(e->err, D2C_INVALID_ARGUMENT, "the network has no projectors");
    return D2C_OK;
}

/* diffusers computes the positions, so they must be those that it computes. */
static d2c_status
check_positions(const exporting *e)
{
    const sit_naming naming = {e->file, e->prefix};
    char name[D2C_NAME_PARTS][D2C_NAME_SIZE];
    size_t count = (size_t)d2c_sit_tokens(&e->config) * (size_t)e->config.hidden, i;
    float *values = malloc(2 * count * sizeof *values), far = 0;
    const d2c_st_tensor *positions;
    d2c_status status;

    if (values == NULL)
        return d2c_fail(e->err, D2C_NO_MEMORY, "out of memory");
    sit_name_in_file(name, "pos_embed", &naming);
    positions = d2c_weights_find(e->file, name[0]);
    sit_position_table(values, &e->config);
    status = d2c_st_tensor_to_f32(values + count, positions, (int64_t)count, e->err);
    for (i = 0; i < count && status == D2C_OK; i++)
        far = fmaxf(far, fabsf(values[i] - values[count + i]));
    free(values);
    D2C_TRY(status);
    if (far <= (positions->dtype == D2C_ST_F32 ? 1e-4f : 1e-2f))
        return D2C_OK;
    d2c_fail(e->err, D2C_UNSUPPORTED, "the model's positions are not those that diffusers computes");
    d2c_detail(e->err, "They differ by up to %.2g from the table of sines and cosines.", (double)far);
    return D2C_UNSUPPORTED;
}

static d2c_status
write_items(const char *path, exporting *e)
{
    d2c_st_pair pair = {"d2c.sit", NULL};
    d2c_status status;
    char *json;

    if (e->how->diffusers)
        return d2c_dit_diffusers_write(path, &e->config, e->item, e->count, e->err);
    if (e->how->torch)
        return d2c_torch_write(path, e->item, e->count, e->how->within, e->err);
    json = d2c_sit_config_json(&e->config);
    if (json == NULL)
        return d2c_fail(e->err, D2C_NO_MEMORY, "out of memory");
    pair.value = json;
    status = d2c_safetensors_write(path, e->item, e->count, &pair, 1, e->err);
    free(json);
    return status;
}

/* The outline has the file's number of outputs, so that its tensors can be checked. */
static d2c_status
export_network(const char *path, exporting *e, const d2c_sit *outline)
{
    const sit_naming naming = {e->file, e->prefix};

    D2C_TRY(d2c_params_check_named(&outline->params, e->file, sit_name_in_file, &naming, e->err));
    e->item = calloc((size_t)outline->params.count + (size_t)d2c_weights_count(e->file), sizeof *e->item);
    if (e->item == NULL)
        return d2c_fail(e->err, D2C_NO_MEMORY, "out of memory");
    D2C_TRY(put_parameters(e, &outline->params));
    if (e->how->projectors)
        D2C_TRY(put_projectors(e));
    if (e->how->diffusers)
        D2C_TRY(check_positions(e));
    return write_items(path, e);
}

d2c_status
d2c_sit_export_file(const char *path, const d2c_sit_config *config, const d2c_weights *file,
                    const char *prefix, const d2c_sit_export *how, d2c_error *err)
{
    exporting e = {.how = how, .file = file, .prefix = prefix, .err = err};
    d2c_sit_config plain;
    d2c_sit *outline;
    d2c_status status;

    D2C_TRY(config_of(&e, config));
    plain = e.config;
    plain.out_channels = config->out_channels;
    D2C_TRY(d2c_sit_outline(&outline, &plain, D2C_F32, err));
    status = export_network(path, &e, outline);
    d2c_sit_destroy(outline, NULL);
    free(e.item);
    free(e.wide[0]);
    free(e.wide[1]);
    return status;
}
