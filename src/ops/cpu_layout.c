/* cpu_layout.c: the timestep embedding, patches and texts. */
#include "ops/cpu.h"

#include <math.h>
#include <stdlib.h>

#include <omp.h>

/* The frequencies of a width are kept: computing them costs more than using them. */
static d2c_status
reserve_frequencies(d2c_cpu *cpu, int64_t half)
{
    int64_t i;

    if (cpu->frequencies == half)
        return D2C_OK;
    free(cpu->frequency);
    cpu->frequencies = 0;
    cpu->frequency = malloc((size_t)half * sizeof(float));
    if (cpu->frequency == NULL)
        return d2c_fail(&cpu->base.error, D2C_NO_MEMORY, "could not allocate %lld frequencies",
                        (long long)half);
    for (i = 0; i < half; i++)
        cpu->frequency[i] = (float)pow(10000.0, -(double)i / (double)half);
    cpu->frequencies = half;
    return D2C_OK;
}

d2c_status
d2c_cpu_timestep_embedding(d2c_backend *be, d2c_tensor y, d2c_tensor t)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t half = y.dim[1] / 2, b, i;
    void *work;
    float *row;

    D2C_TRY(reserve_frequencies(cpu, half));
    D2C_TRY(d2c_cpu_scratch(cpu, &work, (size_t)(2 * half) * sizeof(float)));
    row = work;
    for (b = 0; b < y.dim[0]; b++) {
        for (i = 0; i < half; i++) {
            float angle = ((const float *)t.data)[b] * cpu->frequency[i];

            row[i] = cosf(angle);
            row[half + i] = sinf(angle);
        }
        cpu->kernels->convert(d2c_cpu_row(y, b), y.dtype, row, D2C_F32, 2 * half);
    }
    return D2C_OK;
}

/* How an image's pixels lie in tokens. */
typedef struct patches {
    int64_t channels, height, width, patch;
    int64_t token, channel_step,
        pixel_step; /* elements of a token, and from one channel or pixel to the next */
} patches;

static patches
patches_of(d2c_tensor image, d2c_tensor tokens, int patch, d2c_patch_order order)
{
    patches p = {image.dim[1], image.dim[2], image.dim[3], patch, tokens.dim[2], 1, 1};

    if (order == D2C_PATCH_CHANNEL_FIRST)
        p.channel_step = (int64_t)patch * patch;
    else
        p.pixel_step = p.token / ((int64_t)patch * patch);
    return p;
}

/* Element of a [tokens, token] matrix where the patch row that holds pixel (row, column 0) of a channel begins. */
static int64_t
patch_row_start(const patches *p, int64_t channel, int64_t row)
{
    int64_t first_token = row / p->patch * (p->width / p->patch);

    return first_token * p->token + channel * p->channel_step + row % p->patch * p->patch * p->pixel_step;
}

static void
image_to_tokens(const patches *p, float *tokens, const float *image)
{
    int64_t line, column;

    for (line = 0; line < p->channels * p->height; line++) {
        const float *from = image + line * p->width;
        float *to = tokens + patch_row_start(p, line / p->height, line % p->height);

        for (column = 0; column < p->width; column++)
            to[column / p->patch * p->token + column % p->patch * p->pixel_step] = from[column];
    }
}

static void
tokens_to_image(const patches *p, float *image, const float *tokens)
{
    int64_t line, column;

    for (line = 0; line < p->channels * p->height; line++) {
        const float *from = tokens + patch_row_start(p, line / p->height, line % p->height);
        float *to = image + line * p->width;

        for (column = 0; column < p->width; column++)
            to[column] = from[column / p->patch * p->token + column % p->patch * p->pixel_step];
    }
}

/* Both directions work on f32 and convert on the way in and out: images are small beside what follows them. */
d2c_status
d2c_cpu_patchify(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    patches p = patches_of(x, y, patch, order);
    int64_t image = x.dim[1] * x.dim[2] * x.dim[3], tokens = y.dim[1] * y.dim[2], b, i;
    size_t stripe = d2c_cpu_round((size_t)(image + tokens) * sizeof(float));
    void *work;

    D2C_TRY(d2c_cpu_scratch(cpu, &work, stripe * (size_t)be->threads));
#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, x.dim[0] * tokens)) schedule(static) private(i)
    for (b = 0; b < x.dim[0]; b++) {
        float *from = (float *)((char *)work + stripe * (size_t)omp_get_thread_num()), *to = from + image;

        for (i = 0; i < tokens; i++)
            to[i] = 0.0f;
        cpu->kernels->convert(from, D2C_F32,
                              (const char *)x.data + (size_t)(b * image) * d2c_dtype_size(x.dtype), x.dtype,
                              image);
        image_to_tokens(&p, to, from);
        cpu->kernels->convert((char *)y.data + (size_t)(b * tokens) * d2c_dtype_size(y.dtype), y.dtype, to,
                              D2C_F32, tokens);
    }
    return D2C_OK;
}

d2c_status
d2c_cpu_unpatchify(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    patches p = patches_of(x, y, patch, order);
    int64_t image = x.dim[1] * x.dim[2] * x.dim[3], tokens = y.dim[1] * y.dim[2], b;
    size_t stripe = d2c_cpu_round((size_t)(image + tokens) * sizeof(float));
    void *work;

    D2C_TRY(d2c_cpu_scratch(cpu, &work, stripe * (size_t)be->threads));
#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, x.dim[0] * tokens)) schedule(static)
    for (b = 0; b < x.dim[0]; b++) {
        float *from = (float *)((char *)work + stripe * (size_t)omp_get_thread_num()), *to = from + tokens;

        cpu->kernels->convert(from, D2C_F32,
                              (const char *)y.data + (size_t)(b * tokens) * d2c_dtype_size(y.dtype), y.dtype,
                              tokens);
        tokens_to_image(&p, to, from);
        cpu->kernels->convert((char *)x.data + (size_t)(b * image) * d2c_dtype_size(x.dtype), x.dtype, to,
                              D2C_F32, image);
    }
    return D2C_OK;
}

/* out [width, tokens] = the transpose of x [tokens, width] * mask [tokens]. */
static void
transpose_masked(float *out, const float *x, const float *mask, int64_t tokens, int64_t width)
{
    int64_t l, w;

    for (w = 0; w < width; w++)
        for (l = 0; l < tokens; l++)
            out[w * tokens + l] = x[l * width + w] * mask[l];
}

d2c_status
d2c_cpu_text_unfold(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t tokens = x.dim[1], width = x.dim[2], n = tokens * width, b;
    size_t stripe = d2c_cpu_round((size_t)(2 * n) * sizeof(float));
    void *work;

    D2C_TRY(d2c_cpu_scratch(cpu, &work, stripe * (size_t)be->threads));
#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, x.dim[0] * n)) schedule(static)
    for (b = 0; b < x.dim[0]; b++) {
        float *from = (float *)((char *)work + stripe * (size_t)omp_get_thread_num());

        cpu->kernels->convert(from, D2C_F32, (const char *)x.data + (size_t)(b * n) * d2c_dtype_size(x.dtype),
                              x.dtype, n);
        transpose_masked(from + n, from, (const float *)mask.data + b * tokens, tokens, width);
        cpu->kernels->convert(d2c_cpu_row(y, b), y.dtype, from + n, D2C_F32, n);
    }
    return D2C_OK;
}
