/* step_memory.c: a stepper's memory: what lies where, how much it is, and what is done when it does not fit. */
#include <stdio.h>

#include "train/stepper.h"

#define MIB ((double)(1 << 20))

int
step_texts(const d2c_stepper *s, int texts)
{
    if (s->setting.shape.text_tokens == 0)
        return 0;
    return s->slots > 1 ? d2c_batch_text_limit(s->setting.batch) : texts;
}

/* ---- where things lie ---------------------------------------------------------------------------------------- */

static void
lay_out_slot(const d2c_stepper *s, step_slot *slot, d2c_arena *arena)
{
    const d2c_row_shape *shape = &s->setting.shape;
    size_t rows = (size_t)s->setting.batch, texts = (size_t)d2c_batch_text_limit(s->setting.batch);

    slot->record = d2c_arena_alloc(arena, sizeof *slot->record);
    slot->x = d2c_arena_alloc(arena, rows * d2c_row_pixels(shape) * sizeof(float));
    slot->label = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    slot->number = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    slot->epoch = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    slot->text_index = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    slot->text = d2c_arena_alloc(arena, texts * d2c_row_text(shape) * sizeof(float));
    slot->text_mask = d2c_arena_alloc(arena, texts * (size_t)shape->text_tokens * sizeof(float));
    slot->visual = d2c_arena_alloc(arena, rows * d2c_row_visual(shape) * sizeof(uint16_t));
    slot->time = d2c_arena_alloc(arena, rows * step_time_floats(s) * sizeof(float));
}

static void
lay_out_micro_batch(d2c_stepper *s, d2c_arena *arena)
{
    const d2c_row_shape *shape = &s->setting.shape;
    size_t rows = (size_t)s->setting.micro_batch, n = rows * d2c_row_pixels(shape) * sizeof(float);
    size_t visual = rows * d2c_row_visual(shape) * sizeof(float);
    int dit = s->sit->config.kind == D2C_SIT_KIND_DIT;

    s->noise = d2c_arena_alloc(arena, n);
    s->xt = d2c_arena_alloc(arena, n);
    s->target = d2c_arena_alloc(arena, dit ? 0 : n);
    s->v = d2c_arena_alloc(arena, dit ? 2 * n : n);
    s->dv = d2c_arena_alloc(arena, dit ? 2 * n : n);
    s->coefficient = d2c_arena_alloc(arena, 4 * rows * sizeof(float));
    s->kept = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    s->kept_text = d2c_arena_alloc(arena, rows * sizeof(int64_t));
    s->projected = d2c_arena_alloc(arena, visual);
    s->dprojected = d2c_arena_alloc(arena, visual);
}

/* Hands out the memory; called twice, first to count.  Behind it lies the network's. */
static void
lay_out(d2c_stepper *s, d2c_arena *arena)
{
    int i;

    for (i = 0; i < s->slots; i++)
        lay_out_slot(s, &s->slot[i], arena);
    s->losses = d2c_arena_alloc(arena, 2 * (size_t)step_rows(s) * sizeof(float));
    s->received = d2c_arena_alloc(arena, d2c_ranks_scratch(s->setting.ranks, s->sit->params.trainable));
    s->batches = d2c_arena_mark(arena);
    lay_out_micro_batch(s, arena);
}

static void
lay_out_pinned(d2c_stepper *s, d2c_arena *arena)
{
    int i;

    for (i = 0; i < s->slots; i++) {
        s->slot[i].told = d2c_arena_alloc(arena, sizeof *s->slot[i].told);
        s->slot[i].told_loss = d2c_arena_alloc(arena, 2 * (size_t)step_rows(s) * sizeof(float));
    }
}

/* Counts: s->batches and s->bytes. */
static d2c_status
count(d2c_stepper *s, d2c_error *err)
{
    int texts = s->setting.shape.text_tokens > 0 ? d2c_batch_text_limit(s->setting.batch) : 0;
    d2c_arena plan = {0};
    size_t network = 0;

    lay_out(s, &plan);
    s->sit->recompute = s->setting.recompute;
    D2C_TRY(d2c_sit_workspace(&network, s->sit, s->setting.micro_batch, texts, 1, err));
    if (plan.failed || d2c_size_add(&s->bytes, plan.used, network) != 0)
        return d2c_fail(err, D2C_TOO_LARGE, "the batch is too large");
    return D2C_OK;
}

d2c_status
d2c_step_plan(d2c_step_bytes *bytes, d2c_sit *sit, const d2c_step_setting *setting, int asynchronous,
              d2c_error *err)
{
    d2c_stepper s = {.sit = sit, .setting = *setting, .slots = asynchronous ? STEP_SLOTS : 1};

    if (s.setting.micro_batch == 0)
        s.setting.micro_batch = s.setting.batch;
    D2C_TRY(count(&s, err));
    bytes->batches = s.batches;
    bytes->activations = s.bytes - s.batches;
    return D2C_OK;
}

/* ---- getting it ------------------------------------------------------------------------------------------------ */

/* The texts behind those that a batch has are computed, though no row refers to them: they must be numbers.  What is
 * uploaded early overtakes what is queued, so this waits. */
static d2c_status
clear_texts(d2c_stepper *s)
{
    const d2c_row_shape *shape = &s->setting.shape;
    size_t texts = (size_t)d2c_batch_text_limit(s->setting.batch);
    int i;

    for (i = 0; i < s->slots && shape->text_tokens > 0; i++) {
        D2C_TRY(d2c_zero(s->be, s->slot[i].text, texts * d2c_row_text(shape) * sizeof(float)));
        D2C_TRY(d2c_zero(s->be, s->slot[i].text_mask, texts * (size_t)shape->text_tokens * sizeof(float)));
    }
    return d2c_synchronize(s->be);
}

static d2c_status
allocate(d2c_stepper *s, d2c_error *err)
{
    D2C_TRY(count(s, err));
    if (d2c_alloc(s->be, &s->block, s->bytes, D2C_MEMORY_DEVICE) != D2C_OK)
        return d2c_backend_error(s->be, err);
    s->arena = (d2c_arena){.base = s->block, .capacity = s->bytes};
    lay_out(s, &s->arena);
    s->loss = s->losses + (size_t)d2c_rank_of(s->setting.ranks) * (size_t)s->setting.batch;
    s->aligned = s->loss + step_rows(s);
    if (clear_texts(s) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return d2c_arena_check(&s->arena, err);
}

/* "1.5 MiB asked for, 2.0 of 3.0 MiB free" */
static void
describe_lack(const d2c_stepper *s, char *text, size_t size)
{
    size_t available, total;
    int used = snprintf(text, size, "%.1f MiB asked for", (double)s->bytes / MIB);

    if (d2c_memory_use(s->be, &available, &total) == D2C_OK && total > 0)
        snprintf(text + used, size - (size_t)used, ", %.1f of %.1f MiB free", (double)available / MIB,
                 (double)total / MIB);
}

static d2c_status
too_large(const d2c_stepper *s, const char *lack, d2c_error *err)
{
    d2c_fail(err, D2C_NO_MEMORY, "a training step does not fit into memory, even one row at a time");
    d2c_detail(err, "There were %s; the batch has %d rows.", lack, s->setting.batch);
    d2c_hint(err, "Take a smaller --model or --global-batch-size; a smaller --micro-batch there is not.");
    return D2C_NO_MEMORY;
}

/* Gives the memory back and halves the micro-batch, until there is enough. */
static d2c_status
allocate_less(d2c_stepper *s, d2c_error *err)
{
    d2c_status status = D2C_NO_MEMORY;
    char lack[128];

    while (status == D2C_NO_MEMORY) {
        describe_lack(s, lack, sizeof lack);
        d2c_free(s->be, s->block, D2C_MEMORY_DEVICE);
        s->block = NULL;
        if (s->setting.micro_batch == 1)
            return too_large(s, lack, err);
        step_notice(s, "micro-batches of %d rows do not fit into memory (%s): going on with %d",
                    s->setting.micro_batch, lack, (s->setting.micro_batch + 1) / 2);
        s->setting.micro_batch = (s->setting.micro_batch + 1) / 2;
        status = allocate(s, err);
    }
    return status;
}

d2c_status
step_memory_open(d2c_stepper *s, d2c_error *err)
{
    d2c_arena plan = {0}, pinned;
    d2c_status status;

    lay_out_pinned(s, &plan);
    if (d2c_alloc(s->be, &s->pinned, plan.used, D2C_MEMORY_PINNED) != D2C_OK)
        return d2c_backend_error(s->be, err);
    pinned = (d2c_arena){.base = s->pinned, .capacity = plan.used};
    lay_out_pinned(s, &pinned);
    status = allocate(s, err);
    return status == D2C_NO_MEMORY ? allocate_less(s, err) : status;
}

d2c_status
step_memory_shrink(d2c_stepper *s, d2c_error *err)
{
    if (d2c_synchronize(s->be) != D2C_OK)
        return d2c_backend_error(s->be, err);
    step_graph_free(s);
    return allocate_less(s, err);
}

void
step_memory_close(d2c_stepper *s)
{
    d2c_free(s->be, s->block, D2C_MEMORY_DEVICE);
    d2c_free(s->be, s->pinned, D2C_MEMORY_PINNED);
}
