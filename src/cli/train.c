/* train.c: d2c train: a SiT, DiT or REPA trained on the rows of a table. */
#include "train/train.h"

#include <cjson/cJSON.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/progress.h"
#include "build_id.h"
#include "cli/command.h"

#define ONE_REQUEST                                                                                          \
    2000 /* milliseconds within which signals mean one thing: a launcher and a terminal may both send theirs */

static volatile int64_t asked; /* when, in milliseconds */
static volatile int stop;

/* The first signal asks for a checkpoint and a clean end, a later one ends at once. */
static void
interrupt(int signal_number)
{
    struct timespec now;
    int64_t moment;

    clock_gettime(CLOCK_MONOTONIC, &now);
    moment = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (!stop)
        asked = moment;
    else if (moment - asked >= ONE_REQUEST) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    stop = 1;
}

/* What the training tells, told on: loss lines to stdout, news and progress to stderr. */
typedef struct teller {
    d2c_progress progress;
    int64_t from; /* the step at which this part of the run began; -1: not yet */
    int64_t total;
} teller;

/* Whether the reader takes a line.  One that reads no more, as mpirun does once it has asked its processes to end, must not
 * keep the run from ending. */
static int
is_read(void)
{
    struct pollfd output = {STDOUT_FILENO, POLLOUT, 0};

    while (poll(&output, 1, 100) <= 0)
        if (stop)
            return 0;
    return 1;
}

static void
tell_line(void *closure, const char *line)
{
    (void)closure;
    if (!is_read())
        return;
    printf("%s\n", line);
    if (fflush(stdout) != 0)
        clearerr(stdout); /* the lines are in metrics.jsonl as well */
}

static void
tell_notice(void *closure, const char *line)
{
    const teller *t = closure;

    fprintf(stderr, "%sd2c: %s\n", t->from >= 0 && t->progress.terminal ? "\r\033[K" : "", line);
}

static void
tell_progress(void *closure, int64_t step, const char *note)
{
    teller *t = closure;

    if (t->from < 0) {
        t->from = step - 1;
        d2c_progress_start(&t->progress, "training", "steps", t->from, t->total);
    }
    d2c_progress_update(&t->progress, step, note);
}

static d2c_train_setting
defaults(void)
{
    return (d2c_train_setting){
        .table = {.id = "id", .label = "label", .image = "image", .content = 1},
        .kind = "sit",
        .path_type = "Linear",
        .time_sampling = "uniform",
        .batch = 256,
        .steps = 400000,
        .optimizer = "adamw",
        .learning_rate = 1e-4,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .max_grad_norm = 1.0,
        .ema_decay = 0.9999,
        .ema_warmup = 1,
        .cfg_prob = 0.1,
        .proj_coeff = 0.5,
        .device = "auto",
        .precision = "auto",
        .recompute = "auto",
        .cache_memory = 4096,
        .retries = 8,
        .log_every = 100,
        .ckpt_every = 5000,
        .metrics = 1,
        .tensorboard = 1,
        .divergence_factor = 10,
        .build = D2C_BUILD_ID,
    };
}

static d2c_status
check_texts(d2c_train_setting *setting, const char *text, const char *visual, const char *latents,
            d2c_error *err)
{
    const char *const value[] = {text, visual, latents}, *const name[] = {"text", "visual", "latents"};
    int i;

    for (i = 0; i < 3; i++)
        if (strcmp(value[i], "auto") != 0 && strcmp(value[i], "off") != 0)
            return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --%s: \"%s\"", name[i], value[i]);
    if (strcmp(text, "off") == 0)
        setting->table.text = "off";
    if (strcmp(visual, "off") == 0)
        setting->table.visual = "off";
    if (strcmp(latents, "off") == 0)
        setting->table.latent = "off";
    if (setting->table.table != NULL && setting->table.query != NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "give either --table or --query");
    if (setting->table.table == NULL && setting->table.query == NULL && setting->table.selection == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "give --table, --query or --selection");
    if (setting->table.selection == NULL && setting->table.selection_schema != NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "--selection-schema needs a --selection");
    if (setting->table.query != NULL && setting->name == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "--query needs a --name for the run");
    return D2C_OK;
}

/* The first of several processes alone tells anything. */
static void
keep_line(void *closure, const char *line)
{
    (void)closure;
    (void)line;
}

static void
keep_progress(void *closure, int64_t step, const char *note)
{
    (void)closure;
    (void)step;
    (void)note;
}

static d2c_status
run(d2c_train_setting *setting, const d2c_option *options, teller *t, d2c_error *err)
{
    int speaks = d2c_rank_of(setting->ranks) == 0;
    d2c_train_events events = {t, speaks ? tell_line : keep_line, speaks ? tell_notice : keep_line,
                               speaks ? tell_progress : keep_progress, &stop};
    d2c_train *train;
    char *config;
    d2c_status status;

    D2C_TRY(d2c_train_open(&train, setting, &events, err));
    if (speaks)
        d2c_options_print(options);
    fflush(stdout);
    t->total = setting->steps;
    config = d2c_options_json(options);
    if (config != NULL)
        status = d2c_train_run(train, config, err);
    else
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    cJSON_free(config);
    if (t->from >= 0)
        d2c_progress_finish(&t->progress, NULL);
    if (status != D2C_OK) {
        d2c_train_fail(train, err);
        return status;
    }
    if (d2c_train_step(train) < setting->steps)
        events.notice(t, "stopped; --resume latest goes on from here");
    d2c_train_close(train);
    return D2C_OK;
}

int
d2c_command_train(int argc, char **argv)
{
    d2c_train_setting s = defaults();
    const char *text = "auto", *visual = "auto", *latents = "auto";
    double patience = 900;
    const d2c_option options[] = {
        {"dbname", D2C_OPTION_TEXT, &s.conninfo, 0, 0, "database name or connection string"},
        {"table", D2C_OPTION_TEXT, &s.table.table, 0, 0, "table to train on"},
        {"query", D2C_OPTION_TEXT, &s.table.query, 0, 0, "query to train on, in place of a table"},
        {"selection", D2C_OPTION_TEXT, &s.table.selection, 0, 0,
         "train on the rows of this selection alone: of its source, or of the table or query"},
        {"selection-schema", D2C_OPTION_TEXT, &s.table.selection_schema, 0, 0,
         "where it is; else where the search path finds d2c_selections"},
        {"id-column", D2C_OPTION_TEXT, &s.table.id, 0, 0, "unique id of a row"},
        {"label-column", D2C_OPTION_TEXT, &s.table.label, 0, 0, "class, 0 and up"},
        {"image-column", D2C_OPTION_TEXT, &s.table.image, 0, 0, "PNG, JPEG or WebP as bytea"},
        {"text", D2C_OPTION_TEXT, &text, 0, 0, "auto: condition on the text column where it has values; off"},
        {"text-column", D2C_OPTION_TEXT, &s.table.text, 0, 0, "text embedding [text_embedding]"},
        {"text-mask-column", D2C_OPTION_TEXT, &s.table.text_mask, 0, 0, "its mask [text_mask]"},
        {"visual", D2C_OPTION_TEXT, &visual, 0, 0,
         "auto: align with the visual column where it has values; off"},
        {"visual-column", D2C_OPTION_TEXT, &s.table.visual, 0, 0, "visual embedding [visual_embedding]"},
        {"latents", D2C_OPTION_TEXT, &latents, 0, 0,
         "auto: train on the latent column, not on images, where it has values; off"},
        {"latent-column", D2C_OPTION_TEXT, &s.table.latent, 0, 0, "what d2c_latent() gives [latent]"},
        {"vae", D2C_OPTION_TEXT, &s.vae, 0, 0,
         "autoencoder that made them, in the model directory: the trained model names it"},
        {"latent-scale", D2C_OPTION_REAL, &s.latent_scale, 0, 1000,
         "latents are multiplied by it; 0: the autoencoder's factor, or 0.18215"},
        {"validation-query", D2C_OPTION_TEXT, &s.validation_query, 0, 0,
         "held-out rows, whose loss is told every --sample-every steps"},
        {"kind", D2C_OPTION_TEXT, &s.kind, 0, 0,
         "what is trained: sit, dit or repa, as their public codes do"},
        {"model", D2C_OPTION_TEXT, &s.model, 0, 0,
         "SiT-{S,B,L,XL}/{2,4,8}, of kind dit DiT-..., or custom with the next four [S/2]"},
        {"hidden", D2C_OPTION_INT, &s.hidden, 0, 65536, "width of a custom model"},
        {"depth", D2C_OPTION_INT, &s.depth, 0, 1024, "its blocks"},
        {"heads", D2C_OPTION_INT, &s.heads, 0, 1024, "its attention heads"},
        {"patch", D2C_OPTION_INT, &s.patch, 0, 256, "its patch size"},
        {"image-size", D2C_OPTION_INT, &s.image_size, 0, 8192,
         "images are cropped to this; 0: as the first image"},
        {"channels", D2C_OPTION_INT, &s.channels, 0, 3, "1 grey, 3 RGB; 0: as the first image"},
        {"num-classes", D2C_OPTION_INT, &s.num_classes, 0, 1e9, "0: the greatest label and one"},
        {"path-type", D2C_OPTION_TEXT, &s.path_type, 0, 0, "Linear, GVP (REPA's cosine) or VP"},
        {"time-sampling", D2C_OPTION_TEXT, &s.time_sampling, 0, 0,
         "times of sit and repa: uniform, or lognormal: noise over data is e to a standard normal"},
        {"qk-norm", D2C_OPTION_FLAG, &s.qk_norm, 0, 0, "normalise queries and keys; of kind repa"},
        {"init", D2C_OPTION_TEXT, &s.init, 0, 0,
         "model or checkpoint to take the first weights from, its average where it has one"},
        {"global-batch-size", D2C_OPTION_INT, &s.batch, 1, 65536, "rows of a step"},
        {"micro-batch", D2C_OPTION_INT, &s.micro_batch, 0, 65536,
         "of them at once, gradients adding up; 0: as many as fit into memory"},
        {"recompute", D2C_OPTION_TEXT, &s.recompute, 0, 0,
         "in backward, to save memory: none, mlp, block, or auto: as little as fits"},
        {"max-train-steps", D2C_OPTION_INT, &s.steps, 1, 1e12,
         "steps in all, those before a resume included"},
        {"optimizer", D2C_OPTION_TEXT, &s.optimizer, 0, 0,
         "adamw, or adam: its weight decay is a part of the gradient"},
        {"learning-rate", D2C_OPTION_REAL, &s.learning_rate, 0, 1e6, "of the optimizer"},
        {"warmup-steps", D2C_OPTION_INT, &s.warmup_steps, 0, 1e12, "steps over which it grows to that"},
        {"adam-beta1", D2C_OPTION_REAL, &s.beta1, 0, 0.999999, "decay of the first moment"},
        {"adam-beta2", D2C_OPTION_REAL, &s.beta2, 0, 0.999999, "decay of the second moment"},
        {"weight-decay", D2C_OPTION_REAL, &s.weight_decay, 0, 10, "of the optimizer"},
        {"max-grad-norm", D2C_OPTION_REAL, &s.max_grad_norm, 0, 1e9, "gradients are clipped to it; 0: not"},
        {"ema-decay", D2C_OPTION_REAL, &s.ema_decay, 0, 1, "of the averaged weights"},
        {"ema-warmup", D2C_OPTION_FLAG, &s.ema_warmup, 0, 0, "on: at most (1+s)/(10+s) at step s"},
        {"cfg-prob", D2C_OPTION_REAL, &s.cfg_prob, 0, 1, "share of rows whose condition is dropped"},
        {"proj-coeff", D2C_OPTION_REAL, &s.proj_coeff, 0, 1000, "weight of the alignment loss"},
        {"horizontal-flip", D2C_OPTION_FLAG, &s.horizontal_flip, 0, 0,
         "mirror half of the images, other ones in every epoch; not with visual embeddings or latents"},
        {"encoder-depth", D2C_OPTION_INT, &s.encoder_depth, 0, 1024,
         "block that is aligned; 0: 8, or half the depth"},
        {"proj-hidden", D2C_OPTION_INT, &s.proj_hidden, 0, 65536,
         "width of the projector; 0: 2048, custom twice hidden"},
        {"mixed-precision", D2C_OPTION_TEXT, &s.precision, 0, 0,
         "no, bf16, or auto: bf16 where the hardware has it, as it should be on a GPU"},
        {"device", D2C_OPTION_TEXT, &s.device, 0, 0, "cpu, cuda, cuda:N, or auto: cuda:0 when there is one"},
        {"threads", D2C_OPTION_INT, &s.threads, 0, 4096,
         "of the CPU; 0: all cores, shared among the processes of a machine"},
        {"rank-timeout", D2C_OPTION_REAL, &patience, 0.1, 1e6,
         "seconds that processes started by mpirun wait for a silent one"},
        {"cache-memory", D2C_OPTION_INT, &s.cache_memory, 0, 1e9,
         "MiB for keeping the decoded set; 0: always stream"},
        {"connection-retries", D2C_OPTION_INT, &s.retries, 0, 1000, "tries at a lost connection"},
        {"content-digest", D2C_OPTION_FLAG, &s.table.content, 0, 0,
         "notice rows whose image or embedding changes; the server reads the table once for it"},
        {"accept-changed-rows", D2C_OPTION_FLAG, &s.accept_changed_rows, 0, 0,
         "train on rows as they are, changed ones too"},
        {"seed", D2C_OPTION_INT, &s.seed, 0, 0, "of weights, order, times, noise and dropout"},
        {"log-every", D2C_OPTION_INT, &s.log_every, 0, 1e12, "steps between lines of the log"},
        {"ckpt-every", D2C_OPTION_INT, &s.ckpt_every, 0, 1e12,
         "steps between checkpoints; 0: one at the end"},
        {"checkpoints-total-limit", D2C_OPTION_INT, &s.checkpoints_limit, 0, 1e6, "newest ones kept; 0: all"},
        {"sample-every", D2C_OPTION_INT, &s.sample_every, 0, 1e12, "steps between sample grids; 0: none"},
        {"results-dir", D2C_OPTION_TEXT, &s.results_dir, 0, 0, "folder of this run's results [results/NAME]"},
        {"name", D2C_OPTION_TEXT, &s.name, 0, 0, "of the run and its model [MODEL-TABLE]"},
        {"model-directory", D2C_OPTION_TEXT, &s.model_directory, 0, 0,
         "where the result becomes a model by name"},
        {"replace", D2C_OPTION_FLAG, &s.replace, 0, 0, "a model of that name may be replaced"},
        {"resume", D2C_OPTION_TEXT, &s.resume, 0, 0, "latest, or a checkpoint's file"},
        {"metrics", D2C_OPTION_FLAG, &s.metrics, 0, 0, "rows in d2c_runs, d2c_run_metrics and d2c_samples"},
        {"metrics-schema", D2C_OPTION_TEXT, &s.metrics_schema, 0, 0,
         "where those tables are; else the search path's"},
        {"tensorboard", D2C_OPTION_FLAG, &s.tensorboard, 0, 0,
         "event files in the folder tensorboard of the results"},
        {"divergence-factor", D2C_OPTION_REAL, &s.divergence_factor, 0, 1e9,
         "a loss so many times its mean for 16 steps ends the run; 0: only one beyond 1000"},
        {NULL, D2C_OPTION_FLAG, NULL, 0, 0, NULL},
    };
    teller t = {.from = -1};
    d2c_error err, why;
    int help, code = 0;
    d2c_status status = d2c_options_parse(options, "train --dbname DB --table TABLE [--option value]...",
                                          argc, argv, &help, &err);

    if (status == D2C_OK && help)
        return 0;
    if (d2c_ranks_open(&s.ranks, patience, &why) != D2C_OK && status == D2C_OK) {
        err = why;
        status = why.status;
    }
    if (status == D2C_OK)
        status = check_texts(&s, text, visual, latents, &err);
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    signal(SIGUSR1, interrupt); /* mpirun and batch systems hand it on */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (status == D2C_OK)
        status = run(&s, options, &t, &err);
    if (status != D2C_OK) {
        d2c_ranks_fail(s.ranks, &err);
        code = d2c_command_failed(&err);
    }
    d2c_ranks_close(s.ranks);
    return code;
}
