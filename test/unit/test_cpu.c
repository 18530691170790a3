/*
 * test_cpu.c: what the CPU backend promises beyond the op table: plans are made once, results depend neither on the
 * number of threads nor on what other threads do, and the whole holds under the instruction sets of other machines.
 *
 * The program runs itself again with DNNL_MAX_CPU_ISA set, and counts a failing run as a failing test.
 */
#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/philox.h"
#include "ops/cpu.h"

#define ROWS 640 /* more than the rows from which layers are divided */
#define WIDTH 96
#define TOKENS 49
#define HEADS 3

/* A small transformer's worth of tensors: x [ROWS, WIDTH] through a layer, and attention over qkv. */
typedef struct fixture {
    d2c_backend *be;
    d2c_dtype dtype;
    d2c_weight fc;
    d2c_tensor x, pre, y, dy, dx, qkv, o, lse, dout, dqkv;
} fixture;

static void *
device(fixture *f, size_t bytes)
{
    void *block = NULL;

    CHECK(d2c_alloc(f->be, &block, bytes, D2C_MEMORY_DEVICE) == D2C_OK);
    memset(block, 0, bytes);
    return block;
}

/* Normals of a purpose-made draw, in the dtype asked for. */
static d2c_tensor
filled(fixture *f, d2c_dtype dtype, int64_t rows, int64_t width, int64_t id)
{
    d2c_tensor normal = d2c_tensor2(device(f, (size_t)(rows * width) * 4), D2C_F32, rows, width),
               out = normal;
    int64_t zero = 0;

    CHECK(d2c_draw_normal(f->be, d2c_tensor2(normal.data, D2C_F32, 1, rows * width), 7,
                          d2c_tensor1(&id, D2C_I64, 1), d2c_tensor1(&zero, D2C_I64, 1),
                          D2C_PURPOSE_TEST) == D2C_OK);
    if (dtype == D2C_F32)
        return out;
    out = d2c_tensor2(device(f, (size_t)(rows * width) * 2), dtype, rows, width);
    CHECK(d2c_cast(f->be, out, normal) == D2C_OK);
    d2c_free(f->be, normal.data, D2C_MEMORY_DEVICE);
    return out;
}

static d2c_tensor
tokens(d2c_tensor t, int64_t images)
{
    return d2c_tensor3(t.data, t.dtype, images, t.dim[0] / images, t.dim[1]);
}

static void
fixture_open(fixture *f, int threads, d2c_dtype dtype, int64_t images)
{
    int64_t rows = images * TOKENS;
    d2c_error err;

    memset(f, 0, sizeof *f);
    CHECK_OK(d2c_backend_open(&f->be, "cpu", threads, &err), &err);
    f->dtype = dtype;
    f->fc.value = filled(f, D2C_F32, 4 * WIDTH, WIDTH, 1);
    f->fc.shadow = filled(f, D2C_BF16, 4 * WIDTH, WIDTH, 1);
    f->fc.bias = filled(f, D2C_F32, 1, 4 * WIDTH, 2);
    f->fc.bias = d2c_tensor1(f->fc.bias.data, D2C_F32, 4 * WIDTH);
    f->fc.grad = filled(f, D2C_F32, 4 * WIDTH, WIDTH, 3);
    f->fc.bias_grad = filled(f, D2C_F32, 1, 4 * WIDTH, 4);
    f->fc.bias_grad = d2c_tensor1(f->fc.bias_grad.data, D2C_F32, 4 * WIDTH);
    f->x = filled(f, dtype, ROWS, WIDTH, 5);
    f->pre = filled(f, dtype, ROWS, 4 * WIDTH, 6);
    f->y = filled(f, dtype, ROWS, 4 * WIDTH, 7);
    f->dy = filled(f, dtype, ROWS, 4 * WIDTH, 8);
    f->dx = filled(f, dtype, ROWS, WIDTH, 9);
    f->qkv = tokens(filled(f, dtype, rows, 3 * WIDTH, 10), images);
    f->o = tokens(filled(f, dtype, rows, WIDTH, 11), images);
    f->lse = d2c_tensor3(filled(f, D2C_F32, rows, HEADS, 12).data, D2C_F32, images, HEADS, TOKENS);
    f->dout = tokens(filled(f, dtype, rows, WIDTH, 13), images);
    f->dqkv = tokens(filled(f, dtype, rows, 3 * WIDTH, 14), images);
}

static void
fixture_close(fixture *f)
{
    d2c_tensor all[] = {f->fc.value, f->fc.shadow, f->fc.bias, f->fc.grad, f->fc.bias_grad,
                        f->x,        f->pre,       f->y,       f->dy,      f->dx,
                        f->qkv,      f->o,         f->lse,     f->dout,    f->dqkv};
    size_t i;

    for (i = 0; i < sizeof all / sizeof all[0]; i++)
        d2c_free(f->be, all[i].data, D2C_MEMORY_DEVICE);
    d2c_backend_close(f->be);
}

/* Forward and backward of the layer and of attention; gradients are added to what was there. */
static d2c_status
run_all(fixture *f)
{
    d2c_tensor none = d2c_absent();

    D2C_TRY(d2c_linear_forward(f->be, f->y, f->pre, f->x, &f->fc, D2C_ACT_GELU_TANH));
    D2C_TRY(d2c_linear_backward_weight(f->be, &f->fc, f->dy, f->x));
    D2C_TRY(d2c_linear_backward_input(f->be, f->dx, f->dy, &f->fc, f->x, D2C_ACT_SILU, 0));
    D2C_TRY(d2c_attention_forward(f->be, f->o, f->lse, f->qkv, none, HEADS, 0.2f));
    return d2c_attention_backward(f->be, f->dqkv, f->dout, f->o, f->lse, f->qkv, none, HEADS, 0.2f);
}

static int
same_bits(d2c_tensor a, d2c_tensor b)
{
    return memcmp(a.data, b.data, (size_t)d2c_tensor_count(a) * d2c_dtype_size(a.dtype)) == 0;
}

static int
same_results(const fixture *a, const fixture *b)
{
    return same_bits(a->y, b->y) && same_bits(a->pre, b->pre) && same_bits(a->dx, b->dx) &&
           same_bits(a->fc.grad, b->fc.grad) && same_bits(a->fc.bias_grad, b->fc.bias_grad) &&
           same_bits(a->o, b->o) && same_bits(a->lse, b->lse) && same_bits(a->dqkv, b->dqkv);
}

/* bf16 only where the processor has it. */
static int
dtypes(d2c_dtype list[2])
{
    list[0] = D2C_F32;
    list[1] = D2C_BF16;
    return d2c_dnnl_has_bf16() ? 2 : 1;
}

static void
test_plans_are_made_once(void)
{
    fixture f;
    int plans;

    fixture_open(&f, 1, D2C_F32, 2);
    CHECK(run_all(&f) == D2C_OK);
    plans = d2c_plan_cache_count(((d2c_cpu *)f.be->impl)->team);
    CHECK(plans > 0);
    CHECK(run_all(&f) == D2C_OK);
    CHECK(d2c_plan_cache_count(((d2c_cpu *)f.be->impl)->team) == plans);
    fixture_close(&f);
}

/* More shapes than the cache holds: it forgets, and still multiplies. */
static void
test_plan_cache_overflows(void)
{
    float a[32], b[32], c[1024];
    d2c_plan_cache *cache;
    d2c_error err;
    int64_t m, n;
    int i;

    for (i = 0; i < 32; i++) {
        a[i] = (float)(i + 1);
        b[i] = (float)(2 * i + 1);
    }
    CHECK_OK(d2c_plan_cache_open(&cache, 1, 1, &err), &err);
    for (m = 1; m <= 32; m++)
        for (n = 1; n <= 32; n++) {
            d2c_product p;

            memset(&p, 0, sizeof p);
            p.m = m;
            p.n = n;
            p.k = 1;
            p.a_stride[1] = p.a_stride[2] = p.b_stride[2] = p.c_stride[2] = 1;
            p.b_stride[1] = p.c_stride[1] = n;
            CHECK_OK(d2c_product_run(cache, &p, c, a, b, NULL, &err), &err);
            CHECK(c[m * n - 1] == a[m - 1] * b[n - 1]);
        }
    CHECK(d2c_plan_cache_count(cache) < 1024);
    d2c_plan_cache_close(cache);
}

/* Training repeats to the bit for a given number of threads. */
static void
test_repeats(void)
{
    d2c_dtype list[2];
    int count = dtypes(list), i, threads;

    for (i = 0; i < count; i++)
        for (threads = 1; threads <= 3; threads++) {
            fixture a, b;

            fixture_open(&a, threads, list[i], 3);
            fixture_open(&b, threads, list[i], 3);
            CHECK(run_all(&a) == D2C_OK);
            CHECK(run_all(&b) == D2C_OK);
            CHECK(same_results(&a, &b));
            fixture_close(&a);
            fixture_close(&b);
        }
}

/* Runs of rows, tiles and groups of heads are one thread's and cut by shape: here threads change nothing at all. */
static void
test_threads_change_nothing(void)
{
    d2c_dtype list[2];
    int count = dtypes(list), i, threads;

    for (i = 0; i < count; i++)
        for (threads = 2; threads <= 3; threads++) {
            fixture one, many;

            fixture_open(&one, 1, list[i], 7);
            fixture_open(&many, threads, list[i], 7);
            CHECK(run_all(&one) == D2C_OK);
            CHECK(run_all(&many) == D2C_OK);
            CHECK(same_results(&one, &many));
            fixture_close(&one);
            fixture_close(&many);
        }
}

#define UNITS 12
#define UNIT_ROWS (4 * TOKENS) /* four timesteps of one image */

/* The unit of scoring: one image's rows through a layer and attention, alone on one thread. */
static d2c_status
run_unit(fixture *f, int64_t unit, d2c_tensor y, d2c_tensor o)
{
    size_t size = d2c_dtype_size(f->dtype);
    d2c_tensor x =
        d2c_tensor2((char *)f->x.data + (size_t)(unit * 37 * WIDTH) * size, f->dtype, UNIT_ROWS, WIDTH);
    d2c_tensor qkv = d2c_tensor3((char *)f->qkv.data + (size_t)(unit * TOKENS * 3 * WIDTH) * size, f->dtype,
                                 4, TOKENS, 3 * WIDTH);

    D2C_TRY(d2c_linear_forward(f->be, y, d2c_absent(), x, &f->fc, D2C_ACT_GELU_TANH));
    return d2c_attention_forward(f->be, o, d2c_absent(), qkv, d2c_absent(), HEADS, 0.2f);
}

typedef struct worker {
    fixture *shared;
    d2c_dtype dtype;
    int first, rounds;
    char *y, *o; /* [UNITS] results of the units, as the first round left them */
    int differences, failures;
} worker;

#define Y_BYTES ((size_t)UNIT_ROWS * 4 * WIDTH * 4)
#define O_BYTES ((size_t)UNIT_ROWS * WIDTH * 4)

/* Scores the units again and again, in an order of its own, with a backend of its own over shared weights. */
static void *
score_units(void *arg)
{
    worker *w = arg;
    fixture own = *w->shared;
    d2c_error err;
    char *y = calloc(1, Y_BYTES), *o = calloc(1, O_BYTES);
    int round, i;

    if (y == NULL || o == NULL || d2c_backend_open(&own.be, "cpu", 1, &err) != D2C_OK) {
        w->failures++;
        free(y);
        free(o);
        return NULL;
    }
    for (round = 0; round < w->rounds; round++)
        for (i = 0; i < UNITS; i++) {
            int unit = (w->first + i * (round % 2 == 0 ? 5 : 7)) % UNITS;
            size_t y_bytes = Y_BYTES / 4 * d2c_dtype_size(w->dtype),
                   o_bytes = O_BYTES / 4 * d2c_dtype_size(w->dtype);

            w->failures += run_unit(&own, unit, d2c_tensor2(y, w->dtype, UNIT_ROWS, 4 * WIDTH),
                                    d2c_tensor3(o, w->dtype, 4, TOKENS, WIDTH)) != D2C_OK;
            if (round == 0) {
                memcpy(w->y + (size_t)unit * Y_BYTES, y, y_bytes);
                memcpy(w->o + (size_t)unit * O_BYTES, o, o_bytes);
            }
            w->differences += memcmp(w->y + (size_t)unit * Y_BYTES, y, y_bytes) != 0 ||
                              memcmp(w->o + (size_t)unit * O_BYTES, o, o_bytes) != 0;
        }
    d2c_backend_close(own.be);
    free(y);
    free(o);
    return NULL;
}

/* Two one-thread backends at the same time, sharing weights: every unit has its bits whenever and wherever it runs. */
static void
test_concurrent_units(void)
{
    d2c_dtype list[2];
    int count = dtypes(list), i, k;

    for (i = 0; i < count; i++) {
        fixture shared;
        pthread_t thread[2];
        worker w[2];

        fixture_open(&shared, 1, list[i], UNITS + 4);
        for (k = 0; k < 2; k++) {
            w[k] =
                (worker){&shared, list[i], 5 * k, 20, calloc(UNITS, Y_BYTES), calloc(UNITS, O_BYTES), 0, 0};
            CHECK(pthread_create(&thread[k], NULL, score_units, &w[k]) == 0);
        }
        for (k = 0; k < 2; k++) {
            pthread_join(thread[k], NULL);
            CHECK(w[k].failures == 0);
            CHECK(w[k].differences == 0);
        }
        CHECK(memcmp(w[0].y, w[1].y, UNITS * Y_BYTES) == 0);
        CHECK(memcmp(w[0].o, w[1].o, UNITS * O_BYTES) == 0);
        for (k = 0; k < 2; k++) {
            free(w[k].y);
            free(w[k].o);
        }
        fixture_close(&shared);
    }
}

/* ---- pictures and long rows of tokens --------------------------------------------------------------------------- */

#define PICTURES 3
#define PICTURE_SIDE 23
#define CHANNELS 32
#define LONG_ROW 600

/* The tensors of a run: inputs, then one picture and several convolved, several normed, and long attention. */
enum { X, VALUE, SHADOW, VECTOR, QKV, ONE, SEVERAL, NORMED, ATTENDED, PICTURE_TENSORS };

static void
make_pictures(fixture *f, d2c_tensor t[PICTURE_TENSORS], d2c_dtype dtype)
{
    int64_t rows = PICTURES * PICTURE_SIDE * PICTURE_SIDE;
    int i;

    t[X] = filled(f, dtype, rows, CHANNELS, 1);
    t[VALUE] = filled(f, D2C_F32, CHANNELS, 9 * CHANNELS, 2);
    t[SHADOW] = filled(f, D2C_BF16, CHANNELS, 9 * CHANNELS, 2);
    t[VECTOR] = d2c_tensor1(filled(f, D2C_F32, 1, CHANNELS, 3).data, D2C_F32, CHANNELS);
    t[QKV] = tokens(filled(f, dtype, LONG_ROW, 3 * CHANNELS, 4), 1);
    for (i = ONE; i <= NORMED; i++)
        t[i] = filled(f, dtype, rows, CHANNELS, 5);
    t[ATTENDED] = tokens(filled(f, dtype, LONG_ROW, CHANNELS, 5), 1);
}

static d2c_tensor
pictures_in(d2c_tensor t, int64_t count)
{
    return d2c_tensor4(t.data, t.dtype, count, PICTURE_SIDE, PICTURE_SIDE, CHANNELS);
}

static d2c_status
run_pictures(fixture *f, const d2c_tensor t[PICTURE_TENSORS])
{
    const d2c_window window = {3, 3, 1, 1, 1, 1, 1};
    const d2c_weight w = {.value = t[VALUE], .shadow = t[SHADOW]};
    d2c_tensor none = d2c_absent(), x = pictures_in(t[X], PICTURES);

    D2C_TRY(
        d2c_conv2d_forward(f->be, pictures_in(t[ONE], 1), pictures_in(t[X], 1), &w, &window, D2C_ACT_SILU));
    D2C_TRY(d2c_conv2d_forward(f->be, pictures_in(t[SEVERAL], PICTURES), x, &w, &window, D2C_ACT_RELU));
    D2C_TRY(d2c_groupnorm_forward(f->be, pictures_in(t[NORMED], PICTURES), x, t[VECTOR], t[VECTOR], 8, 1e-6f,
                                  D2C_ACT_SILU));
    return d2c_attention_forward(f->be, t[ATTENDED], none, t[QKV], none, 1, 0.2f);
}

static void
free_pictures(fixture *f, const d2c_tensor t[PICTURE_TENSORS])
{
    int i;

    for (i = 0; i < PICTURE_TENSORS; i++)
        d2c_free(f->be, t[i].data, D2C_MEMORY_DEVICE);
}

static void
compare_pictures(d2c_dtype dtype, int threads)
{
    d2c_tensor alone[PICTURE_TENSORS], together[PICTURE_TENSORS];
    fixture one, many;
    d2c_error err;
    int i;

    CHECK_OK(d2c_backend_open(&one.be, "cpu", 1, &err), &err);
    CHECK_OK(d2c_backend_open(&many.be, "cpu", threads, &err), &err);
    make_pictures(&one, alone, dtype);
    make_pictures(&many, together, dtype);
    CHECK_OK(run_pictures(&one, alone), &one.be->error);
    CHECK_OK(run_pictures(&many, together), &many.be->error);
    for (i = ONE; i < PICTURE_TENSORS; i++) {
        CHECK(same_bits(alone[i], together[i]));
        CHECK(i == ATTENDED || !same_bits(alone[i], alone[X]));
    }
    free_pictures(&one, alone);
    free_pictures(&many, together);
    d2c_backend_close(one.be);
    d2c_backend_close(many.be);
}

/* A picture's pixels, a group's sums and a query's row are one thread's, however many there are. */
static void
test_pictures(void)
{
    d2c_dtype list[2];
    int count = dtypes(list), i, threads;

    for (i = 0; i < count; i++)
        for (threads = 1; threads <= 3; threads++)
            compare_pictures(list[i], threads);
}

/* A NaN in one row reaches that row's results, and no other's. */
static void
test_nan_stays_visible(void)
{
    d2c_dtype list[2];
    int count = dtypes(list), i;

    for (i = 0; i < count; i++) {
        fixture f;
        uint32_t nan = 0x7FFFFFFFu;
        char *x;
        float *y;

        fixture_open(&f, 1, list[i], 2);
        x = (char *)f.x.data + (size_t)(3 * WIDTH) * d2c_dtype_size(list[i]);
        memcpy(x, list[i] == D2C_F32 ? (char *)&nan : (char *)&nan + 2, d2c_dtype_size(list[i]));
        CHECK(d2c_linear_forward(f.be, f.y, d2c_absent(), f.x, &f.fc, D2C_ACT_GELU_TANH) == D2C_OK);
        y = device(&f, (size_t)ROWS * 4 * WIDTH * 4);
        CHECK(d2c_cast(f.be, d2c_tensor2(y, D2C_F32, ROWS, 4 * WIDTH), f.y) == D2C_OK);
        CHECK(isnan(y[3 * 4 * WIDTH]) && isnan(y[4 * 4 * WIDTH - 1]));
        CHECK(!isnan(y[2 * 4 * WIDTH]) && !isnan(y[4 * 4 * WIDTH]));
        d2c_free(f.be, y, D2C_MEMORY_DEVICE);
        fixture_close(&f);
    }
}

/* bf16 products where the processor has none are refused with words, or computed; they never crash. */
static void
test_bf16_without_hardware(void)
{
    fixture f;
    d2c_error err;

    if (d2c_dnnl_has_bf16())
        return;
    fixture_open(&f, 1, D2C_BF16, 2);
    CHECK(f.be->has_bf16 == 0);
    if (run_all(&f) != D2C_OK) {
        CHECK(d2c_backend_error(f.be, &err) == D2C_UNSUPPORTED);
        CHECK(strstr(err.message, "oneDNN") != NULL);
    }
    fixture_close(&f);
}

/* Runs this program again as if on a lesser processor. */
static int
run_as(const char *program, const char *isa)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        setenv("DNNL_MAX_CPU_ISA", isa, 1);
        execl(program, program, "again", (char *)NULL);
        _exit(127);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static const char *program;

static void
test_other_processors(void)
{
    CHECK(run_as(program, "AVX512_CORE"));
    CHECK(run_as(program, "AVX2"));
    CHECK(run_as(program, "SSE41"));
}

int
main(int argc, char **argv)
{
    program = argv[0];
    RUN(test_plans_are_made_once);
    RUN(test_plan_cache_overflows);
    RUN(test_repeats);
    RUN(test_threads_change_nothing);
    RUN(test_concurrent_units);
    RUN(test_pictures);
    RUN(test_nan_stays_visible);
    RUN(test_bf16_without_hardware);
    if (argc == 1)
        RUN(test_other_processors);
    return argc == 1 ? check_report() : check_failed != 0;
}
