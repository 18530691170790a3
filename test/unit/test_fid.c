/* test_fid.c: FID, Inception Score, precision and recall against public evaluators (golden/make_fid.py), and of folders. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/safetensors.h"
#include "check.h"
#include "eval/fid.h"
#include "eval/frechet.h"
#include "eval/inception_score.h"
#include "eval/moments.h"
#include "eval/precision_recall.h"
#include "image/image.h"

#define WIDTH 24
#define MODELS GOLDEN "/models"

static d2c_safetensors *golden;

static const d2c_st_tensor *
tensor(const char *name)
{
    const d2c_st_tensor *t = d2c_safetensors_find(golden, name);

    if (t == NULL) {
        fprintf(stderr, "no %s\n", name);
        exit(1);
    }
    return t;
}

static double
expected(const char *name, int index)
{
    return ((const double *)tensor(name)->data)[index];
}

/* Adds the rows in blocks of changing sizes. */
static void
add_rows(d2c_running_moments *m, const char *name)
{
    const d2c_st_tensor *t = tensor(name);
    double *rows = malloc((size_t)t->count * sizeof *rows);
    int64_t i, step;
    d2c_error err;

    CHECK_OK(d2c_running_moments_start(m, WIDTH, &err), &err);
    for (i = 0; i < t->count; i++)
        rows[i] = ((const float *)t->data)[i];
    for (i = 0, step = 1; i < t->dim[0];
         i += step, step = step * 3 < t->dim[0] - i ? step * 3 : t->dim[0] - i)
        d2c_running_moments_add(m, rows + i * WIDTH, step);
    CHECK(m->count == t->dim[0]);
    d2c_running_moments_finish(m);
    free(rows);
}

static void
moments_as_numpy(void)
{
    d2c_running_moments m;
    int i;

    add_rows(&m, "real");
    for (i = 0; i < WIDTH; i++)
        CHECK_NEAR(m.sum[i], expected("mean", i), 1e-13);
    for (i = 0; i < WIDTH * WIDTH; i++)
        CHECK_NEAR(m.square[i], expected("covariance", i), 1e-13);
    d2c_running_moments_free(&m);
}

/* Numbers far from 0, whose squares would hide their variance. */
static void
moments_do_not_cancel(void)
{
    double x[4] = {1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3};
    d2c_running_moments m;
    d2c_error err;

    CHECK_OK(d2c_running_moments_start(&m, 1, &err), &err);
    d2c_running_moments_add(&m, x, 4);
    d2c_running_moments_finish(&m);
    CHECK_NEAR(m.sum[0], 1e9 + 1.5, 0);
    CHECK_NEAR(m.square[0], 5.0 / 3, 1e-15);
    d2c_running_moments_free(&m);
}

static void
distance_as_public(void)
{
    d2c_running_moments real, samples;
    double distance;
    d2c_error err;

    add_rows(&real, "real");
    add_rows(&samples, "samples");
    CHECK_OK(d2c_frechet(&distance, WIDTH, samples.sum, samples.square, real.sum, real.square, &err), &err);
    CHECK_NEAR(distance, expected("distances", 0), 1e-6 * distance); /* by sqrtm */
    CHECK_NEAR(distance, expected("distances", 1), 1e-11 * distance);
    d2c_running_moments_free(&real);
    d2c_running_moments_free(&samples);
}

/* The score of the first `count` rows, in parts of `split`. */
static double
score(int64_t count, int64_t split)
{
    const d2c_st_tensor *t = tensor("logits");
    d2c_inception_score s;
    double result;
    d2c_error err;
    int64_t i;

    CHECK_OK(d2c_inception_score_start(&s, (int)t->dim[1], split, &err), &err);
    for (i = 0; i < count; i++)
        d2c_inception_score_add(&s, (const float *)t->data + i * t->dim[1]);
    result = d2c_inception_score_finish(&s);
    CHECK(s.parts == (count + split - 1) / split);
    d2c_inception_score_free(&s);
    return result;
}

static void
score_as_public(void)
{
    CHECK_NEAR(score(170, 5000), expected("scores", 0), 1e-12);
    CHECK_NEAR(score(168, 42), expected("scores", 1), 1e-12);
    CHECK_NEAR(score(170, 50), expected("scores", 2), 1e-12);
    CHECK(isnan(score(0, 50)));
}

/* Sure of one class each: p log p is 0 where p is. */
static void
score_of_certainty(void)
{
    const float logits[2][2] = {{0, -1e4f}, {-1e4f, 0}};
    d2c_inception_score s;
    d2c_error err;

    CHECK_OK(d2c_inception_score_start(&s, 2, 10, &err), &err);
    d2c_inception_score_add(&s, logits[0]);
    d2c_inception_score_add(&s, logits[1]);
    CHECK_NEAR(d2c_inception_score_finish(&s), 2, 1e-15);
    d2c_inception_score_free(&s);
}

static void
shares_as_public(void)
{
    const d2c_st_tensor *real = tensor("real"), *samples = tensor("samples");
    double precision, recall;
    d2c_error err;

    CHECK_OK(d2c_precision_recall(&precision, &recall, real->data, real->dim[0], samples->data,
                                  samples->dim[0], WIDTH, &err),
             &err);
    CHECK_NEAR(precision, expected("shares", 0), 1e-6); /* public shares are f32; one image is 5e-3 */
    CHECK_NEAR(recall, expected("shares", 1), 1e-6);
    CHECK_OK(d2c_precision_recall(&precision, &recall, real->data, real->dim[0], real->data, real->dim[0],
                                  WIDTH, &err),
             &err);
    CHECK(precision == 1 && recall == 1);
    CHECK(d2c_precision_recall(&precision, &recall, real->data, 3, samples->data, 10, WIDTH, &err) ==
          D2C_INVALID_ARGUMENT);
    CHECK(isnan(precision));
}

/* More rows than a block of products, on a line far from 0: the balls' borders are exact. */
static void
shares_of_many(void)
{
    enum { COUNT = 2500 };
    float *real = malloc(COUNT * sizeof *real), *samples = malloc(COUNT * sizeof *samples);
    double precision, recall;
    d2c_error err;
    int i;

    for (i = 0; i < COUNT; i++) {
        real[i] = 100000.0f + (float)i;
        samples[i] =
            100000.0f + (float)(COUNT + i) + 1.0f; /* 3 beyond the last lies on the border of its ball */
    }
    CHECK_OK(d2c_precision_recall(&precision, &recall, real, COUNT, samples, COUNT, 1, &err), &err);
    /* The last real has radius 3, the one before it 2, as every other: samples begin 2 beyond the last. */
    CHECK_NEAR(precision, 2.0 / COUNT, 0);
    CHECK_NEAR(recall, 2.0 / COUNT, 0);
    free(real);
    free(samples);
}

/* ---- whole folders ------------------------------------------------------------------------------------------------- */

static char folder[64];

static const char *
at(const char *name)
{
    static char path[4][128];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* Stripes whose colour and width are the seed's. */
static void
make_picture(const char *name, int seed)
{
    d2c_image image;
    uint8_t *png;
    size_t length;
    d2c_error err;
    int i;

    CHECK_OK(d2c_image_allocate(&image, 12 + seed % 5, 9, 3, &err), &err);
    for (i = 0; i < image.width * image.height * 3; i++)
        image.pixels[i] = (uint8_t)((i * (seed + 3) / 4) % 256);
    CHECK_OK(d2c_image_encode_png(&png, &length, &image, &err), &err);
    CHECK_OK(d2c_file_write(at(name), png, length, &err), &err);
    d2c_image_free(&image);
    free(png);
}

static void
make_folders(void)
{
    char name[32];
    int i;

    CHECK(mkdir(at("real"), 0700) == 0 && mkdir(at("samples"), 0700) == 0);
    for (i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "real/%d.png", i);
        make_picture(name, i);
        snprintf(name, sizeof name, "samples/%d.png", i);
        make_picture(name, 2 * i + 4);
    }
}

static d2c_status
evaluate(d2c_fid *f, const char *model, int threads, int64_t neighbours, const char *samples, d2c_error *err)
{
    const d2c_fid_setting setting = {MODELS, model, "cpu", threads, neighbours};

    return d2c_evaluate_fid(f, &setting, NULL, at("real"), samples, err);
}

static void
folders(void)
{
    d2c_fid one, two;
    d2c_error err;

    CHECK_OK(evaluate(&one, "tiny-inception", 1, 100, at("samples"), &err), &err);
    CHECK(one.real_count == 6 && one.sample_count == 6 && one.real_neighbours == 6 && one.parts == 1);
    CHECK(one.fid > 1 && one.sfid > 1 && one.inception_score >= 1 && one.precision >= 0 && one.recall <= 1);
    CHECK_OK(evaluate(&two, "tiny-inception", 2, 100, at("samples"), &err), &err);
    CHECK(memcmp(&one, &two, sizeof one) == 0);
    CHECK_OK(evaluate(&two, "tiny-inception", 2, 4, at("samples"), &err), &err);
    CHECK(two.real_neighbours == 4 && two.sample_neighbours == 4 && two.fid == one.fid);
    CHECK_OK(evaluate(&two, "tiny-inception", 2, 100, at("real"), &err), &err);
    CHECK_NEAR(two.fid, 0, 1e-6 * one.fid);
    CHECK_NEAR(two.sfid, 0, 1e-6 * one.sfid);
    CHECK(two.precision == 1 && two.recall == 1);
}

static void
bad_sources(void)
{
    d2c_error err;
    d2c_fid f;

    CHECK(evaluate(&f, "tiny-sit", 1, 100, at("samples"), &err) == D2C_BAD_MODEL);
    CHECK(strcmp(err.message, "model \"tiny-sit\" is of the wrong kind") == 0);
    CHECK(evaluate(&f, "none", 1, 100, at("samples"), &err) == D2C_NOT_FOUND);
    CHECK(evaluate(&f, "tiny-inception", 1, 100, "table", &err) == D2C_INVALID_ARGUMENT);
    CHECK(strstr(err.message, "--samples: no database is given") != NULL);
    CHECK_OK(d2c_file_write(at("samples/3.png"), "rubbish", 7, &err), &err);
    CHECK(evaluate(&f, "tiny-inception", 2, 100, at("samples"), &err) != D2C_OK);
    CHECK(strstr(err.message, "3.png") != NULL);
    CHECK(unlink(at("samples/2.png")) == 0 && unlink(at("samples/3.png")) == 0 &&
          unlink(at("samples/4.png")) == 0);
    CHECK(evaluate(&f, "tiny-inception", 1, 100, at("samples"), &err) == D2C_BAD_DATA);
    CHECK(strcmp(err.message, "--samples: a set of 3 images is too small to be compared") == 0);
}

static void
remove_folders(void)
{
    char name[32];
    int i;

    for (i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "real/%d.png", i);
        unlink(at(name));
        snprintf(name, sizeof name, "samples/%d.png", i);
        unlink(at(name));
    }
    rmdir(at("real"));
    rmdir(at("samples"));
    rmdir(folder);
}

int
main(void)
{
    d2c_error err;

    snprintf(folder, sizeof folder, "/tmp/d2c-fid-XXXXXX");
    if (mkdtemp(folder) == NULL ||
        d2c_safetensors_open(&golden, GOLDEN "/eval/fid.safetensors", &err) != D2C_OK)
        return 1;
    make_folders();
    RUN(moments_as_numpy);
    RUN(moments_do_not_cancel);
    RUN(distance_as_public);
    RUN(score_as_public);
    RUN(score_of_certainty);
    RUN(shares_as_public);
    RUN(shares_of_many);
    RUN(folders);
    RUN(bad_sources);
    remove_folders();
    d2c_safetensors_close(golden);
    return check_report();
}
