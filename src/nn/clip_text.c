/*
 * clip_text.c: CLIP's text tower on ops.h.
 *
 * A transformer whose tokens see those before them only: the scores of later ones get a bias that makes them vanish.
 * Pre-norm, biases everywhere; query, key and value are one product.
 */
#include "nn/clip_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/text_encoder.h"

#define MASKED (-1e9f)

typedef struct norm {
    d2c_tensor gamma, beta;
} norm;

typedef struct layer {
    d2c_weight qkv, attention, up, down;
    norm attention_norm, norm;
} layer;

/* The weights by use; clip->layers. */
typedef struct network {
    d2c_tensor words, positions;
    norm norm;
    layer layer[];
} network;

/* The buffers of one prompt of n tokens; operands are in the network's precision, the rest is f32. */
typedef struct buffers {
    d2c_tensor ids;     /* [n] */
    d2c_tensor bias;    /* [1, heads, n, n], one for all heads */
    d2c_tensor hidden;  /* [n, hidden]: the residual stream */
    d2c_tensor sum;     /* [n, hidden]: what is added to it; the result at the end */
    d2c_tensor operand; /* [n, hidden]: hidden, normalised */
    d2c_tensor qkv;     /* [1, n, 3 hidden] */
    d2c_tensor context; /* [1, n, hidden] */
    d2c_tensor middle;  /* [n, intermediate] */
} buffers;

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

/* Adds BASE + name: .weight [out, in], or [out] with in 0, and .bias [out]. */
static d2c_status
add(d2c_params *params, const char *base, const char *name, int64_t out, int64_t in, d2c_error *err)
{
    char full[sizeof params->item->name];
    int64_t dim[2] = {out, in};

    snprintf(full, sizeof full, "%s%s.weight", base, name);
    D2C_TRY(d2c_params_add(params, full, D2C_INIT_GIVEN, 0, in > 0 ? 2 : 1, dim, err));
    snprintf(full, sizeof full, "%s%s.bias", base, name);
    return d2c_params_add(params, full, D2C_INIT_GIVEN, 0, 1, dim, err);
}

static d2c_status
add_table(d2c_params *params, const char *name, int64_t rows, int64_t columns, d2c_error *err)
{
    int64_t dim[2] = {rows, columns};

    return d2c_params_add(params, name, D2C_INIT_GIVEN, 0, 2, dim, err);
}

static d2c_status
add_layer(d2c_clip_text *clip, int index, d2c_error *err)
{
    int64_t hidden = clip->config.hidden, wide = clip->config.intermediate;
    d2c_params *params = &clip->params;
    char base[48];

    snprintf(base, sizeof base, "encoder.layers.%d.", index);
    D2C_TRY(add(params, base, "layer_norm1", hidden, 0, err));
    D2C_TRY(add(params, base, "self_attn.qkv", 3 * hidden, hidden, err));
    D2C_TRY(add(params, base, "self_attn.out_proj", hidden, hidden, err));
    D2C_TRY(add(params, base, "layer_norm2", hidden, 0, err));
    D2C_TRY(add(params, base, "mlp.fc1", wide, hidden, err));
    return add(params, base, "mlp.fc2", hidden, wide, err);
}

static d2c_status
add_params(d2c_clip_text *clip, d2c_error *err)
{
    const d2c_clip_text_config *c = &clip->config;
    d2c_params *params = &clip->params;
    int i;

    D2C_TRY(add_table(params, "embeddings.token_embedding.weight", c->vocabulary, c->hidden, err));
    D2C_TRY(add_table(params, "embeddings.position_embedding.weight", c->positions, c->hidden, err));
    D2C_TRY(add(params, "", "final_layer_norm", c->hidden, 0, err));
    for (i = 0; i < c->depth; i++)
        D2C_TRY(add_layer(clip, i, err));
    return D2C_OK;
}

/* The file's names are the network's, behind a prefix, but for query, key and value, which are apart there. */
static int
name_in_file(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *prefix)
{
    static const char *const parts[D2C_NAME_PARTS] = {"q_proj", "k_proj", "v_proj"};
    const char *joined = strstr(parameter, "qkv");
    int i;

    if (joined == NULL) {
        snprintf(name[0], D2C_NAME_SIZE, "%s%s", (const char *)prefix, parameter);
        return 1;
    }
    for (i = 0; i < D2C_NAME_PARTS; i++)
        snprintf(name[i], D2C_NAME_SIZE, "%s%.*s%s%s", (const char *)prefix, (int)(joined - parameter),
                 parameter, parts[i], joined + strlen("qkv"));
    return D2C_NAME_PARTS;
}

static norm
get_norm(const d2c_clip_text *clip, const char *base, const char *name)
{
    const d2c_params *params = &clip->params;
    char full[96];
    norm result;

    snprintf(full, sizeof full, "%s%s.weight", base, name);
    result.gamma = d2c_params_tensor(params, full, params->value);
    snprintf(full, sizeof full, "%s%s.bias", base, name);
    result.beta = d2c_params_tensor(params, full, params->value);
    return result;
}

static d2c_weight
get_linear(const d2c_clip_text *clip, const char *base, const char *name)
{
    char full[96];

    snprintf(full, sizeof full, "%s%s", base, name);
    return d2c_params_linear(&clip->params, full);
}

static void
get_layer(layer *l, const d2c_clip_text *clip, int index)
{
    char base[48];

    snprintf(base, sizeof base, "encoder.layers.%d.", index);
    l->attention_norm = get_norm(clip, base, "layer_norm1");
    l->qkv = get_linear(clip, base, "self_attn.qkv");
    l->attention = get_linear(clip, base, "self_attn.out_proj");
    l->norm = get_norm(clip, base, "layer_norm2");
    l->up = get_linear(clip, base, "mlp.fc1");
    l->down = get_linear(clip, base, "mlp.fc2");
}

static d2c_status
make_network(d2c_clip_text *clip, d2c_error *err)
{
    network *net = malloc(sizeof *net + (size_t)clip->config.depth * sizeof net->layer[0]);
    const d2c_params *params = &clip->params;
    int i;

    if (net == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    net->words = d2c_params_tensor(params, "embeddings.token_embedding.weight", params->value);
    net->positions = d2c_params_tensor(params, "embeddings.position_embedding.weight", params->value);
    net->norm = get_norm(clip, "", "final_layer_norm");
    for (i = 0; i < clip->config.depth; i++)
        get_layer(&net->layer[i], clip, i);
    clip->layers = net;
    return D2C_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static d2c_status
load_weights(d2c_clip_text *clip, d2c_backend *be, const d2c_model_files *files, d2c_error *err)
{
    const char *prefix = d2c_clip_text_prefix(files);
    d2c_params *params = &clip->params;

    if (prefix == NULL)
        return d2c_fail(err, D2C_BAD_MODEL,
                        "tensor \"text_model.embeddings.token_embedding.weight\" is missing");
    D2C_TRY(add_params(clip, err));
    D2C_TRY(d2c_params_check_named(params, files->weights, name_in_file, prefix, err));
    D2C_TRY(d2c_params_allocate(params, be, clip->precision == D2C_BF16, 0, err));
    D2C_TRY(d2c_params_load_named(params, be, params->value, files->weights, name_in_file, prefix, err));
    return make_network(clip, err);
}

static d2c_status
open_parts(d2c_clip_text *clip, d2c_backend *be, const d2c_model_files *files, d2c_error *err)
{
    D2C_TRY(d2c_clip_text_config_read(&clip->config, files, err));
    D2C_TRY(d2c_clip_text_tokenizer_open(&clip->tokenizer, files, err));
    if (d2c_clip_bpe_size(clip->tokenizer) > clip->config.vocabulary)
        return d2c_fail(err, D2C_BAD_MODEL, "vocab.json has %d tokens and the model %d",
                        d2c_clip_bpe_size(clip->tokenizer), clip->config.vocabulary);
    return load_weights(clip, be, files, err);
}

d2c_status
d2c_clip_text_open(d2c_clip_text **clip, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision,
                   d2c_error *err)
{
    d2c_clip_text *c;
    d2c_status status;

    *clip = NULL;
    D2C_TRY(d2c_precision_check(be, precision, err));
    c = calloc(1, sizeof *c);
    if (c == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    c->precision = precision == D2C_F32 ? D2C_F32 : D2C_BF16;
    status = open_parts(c, be, files, err);
    if (status != D2C_OK) {
        d2c_clip_text_close(c, be);
        return status;
    }
    *clip = c;
    return D2C_OK;
}

void
d2c_clip_text_close(d2c_clip_text *clip, d2c_backend *be)
{
    if (clip == NULL)
        return;
    d2c_params_free(&clip->params, be);
    d2c_clip_bpe_close(clip->tokenizer);
    free(clip->layers);
    free(clip);
}

/* ---- forward ------------------------------------------------------------------------------------------------------- */

static void
make_buffers(buffers *b, const d2c_clip_text *clip, d2c_arena *arena, int64_t n)
{
    const d2c_clip_text_config *c = &clip->config;
    int64_t hidden = c->hidden;

    b->ids = d2c_tensor1(d2c_arena_tensor(arena, D2C_I64, n, 1).data, D2C_I64, n);
    b->bias = d2c_arena_tensor(arena, D2C_F32, n, n);
    b->bias = d2c_tensor4(b->bias.data, D2C_F32, 1, c->heads, n, n);
    b->bias.stride[0] = b->bias.stride[1] = 0;
    b->hidden = d2c_arena_tensor(arena, D2C_F32, n, hidden);
    b->sum = d2c_arena_tensor(arena, D2C_F32, n, hidden);
    b->operand = d2c_arena_tensor(arena, clip->precision, n, hidden);
    b->qkv = d2c_arena_tensor(arena, clip->precision, n, 3 * hidden);
    b->qkv = d2c_tensor3(b->qkv.data, clip->precision, 1, n, 3 * hidden);
    b->context = d2c_arena_tensor(arena, clip->precision, n, hidden);
    b->context = d2c_tensor3(b->context.data, clip->precision, 1, n, hidden);
    b->middle = d2c_arena_tensor(arena, clip->precision, n, c->intermediate);
}

static d2c_status
normalise(d2c_backend *be, d2c_tensor y, d2c_tensor x, const norm *n, float eps)
{
    return d2c_layernorm_forward(be, y, d2c_absent(), x, n->gamma, n->beta, eps);
}

static d2c_status
run_layer(const d2c_clip_text_config *c, d2c_backend *be, const buffers *b, const layer *l)
{
    float scale = 1.0f / sqrtf((float)(c->hidden / c->heads));

    D2C_TRY(normalise(be, b->operand, b->hidden, &l->attention_norm, c->eps));
    D2C_TRY(d2c_linear_forward(be, b->qkv, d2c_absent(), b->operand, &l->qkv, D2C_ACT_NONE));
    D2C_TRY(d2c_attention_forward(be, b->context, d2c_absent(), b->qkv, b->bias, c->heads, scale));
    D2C_TRY(d2c_linear_forward(be, b->sum, d2c_absent(), b->context, &l->attention, D2C_ACT_NONE));
    D2C_TRY(d2c_axpby(be, b->hidden, 1, b->sum, 1));

    D2C_TRY(normalise(be, b->operand, b->hidden, &l->norm, c->eps));
    D2C_TRY(d2c_linear_forward(be, b->middle, d2c_absent(), b->operand, &l->up, c->act));
    D2C_TRY(d2c_linear_forward(be, b->sum, d2c_absent(), b->middle, &l->down, D2C_ACT_NONE));
    return d2c_axpby(be, b->hidden, 1, b->sum, 1);
}

/* The ops of one prompt; out [n, hidden] receives the last hidden state. */
static d2c_status
run_ops(const d2c_clip_text *clip, d2c_backend *be, const buffers *b, float *out, const int64_t *ids,
        const float *bias)
{
    const d2c_clip_text_config *c = &clip->config;
    const network *net = clip->layers;
    int64_t n = b->hidden.dim[0];
    int i;

    D2C_TRY(d2c_upload(be, b->ids.data, ids, (size_t)n * sizeof *ids));
    D2C_TRY(d2c_upload(be, b->bias.data, bias, (size_t)n * (size_t)n * sizeof *bias));
    D2C_TRY(d2c_gather(be, b->hidden, net->words, b->ids));
    D2C_TRY(d2c_add_rows(be, d2c_tensor3(b->hidden.data, D2C_F32, 1, n, c->hidden),
                         d2c_tensor2(net->positions.data, D2C_F32, n, c->hidden)));
    for (i = 0; i < c->depth; i++)
        D2C_TRY(run_layer(c, be, b, &net->layer[i]));
    D2C_TRY(normalise(be, b->sum, b->hidden, &net->norm, c->eps));
    return d2c_download(be, out, b->sum.data, (size_t)n * (size_t)c->hidden * sizeof *out);
}

/* bias [n, n]: 0 for the query itself and what stands before it. */
static void
lay_out_bias(float *bias, int n)
{
    int query, key;

    for (query = 0; query < n; query++)
        for (key = 0; key < n; key++)
            bias[query * n + key] = key > query ? MASKED : 0;
}

/* Plans, makes room, runs. */
static d2c_status
forward(const void *clip, d2c_backend *be, d2c_scratch *memory, float *out, const int64_t *ids, int n,
        d2c_error *err)
{
    d2c_arena plan = {0}, arena;
    d2c_status status;
    float *bias;
    buffers b;

    make_buffers(&b, clip, &plan, n);
    D2C_TRY(d2c_scratch_arena(&arena, memory, be, &plan, err));
    make_buffers(&b, clip, &arena, n);
    bias = malloc((size_t)n * (size_t)n * sizeof *bias);
    if (bias == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    lay_out_bias(bias, n);
    status = run_ops(clip, be, &b, out, ids, bias);
    free(bias);
    return status == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

static d2c_status
tokenize(const void *clip, int32_t *ids, int *count, int capacity, const char *prompt, d2c_error *err)
{
    return d2c_clip_bpe_encode(((const d2c_clip_text *)clip)->tokenizer, ids, count, capacity, prompt, err);
}

d2c_status
d2c_clip_text_embed(const d2c_clip_text *clip, d2c_backend *be, d2c_scratch *memory, float *embedding,
                    float *mask, const char *prompt, int tokens, d2c_error *err)
{
    const d2c_text_encoder encoder = {clip->config.hidden, D2C_CLIP_TEXT_LEAST_TOKENS, clip->config.positions,
                                      tokenize, forward};

    return d2c_text_encoder_embed(&encoder, clip, be, memory, embedding, mask, prompt, tokens, err);
}
