/*
 * dc_embedding.c: D2C's text condition (METHOD: Attach), once for each distinct text of the batch.
 *
 *   e = Conv1d(text * mask), kernel = stride = L, so one position remains:  a linear layer over W*L values
 *   y = Linear(SiLU(Linear(LayerNorm(e)))) + e
 *
 * All f32: K texts are few beside B*T tokens.
 */
#include <stdlib.h>
#include <string.h>

#include "nn/sit_layers.h"

/* A linear layer of the parameters with its values in another range. */
static d2c_weight
weight_at(const d2c_params *params, const char *name, const float *range)
{
    d2c_weight w = d2c_params_linear(params, name);

    if (range == params->value)
        return w;
    w.value.data = (float *)range + ((float *)w.value.data - params->value);
    w.bias.data = (float *)range + ((float *)w.bias.data - params->value);
    return w;
}

dc_weights
dc_weights_at(const d2c_params *params, const float *range)
{
    dc_weights w = {
        .conv = weight_at(params, "text_embedder.conv", range),
        .in = weight_at(params, "text_embedder.mlp.0", range),
        .out = weight_at(params, "text_embedder.mlp.2", range),
    };

    return w;
}

void
dc_take(dc_saved *saved, const sit_run *run, int64_t texts)
{
    const d2c_sit_config *c = &run->sit->config;

    saved->unfolded = sit_take2(run, D2C_F32, texts, (int64_t)c->text_tokens * c->text_width);
    saved->e = sit_take2(run, D2C_F32, texts, c->hidden);
    saved->stat = sit_take2(run, D2C_F32, texts, 2);
    saved->norm = sit_take2(run, D2C_F32, texts, c->hidden);
    saved->pre = sit_take2(run, D2C_F32, texts, c->hidden);
}

/* y [K, D] */
d2c_status
dc_forward(d2c_tensor y, dc_saved *saved, const sit_run *run, const dc_weights *w, d2c_tensor text,
           d2c_tensor mask)
{
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor act = sit_take2(run, D2C_F32, y.dim[0], y.dim[1]);

    SIT_OP(run, d2c_text_unfold(run->be, saved->unfolded, text, mask));
    SIT_OP(run, d2c_linear_forward(run->be, saved->e, d2c_absent(), saved->unfolded, &w->conv, D2C_ACT_NONE));
    SIT_OP(run, d2c_layernorm_forward(run->be, saved->norm, saved->stat, saved->e, d2c_absent(), d2c_absent(),
                                      SIT_EPS));
    SIT_OP(run, d2c_linear_forward(run->be, act, saved->pre, saved->norm, &w->in, D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_forward(run->be, y, d2c_absent(), act, &w->out, D2C_ACT_NONE));
    SIT_OP(run, d2c_axpby(run->be, y, 1.0f, saved->e, 1.0f));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

/* dy [K, D] is left as it is. */
d2c_status
dc_backward(const sit_run *run, const dc_weights *w, const dc_saved *saved, d2c_tensor dy)
{
    size_t mark = d2c_arena_mark(run->arena);
    d2c_tensor act = sit_take2(run, D2C_F32, dy.dim[0], dy.dim[1]);
    d2c_tensor dpre = sit_take2(run, D2C_F32, dy.dim[0], dy.dim[1]);
    d2c_tensor de = sit_take2(run, D2C_F32, dy.dim[0], dy.dim[1]);
    d2c_tensor dnorm = act; /* free by then */

    SIT_OP(run, d2c_act_forward(run->be, act, saved->pre, D2C_ACT_SILU));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->out, dy, act));
    SIT_OP(run, d2c_linear_backward_input(run->be, dpre, dy, &w->out, saved->pre, D2C_ACT_SILU, 0));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->in, dpre, saved->norm));
    SIT_OP(run, d2c_linear_backward_input(run->be, dnorm, dpre, &w->in, d2c_absent(), D2C_ACT_NONE, 0));
    SIT_OP(run, d2c_layernorm_backward(run->be, de, d2c_absent(), d2c_absent(), dnorm, saved->e, saved->stat,
                                       d2c_absent()));
    SIT_OP(run, d2c_axpby(run->be, de, 1.0f, dy, 1.0f));
    SIT_OP(run, d2c_linear_backward_weight(run->be, &w->conv, de, saved->unfolded));
    d2c_arena_release(run->arena, mark);
    return D2C_OK;
}

/* ---- folding into the label table ---------------------------------------------------------------------------- */

#define FOLD_TEXTS 64 /* texts a pass */

/* Device memory and host buffers of one fold. */
typedef struct fold {
    sit_run run;
    dc_weights w;
    dc_saved saved;
    d2c_tensor text, mask, y;
} fold;

static void
fold_take(fold *f)
{
    const d2c_sit_config *c = &f->run.sit->config;

    f->text = sit_take3(&f->run, D2C_F32, FOLD_TEXTS, c->text_tokens, c->text_width);
    f->mask = sit_take2(&f->run, D2C_F32, FOLD_TEXTS, c->text_tokens);
    f->y = sit_take2(&f->run, D2C_F32, FOLD_TEXTS, c->hidden);
    dc_take(&f->saved, &f->run, FOLD_TEXTS);
}

/* y for `count` texts from the host, or for texts of zeros when `text` is NULL; out [count, D]. */
static d2c_status
fold_pass(float *out, fold *f, const float *text, const float *mask, int count)
{
    const d2c_sit_config *c = &f->run.sit->config;
    size_t mask_row = (size_t)c->text_tokens, text_row = mask_row * (size_t)c->text_width;

    SIT_OP(&f->run, d2c_zero(f->run.be, f->mask.data, FOLD_TEXTS * mask_row * sizeof(float)));
    SIT_OP(&f->run, d2c_zero(f->run.be, f->text.data, FOLD_TEXTS * text_row * sizeof(float)));
    if (text != NULL) {
        SIT_OP(&f->run, d2c_upload(f->run.be, f->text.data, text, (size_t)count * text_row * sizeof(float)));
        SIT_OP(&f->run, d2c_upload(f->run.be, f->mask.data, mask, (size_t)count * mask_row * sizeof(float)));
    }
    D2C_TRY(dc_forward(f->y, &f->saved, &f->run, &f->w, f->text, f->mask));
    SIT_OP(&f->run,
           d2c_download(f->run.be, out, f->y.data, (size_t)count * (size_t)c->hidden * sizeof(float)));
    return D2C_OK;
}

/* All classes, then the null class; folded [classes + null, D]. */
static d2c_status
fold_classes(float *folded, fold *f, const float *text, const float *mask)
{
    const d2c_sit_config *c = &f->run.sit->config;
    size_t mask_row = (size_t)c->text_tokens, text_row = mask_row * (size_t)c->text_width;
    int first;

    for (first = 0; first < c->classes; first += FOLD_TEXTS) {
        int count = c->classes - first < FOLD_TEXTS ? c->classes - first : FOLD_TEXTS;

        D2C_TRY(fold_pass(folded + (size_t)first * (size_t)c->hidden, f, text + (size_t)first * text_row,
                          mask + (size_t)first * mask_row, count));
    }
    if (c->null_class)
        D2C_TRY(fold_pass(folded + (size_t)c->classes * (size_t)c->hidden, f, NULL, NULL, 1));
    return D2C_OK;
}

/* Plans, allocates, folds, and adds the label table. */
static d2c_status
fold_run(float *table, float *labels, fold *f, const float *range, const float *text, const float *mask)
{
    const d2c_sit *sit = f->run.sit;
    const d2c_param *label = d2c_params_find(&sit->params, "y_embedder.embedding_table.weight");
    d2c_arena plan = {0}, arena = {0};
    void *memory = NULL;
    d2c_status status;
    int64_t i;

    f->w = dc_weights_at(&sit->params, range);
    f->run.arena = &plan;
    fold_take(f);
    D2C_TRY(dc_forward(f->y, &f->saved, &f->run, &f->w, f->text, f->mask));
    if (d2c_alloc(f->run.be, &memory, plan.peak, D2C_MEMORY_DEVICE) != D2C_OK)
        return d2c_backend_error(f->run.be, f->run.err);
    arena.base = memory;
    arena.capacity = plan.peak;
    f->run.arena = &arena;
    fold_take(f);
    status = fold_classes(table, f, text, mask);
    d2c_free(f->run.be, memory, D2C_MEMORY_DEVICE);
    D2C_TRY(status);
    if (d2c_download(f->run.be, labels, d2c_params_at(&sit->params, label, range),
                     (size_t)label->count * sizeof(float)) != D2C_OK)
        return d2c_backend_error(f->run.be, f->run.err);
    for (i = 0; i < label->count; i++)
        table[i] += labels[i];
    return D2C_OK;
}

d2c_status
d2c_sit_fold_text(float *table, d2c_sit *sit, d2c_backend *be, const float *range, const float *text,
                  const float *mask, d2c_error *err)
{
    const d2c_sit_config *c = &sit->config;
    fold f = {.run = {.sit = sit, .layers = sit->layers, .be = be, .err = err}};
    float *labels;
    d2c_status status;

    if (c->text_tokens == 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the network has no text condition to fold");
    labels = malloc((size_t)(c->classes + c->null_class) * (size_t)c->hidden * sizeof(float));
    if (labels == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = fold_run(table, labels, &f, range, text, mask);
    free(labels);
    return status;
}
