/* test_params.c: the layout of the flat range, initial values, loading. */
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "nn/params.h"

static d2c_backend *be;

static d2c_status
add(d2c_params *params, const char *name, d2c_init init, int trainable, int group, int64_t d0, int64_t d1,
    d2c_error *err)
{
    const int64_t dim[2] = {d0, d1};

    return (group ? d2c_params_add_group : d2c_params_add)(params, name, init, trainable, d1 > 0 ? 2 : 1, dim,
                                                           err);
}

/* a [10, 7], then the group q k [6, 6] each, a bias, and a frozen table. */
static void
declare(d2c_params *params, int reversed)
{
    d2c_error err;

    if (!reversed)
        CHECK_OK(add(params, "a.weight", D2C_INIT_XAVIER, 1, 0, 10, 7, &err), &err);
    CHECK_OK(add(params, "q.weight", D2C_INIT_NORMAL02, 1, 0, 6, 6, &err), &err);
    CHECK_OK(add(params, "k.weight", D2C_INIT_NORMAL02, 1, 1, 6, 6, &err), &err);
    CHECK_OK(add(params, "q.bias", D2C_INIT_ONE, 1, 0, 12, 0, &err), &err);
    if (reversed)
        CHECK_OK(add(params, "a.weight", D2C_INIT_XAVIER, 1, 0, 10, 7, &err), &err);
    CHECK_OK(add(params, "table", D2C_INIT_GIVEN, 0, 0, 5, 0, &err), &err);
}

static void
test_layout(void)
{
    d2c_params params = {0};
    d2c_weight w;
    d2c_tensor t;
    d2c_error err;

    declare(&params, 0);
    CHECK(params.count == 5 && params.item[0].offset == 0 && params.item[1].offset == 128);
    CHECK(params.item[2].offset == 128 + 36 && params.item[3].offset == 256 && params.item[4].offset == 320);
    CHECK(params.trainable == 320 && params.total == 384);
    CHECK_OK(d2c_params_allocate(&params, be, 1, 1, &err), &err);
    w = d2c_params_linear(&params, "q");
    CHECK(w.value.data == params.value + 128 && w.value.dim[0] == 6 && w.value.dim[1] == 6);
    CHECK(w.shadow.data == params.shadow + 128 && w.grad.data == params.grad + 128);
    CHECK(w.bias.data == params.value + 256 && w.bias_grad.data == params.grad + 256 && w.bias.dim[0] == 12);
    CHECK(d2c_params_linear(&params, "a").bias.data == NULL);
    CHECK(d2c_params_linear(&params, "none").value.data == NULL);
    t = d2c_params_tensor(&params, "table", params.ema);
    CHECK(t.data == params.ema + 320 && t.ndim == 1 && t.dim[0] == 5);
    CHECK(d2c_params_tensor(&params, "none", params.value).data == NULL);
    CHECK(d2c_params_tensor(&params, "table", NULL).data == NULL);
    d2c_params_free(&params, be);
    CHECK(params.count == 0 && params.value == NULL);
}

static void
test_misuse(void)
{
    char long_name[120];
    d2c_params params = {0};
    d2c_error err;

    CHECK(add(&params, "a", D2C_INIT_ZERO, 1, 1, 4, 0, &err) == D2C_INTERNAL);
    CHECK_OK(add(&params, "a", D2C_INIT_ZERO, 1, 0, 4, 0, &err), &err);
    CHECK(add(&params, "a", D2C_INIT_ZERO, 1, 0, 4, 0, &err) == D2C_INTERNAL);
    CHECK(strcmp(err.message, "parameter \"a\" is added twice") == 0);
    CHECK(add(&params, "b", D2C_INIT_ZERO, 1, 0, 0, 0, &err) == D2C_INTERNAL);
    CHECK(add(&params, "b", D2C_INIT_ZERO, 1, 0, -1, 0, &err) == D2C_INTERNAL);
    CHECK(add(&params, "b", D2C_INIT_ZERO, 1, 0, INT64_MAX, INT64_MAX, &err) == D2C_INTERNAL);
    CHECK(add(&params, "b", D2C_INIT_ZERO, 1, 0, INT64_MAX / 4, 0, &err) == D2C_TOO_LARGE);
    CHECK(add(&params, "b", D2C_INIT_ZERO, 0, 1, 4, 0, &err) == D2C_INTERNAL);
    CHECK_OK(add(&params, "b", D2C_INIT_ZERO, 0, 0, 4, 0, &err), &err);
    CHECK(add(&params, "c", D2C_INIT_ZERO, 1, 0, 4, 0, &err) == D2C_INTERNAL);
    memset(long_name, 'x', sizeof long_name);
    long_name[119] = '\0';
    CHECK(add(&params, long_name, D2C_INIT_ZERO, 0, 0, 4, 0, &err) == D2C_INTERNAL);
    CHECK(params.count == 2 && params.total == 128 && params.trainable == 64);
    d2c_params_free(&params, be);
}

/* The parameter's values on the host, [count]. */
static float *
values(const d2c_params *params, const char *name, const float *range)
{
    const d2c_param *p = d2c_params_find(params, name);
    float *v = malloc((size_t)p->count * sizeof *v);

    CHECK(d2c_download(be, v, range + p->offset, (size_t)p->count * sizeof *v) == D2C_OK);
    return v;
}

/* Values depend on seed and name, not on the order of the parameters. */
static void
test_initial_values(void)
{
    d2c_params one = {0}, two = {0};
    float *a, *b, *q, *k, *bias, limit = sqrtf(6.0f / 17);
    uint16_t shadow;
    d2c_error err;
    int i, wide = 0;

    declare(&one, 0);
    declare(&two, 1);
    CHECK_OK(d2c_params_allocate(&one, be, 1, 1, &err), &err);
    CHECK_OK(d2c_params_allocate(&two, be, 0, 0, &err), &err);
    CHECK(one.grad != NULL && one.shadow != NULL && two.grad == NULL && two.shadow == NULL);
    CHECK_OK(d2c_params_initialize(&one, be, 42, &err), &err);
    CHECK_OK(d2c_params_initialize(&two, be, 42, &err), &err);
    a = values(&one, "a.weight", one.value);
    b = values(&two, "a.weight", two.value);
    CHECK(memcmp(a, b, 70 * sizeof *a) == 0);
    for (i = 0; i < 70; i++) {
        CHECK(fabsf(a[i]) <= limit);
        wide += fabsf(a[i]) > limit / 2;
    }
    CHECK(wide > 15 && wide < 55);
    free(b);
    b = values(&one, "a.weight", one.ema);
    CHECK(memcmp(a, b, 70 * sizeof *a) == 0);
    q = values(&one, "q.weight", one.value);
    k = values(&one, "k.weight", one.value);
    bias = values(&one, "q.bias", one.value);
    CHECK(memcmp(q, k, 36 * sizeof *q) != 0 && bias[0] == 1 && bias[11] == 1);
    for (i = 0; i < 36; i++)
        CHECK(fabsf(q[i]) < 0.02f * 6 && q[i] != 0);
    CHECK(d2c_download(be, &shadow, one.shadow + 256, sizeof shadow) == D2C_OK && shadow == 0x3f80);
    CHECK_OK(d2c_params_initialize(&two, be, 43, &err), &err);
    free(b);
    b = values(&two, "a.weight", two.value);
    CHECK(memcmp(a, b, 70 * sizeof *a) != 0);
    free(a);
    free(b);
    free(q);
    free(k);
    free(bias);
    d2c_params_free(&one, be);
    d2c_params_free(&two, be);
}

/* A file with what declare() wants under the prefix "ema.", in f16 where asked; q.bias of the given size or left out. */
static void
write_file(const char *path, int bias_size)
{
    static float weights[70], squares[36], table[5] = {1, 2, 3, 4, 5};
    static const uint16_t halves[20] = {0x3c00, 0x4000};
    d2c_st_item items[] = {{"ema.a.weight", D2C_ST_F32, 2, {10, 7}, weights},
                           {"ema.q.weight", D2C_ST_F32, 2, {6, 6}, squares},
                           {"ema.k.weight", D2C_ST_F32, 2, {6, 6}, squares},
                           {"ema.table", D2C_ST_F32, 1, {5}, table},
                           {"ema.q.bias", D2C_ST_F16, 1, {bias_size}, halves}};
    d2c_error err;
    int i;

    for (i = 0; i < 70; i++)
        weights[i] = (float)i;
    CHECK_OK(d2c_safetensors_write(path, items, bias_size > 0 ? 5 : 4, NULL, 0, &err), &err);
}

static d2c_status
load(d2c_params *params, const char *path, const char *prefix, d2c_error *err)
{
    d2c_weights *file;
    d2c_status status;

    D2C_TRY(d2c_weights_open(&file, path, err));
    status = d2c_params_load(params, be, params->value, file, prefix, err);
    d2c_weights_close(file);
    return status;
}

static void
test_load(void)
{
    char path[] = "/tmp/d2c-params-XXXXXX";
    d2c_params params = {0};
    float *a, *bias;
    uint16_t shadow;
    d2c_error err;

    close(mkstemp(path));
    declare(&params, 0);
    CHECK_OK(d2c_params_allocate(&params, be, 1, 0, &err), &err);
    write_file(path, 12);
    CHECK_OK(load(&params, path, "ema.", &err), &err);
    a = values(&params, "a.weight", params.value);
    bias = values(&params, "q.bias", params.value);
    CHECK(a[69] == 69 && bias[0] == 1 && bias[1] == 2 && bias[2] == 0);
    CHECK(d2c_download(be, &shadow, params.shadow + 257, sizeof shadow) == D2C_OK && shadow == 0x4000);
    free(a);
    free(bias);
    CHECK(load(&params, path, "", &err) == D2C_BAD_MODEL);
    CHECK(strcmp(err.message, "tensor \"a.weight\" is missing") == 0);
    write_file(path, 0);
    CHECK(load(&params, path, "ema.", &err) == D2C_BAD_MODEL);
    CHECK(strcmp(err.message, "tensor \"ema.q.bias\" is missing") == 0);
    write_file(path, 13);
    CHECK(load(&params, path, "ema.", &err) == D2C_BAD_MODEL);
    CHECK(strcmp(err.detail, "It has shape [13]; the network needs [12].") == 0);
    d2c_params_free(&params, be);
    unlink(path);
}

/* Opens the declared parameters; the file is closed, and lives on in its mapping where it is used. */
static void
open_file(d2c_params *params, const char *path, d2c_dtype precision)
{
    d2c_weights *file = NULL;
    d2c_error err;

    declare(params, 0);
    CHECK_OK(d2c_weights_open(&file, path, &err), &err);
    CHECK_OK(d2c_params_open(params, be, precision, file, d2c_name_with_prefix, "ema.", &err), &err);
    d2c_weights_close(file);
}

/* Whole f32 tensors stay in the file; a group's and those of other types are copied. */
static void
test_mapped(void)
{
    static const char *const names[] = {"a.weight", "q.weight", "k.weight", "q.bias", "table"};
    char path[] = "/tmp/d2c-params-XXXXXX";
    d2c_params mapped = {0}, copied = {0};
    const d2c_param *q, *k;
    d2c_error err;
    int i;

    close(mkstemp(path));
    write_file(path, 12);
    declare(&copied, 0);
    CHECK_OK(d2c_params_allocate(&copied, be, 0, 0, &err), &err);
    CHECK_OK(load(&copied, path, "ema.", &err), &err);
    open_file(&mapped, path, D2C_F32);
    unlink(path);
    for (i = 0; i < 5; i++) {
        const d2c_param *p = d2c_params_find(&mapped, names[i]);
        d2c_tensor ours = d2c_params_tensor(&mapped, names[i], mapped.value);
        d2c_tensor theirs = d2c_params_tensor(&copied, names[i], copied.value);

        CHECK((p->mapped != NULL) == (i == 0 || i == 4));
        CHECK(ours.data == (p->mapped != NULL ? p->mapped : mapped.value + p->offset));
        CHECK(memcmp(ours.data, theirs.data, (size_t)p->count * sizeof(float)) == 0);
    }
    q = d2c_params_find(&mapped, "q.weight");
    k = d2c_params_find(&mapped, "k.weight");
    CHECK(q->offset == 0 && k->offset == 36 && mapped.total == 192);
    CHECK(d2c_params_linear(&mapped, "a").value.data == d2c_params_find(&mapped, "a.weight")->mapped);
    CHECK(d2c_params_bytes(&mapped) == (192 + 70 + 5) * sizeof(float));
    CHECK(d2c_params_bytes(&copied) == (size_t)copied.total * sizeof(float));
    CHECK(d2c_params_put(&mapped, be, mapped.value, "table", mapped.value, &err) == D2C_INTERNAL);
    d2c_params_free(&mapped, be);
    d2c_params_free(&copied, be);
}

/* Other precisions have copies anyhow. */
static void
test_open_in_bf16(void)
{
    char path[] = "/tmp/d2c-params-XXXXXX";
    d2c_params params = {0};
    int i;

    close(mkstemp(path));
    write_file(path, 12);
    open_file(&params, path, D2C_BF16);
    unlink(path);
    for (i = 0; i < params.count; i++)
        CHECK(params.item[i].mapped == NULL);
    CHECK(params.shadow != NULL && params.file == NULL && params.value[69] == 69);
    CHECK(d2c_params_bytes(&params) == (size_t)params.total * 6);
    d2c_params_free(&params, be);
}

/* A wrong shape is told, although the tensor could be mapped. */
static void
test_open_refused(void)
{
    static const float zeros[4];
    const d2c_st_item item = {"a.weight", D2C_ST_F32, 2, {2, 2}, zeros};
    char path[] = "/tmp/d2c-params-XXXXXX";
    d2c_params params = {0};
    d2c_weights *file;
    d2c_error err;

    close(mkstemp(path));
    CHECK_OK(d2c_safetensors_write(path, &item, 1, NULL, 0, &err), &err);
    CHECK_OK(d2c_weights_open(&file, path, &err), &err);
    declare(&params, 0);
    CHECK(d2c_params_open(&params, be, D2C_F32, file, d2c_name_with_prefix, "", &err) == D2C_BAD_MODEL);
    CHECK(strcmp(err.detail, "It has shape [2, 2]; the network needs [10, 7].") == 0);
    d2c_params_free(&params, be);
    d2c_weights_close(file);
    unlink(path);
}

int
main(void)
{
    d2c_error err;

    if (d2c_backend_open(&be, "reference", 1, &err) != D2C_OK)
        return 1;
    RUN(test_layout);
    RUN(test_misuse);
    RUN(test_initial_values);
    RUN(test_load);
    RUN(test_mapped);
    RUN(test_open_in_bf16);
    RUN(test_open_refused);
    d2c_backend_close(be);
    return check_report();
}
