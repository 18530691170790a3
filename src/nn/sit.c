/* sit.c: a SiT's parameters: registration, the table of weights, initial values. */
#include "nn/sit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "nn/dit_diffusers.h"
#include "nn/sit_layers.h"
#include "ops/backend.h"

/* ---- registration ------------------------------------------------------------------------------------------- */

typedef struct registrar {
    d2c_params *params;
    int apart; /* adaLN's layers are used one by one, so that each may lie where a file has it */
    d2c_error *err;
} registrar;

static d2c_status
add(const registrar *r, const char *name, d2c_init init, int ndim, int64_t d0, int64_t d1, int64_t d2,
    int64_t d3)
{
    const int64_t dim[4] = {d0, d1, d2, d3};

    return d2c_params_add(r->params, name, init, 1, ndim, dim, r->err);
}

/* name.weight [out, in] and name.bias [out] */
static d2c_status
add_linear(const registrar *r, const char *name, d2c_init init, int64_t out, int64_t in)
{
    char full[128];

    snprintf(full, sizeof full, "%s.weight", name);
    D2C_TRY(add(r, full, init, 2, out, in, 1, 1));
    snprintf(full, sizeof full, "%s.bias", name);
    return add(r, full, D2C_INIT_ZERO, 1, out, 1, 1, 1);
}

static d2c_status
add_embedders(const registrar *r, const d2c_sit_config *c)
{
    int64_t D = c->hidden;

    D2C_TRY(add(r, "x_embedder.proj.weight", D2C_INIT_XAVIER, 4, D, c->channels, c->patch, c->patch));
    D2C_TRY(add(r, "x_embedder.proj.bias", D2C_INIT_ZERO, 1, D, 1, 1, 1));
    D2C_TRY(add_linear(r, "t_embedder.mlp.0", D2C_INIT_NORMAL02, D, SIT_FREQUENCIES));
    D2C_TRY(add_linear(r, "t_embedder.mlp.2", D2C_INIT_NORMAL02, D, D));
    D2C_TRY(add(r, "y_embedder.embedding_table.weight", D2C_INIT_NORMAL02, 2, c->classes + c->null_class, D,
                1, 1));
    return D2C_OK;
}

/* REPA's norms of queries and keys, one for all heads of a block. */
static d2c_status
add_head_norms(const registrar *r, const d2c_sit_config *c, int block)
{
    static const char *const norm[] = {"q_norm", "k_norm"};
    int64_t width = c->hidden / c->heads;
    char name[96];
    int i;

    for (i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "blocks.%d.attn.%s.weight", block, norm[i]);
        D2C_TRY(add(r, name, D2C_INIT_ONE, 1, width, 1, 1, 1));
        snprintf(name, sizeof name, "blocks.%d.attn.%s.bias", block, norm[i]);
        D2C_TRY(add(r, name, D2C_INIT_ZERO, 1, width, 1, 1, 1));
    }
    return D2C_OK;
}

static d2c_status
add_block(const registrar *r, const d2c_sit_config *c, int block)
{
    static const struct {
        const char *name;
        int out, in; /* in units of the hidden size */
    } layer[] = {{"attn.qkv", 3, 1}, {"attn.proj", 1, 1}, {"mlp.fc1", 4, 1}, {"mlp.fc2", 1, 4}};
    char name[96];
    int i;

    for (i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "blocks.%d.%s", block, layer[i].name);
        D2C_TRY(add_linear(r, name, D2C_INIT_XAVIER, (int64_t)layer[i].out * c->hidden,
                           (int64_t)layer[i].in * c->hidden));
        r->params->item[r->params->count - 2].eight = c->hidden % 16 == 0; /* the weight, before its bias */
    }
    return c->qk_norm ? add_head_norms(r, c, block) : D2C_OK;
}

/* Weights (or biases) of every adaLN layer; back to back unless apart, so that one product serves all. */
static d2c_status
add_adaln(const registrar *r, const d2c_sit_config *c, const char *kind, int ndim)
{
    char name[96];
    int block;

    for (block = 0; block <= c->depth; block++) {
        const int64_t dim[2] = {(int64_t)(block < c->depth ? SIT_VECTORS : 2) * c->hidden, c->hidden};

        if (block < c->depth)
            snprintf(name, sizeof name, "blocks.%d.adaLN_modulation.1.%s", block, kind);
        else
            snprintf(name, sizeof name, "final_layer.adaLN_modulation.1.%s", kind);
        D2C_TRY((block == 0 || r->apart ? d2c_params_add : d2c_params_add_group)(
            r->params, name, D2C_INIT_ZERO, 1, ndim, dim, r->err));
    }
    return D2C_OK;
}

static d2c_status
add_attachments(const registrar *r, const d2c_sit_config *c)
{
    int64_t D = c->hidden, H = c->proj_hidden;

    if (c->text_tokens > 0) {
        D2C_TRY(
            add(r, "text_embedder.conv.weight", D2C_INIT_NORMAL02, 3, D, c->text_width, c->text_tokens, 1));
        D2C_TRY(add(r, "text_embedder.conv.bias", D2C_INIT_ZERO, 1, D, 1, 1, 1));
        D2C_TRY(add_linear(r, "text_embedder.mlp.0", D2C_INIT_XAVIER, D, D));
        D2C_TRY(add_linear(r, "text_embedder.mlp.2", D2C_INIT_XAVIER, D, D));
    }
    if (c->proj_block > 0) {
        D2C_TRY(add_linear(r, "projectors.0.0", D2C_INIT_XAVIER, H, D));
        D2C_TRY(add_linear(r, "projectors.0.2", D2C_INIT_XAVIER, H, H));
        D2C_TRY(add_linear(r, "projectors.0.4", D2C_INIT_XAVIER, c->proj_width, H));
    }
    return D2C_OK;
}

static d2c_status
register_parameters(d2c_sit *sit, int apart, d2c_error *err)
{
    const d2c_sit_config *c = &sit->config;
    const registrar r = {&sit->params, apart, err};
    const int64_t position[3] = {1, d2c_sit_tokens(c), c->hidden};
    int block;

    D2C_TRY(add_embedders(&r, c));
    for (block = 0; block < c->depth; block++)
        D2C_TRY(add_block(&r, c, block));
    D2C_TRY(add_adaln(&r, c, "weight", 2));
    D2C_TRY(add_adaln(&r, c, "bias", 1));
    D2C_TRY(add_linear(&r, "final_layer.linear", D2C_INIT_ZERO,
                       (int64_t)c->patch * c->patch * c->out_channels, c->hidden));
    D2C_TRY(add_attachments(&r, c));
    return d2c_params_add(&sit->params, "pos_embed", D2C_INIT_GIVEN, 0, 3, position, err);
}

/* ---- the table of weights ----------------------------------------------------------------------------------- */

/* The group of all adaLN layers as one linear layer. */
static d2c_weight
adaln_weight(const d2c_params *params, const d2c_sit_config *c)
{
    const d2c_param *first = d2c_params_find(params, "blocks.0.adaLN_modulation.1.weight");
    const d2c_param *bias = d2c_params_find(params, "blocks.0.adaLN_modulation.1.bias");
    int64_t in = c->hidden, out = ((int64_t)SIT_VECTORS * c->depth + 2) * in;
    d2c_weight w = {.value = d2c_tensor2(params->value + first->offset, D2C_F32, out, in),
                    .bias = d2c_tensor1(params->value + bias->offset, D2C_F32, out)};

    if (params->shadow != NULL)
        w.shadow = d2c_tensor2(params->shadow + first->offset, D2C_BF16, out, in);
    if (params->grad != NULL) {
        w.grad = d2c_tensor2(params->grad + first->offset, D2C_F32, out, in);
        w.bias_grad = d2c_tensor1(params->grad + bias->offset, D2C_F32, out);
    }
    return w;
}

static d2c_weight
block_weight(const d2c_params *params, int block, const char *layer)
{
    char name[96];

    snprintf(name, sizeof name, "blocks.%d.%s", block, layer);
    return d2c_params_linear(params, name);
}

/* The adaLN layer of a block, or of the final layer behind them. */
static d2c_weight
adaln_apart(const d2c_params *params, const d2c_sit_config *c, int block)
{
    return block < c->depth ? block_weight(params, block, "adaLN_modulation.1")
                            : d2c_params_linear(params, "final_layer.adaLN_modulation.1");
}

static void
fill_head_norms(sit_block *w, const d2c_params *p, int block)
{
    static const char *const norm[] = {"q_norm", "k_norm"};
    char name[96];
    int i;

    for (i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "blocks.%d.attn.%s.weight", block, norm[i]);
        w->gamma[i] = d2c_params_tensor(p, name, p->value);
        snprintf(name, sizeof name, "blocks.%d.attn.%s.bias", block, norm[i]);
        w->beta[i] = d2c_params_tensor(p, name, p->value);
        if (p->grad == NULL)
            continue;
        w->beta_grad[i] = d2c_params_tensor(p, name, p->grad);
        snprintf(name, sizeof name, "blocks.%d.attn.%s.weight", block, norm[i]);
        w->gamma_grad[i] = d2c_params_tensor(p, name, p->grad);
    }
}

static void
fill_layers(sit_layers *layers, const d2c_sit *sit)
{
    const d2c_params *p = &sit->params;
    const d2c_sit_config *c = &sit->config;
    d2c_tensor position = d2c_params_tensor(p, "pos_embed", p->value);
    int i;

    layers->patch = d2c_params_linear(p, "x_embedder.proj");
    layers->time1 = d2c_params_linear(p, "t_embedder.mlp.0");
    layers->time2 = d2c_params_linear(p, "t_embedder.mlp.2");
    layers->final = d2c_params_linear(p, "final_layer.linear");
    if (layers->adaln_apart == NULL)
        layers->adaln = adaln_weight(p, c);
    for (i = 0; layers->adaln_apart != NULL && i <= c->depth; i++)
        layers->adaln_apart[i] = adaln_apart(p, c, i);
    layers->table = d2c_params_tensor(p, "y_embedder.embedding_table.weight", p->value);
    if (p->grad != NULL)
        layers->table_grad = d2c_params_tensor(p, "y_embedder.embedding_table.weight", p->grad);
    layers->position = d2c_tensor2(position.data, D2C_F32, d2c_sit_tokens(c), c->hidden);
    for (i = 0; i < c->depth; i++) {
        layers->block[i].qkv = block_weight(p, i, "attn.qkv");
        layers->block[i].proj = block_weight(p, i, "attn.proj");
        layers->block[i].fc1 = block_weight(p, i, "mlp.fc1");
        layers->block[i].fc2 = block_weight(p, i, "mlp.fc2");
        if (c->qk_norm)
            fill_head_norms(&layers->block[i], p, i);
    }
    if (c->text_tokens > 0)
        layers->text = dc_weights_at(p, p->value);
    if (c->proj_block > 0) {
        layers->projector[0] = d2c_params_linear(p, "projectors.0.0");
        layers->projector[1] = d2c_params_linear(p, "projectors.0.2");
        layers->projector[2] = d2c_params_linear(p, "projectors.0.4");
    }
}

static d2c_status
make_layers(d2c_sit *sit, int training, int apart, d2c_error *err)
{
    sit_layers *layers = calloc(1, sizeof *layers);
    size_t depth = (size_t)sit->config.depth;

    sit->layers = layers;
    if (layers == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    layers->block = calloc(depth, sizeof *layers->block);
    if (training)
        layers->saved = calloc(depth, sizeof *layers->saved);
    if (apart)
        layers->adaln_apart = calloc(depth + 1, sizeof *layers->adaln_apart);
    if (layers->block == NULL || (training && layers->saved == NULL) ||
        (apart && layers->adaln_apart == NULL))
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    return D2C_OK;
}

/* ---- the position table ------------------------------------------------------------------------------------- */

/* Sines, then cosines, of one coordinate; out [half]. */
static void
position_half(float *out, int coordinate, int half)
{
    int quarter = half / 2;
    int k;

    for (k = 0; k < quarter; k++) {
        double angle = coordinate / pow(10000.0, (double)k / quarter);

        out[k] = (float)sin(angle);
        out[quarter + k] = (float)cos(angle);
    }
}

/* The first half encodes the column, the second the row. */
void
sit_position_table(float *table, const d2c_sit_config *config)
{
    int columns = config->width / config->patch;
    int tokens = d2c_sit_tokens(config);
    int half = config->hidden / 2;
    int token;

    for (token = 0; token < tokens; token++) {
        float *row = table + (size_t)token * config->hidden;

        position_half(row, token % columns, half);
        position_half(row + half, token / columns, half);
    }
}

static d2c_status
upload_positions(d2c_sit *sit, d2c_backend *be, d2c_error *err)
{
    const d2c_param *position = d2c_params_find(&sit->params, "pos_embed");
    size_t bytes = (size_t)position->count * sizeof(float);
    float *table = malloc(bytes);
    d2c_status status;

    if (table == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    sit_position_table(table, &sit->config);
    status = d2c_upload(be, sit->params.value + position->offset, table, bytes);
    free(table);
    return status == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

/* ---- creation ------------------------------------------------------------------------------------------------ */

/* Parameters and tables, all without values. */
static d2c_status
outline(d2c_sit **sit, const d2c_sit_config *config, d2c_dtype precision, int training, int apart,
        d2c_error *err)
{
    d2c_status status;

    *sit = NULL;
    D2C_TRY(d2c_sit_config_check(config, err));
    *sit = calloc(1, sizeof **sit);
    if (*sit == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    (*sit)->config = *config;
    (*sit)->precision = precision == D2C_F8 ? D2C_BF16 : precision;
    (*sit)->eight = precision == D2C_F8;
    status = register_parameters(*sit, apart, err);
    if (status == D2C_OK)
        status = make_layers(*sit, training, apart, err);
    if (status != D2C_OK) {
        d2c_sit_destroy(*sit, NULL);
        *sit = NULL;
    }
    return status;
}

d2c_status
d2c_sit_outline(d2c_sit **sit, const d2c_sit_config *config, d2c_dtype precision, d2c_error *err)
{
    return outline(sit, config, precision, 1, 0, err);
}

d2c_status
d2c_sit_create(d2c_sit **sit, d2c_backend *be, const d2c_sit_config *config, d2c_dtype precision,
               int training, d2c_error *err)
{
    d2c_status status;

    *sit = NULL;
    D2C_TRY(d2c_precision_check(be, precision, err));
    if (training && precision == D2C_F8)
        return d2c_fail(err, D2C_UNSUPPORTED, "a network is not trained in fp8");
    D2C_TRY(outline(sit, config, precision, training, 0, err));
    status = d2c_params_allocate(&(*sit)->params, be, precision != D2C_F32, training, err);
    if (status == D2C_OK && precision == D2C_F8)
        status = d2c_params_allocate_eight(&(*sit)->params, be, err);
    if (status == D2C_OK)
        status = upload_positions(*sit, be, err);
    if (status == D2C_OK)
        fill_layers((*sit)->layers, *sit);
    else {
        d2c_sit_destroy(*sit, be);
        *sit = NULL;
    }
    return status;
}

d2c_status
d2c_sit_open(d2c_sit **sit, d2c_backend *be, const d2c_sit_config *config, d2c_dtype precision,
             d2c_weights *file, const char *prefix, d2c_error *err)
{
    int apart = precision == D2C_F32 && d2c_backend_is_host(be);
    const sit_naming naming = {file, prefix};
    d2c_status status;

    *sit = NULL;
    D2C_TRY(d2c_precision_check(be, precision, err));
    D2C_TRY(outline(sit, config, precision, 0, apart, err));
    status = d2c_params_open(&(*sit)->params, be, precision, file, sit_name_in_file, &naming, err);
    if (status == D2C_OK && d2c_dit_diffusers_is(file))
        status = upload_positions(*sit, be, err);
    if (status == D2C_OK)
        fill_layers((*sit)->layers, *sit);
    else {
        d2c_sit_destroy(*sit, be);
        *sit = NULL;
    }
    return status;
}

void
d2c_sit_destroy(d2c_sit *sit, d2c_backend *be)
{
    sit_layers *layers;

    if (sit == NULL)
        return;
    layers = sit->layers;
    if (layers != NULL) {
        free(layers->adaln_apart);
        free(layers->block);
        free(layers->saved);
        free(layers);
    }
    d2c_params_free(&sit->params, be);
    free(sit);
}

d2c_status
d2c_sit_initialize(d2c_sit *sit, d2c_backend *be, uint64_t seed, d2c_error *err)
{
    return d2c_params_initialize(&sit->params, be, seed, err);
}
