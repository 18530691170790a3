/*
 * alone.c: a result does not depend on what else the device does.
 *
 *   alone [--device cuda] [--images 24] [--threads 4] [--shrink 1]
 *
 * An image's score has the same bits alone, after other images in any order, beside other threads with streams of their
 * own, and between scores with other timesteps; and permuting the rows of a product in the shape that scoring has
 * permutes its output's bits, for every linear layer of SiT-S/2 and SiT-XL/2.  So does permuting the images of a batch for
 * convolutions, group norms and attention of an autoencoder's sizes.
 */
#include "gpu.h"

#include <pthread.h>

#include "nn/difficulty.h"

#define TIMESTEPS 8
#define MOST_THREADS 64

static const char *device;
static int images, threads, passed, failed;

static void
tell(int good, const char *what)
{
    printf("%s: %s\n", good ? "ok" : "not ok", what);
    fflush(stdout);
    if (good)
        passed++;
    else
        failed++;
}

/* ---- scores ---------------------------------------------------------------------------------------------------- */

typedef struct job {
    d2c_sit *sit;
    const float *x;     /* [images, n] */
    const double *want; /* [images], or NULL */
    double *score;      /* [images] */
    uint64_t seed;      /* of the order; 0: first to last */
    int interleaved;    /* scores with other timesteps in between */
    int different;
} job;

static size_t
image_size(const d2c_sit *sit)
{
    const d2c_sit_config *c = &sit->config;

    return (size_t)c->channels * (size_t)c->height * (size_t)c->width;
}

/* A permutation of 0..count-1 that the seed determines. */
static void
permute(int *order, int count, uint64_t seed)
{
    int i;

    for (i = 0; i < count; i++)
        order[i] = i;
    for (i = count - 1; seed != 0 && i > 0; i--) {
        int j = (int)(d2c_philox(seed, (uint32_t)i, 0, D2C_PURPOSE_TEST).w[0] % (uint32_t)(i + 1)),
            kept = order[i];

        order[i] = order[j];
        order[j] = kept;
    }
}

/* Every image's score on a backend, and so a stream, of the job's own. */
static void *
score_all(void *closure)
{
    job *work = closure;
    d2c_backend *own = gpu_open(device, 1);
    d2c_scorer *scorer, *other;
    int *order = bench_memory((size_t)images * sizeof *order), i;
    size_t n = image_size(work->sit);
    double unused;
    d2c_error err;

    permute(order, images, work->seed);
    bench_check(d2c_scorer_open(&scorer, work->sit, own, TIMESTEPS, &err), &err);
    bench_check(d2c_scorer_open(&other, work->sit, own, 3, &err), &err);
    for (i = 0; i < images; i++) {
        int image = order[i];
        const float *x = work->x + (size_t)image * n;

        bench_check(d2c_scorer_run(scorer, &work->score[image], NULL, x, image % 10, 0, &err), &err);
        if (work->interleaved)
            bench_check(d2c_scorer_run(other, &unused, NULL, x, 3, 5, &err), &err);
        if (work->want != NULL && work->score[image] != work->want[image])
            work->different++;
    }
    d2c_scorer_close(other);
    d2c_scorer_close(scorer);
    d2c_backend_close(own);
    free(order);
    return NULL;
}

/* Several threads at once; how many scores differ. */
static int
score_together(const job *first, int count)
{
    pthread_t thread[MOST_THREADS];
    job work[MOST_THREADS];
    int i, different = 0;

    for (i = 0; i < count; i++) {
        work[i] = *first;
        work[i].seed = first->seed + (uint64_t)i;
        work[i].score = bench_memory((size_t)images * sizeof(double));
        pthread_create(&thread[i], NULL, score_all, &work[i]);
    }
    for (i = 0; i < count; i++) {
        pthread_join(thread[i], NULL);
        different += work[i].different;
        free(work[i].score);
    }
    return different;
}

static void
check_scores(const d2c_sit_config *config, d2c_dtype precision, const char *name)
{
    double *alone = bench_memory((size_t)images * sizeof *alone);
    job work = {.score = alone};
    size_t n, i;
    float *x;
    d2c_error err;
    char what[160];

    bench_check(d2c_sit_create(&work.sit, be, config, precision, 0, &err), &err);
    gpu_randomize(work.sit, 3);
    n = image_size(work.sit) * (size_t)images;
    x = bench_memory(n * sizeof *x);
    for (i = 0; i < n; i++)
        x[i] = (float)(i * 7919 % 2001) / 1000.0f - 1.0f;
    work.x = x;
    score_all(&work);
    work.want = alone;
    snprintf(what, sizeof what, "%s, %d images in another order, other timesteps between", name, images);
    work.seed = 11;
    work.interleaved = 1;
    tell(score_together(&work, 1) == 0, what);
    snprintf(what, sizeof what, "%s, %d images on %d threads with streams of their own", name, images,
             threads);
    work.seed = 21;
    tell(score_together(&work, threads) == 0, what);
    d2c_sit_destroy(work.sit, be);
    free(x);
    free(alone);
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

/* The bytes of y = x W^T + b with the rows of x in the given order. */
static char *
product_rows(const d2c_weight *w, const char *x, const int *order, d2c_dtype dtype, int64_t rows, int64_t in,
             int64_t out)
{
    size_t size = d2c_dtype_size(dtype), row = (size_t)in * size, bytes = (size_t)(rows * out) * size;
    char *moved = bench_memory((size_t)rows * row), *result = bench_memory(bytes);
    d2c_tensor tx, y = d2c_tensor2(gpu_memory(bytes), dtype, rows, out);
    int64_t r;

    for (r = 0; r < rows; r++)
        memcpy(moved + (size_t)r * row, x + (size_t)order[r] * row, row);
    tx = d2c_tensor2(gpu_upload(moved, (size_t)rows * row), dtype, rows, in);
    run(d2c_linear_forward(be, y, d2c_absent(), tx, w, D2C_ACT_NONE));
    run(d2c_download(be, result, y.data, bytes));
    gpu_free(tx);
    gpu_free(y);
    free(moved);
    return result;
}

static void
check_rows(const char *name, d2c_dtype dtype, int64_t rows, int64_t in, int64_t out)
{
    d2c_weight w = {.value = gpu_tensor(D2C_F32, out, in, 0.05f),
                    .shadow = gpu_tensor(D2C_BF16, out, in, 0.05f)};
    d2c_tensor bias = gpu_tensor(D2C_F32, 1, out, 1), input = gpu_tensor(dtype, rows, in, 1);
    size_t size = d2c_dtype_size(dtype), row = (size_t)out * size;
    char *x = bench_memory((size_t)(rows * in) * size), *straight, *moved, what[160];
    int *order = bench_memory((size_t)rows * sizeof *order), good = 1, r;

    w.bias = d2c_tensor1(bias.data, D2C_F32, out);
    run(d2c_download(be, x, input.data, (size_t)(rows * in) * size));
    permute(order, (int)rows, 0);
    straight = product_rows(&w, x, order, dtype, rows, in, out);
    permute(order, (int)rows, 31);
    moved = product_rows(&w, x, order, dtype, rows, in, out);
    for (r = 0; r < rows; r++)
        good &= memcmp(moved + (size_t)r * row, straight + (size_t)order[r] * row, row) == 0;
    snprintf(what, sizeof what, "%s %s %lld x %lld to %lld, rows permuted", name,
             dtype == D2C_BF16 ? "bf16" : "f32", (long long)rows, (long long)in, (long long)out);
    tell(good, what);
    gpu_free(w.value);
    gpu_free(w.shadow);
    gpu_free(bias);
    gpu_free(input);
    free(x);
    free(order);
    free(straight);
    free(moved);
}

static void
check_layers(d2c_dtype dtype, int64_t tokens, int64_t c)
{
    int64_t rows = TIMESTEPS * tokens;

    check_rows("qkv", dtype, rows, c, 3 * c);
    check_rows("proj", dtype, rows, c, c);
    check_rows("fc1", dtype, rows, c, 4 * c);
    check_rows("fc2", dtype, rows, 4 * c, c);
    check_rows("modulation", dtype, TIMESTEPS, c, 6 * c);
    check_rows("final", dtype, rows, c, 16);
}

/* ---- images ---------------------------------------------------------------------------------------------------- */

#define BATCH 4

/* An op on images: [BATCH, side, side, in] to [BATCH, side, side, out]. */
typedef struct image_op {
    const char *name;
    int64_t in, out;
    d2c_status (*run)(d2c_tensor y, d2c_tensor x, const d2c_weight *w);
} image_op;

static d2c_status
run_convolution(d2c_tensor y, d2c_tensor x, const d2c_weight *w)
{
    const d2c_window same = {3, 3, 1, 1, 1, 1, 1};

    return d2c_conv2d_forward(be, y, x, w, &same, D2C_ACT_NONE);
}

static d2c_status
run_groupnorm(d2c_tensor y, d2c_tensor x, const d2c_weight *w)
{
    int groups = x.dim[3] % 32 == 0 ? 32 : 1;

    return d2c_groupnorm_forward(be, y, x, w->bias, w->bias, groups, 1e-6f, D2C_ACT_SILU);
}

/* One head, as wide as y. */
static d2c_status
run_attention(d2c_tensor y, d2c_tensor x, const d2c_weight *w)
{
    int64_t pixels = x.dim[1] * x.dim[2];

    (void)w;
    return d2c_attention_forward(be, d2c_tensor3(y.data, y.dtype, BATCH, pixels, y.dim[3]), d2c_absent(),
                                 d2c_tensor3(x.data, x.dtype, BATCH, pixels, x.dim[3]), d2c_absent(), 1,
                                 0.05f);
}

/* The bytes of y with the images of x in the given order. */
static char *
result_of_images(const image_op *op, const d2c_weight *w, const char *x, const int *order, d2c_dtype dtype,
                 int64_t side)
{
    size_t size = d2c_dtype_size(dtype) * (size_t)(side * side), from = size * (size_t)op->in,
           bytes = BATCH * size * (size_t)op->out;
    char *moved = bench_memory(BATCH * from), *result = bench_memory(bytes);
    d2c_tensor in, out = d2c_tensor4(gpu_memory(bytes), dtype, BATCH, side, side, op->out);
    int i;

    for (i = 0; i < BATCH; i++)
        memcpy(moved + (size_t)i * from, x + (size_t)order[i] * from, from);
    in = d2c_tensor4(gpu_upload(moved, BATCH * from), dtype, BATCH, side, side, op->in);
    run(op->run(out, in, w));
    run(d2c_download(be, result, out.data, bytes));
    gpu_free(in);
    gpu_free(out);
    free(moved);
    return result;
}

static void
check_images(const image_op *op, d2c_dtype dtype, int64_t side)
{
    d2c_weight w = {.value = gpu_tensor(D2C_F32, op->out, 9 * op->in, 0.05f),
                    .shadow = gpu_tensor(D2C_BF16, op->out, 9 * op->in, 0.05f)};
    d2c_tensor bias = gpu_tensor(D2C_F32, 1, op->out, 1),
               input = gpu_tensor(dtype, BATCH * side * side, op->in, 1);
    size_t size = d2c_dtype_size(dtype) * (size_t)(side * side), image = size * (size_t)op->out;
    char *x = bench_memory(BATCH * size * (size_t)op->in), *straight, *moved, what[160];
    int order[BATCH], good = 1, i;

    w.bias = d2c_tensor1(bias.data, D2C_F32, op->out);
    run(d2c_download(be, x, input.data, BATCH * size * (size_t)op->in));
    permute(order, BATCH, 0);
    straight = result_of_images(op, &w, x, order, dtype, side);
    permute(order, BATCH, 41);
    moved = result_of_images(op, &w, x, order, dtype, side);
    for (i = 0; i < BATCH; i++)
        good &= memcmp(moved + (size_t)i * image, straight + (size_t)order[i] * image, image) == 0;
    snprintf(what, sizeof what, "%s %s %d x %lld x %lld x %lld to %lld, images permuted", op->name,
             dtype == D2C_BF16 ? "bf16" : "f32", BATCH, (long long)side, (long long)side, (long long)op->in,
             (long long)op->out);
    tell(good, what);
    gpu_free(w.value);
    gpu_free(w.shadow);
    gpu_free(bias);
    gpu_free(input);
    free(x);
    free(straight);
    free(moved);
}

/* An autoencoder's ends: large images of few channels, small ones of many. */
static void
check_autoencoder(d2c_dtype dtype, int shrink)
{
    int64_t side = 256 / shrink, few = 128 / shrink, many = 512 / shrink;
    const image_op large[] = {{"convolution", 3, few, run_convolution},
                              {"convolution", few, few, run_convolution},
                              {"group norm", few, few, run_groupnorm}};
    const image_op small[] = {{"convolution", many, many, run_convolution},
                              {"group norm", many, many, run_groupnorm},
                              {"attention", 3 * many, many, run_attention}};
    int i;

    for (i = 0; i < 3; i++)
        check_images(&large[i], dtype, side);
    for (i = 0; i < 3; i++)
        check_images(&small[i], dtype, side / 8);
}

static void
check_precision(d2c_dtype dtype, int shrink)
{
    d2c_sit_config small = {BENCH_DEMO_NETWORK};
    d2c_sit_config s2 = {
        .channels = 4, .out_channels = 4, .height = 32, .width = 32, .classes = 10, .null_class = 1};
    d2c_error err;

    bench_check(d2c_sit_preset(&s2, "SiT-S/2", &err), &err);
    check_scores(&small, dtype, dtype == D2C_BF16 ? "small bf16" : "small f32");
    if (shrink == 1)
        check_scores(&s2, dtype, dtype == D2C_BF16 ? "SiT-S/2 bf16" : "SiT-S/2 f32");
    check_layers(dtype, 256 / shrink, 384 / shrink);
    check_layers(dtype, 256 / shrink, 1152 / shrink);
    check_autoencoder(dtype, shrink);
}

int
main(int argc, char **argv)
{
    int shrink = gpu_int(argc, argv, "--shrink", "1");

    device = bench_option(argc, argv, "--device", "cuda");
    images = gpu_int(argc, argv, "--images", "24");
    threads = gpu_int(argc, argv, "--threads", "4");
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    be = gpu_open(device, 1);
    check_precision(D2C_F32, shrink);
    if (be->has_bf16)
        check_precision(D2C_BF16, shrink);
    d2c_backend_close(be);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
