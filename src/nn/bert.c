/*
 * bert.c: BERT's encoder on ops.h.
 *
 * Query, key and value lie back to back and are one product.
 */
#include "nn/bert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/bert_config.h"
#include "nn/text_encoder.h"

typedef struct norm {
    d2c_tensor gamma, beta;
} norm;

typedef struct layer {
    d2c_weight qkv, attention, up, down;
    norm attention_norm, norm;
} layer;

/* The weights by use; bert->layers. */
typedef struct network {
    d2c_tensor words, positions, types;
    norm norm;
    layer layer[];
} network;

/* The buffers of one prompt of n tokens; operands are in the bert's precision, the rest is f32. */
typedef struct buffers {
    d2c_tensor ids;     /* [n] */
    d2c_tensor hidden;  /* [n, hidden]: the residual stream, normalised */
    d2c_tensor sum;     /* [n, hidden]: before its norm */
    d2c_tensor operand; /* [n, hidden]: hidden as an operand; hidden itself in f32 */
    d2c_tensor qkv;     /* [1, n, 3 hidden] */
    d2c_tensor context; /* [1, n, hidden] */
    d2c_tensor middle;  /* [n, intermediate] */
} buffers;

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

/* What the file calls its tensors: "bert." before them or not, LayerNorm's parameters by torch's or TensorFlow's names. */
typedef struct naming {
    const char *prefix, *gamma, *beta;
} naming;

static naming
find_naming(const d2c_weights *file)
{
    static const char first[] = "bert.embeddings.LayerNorm.gamma";
    naming n = {"", "weight", "bias"};

    if (d2c_weights_find(file, "bert.embeddings.word_embeddings.weight") != NULL)
        n.prefix = "bert.";
    if (d2c_weights_find(file, first + (n.prefix[0] != '\0' ? 0 : strlen("bert."))) != NULL) {
        n.gamma = "gamma";
        n.beta = "beta";
    }
    return n;
}

/* Adds [rows, columns] or, with columns 0, [rows]. */
static d2c_status
add(d2c_params *params, const char *base, const char *name, int64_t rows, int64_t columns, int in_group,
    d2c_error *err)
{
    char full[sizeof params->item->name];
    int64_t dim[2] = {rows, columns};

    snprintf(full, sizeof full, "%s.%s", base, name);
    return (in_group ? d2c_params_add_group : d2c_params_add)(params, full, D2C_INIT_GIVEN, 0,
                                                              columns > 0 ? 2 : 1, dim, err);
}

static d2c_status
add_linear(d2c_params *params, const char *base, int64_t out, int64_t in, d2c_error *err)
{
    D2C_TRY(add(params, base, "weight", out, in, 0, err));
    return add(params, base, "bias", out, 0, 0, err);
}

static d2c_status
add_norm(d2c_params *params, const naming *n, const char *base, int64_t width, d2c_error *err)
{
    D2C_TRY(add(params, base, n->gamma, width, 0, 0, err));
    return add(params, base, n->beta, width, 0, 0, err);
}

static d2c_status
add_layer(d2c_bert *bert, const naming *n, int index, d2c_error *err)
{
    static const char *const parts[] = {"query", "key", "value"};
    d2c_params *params = &bert->params;
    int64_t hidden = bert->config.hidden, wide = bert->config.intermediate;
    char base[64], name[80];
    int i;

    snprintf(base, sizeof base, "encoder.layer.%d", index);
    for (i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.attention.self.%s", base, parts[i]);
        D2C_TRY(add(params, name, "weight", hidden, hidden, i > 0, err));
    }
    for (i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.attention.self.%s", base, parts[i]);
        D2C_TRY(add(params, name, "bias", hidden, 0, i > 0, err));
    }
    snprintf(name, sizeof name, "%s.attention.output.dense", base);
    D2C_TRY(add_linear(params, name, hidden, hidden, err));
    snprintf(name, sizeof name, "%s.attention.output.LayerNorm", base);
    D2C_TRY(add_norm(params, n, name, hidden, err));
    snprintf(name, sizeof name, "%s.intermediate.dense", base);
    D2C_TRY(add_linear(params, name, wide, hidden, err));
    snprintf(name, sizeof name, "%s.output.dense", base);
    D2C_TRY(add_linear(params, name, hidden, wide, err));
    snprintf(name, sizeof name, "%s.output.LayerNorm", base);
    return add_norm(params, n, name, hidden, err);
}

static d2c_status
add_params(d2c_bert *bert, const naming *n, d2c_error *err)
{
    const d2c_bert_config *c = &bert->config;
    d2c_params *params = &bert->params;
    int i;

    D2C_TRY(add(params, "embeddings.word_embeddings", "weight", c->vocabulary, c->hidden, 0, err));
    D2C_TRY(add(params, "embeddings.position_embeddings", "weight", c->positions, c->hidden, 0, err));
    D2C_TRY(add(params, "embeddings.token_type_embeddings", "weight", c->types, c->hidden, 0, err));
    D2C_TRY(add_norm(params, n, "embeddings.LayerNorm", c->hidden, err));
    for (i = 0; i < c->depth; i++)
        D2C_TRY(add_layer(bert, n, i, err));
    return D2C_OK;
}

static norm
get_norm(const d2c_params *params, const naming *n, const char *base)
{
    char name[sizeof params->item->name];
    norm result;

    snprintf(name, sizeof name, "%s.%s", base, n->gamma);
    result.gamma = d2c_params_tensor(params, name, params->value);
    snprintf(name, sizeof name, "%s.%s", base, n->beta);
    result.beta = d2c_params_tensor(params, name, params->value);
    return result;
}

/* Three [hidden, hidden] layers that lie back to back as one of [3 hidden, hidden]. */
static d2c_weight
get_qkv(const d2c_params *params, const char *base, int64_t hidden)
{
    char name[80];
    d2c_weight w;

    snprintf(name, sizeof name, "%s.attention.self.query", base);
    w = d2c_params_linear(params, name);
    w.value = d2c_tensor2(w.value.data, D2C_F32, 3 * hidden, hidden);
    if (w.shadow.data != NULL)
        w.shadow = d2c_tensor2(w.shadow.data, D2C_BF16, 3 * hidden, hidden);
    w.bias = d2c_tensor1(w.bias.data, D2C_F32, 3 * hidden);
    if (w.bias_shadow.data != NULL)
        w.bias_shadow = d2c_tensor1(w.bias_shadow.data, D2C_BF16, 3 * hidden);
    return w;
}

static void
get_layer(layer *l, const d2c_bert *bert, const naming *n, int index)
{
    const d2c_params *params = &bert->params;
    char base[64], name[80];

    snprintf(base, sizeof base, "encoder.layer.%d", index);
    l->qkv = get_qkv(params, base, bert->config.hidden);
    snprintf(name, sizeof name, "%s.attention.output.dense", base);
    l->attention = d2c_params_linear(params, name);
    snprintf(name, sizeof name, "%s.attention.output.LayerNorm", base);
    l->attention_norm = get_norm(params, n, name);
    snprintf(name, sizeof name, "%s.intermediate.dense", base);
    l->up = d2c_params_linear(params, name);
    snprintf(name, sizeof name, "%s.output.dense", base);
    l->down = d2c_params_linear(params, name);
    snprintf(name, sizeof name, "%s.output.LayerNorm", base);
    l->norm = get_norm(params, n, name);
}

static d2c_status
make_network(d2c_bert *bert, const naming *n, d2c_error *err)
{
    const d2c_params *params = &bert->params;
    network *net = malloc(sizeof *net + (size_t)bert->config.depth * sizeof net->layer[0]);
    int i;

    if (net == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    net->words = d2c_params_tensor(params, "embeddings.word_embeddings.weight", params->value);
    net->positions = d2c_params_tensor(params, "embeddings.position_embeddings.weight", params->value);
    net->types = d2c_params_tensor(params, "embeddings.token_type_embeddings.weight", params->value);
    net->norm = get_norm(params, n, "embeddings.LayerNorm");
    for (i = 0; i < bert->config.depth; i++)
        get_layer(&net->layer[i], bert, n, i);
    bert->layers = net;
    return D2C_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static d2c_status
load_weights(d2c_bert *bert, d2c_backend *be, d2c_weights *file, d2c_error *err)
{
    naming n = find_naming(file);

    D2C_TRY(add_params(bert, &n, err));
    D2C_TRY(d2c_params_open(&bert->params, be, bert->precision, file, d2c_name_with_prefix, n.prefix, err));
    return make_network(bert, &n, err);
}

static d2c_status
open_parts(d2c_bert *bert, d2c_backend *be, const char *folder, d2c_weights *weights, d2c_error *err)
{
    D2C_TRY(d2c_bert_config_read(&bert->config, folder, err));
    D2C_TRY(d2c_bert_tokenizer_open(&bert->tokenizer, folder, err));
    if (d2c_wordpiece_size(bert->tokenizer) > bert->config.vocabulary)
        return d2c_fail(err, D2C_BAD_MODEL, "vocab.txt has %d tokens and the model %d",
                        d2c_wordpiece_size(bert->tokenizer), bert->config.vocabulary);
    return load_weights(bert, be, weights, err);
}

d2c_status
d2c_bert_open(d2c_bert **bert, d2c_backend *be, const char *folder, d2c_weights *weights, d2c_dtype precision,
              d2c_error *err)
{
    d2c_status status;
    d2c_bert *b;

    *bert = NULL;
    D2C_TRY(d2c_precision_check(be, precision, err));
    b = calloc(1, sizeof *b);
    if (b == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    b->precision = precision == D2C_F32 ? D2C_F32 : D2C_BF16;
    status = open_parts(b, be, folder, weights, err);
    if (status != D2C_OK) {
        d2c_bert_close(b, be);
        return status;
    }
    *bert = b;
    return D2C_OK;
}

void
d2c_bert_close(d2c_bert *bert, d2c_backend *be)
{
    if (bert == NULL)
        return;
    d2c_params_free(&bert->params, be);
    d2c_wordpiece_close(bert->tokenizer);
    free(bert->layers);
    free(bert);
}

/* ---- forward ------------------------------------------------------------------------------------------------------- */

static void
make_buffers(buffers *b, const d2c_bert *bert, d2c_arena *arena, int64_t n)
{
    int64_t hidden = bert->config.hidden;

    b->ids = d2c_tensor1(d2c_arena_alloc(arena, (size_t)n * sizeof(int64_t)), D2C_I64, n);
    b->hidden = d2c_arena_tensor(arena, D2C_F32, n, hidden);
    b->sum = d2c_arena_tensor(arena, D2C_F32, n, hidden);
    b->operand = bert->precision == D2C_BF16 ? d2c_arena_tensor(arena, D2C_BF16, n, hidden) : b->hidden;
    b->qkv = d2c_arena_tensor(arena, bert->precision, n, 3 * hidden);
    b->qkv = d2c_tensor3(b->qkv.data, bert->precision, 1, n, 3 * hidden);
    b->context = d2c_arena_tensor(arena, bert->precision, n, hidden);
    b->context = d2c_tensor3(b->context.data, bert->precision, 1, n, hidden);
    b->middle = d2c_arena_tensor(arena, bert->precision, n, bert->config.intermediate);
}

/* hidden = LN(sum), and its copy in the precision of products. */
static d2c_status
normalise(d2c_backend *be, const buffers *b, const norm *n, float eps)
{
    D2C_TRY(d2c_layernorm_forward(be, b->hidden, d2c_absent(), b->sum, n->gamma, n->beta, eps));
    return b->operand.dtype == D2C_F32 ? D2C_OK : d2c_cast(be, b->operand, b->hidden);
}

/* sum = word + position + type 0, normalised. */
static d2c_status
embed(const d2c_bert *bert, d2c_backend *be, const buffers *b)
{
    const network *net = bert->layers;
    int64_t n = b->sum.dim[0], hidden = b->sum.dim[1];

    D2C_TRY(d2c_gather(be, b->sum, net->words, b->ids));
    D2C_TRY(d2c_add_rows(be, d2c_tensor3(b->sum.data, D2C_F32, 1, n, hidden),
                         d2c_tensor2(net->positions.data, D2C_F32, n, hidden)));
    D2C_TRY(d2c_add_rows(be, d2c_tensor3(b->sum.data, D2C_F32, n, 1, hidden),
                         d2c_tensor2(net->types.data, D2C_F32, 1, hidden)));
    return normalise(be, b, &net->norm, bert->config.eps);
}

/* Post-norm: each half adds its result to its input, then normalises. */
static d2c_status
run_layer(const d2c_bert *bert, d2c_backend *be, const buffers *b, const layer *l)
{
    const d2c_bert_config *c = &bert->config;
    float scale = 1.0f / sqrtf((float)(c->hidden / c->heads));

    D2C_TRY(d2c_linear_forward(be, b->qkv, d2c_absent(), b->operand, &l->qkv, D2C_ACT_NONE));
    D2C_TRY(d2c_attention_forward(be, b->context, d2c_absent(), b->qkv, d2c_absent(), c->heads, scale));
    D2C_TRY(d2c_linear_forward(be, b->sum, d2c_absent(), b->context, &l->attention, D2C_ACT_NONE));
    D2C_TRY(d2c_axpby(be, b->sum, 1, b->hidden, 1));
    D2C_TRY(normalise(be, b, &l->attention_norm, c->eps));

    D2C_TRY(d2c_linear_forward(be, b->middle, d2c_absent(), b->operand, &l->up, c->act));
    D2C_TRY(d2c_linear_forward(be, b->sum, d2c_absent(), b->middle, &l->down, D2C_ACT_NONE));
    D2C_TRY(d2c_axpby(be, b->sum, 1, b->hidden, 1));
    return normalise(be, b, &l->norm, c->eps);
}

/* The ops of one prompt; out [n, hidden] receives the last hidden state. */
static d2c_status
run_ops(const d2c_bert *bert, d2c_backend *be, const buffers *b, float *out, const int64_t *ids)
{
    const network *net = bert->layers;
    int64_t n = b->hidden.dim[0];
    int i;

    D2C_TRY(d2c_upload(be, b->ids.data, ids, (size_t)n * sizeof *ids));
    D2C_TRY(embed(bert, be, b));
    for (i = 0; i < bert->config.depth; i++)
        D2C_TRY(run_layer(bert, be, b, &net->layer[i]));
    return d2c_download(be, out, b->hidden.data, (size_t)n * (size_t)bert->config.hidden * sizeof *out);
}

/* Plans, makes room, runs. */
static d2c_status
forward(const void *bert, d2c_backend *be, d2c_scratch *memory, float *out, const int64_t *ids, int n,
        d2c_error *err)
{
    d2c_arena plan = {0}, arena;
    buffers b;

    make_buffers(&b, bert, &plan, n);
    D2C_TRY(d2c_scratch_arena(&arena, memory, be, &plan, err));
    make_buffers(&b, bert, &arena, n);
    return run_ops(bert, be, &b, out, ids) == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

static d2c_status
tokenize(const void *bert, int32_t *ids, int *count, int capacity, const char *prompt, d2c_error *err)
{
    return d2c_wordpiece_encode(((const d2c_bert *)bert)->tokenizer, ids, count, capacity, prompt, err);
}

d2c_status
d2c_bert_embed(d2c_bert *bert, d2c_backend *be, d2c_scratch *memory, float *embedding, float *mask,
               const char *prompt, int tokens, d2c_error *err)
{
    const d2c_text_encoder encoder = {bert->config.hidden, D2C_BERT_LEAST_TOKENS, bert->config.positions,
                                      tokenize, forward};

    return d2c_text_encoder_embed(&encoder, bert, be, memory, embedding, mask, prompt, tokens, err);
}
