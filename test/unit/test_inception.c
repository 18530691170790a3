/* test_inception.c: Inception-v3 for FID against pytorch-fid (golden/make_inception.py), and files that are none. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "scratch_folder.h"
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
    float features[FEATURES] = {0}, logits[CLASSES] = {0}, spatial[SPATIAL] = {0};
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

/* ---- as a model of a directory, and files that are none ------------------------------------------------------------ */

/* A tensor that is changed on its way to the scratch folder. */
typedef struct change {
    const char *name;
    const char *renamed; /* "" leaves it out; NULL: as it is called */
    int axis, size;      /* one of its dims becomes smaller; size 0: none */
    float fill;          /* what all of it becomes; 0: as it is */
} change;

static void
apply(d2c_st_item *item, const change *c)
{
    static float filled[64 * 1024];
    int i;

    if (c->renamed != NULL)
        item->name = c->renamed;
    if (c->size > 0)
        item->dim[c->axis] = c->size;
    for (i = 0; c->fill != 0 && i < 64 * 1024; i++)
        filled[i] = c->fill;
    if (c->fill != 0)
        item->data = filled;
}

/* Writes the model with the change to changed.safetensors. */
static void
write_changed(const change *c)
{
    static d2c_st_item items[1000];
    d2c_safetensors *file = NULL;
    d2c_error err;
    int i, count = 0, met = 0;

    CHECK_OK(d2c_safetensors_open(&file, MODEL, &err), &err);
    for (i = 0; i < d2c_safetensors_count(file) && i < 1000; i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);
        d2c_st_item item = {t->name, t->dtype, t->ndim, {0}, t->data};

        memcpy(item.dim, t->dim, sizeof item.dim);
        if (strcmp(t->name, c->name) == 0) {
            apply(&item, c);
            met = 1;
        }
        if (item.name[0] != '\0')
            items[count++] = item;
    }
    CHECK(met);
    CHECK_OK(d2c_safetensors_write(at("changed.safetensors"), items, count, NULL, 0, &err), &err);
    d2c_safetensors_close(file);
}

static d2c_status
open_changed(d2c_model **model, d2c_backend *be, d2c_error *err)
{
    err->message[0] = '\0';
    return d2c_model_open(model, be, folder, "changed", D2C_F32, err);
}

static void
check_message(const d2c_error *err, const char *message)
{
    if (strstr(err->message, message) == NULL) {
        fprintf(stderr, "\"%s\", not \"%s\"\n", err->message, message);
        CHECK(!"the message says why");
    }
}

static void
test_bad_files(void)
{
    static const struct {
        change change;
        d2c_status status;
        const char *message;
    } bad[] = {
        {{.name = "Conv2d_1a_3x3.conv.weight", .renamed = ""}, D2C_BAD_MODEL, "no known kind of model"},
        {{.name = "Mixed_6b.branch7x7_2.conv.weight", .renamed = ""},
         D2C_BAD_MODEL,
         "tensor \"Mixed_6b.branch7x7_2.conv.weight\" is missing"},
        {{.name = "Mixed_6b.branch7x7_2.bn.running_var", .renamed = ""},
         D2C_BAD_MODEL,
         "tensor \"Mixed_6b.branch7x7_2.bn.running_var\" is missing"},
        {{.name = "fc.weight", .renamed = ""}, D2C_BAD_MODEL, "tensor \"fc.weight\" is missing"},
        {{.name = "fc.weight", .axis = 1, .size = 127},
         D2C_BAD_MODEL,
         "tensor \"fc.weight\" has the wrong shape"},
        {{.name = "fc.bias", .renamed = "AuxLogits.conv0.conv.weight"}, D2C_UNSUPPORTED, "not of FID's"},
        {{.name = "Mixed_7a.branch3x3_2.conv.weight", .axis = 2, .size = 1},
         D2C_BAD_MODEL,
         "tensor \"Mixed_7a.branch3x3_2.conv.weight\" has the wrong shape"},
        {{.name = "Mixed_5b.branch1x1.conv.weight", .axis = 0, .size = 3},
         D2C_BAD_MODEL,
         "tensor \"Mixed_5c.branch1x1.conv.weight\" has the wrong shape"},
        {{.name = "Mixed_5b.branch1x1.bn.bias", .axis = 0, .size = 3}, D2C_BAD_MODEL, "branch1x1.bn.bias"},
        {{.name = "Mixed_6d.branch1x1.conv.weight", .axis = 0, .size = 6},
         D2C_BAD_MODEL,
         "tensor \"Mixed_6e.branch1x1.conv.weight\" has the wrong shape"},
        {{.name = "Mixed_7c.branch_pool.bn.running_var", .fill = -0.5f},
         D2C_BAD_MODEL,
         "tensor \"Mixed_7c.branch_pool.bn.running_var\" is no variance"},
        {{.name = "Mixed_7c.branch_pool.bn.running_var", .fill = NAN}, D2C_BAD_MODEL, "is no variance"},
    };
    d2c_backend *be = NULL;
    d2c_model *model;
    d2c_error err;
    size_t i;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_changed(&bad[i].change);
        CHECK(open_changed(&model, be, &err) == bad[i].status && model == NULL);
        check_message(&err, bad[i].message);
    }
    d2c_backend_close(be);
}

static void
embed(d2c_model *model, d2c_backend *be, float *features, d2c_status wanted)
{
    d2c_scratch scratch = {0};
    d2c_image image;
    d2c_error err;

    decode(&image, "small");
    CHECK(model->family->embed_image(model->network, be, &scratch, features, &image, 1, &err) == wanted);
    d2c_image_free(&image);
    d2c_scratch_free(&scratch, be);
}

static void
test_not_finite(void)
{
    const change damage = {.name = "Mixed_7c.branch_pool.bn.bias", .fill = INFINITY};
    float features[FEATURES];
    d2c_backend *be = NULL;
    d2c_model *model;
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    write_changed(&damage);
    CHECK_OK(open_changed(&model, be, &err), &err);
    embed(model, be, features, D2C_NOT_FINITE);
    d2c_model_close(model, be);
    d2c_backend_close(be);
}

/* The description chooses the input; whatever the precision, the features are those of f32. */
static void
test_description(void)
{
    const change none = {.name = "fc.bias"};
    d2c_safetensors *file = open_golden();
    float features[FEATURES];
    d2c_backend *be = NULL;
    d2c_model *model;
    char text[64];
    d2c_error err;
    int input;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    write_changed(&none);
    for (input = 0; input < 3; input++) {
        snprintf(text, sizeof text, "{\"input\": \"%s\"}", inputs[input]);
        CHECK_OK(d2c_file_write(at("changed.json"), text, strlen(text), &err), &err);
        CHECK_OK(d2c_model_open(&model, be, folder, "changed", input == 0 ? D2C_F32 : D2C_BF16, &err), &err);
        CHECK(strcmp(model->info.kind, "inception") == 0 && model->info.role == D2C_ROLE_IMAGE);
        CHECK(model->info.embedding == FEATURES && model->info.tokens == 1 && model->family->embeds_f32);
        CHECK(d2c_model_inception(model) != NULL);
        embed(model, be, features, D2C_OK);
        CHECK(relative_error(features, golden(file, 0, input, "features")->data, FEATURES) < 5e-6);
        d2c_model_close(model, be);
    }
    CHECK_OK(d2c_file_write(at("changed.json"), "{\"input\": \"mean\"}", 17, &err), &err);
    CHECK(open_changed(&model, be, &err) == D2C_BAD_MODEL);
    check_message(&err, "unknown \"input\" \"mean\"");
    d2c_backend_close(be);
    d2c_safetensors_close(file);
}

int
main(void)
{
    if (!make_folder())
        return 1;
    RUN(test_inputs);
    RUN(test_devices);
    RUN(test_bad_files);
    RUN(test_not_finite);
    RUN(test_description);
    remove_folder();
    return check_report();
}
