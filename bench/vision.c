/*
 * vision.c: one picture through an image network, on demand: bench/peers/vision_torch.py runs it in turns with PyTorch's.
 *
 *   vision vae|dinov2 DIRECTORY NAME [--threads N] [--dtype f32|bf16]
 *
 * For every line of input a picture is encoded, and a line is printed: seconds, seconds of processor time, and the length
 * of the result, which the peer compares with its own.  The picture is 256 x 256: pixel i is (7919 i) mod 256.
 */
#include "bench.h"

#include <math.h>

#include "nn/vae.h"
#include "nn/vit.h"

#define SIDE 256
#define NUMBERS (3 * SIDE * SIDE)

static d2c_backend *be;
static d2c_error err;
static d2c_scratch scratch;
static uint8_t pixels[NUMBERS]; /* [row, column, channel] */
static float planes[NUMBERS];   /* [channel, row, column] in [-1, 1] */
static float result[1 << 18];

static void
draw_picture(void)
{
    int i;

    for (i = 0; i < NUMBERS; i++) {
        pixels[i] = (uint8_t)((int64_t)i * 7919 % 256);
        planes[i % 3 * SIDE * SIDE + i / 3] = (float)pixels[i] / 127.5f - 1.0f;
    }
}

static double
length(int64_t n)
{
    double square = 0;
    int64_t i;

    for (i = 0; i < n; i++)
        square += (double)result[i] * result[i];
    return sqrt(square);
}

static double
clock_seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Runs the statement once a line of input; its result has n numbers. */
#define ON_DEMAND(n, statement)                                                                              \
    while (getchar() != EOF) {                                                                               \
        double wall = clock_seconds(CLOCK_MONOTONIC), used = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);        \
        bench_check(statement, &err);                                                                        \
        wall = clock_seconds(CLOCK_MONOTONIC) - wall;                                                        \
        used = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - used;                                               \
        printf("%.6f %.6f %.9g\n", wall, used, length(n));                                                   \
        fflush(stdout);                                                                                      \
    }

static void
encode_pictures(const d2c_model_files *files, d2c_dtype dtype)
{
    d2c_vae_config config;
    d2c_vae *vae;
    int side;

    bench_check(d2c_vae_config_read(&config, files->weights, files->config, &err), &err);
    bench_check(d2c_vae_open(&vae, be, &config, files->weights, dtype, &err), &err);
    side = SIDE / d2c_vae_factor(&config);
    ON_DEMAND((int64_t)config.latent * side * side,
              d2c_vae_encode(vae, be, &scratch, result, NULL, planes, SIDE, SIDE, &err));
    d2c_vae_close(vae, be);
}

static void
embed_pictures(const d2c_model_files *files, d2c_dtype dtype)
{
    const d2c_image image = {SIDE, SIDE, 3, pixels};
    d2c_vit_names names;
    d2c_vit *vit;
    int tokens;

    if (!d2c_vit_names_find(&names, files))
        bench_check(d2c_fail(&err, D2C_BAD_MODEL, "the model is no vision transformer"), &err);
    bench_check(d2c_vit_open(&vit, be, &names, files, dtype, &err), &err);
    tokens = vit->config.grid * vit->config.grid;
    ON_DEMAND((int64_t)tokens * vit->config.hidden,
              d2c_vit_embed(vit, be, &scratch, result, &image, tokens, &err));
    d2c_vit_close(vit, be);
}

int
main(int argc, char **argv)
{
    int bf16 = strcmp(bench_option(argc, argv, "--dtype", "f32"), "bf16") == 0;
    d2c_model_files files;

    if (argc < 4)
        return 2;
    draw_picture();
    bench_check(d2c_backend_open(&be, "cpu", atoi(bench_option(argc, argv, "--threads", "2")), &err), &err);
    bench_check(d2c_model_files_find(&files, argv[2], argv[3], &err), &err);
    bench_check(d2c_model_files_open(&files, &err), &err);
    (strcmp(argv[1], "vae") == 0 ? encode_pictures : embed_pictures)(&files, bf16 ? D2C_BF16 : D2C_F32);
    d2c_scratch_free(&scratch, be);
    d2c_model_files_close(&files);
    d2c_backend_close(be);
    return 0;
}
