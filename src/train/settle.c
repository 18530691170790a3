/* settle.c: what the user left open about network and rows, and the facts that a checkpoint keeps. */
#define _GNU_SOURCE
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn/model.h"
#include "ops/backend.h"
#include "train/plan.h"
#include "train/together.h"

static d2c_status
invalid(d2c_error *err, const char *option, const char *text)
{
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --%s: \"%s\"", option, text);
}

/* What is trained, and what it has that not every kind has. */
static d2c_status
settle_kind(d2c_train *train, d2c_error *err)
{
    d2c_train_setting *setting = train->setting;

    if (!d2c_sit_kind_by_name(&train->config.kind, setting->kind))
        return invalid(err, "kind", setting->kind);
    if (setting->model == NULL)
        setting->model = train->config.kind == D2C_SIT_KIND_DIT ? "DiT-S/2" : "SiT-S/2";
    if (setting->qk_norm && train->config.kind != D2C_SIT_KIND_REPA) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "--qk-norm is of networks of kind \"repa\"");
        d2c_detail(err, "The public codes of SiT and DiT do not normalise queries and keys.");
        return D2C_INVALID_ARGUMENT;
    }
    train->config.qk_norm = setting->qk_norm;
    return D2C_OK;
}

/* Sizes of the network: a public preset, or the user's own. */
static d2c_status
settle_sizes(d2c_train *train, d2c_error *err)
{
    d2c_train_setting *setting = train->setting;
    d2c_sit_config *config = &train->config;

    if (strcmp(setting->model, "custom") != 0) {
        D2C_TRY(d2c_sit_preset(config, setting->model, err));
        setting->hidden = config->hidden;
        setting->depth = config->depth;
        setting->heads = config->heads;
        setting->patch = config->patch;
        return D2C_OK;
    }
    if (setting->hidden <= 0 || setting->depth <= 0 || setting->heads <= 0 || setting->patch <= 0) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "a custom model needs its sizes");
        d2c_hint(err, "Give --hidden, --depth, --heads and --patch, or a --model such as SiT-S/2.");
        return D2C_INVALID_ARGUMENT;
    }
    config->hidden = (int)setting->hidden;
    config->depth = (int)setting->depth;
    config->heads = (int)setting->heads;
    config->patch = (int)setting->patch;
    return D2C_OK;
}

static d2c_status
settle_classes(d2c_train *train, d2c_error *err)
{
    d2c_train_setting *setting = train->setting;
    const d2c_table *table = train->table;

    if (setting->num_classes == 0)
        setting->num_classes = table->classes;
    if (table->classes > setting->num_classes) {
        d2c_fail(err, D2C_BAD_DATA, "row %.70s: label %" PRId64 " is out of range", table->greatest_label_id,
                 table->classes - 1);
        d2c_detail(err, "The model has the classes 0 to %" PRId64 ".", setting->num_classes - 1);
        d2c_hint(err, "Raise --num-classes, or correct the labels.");
        return D2C_BAD_DATA;
    }
    train->config.classes = (int)setting->num_classes;
    train->config.null_class = 1;
    return D2C_OK;
}

static void
settle_image(d2c_train *train)
{
    d2c_train_setting *setting = train->setting;
    const d2c_table *table = train->table;
    int side = table->image_width < table->image_height ? table->image_width : table->image_height;

    if (setting->image_size == 0)
        setting->image_size = side >= setting->patch ? side - side % setting->patch : setting->patch;
    if (setting->channels == 0)
        setting->channels = table->image_channels;
    train->config.height = train->config.width = (int)setting->image_size;
    train->config.channels = train->config.out_channels = (int)setting->channels;
    if (train->config.kind == D2C_SIT_KIND_DIT)
        train->config.out_channels *= 2;
}

/* The projector's place and width; features must cover the network's tokens. */
static d2c_status
settle_visual(d2c_train *train, d2c_error *err)
{
    d2c_train_setting *setting = train->setting;
    d2c_sit_config *config = &train->config;
    int tokens = d2c_sit_tokens(config);

    if (train->table->visual_tokens == 0)
        return D2C_OK;
    if (setting->horizontal_flip) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "images with visual embeddings cannot be mirrored");
        d2c_detail(err, "An embedding is that of the image as it is stored.");
        d2c_hint(err, "Train with --horizontal-flip off, or with --visual off.");
        return D2C_INVALID_ARGUMENT;
    }
    if (setting->encoder_depth == 0)
        setting->encoder_depth = config->depth >= 12 ? 8 : (config->depth + 1) / 2;
    if (setting->proj_hidden == 0)
        setting->proj_hidden = strcmp(setting->model, "custom") == 0 ? 2 * setting->hidden : 2048;
    if (train->table->visual_tokens < tokens) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "the visual embeddings have %d tokens, the model has %d",
                 train->table->visual_tokens, tokens);
        d2c_hint(err, "Attach embeddings of at least as many tokens, or train with --visual off.");
        return D2C_INVALID_ARGUMENT;
    }
    config->proj_block = (int)setting->encoder_depth;
    config->proj_hidden = (int)setting->proj_hidden;
    config->proj_width = train->table->visual_width;
    train->shape.visual_tokens = tokens;
    train->shape.visual_width = train->table->visual_width;
    return D2C_OK;
}

static d2c_status
settle_path(d2c_train *train, d2c_error *err)
{
    static const struct {
        const char *name;
        d2c_path path;
    } paths[] = {{"Linear", D2C_PATH_LINEAR},
                 {"GVP", D2C_PATH_GVP},
                 {"cosine", D2C_PATH_GVP}, /* REPA's name of it */
                 {"VP", D2C_PATH_VP}};
    size_t i;

    for (i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (strcasecmp(train->setting->path_type, paths[i].name) == 0) {
            train->config.path = paths[i].path;
            return D2C_OK;
        }
    return invalid(err, "path-type", train->setting->path_type);
}

/* A name for files: what the user gave, or model and table with everything odd replaced. */
static d2c_status
settle_name(d2c_train *train, d2c_error *err)
{
    d2c_train_setting *setting = train->setting;
    const char *table = setting->table.selection != NULL ? setting->table.selection
                        : setting->table.table != NULL   ? setting->table.table
                                                         : "query";
    char *at;

    if (setting->name == NULL) {
        snprintf(train->name, sizeof train->name, "%.60s-%.60s", setting->model, table);
        for (at = train->name; *at != '\0'; at++)
            if (strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == 0)
                *at = '-';
        setting->name = train->name;
    }
    D2C_TRY(d2c_model_name_check(setting->name, err));
    if (setting->results_dir != NULL)
        snprintf(train->folder, sizeof train->folder, "%s", setting->results_dir);
    else
        snprintf(train->folder, sizeof train->folder, "results/%s", setting->name);
    setting->results_dir = train->folder;
    return D2C_OK;
}

/* The processes of a machine share its cores. */
static void
settle_threads(d2c_train *train)
{
    d2c_train_setting *setting = train->setting;
    long cores = sysconf(_SC_NPROCESSORS_ONLN), processes;
    cpu_set_t set;

    if (setting->threads == 0) {
        processes = setting->ranks != NULL ? setting->ranks->node_size : 1;
        setting->threads = cores > processes ? cores / processes : 1;
    }
    if (setting->ranks != NULL && sched_getaffinity(0, sizeof set, &set) == 0 &&
        CPU_COUNT(&set) < setting->threads)
        d2c_notice(train,
                   "%" PRId64
                   " threads of each process share %d of %ld cores; mpirun --bind-to none gives them all",
                   setting->threads, CPU_COUNT(&set), cores);
}

static d2c_status
settle_device(d2c_train *train, d2c_error *err)
{
    d2c_train_setting *setting = train->setting;
    char notice[512];

    settle_threads(train);
    snprintf(train->gpu, sizeof train->gpu, "cuda:%d",
             setting->ranks != NULL ? setting->ranks->node_rank : 0);
    if (strcmp(setting->device, "cuda") == 0)
        setting->device = train->gpu;
    D2C_TRY(d2c_backend_choose(&train->be, &setting->device, notice, sizeof notice, setting->device,
                               train->gpu, (int)setting->threads, err));
    D2C_TRY(d2c_ranks_device(&train->ranks, setting->ranks, train->be, err));
    if (notice[0] != '\0')
        d2c_notice(train, "%s", notice);
    if (strcmp(setting->precision, "auto") == 0)
        setting->precision = train->be->has_bf16 ? "bf16" : "no";
    if (strcmp(setting->precision, "no") != 0 && strcmp(setting->precision, "bf16") != 0)
        return invalid(err, "mixed-precision", setting->precision);
    if (strcmp(setting->precision, "bf16") == 0 && !train->be->has_bf16) {
        d2c_fail(err, D2C_UNSUPPORTED, "this machine has no bf16 arithmetic");
        d2c_hint(err, "Train with --mixed-precision no.");
        return D2C_UNSUPPORTED;
    }
    train->precision = strcmp(setting->precision, "bf16") == 0 ? D2C_BF16 : D2C_F32;
    return D2C_OK;
}

static void
tell_notice(void *closure, const char *line)
{
    d2c_notice(closure, "%s", line);
}

static d2c_status
settle_step(d2c_train *train, d2c_error *err)
{
    const d2c_train_setting *setting = train->setting;
    int adam = strcmp(setting->optimizer, "adam") == 0;

    if (!adam && strcmp(setting->optimizer, "adamw") != 0)
        return invalid(err, "optimizer", setting->optimizer);
    train->schedule = (d2c_schedule){.learning_rate = setting->learning_rate,
                                     .warmup_steps = setting->warmup_steps,
                                     .beta1 = setting->beta1,
                                     .beta2 = setting->beta2,
                                     .ema_decay = setting->ema_decay,
                                     .ema_warmup = setting->ema_warmup,
                                     .max_grad_norm = setting->max_grad_norm,
                                     .batch = (int)setting->batch};
    train->step = (d2c_step_setting){
        .seed = (uint64_t)setting->seed,
        .batch = (int)train->share.rows,
        .ranks = train->ranks,
        .micro_batch =
            (int)(setting->micro_batch < train->share.rows ? setting->micro_batch : train->share.rows),
        .shape = train->shape,
        .cfg_prob = (float)setting->cfg_prob,
        .proj_coeff = (float)setting->proj_coeff,
        .adamw = {(float)setting->beta1, (float)setting->beta2, 1e-8f, (float)setting->weight_decay, adam},
        .tuned = 1,
        .notice = tell_notice,
        .closure = train};
    D2C_TRY(d2c_time_sampling_read(&train->step.sampling, setting->time_sampling, err));
    D2C_TRY(d2c_time_sampling_check(train->step.sampling, &train->config, err));
    return d2c_recompute_read(&train->step.recompute, setting->recompute, err);
}

d2c_status
d2c_train_settle(d2c_train *train, d2c_error *err)
{
    const d2c_train_setting *setting = train->setting;

    D2C_TRY(settle_kind(train, err));
    D2C_TRY(settle_sizes(train, err));
    D2C_TRY(settle_classes(train, err));
    D2C_TRY(d2c_latents_settle(train, err));
    settle_image(train);
    D2C_TRY(settle_path(train, err));
    train->config.text_tokens = train->table->text_tokens;
    train->config.text_width = train->table->text_width;
    D2C_TRY(d2c_sit_config_check(&train->config, err));
    D2C_TRY(settle_visual(train, err));
    D2C_TRY(d2c_sit_config_check(&train->config, err));
    D2C_TRY(d2c_init_settle(train, err));
    D2C_TRY(settle_name(train, err));
    D2C_TRY(settle_device(train, err));
    train->shape.size = (int)setting->image_size;
    train->shape.channels = (int)setting->channels;
    train->shape.classes = setting->num_classes;
    train->shape.text_tokens = train->config.text_tokens;
    train->shape.text_width = train->config.text_width;
    return settle_step(train, err);
}

/* What must agree: the network, the rows and their order, and what is drawn for them. */
static char *
required_facts(const d2c_train *train)
{
    const d2c_train_setting *setting = train->setting;
    cJSON *facts = cJSON_CreateObject();
    char *model = d2c_sit_config_json(&train->config), *text, seed[32];

    snprintf(seed, sizeof seed, "%" PRId64, setting->seed);
    cJSON_AddRawToObject(facts, "model", model != NULL ? model : "null");
    cJSON_AddStringToObject(facts, "table_digest", train->table->digest);
    cJSON_AddNumberToObject(facts, "rows", (double)train->table->rows);
    cJSON_AddNumberToObject(facts, "global_batch_size", (double)setting->batch);
    cJSON_AddStringToObject(facts, "seed", seed);
    cJSON_AddStringToObject(facts, "time_sampling", setting->time_sampling);
    cJSON_AddStringToObject(facts, "init", train->init_sha256);
    cJSON_AddNumberToObject(facts, "cfg_prob", setting->cfg_prob);
    cJSON_AddNumberToObject(facts, "proj_coeff", setting->proj_coeff);
    cJSON_AddBoolToObject(facts, "horizontal_flip", setting->horizontal_flip);
    cJSON_AddNumberToObject(facts, "latent_scale", setting->latent_scale);
    text = cJSON_PrintUnformatted(facts);
    cJSON_Delete(facts);
    free(model);
    return text;
}

/* What else the bits of a step depend on. */
static char *
exact_facts(const d2c_train *train)
{
    const d2c_train_setting *setting = train->setting;
    cJSON *facts = cJSON_CreateObject();
    char *text;

    cJSON_AddStringToObject(facts, "build", setting->build);
    cJSON_AddNumberToObject(facts, "ranks", d2c_rank_count(setting->ranks));
    cJSON_AddStringToObject(facts, "device", train->be->ops->name);
    cJSON_AddStringToObject(facts, "arithmetic", train->be->arithmetic);
    cJSON_AddStringToObject(facts, "mixed_precision", setting->precision);
    cJSON_AddNumberToObject(facts, "threads", (double)train->be->threads);
    cJSON_AddNumberToObject(facts, "micro_batch", (double)train->step.micro_batch);
    cJSON_AddStringToObject(facts, "optimizer", setting->optimizer);
    cJSON_AddNumberToObject(facts, "learning_rate", setting->learning_rate);
    cJSON_AddNumberToObject(facts, "warmup_steps", (double)setting->warmup_steps);
    cJSON_AddNumberToObject(facts, "adam_beta1", setting->beta1);
    cJSON_AddNumberToObject(facts, "adam_beta2", setting->beta2);
    cJSON_AddNumberToObject(facts, "weight_decay", setting->weight_decay);
    cJSON_AddNumberToObject(facts, "max_grad_norm", setting->max_grad_norm);
    cJSON_AddNumberToObject(facts, "ema_decay", setting->ema_decay);
    cJSON_AddBoolToObject(facts, "ema_warmup", setting->ema_warmup);
    text = cJSON_PrintUnformatted(facts);
    cJSON_Delete(facts);
    return text;
}

d2c_status
d2c_train_facts(d2c_train *train, d2c_error *err)
{
    if (train->stepper != NULL)
        train->step.micro_batch = d2c_stepper_micro_batch(train->stepper);
    free(train->required);
    free(train->exact);
    train->required = required_facts(train);
    train->exact = exact_facts(train);
    if (train->required == NULL || train->exact == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    return D2C_OK;
}
