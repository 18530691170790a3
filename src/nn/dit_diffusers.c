/* dit_diffusers.c: names, configuration and files of diffusers' DiT (dit_diffusers.h). */
#include "nn/dit_diffusers.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/safetensors_header.h"
#include "nn/config_json.h"
#include "nn/model_files.h"

#define WEIGHTS_FILE "diffusion_pytorch_model.safetensors"
#define EMBEDDER "norm1.emb."

typedef struct translation {
    const char *ours, *theirs[D2C_NAME_PARTS];
} translation;

static const translation outside[] = {
    {"x_embedder.proj.", {"pos_embed.proj."}},
    {"final_layer.adaLN_modulation.1.", {"proj_out_1."}},
    {"final_layer.linear.", {"proj_out_2."}},
    {NULL, {NULL}},
};
/* Within a block, behind "transformer_blocks.N.". */
static const translation within[] = {
    {"attn.qkv.", {"attn1.to_q.", "attn1.to_k.", "attn1.to_v."}},
    {"attn.proj.", {"attn1.to_out.0."}},
    {"mlp.fc1.", {"ff.net.0.proj."}},
    {"mlp.fc2.", {"ff.net.2."}},
    {"adaLN_modulation.1.", {"norm1.linear."}},
    {NULL, {NULL}},
};
/* The same, of the embedders that every block repeats. */
static const translation embedders[] = {
    {"t_embedder.mlp.0.", {EMBEDDER "timestep_embedder.linear_1."}},
    {"t_embedder.mlp.2.", {EMBEDDER "timestep_embedder.linear_2."}},
    {"y_embedder.", {EMBEDDER "class_embedder."}},
    {NULL, {NULL}},
};

int
d2c_dit_diffusers_is(const d2c_weights *file)
{
    return d2c_weights_find(file, "transformer_blocks.0.norm1.linear.weight") != NULL &&
           d2c_weights_find(file, "pos_embed.proj.weight") != NULL;
}

/* ---- names ----------------------------------------------------------------------------------------------------- */

/* The parameter's names by that table, behind the head; 0 when it is not there. */
static int
translate(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *head, const translation *table,
          const char *parameter)
{
    int count = 0;

    while (table->ours != NULL && strncmp(parameter, table->ours, strlen(table->ours)) != 0)
        table++;
    for (; table->ours != NULL && count < D2C_NAME_PARTS && table->theirs[count] != NULL; count++)
        snprintf(name[count], D2C_NAME_SIZE, "%s%s%s", head, table->theirs[count],
                 parameter + strlen(table->ours));
    return count;
}

/* The embedder's names in that block. */
static int
embedder_name(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, int block)
{
    char head[48];

    snprintf(head, sizeof head, "transformer_blocks.%d.", block);
    return translate(name, head, embedders, parameter);
}

int
d2c_dit_diffusers_name(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter)
{
    int block, rest = 0, count;
    char head[48];

    if (sscanf(parameter, "blocks.%d.%n", &block, &rest) == 1 && rest > 0) {
        snprintf(head, sizeof head, "transformer_blocks.%d.", block);
        return translate(name, head, within, parameter + rest);
    }
    count = translate(name, "", outside, parameter);
    return count > 0 ? count : embedder_name(name, parameter, 0);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static d2c_status
shape_of(const d2c_st_tensor **tensor, const d2c_weights *file, const char *name, int ndim, d2c_error *err)
{
    int d;

    *tensor = d2c_weights_find(file, name);
    if (*tensor == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" is missing", name);
    for (d = 0; d < ndim; d++)
        if ((*tensor)->ndim != ndim || (*tensor)->dim[d] < 1 || (*tensor)->dim[d] > INT_MAX)
            return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has an unexpected shape", name);
    return D2C_OK;
}

static int
count_blocks(const d2c_weights *file)
{
    char name[80];
    int count = 0;

    do
        snprintf(name, sizeof name, "transformer_blocks.%d.norm1.linear.weight", count);
    while (d2c_weights_find(file, name) != NULL && ++count < 1024);
    return count;
}

/* Before diffusers 0.30 the class had a name that other networks share, whose norms are of another type. */
static d2c_status
check_class(const cJSON *json, d2c_error *err)
{
    const char *name = d2c_config_text(json, "_class_name");

    if (name != NULL && strcmp(name, "Transformer2DModel") == 0 && d2c_config_text(json, "norm_type") != NULL)
        return D2C_OK;
    return d2c_config_require(json, "_class_name", "DiTTransformer2DModel", err);
}

/* What the class can be made to compute, and this is not.  diffusers' own eps for the norm before the MLP is 1e-5, the
 * public DiT's, which is computed here, 1e-6. */
static d2c_status
check_json(const cJSON *json, d2c_error *err)
{
    float eps;

    if (json == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "config.json is missing");
    D2C_TRY(check_class(json, err));
    D2C_TRY(d2c_config_eps(&eps, json, "norm_eps", 1e-5f, err));
    if (eps > 1e-5f)
        return d2c_fail(err, D2C_UNSUPPORTED, "config.json: \"norm_eps\" above 1e-5 is not supported");
    D2C_TRY(d2c_config_require(json, "norm_type", "ada_norm_zero", err));
    D2C_TRY(d2c_config_require(json, "activation_fn", "gelu-approximate", err));
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "norm_elementwise_affine")))
        return d2c_fail(err, D2C_UNSUPPORTED, "config.json: norms with weights are not supported");
    return D2C_OK;
}

d2c_status
d2c_dit_diffusers_config(d2c_sit_config *config, const d2c_weights *file, const cJSON *json, d2c_error *err)
{
    const d2c_st_tensor *patch, *table, *last;

    memset(config, 0, sizeof *config);
    D2C_TRY(check_json(json, err));
    D2C_TRY(shape_of(&patch, file, "pos_embed.proj.weight", 4, err));
    D2C_TRY(shape_of(&table, file, "transformer_blocks.0." EMBEDDER "class_embedder.embedding_table.weight",
                     2, err));
    D2C_TRY(shape_of(&last, file, "proj_out_2.weight", 2, err));
    D2C_TRY(d2c_config_size(&config->heads, json, "num_attention_heads", 65536, err));
    D2C_TRY(d2c_config_size(&config->width, json, "sample_size", 8192, err));
    config->kind = D2C_SIT_KIND_DIT;
    config->depth = count_blocks(file);
    config->hidden = (int)patch->dim[0];
    config->channels = (int)patch->dim[1];
    config->patch = (int)patch->dim[2];
    config->height = config->width;
    config->classes = (int)table->dim[0] - 1;
    config->null_class = 1;
    if (patch->dim[2] != patch->dim[3] || config->patch > 256)
        return d2c_fail(err, D2C_BAD_MODEL, "tensor \"pos_embed.proj.weight\" has an unexpected shape");
    config->out_channels = (int)(last->dim[0] / ((int64_t)config->patch * config->patch));
    if (d2c_sit_config_check(config, err) == D2C_OK)
        return D2C_OK;
    return err != NULL ? err->status = D2C_BAD_MODEL : D2C_BAD_MODEL;
}

d2c_status
d2c_dit_diffusers_check(const d2c_sit_config *config, const d2c_weights *file, d2c_error *err)
{
    static const char *const parameter[] = {"t_embedder.mlp.0.weight", "t_embedder.mlp.0.bias",
                                            "t_embedder.mlp.2.weight", "t_embedder.mlp.2.bias",
                                            "y_embedder.embedding_table.weight"};
    char first[D2C_NAME_PARTS][D2C_NAME_SIZE], name[D2C_NAME_PARTS][D2C_NAME_SIZE];
    int block, i;

    for (i = 0; i < 5; i++) {
        const d2c_st_tensor *a;

        embedder_name(first, parameter[i], 0);
        a = d2c_weights_find(file, first[0]);
        for (block = 1; block < config->depth; block++) {
            const d2c_st_tensor *b;

            embedder_name(name, parameter[i], block);
            b = d2c_weights_find(file, name[0]);
            if (a == NULL || b == NULL)
                return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" is missing",
                                a == NULL ? first[0] : name[0]);
            if (a->dtype == b->dtype && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0)
                continue;
            d2c_fail(err, D2C_UNSUPPORTED, "the blocks' embedders of step and label differ");
            d2c_detail(err, "Tensor \"%s\" is not \"%s\".", name[0], first[0]);
            return D2C_UNSUPPORTED;
        }
    }
    return D2C_OK;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

typedef struct writing {
    d2c_st_item *item;
    char (*name)[D2C_NAME_SIZE];
    int count;
} writing;

/* Part `part` of the rows that `parts` tensors share. */
static void
put_item(writing *w, const d2c_st_item *from, const char *name, int part, int parts)
{
    d2c_st_item *item = &w->item[w->count];
    size_t bytes = (size_t)d2c_st_dtype_bits(from->dtype) / 8;
    int d;

    *item = *from;
    item->dim[0] /= parts;
    for (d = 0; d < item->ndim; d++)
        bytes *= (size_t)item->dim[d];
    item->data = (const char *)from->data + (size_t)part * bytes;
    snprintf(w->name[w->count], D2C_NAME_SIZE, "%s", name);
    item->name = w->name[w->count++];
}

static void
put_parameter(writing *w, const d2c_st_item *from, int depth)
{
    char name[D2C_NAME_PARTS][D2C_NAME_SIZE];
    int parts = d2c_dit_diffusers_name(name, from->name), part, block;

    for (part = 0; part < parts; part++)
        put_item(w, from, name[part], part, parts);
    for (block = 1; block < depth && embedder_name(name, from->name, block) > 0; block++)
        put_item(w, from, name[0], 0, 1);
}

static char *
print_config(const d2c_sit_config *c)
{
    cJSON *root = cJSON_CreateObject();
    char *text;

    cJSON_AddStringToObject(root, "_class_name", "DiTTransformer2DModel");
    cJSON_AddStringToObject(root, "activation_fn", "gelu-approximate");
    cJSON_AddBoolToObject(root, "attention_bias", 1);
    cJSON_AddNumberToObject(root, "attention_head_dim", c->hidden / c->heads);
    cJSON_AddNumberToObject(root, "in_channels", c->channels);
    cJSON_AddBoolToObject(root, "norm_elementwise_affine", 0);
    cJSON_AddNumberToObject(root, "norm_eps", 1e-6);
    cJSON_AddStringToObject(root, "norm_type", "ada_norm_zero");
    cJSON_AddNumberToObject(root, "num_attention_heads", c->heads);
    cJSON_AddNumberToObject(root, "num_embeds_ada_norm", c->classes);
    cJSON_AddNumberToObject(root, "num_layers", c->depth);
    cJSON_AddNumberToObject(root, "out_channels", c->out_channels);
    cJSON_AddNumberToObject(root, "patch_size", c->patch);
    cJSON_AddNumberToObject(root, "sample_size", c->width);
    text = cJSON_Print(root);
    cJSON_Delete(root);
    return text;
}

static d2c_status
write_config(const char *folder, const d2c_sit_config *config, d2c_error *err)
{
    char path[D2C_MODEL_PATH], *text = print_config(config);
    d2c_status status;

    if (text == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    snprintf(path, sizeof path, "%s/config.json", folder);
    status = d2c_file_write(path, text, strlen(text), err);
    cJSON_free(text);
    return status;
}

/* The configuration comes last: a folder without it is no model. */
d2c_status
d2c_dit_diffusers_write(const char *folder, const d2c_sit_config *config, const d2c_st_item *item, int count,
                        d2c_error *err)
{
    size_t most = (size_t)count * D2C_NAME_PARTS + 5 * (size_t)config->depth;
    writing w = {calloc(most, sizeof *w.item), calloc(most, sizeof *w.name), 0};
    d2c_st_pair format = {"format", "pt"};
    char path[D2C_MODEL_PATH];
    d2c_status status = D2C_OK;
    int i;

    if (w.item == NULL || w.name == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    else if (snprintf(path, sizeof path, "%s/" WEIGHTS_FILE, folder) >= (int)sizeof path)
        status = d2c_fail(err, D2C_INVALID_ARGUMENT, "the folder's name is too long");
    for (i = 0; i < count && status == D2C_OK; i++)
        put_parameter(&w, &item[i], config->depth);
    if (status == D2C_OK)
        status = d2c_make_directory(folder, err);
    if (status == D2C_OK)
        status = d2c_safetensors_write(path, w.item, w.count, &format, 1, err);
    if (status == D2C_OK)
        status = write_config(folder, config, err);
    free(w.item);
    free(w.name);
    return status;
}
