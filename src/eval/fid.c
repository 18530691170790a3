/* fid.c: images through the network, and what is kept of them (fid.h). */
#define _GNU_SOURCE
#include "eval/fid.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/philox.h"
#include "eval/blocks.h"
#include "eval/frechet.h"
#include "eval/inception_score.h"
#include "eval/moments.h"
#include "eval/precision_recall.h"
#include "nn/inception.h"
#include "nn/model.h"
#include "ops/backend.h"

/* ---- the network on all threads ------------------------------------------------------------------------------------ */

typedef struct worker {
    d2c_backend *be;
    d2c_scratch scratch;
} worker;

typedef struct machine {
    int threads;
    worker *worker; /* [threads] */
    d2c_model *model;
    const d2c_inception *net;
} machine;

/* The device is chosen with the first backend; a GPU has no other. */
static d2c_status
open_workers(machine *m, const d2c_fid_setting *setting, char *notice, size_t size, d2c_error *err)
{
    int threads = setting->threads > 0 ? setting->threads : (int)sysconf(_SC_NPROCESSORS_ONLN), i;
    const char *device;

    m->worker = calloc((size_t)threads, sizeof *m->worker);
    if (m->worker == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    D2C_TRY(d2c_backend_choose(&m->worker[0].be, &device, notice, size, setting->device, "cuda:0", 1, err));
    m->threads = d2c_backend_is_asynchronous(m->worker[0].be) ? 1 : threads;
    for (i = 1; i < m->threads; i++)
        D2C_TRY(d2c_backend_open(&m->worker[i].be, device, 1, err));
    return D2C_OK;
}

static d2c_status
open_network(machine *m, const d2c_fid_setting *setting, d2c_error *err)
{
    D2C_TRY(d2c_model_open(&m->model, m->worker[0].be, setting->directory, setting->model, D2C_F32, err));
    m->net = d2c_model_inception(m->model);
    if (m->net != NULL)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" is of the wrong kind", setting->model);
    d2c_detail(err, "It is of kind \"%s\"; FID is defined with one of kind \"inception\".",
               m->model->info.kind);
    return D2C_BAD_MODEL;
}

static void
close_machine(machine *m)
{
    int i;

    if (m->model != NULL)
        d2c_model_close(m->model, m->worker[0].be);
    for (i = 0; i < m->threads; i++) {
        if (m->worker[i].be != NULL)
            d2c_scratch_free(&m->worker[i].scratch, m->worker[i].be);
        d2c_backend_close(m->worker[i].be);
    }
    free(m->worker);
}

/* ---- what is kept of a source -------------------------------------------------------------------------------------- */

/* At most `most` rows, every row of those seen with the same chance. */
typedef struct drawn_rows {
    float *x; /* [capacity, width] */
    int64_t most, capacity, count, seen;
    int width;
} drawn_rows;

typedef struct survey {
    machine *machine;
    d2c_running_moments features, spatial;
    d2c_inception_score score; /* of samples alone */
    int scored;
    drawn_rows drawn;
    float *result;  /* [D2C_IMAGE_BLOCK, features + classes + spatial] */
    double *column; /* [D2C_IMAGE_BLOCK, the wider of features and spatial] */
} survey;

static d2c_status
grow_rows(drawn_rows *r, d2c_error *err)
{
    int64_t doubled = r->capacity > 0 ? 2 * r->capacity : 1024;
    int64_t capacity = doubled < r->most ? doubled : r->most;
    float *grown;

    if (r->count < r->capacity)
        return D2C_OK;
    grown = realloc(r->x, (size_t)capacity * (size_t)r->width * sizeof *grown);
    if (grown == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for the features of %lld images",
                        (long long)capacity);
    r->x = grown;
    r->capacity = capacity;
    return D2C_OK;
}

/* Reservoir sampling: the n-th row takes the place of another with the chance most / n.  The draw is of its number. */
static d2c_status
draw_row(drawn_rows *r, const float *row, d2c_error *err)
{
    int64_t at = r->seen++;

    if (r->count < r->most) {
        D2C_TRY(grow_rows(r, err));
        r->count++;
    } else {
        d2c_philox_block b = d2c_philox(0, 0, (uint64_t)at, d2c_philox_stream(0, D2C_PURPOSE_SELECT));

        at = (int64_t)((((uint64_t)b.w[0] << 32) | b.w[1]) % (uint64_t)r->seen);
    }
    if (at < r->most)
        memcpy(r->x + (size_t)at * (size_t)r->width, row, (size_t)r->width * sizeof *row);
    return D2C_OK;
}

static size_t
result_width(const d2c_inception *net)
{
    return (size_t)net->features + (size_t)net->classes + (size_t)net->spatial;
}

static d2c_status
start_survey(survey *s, machine *m, int scored, int64_t neighbours, d2c_error *err)
{
    const d2c_inception *net = m->net;
    size_t widest = (size_t)(net->features > net->spatial ? net->features : net->spatial);

    s->machine = m;
    s->scored = scored;
    s->drawn.most = neighbours;
    s->drawn.width = net->features;
    s->result = malloc(D2C_IMAGE_BLOCK * result_width(net) * sizeof *s->result);
    s->column = malloc(D2C_IMAGE_BLOCK * widest * sizeof *s->column);
    if (s->result == NULL || s->column == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a block of features");
    D2C_TRY(d2c_running_moments_start(&s->features, net->features, err));
    D2C_TRY(d2c_running_moments_start(&s->spatial, net->spatial, err));
    return d2c_inception_score_start(&s->score, net->classes, D2C_SCORE_SPLIT, err);
}

static void
end_survey(survey *s)
{
    d2c_running_moments_free(&s->features);
    d2c_running_moments_free(&s->spatial);
    d2c_inception_score_free(&s->score);
    free(s->drawn.x);
    free(s->result);
    free(s->column);
}

/* Decodes one image and runs it; result [features, classes, spatial]. */
static d2c_status
run_image(float *result, const d2c_inception *net, worker *w, const d2c_block_image *from, d2c_error *err)
{
    const d2c_inception_result parts = {result, result + net->features,
                                        result + net->features + net->classes};
    d2c_image image = {0};
    d2c_status status;

    D2C_TRY(d2c_image_decode(&image, from->bytes, from->length, 3, D2C_DEFAULT_PIXEL_LIMIT, err));
    status = d2c_inception_run(net, w->be, &w->scratch, &parts, &image, err);
    d2c_image_free(&image);
    return status;
}

/* Adds one part of every result of the block, in order. */
static void
add_moments(d2c_running_moments *m, survey *s, size_t first, int count)
{
    size_t width = (size_t)m->width, stride = result_width(s->machine->net), i;
    int row;

    for (row = 0; row < count; row++)
        for (i = 0; i < width; i++)
            s->column[(size_t)row * width + i] = s->result[(size_t)row * stride + first + i];
    d2c_running_moments_add(m, s->column, count);
}

static d2c_status
add_block(survey *s, int count, d2c_error *err)
{
    const d2c_inception *net = s->machine->net;
    size_t features = (size_t)net->features, classes = (size_t)net->classes;
    int i;

    add_moments(&s->features, s, 0, count);
    add_moments(&s->spatial, s, features + classes, count);
    for (i = 0; i < count; i++) {
        const float *row = s->result + (size_t)i * result_width(net);

        if (s->scored)
            d2c_inception_score_add(&s->score, row + features);
        D2C_TRY(draw_row(&s->drawn, row, err));
    }
    return D2C_OK;
}

/* An image's result does not depend on its thread, and is added in its turn. */
static d2c_status
take_block(void *data, d2c_block_image *image, int count, d2c_error *err)
{
    survey *s = data;
    machine *m = s->machine;
    int failed = 0, i;

#pragma omp parallel for num_threads(m->threads) schedule(dynamic, 1) reduction(| : failed)
    for (i = 0; i < count; i++) {
        image[i].status = run_image(s->result + (size_t)i * result_width(m->net), m->net,
                                    &m->worker[omp_get_thread_num()], &image[i], &image[i].error);
        failed |= image[i].status != D2C_OK;
    }
    return failed ? D2C_OK : add_block(s, count, err);
}

static d2c_status
survey_source(survey *s, PGconn *conn, const char *option, const char *source, d2c_error *err)
{
    d2c_status status = d2c_each_block(conn, source, take_block, s, err);

    if (status == D2C_OK && s->features.count <= D2C_NEIGHBOURS)
        status = d2c_fail(err, D2C_BAD_DATA, "a set of %lld images is too small to be compared",
                          (long long)s->features.count);
    if (status != D2C_OK)
        d2c_error_prefix(err, "--%s", option);
    return status;
}

/* ---- comparing ----------------------------------------------------------------------------------------------------- */

static d2c_status
compare_moments(double *distance, d2c_running_moments *a, d2c_running_moments *b, d2c_error *err)
{
    d2c_running_moments_finish(a);
    d2c_running_moments_finish(b);
    return d2c_frechet(distance, a->width, a->sum, a->square, b->sum, b->square, err);
}

static d2c_status
compare(d2c_fid *result, survey *real, survey *samples, d2c_error *err)
{
    result->real_count = real->features.count;
    result->sample_count = samples->features.count;
    result->real_neighbours = real->drawn.count;
    result->sample_neighbours = samples->drawn.count;
    result->inception_score = d2c_inception_score_finish(&samples->score);
    result->parts = samples->score.parts;
    D2C_TRY(compare_moments(&result->fid, &samples->features, &real->features, err));
    D2C_TRY(compare_moments(&result->sfid, &samples->spatial, &real->spatial, err));
    return d2c_precision_recall(&result->precision, &result->recall, real->drawn.x, real->drawn.count,
                                samples->drawn.x, samples->drawn.count, real->drawn.width, err);
}

static d2c_status
survey_both(d2c_fid *result, machine *m, const d2c_fid_setting *setting, PGconn *conn, const char *real,
            const char *samples, d2c_error *err)
{
    survey of_real = {0}, of_samples = {0};
    d2c_status status = start_survey(&of_real, m, 0, setting->neighbours, err);

    if (status == D2C_OK)
        status = start_survey(&of_samples, m, 1, setting->neighbours, err);
    if (status == D2C_OK)
        status = survey_source(&of_real, conn, "real", real, err);
    if (status == D2C_OK)
        status = survey_source(&of_samples, conn, "samples", samples, err);
    if (status == D2C_OK)
        status = compare(result, &of_real, &of_samples, err);
    end_survey(&of_real);
    end_survey(&of_samples);
    return status;
}

d2c_status
d2c_evaluate_fid(d2c_fid *result, const d2c_fid_setting *setting, PGconn *conn, const char *real,
                 const char *samples, d2c_error *err)
{
    machine m = {0};
    d2c_status status;

    memset(result, 0, sizeof *result);
    status = open_workers(&m, setting, result->notice, sizeof result->notice, err);
    if (status == D2C_OK)
        status = open_network(&m, setting, err);
    if (status == D2C_OK)
        status = survey_both(result, &m, setting, conn, real, samples, err);
    close_machine(&m);
    return status;
}
