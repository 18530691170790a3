/* sit_config.c: what a SiT looks like: by name, from JSON, or from a file's tensors. */
#include <cjson/cJSON.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "nn/sit.h"

/* The public sizes (willisma/SiT models.py). */
static const struct {
    const char *name;
    int depth, hidden, heads;
} sizes[] = {
    {"S", 12, 384, 6},
    {"B", 12, 768, 12},
    {"L", 24, 1024, 16},
    {"XL", 28, 1152, 16},
};
#define SIZES (int)(sizeof sizes / sizeof sizes[0])

static const char *const path_names[] = {"linear", "gvp", "vp"};
static const char *const kind_names[] = {"sit", "dit", "repa"};

/* The JSON's integers, those last that files need not have, since older ones do not; limits keep every product of sizes far from overflow. */
static const struct {
    const char *name;
    size_t offset;
    int minimum, maximum;
} fields[] = {
    {"depth", offsetof(d2c_sit_config, depth), 1, 1024},
    {"hidden", offsetof(d2c_sit_config, hidden), 4, 65536},
    {"heads", offsetof(d2c_sit_config, heads), 1, 65536},
    {"patch", offsetof(d2c_sit_config, patch), 1, 256},
    {"channels", offsetof(d2c_sit_config, channels), 1, 1024},
    {"out_channels", offsetof(d2c_sit_config, out_channels), 1, 2048},
    {"height", offsetof(d2c_sit_config, height), 1, 8192},
    {"width", offsetof(d2c_sit_config, width), 1, 8192},
    {"classes", offsetof(d2c_sit_config, classes), 1, D2C_SIT_CLASSES_LIMIT},
    {"null_class", offsetof(d2c_sit_config, null_class), 0, 1},
    {"text_tokens", offsetof(d2c_sit_config, text_tokens), 0, 4096},
    {"text_width", offsetof(d2c_sit_config, text_width), 0, 65536},
    {"proj_block", offsetof(d2c_sit_config, proj_block), 0, 1024},
    {"proj_hidden", offsetof(d2c_sit_config, proj_hidden), 0, 65536},
    {"proj_width", offsetof(d2c_sit_config, proj_width), 0, 65536},
    {"qk_norm", offsetof(d2c_sit_config, qk_norm), 0, 1},
};
#define FIELDS (int)(sizeof fields / sizeof fields[0])
#define REQUIRED (FIELDS - 1)

static int *
field_of(d2c_sit_config *config, int field)
{
    return (int *)((char *)config + fields[field].offset);
}

int
d2c_sit_tokens(const d2c_sit_config *config)
{
    return (config->height / config->patch) * (config->width / config->patch);
}

int
d2c_sit_outputs(const d2c_sit_config *config)
{
    return config->kind == D2C_SIT_KIND_DIT ? config->out_channels : config->channels;
}

const char *
d2c_sit_kind_name(d2c_sit_kind kind)
{
    return kind_names[kind];
}

/* What the public codes of each kind have. */
static d2c_status
check_kind(const d2c_sit_config *c, d2c_error *err)
{
    if ((int)c->kind < D2C_SIT_KIND_SIT || (int)c->kind > D2C_SIT_KIND_REPA)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "unknown kind %d", (int)c->kind);
    if (c->kind == D2C_SIT_KIND_DIT && c->out_channels != 2 * c->channels)
        return d2c_fail(
            err, D2C_INVALID_ARGUMENT,
            "a network of kind \"dit\" has twice as many output channels as its %d channels, not %d",
            c->channels, c->out_channels);
    if (c->kind == D2C_SIT_KIND_DIT && c->path != D2C_PATH_LINEAR)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a network of kind \"dit\" has no path \"%s\"",
                        path_names[c->path]);
    if (c->kind == D2C_SIT_KIND_REPA && c->path == D2C_PATH_VP)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a network of kind \"repa\" has no path \"vp\"");
    return D2C_OK;
}

/* Fields that must fit each other; each is in its range already. */
static d2c_status
check_fit(const d2c_sit_config *c, d2c_error *err)
{
    if (c->hidden % 4 != 0 || c->hidden % c->heads != 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "hidden size %d must be a multiple of 4 and of the %d heads", c->hidden, c->heads);
    if (c->height % c->patch != 0 || c->width % c->patch != 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "input of %dx%d does not divide into patches of %d",
                        c->width, c->height, c->patch);
    if (c->out_channels != c->channels && c->out_channels != 2 * c->channels)
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "out_channels must be channels (%d) or twice as many, not %d", c->channels,
                        c->out_channels);
    if ((c->text_tokens == 0) != (c->text_width == 0))
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "text_tokens and text_width must be given together");
    if (c->proj_block > c->depth)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "proj_block %d is beyond the network's depth of %d",
                        c->proj_block, c->depth);
    if (c->proj_block > 0 && (c->proj_hidden == 0 || c->proj_width == 0))
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "proj_block needs proj_hidden and proj_width");
    if (d2c_sit_tokens(c) > 1 << 20)
        return d2c_fail(err, D2C_TOO_LARGE, "%d tokens an image are too many", d2c_sit_tokens(c));
    return D2C_OK;
}

int
d2c_sit_config_same(const d2c_sit_config *a, const d2c_sit_config *b, char *difference, size_t size)
{
    d2c_sit_config x = *a, y = *b;
    int field;

    x.proj_block = x.proj_hidden = x.proj_width = y.proj_block = y.proj_hidden = y.proj_width = 0;
    if (x.kind != y.kind) {
        snprintf(difference, size, "kind: %s, not %s", kind_names[x.kind], kind_names[y.kind]);
        return 0;
    }
    for (field = 0; field < FIELDS; field++)
        if (*field_of(&x, field) != *field_of(&y, field)) {
            snprintf(difference, size, "%s: %d, not %d", fields[field].name, *field_of(&x, field),
                     *field_of(&y, field));
            return 0;
        }
    return 1;
}

d2c_status
d2c_sit_config_check(const d2c_sit_config *config, d2c_error *err)
{
    d2c_sit_config copy = *config;
    int field;

    for (field = 0; field < FIELDS; field++) {
        int value = *field_of(&copy, field);

        if (value < fields[field].minimum || value > fields[field].maximum)
            return d2c_fail(err, D2C_INVALID_ARGUMENT, "%s %d is outside %d..%d", fields[field].name, value,
                            fields[field].minimum, fields[field].maximum);
    }
    if ((int)config->path < D2C_PATH_LINEAR || (int)config->path > D2C_PATH_VP)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "unknown path %d", (int)config->path);
    D2C_TRY(check_kind(config, err));
    return check_fit(config, err);
}

/* "SiT-XL/2", "DiT-XL/2" */
d2c_status
d2c_sit_preset(d2c_sit_config *config, const char *name, d2c_error *err)
{
    const char *family = config->kind == D2C_SIT_KIND_DIT ? "DiT" : "SiT";
    char size[3], rest;
    int patch, i;

    if (strncmp(name, family, 3) == 0 && sscanf(name + 3, "-%2[SBLX]/%d%c", size, &patch, &rest) == 2 &&
        (patch == 2 || patch == 4 || patch == 8)) {
        for (i = 0; i < SIZES; i++) {
            if (strcmp(size, sizes[i].name) != 0)
                continue;
            config->depth = sizes[i].depth;
            config->hidden = sizes[i].hidden;
            config->heads = sizes[i].heads;
            config->patch = patch;
            return D2C_OK;
        }
    }
    d2c_fail(err, D2C_INVALID_ARGUMENT, "unknown model \"%s\"", name);
    d2c_hint(err, "Models of kind \"%s\" are %s-S, %s-B, %s-L and %s-XL with patch size /2, /4 or /8.",
             kind_names[config->kind], family, family, family, family);
    return D2C_INVALID_ARGUMENT;
}

char *
d2c_sit_config_json(const d2c_sit_config *config)
{
    d2c_sit_config copy = *config;
    cJSON *root = cJSON_CreateObject();
    char *text;
    int field;

    for (field = 0; field < FIELDS; field++)
        if (field < REQUIRED || *field_of(&copy, field) != 0)
            cJSON_AddNumberToObject(root, fields[field].name, *field_of(&copy, field));
    cJSON_AddStringToObject(root, "path", path_names[config->path]);
    if (config->kind != D2C_SIT_KIND_SIT)
        cJSON_AddStringToObject(root, "kind", kind_names[config->kind]);
    text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

/* The JSON's texts come behind its integers. */
#define PATH FIELDS
#define KIND (FIELDS + 1)

static int
field_by_name(const char *name)
{
    int field;

    for (field = 0; field < FIELDS; field++)
        if (strcmp(fields[field].name, name) == 0)
            return field;
    if (strcmp(name, "path") == 0)
        return PATH;
    return strcmp(name, "kind") == 0 ? KIND : -1;
}

int
d2c_sit_kind_by_name(d2c_sit_kind *kind, const char *name)
{
    int i;

    for (i = 0; name != NULL && i < 3; i++)
        if (strcmp(name, kind_names[i]) == 0) {
            *kind = (d2c_sit_kind)i;
            return 1;
        }
    return 0;
}

const char *
d2c_sit_path_name(d2c_path path)
{
    return path_names[path];
}

/* name may be NULL */
static d2c_status
parse_path(d2c_path *path, const char *name, d2c_error *err)
{
    int i;

    for (i = 0; name != NULL && i < 3; i++) {
        if (strcmp(name, path_names[i]) == 0) {
            *path = (d2c_path)i;
            return D2C_OK;
        }
    }
    return d2c_fail(err, D2C_BAD_MODEL, "the network's \"path\" must be \"linear\", \"gvp\" or \"vp\"");
}

static d2c_status
parse_kind(d2c_sit_kind *kind, const cJSON *item, d2c_error *err)
{
    if (cJSON_IsString(item) && d2c_sit_kind_by_name(kind, item->valuestring))
        return D2C_OK;
    return d2c_fail(err, D2C_BAD_MODEL, "the network's \"kind\" must be \"sit\", \"dit\" or \"repa\"");
}

/* One member of the object; *seen has a bit for each. */
static d2c_status
parse_member(d2c_sit_config *config, unsigned *seen, const cJSON *item, d2c_error *err)
{
    int field = field_by_name(item->string);

    if (field < 0)
        return d2c_fail(err, D2C_BAD_MODEL, "unknown field \"%s\" in the network's description",
                        item->string);
    if (*seen & 1u << field)
        return d2c_fail(err, D2C_BAD_MODEL, "field \"%s\" appears twice in the network's description",
                        item->string);
    *seen |= 1u << field;
    if (field == PATH)
        return parse_path(&config->path, cJSON_GetStringValue(item), err);
    if (field == KIND)
        return parse_kind(&config->kind, item, err);
    if (!cJSON_IsNumber(item) || item->valuedouble != (double)item->valueint)
        return d2c_fail(err, D2C_BAD_MODEL, "field \"%s\" of the network's description is no integer",
                        item->string);
    *field_of(config, field) = item->valueint;
    return D2C_OK;
}

/* The check, where it is a file that is wrong and not the caller. */
static d2c_status
check_of_file(const d2c_sit_config *config, d2c_error *err)
{
    if (d2c_sit_config_check(config, err) == D2C_OK)
        return D2C_OK;
    if (err != NULL)
        err->status = D2C_BAD_MODEL;
    return D2C_BAD_MODEL;
}

static d2c_status
parse_object(d2c_sit_config *config, const cJSON *root, d2c_error *err)
{
    const cJSON *item;
    unsigned seen = 0;
    int field;

    if (!cJSON_IsObject(root))
        return d2c_fail(err, D2C_BAD_MODEL, "the network's description is no JSON object");
    for (item = root->child; item != NULL; item = item->next)
        D2C_TRY(parse_member(config, &seen, item, err));
    for (field = 0; field <= PATH; field++)
        if (!(seen & 1u << field) && (field < REQUIRED || field == PATH))
            return d2c_fail(err, D2C_BAD_MODEL, "field \"%s\" is missing in the network's description",
                            field == PATH ? "path" : fields[field].name);
    return check_of_file(config, err);
}

d2c_status
d2c_sit_config_parse(d2c_sit_config *config, const char *json, d2c_error *err)
{
    cJSON *root = cJSON_ParseWithOpts(json, NULL, 1);
    d2c_status status;

    memset(config, 0, sizeof *config);
    status = parse_object(config, root, err);
    cJSON_Delete(root);
    return status;
}

/* ---- from the tensors of a public file ---------------------------------------------------------------------- */

/* The tensor "prefix + name", whose dims must be as many as said. */
static d2c_status
shape_of(const d2c_st_tensor **tensor, const d2c_weights *file, const char *prefix, const char *name,
         int ndim, d2c_error *err)
{
    char full[160];
    int d;

    snprintf(full, sizeof full, "%s%s", prefix, name);
    *tensor = d2c_weights_find(file, full);
    if (*tensor == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "the file has no tensor \"%s\"", full);
    if ((*tensor)->ndim != ndim)
        return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has %d dimensions instead of %d", full,
                        (*tensor)->ndim, ndim);
    for (d = 0; d < ndim; d++)
        if ((*tensor)->dim[d] < 1 || (*tensor)->dim[d] > INT_MAX)
            return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has a dimension of %lld", full,
                            (long long)(*tensor)->dim[d]);
    return D2C_OK;
}

static int
has_tensor(const d2c_weights *file, const char *prefix, const char *name)
{
    char full[160];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    return d2c_weights_find(file, full) != NULL;
}

/* Only d2c writes text embedders. */
static d2c_status
refuse_text(const d2c_weights *file, const char *prefix, d2c_error *err)
{
    if (!has_tensor(file, prefix, "text_embedder.conv.weight"))
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "the file has a text embedder but no \"d2c.sit\" metadata");
    d2c_hint(err, "Files with a text condition are read as d2c writes them.");
    return D2C_UNSUPPORTED;
}

/* The kind that an official file's name begins with. */
static int
kind_of_name(d2c_sit_kind *kind, const char *name)
{
    if (name == NULL || (strncasecmp(name, "SiT-", 4) != 0 && strncasecmp(name, "DiT-", 4) != 0))
        return 0;
    *kind = name[0] == 'D' || name[0] == 'd' ? D2C_SIT_KIND_DIT : D2C_SIT_KIND_SIT;
    return 1;
}

/* Whether there are two outputs for each input, as the published SiT and DiT have, and REPA has not. */
static int
has_two_outputs(const d2c_weights *file, const char *prefix)
{
    const d2c_st_tensor *patch, *last;

    return shape_of(&patch, file, prefix, "x_embedder.proj.weight", 4, NULL) == D2C_OK &&
           shape_of(&last, file, prefix, "final_layer.linear.weight", 2, NULL) == D2C_OK &&
           last->dim[0] == 2 * (patch->count / patch->dim[0]);
}

int
d2c_sit_kind_told(d2c_sit_kind *kind, const d2c_weights *file, const char *prefix, const d2c_sit_hints *hints)
{
    int projectors = has_tensor(file, prefix, "projectors.0.0.weight");

    if (hints != NULL && hints->kind != NULL)
        return d2c_sit_kind_by_name(kind, hints->kind);
    if (hints != NULL && kind_of_name(kind, hints->name))
        return !projectors && has_two_outputs(file, prefix);
    *kind = D2C_SIT_KIND_REPA;
    return projectors;
}

/* What to say when the kind is not told, or not one that there is. */
static d2c_status
ask_for_kind(const d2c_sit_config *c, const d2c_sit_hints *hints, d2c_error *err)
{
    if (hints != NULL && hints->kind != NULL)
        d2c_fail(err, D2C_BAD_MODEL, "the description's \"kind\" is \"%s\", not \"sit\", \"dit\" or \"repa\"",
                 hints->kind);
    else {
        d2c_fail(err, D2C_BAD_MODEL, "what the network predicts cannot be told from the file");
        d2c_detail(
            err, "The tensors of SiT, DiT and REPA are alike; with %d output channels for %d it may be %s.",
            c->out_channels, c->channels, c->out_channels == c->channels ? "SiT or REPA" : "SiT or DiT");
    }
    d2c_hint(err, "Say it in NAME.json beside the file, or in NAME/d2c.json: {\"kind\": \"%s\"}.",
             c->out_channels == c->channels ? "repa" : "dit");
    return D2C_BAD_MODEL;
}

static d2c_status
find_heads(d2c_sit_config *config, const d2c_sit_hints *hints, d2c_error *err)
{
    int i;

    if (hints != NULL && hints->heads > 0) {
        config->heads = hints->heads;
        return D2C_OK;
    }
    for (i = 0; i < SIZES; i++) {
        if (sizes[i].depth == config->depth && sizes[i].hidden == config->hidden) {
            config->heads = sizes[i].heads;
            return D2C_OK;
        }
    }
    d2c_fail(err, D2C_BAD_MODEL, "the number of attention heads cannot be told from the file");
    d2c_detail(err, "Depth %d and hidden size %d are none of the public sizes.", config->depth,
               config->hidden);
    d2c_hint(err, "Say it in NAME.json beside the file, or in NAME/d2c.json: {\"heads\": 16}.");
    return D2C_BAD_MODEL;
}

/* The integer r with r*r = square, or 0. */
static int
exact_root(int64_t square)
{
    int root = 1;

    while ((int64_t)root * root < square)
        root++;
    return (int64_t)root * root == square ? root : 0;
}

/* How many blocks lie one after another under that name. */
static int
count_blocks(const d2c_weights *file, const char *prefix, const char *list)
{
    char name[64];
    int count = 0;

    do
        snprintf(name, sizeof name, "%s.%d.attn.qkv.weight", list, count);
    while (has_tensor(file, prefix, name) && ++count < 1024);
    return count;
}

/* REPA-E's latents are normalised by statistics that its network carries. */
static d2c_status
refuse_latent_norm(const d2c_weights *file, const char *prefix, d2c_error *err)
{
    if (!has_tensor(file, prefix, "bn.running_mean"))
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "the network normalises its latents (REPA-E), which is not supported");
    d2c_detail(err, "It has a tensor \"%sbn.running_mean\".", prefix);
    return D2C_UNSUPPORTED;
}

static d2c_status
config_from_shapes(d2c_sit_config *c, const d2c_weights *file, const char *prefix, const d2c_sit_hints *hints,
                   d2c_error *err)
{
    const d2c_st_tensor *patch, *position, *table, *last;
    int grid;

    D2C_TRY(shape_of(&patch, file, prefix, "x_embedder.proj.weight", 4, err));
    D2C_TRY(shape_of(&position, file, prefix, "pos_embed", 3, err));
    D2C_TRY(shape_of(&table, file, prefix, "y_embedder.embedding_table.weight", 2, err));
    D2C_TRY(shape_of(&last, file, prefix, "final_layer.linear.weight", 2, err));
    D2C_TRY(refuse_text(file, prefix, err));
    D2C_TRY(refuse_latent_norm(file, prefix, err));
    c->depth = count_blocks(file, prefix, "blocks") + count_blocks(file, prefix, "decoder_blocks");
    c->qk_norm = has_tensor(file, prefix, "blocks.0.attn.q_norm.weight");
    c->hidden = (int)patch->dim[0];
    c->channels = (int)patch->dim[1];
    c->patch = (int)patch->dim[2];
    c->classes = (int)table->dim[0] - 1;
    c->null_class = 1;
    grid = exact_root(position->dim[1] <= 1 << 20 ? position->dim[1] : 0);
    if (grid == 0 || patch->dim[2] != patch->dim[3] || c->patch > 256)
        return d2c_fail(err, D2C_BAD_MODEL,
                        "the input's size cannot be told from the file: %lld tokens of %lldx%lld",
                        (long long)position->dim[1], (long long)patch->dim[3], (long long)patch->dim[2]);
    c->height = c->width = grid * c->patch;
    c->out_channels = (int)(last->dim[0] / ((int64_t)c->patch * c->patch));
    if (!d2c_sit_kind_told(&c->kind, file, prefix, hints))
        return ask_for_kind(c, hints, err);
    if (hints != NULL && hints->path != NULL)
        D2C_TRY(parse_path(&c->path, hints->path, err));
    return find_heads(c, hints, err);
}

/* ---- from the description that d2c writes --------------------------------------------------------------------- */

/* The tensor must have this shape; d1 to d3 are 0 where there are fewer dimensions. */
static d2c_status
expect_shape(const d2c_weights *file, const char *prefix, const char *name, int64_t d0, int64_t d1,
             int64_t d2, int64_t d3, d2c_error *err)
{
    const int64_t dim[4] = {d0, d1, d2, d3};
    const d2c_st_tensor *tensor;
    int ndim = 1, d;

    while (ndim < 4 && dim[ndim] != 0)
        ndim++;
    D2C_TRY(shape_of(&tensor, file, prefix, name, ndim, err));
    for (d = 0; d < ndim; d++) {
        if (tensor->dim[d] == dim[d])
            continue;
        d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s%s\" does not fit the network's description", prefix, name);
        d2c_detail(err, "Dimension %d is %lld instead of %lld.", d, (long long)tensor->dim[d],
                   (long long)dim[d]);
        return D2C_BAD_MODEL;
    }
    return D2C_OK;
}

/* Every size of the description is found in a tensor, so that a file cannot ask for more memory than it is worth. */
static d2c_status
check_against_file(const d2c_sit_config *c, const d2c_weights *file, const char *prefix, d2c_error *err)
{
    int64_t D = c->hidden, H = c->proj_hidden;
    char name[64];
    int block;

    D2C_TRY(expect_shape(file, prefix, "x_embedder.proj.weight", D, c->channels, c->patch, c->patch, err));
    D2C_TRY(expect_shape(file, prefix, "pos_embed", 1, d2c_sit_tokens(c), D, 0, err));
    D2C_TRY(expect_shape(file, prefix, "y_embedder.embedding_table.weight", c->classes + c->null_class, D, 0,
                         0, err));
    D2C_TRY(expect_shape(file, prefix, "final_layer.linear.weight",
                         (int64_t)c->patch * c->patch * c->out_channels, D, 0, 0, err));
    for (block = 0; block < c->depth; block++) {
        snprintf(name, sizeof name, "blocks.%d.attn.qkv.weight", block);
        D2C_TRY(expect_shape(file, prefix, name, 3 * D, D, 0, 0, err));
    }
    if (c->text_tokens > 0)
        D2C_TRY(expect_shape(file, prefix, "text_embedder.conv.weight", D, c->text_width, c->text_tokens, 0,
                             err));
    if (c->proj_block > 0) {
        D2C_TRY(expect_shape(file, prefix, "projectors.0.2.weight", H, H, 0, 0, err));
        D2C_TRY(expect_shape(file, prefix, "projectors.0.4.weight", c->proj_width, H, 0, 0, err));
    }
    return D2C_OK;
}

d2c_status
d2c_sit_config_read(d2c_sit_config *config, const d2c_weights *file, const char *prefix,
                    const d2c_sit_hints *hints, d2c_error *err)
{
    const char *json = d2c_weights_metadata(file, "d2c.sit");

    if (json != NULL) {
        D2C_TRY(d2c_sit_config_parse(config, json, err));
        return check_against_file(config, file, prefix, err);
    }
    memset(config, 0, sizeof *config);
    D2C_TRY(config_from_shapes(config, file, prefix, hints, err));
    return check_of_file(config, err);
}
