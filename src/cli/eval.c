/* eval.c: d2c eval: distances between samples, real images and training images. */
#include <cjson/cJSON.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"
#include "eval/evaluate.h"
#include "eval/fid.h"
#include "train/database.h"

#define COMPONENTS 64 /* unless others are asked for */

typedef struct eval_arguments {
    const char *dbname, *train, *real, *samples, *model, *model_directory, *device;
    int64_t components, channels, count, edge, threads, neighbours;
    int json, classifier;
} eval_arguments;

typedef struct eval_sets {
    d2c_pixel_set train, real, samples;
} eval_sets;

static d2c_status
read_set(d2c_pixel_set *set, const d2c_pixel_set *like, PGconn *conn, const char *option, const char *source,
         const eval_arguments *args, d2c_error *err)
{
    d2c_status status =
        d2c_pixel_set_read(set, like, conn, source, (int)args->edge, (int)args->channels, err);

    if (status != D2C_OK)
        d2c_error_prefix(err, "--%s", option);
    return status;
}

static d2c_status
read_sets(eval_sets *sets, PGconn *conn, const eval_arguments *args, d2c_error *err)
{
    D2C_TRY(read_set(&sets->train, NULL, conn, "train", args->train, args, err));
    D2C_TRY(read_set(&sets->real, &sets->train, conn, "real", args->real, args, err));
    return read_set(&sets->samples, &sets->train, conn, "samples", args->samples, args, err);
}

/* A measure that was not taken is left out. */
static int
add_number(cJSON *object, const char *name, double value)
{
    return isnan(value) || cJSON_AddNumberToObject(object, name, value) != NULL;
}

/* Prints the object on a line, unless it is not whole, and deletes it. */
static d2c_status
print_object(cJSON *object, int whole, d2c_error *err)
{
    char *text = whole ? cJSON_PrintUnformatted(object) : NULL;

    cJSON_Delete(object);
    if (text == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for the result");
    puts(text);
    free(text);
    return D2C_OK;
}

static d2c_status
print_json(const d2c_evaluation *e, d2c_error *err)
{
    cJSON *object = cJSON_CreateObject();
    int whole = object != NULL && add_number(object, "count", (double)e->count) &&
                add_number(object, "components", e->components) &&
                add_number(object, "explained", e->explained) && add_number(object, "frechet", e->frechet) &&
                add_number(object, "frechet_classifier", e->frechet_classifier) &&
                add_number(object, "classifier_accuracy", e->classifier_accuracy) &&
                add_number(object, "nearest_median", e->nearest_median) &&
                add_number(object, "nearest_mean", e->nearest_mean);

    return print_object(object, whole, err);
}

static void
print_line(const d2c_evaluation *e)
{
    printf("%lld samples against as many real images: Frechet distance %.4f in %d components (%.1f %% of the "
           "variance)",
           (long long)e->count, e->frechet, e->components, 100 * e->explained);
    if (!isnan(e->frechet_classifier))
        printf(", %.4f in a classifier's features", e->frechet_classifier);
    if (!isnan(e->classifier_accuracy))
        printf(" (accuracy %.1f %%)", 100 * e->classifier_accuracy);
    printf(", nearest training image median %.4f mean %.4f\n", e->nearest_median, e->nearest_mean);
}

static d2c_status
print_fid_json(const d2c_fid *f, d2c_error *err)
{
    cJSON *object = cJSON_CreateObject();
    int whole = object != NULL && add_number(object, "samples", (double)f->sample_count) &&
                add_number(object, "real", (double)f->real_count) && add_number(object, "fid", f->fid) &&
                add_number(object, "sfid", f->sfid) &&
                add_number(object, "inception_score", f->inception_score) &&
                add_number(object, "inception_score_parts", f->parts) &&
                add_number(object, "precision", f->precision) && add_number(object, "recall", f->recall) &&
                add_number(object, "precision_samples", (double)f->sample_neighbours) &&
                add_number(object, "precision_real", (double)f->real_neighbours);

    return print_object(object, whole, err);
}

static void
print_fid_line(const d2c_fid *f)
{
    printf("%lld samples against %lld real images: FID %.4f, sFID %.4f, Inception Score %.4f (mean of %d "
           "parts), precision %.4f, recall %.4f (3 neighbours among %lld samples and %lld real images)\n",
           (long long)f->sample_count, (long long)f->real_count, f->fid, f->sfid, f->inception_score,
           f->parts, f->precision, f->recall, (long long)f->sample_neighbours, (long long)f->real_neighbours);
}

/* Measures by the pixels need all of a set at once, those by a network take image after image. */
static d2c_status
measure_by_network(PGconn *conn, const eval_arguments *args, d2c_error *err)
{
    const d2c_fid_setting setting = {.directory = args->model_directory,
                                     .model = args->model,
                                     .device = args->device,
                                     .threads = (int)args->threads,
                                     .neighbours = args->neighbours};
    d2c_fid f;

    D2C_TRY(d2c_evaluate_fid(&f, &setting, conn, args->real, args->samples, err));
    if (f.notice[0] != '\0')
        fprintf(stderr, "d2c: %s\n", f.notice);
    if (args->json)
        return print_fid_json(&f, err);
    print_fid_line(&f);
    return D2C_OK;
}

static d2c_status
measure_by_pixels(PGconn *conn, const eval_arguments *args, d2c_error *err)
{
    eval_sets sets = {{0}, {0}, {0}};
    d2c_evaluation e;
    d2c_status status = read_sets(&sets, conn, args, err);

    if (status == D2C_OK)
        status = d2c_evaluate(&e, &sets.train, &sets.real, &sets.samples, (int)args->components, args->count,
                              args->classifier, err);
    d2c_pixel_set_free(&sets.train);
    d2c_pixel_set_free(&sets.real);
    d2c_pixel_set_free(&sets.samples);
    if (status == D2C_OK && args->json)
        return print_json(&e, err);
    if (status == D2C_OK)
        print_line(&e);
    return status;
}

static d2c_status
run_eval(const eval_arguments *args, d2c_error *err)
{
    PGconn *conn = NULL;
    d2c_status status = D2C_OK;

    if (args->dbname != NULL)
        status = d2c_database_open(&conn, args->dbname, err);
    if (status == D2C_OK)
        status = (args->model != NULL ? measure_by_network : measure_by_pixels)(conn, args, err);
    PQfinish(conn);
    return status;
}

/* A network needs no training images, and looks at every image as a whole. */
static d2c_status
check_arguments(const eval_arguments *args, d2c_error *err)
{
    if (args->channels == 2)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "--channels must be 1 or 3, or 0");
    if (args->model == NULL && args->model_directory == NULL)
        return args->train != NULL && args->real != NULL && args->samples != NULL
                   ? D2C_OK
                   : d2c_fail(err, D2C_INVALID_ARGUMENT, "--train, --real and --samples are all needed");
    if (args->model == NULL || args->model_directory == NULL || args->real == NULL || args->samples == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "--model, --model-directory, --real and --samples are all needed");
    if (args->train != NULL || args->components != 0 || args->channels != 0 || args->count != 0 ||
        args->edge != 0 || args->classifier)
        return d2c_fail(
            err, D2C_INVALID_ARGUMENT,
            "--train, --components, --channels, --count, --edge and --classifier do not go with --model");
    return D2C_OK;
}

int
d2c_command_eval(int argc, char **argv)
{
    eval_arguments args = {.device = "auto", .neighbours = 10000};
    const d2c_option options[] = {
        {"dbname", D2C_OPTION_TEXT, &args.dbname, 0, 0, "database: a name, a conninfo string or a URI"},
        {"train", D2C_OPTION_TEXT, &args.train, 0, 0,
         "training images: a query, a table with id and image, or a folder"},
        {"real", D2C_OPTION_TEXT, &args.real, 0, 0, "real images that were not trained on, likewise"},
        {"samples", D2C_OPTION_TEXT, &args.samples, 0, 0, "samples, likewise"},
        {"components", D2C_OPTION_INT, &args.components, 0, D2C_EVAL_MAX_SIZE,
         "principal components of the training pixels; 0: 64"},
        {"channels", D2C_OPTION_INT, &args.channels, 0, 3,
         "1: all images by their luma, 3: all in colour; 0: as the training images are"},
        {"count", D2C_OPTION_INT, &args.count, 0, 1e9,
         "images of each set to compare; 0: all of the smaller"},
        {"classifier", D2C_OPTION_FLAG, &args.classifier, 0, 0,
         "measure in the features of a small classifier as well; labels: second column of --train"},
        {"edge", D2C_OPTION_INT, &args.edge, 0, 64,
         "crop and resize every image to this edge; 0: take them as they are"},
        {"model", D2C_OPTION_TEXT, &args.model, 0, 0,
         "an Inception network: FID, sFID, Inception Score, precision and recall in its features instead"},
        {"model-directory", D2C_OPTION_TEXT, &args.model_directory, 0, 0, "where named models are"},
        {"neighbours", D2C_OPTION_INT, &args.neighbours, 4, 1e6,
         "with --model: images of each set for precision and recall, drawn when there are more"},
        {"device", D2C_OPTION_TEXT, &args.device, 0, 0,
         "with --model: cpu, cuda, cuda:N, or auto: cuda:0 when there is one"},
        {"threads", D2C_OPTION_INT, &args.threads, 0, 1024, "threads; 0: one for each core"},
        {"json", D2C_OPTION_FLAG, &args.json, 0, 0, "print a JSON object"},
        {NULL, D2C_OPTION_FLAG, NULL, 0, 0, NULL},
    };
    d2c_error err;
    int help;

    if (d2c_options_parse(
            options,
            "eval {--train SOURCE | --model NAME --model-directory DIR} --real SOURCE --samples "
            "SOURCE [--option value]...",
            argc, argv, &help, &err) != D2C_OK)
        return d2c_command_failed(&err);
    if (help)
        return 0;
    if (check_arguments(&args, &err) != D2C_OK)
        return d2c_command_failed(&err);
    if (args.components == 0)
        args.components = COMPONENTS;
    if (args.threads > 0)
        omp_set_num_threads((int)args.threads);
    return run_eval(&args, &err) == D2C_OK ? 0 : d2c_command_failed(&err);
}
