/*
 * vit.c: vision transformers on ops.h (vit.h).
 *
 * The stream is [class token, registers, patches].  The first two have no input, so with the class token's position they
 * are one table that is copied in front of every picture.
 */
#include "nn/vit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

typedef struct norm {
    d2c_tensor gamma, beta;
} norm;

typedef struct layer {
    d2c_weight qkv, attention, up, down;
    d2c_tensor scale1, scale2; /* [1, D]; absent without LayerScale */
    norm norm1, norm2;
} layer;

/* The weights by use; vit->layers. */
typedef struct network {
    d2c_weight patch;
    d2c_tensor prefix, positions;
    norm pre_norm, norm;
    layer layer[];
} network;

/* The buffers of one picture; T tokens, P of them patches.  Operands of products are in the vit's precision, the rest is
 * f32. */
typedef struct buffers {
    d2c_tensor picture; /* [1, 3, edge, edge] */
    d2c_tensor patches; /* [1, P, 3 * patch * patch] */
    d2c_tensor stream;  /* [1, T, D] */
    d2c_tensor branch;  /* [1, T, D]: what is added to the stream */
    d2c_tensor operand; /* [1, T, D]: the stream, normalised */
    d2c_tensor qkv;     /* [1, T, 3D] */
    d2c_tensor context; /* [1, T, D] */
    d2c_tensor middle;  /* [T, intermediate], twice as wide where it is gated */
    d2c_tensor gated;   /* [T, intermediate]; middle itself where it is not */
} buffers;

static int64_t
prefix_rows(const d2c_vit_config *c)
{
    return 1 + c->registers;
}

static int64_t
patch_count(const d2c_vit_config *c)
{
    return (int64_t)c->grid * c->grid;
}

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

/* Adds [rows, columns] or, with columns 0, [rows], as "base.last". */
static d2c_status
add(d2c_params *params, const char *base, const char *last, int64_t rows, int64_t columns, d2c_error *err)
{
    char name[sizeof params->item->name];
    int64_t dim[2] = {rows, columns};

    snprintf(name, sizeof name, "%s.%s", base, last);
    return d2c_params_add(params, name, D2C_INIT_GIVEN, 0, columns > 0 ? 2 : 1, dim, err);
}

/* A linear layer and its bias. */
static d2c_status
add_linear(d2c_params *params, const char *base, int64_t out, int64_t in, d2c_error *err)
{
    D2C_TRY(add(params, base, "weight", out, in, err));
    return add(params, base, "bias", out, 0, err);
}

static d2c_status
add_norm(d2c_params *params, const char *base, int64_t width, d2c_error *err)
{
    D2C_TRY(add(params, base, "weight", width, 0, err));
    return add(params, base, "bias", width, 0, err);
}

static const char *
block_name(char name[64], int index, const char *part)
{
    snprintf(name, 64, "blocks.%d.%s", index, part);
    return name;
}

static d2c_status
add_block(d2c_params *params, const d2c_vit_config *c, int i, d2c_error *err)
{
    int64_t hidden = c->hidden, wide = c->intermediate;
    char name[64];

    D2C_TRY(add_norm(params, block_name(name, i, "norm1"), hidden, err));
    D2C_TRY(add_linear(params, block_name(name, i, "attn.qkv"), 3 * hidden, hidden, err));
    D2C_TRY(add_linear(params, block_name(name, i, "attn.proj"), hidden, hidden, err));
    D2C_TRY(add_norm(params, block_name(name, i, "norm2"), hidden, err));
    D2C_TRY(add_linear(params, block_name(name, i, "mlp.fc1"), c->gated ? 2 * wide : wide, hidden, err));
    D2C_TRY(add_linear(params, block_name(name, i, "mlp.fc2"), hidden, wide, err));
    if (!c->layer_scale)
        return D2C_OK;
    D2C_TRY(add(params, block_name(name, i, "ls1"), "gamma", hidden, 0, err));
    return add(params, block_name(name, i, "ls2"), "gamma", hidden, 0, err);
}

static d2c_status
add_params(d2c_params *params, const d2c_vit_config *c, d2c_error *err)
{
    const int64_t dim[4] = {c->hidden, 3, c->patch, c->patch};
    int i;

    D2C_TRY(d2c_params_add(params, "patch_embed.proj.weight", D2C_INIT_GIVEN, 0, 4, dim, err));
    if (c->patch_bias)
        D2C_TRY(d2c_params_add(params, "patch_embed.proj.bias", D2C_INIT_GIVEN, 0, 1, dim, err));
    if (c->pre_norm)
        D2C_TRY(add_norm(params, "pre_norm", c->hidden, err));
    for (i = 0; i < c->depth; i++)
        D2C_TRY(add_block(params, c, i, err));
    return c->last_norm ? add_norm(params, "norm", c->hidden, err) : D2C_OK;
}

static d2c_status
load_params(d2c_vit *vit, d2c_backend *be, const d2c_vit_names *names, d2c_error *err)
{
    d2c_params *params = &vit->params;

    D2C_TRY(add_params(params, &vit->config, err));
    D2C_TRY(d2c_params_check_named(params, names->file, d2c_vit_naming, names, err));
    D2C_TRY(d2c_params_allocate(params, be, vit->precision == D2C_BF16, 0, err));
    return d2c_params_load_named(params, be, params->value, names->file, d2c_vit_naming, names, err);
}

/* ---- the tables that are made of the file's ------------------------------------------------------------------------ */

/* Host copies of what the tables are made of, and the tables: freed by make_tables. */
typedef struct tables {
    float *file;      /* [1 + side * side, D] */
    float *prefix;    /* [1 + registers, D] */
    float *positions; /* [grid * grid, D] */
} tables;

static d2c_status
read_rows(float *out, const d2c_vit_names *names, const char *parameter, int64_t count, d2c_error *err)
{
    return d2c_st_tensor_to_f32(out, d2c_vit_names_tensor(names, parameter, NULL), count, err);
}

/* The class token gets its position here; registers have none. */
static d2c_status
fill_tables(tables *t, const d2c_vit_config *c, const d2c_vit_names *names, d2c_error *err)
{
    int64_t width = c->hidden, i;

    D2C_TRY(read_rows(t->file, names, "pos_embed", (1 + (int64_t)c->side * c->side) * width, err));
    D2C_TRY(read_rows(t->prefix, names, "cls_token", width, err));
    for (i = 0; i < width; i++)
        t->prefix[i] += t->file[i];
    if (c->registers > 0)
        D2C_TRY(read_rows(t->prefix + width, names, "register_tokens", c->registers * width, err));
    return d2c_position_resample(t->positions, c->grid, t->file + width, c->side, c->hidden, c->position,
                                 err);
}

static d2c_status
upload_tables(d2c_vit *vit, d2c_backend *be, const tables *t, d2c_error *err)
{
    const d2c_vit_config *c = &vit->config;
    const int64_t prefix[2] = {prefix_rows(c), c->hidden}, positions[2] = {patch_count(c), c->hidden};
    d2c_params *made = &vit->made;

    D2C_TRY(d2c_params_add(made, "prefix", D2C_INIT_GIVEN, 0, 2, prefix, err));
    D2C_TRY(d2c_params_add(made, "positions", D2C_INIT_GIVEN, 0, 2, positions, err));
    D2C_TRY(d2c_params_allocate(made, be, 0, 0, err));
    D2C_TRY(d2c_params_put(made, be, made->value, "prefix", t->prefix, err));
    return d2c_params_put(made, be, made->value, "positions", t->positions, err);
}

static d2c_status
make_tables(d2c_vit *vit, d2c_backend *be, const d2c_vit_names *names, d2c_error *err)
{
    const d2c_vit_config *c = &vit->config;
    size_t row = (size_t)c->hidden * sizeof(float), side = (size_t)c->side;
    tables t = {malloc((1 + side * side) * row), malloc((size_t)prefix_rows(c) * row),
                malloc((size_t)patch_count(c) * row)};
    d2c_status status = D2C_NO_MEMORY;

    if (t.file == NULL || t.prefix == NULL || t.positions == NULL)
        d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    else
        status = fill_tables(&t, c, names, err);
    if (status == D2C_OK)
        status = upload_tables(vit, be, &t, err);
    free(t.file);
    free(t.prefix);
    free(t.positions);
    return status;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static norm
get_norm(const d2c_params *params, const char *base)
{
    char name[sizeof params->item->name];
    norm result;

    snprintf(name, sizeof name, "%s.weight", base);
    result.gamma = d2c_params_tensor(params, name, params->value);
    snprintf(name, sizeof name, "%s.bias", base);
    result.beta = d2c_params_tensor(params, name, params->value);
    return result;
}

/* A LayerScale as the gate of one picture, [1, D]; absent where there is none. */
static d2c_tensor
get_scale(const d2c_params *params, const char *name)
{
    d2c_tensor t = d2c_params_tensor(params, name, params->value);

    return t.data == NULL ? t : d2c_tensor2(t.data, D2C_F32, 1, t.dim[0]);
}

static void
get_layer(layer *l, const d2c_params *params, int i)
{
    char name[64];

    l->norm1 = get_norm(params, block_name(name, i, "norm1"));
    l->qkv = d2c_params_linear(params, block_name(name, i, "attn.qkv"));
    l->attention = d2c_params_linear(params, block_name(name, i, "attn.proj"));
    l->scale1 = get_scale(params, block_name(name, i, "ls1.gamma"));
    l->norm2 = get_norm(params, block_name(name, i, "norm2"));
    l->up = d2c_params_linear(params, block_name(name, i, "mlp.fc1"));
    l->down = d2c_params_linear(params, block_name(name, i, "mlp.fc2"));
    l->scale2 = get_scale(params, block_name(name, i, "ls2.gamma"));
}

static d2c_status
make_network(d2c_vit *vit, d2c_error *err)
{
    const d2c_params *params = &vit->params;
    network *net = malloc(sizeof *net + (size_t)vit->config.depth * sizeof net->layer[0]);
    int i;

    if (net == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    net->patch = d2c_params_linear(params, "patch_embed.proj");
    net->prefix = d2c_params_tensor(&vit->made, "prefix", vit->made.value);
    net->positions = d2c_params_tensor(&vit->made, "positions", vit->made.value);
    net->pre_norm = get_norm(params, "pre_norm");
    net->norm = get_norm(params, "norm");
    for (i = 0; i < vit->config.depth; i++)
        get_layer(&net->layer[i], params, i);
    vit->layers = net;
    return D2C_OK;
}

static d2c_status
open_parts(d2c_vit *vit, d2c_backend *be, const d2c_vit_names *names, const d2c_model_files *files,
           d2c_error *err)
{
    D2C_TRY(d2c_vit_config_read(&vit->config, names, files, err));
    D2C_TRY(load_params(vit, be, names, err));
    D2C_TRY(make_tables(vit, be, names, err));
    return make_network(vit, err);
}

d2c_status
d2c_vit_open(d2c_vit **vit, d2c_backend *be, const d2c_vit_names *names, const d2c_model_files *files,
             d2c_dtype precision, d2c_error *err)
{
    d2c_status status;
    d2c_vit *v;

    *vit = NULL;
    D2C_TRY(d2c_precision_check(be, precision, err));
    v = calloc(1, sizeof *v);
    if (v == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    v->precision = precision == D2C_F32 ? D2C_F32 : D2C_BF16;
    status = open_parts(v, be, names, files, err);
    if (status != D2C_OK) {
        d2c_vit_close(v, be);
        return status;
    }
    *vit = v;
    return D2C_OK;
}

void
d2c_vit_close(d2c_vit *vit, d2c_backend *be)
{
    if (vit == NULL)
        return;
    d2c_params_free(&vit->params, be);
    d2c_params_free(&vit->made, be);
    free(vit->layers);
    free(vit);
}

/* ---- forward ------------------------------------------------------------------------------------------------------- */

static d2c_tensor
take(d2c_arena *arena, d2c_dtype dtype, int64_t rows, int64_t columns)
{
    void *data = d2c_arena_alloc(arena, (size_t)rows * (size_t)columns * d2c_dtype_size(dtype));

    return d2c_tensor3(data, dtype, 1, rows, columns);
}

static void
make_buffers(buffers *b, const d2c_vit *vit, d2c_arena *arena)
{
    const d2c_vit_config *c = &vit->config;
    int64_t P = patch_count(c), T = prefix_rows(c) + P, D = c->hidden, edge = c->input.edge;
    d2c_dtype dtype = vit->precision;

    b->picture = take(arena, D2C_F32, 3 * edge, edge);
    b->picture = d2c_tensor4(b->picture.data, D2C_F32, 1, 3, edge, edge);
    b->patches = take(arena, dtype, P, (int64_t)3 * c->patch * c->patch);
    b->stream = take(arena, D2C_F32, T, D);
    b->branch = take(arena, D2C_F32, T, D);
    b->operand = take(arena, dtype, T, D);
    b->qkv = take(arena, dtype, T, 3 * D);
    b->context = take(arena, dtype, T, D);
    b->middle = take(arena, dtype, T, (c->gated ? 2 : 1) * (int64_t)c->intermediate);
    b->gated = c->gated ? take(arena, dtype, T, c->intermediate) : b->middle;
}

/* The first `rows` rows that are patches. */
static d2c_tensor
patch_rows(d2c_tensor t, const d2c_vit_config *c, int64_t rows)
{
    return d2c_tensor3((float *)t.data + prefix_rows(c) * c->hidden, D2C_F32, 1, rows, c->hidden);
}

/* stream = [prefix, patches + positions], normalised where the network begins with a norm. */
static d2c_status
embed(const d2c_vit *vit, d2c_backend *be, const buffers *b)
{
    const d2c_vit_config *c = &vit->config;
    const network *net = vit->layers;
    d2c_tensor x = c->pre_norm ? b->branch : b->stream, patches = patch_rows(x, c, patch_count(c));

    D2C_TRY(d2c_patchify(be, b->patches, b->picture, c->patch, D2C_PATCH_CHANNEL_FIRST));
    D2C_TRY(d2c_linear_forward(be, patches, d2c_absent(), b->patches, &net->patch, D2C_ACT_NONE));
    D2C_TRY(d2c_add_rows(be, patches, net->positions));
    D2C_TRY(d2c_copy(be, x.data, net->prefix.data, (size_t)d2c_tensor_count(net->prefix) * sizeof(float)));
    if (!c->pre_norm)
        return D2C_OK;
    return d2c_layernorm_forward(be, b->stream, d2c_absent(), x, net->pre_norm.gamma, net->pre_norm.beta,
                                 c->eps);
}

/* stream += branch, scaled where there is a scale. */
static d2c_status
join(d2c_backend *be, const buffers *b, d2c_tensor scale)
{
    if (scale.data != NULL)
        return d2c_gate_residual_forward(be, b->stream, b->branch, scale);
    return d2c_axpby(be, b->stream, 1, b->branch, 1);
}

static d2c_status
run_attention(const d2c_vit *vit, d2c_backend *be, const buffers *b, const layer *l)
{
    const d2c_vit_config *c = &vit->config;
    float scale = 1.0f / sqrtf((float)(c->hidden / c->heads));

    D2C_TRY(d2c_layernorm_forward(be, b->operand, d2c_absent(), b->stream, l->norm1.gamma, l->norm1.beta,
                                  c->eps));
    D2C_TRY(d2c_linear_forward(be, b->qkv, d2c_absent(), b->operand, &l->qkv, D2C_ACT_NONE));
    D2C_TRY(d2c_attention_forward(be, b->context, d2c_absent(), b->qkv, d2c_absent(), c->heads, scale));
    D2C_TRY(d2c_linear_forward(be, b->branch, d2c_absent(), b->context, &l->attention, D2C_ACT_NONE));
    return join(be, b, l->scale1);
}

/* gated = act(gate) * value, the halves of middle. */
static d2c_status
run_gate(const d2c_vit *vit, d2c_backend *be, const buffers *b)
{
    int64_t rows = b->middle.dim[1], wide = vit->config.intermediate;
    char *data = b->middle.data;
    d2c_dtype dtype = b->middle.dtype;
    d2c_tensor gate = d2c_rows(data, dtype, rows, wide, 2 * wide);
    d2c_tensor value = d2c_rows(data + (size_t)wide * d2c_dtype_size(dtype), dtype, rows, wide, 2 * wide);

    return d2c_glu_forward(be, b->gated, gate, value, vit->config.act);
}

static d2c_status
run_mlp(const d2c_vit *vit, d2c_backend *be, const buffers *b, const layer *l)
{
    const d2c_vit_config *c = &vit->config;
    d2c_act act = c->gated ? D2C_ACT_NONE : c->act;

    D2C_TRY(d2c_layernorm_forward(be, b->operand, d2c_absent(), b->stream, l->norm2.gamma, l->norm2.beta,
                                  c->eps));
    D2C_TRY(d2c_linear_forward(be, b->middle, d2c_absent(), b->operand, &l->up, act));
    if (c->gated)
        D2C_TRY(run_gate(vit, be, b));
    D2C_TRY(d2c_linear_forward(be, b->branch, d2c_absent(), b->gated, &l->down, D2C_ACT_NONE));
    return join(be, b, l->scale2);
}

/* The ops of one picture; out [tokens, hidden]. */
static d2c_status
run_ops(const d2c_vit *vit, d2c_backend *be, const buffers *b, float *out, const float *planes, int tokens)
{
    const d2c_vit_config *c = &vit->config;
    const network *net = vit->layers;
    d2c_tensor result = patch_rows(b->stream, c, tokens);
    int i;

    D2C_TRY(d2c_upload(be, b->picture.data, planes, (size_t)d2c_tensor_count(b->picture) * sizeof *planes));
    D2C_TRY(embed(vit, be, b));
    for (i = 0; i < c->depth; i++) {
        D2C_TRY(run_attention(vit, be, b, &net->layer[i]));
        D2C_TRY(run_mlp(vit, be, b, &net->layer[i]));
    }
    if (c->last_norm) {
        d2c_tensor normal = patch_rows(b->branch, c, tokens);

        D2C_TRY(
            d2c_layernorm_forward(be, normal, d2c_absent(), result, net->norm.gamma, net->norm.beta, c->eps));
        result = normal;
    }
    return d2c_download(be, out, result.data, (size_t)d2c_tensor_count(result) * sizeof *out);
}

/* Plans, makes room, runs. */
static d2c_status
forward(const d2c_vit *vit, d2c_backend *be, d2c_scratch *scratch, float *out, const float *planes,
        int tokens, d2c_error *err)
{
    d2c_arena plan = {0}, arena = {0};
    buffers b;

    make_buffers(&b, vit, &plan);
    D2C_TRY(d2c_arena_check(&plan, err));
    D2C_TRY(d2c_scratch_reserve(scratch, be, plan.peak, err));
    arena.base = scratch->block;
    arena.capacity = plan.peak;
    make_buffers(&b, vit, &arena);
    return run_ops(vit, be, &b, out, planes, tokens) == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

static d2c_status
check_finite(const float *embedding, size_t count, d2c_error *err)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (!isfinite(embedding[i])) {
            d2c_fail(err, D2C_NOT_FINITE, "visual embedding is not finite");
            d2c_hint(err, "The model's weights may be damaged.");
            return D2C_NOT_FINITE;
        }
    return D2C_OK;
}

d2c_status
d2c_vit_embed(d2c_vit *vit, d2c_backend *be, d2c_scratch *scratch, float *embedding, const d2c_image *image,
              int tokens, d2c_error *err)
{
    const d2c_vit_config *c = &vit->config;
    size_t edge = (size_t)c->input.edge;
    d2c_status status;
    float *planes;

    if (tokens < 1 || tokens > patch_count(c))
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "number of tokens must be between 1 and %d",
                        (int)patch_count(c));
    planes = malloc(3 * edge * edge * sizeof *planes);
    if (planes == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = d2c_vit_input_make(planes, image, &c->input, err);
    if (status == D2C_OK)
        status = forward(vit, be, scratch, embedding, planes, tokens, err);
    free(planes);
    D2C_TRY(status);
    return check_finite(embedding, (size_t)tokens * (size_t)c->hidden, err);
}
