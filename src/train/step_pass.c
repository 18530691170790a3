/* step_pass.c: the ops of a step: a batch in micro-batches, then the update. */
#include "base/philox.h"
#include "train/stepper.h"

/* Some rows of the batch. */
typedef struct part {
    d2c_stepper *s;
    const step_slot *slot;
    int64_t first, rows;
    int texts;
} part;

static d2c_tensor
indices(const part *p, int64_t *data)
{
    return d2c_tensor1(data, D2C_I64, p->rows);
}

/* [rows, 4] of a DiT's slot: its coefficients, or its bounds behind them. */
static d2c_tensor
dit_terms(const part *p, int bounds)
{
    float *start = p->slot->time + (size_t)(bounds ? 6 : 2) * (size_t)p->s->setting.batch;

    return d2c_tensor2(start + 4 * p->first, D2C_F32, p->rows, 4);
}

static int
is_dit(const part *p)
{
    return p->s->sit->config.kind == D2C_SIT_KIND_DIT;
}

static d2c_tensor
scalars(const part *p, float *data)
{
    return d2c_tensor1(data, D2C_F32, p->rows);
}

static d2c_tensor
flat(const part *p, float *data)
{
    return d2c_tensor2(data, D2C_F32, p->rows, (int64_t)d2c_row_pixels(&p->s->setting.shape));
}

static d2c_tensor
planes(const part *p, float *data, int channels)
{
    const d2c_row_shape *shape = &p->s->setting.shape;

    return d2c_tensor4(data, D2C_F32, p->rows, channels, shape->size, shape->size);
}

/* The network's output, or its gradient. */
static d2c_tensor
outputs(const part *p, float *data)
{
    return planes(p, data, d2c_sit_outputs(&p->s->sit->config));
}

/* The rows' images. */
static d2c_tensor
images(const part *p)
{
    return flat(p, p->slot->x + (size_t)p->first * d2c_row_pixels(&p->s->setting.shape));
}

static d2c_tensor
tokens(const part *p, void *data, d2c_dtype dtype)
{
    const d2c_row_shape *shape = &p->s->setting.shape;

    if (shape->visual_tokens == 0)
        return d2c_absent();
    return d2c_tensor3(data, dtype, p->rows, shape->visual_tokens, shape->visual_width);
}

/* The noised images, and what a velocity is to be: REPA's time runs the other way, and so its velocity has the other sign. */
static d2c_status
diffuse(const part *p)
{
    const d2c_stepper *s = p->s;
    const d2c_sit_config *config = &s->sit->config;
    d2c_tensor coefficient = d2c_tensor2(s->coefficient, D2C_F32, p->rows, 4), target = flat(p, s->target);
    d2c_tensor time = scalars(p, p->slot->time + s->setting.batch + p->first);

    if (is_dit(p))
        return d2c_diffuse(s->be, flat(p, s->xt), d2c_absent(), images(p), flat(p, s->noise),
                           dit_terms(p, 0));
    D2C_TRY(d2c_path_coefficients(s->be, coefficient, time, config->path));
    D2C_TRY(d2c_diffuse(s->be, flat(p, s->xt), target, images(p), flat(p, s->noise), coefficient));
    return config->kind == D2C_SIT_KIND_REPA ? d2c_axpby(s->be, target, 0.0f, target, -1.0f) : D2C_OK;
}

/* Noise, dropped conditions and the noised images.  A dropped row's text is the zero text: the draw is the label's, so
 * both are dropped together. */
static d2c_status
draw(const part *p, float cfg_prob)
{
    const d2c_stepper *s = p->s;
    const d2c_sit_config *config = &s->sit->config;
    uint64_t seed = s->setting.seed;
    d2c_tensor id = indices(p, p->slot->number + p->first), epoch = indices(p, p->slot->epoch + p->first);
    d2c_tensor label = indices(p, p->slot->label + p->first), absent = d2c_absent();

    D2C_TRY(d2c_draw_normal(s->be, flat(p, s->noise), seed, id, epoch, D2C_PURPOSE_NOISE));
    D2C_TRY(d2c_drop_labels(s->be, indices(p, s->kept), absent, label, seed, id, epoch, cfg_prob,
                            config->classes));
    if (s->setting.shape.text_tokens > 0)
        D2C_TRY(d2c_drop_labels(s->be, indices(p, s->kept_text), absent,
                                indices(p, p->slot->text_index + p->first), seed, id, epoch, cfg_prob, 0));
    return diffuse(p);
}

static d2c_sit_input
network_input(const part *p)
{
    const d2c_stepper *s = p->s;
    const d2c_row_shape *shape = &s->setting.shape;
    d2c_sit_input in = {.batch = (int)p->rows,
                        .x = planes(p, s->xt, shape->channels),
                        .t = scalars(p, p->slot->time + p->first),
                        .label = indices(p, s->kept),
                        .text = d2c_absent(),
                        .text_mask = d2c_absent(),
                        .text_index = d2c_absent()};

    if (shape->text_tokens > 0) {
        in.text = d2c_tensor3(p->slot->text, D2C_F32, p->texts, shape->text_tokens, shape->text_width);
        in.text_mask = d2c_tensor2(p->slot->text_mask, D2C_F32, p->texts, shape->text_tokens);
        in.text_index = indices(p, s->kept_text);
    }
    return in;
}

/* The loss of what the network predicts, of every row; with its gradient in training. */
static d2c_status
denoise_loss(const part *p, int training)
{
    const d2c_stepper *s = p->s;
    d2c_tensor loss = scalars(p, s->loss + p->first), v = outputs(p, s->v);
    d2c_tensor dv = training ? outputs(p, s->dv) : d2c_absent();

    if (is_dit(p))
        return d2c_dit_loss(s->be, loss, dv, v, flat(p, s->noise), images(p), dit_terms(p, 1),
                            p->slot->record);
    return d2c_mse_loss(s->be, loss, dv, v, flat(p, s->target), p->slot->record);
}

/* Both losses. */
static d2c_status
losses(const part *p, int training)
{
    const d2c_stepper *s = p->s;
    d2c_tensor dz = training ? tokens(p, s->dprojected, D2C_F32) : d2c_absent();
    uint16_t *visual = p->slot->visual + (size_t)p->first * d2c_row_visual(&s->setting.shape);

    D2C_TRY(denoise_loss(p, training));
    if (s->setting.shape.visual_tokens == 0)
        return D2C_OK;
    return d2c_cosine_loss(s->be, scalars(p, s->aligned + p->first), dz, tokens(p, s->projected, D2C_F32),
                           tokens(p, visual, D2C_F16), s->setting.proj_coeff, p->slot->record);
}

/* Forward and, in training, backward. */
static d2c_status
compute(const part *p, int training, d2c_error *err)
{
    d2c_stepper *s = p->s;
    d2c_sit_input in = network_input(p);
    d2c_sit_output out = {
        .v = outputs(p, s->v), .projected = tokens(p, s->projected, D2C_F32), .hidden = d2c_absent()};
    d2c_sit_pass *saved = NULL;

    if (draw(p, training ? s->setting.cfg_prob : 0.0f) != D2C_OK)
        return d2c_backend_error(s->be, err);
    D2C_TRY(d2c_sit_forward(s->sit, s->be, &s->arena, &in, &out, training, &saved, err));
    if (losses(p, training) != D2C_OK)
        return d2c_backend_error(s->be, err);
    if (!training)
        return D2C_OK;
    return d2c_sit_backward(s->sit, s->be, &s->arena, saved, outputs(p, s->dv),
                            tokens(p, s->dprojected, D2C_F32), err);
}

/* The batch's losses into the record, once for all micro-batches: their sum does not depend on how many there are. */
static d2c_status
finish(const d2c_stepper *s, const step_slot *slot)
{
    int64_t rows = step_rows(s);

    D2C_TRY(d2c_finish_loss(s->be, slot->record, d2c_tensor1(s->losses, D2C_F32, rows)));
    if (s->setting.shape.visual_tokens == 0)
        return D2C_OK;
    return d2c_finish_loss(s->be, slot->record, d2c_tensor1(s->losses + rows, D2C_F32, rows));
}

static d2c_status
update(const d2c_stepper *s, const step_slot *slot)
{
    const d2c_params *p = &s->sit->params;
    d2c_tensor grad = d2c_tensor1(p->grad, D2C_F32, p->trainable);
    d2c_tensor shadow = p->shadow != NULL ? d2c_tensor1(p->shadow, D2C_BF16, p->trainable) : d2c_absent();

    D2C_TRY(d2c_gradient_norm(s->be, slot->record, grad));
    return d2c_adamw_step(s->be, d2c_tensor1(p->value, D2C_F32, p->trainable),
                          d2c_tensor1(p->m, D2C_F32, p->trainable), d2c_tensor1(p->v, D2C_F32, p->trainable),
                          d2c_tensor1(p->ema, D2C_F32, p->trainable), shadow, grad, &s->setting.adamw,
                          slot->record);
}

d2c_status
step_pass(d2c_stepper *s, const step_slot *slot, int texts, int training, d2c_error *err)
{
    const d2c_params *params = &s->sit->params;
    part p = {.s = s, .slot = slot, .texts = texts};

    if (training && d2c_zero(s->be, params->grad, (size_t)params->trainable * sizeof(float)) != D2C_OK)
        return d2c_backend_error(s->be, err);
    for (; p.first < s->setting.batch; p.first += p.rows) {
        size_t mark = d2c_arena_mark(&s->arena);
        int64_t left = s->setting.batch - p.first;
        d2c_status status;

        p.rows = left < s->setting.micro_batch ? left : s->setting.micro_batch;
        status = compute(&p, training, err);
        d2c_arena_release(&s->arena, mark);
        D2C_TRY(status);
    }
    D2C_TRY(step_join(s, training, err));
    if (finish(s, slot) != D2C_OK || (training && update(s, slot) != D2C_OK))
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}
