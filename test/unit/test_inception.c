/* test_inception.c: Inception-v3 for FID against pytorch-fid (golden/make_inception.py), and files that are none. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "device.h"
#include "nn/inception.h"
#include "nn/model.h"

#define MODELS GOLDEN "/models"
#define MODEL MODELS "/tiny-inception.safetensors"
#define FEATURES 128
#define CLASSES 40
#define SPATIAL (17 * 17 * 7)
#define EDGE D2C_INCEPTION_EDGE
#define EVERY 23 /* which pixels the golden has */

static const char *const pictures[] = {"small", "flat"};
static const char *const inputs[] = {"pytorch-fid", "tensorflow", "clean-fid"};

/* ||a - b|| / ||b|| */
static double
relative_error(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    size_t i;

    for (i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / norm);
}

static void
decode(d2c_image *image, const char *name)
{
    uint8_t *bytes = NULL;
    char path[1024];
    size_t length;
    d2c_error err;

    snprintf(path, sizeof path, "%s/inception/%s.png", GOLDEN, name);
    CHECK_OK(d2c_file_read(&bytes, &length, path, 1 << 20, &err), &err);
    CHECK_OK(d2c_image_decode(image, bytes, length, 3, D2C_DEFAULT_PIXEL_LIMIT, &err), &err);
    free(bytes);
}

/* The golden's part of a picture and input variant. */
static const d2c_st_tensor *
golden(const d2c_safetensors *file, int picture, int input, const char *part)
{
    const d2c_st_tensor *t;
    char name[64];

    snprintf(name, sizeof name, "%s.%s.%s", pictures[picture], inputs[input], part);
    t = d2c_safetensors_find(file, name);
    if (t == NULL) {
        fprintf(stderr, "no %s\n", name);
        exit(1);
    }
    return t;
}

static d2c_safetensors *
open_golden(void)
{
    d2c_safetensors *file;
    d2c_error err;

    if (d2c_safetensors_open(&file, GOLDEN "/inception/expected.safetensors", &err) != D2C_OK)
        exit(1);
    return file;
}

static double
check_pixels(const d2c_safetensors *file, int picture, int input)
{
    const float *expected = golden(file, picture, input, "pixels")->data;
    static float x[EDGE * EDGE * 3];
    double worst = 0;
    d2c_image image;
    d2c_error err;
    int i, j, c;

    decode(&image, pictures[picture]);
    CHECK_OK(d2c_inception_prepare(x, &image, (d2c_inception_input)input, &err), &err);
    for (i = 0; i < EDGE; i += EVERY)
        for (j = 0; j < EDGE; j += EVERY)
            for (c = 0; c < 3; c++)
                worst = fmax(worst, fabs((double)x[(i * EDGE + j) * 3 + c] - *expected++));
    d2c_image_free(&image);
    return worst;
}

/* A level of 8 bits is 8e-3; what is left is rounding. */
static void
test_inputs(void)
{
    d2c_safetensors *file = open_golden();
    int picture, input;

    for (picture = 0; picture < 2; picture++)
        for (input = 0; input < 3; input++)
            CHECK(check_pixels(file, picture, input) < 1e-6);
    d2c_safetensors_close(file);
}

static d2c_inception *
open_network(d2c_backend *be, int input)
{
    d2c_inception *net = NULL;
    d2c_weights *weights;
    d2c_error err;

    CHECK_OK(d2c_weights_open(&weights, MODEL, &err), &err);
    CHECK_OK(d2c_inception_open(&net, be, weights, (d2c_inception_input)input, &err), &err);
    d2c_weights_close(weights);
    return net;
}

static void
check_result(const d2c_safetensors *file, d2c_backend *be, int picture, int input, double tolerance)
{
    static float features[FEATURES], logits[CLASSES], spatial[SPATIAL];
    const d2c_inception_result result = {features, logits, spatial};
    d2c_inception *net = open_network(be, input);
    d2c_scratch scratch = {0};
    d2c_image image;
    d2c_error err;

    decode(&image, pictures[picture]);
    CHECK(net->features == FEATURES && net->classes == CLASSES && net->spatial == SPATIAL);
    CHECK_OK(d2c_inception_run(net, be, &scratch, &result, &image, &err), &err);
    CHECK(relative_error(features, golden(file, picture, input, "features")->data, FEATURES) < tolerance);
    CHECK(relative_error(logits, golden(file, picture, input, "logits")->data, CLASSES) < tolerance);
    CHECK(relative_error(spatial, golden(file, picture, input, "spatial")->data, SPATIAL) < tolerance);
    if (getenv("VERBOSE") != NULL)
        printf("%s %s %s: features %.2g logits %.2g spatial %.2g\n", be->ops->name, pictures[picture],
               inputs[input],
               relative_error(features, golden(file, picture, input, "features")->data, FEATURES),
               relative_error(logits, golden(file, picture, input, "logits")->data, CLASSES),
               relative_error(spatial, golden(file, picture, input, "spatial")->data, SPATIAL));
    d2c_image_free(&image);
    d2c_scratch_free(&scratch, be);
    d2c_inception_close(net, be);
}

static void
check_device(const char *device)
{
    d2c_safetensors *file = open_golden();
    d2c_backend *be = NULL;
    d2c_error err;
    int input;

    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    for (input = 0; input < 3; input++) {
        check_result(file, be, 0, input, 5e-6);
        check_result(file, be, 1, input, 5e-6);
    }
    d2c_backend_close(be);
    d2c_safetensors_close(file);
}

static void
test_devices(void)
{
    ON_EVERY_DEVICE(check_device);
}

int
main(void)
{
    RUN(test_inputs);
    RUN(test_devices);
    return check_report();
}
