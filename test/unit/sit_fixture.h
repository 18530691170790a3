/* sit_fixture.h: a tiny network of test/golden/sit with its recorded inputs and results, on one backend. */
#ifndef D2C_TEST_SIT_FIXTURE_H
#define D2C_TEST_SIT_FIXTURE_H

#include <stdlib.h>

#include "check.h"
#include "device.h"
#include "nn/sit.h"

#define FIXTURE_BLOCKS 256

typedef struct fixture {
    d2c_backend *be;
    d2c_weights *weights;
    d2c_safetensors *golden;
    d2c_sit *sit;
    d2c_error err;
    void *host[FIXTURE_BLOCKS], *device[FIXTURE_BLOCKS]; /* freed at the end */
    int hosts, devices;
} fixture;

static inline d2c_weights *
fixture_weights(fixture *f, const char *name)
{
    d2c_weights *weights = NULL;
    char path[1024];

    snprintf(path, sizeof path, "%s/%s.safetensors", GOLDEN, name);
    CHECK_OK(d2c_weights_open(&weights, path, &f->err), &f->err);
    return weights;
}

static inline d2c_safetensors *
fixture_file(fixture *f, const char *name)
{
    d2c_safetensors *file = NULL;
    char path[1024];

    snprintf(path, sizeof path, "%s/%s.safetensors", GOLDEN, name);
    CHECK_OK(d2c_safetensors_open(&file, path, &f->err), &f->err);
    return file;
}

/* Opens the network of GOLDEN/NAME, public when there are hints; 0 when something failed, and then the test has failed. */
static inline int
fixture_open_as(fixture *f, const char *device, const char *name, const d2c_sit_hints *hints,
                d2c_dtype precision, int training)
{
    d2c_sit_config config;
    char golden[64];

    memset(f, 0, sizeof *f);
    snprintf(golden, sizeof golden, "%s.golden", name);
    CHECK_OK(d2c_backend_open(&f->be, device, 1, &f->err), &f->err);
    f->weights = fixture_weights(f, name);
    f->golden = fixture_file(f, golden);
    if (f->be == NULL || f->weights == NULL || f->golden == NULL)
        return 0;
    CHECK_OK(d2c_sit_config_read(&config, f->weights, "", hints, &f->err), &f->err);
    CHECK_OK(d2c_sit_create(&f->sit, f->be, &config, precision, training, &f->err), &f->err);
    if (f->sit == NULL)
        return 0;
    CHECK_OK(d2c_sit_load(f->sit, f->be, f->sit->params.value, f->weights, "", &f->err), &f->err);
    CHECK_OK(d2c_synchronize(f->be), &f->be->error); /* other threads may use it */
    return 1;
}

/* Opens a network of GOLDEN/sit. */
static inline int
fixture_open(fixture *f, const char *device, const char *name, d2c_dtype precision, int training)
{
    char path[64];

    snprintf(path, sizeof path, "sit/%s", name);
    return fixture_open_as(f, device, path, NULL, precision, training);
}

static inline void
fixture_close(fixture *f)
{
    while (f->hosts > 0)
        free(f->host[--f->hosts]);
    while (f->devices > 0)
        d2c_free(f->be, f->device[--f->devices], D2C_MEMORY_DEVICE);
    d2c_sit_destroy(f->sit, f->be);
    d2c_weights_close(f->weights);
    d2c_safetensors_close(f->golden);
    if (f->be != NULL)
        d2c_backend_close(f->be);
}

static inline void *
fixture_host(fixture *f, size_t bytes)
{
    void *block = f->hosts < FIXTURE_BLOCKS ? calloc(1, bytes) : NULL;

    if (block == NULL)
        abort();
    return f->host[f->hosts++] = block;
}

static inline void *
fixture_device(fixture *f, size_t bytes)
{
    void *block = NULL;

    if (f->devices == FIXTURE_BLOCKS || d2c_alloc(f->be, &block, bytes, D2C_MEMORY_DEVICE) != D2C_OK)
        abort();
    return f->device[f->devices++] = block;
}

static inline const d2c_st_tensor *
golden_tensor(fixture *f, const char *name)
{
    const d2c_st_tensor *t = d2c_safetensors_find(f->golden, name);

    if (t == NULL) {
        fprintf(stderr, "the fixture lacks \"%s\"\n", name);
        abort();
    }
    return t;
}

/* A recorded tensor on the host. */
static inline float *
golden(fixture *f, const char *name)
{
    const d2c_st_tensor *t = golden_tensor(f, name);
    float *values = fixture_host(f, (size_t)t->count * sizeof *values);

    CHECK_OK(d2c_st_tensor_to_f32(values, t, t->count, &f->err), &f->err);
    return values;
}

/* A recorded tensor on the device: f32, or i64. */
static inline d2c_tensor
golden_upload(fixture *f, const char *name)
{
    const d2c_st_tensor *t = golden_tensor(f, name);
    int wide = t->dtype == D2C_ST_I64;
    d2c_tensor view =
        d2c_tensor4(fixture_device(f, t->bytes), wide ? D2C_I64 : D2C_F32, t->dim[0],
                    t->ndim > 1 ? t->dim[1] : 1, t->ndim > 2 ? t->dim[2] : 1, t->ndim > 3 ? t->dim[3] : 1);

    CHECK_OK(d2c_upload(f->be, view.data, wide ? t->data : golden(f, name), t->bytes), &f->be->error);
    view.ndim = t->ndim;
    return view;
}

/* A device tensor of f32 like `like`, and a device tensor's values on the host. */
static inline d2c_tensor
device_like(fixture *f, d2c_tensor like)
{
    like.data = fixture_device(f, (size_t)d2c_tensor_count(like) * sizeof(float));
    like.dtype = D2C_F32;
    return like;
}

static inline float *
device_values(fixture *f, d2c_tensor t)
{
    size_t bytes = (size_t)d2c_tensor_count(t) * sizeof(float);
    float *values = fixture_host(f, bytes);

    CHECK_OK(d2c_download(f->be, values, t.data, bytes), &f->be->error);
    return values;
}

static inline double
norm_of(const float *a, int64_t count)
{
    double sum = 0;
    int64_t i;

    for (i = 0; i < count; i++)
        sum += (double)a[i] * a[i];
    return sqrt(sum);
}

static inline double
distance(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    int64_t i;

    for (i = 0; i < count; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

/* |a - golden| / |golden| */
static inline double
relative_error(fixture *f, const float *a, const char *name)
{
    int64_t count = golden_tensor(f, name)->count;
    const float *b = golden(f, name);

    return distance(a, b, count) / norm_of(b, count);
}

/* ---- gradients -------------------------------------------------------------------------------------------------- */

/* "blocks.0." of a block's parameter, "t_embedder." of others: the length of the part. */
static inline size_t
part_length(const char *name)
{
    const char *dot = strchr(name, '.');

    if (strncmp(name, "blocks.", 7) == 0)
        dot = strchr(dot + 1, '.');
    return dot == NULL ? strlen(name) : (size_t)(dot - name) + 1;
}

/* The norm of the recorded gradient of the whole part that `name` belongs to: a key bias alone has none. */
static inline double
part_norm(fixture *f, const char *name)
{
    double sum = 0;
    int i;

    for (i = 0; i < f->sit->params.count; i++) {
        const d2c_param *p = &f->sit->params.item[i];
        char full[128];
        double norm;

        if (!p->trainable || strncmp(p->name, name, part_length(name)) != 0)
            continue;
        snprintf(full, sizeof full, "grad.%s", p->name);
        norm = norm_of(golden(f, full), p->count);
        sum += norm * norm;
    }
    return sqrt(sum);
}

/* Every parameter's gradient; `passes`: how often it was added to. */
static inline void
check_gradients(fixture *f, double bound, int passes)
{
    const d2c_params *params = &f->sit->params;
    float *grad = fixture_host(f, (size_t)params->total * sizeof *grad);
    double worst = 0;
    int i;
    int64_t j;

    CHECK_OK(d2c_download(f->be, grad, params->grad, (size_t)params->total * sizeof *grad), &f->be->error);
    for (i = 0; i < params->count; i++) {
        const d2c_param *p = &params->item[i];
        int hosts = f->hosts;
        char full[128];
        double error;

        if (!p->trainable)
            continue;
        for (j = 0; j < p->count; j++)
            grad[p->offset + j] /= (float)passes;
        snprintf(full, sizeof full, "grad.%s", p->name);
        CHECK(golden_tensor(f, full)->count == p->count);
        error = distance(grad + p->offset, golden(f, full), p->count) / part_norm(f, p->name);
        if (!(error <= bound))
            fprintf(stderr, "%s: gradient of %s is off by %g\n", f->be->ops->name, p->name, error);
        CHECK(error <= bound);
        if (error > worst)
            worst = error;
        while (f->hosts > hosts)
            free(f->host[--f->hosts]);
    }
    CHECK(worst > 0); /* else nothing was computed here */
}

#endif
