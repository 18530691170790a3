/* sample.c: d2c sample: images from a trained SiT, into a folder, a table, a grid. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/progress.h"
#include "cli/command.h"
#include "nn/model_files.h"
#include "train/copy_in.h"
#include "train/database.h"
#include "train/generate.h"

#define GRID_LIMIT 4096 /* images */
#define SEED_LIMIT 10000000
#define CHUNK_LIMIT 1024  /* images made before they are written */
#define CHUNK_SECONDS 1.0 /* after which they are, and progress is told */

typedef struct sample_setting {
    const char *model, *model_directory, *vae, *classes, *sampler, *guided_channels, *precision, *device;
    const char *output_dir, *dbname, *table, *grid;
    const char *seed_list;
    int64_t *seeds; /* [count] of the list, or NULL: seed + i */
    int64_t count, seed, steps, batch, threads;
    double cfg_scale, atol, rtol, guidance_low, guidance_high;
} sample_setting;

/* Where samples go while they come. */
typedef struct sample_sinks {
    const sample_setting *setting;
    PGconn *connection; /* or NULL */
    d2c_copy_in *copy;
    d2c_image *grid; /* [count], or NULL: the grid keeps the images */
} sample_sinks;

/* The classes that are cycled through: all of them, or a list such as 0,3,7. */
static d2c_status
read_classes(int64_t **list, int *count, const char *text, int classes, d2c_error *err)
{
    size_t most = (text != NULL ? strlen(text) : (size_t)classes) + 1;
    const char *at = text;
    int i;

    *count = 0;
    *list = malloc(most * sizeof **list);
    if (*list == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; text == NULL && i < classes; i++)
        (*list)[(*count)++] = i;
    while (at != NULL) {
        char *end;
        int64_t label = strtoll(at, &end, 10);

        if (end == at || (*end != ',' && *end != '\0') || label < 0 || label >= classes) {
            d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --classes: \"%s\"", text);
            d2c_detail(err, "The model has the classes 0 to %d; separate them by commas.", classes - 1);
            return D2C_INVALID_ARGUMENT;
        }
        (*list)[(*count)++] = label;
        at = *end == ',' ? end + 1 : NULL;
    }
    return D2C_OK;
}

/* Whether `text` is a list such as 3,10-20: counts its seeds and, where there is a list, fills it. */
static int
parse_seeds(int64_t *list, int64_t *count, const char *text)
{
    const char *at = text;

    for (*count = 0; at != NULL;) {
        char *end;
        int64_t first = strtoll(at, &end, 10), last = first;

        if (end == at || first < 0 || first == INT64_MAX)
            return 0;
        if (*end == '-') {
            at = end + 1;
            last = strtoll(at, &end, 10);
            if (end == at || last == INT64_MAX)
                return 0;
        }
        if ((*end != ',' && *end != '\0') || last < first || last - first >= SEED_LIMIT - *count)
            return 0;
        for (; first <= last; first++, ++*count)
            if (list != NULL)
                list[*count] = first;
        at = *end == ',' ? end + 1 : NULL;
    }
    return 1;
}

/* The seeds of --seeds, one image each; malloc'd, NULL without the option. */
static d2c_status
read_seeds(sample_setting *setting, d2c_error *err)
{
    if (setting->seed_list == NULL)
        return D2C_OK;
    if (!parse_seeds(NULL, &setting->count, setting->seed_list)) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --seeds: \"%s\"", setting->seed_list);
        d2c_detail(err, "It is a list of numbers and ranges such as 3,10-20, of at most %d seeds.",
                   SEED_LIMIT);
        return D2C_INVALID_ARGUMENT;
    }
    setting->seeds = malloc((size_t)setting->count * sizeof *setting->seeds);
    if (setting->seeds == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    parse_seeds(setting->seeds, &setting->count, setting->seed_list);
    return D2C_OK;
}

/* Without a word, the sampler that every kind has: DiT's only one, or Euler's. */
static d2c_status
read_sampler_kind(d2c_sampler_kind *kind, const char *name, const d2c_sit_config *config, d2c_error *err)
{
    static const char *const names[] = {"euler", "heun", "sde", "ancestral", "dopri5"};
    int i;

    *kind = config->kind == D2C_SIT_KIND_DIT ? D2C_SAMPLER_ANCESTRAL : D2C_SAMPLER_EULER;
    if (strcmp(name, "auto") == 0)
        return D2C_OK;
    for (i = 0; i < 5 && strcmp(name, names[i]) != 0; i++)
        continue;
    *kind = (d2c_sampler_kind)i;
    return i < 5 ? D2C_OK : d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --sampler: \"%s\"", name);
}

/* Without a word, what the public codes guide: of SiT's and DiT's latents three channels. */
static d2c_status
read_guided_channels(int *channels, const char *text, const d2c_sit_config *config, d2c_error *err)
{
    int latents = !d2c_is_picture(config->channels);

    if (strcmp(text, "auto") == 0)
        *channels = latents && config->kind != D2C_SIT_KIND_REPA && config->channels > 3 ? 3 : 0;
    else if (strcmp(text, "all") == 0)
        *channels = 0;
    else if (strcmp(text, "first3") == 0)
        *channels = 3;
    else
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --guided-channels: \"%s\"", text);
    return D2C_OK;
}

/* The options count time as REPA does, from 0, data, to 1, noise. */
static void
set_interval(d2c_sampler *sampler, double low, double high, d2c_sit_kind kind)
{
    double steps = kind == D2C_SIT_KIND_DIT ? 999 : 1;

    sampler->guide_from = kind == D2C_SIT_KIND_SIT ? 1 - high : steps * low;
    sampler->guide_to = kind == D2C_SIT_KIND_SIT ? 1 - low : steps * high;
}

static d2c_status
read_sampler(d2c_sampler *sampler, const sample_setting *setting, const d2c_sit_config *config,
             d2c_error *err)
{
    *sampler = (d2c_sampler){.steps = (int)setting->steps,
                             .guidance = (float)setting->cfg_scale,
                             .atol = setting->atol,
                             .rtol = setting->rtol};
    set_interval(sampler, setting->guidance_low, setting->guidance_high, config->kind);
    D2C_TRY(read_guided_channels(&sampler->guided_channels, setting->guided_channels, config, err));
    return read_sampler_kind(&sampler->kind, setting->sampler, config, err);
}

/* The table, with none of the ids that the samples will have. */
static d2c_status
make_table(const sample_sinks *sinks, const char *table, d2c_error *err)
{
    PGresult *taken;
    char sql[512];
    int rows;

    snprintf(
        sql, sizeof sql,
        "CREATE TABLE IF NOT EXISTS %s (id bigint PRIMARY KEY, label bigint NOT NULL, seed bigint NOT NULL, "
        "image bytea NOT NULL)",
        table);
    D2C_TRY(d2c_database_run(sinks->connection, NULL, err, sql, 0, NULL));
    snprintf(sql, sizeof sql, "SELECT FROM %s WHERE id >= 0 AND id < %" PRId64 " LIMIT 1", table,
             sinks->setting->count);
    D2C_TRY(d2c_database_run(sinks->connection, &taken, err, sql, 0, NULL));
    rows = PQntuples(taken);
    PQclear(taken);
    if (rows == 0)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "table %s has samples already", table);
    d2c_detail(err, "Their ids, from 0 on, are those of the new ones.");
    d2c_hint(err, "Name another table, or drop this one.");
    return D2C_INVALID_ARGUMENT;
}

/* A transaction, the table, and a COPY into it. */
static d2c_status
open_table(sample_sinks *sinks, d2c_error *err)
{
    const sample_setting *setting = sinks->setting;
    char *table = NULL, sql[512];
    d2c_status status;

    D2C_TRY(d2c_database_open(&sinks->connection, setting->dbname, err));
    D2C_TRY(d2c_database_quote_table(&table, sinks->connection, setting->table, err));
    status = d2c_database_run(sinks->connection, NULL, err, "BEGIN", 0, NULL);
    if (status == D2C_OK)
        status = make_table(sinks, table, err);
    snprintf(sql, sizeof sql, "COPY %s (id, label, seed, image) FROM STDIN (FORMAT binary)", table);
    sinks->copy = malloc(sizeof *sinks->copy);
    if (status == D2C_OK && sinks->copy == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    if (status == D2C_OK)
        status = d2c_copy_in_begin(sinks->copy, sinks->connection, sql, err);
    free(table);
    return status;
}

static d2c_sheet
sheet_of(const sample_setting *setting, const d2c_image *picture, int classes)
{
    int columns = classes > 1 && classes <= 20 && setting->count % classes == 0 ? classes : 0;

    return (d2c_sheet){.columns = columns, .edge = d2c_sheet_edge(picture), .count = (int)setting->count};
}

/* A folder in which samples are: those that are not written over would be taken for some of the new ones. */
static d2c_status
check_folder(const sample_setting *setting, d2c_error *err)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%06d.png", setting->output_dir, 0);
    if (access(path, F_OK) != 0)
        return d2c_make_directory(setting->output_dir, err);
    d2c_fail(err, D2C_INVALID_ARGUMENT, "folder \"%s\" has samples already", setting->output_dir);
    d2c_hint(err, "Give another --output-dir, or empty this one.");
    return D2C_INVALID_ARGUMENT;
}

/* picture: of the samples' size. */
static d2c_status
open_sinks(sample_sinks *sinks, const d2c_image *picture, int classes, d2c_error *err)
{
    const sample_setting *setting = sinks->setting;

    if (setting->output_dir != NULL)
        D2C_TRY(check_folder(setting, err));
    if (setting->grid != NULL) {
        d2c_sheet sheet = sheet_of(setting, picture, classes);

        D2C_TRY(d2c_sheet_check(&sheet, err));
        sinks->grid = calloc((size_t)setting->count, sizeof *sinks->grid);
        if (sinks->grid == NULL)
            return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    }
    return setting->table != NULL ? open_table(sinks, err) : D2C_OK;
}

static d2c_status
put_sample(sample_sinks *sinks, int64_t id, int64_t label, uint64_t seed, d2c_image *image, d2c_error *err)
{
    const sample_setting *setting = sinks->setting;
    char path[4096];
    uint8_t *png = NULL;
    size_t length = 0;
    d2c_status status = d2c_image_encode_png(&png, &length, image, err);

    if (status == D2C_OK && setting->output_dir != NULL) {
        snprintf(path, sizeof path, "%s/%06" PRId64 ".png", setting->output_dir, id);
        status = d2c_file_write(path, png, length, err);
    }
    if (status == D2C_OK && sinks->copy != NULL) {
        d2c_copy_in_row(sinks->copy, 4);
        d2c_copy_in_int64(sinks->copy, id);
        d2c_copy_in_int64(sinks->copy, label);
        d2c_copy_in_int64(sinks->copy, (int64_t)seed);
        d2c_copy_in_bytes(sinks->copy, png, length);
    }
    free(png);
    if (sinks->grid != NULL) {
        sinks->grid[id] = *image;
        memset(image, 0, sizeof *image);
    }
    return status;
}

static d2c_status
write_grid(const sample_sinks *sinks, int classes, d2c_error *err)
{
    d2c_sheet sheet = sheet_of(sinks->setting, &sinks->grid[0], classes);
    uint8_t *png;
    size_t length;
    d2c_status status;

    sheet.image = sinks->grid;
    status = d2c_contact_sheet_png(&png, &length, &sheet, err);

    if (status == D2C_OK)
        status = d2c_file_write(sinks->setting->grid, png, length, err);
    free(png);
    return status;
}

/* Ends the COPY and the transaction; rows come all or not at all. */
static d2c_status
close_sinks(sample_sinks *sinks, d2c_status status, int classes, d2c_error *err)
{
    int64_t i;

    if (sinks->copy != NULL && status == D2C_OK)
        status = d2c_copy_in_end(sinks->copy, err);
    if (sinks->copy != NULL && status == D2C_OK)
        status = d2c_database_run(sinks->connection, NULL, err, "COMMIT", 0, NULL);
    if (sinks->grid != NULL && status == D2C_OK)
        status = write_grid(sinks, classes, err);
    for (i = 0; sinks->grid != NULL && i < sinks->setting->count; i++)
        d2c_image_free(&sinks->grid[i]);
    free(sinks->grid);
    free(sinks->copy);
    PQfinish(sinks->connection);
    return status;
}

/* Images id .. id + n - 1: image i has the label list[i mod count] and the seed --seed + i, or that of the list. */
static d2c_status
sample_chunk(sample_sinks *sinks, d2c_generator *generator, const d2c_sampler *sampler, int64_t id, int n,
             const int64_t *list, int count, d2c_error *err)
{
    d2c_image *image = calloc((size_t)n, sizeof *image);
    int64_t *label = malloc((size_t)n * sizeof *label);
    uint64_t *seed = malloc((size_t)n * sizeof *seed);
    d2c_status status = D2C_OK;
    int i;

    if (image == NULL || label == NULL || seed == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < n && status == D2C_OK; i++) {
        label[i] = list[(id + i) % count];
        seed[i] = (uint64_t)(sinks->setting->seeds != NULL ? sinks->setting->seeds[id + i]
                                                           : sinks->setting->seed + id + i);
    }
    if (status == D2C_OK)
        status = d2c_generate(generator, image, sampler, n, label, seed, err);
    for (i = 0; i < n && status == D2C_OK; i++)
        status = put_sample(sinks, id + i, label[i], seed[i], &image[i], err);
    for (i = 0; image != NULL && i < n; i++)
        d2c_image_free(&image[i]);
    free(image);
    free(label);
    free(seed);
    return status;
}

static d2c_status
sample_all(const sample_setting *setting, d2c_generator *generator, d2c_error *err)
{
    sample_sinks sinks = {.setting = setting};
    int64_t done = 0, *list = NULL;
    d2c_image picture = {0};
    int classes = 0, chunk = d2c_generator_chunk(generator);
    d2c_progress progress;
    d2c_sampler sampler;
    d2c_status status = read_sampler(&sampler, setting, d2c_generator_config(generator), err);

    if (status == D2C_OK)
        status =
            read_classes(&list, &classes, setting->classes, d2c_generator_config(generator)->classes, err);
    d2c_generator_size(generator, &picture.width, &picture.height);
    if (status == D2C_OK)
        status = open_sinks(&sinks, &picture, classes, err);
    d2c_progress_start(&progress, "sampling", "images", 0, setting->count);
    while (status == D2C_OK && done < setting->count) {
        int n = (int)(setting->count - done < chunk ? setting->count - done : chunk);
        double started = d2c_clock();

        status = sample_chunk(&sinks, generator, &sampler, done, n, list, classes, err);
        done += n;
        if (d2c_clock() - started < CHUNK_SECONDS / 2 && 2 * chunk <= CHUNK_LIMIT)
            chunk *= 2;
        d2c_progress_update(&progress, done, NULL);
    }
    status = close_sinks(&sinks, status, classes, err);
    if (status == D2C_OK)
        d2c_progress_finish(&progress, NULL);
    free(list);
    return status;
}

static d2c_status
check_setting(const sample_setting *setting, d2c_error *err)
{
    if (setting->model == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "option \"--model\" is missing");
    if (setting->output_dir == NULL && setting->table == NULL && setting->grid == NULL) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "the samples go nowhere");
        d2c_hint(err, "Give --output-dir, --table or --grid.");
        return D2C_INVALID_ARGUMENT;
    }
    if (setting->dbname != NULL && setting->table == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "--dbname needs a --table");
    if (setting->grid != NULL && setting->count > GRID_LIMIT)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a grid takes at most %d images", GRID_LIMIT);
    return D2C_OK;
}

static d2c_status
run(const sample_setting *setting, d2c_error *err)
{
    int is_file;
    d2c_generator_setting where = {.model = setting->model,
                                   .vae = setting->vae,
                                   .device = setting->device,
                                   .precision = setting->precision,
                                   .threads = (int)setting->threads,
                                   .batch = (int)setting->batch};
    d2c_generator *generator;
    d2c_status status;
    char notice[512];

    D2C_TRY(check_setting(setting, err));
    is_file = strchr(setting->model, '/') != NULL || d2c_model_file_name(setting->model) > 0;
    if (!is_file && setting->model_directory == NULL) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "--model names a model, but there is no --model-directory");
        d2c_hint(err, "Give its folder, or the path of a .safetensors, .pt or .pth file.");
        return D2C_INVALID_ARGUMENT;
    }
    where.directory = is_file ? NULL : setting->model_directory;
    D2C_TRY(d2c_generator_open(&generator, &where, notice, sizeof notice, err));
    if (notice[0] != '\0')
        fprintf(stderr, "d2c: %s\n", notice);
    status = sample_all(setting, generator, err);
    d2c_generator_close(generator);
    return status;
}

int
d2c_command_sample(int argc, char **argv)
{
    sample_setting s = {.sampler = "auto",
                        .guided_channels = "auto",
                        .precision = "auto",
                        .device = "auto",
                        .count = 100,
                        .steps = 50,
                        .cfg_scale = 1,
                        .atol = D2C_SAMPLER_ATOL,
                        .rtol = D2C_SAMPLER_RTOL,
                        .guidance_high = 1};
    const d2c_option options[] = {
        {"model", D2C_OPTION_TEXT, &s.model, 0, 0,
         "name in the model directory, or a .safetensors, .pt or .pth file"},
        {"model-directory", D2C_OPTION_TEXT, &s.model_directory, 0, 0, "where named models are"},
        {"vae", D2C_OPTION_TEXT, &s.vae, 0, 0,
         "autoencoder of a latent model, a name in the same folder; else the model's own, as in SQL"},
        {"num-samples", D2C_OPTION_INT, &s.count, 1, 1e9, "images"},
        {"classes", D2C_OPTION_TEXT, &s.classes, 0, 0, "labels to cycle through, such as 0,3,7; else all"},
        {"seed", D2C_OPTION_INT, &s.seed, 0, 0, "image i has the seed SEED + i"},
        {"seeds", D2C_OPTION_TEXT, &s.seed_list, 0, 0,
         "the images' seeds, such as 3,10-20, in place of --seed and --num-samples"},
        {"sampler", D2C_OPTION_TEXT, &s.sampler, 0, 0,
         "euler, heun, dopri5 or sde; DiT: ancestral; auto: euler, or ancestral"},
        {"steps", D2C_OPTION_INT, &s.steps, 1, 100000, "intervals of the sampler; dopri5 has its own"},
        {"atol", D2C_OPTION_REAL, &s.atol, 1e-12, 1, "dopri5: absolute tolerance"},
        {"rtol", D2C_OPTION_REAL, &s.rtol, 1e-12, 1, "dopri5: relative tolerance"},
        {"cfg-scale", D2C_OPTION_REAL, &s.cfg_scale, -1e4, 1e4, "classifier-free guidance; 1: none"},
        {"guided-channels", D2C_OPTION_TEXT, &s.guided_channels, 0, 0,
         "all or first3; auto: first3 for latents of SiT and DiT, else all, as the public codes do"},
        {"guidance-low", D2C_OPTION_REAL, &s.guidance_low, 0, 1,
         "guidance from this time on, 0 data to 1 noise"},
        {"guidance-high", D2C_OPTION_REAL, &s.guidance_high, 0, 1, "and up to this one"},
        {"batch", D2C_OPTION_INT, &s.batch, 0, 4096,
         "images a pass, on which an image's last bits depend; 0: 1 on the CPU, 64 on a GPU"},
        {"threads", D2C_OPTION_INT, &s.threads, 0, 4096, "of the CPU; 0: all cores"},
        {"mixed-precision", D2C_OPTION_TEXT, &s.precision, 0, 0,
         "no, bf16, or auto: bf16 where the hardware has it"},
        {"device", D2C_OPTION_TEXT, &s.device, 0, 0, "cpu, cuda, cuda:N, or auto: cuda:0 when there is one"},
        {"output-dir", D2C_OPTION_TEXT, &s.output_dir, 0, 0, "folder for PNG files"},
        {"dbname", D2C_OPTION_TEXT, &s.dbname, 0, 0, "database name or connection string"},
        {"table", D2C_OPTION_TEXT, &s.table, 0, 0,
         "table for rows of id, label, seed, image; made when missing"},
        {"grid", D2C_OPTION_TEXT, &s.grid, 0, 0, "PNG file of all images side by side"},
        {NULL, D2C_OPTION_FLAG, NULL, 0, 0, NULL},
    };
    d2c_error err;
    int help;
    d2c_status status =
        d2c_options_parse(options, "sample --model MODEL [--option value]...", argc, argv, &help, &err);

    if (status == D2C_OK && help)
        return 0;
    signal(SIGPIPE, SIG_IGN);
    if (status == D2C_OK)
        status = read_seeds(&s, &err);
    if (status == D2C_OK)
        status = run(&s, &err);
    free(s.seeds);
    return status == D2C_OK ? 0 : d2c_command_failed(&err);
}
