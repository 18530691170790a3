/*
 * t5.c: T5's encoder on ops.h.
 *
 * Pre-norm by the root mean square, no biases, scores without a scale.  What tells positions apart is a bias of the
 * scores by distance; its table lies in the first block and serves all.
 */
#include "nn/t5.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/text_encoder.h"

typedef struct layer {
    d2c_tensor attention_norm, norm;
    d2c_weight qkv, attention, up, down;
} layer;

/* The weights by use; t5->layers. */
typedef struct network {
    d2c_tensor words, norm;
    layer layer[];
} network;

/* The buffers of one prompt of n tokens; operands are in the t5's precision, the rest is f32.  inner = heads * width. */
typedef struct buffers {
    d2c_tensor ids;     /* [n] */
    d2c_tensor bias;    /* [1, heads, n, n] */
    d2c_tensor hidden;  /* [n, hidden]: the residual stream */
    d2c_tensor sum;     /* [n, hidden]: what is added to it; the result at the end */
    d2c_tensor operand; /* [n, hidden]: hidden, normalised */
    d2c_tensor qkv;     /* [1, n, 3 inner] */
    d2c_tensor context; /* [1, n, inner] */
    d2c_tensor up;      /* [n, intermediate], twice as wide where it is gated: gate, then value */
    d2c_tensor middle;  /* [n, intermediate]: up itself where it is not gated */
} buffers;

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

/* Adds BASE.weight, [rows, columns] or, with columns 0, [rows]. */
static d2c_status
add(d2c_params *params, const char *base, const char *name, int64_t rows, int64_t columns, d2c_error *err)
{
    char full[sizeof params->item->name];
    int64_t dim[2] = {rows, columns};

    snprintf(full, sizeof full, "%s%s.weight", base, name);
    return d2c_params_add(params, full, D2C_INIT_GIVEN, 0, columns > 0 ? 2 : 1, dim, err);
}

static int64_t
inner_width(const d2c_t5_config *c)
{
    return (int64_t)c->heads * c->head_width;
}

static d2c_status
add_layer(d2c_t5 *t5, int index, d2c_error *err)
{
    const d2c_t5_config *c = &t5->config;
    d2c_params *params = &t5->params;
    int64_t hidden = c->hidden, inner = inner_width(c), wide = c->intermediate;
    char base[32];

    snprintf(base, sizeof base, "block.%d.", index);
    D2C_TRY(add(params, base, "attention_norm", hidden, 0, err));
    D2C_TRY(add(params, base, "qkv", 3 * inner, hidden, err));
    D2C_TRY(add(params, base, "attention", hidden, inner, err));
    D2C_TRY(add(params, base, "norm", hidden, 0, err));
    D2C_TRY(add(params, base, "up", c->gated ? 2 * wide : wide, hidden, err));
    return add(params, base, "down", hidden, wide, err);
}

static d2c_status
add_params(d2c_t5 *t5, d2c_error *err)
{
    const d2c_t5_config *c = &t5->config;
    int i;

    D2C_TRY(add(&t5->params, "", "words", c->vocabulary, c->hidden, err));
    D2C_TRY(add(&t5->params, "", "bias", c->buckets, c->heads, err));
    D2C_TRY(add(&t5->params, "", "norm", c->hidden, 0, err));
    for (i = 0; i < c->depth; i++)
        D2C_TRY(add_layer(t5, i, err));
    return D2C_OK;
}

/* The file's names of what a layer calls PART; up to D2C_NAME_PARTS, then NULL. */
static const char *const *
names_of_part(const char *part, int gated)
{
    static const char *const names[][D2C_NAME_PARTS + 2] = {
        {"attention_norm", "layer.0.layer_norm"},
        {"qkv", "layer.0.SelfAttention.q", "layer.0.SelfAttention.k", "layer.0.SelfAttention.v"},
        {"attention", "layer.0.SelfAttention.o"},
        {"norm", "layer.1.layer_norm"},
        {"up", "layer.1.DenseReluDense.wi"},
        {"down", "layer.1.DenseReluDense.wo"},
    };
    static const char *const gated_up[] = {"layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1",
                                           NULL};
    size_t i = 0, length = strcspn(part, ".");

    while (strncmp(names[i][0], part, length) != 0 || names[i][0][length] != '\0')
        i++;
    return gated && strcmp(names[i][0], "up") == 0 ? gated_up : names[i] + 1;
}

/* Where the file and its gated layers lead the names. */
typedef struct naming {
    const char *words;
    int gated;
} naming;

static int
name_in_file(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *closure)
{
    const naming *n = closure;
    const char *const *parts;
    int block, at = 0, count;

    if (sscanf(parameter, "block.%d.%n", &block, &at) != 1) {
        snprintf(name[0], D2C_NAME_SIZE, "%s",
                 parameter[0] == 'w' ? n->words
                 : parameter[0] == 'b'
                     ? "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
                     : "encoder.final_layer_norm.weight");
        return 1;
    }
    parts = names_of_part(parameter + at, n->gated);
    for (count = 0; count < D2C_NAME_PARTS && parts[count] != NULL; count++)
        snprintf(name[count], D2C_NAME_SIZE, "encoder.block.%d.%s.weight", block, parts[count]);
    return count;
}

/* The embedding has two names, and a file one or both. */
static naming
find_naming(const d2c_t5 *t5, const d2c_weights *file)
{
    static const char own[] = "encoder.embed_tokens.weight";

    return (naming){d2c_weights_find(file, own) != NULL ? own : "shared.weight", t5->config.gated};
}

static d2c_tensor
get_vector(const d2c_t5 *t5, const char *base, const char *name)
{
    char full[64];

    snprintf(full, sizeof full, "%s%s.weight", base, name);
    return d2c_params_tensor(&t5->params, full, t5->params.value);
}

static d2c_weight
get_linear(const d2c_t5 *t5, const char *base, const char *name)
{
    char full[64];

    snprintf(full, sizeof full, "%s%s", base, name);
    return d2c_params_linear(&t5->params, full);
}

static void
get_layer(layer *l, const d2c_t5 *t5, int index)
{
    char base[32];

    snprintf(base, sizeof base, "block.%d.", index);
    l->attention_norm = get_vector(t5, base, "attention_norm");
    l->qkv = get_linear(t5, base, "qkv");
    l->attention = get_linear(t5, base, "attention");
    l->norm = get_vector(t5, base, "norm");
    l->up = get_linear(t5, base, "up");
    l->down = get_linear(t5, base, "down");
}

static d2c_status
make_network(d2c_t5 *t5, d2c_error *err)
{
    network *net = malloc(sizeof *net + (size_t)t5->config.depth * sizeof net->layer[0]);
    int i;

    if (net == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    net->words = get_vector(t5, "", "words");
    net->norm = get_vector(t5, "", "norm");
    for (i = 0; i < t5->config.depth; i++)
        get_layer(&net->layer[i], t5, i);
    t5->layers = net;
    return D2C_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

/* The bias is laid out on the host, for each length of prompt anew. */
static d2c_status
fetch_bias(d2c_t5 *t5, d2c_backend *be, d2c_error *err)
{
    size_t bytes = (size_t)t5->config.buckets * (size_t)t5->config.heads * sizeof *t5->bias;

    t5->bias = malloc(bytes);
    if (t5->bias == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    return d2c_download(be, t5->bias, get_vector(t5, "", "bias").data, bytes) == D2C_OK
               ? D2C_OK
               : d2c_backend_error(be, err);
}

static d2c_status
load_weights(d2c_t5 *t5, d2c_backend *be, const d2c_weights *file, d2c_error *err)
{
    naming n = find_naming(t5, file);

    D2C_TRY(add_params(t5, err));
    D2C_TRY(d2c_params_check_named(&t5->params, file, name_in_file, &n, err));
    D2C_TRY(d2c_params_allocate(&t5->params, be, t5->precision == D2C_BF16, 0, err));
    D2C_TRY(d2c_params_load_named(&t5->params, be, t5->params.value, file, name_in_file, &n, err));
    D2C_TRY(fetch_bias(t5, be, err));
    return make_network(t5, err);
}

static d2c_status
open_parts(d2c_t5 *t5, d2c_backend *be, const d2c_model_files *files, d2c_error *err)
{
    D2C_TRY(d2c_t5_config_read(&t5->config, files, err));
    D2C_TRY(d2c_t5_tokenizer_open(&t5->tokenizer, files, err));
    if (d2c_sentencepiece_size(t5->tokenizer) > t5->config.vocabulary)
        return d2c_fail(err, D2C_BAD_MODEL, "spiece.model has %d tokens with the extra ids, and the model %d",
                        d2c_sentencepiece_size(t5->tokenizer), t5->config.vocabulary);
    return load_weights(t5, be, files->weights, err);
}

d2c_status
d2c_t5_open(d2c_t5 **t5, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision, d2c_error *err)
{
    d2c_status status;
    d2c_t5 *t;

    *t5 = NULL;
    D2C_TRY(d2c_precision_check(be, precision, err));
    t = calloc(1, sizeof *t);
    if (t == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    t->precision = precision == D2C_F32 ? D2C_F32 : D2C_BF16;
    status = open_parts(t, be, files, err);
    if (status != D2C_OK) {
        d2c_t5_close(t, be);
        return status;
    }
    *t5 = t;
    return D2C_OK;
}

void
d2c_t5_close(d2c_t5 *t5, d2c_backend *be)
{
    if (t5 == NULL)
        return;
    d2c_params_free(&t5->params, be);
    d2c_sentencepiece_close(t5->tokenizer);
    free(t5->bias);
    free(t5->layers);
    free(t5);
}

/* ---- forward ------------------------------------------------------------------------------------------------------- */

static void
make_buffers(buffers *b, const d2c_t5 *t5, d2c_arena *arena, int64_t n)
{
    const d2c_t5_config *c = &t5->config;
    int64_t inner = inner_width(c), hidden = c->hidden, wide = c->intermediate;

    b->ids = d2c_tensor1(d2c_arena_tensor(arena, D2C_I64, n, 1).data, D2C_I64, n);
    b->bias = d2c_arena_tensor(arena, D2C_F32, c->heads * n, n);
    b->bias = d2c_tensor4(b->bias.data, D2C_F32, 1, c->heads, n, n);
    b->hidden = d2c_arena_tensor(arena, D2C_F32, n, hidden);
    b->sum = d2c_arena_tensor(arena, D2C_F32, n, hidden);
    b->operand = d2c_arena_tensor(arena, t5->precision, n, hidden);
    b->qkv = d2c_arena_tensor(arena, t5->precision, n, 3 * inner);
    b->qkv = d2c_tensor3(b->qkv.data, t5->precision, 1, n, 3 * inner);
    b->context = d2c_arena_tensor(arena, t5->precision, n, inner);
    b->context = d2c_tensor3(b->context.data, t5->precision, 1, n, inner);
    b->up = d2c_arena_tensor(arena, t5->precision, n, c->gated ? 2 * wide : wide);
    b->middle = c->gated ? d2c_arena_tensor(arena, t5->precision, n, wide) : b->up;
}

/* bias [heads, n, n] of query and key by their distance. */
static void
lay_out_bias(float *bias, const d2c_t5 *t5, int n)
{
    int heads = t5->config.heads, head, query, key;

    for (query = 0; query < n; query++)
        for (key = 0; key < n; key++) {
            const float *row = t5->bias + (size_t)d2c_t5_bucket(&t5->config, key - query) * (size_t)heads;

            for (head = 0; head < heads; head++)
                bias[((size_t)head * (size_t)n + (size_t)query) * (size_t)n + (size_t)key] = row[head];
        }
}

/* middle = act(gate) * value, or act(up) where there is no gate. */
static d2c_status
run_up(const d2c_t5_config *c, d2c_backend *be, const buffers *b, const layer *l)
{
    int64_t n = b->up.dim[0], wide = c->intermediate;
    char *value = (char *)b->up.data + (size_t)wide * d2c_dtype_size(b->up.dtype);

    D2C_TRY(
        d2c_linear_forward(be, b->up, d2c_absent(), b->operand, &l->up, c->gated ? D2C_ACT_NONE : c->act));
    if (!c->gated)
        return D2C_OK;
    return d2c_glu_forward(be, b->middle, d2c_rows(b->up.data, b->up.dtype, n, wide, 2 * wide),
                           d2c_rows(value, b->up.dtype, n, wide, 2 * wide), c->act);
}

static d2c_status
run_layer(const d2c_t5_config *c, d2c_backend *be, const buffers *b, const layer *l)
{
    D2C_TRY(d2c_rmsnorm_forward(be, b->operand, b->hidden, l->attention_norm, c->eps));
    D2C_TRY(d2c_linear_forward(be, b->qkv, d2c_absent(), b->operand, &l->qkv, D2C_ACT_NONE));
    D2C_TRY(d2c_attention_forward(be, b->context, d2c_absent(), b->qkv, b->bias, c->heads, 1.0f));
    D2C_TRY(d2c_linear_forward(be, b->sum, d2c_absent(), b->context, &l->attention, D2C_ACT_NONE));
    D2C_TRY(d2c_axpby(be, b->hidden, 1, b->sum, 1));

    D2C_TRY(d2c_rmsnorm_forward(be, b->operand, b->hidden, l->norm, c->eps));
    D2C_TRY(run_up(c, be, b, l));
    D2C_TRY(d2c_linear_forward(be, b->sum, d2c_absent(), b->middle, &l->down, D2C_ACT_NONE));
    return d2c_axpby(be, b->hidden, 1, b->sum, 1);
}

/* The ops of one prompt; out [n, hidden] receives the last hidden state. */
static d2c_status
run_ops(const d2c_t5 *t5, d2c_backend *be, const buffers *b, float *out, const int64_t *ids,
        const float *bias)
{
    const network *net = t5->layers;
    size_t n = (size_t)b->hidden.dim[0], heads = (size_t)t5->config.heads;
    int i;

    D2C_TRY(d2c_upload(be, b->ids.data, ids, n * sizeof *ids));
    D2C_TRY(d2c_upload(be, b->bias.data, bias, heads * n * n * sizeof *bias));
    D2C_TRY(d2c_gather(be, b->hidden, net->words, b->ids));
    for (i = 0; i < t5->config.depth; i++)
        D2C_TRY(run_layer(&t5->config, be, b, &net->layer[i]));
    D2C_TRY(d2c_rmsnorm_forward(be, b->sum, b->hidden, net->norm, t5->config.eps));
    return d2c_download(be, out, b->sum.data, n * (size_t)t5->config.hidden * sizeof *out);
}

/* Plans, makes room, runs. */
static d2c_status
forward(const void *t5, d2c_backend *be, d2c_scratch *memory, float *out, const int64_t *ids, int n,
        d2c_error *err)
{
    d2c_arena plan = {0}, arena;
    d2c_status status;
    float *bias;
    buffers b;

    make_buffers(&b, t5, &plan, n);
    D2C_TRY(d2c_scratch_arena(&arena, memory, be, &plan, err));
    make_buffers(&b, t5, &arena, n);
    bias = malloc((size_t)d2c_tensor_count(b.bias) * sizeof *bias);
    if (bias == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    lay_out_bias(bias, t5, n);
    status = run_ops(t5, be, &b, out, ids, bias);
    free(bias);
    return status == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

static d2c_status
tokenize(const void *t5, int32_t *ids, int *count, int capacity, const char *prompt, d2c_error *err)
{
    return d2c_sentencepiece_encode(((const d2c_t5 *)t5)->tokenizer, ids, count, capacity, prompt, err);
}

d2c_status
d2c_t5_embed(const d2c_t5 *t5, d2c_backend *be, d2c_scratch *memory, float *embedding, float *mask,
             const char *prompt, int tokens, d2c_error *err)
{
    const d2c_text_encoder encoder = {t5->config.hidden, D2C_T5_LEAST_TOKENS, D2C_T5_MOST_TOKENS, tokenize,
                                      forward};

    return d2c_text_encoder_embed(&encoder, t5, be, memory, embedding, mask, prompt, tokens, err);
}
