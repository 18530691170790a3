/* plan.c: the memory plan of a training. */
#include "train/plan.h"

#include <stdio.h>
#include <string.h>

#include "ops/backend.h"
#include "train/together.h"

#define GIB ((double)(1 << 30))
#define MIB ((double)(1 << 20))

static void
plan_network(d2c_memory_plan *plan, const d2c_sit *sit)
{
    size_t total = (size_t)sit->params.total;

    plan->parameters = plan->gradients = plan->ema = total * sizeof(float);
    plan->optimizer = 2 * total * sizeof(float);
    plan->shadow = sit->precision == D2C_BF16 ? total * sizeof(uint16_t) : 0;
}

/* The plain network of publish.c with all samples in one pass, and the sampler's own tensors (sampler.c). */
static d2c_status
plan_samples(d2c_memory_plan *plan, const d2c_sit_config *config, d2c_dtype precision, int samples,
             d2c_error *err)
{
    d2c_sit_config plain = *config;
    size_t image =
        (size_t)d2c_sit_outputs(config) * (size_t)config->height * (size_t)config->width * sizeof(float);
    d2c_sit *sit;
    d2c_status status;

    plain.text_tokens = plain.text_width = 0;
    plain.proj_block = plain.proj_hidden = plain.proj_width = 0;
    D2C_TRY(d2c_sit_outline(&sit, &plain, precision, err));
    status = d2c_sit_workspace(&plan->samples, sit, samples, 1, 0, err);
    plan->samples += (size_t)samples * 5 * image;
    plan->samples +=
        (size_t)sit->params.total * (sizeof(float) + (precision == D2C_BF16 ? sizeof(uint16_t) : 0));
    d2c_sit_destroy(sit, NULL);
    return status;
}

/* The step, with the plan's micro-batch, and the sum of all. */
static d2c_status
plan_step(d2c_memory_plan *plan, d2c_sit *sit, const d2c_step_setting *step, int asynchronous, d2c_error *err)
{
    d2c_step_setting setting = *step;

    setting.micro_batch = plan->micro_batch;
    setting.recompute = plan->recompute;
    D2C_TRY(d2c_step_plan(&plan->step, sit, &setting, asynchronous, err));
    plan->total = plan->parameters + plan->gradients + plan->optimizer + plan->ema + plan->shadow +
                  plan->samples + plan->step.batches + plan->step.activations;
    return D2C_OK;
}

/* Plans one level, its micro-batch halved while it is too much and would have `least` rows or more. */
static d2c_status
choose_micro_batch(d2c_memory_plan *plan, d2c_sit *sit, const d2c_step_setting *step, int asynchronous,
                   size_t most, int least, d2c_error *err)
{
    plan->micro_batch = step->micro_batch > 0 ? step->micro_batch : step->batch;
    D2C_TRY(plan_step(plan, sit, step, asynchronous, err));
    while (step->micro_batch == 0 && plan->total > most && plan->micro_batch > 1 &&
           (plan->micro_batch + 1) / 2 >= least) {
        plan->micro_batch = (plan->micro_batch + 1) / 2;
        D2C_TRY(plan_step(plan, sit, step, asynchronous, err));
    }
    return D2C_OK;
}

static d2c_status
choose(d2c_memory_plan *plan, d2c_sit *sit, const d2c_step_setting *step, int any_recompute, int asynchronous,
       size_t available, d2c_error *err)
{
    size_t most = available > 0 ? available - available / 16 : SIZE_MAX;
    int level, last = any_recompute ? D2C_RECOMPUTE_BLOCK : (int)step->recompute;

    for (level = any_recompute ? 0 : last; level <= last; level++) {
        plan->recompute = (d2c_recompute)level;
        D2C_TRY(
            choose_micro_batch(plan, sit, step, asynchronous, most, level < last ? D2C_FULL_ROWS : 1, err));
        if (plan->total <= most)
            break;
    }
    return D2C_OK;
}

d2c_status
d2c_memory_plan_make(d2c_memory_plan *plan, const d2c_sit_config *config, d2c_dtype precision,
                     const d2c_step_setting *step, int any_recompute, int asynchronous, int samples,
                     size_t available, d2c_error *err)
{
    d2c_sit *sit;
    d2c_status status = D2C_OK;

    memset(plan, 0, sizeof *plan);
    D2C_TRY(d2c_sit_outline(&sit, config, precision, err));
    plan_network(plan, sit);
    if (samples > 0)
        status = plan_samples(plan, config, precision, samples, err);
    if (status == D2C_OK)
        status = choose(plan, sit, step, any_recompute, asynchronous, available, err);
    d2c_sit_destroy(sit, NULL);
    return status;
}

static const char *const recompute_name[] = {"none", "mlp", "block"};

d2c_status
d2c_recompute_read(d2c_recompute *recompute, const char *name, d2c_error *err)
{
    int i;

    *recompute = D2C_RECOMPUTE_NONE;
    for (i = 0; i < 3; i++)
        if (strcmp(name, recompute_name[i]) == 0) {
            *recompute = (d2c_recompute)i;
            return D2C_OK;
        }
    if (strcmp(name, "auto") == 0)
        return D2C_OK;
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --recompute: \"%s\"", name);
}

/* ---- a training's plan ----------------------------------------------------------------------------------------- */

/* "1.5 GiB" */
typedef struct amount {
    char text[32];
} amount;

static amount
amount_of(size_t bytes)
{
    amount a;

    if ((double)bytes >= GIB)
        snprintf(a.text, sizeof a.text, "%.1f GiB", (double)bytes / GIB);
    else
        snprintf(a.text, sizeof a.text, "%.1f MiB", (double)bytes / MIB);
    return a;
}

static void
tell_plan(const d2c_train *train, const d2c_memory_plan *plan, size_t available, size_t total)
{
    static const char *const again[] = {"", ", MLPs computed again", ", blocks computed again"};
    char shadow[64] = "", samples[64] = "", room[96] = "";
    int batch = train->step.batch, parts = (batch + plan->micro_batch - 1) / plan->micro_batch;

    if (plan->shadow > 0)
        snprintf(shadow, sizeof shadow, ", bf16 copy %s", amount_of(plan->shadow).text);
    if (plan->samples > 0)
        snprintf(samples, sizeof samples, ", samples %s", amount_of(plan->samples).text);
    if (total > 0)
        snprintf(room, sizeof room, "; %s of %s are free on %s", amount_of(available).text,
                 amount_of(total).text, train->setting->device);
    d2c_notice(train, "memory: parameters %s, gradients %s, optimizer %s, EMA %s%s",
               amount_of(plan->parameters).text, amount_of(plan->gradients).text,
               amount_of(plan->optimizer).text, amount_of(plan->ema).text, shadow);
    d2c_notice(train,
               "memory: activations %s (%d of %s's %d rows at once, %d micro-batch%s a step%s), batches %s%s",
               amount_of(plan->step.activations).text, plan->micro_batch,
               train->setting->ranks != NULL ? "each process" : "the batch", batch, parts,
               parts > 1 ? "es" : "", again[plan->recompute], amount_of(plan->step.batches).text, samples);
    d2c_notice(train, "memory: %s in all%s", amount_of(plan->total).text, room);
}

d2c_status
d2c_train_plan(d2c_train *train, d2c_error *err)
{
    size_t available, total;
    d2c_memory_plan plan;

    if (d2c_memory_use(train->be, &available, &total) != D2C_OK)
        return d2c_backend_error(train->be, err);
    D2C_TRY(d2c_together_least(train, &available, err));
    D2C_TRY(d2c_memory_plan_make(
        &plan, &train->config, train->precision, &train->step, strcmp(train->setting->recompute, "auto") == 0,
        d2c_backend_is_asynchronous(train->be),
        train->setting->sample_every > 0 && !train->table->latents ? D2C_PREVIEW_SAMPLES : 0, available,
        err));
    train->step.micro_batch = plan.micro_batch;
    train->setting->micro_batch = plan.micro_batch;
    train->step.recompute = plan.recompute;
    train->setting->recompute = recompute_name[plan.recompute];
    tell_plan(train, &plan, available, total);
    return D2C_OK;
}
