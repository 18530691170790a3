/*
 * vit_config.c: a vision transformer's sizes and what its public code does with pictures.
 *
 * Keys of the description: "preprocess" ("repa", "huggingface"), "size" (256, 512; of REPA's crop), "position" ("hub",
 * "huggingface", "antialias"), "heads", "hidden_act".
 */
#include "nn/vit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn/config_json.h"

#define MAX_DEPTH 1024
#define MAX_HIDDEN (1 << 16)

/* ---- sizes, from the tensors --------------------------------------------------------------------------------------- */

static d2c_status
find(const d2c_st_tensor **tensor, int64_t *rows, const d2c_vit_names *names, const char *parameter,
     d2c_error *err)
{
    char name[D2C_NAME_PARTS][D2C_NAME_SIZE];

    *tensor = d2c_vit_names_tensor(names, parameter, rows);
    if (*tensor != NULL)
        return D2C_OK;
    d2c_vit_naming(name, parameter, names);
    return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" is missing", name[0]);
}

static d2c_status
fail_shape(const d2c_st_tensor *tensor, const char *needed, d2c_error *err)
{
    d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has the wrong shape", tensor->name);
    d2c_detail(err, "It must be %s.", needed);
    return D2C_BAD_MODEL;
}

/* hidden and patch, of [hidden, 3, patch, patch]. */
static d2c_status
read_patch(d2c_vit_config *c, const d2c_vit_names *names, d2c_error *err)
{
    const d2c_st_tensor *t;

    D2C_TRY(find(&t, NULL, names, "patch_embed.proj.weight", err));
    if (t->ndim != 4 || t->dim[0] < 1 || t->dim[0] > MAX_HIDDEN || t->dim[1] != 3 || t->dim[2] != t->dim[3] ||
        t->dim[2] < 4 || t->dim[2] > 64)
        return fail_shape(t, "[hidden, 3, patch, patch] with patches of 4 to 64 pixels", err);
    c->hidden = (int)t->dim[0];
    c->patch = (int)t->dim[2];
    c->patch_bias = names->kind != D2C_VIT_CLIP;
    return D2C_OK;
}

/* Rows of [1, rows, hidden] or [rows, hidden]; at least 1. */
static d2c_status
read_rows(int64_t *rows, const d2c_vit_config *c, const d2c_st_tensor *t, d2c_error *err)
{
    if (t->ndim < 1 || t->count < 1 || t->dim[t->ndim - 1] != c->hidden || t->count / c->hidden > 1 << 16)
        return fail_shape(t, "rows as wide as the network", err);
    *rows = t->count / c->hidden;
    return D2C_OK;
}

static d2c_status
read_tokens(d2c_vit_config *c, const d2c_vit_names *names, d2c_error *err)
{
    const d2c_st_tensor *t;
    int64_t rows;

    D2C_TRY(find(&t, NULL, names, "cls_token", err));
    D2C_TRY(read_rows(&rows, c, t, err));
    if (rows != 1)
        return fail_shape(t, "one row as wide as the network", err);
    D2C_TRY(find(&t, NULL, names, "pos_embed", err));
    D2C_TRY(read_rows(&rows, c, t, err));
    c->side = (int)lrint(sqrt((double)(rows - 1)));
    if (c->side < 1 || (int64_t)c->side * c->side != rows - 1)
        return fail_shape(t, "one row for the class token and one for each patch of a square", err);
    t = d2c_vit_names_tensor(names, "register_tokens", NULL);
    if (t == NULL)
        return D2C_OK;
    D2C_TRY(read_rows(&rows, c, t, err));
    c->registers = (int)rows;
    return D2C_OK;
}

static d2c_status
read_blocks(d2c_vit_config *c, const d2c_vit_names *names, d2c_error *err)
{
    const d2c_st_tensor *t;
    int64_t rows;

    c->depth = d2c_vit_names_depth(names);
    if (c->depth < 1 || c->depth > MAX_DEPTH)
        return d2c_fail(err, D2C_BAD_MODEL, "the tensors' names count %d blocks", c->depth);
    D2C_TRY(find(&t, &rows, names, "blocks.0.mlp.fc2.weight", err));
    if (t->ndim != 2 || t->dim[1] < 1 || t->dim[1] > 8 * (int64_t)MAX_HIDDEN)
        return fail_shape(t, "[hidden, intermediate]", err);
    c->intermediate = (int)t->dim[1];
    D2C_TRY(find(&t, &rows, names, "blocks.0.mlp.fc1.weight", err));
    c->gated = rows == 2 * (int64_t)c->intermediate;
    c->layer_scale = names->kind == D2C_VIT_DINOV2;
    c->pre_norm = names->kind == D2C_VIT_CLIP;
    c->last_norm = names->kind == D2C_VIT_DINOV2 || names->kind == D2C_VIT_MOCOV3;
    return D2C_OK;
}

/* ---- what tensors do not tell -------------------------------------------------------------------------------------- */

/* 64 wide heads, but for two of the published networks. */
static int
usual_heads(const d2c_vit_config *c, d2c_vit_kind kind)
{
    if (kind == D2C_VIT_MOCOV3 && c->hidden == 384)
        return 12;
    if (kind == D2C_VIT_MAE && c->hidden == 1280)
        return 16;
    return c->hidden % 64 == 0 ? c->hidden / 64 : 0;
}

static d2c_status
check_heads(const d2c_vit_config *c, d2c_error *err)
{
    if (c->heads > 0 && c->hidden % c->heads == 0)
        return D2C_OK;
    if (c->heads > 0)
        return d2c_fail(err, D2C_BAD_MODEL, "the width %d is no multiple of %d heads", c->hidden, c->heads);
    d2c_fail(err, D2C_BAD_MODEL, "the number of heads of a network %d wide is not known", c->hidden);
    d2c_hint(err, "Say it as \"heads\" in the model's description.");
    return D2C_BAD_MODEL;
}

/* A size that config.json repeats must be the tensors'. */
static d2c_status
check_size(const cJSON *json, const char *key, int has, d2c_error *err)
{
    int value;

    D2C_TRY(d2c_config_size_or(&value, json, key, INT32_MAX, has, err));
    if (value == has)
        return D2C_OK;
    return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" of config.json is %d, and the tensors' is %d", key, value,
                    has);
}

static d2c_status
read_config(d2c_vit_config *c, const d2c_vit_names *names, const d2c_model_files *files, d2c_error *err)
{
    const cJSON *both = cJSON_GetObjectItemCaseSensitive(files->config, "vision_config");
    const cJSON *json = cJSON_IsObject(both) ? both : files->config;
    int clip = names->kind == D2C_VIT_CLIP;

    c->act = clip ? D2C_ACT_GELU_QUICK : D2C_ACT_GELU_ERF;
    D2C_TRY(d2c_config_act(&c->act, files->description, "hidden_act", c->act, err));
    D2C_TRY(d2c_config_act(&c->act, json, "hidden_act", c->act, err));
    if (c->gated)
        c->act = D2C_ACT_SILU;
    D2C_TRY(d2c_config_eps(&c->eps, json, "layer_norm_eps", clip ? 1e-5f : 1e-6f, err));
    D2C_TRY(d2c_config_size_or(&c->heads, files->description, "heads", MAX_HIDDEN,
                               usual_heads(c, names->kind), err));
    D2C_TRY(d2c_config_size_or(&c->heads, json, "num_attention_heads", MAX_HIDDEN, c->heads, err));
    D2C_TRY(check_heads(c, err));
    D2C_TRY(check_size(json, "hidden_size", c->hidden, err));
    D2C_TRY(check_size(json, "num_hidden_layers", c->depth, err));
    return check_size(json, "patch_size", c->patch, err);
}

/* ---- pictures ------------------------------------------------------------------------------------------------------ */

/* The index of a text of the description among the choices, a list that ends with NULL; `otherwise` where it is absent. */
static d2c_status
choose(int *choice, const d2c_model_files *files, const char *key, const char *const *choices, int otherwise,
       d2c_error *err)
{
    const char *text = d2c_model_files_say(files, key);
    char all[128] = "";
    int i;

    *choice = otherwise;
    if (!cJSON_HasObjectItem(files->description, key))
        return D2C_OK;
    for (i = 0; choices[i] != NULL; i++) {
        if (text != NULL && strcmp(text, choices[i]) == 0) {
            *choice = i;
            return D2C_OK;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s\"%s\"", i > 0 ? ", " : "", choices[i]);
    }
    d2c_fail(err, D2C_BAD_MODEL, "the model's description has no valid \"%s\"", key);
    d2c_detail(err, "It is one of %s.", all);
    return D2C_BAD_MODEL;
}

/* 256 or 512: what REPA trains on. */
static d2c_status
read_crop(int *size, const d2c_model_files *files, d2c_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(files->description, "size");

    *size = 256;
    if (item == NULL)
        return D2C_OK;
    if (!cJSON_IsNumber(item) || (item->valuedouble != 256 && item->valuedouble != 512)) {
        d2c_fail(err, D2C_BAD_MODEL, "the model's description has no valid \"size\"");
        d2c_detail(err, "It is 256 or 512.");
        return D2C_BAD_MODEL;
    }
    *size = item->valueint;
    return D2C_OK;
}

static void
set_normalisation(d2c_vit_input *input, d2c_vit_kind kind)
{
    static const float imagenet[2][3] = {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
    static const float clip[2][3] = {{0.48145466f, 0.4578275f, 0.40821073f},
                                     {0.26862954f, 0.26130258f, 0.27577711f}};
    const float(*values)[3] = kind == D2C_VIT_CLIP ? clip : imagenet;

    memcpy(input->mean, values[0], sizeof input->mean);
    memcpy(input->deviation, values[1], sizeof input->deviation);
}

/* What REPA's preprocess_raw_image does with a picture of `size` pixels. */
static d2c_status
set_repa(d2c_vit_input *input, d2c_vit_kind kind, const d2c_model_files *files, d2c_error *err)
{
    int shrinks = kind == D2C_VIT_DINOV2 || kind == D2C_VIT_CLIP;

    D2C_TRY(read_crop(&input->size, files, err));
    input->recipe = kind == D2C_VIT_CLIP ? D2C_VIT_REPA_RESIZED : D2C_VIT_REPA_NORMALISED;
    input->edge = shrinks ? input->size / 256 * 224 : input->size;
    return D2C_OK;
}

/* DINOv2's processor resizes to 256 and crops 224; CLIP's does both to the size that the network was trained at. */
static d2c_status
set_huggingface(d2c_vit_input *input, const d2c_vit_config *c, d2c_vit_kind kind, d2c_error *err)
{
    if (kind != D2C_VIT_DINOV2 && kind != D2C_VIT_CLIP)
        return d2c_fail(err, D2C_UNSUPPORTED, "MAE and MoCo v3 have no \"preprocess\" but \"repa\"");
    input->recipe = D2C_VIT_HUGGINGFACE;
    input->size = kind == D2C_VIT_DINOV2 ? 256 : c->side * c->patch;
    input->edge = kind == D2C_VIT_DINOV2 ? 224 : input->size;
    return D2C_OK;
}

/* How the code that goes with the file and the recipe resamples positions. */
static d2c_position
usual_position(const d2c_vit_config *c, const d2c_vit_names *names)
{
    if (c->input.recipe != D2C_VIT_HUGGINGFACE || c->registers > 0)
        return D2C_POSITION_ANTIALIAS;
    return names->huggingface ? D2C_POSITION_HUGGINGFACE : D2C_POSITION_HUB;
}

static d2c_status
read_input(d2c_vit_config *c, const d2c_vit_names *names, const d2c_model_files *files, d2c_error *err)
{
    static const char *const recipes[] = {"repa", "huggingface", NULL};
    static const char *const positions[] = {"hub", "huggingface", "antialias", NULL};
    int recipe, position;

    D2C_TRY(choose(&recipe, files, "preprocess", recipes, 0, err));
    set_normalisation(&c->input, names->kind);
    if (recipe == 0)
        D2C_TRY(set_repa(&c->input, names->kind, files, err));
    else
        D2C_TRY(set_huggingface(&c->input, c, names->kind, err));
    D2C_TRY(choose(&position, files, "position", positions, usual_position(c, names), err));
    c->position = position;
    if (c->input.edge % c->patch != 0 || c->input.edge > 1024)
        return d2c_fail(err, D2C_BAD_MODEL, "pictures of %d pixels cannot be cut into patches of %d",
                        c->input.edge, c->patch);
    c->grid = c->input.edge / c->patch;
    return D2C_OK;
}

d2c_status
d2c_vit_config_read(d2c_vit_config *config, const d2c_vit_names *names, const d2c_model_files *files,
                    d2c_error *err)
{
    memset(config, 0, sizeof *config);
    if (names->uncertain) {
        d2c_fail(err, D2C_BAD_MODEL, "the tensors do not tell which vision transformer this is");
        d2c_hint(err, "Say \"kind\": \"mae\" or \"kind\": \"mocov3\" in the model's description.");
        return D2C_BAD_MODEL;
    }
    D2C_TRY(read_patch(config, names, err));
    D2C_TRY(read_tokens(config, names, err));
    D2C_TRY(read_blocks(config, names, err));
    D2C_TRY(read_config(config, names, files, err));
    return read_input(config, names, files, err);
}
