/* step.c: the device side of training. */
#include "train/step.h"

#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

/* Device memory.  n = channels * size * size, T and width those of the projector, K texts. */
struct d2c_stepper {
    d2c_sit *sit;
    d2c_backend *be;
    d2c_step_setting setting;
    void *block; /* everything below, and the network's activations */
    size_t bytes;
    d2c_arena arena;
    float *x, *noise, *xt, *target, *v, *dv; /* [B, n] */
    float *uniform, *t, *coefficient, *loss,
        *aligned;                           /* [B], coefficient [B, 4]; loss and aligned side by side */
    int64_t *label, *number, *epoch, *kept; /* [B] */
    int64_t *text_index, *kept_text;        /* [B] */
    float *text, *text_mask;                /* [K, L, W], [K, L] */
    uint16_t *visual;                       /* f16 [B, T, width] */
    float *projected, *dprojected;          /* [B, T, width] */
    d2c_step_record *record;
    float *host_loss; /* [2 B] */
};

/* Hands out the memory; called twice, first to count. */
static void
lay_out(d2c_stepper *s, d2c_arena *arena)
{
    const d2c_row_shape *shape = &s->setting.shape;
    size_t rows = (size_t)s->setting.batch, n = rows * d2c_row_pixels(shape) * sizeof(float);
    size_t visual = rows * d2c_row_visual(shape), texts = (size_t)d2c_batch_text_limit(s->setting.batch);

    s->record = d2c_arena_alloc(arena, sizeof *s->record);
    s->x = d2c_arena_alloc(arena, n);
    s->noise = d2c_arena_alloc(arena, n);
    s->xt = d2c_arena_alloc(arena, n);
    s->target = d2c_arena_alloc(arena, n);
    s->v = d2c_arena_alloc(arena, n);
    s->dv = d2c_arena_alloc(arena, n);
    s->uniform = d2c_arena_alloc(arena, rows * sizeof(float));
    s->t = d2c_arena_alloc(arena, rows * sizeof(float));
    s->coefficient = d2c_arena_alloc(arena, 4 * rows * sizeof(float));
    s->loss = d2c_arena_alloc(arena, 2 * rows * sizeof(float));
    s->label = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    s->number = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    s->epoch = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    s->kept = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    s->text_index = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    s->kept_text = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    s->text = d2c_arena_alloc(arena, texts * d2c_row_text(shape) * sizeof(float));
    s->text_mask = d2c_arena_alloc(arena, texts * (size_t)shape->text_tokens * sizeof(float));
    s->visual = d2c_arena_alloc(arena, visual * sizeof(uint16_t));
    s->projected = d2c_arena_alloc(arena, visual * sizeof(float));
    s->dprojected = d2c_arena_alloc(arena, visual * sizeof(float));
}

static d2c_status
allocate(d2c_stepper *s, d2c_error *err)
{
    d2c_arena plan = {0};
    size_t network = 0;
    int texts = s->setting.shape.text_tokens > 0 ? d2c_batch_text_limit(s->setting.batch) : 0;

    lay_out(s, &plan);
    D2C_TRY(d2c_sit_workspace(&network, s->sit, s->setting.batch, texts, 1, err));
    if (d2c_size_add(&s->bytes, plan.used, network) != 0 ||
        d2c_size_add(&s->bytes, s->bytes, D2C_ARENA_ALIGN) != 0)
        return d2c_fail(err, D2C_TOO_LARGE, "the batch is too large");
    if (d2c_alloc(s->be, &s->block, s->bytes, D2C_MEMORY_DEVICE) != D2C_OK)
        return d2c_backend_error(s->be, err);
    s->arena = (d2c_arena){.base = s->block, .capacity = s->bytes};
    lay_out(s, &s->arena);
    s->aligned = s->loss + s->setting.batch;
    s->host_loss = malloc(2 * (size_t)s->setting.batch * sizeof(float));
    if (s->host_loss == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    return d2c_arena_check(&s->arena, err);
}

d2c_status
d2c_stepper_open(d2c_stepper **stepper, d2c_sit *sit, d2c_backend *be, const d2c_step_setting *setting,
                 d2c_error *err)
{
    d2c_stepper *made = calloc(1, sizeof *made);
    d2c_status status;

    *stepper = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    made->sit = sit;
    made->be = be;
    made->setting = *setting;
    status = allocate(made, err);
    if (status == D2C_OK)
        *stepper = made;
    else
        d2c_stepper_close(made);
    return status;
}

void
d2c_stepper_close(d2c_stepper *stepper)
{
    if (stepper == NULL)
        return;
    if (stepper->block != NULL)
        d2c_free(stepper->be, stepper->block, D2C_MEMORY_DEVICE);
    free(stepper->host_loss);
    free(stepper);
}

size_t
d2c_stepper_bytes(const d2c_stepper *stepper)
{
    return stepper->bytes;
}

static d2c_tensor
indices(const d2c_stepper *s, int64_t *data)
{
    return d2c_tensor1(data, D2C_I64, s->setting.batch);
}

static d2c_tensor
flat(const d2c_stepper *s, float *data)
{
    return d2c_tensor2(data, D2C_F32, s->setting.batch, (int64_t)d2c_row_pixels(&s->setting.shape));
}

static d2c_tensor
planes(const d2c_stepper *s, float *data)
{
    const d2c_row_shape *shape = &s->setting.shape;

    return d2c_tensor4(data, D2C_F32, s->setting.batch, shape->channels, shape->size, shape->size);
}

static d2c_tensor
tokens(const d2c_stepper *s, void *data, d2c_dtype dtype)
{
    const d2c_row_shape *shape = &s->setting.shape;

    if (shape->visual_tokens == 0)
        return d2c_absent();
    return d2c_tensor3(data, dtype, s->setting.batch, shape->visual_tokens, shape->visual_width);
}

static d2c_status
upload(d2c_stepper *s, const d2c_batch *batch, const d2c_step_record *record)
{
    const d2c_row_shape *shape = &s->setting.shape;
    size_t rows = (size_t)s->setting.batch, texts = (size_t)batch->texts;

    D2C_TRY(d2c_upload(s->be, s->record, record, sizeof *record));
    D2C_TRY(d2c_upload(s->be, s->x, batch->x, rows * d2c_row_pixels(shape) * sizeof(float)));
    D2C_TRY(d2c_upload(s->be, s->label, batch->label, rows * sizeof(int64_t)));
    D2C_TRY(d2c_upload(s->be, s->number, batch->number, rows * sizeof(int64_t)));
    D2C_TRY(d2c_upload(s->be, s->epoch, batch->epoch, rows * sizeof(int64_t)));
    if (shape->text_tokens > 0) {
        D2C_TRY(d2c_upload(s->be, s->text_index, batch->text_index, rows * sizeof(int64_t)));
        D2C_TRY(d2c_upload(s->be, s->text, batch->text, texts * d2c_row_text(shape) * sizeof(float)));
        D2C_TRY(d2c_upload(s->be, s->text_mask, batch->text_mask,
                           texts * (size_t)shape->text_tokens * sizeof(float)));
    }
    if (shape->visual_tokens > 0)
        D2C_TRY(d2c_upload(s->be, s->visual, batch->visual, rows * d2c_row_visual(shape) * sizeof(uint16_t)));
    return D2C_OK;
}

/* Times, noise, dropped conditions, the noised images and their velocity.  A dropped row's text is the zero text: the
 * draw is the label's, so both are dropped together. */
static d2c_status
draw(d2c_stepper *s, float cfg_prob)
{
    const d2c_sit_config *config = &s->sit->config;
    uint64_t seed = s->setting.seed;
    int64_t rows = s->setting.batch;
    d2c_tensor id = indices(s, s->number), epoch = indices(s, s->epoch), absent = d2c_absent();
    d2c_tensor t = d2c_tensor1(s->t, D2C_F32, rows), uniform = d2c_tensor1(s->uniform, D2C_F32, rows);
    d2c_tensor coefficient = d2c_tensor2(s->coefficient, D2C_F32, rows, 4);
    float longest = config->path == D2C_PATH_VP ? 1.0f - 1e-5f : 1.0f;

    D2C_TRY(d2c_draw_uniform(s->be, d2c_tensor2(s->uniform, D2C_F32, rows, 1), seed, id, epoch,
                             D2C_PURPOSE_TIME));
    D2C_TRY(d2c_axpby(s->be, t, longest, uniform, 0.0f));
    D2C_TRY(d2c_draw_normal(s->be, flat(s, s->noise), seed, id, epoch, D2C_PURPOSE_NOISE));
    D2C_TRY(d2c_drop_labels(s->be, indices(s, s->kept), absent, indices(s, s->label), seed, id, epoch,
                            cfg_prob, config->classes));
    if (s->setting.shape.text_tokens > 0)
        D2C_TRY(d2c_drop_labels(s->be, indices(s, s->kept_text), absent, indices(s, s->text_index), seed, id,
                                epoch, cfg_prob, 0));
    D2C_TRY(d2c_path_coefficients(s->be, coefficient, t, config->path));
    return d2c_diffuse(s->be, flat(s, s->xt), flat(s, s->target), flat(s, s->x), flat(s, s->noise),
                       coefficient);
}

static d2c_sit_input
network_input(const d2c_stepper *s, const d2c_batch *batch)
{
    const d2c_row_shape *shape = &s->setting.shape;
    d2c_sit_input in = {.batch = s->setting.batch,
                        .x = planes(s, s->xt),
                        .t = d2c_tensor1(s->t, D2C_F32, s->setting.batch),
                        .label = indices(s, s->kept),
                        .text = d2c_absent(),
                        .text_mask = d2c_absent(),
                        .text_index = d2c_absent()};

    if (shape->text_tokens > 0) {
        in.text = d2c_tensor3(s->text, D2C_F32, batch->texts, shape->text_tokens, shape->text_width);
        in.text_mask = d2c_tensor2(s->text_mask, D2C_F32, batch->texts, shape->text_tokens);
        in.text_index = indices(s, s->kept_text);
    }
    return in;
}

/* Both losses, summed into the record; with their gradients when dv and dprojected are wanted. */
static d2c_status
losses(d2c_stepper *s, int with_gradients)
{
    int64_t rows = s->setting.batch;
    d2c_tensor dv = with_gradients ? flat(s, s->dv) : d2c_absent();
    d2c_tensor dz = with_gradients ? tokens(s, s->dprojected, D2C_F32) : d2c_absent();
    d2c_tensor loss = d2c_tensor1(s->loss, D2C_F32, rows), aligned = d2c_tensor1(s->aligned, D2C_F32, rows);

    D2C_TRY(d2c_mse_loss(s->be, loss, dv, flat(s, s->v), flat(s, s->target), s->record));
    D2C_TRY(d2c_finish_loss(s->be, s->record, loss));
    if (s->setting.shape.visual_tokens == 0)
        return D2C_OK;
    D2C_TRY(d2c_cosine_loss(s->be, aligned, dz, tokens(s, s->projected, D2C_F32),
                            tokens(s, s->visual, D2C_F16), s->setting.proj_coeff, s->record));
    return d2c_finish_loss(s->be, s->record, aligned);
}

static d2c_status
update(d2c_stepper *s)
{
    const d2c_params *p = &s->sit->params;
    d2c_tensor grad = d2c_tensor1(p->grad, D2C_F32, p->trainable);
    d2c_tensor shadow = p->shadow != NULL ? d2c_tensor1(p->shadow, D2C_BF16, p->trainable) : d2c_absent();

    D2C_TRY(d2c_gradient_norm(s->be, s->record, grad));
    return d2c_adamw_step(s->be, d2c_tensor1(p->value, D2C_F32, p->trainable),
                          d2c_tensor1(p->m, D2C_F32, p->trainable), d2c_tensor1(p->v, D2C_F32, p->trainable),
                          d2c_tensor1(p->ema, D2C_F32, p->trainable), shadow, grad, &s->setting.adamw,
                          s->record);
}

static d2c_status
download(d2c_stepper *s, d2c_step_result *result)
{
    int rows = s->setting.batch, with_visual = s->setting.shape.visual_tokens > 0, i;

    D2C_TRY(d2c_download(s->be, &result->record, s->record, sizeof result->record));
    D2C_TRY(d2c_download(s->be, s->host_loss, s->loss, 2 * (size_t)rows * sizeof(float)));
    result->denoise = result->projection = 0;
    for (i = 0; i < rows; i++) {
        result->denoise += s->host_loss[i] / rows;
        result->projection += with_visual ? s->host_loss[rows + i] / rows : 0;
    }
    return D2C_OK;
}

/* Forward and, in training, backward; *status is the network's, which fills err itself. */
static d2c_status
pass(d2c_stepper *s, const d2c_batch *batch, int training, d2c_error *err)
{
    const d2c_params *p = &s->sit->params;
    d2c_sit_input in = network_input(s, batch);
    d2c_sit_output out = {
        .v = planes(s, s->v), .projected = tokens(s, s->projected, D2C_F32), .hidden = d2c_absent()};
    d2c_sit_pass *saved = NULL;

    D2C_TRY(d2c_sit_forward(s->sit, s->be, &s->arena, &in, &out, training, &saved, err));
    if (losses(s, training) != D2C_OK)
        return d2c_backend_error(s->be, err);
    if (!training)
        return D2C_OK;
    if (d2c_zero(s->be, p->grad, (size_t)p->trainable * sizeof(float)) != D2C_OK)
        return d2c_backend_error(s->be, err);
    D2C_TRY(d2c_sit_backward(s->sit, s->be, &s->arena, saved, planes(s, s->dv),
                             tokens(s, s->dprojected, D2C_F32), err));
    return update(s) == D2C_OK ? D2C_OK : d2c_backend_error(s->be, err);
}

static d2c_status
run(d2c_stepper *s, d2c_step_result *result, const d2c_batch *batch, const d2c_step_record *record,
    float cfg_prob, int training, d2c_error *err)
{
    size_t mark = d2c_arena_mark(&s->arena);
    d2c_status status;

    if (upload(s, batch, record) != D2C_OK || draw(s, cfg_prob) != D2C_OK)
        return d2c_backend_error(s->be, err);
    status = pass(s, batch, training, err);
    d2c_arena_release(&s->arena, mark);
    D2C_TRY(status);
    return download(s, result) == D2C_OK ? D2C_OK : d2c_backend_error(s->be, err);
}

d2c_status
d2c_stepper_train(d2c_stepper *stepper, d2c_step_result *result, const d2c_batch *batch,
                  const d2c_step_record *record, d2c_error *err)
{
    return run(stepper, result, batch, record, stepper->setting.cfg_prob, 1, err);
}

d2c_status
d2c_stepper_measure(d2c_stepper *stepper, d2c_step_result *result, const d2c_batch *batch, d2c_error *err)
{
    d2c_step_record record = {.loss_scale = 1.0f / (float)stepper->setting.batch};

    return run(stepper, result, batch, &record, 0.0f, 0, err);
}
