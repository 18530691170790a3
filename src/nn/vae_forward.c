/*
 * vae_forward.c: encoding and decoding on ops.h (vae.h), channels last.
 *
 * Three rooms of memory take turns: the residual stream, an operand, a result.  The same walk first counts how large each
 * becomes and then runs, so an image needs no more than three tensors of its widest layer: in f32, decoding 512 x 512
 * pixels with the public files takes 640 MiB and encoding them 384 MiB; in bf16 512 and 320.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "nn/vae_layers.h"

#define ROOMS 3

enum room { STREAM, OPERAND, RESULT };

typedef struct pass {
    const d2c_vae *vae;
    d2c_backend *be;
    char *base;          /* NULL while planning: no op is called then */
    size_t start[ROOMS]; /* of the rooms behind base, by number */
    size_t bytes[ROOMS]; /* the largest that each has held, by number */
    int number[ROOMS];   /* of the room that has the part */
    d2c_tensor x;        /* the residual stream, [1, H, W, C] f32, in room STREAM */
} pass;

#define OP(p, call)                                                                                          \
    do {                                                                                                     \
        if ((p)->base != NULL)                                                                               \
            D2C_TRY(call);                                                                                   \
    } while (0)

/* A tensor [1, height, width, channels] at the start of a part's room; what was there is lost. */
static d2c_tensor
take(pass *p, enum room part, d2c_dtype dtype, int64_t height, int64_t width, int64_t channels)
{
    int number = p->number[part];
    size_t bytes = (size_t)(height * width * channels) * d2c_dtype_size(dtype);
    char *data = p->base != NULL ? p->base + p->start[number] : NULL;

    if (p->bytes[number] < bytes)
        p->bytes[number] = bytes;
    return d2c_tensor4(data, dtype, 1, height, width, channels);
}

/* As large as t. */
static d2c_tensor
take_like(pass *p, enum room part, d2c_dtype dtype, d2c_tensor t, int64_t channels)
{
    return take(p, part, dtype, t.dim[1], t.dim[2], channels);
}

/* The rooms of two parts change places. */
static void
swap(pass *p, enum room a, enum room b)
{
    int number = p->number[a];

    p->number[a] = p->number[b];
    p->number[b] = number;
}

/* t, which lies in that part's room, becomes the stream. */
static void
become_stream(pass *p, d2c_tensor t, enum room part)
{
    swap(p, STREAM, part);
    p->x = t;
}

/* [1, H, W, C] as [H*W, C], and as [1, H*W, C] */
static d2c_tensor
rows(d2c_tensor t)
{
    return d2c_tensor2(t.data, t.dtype, t.dim[1] * t.dim[2], t.dim[3]);
}

static d2c_tensor
tokens(d2c_tensor t)
{
    return d2c_tensor3(t.data, t.dtype, 1, t.dim[1] * t.dim[2], t.dim[3]);
}

static d2c_status
convolve(pass *p, d2c_tensor y, d2c_tensor x, const d2c_weight *w)
{
    static const d2c_window window = {3, 3, 1, 1, 1, 1, 1};

    OP(p, d2c_conv2d_forward(p->be, y, x, w, &window, D2C_ACT_NONE));
    return D2C_OK;
}

static d2c_status
normalise(pass *p, d2c_tensor y, d2c_tensor x, const vae_norm *n, d2c_act act)
{
    OP(p, d2c_groupnorm_forward(p->be, y, x, n->gamma, n->beta, p->vae->config.groups, VAE_EPS, act));
    return D2C_OK;
}

static d2c_status
multiply(pass *p, d2c_tensor y, d2c_tensor x, const d2c_weight *w)
{
    OP(p, d2c_linear_forward(p->be, rows(y), d2c_absent(), rows(x), w, D2C_ACT_NONE));
    return D2C_OK;
}

/* The stream as an operand: itself in f32, a copy in the part's room in bf16. */
static d2c_status
operand_of(pass *p, d2c_tensor *out, enum room part)
{
    *out = p->x;
    if (p->vae->precision == D2C_F32)
        return D2C_OK;
    *out = take_like(p, part, D2C_BF16, p->x, p->x.dim[3]);
    OP(p, d2c_cast(p->be, *out, p->x));
    return D2C_OK;
}

/* ---- layers --------------------------------------------------------------------------------------------------------- */

/* x += y; or, where the block changes the channels, x = shortcut(x) + y. */
static d2c_status
add_result(pass *p, d2c_tensor y, const d2c_weight *shortcut)
{
    d2c_tensor x = p->x;

    if (x.dim[3] != y.dim[3]) {
        x = take_like(p, OPERAND, D2C_F32, x, y.dim[3]);
        D2C_TRY(multiply(p, x, p->x, shortcut));
        become_stream(p, x, OPERAND);
    }
    OP(p, d2c_axpby(p->be, p->x, 1, y, 1));
    return D2C_OK;
}

static d2c_status
run_block(pass *p, const vae_block *b)
{
    d2c_dtype precision = p->vae->precision;
    d2c_tensor h, y;

    h = take_like(p, OPERAND, precision, p->x, p->x.dim[3]);
    D2C_TRY(normalise(p, h, p->x, &b->norm1, D2C_ACT_SILU));
    y = take_like(p, RESULT, D2C_F32, p->x, b->out);
    D2C_TRY(convolve(p, y, h, &b->conv1));
    h = take_like(p, OPERAND, precision, p->x, b->out);
    D2C_TRY(normalise(p, h, y, &b->norm2, D2C_ACT_SILU));
    D2C_TRY(convolve(p, y, h, &b->conv2));
    return add_result(p, y, &b->shortcut);
}

/* One head over all pixels. */
static d2c_status
run_attention(pass *p, const vae_attention *a)
{
    d2c_dtype precision = p->vae->precision;
    int64_t channels = p->x.dim[3];
    float scale = 1.0f / sqrtf((float)channels);
    d2c_tensor h, qkv, y;

    h = take_like(p, OPERAND, precision, p->x, channels);
    D2C_TRY(normalise(p, h, p->x, &a->norm, D2C_ACT_NONE));
    qkv = take_like(p, RESULT, precision, p->x, 3 * channels);
    D2C_TRY(multiply(p, qkv, h, &a->qkv));
    OP(p, d2c_attention_forward(p->be, tokens(h), d2c_absent(), tokens(qkv), d2c_absent(), 1, scale));
    y = take_like(p, RESULT, D2C_F32, p->x, channels);
    D2C_TRY(multiply(p, y, h, &a->out));
    OP(p, d2c_axpby(p->be, p->x, 1, y, 1));
    return D2C_OK;
}

static d2c_status
run_middle(pass *p, const vae_half *h)
{
    D2C_TRY(run_block(p, &h->middle[0]));
    D2C_TRY(run_attention(p, &h->attention));
    return run_block(p, &h->middle[1]);
}

/* Half the resolution.  The zeros lie at the right and the bottom alone: output i sees inputs 2i to 2i + 2. */
static d2c_status
downsample(pass *p, const d2c_weight *w)
{
    static const d2c_window window = {3, 3, 2, 0, 0, 1, 1};
    d2c_tensor x, y;

    D2C_TRY(operand_of(p, &x, OPERAND));
    y = take(p, RESULT, D2C_F32, p->x.dim[1] / 2, p->x.dim[2] / 2, p->x.dim[3]);
    OP(p, d2c_conv2d_forward(p->be, y, x, w, &window, D2C_ACT_NONE));
    become_stream(p, y, RESULT);
    return D2C_OK;
}

/* Twice the resolution. */
static d2c_status
upsample(pass *p, const d2c_weight *w)
{
    int64_t height = 2 * p->x.dim[1], width = 2 * p->x.dim[2], channels = p->x.dim[3];
    d2c_tensor x, wide;

    D2C_TRY(operand_of(p, &x, RESULT));
    wide = take(p, OPERAND, x.dtype, height, width, channels);
    OP(p, d2c_upsample_forward(p->be, wide, x));
    p->x = take(p, STREAM, D2C_F32, height, width, channels);
    return convolve(p, p->x, wide, w);
}

static d2c_status
run_level(pass *p, const vae_half *h, int index, d2c_status (*resample)(pass *, const d2c_weight *))
{
    const vae_level *l = &h->level[index];
    int i;

    for (i = 0; i < h->blocks; i++)
        D2C_TRY(run_block(p, &l->block[i]));
    return index < p->vae->config.levels - 1 ? resample(p, &l->resample) : D2C_OK;
}

/* The image [1, C, H, W], planar, that was uploaded to the stream's room, as an operand there. */
static d2c_status
take_input(pass *p, d2c_tensor *x, const d2c_weight *before, int64_t channels, int64_t height, int64_t width)
{
    d2c_tensor planes = take(p, STREAM, D2C_F32, channels, height, width), plain;

    planes = d2c_tensor4(planes.data, D2C_F32, 1, channels, height, width);
    *x = take(p, OPERAND, before != NULL ? D2C_F32 : p->vae->precision, height, width, channels);
    OP(p, d2c_patchify(p->be, tokens(*x), planes, 1, D2C_PATCH_CHANNEL_LAST));
    if (before == NULL)
        return D2C_OK;
    plain = *x;
    *x = take(p, RESULT, p->vae->precision, height, width, channels);
    return multiply(p, *x, plain, before);
}

static d2c_status
run_first(pass *p, d2c_tensor x, const d2c_weight *w, int64_t channels)
{
    p->x = take_like(p, STREAM, D2C_F32, x, channels);
    return convolve(p, p->x, x, w);
}

/* What leaves the half, [1, channels, H, W] planar in the stream's room. */
static d2c_status
run_last(pass *p, const vae_half *h, const d2c_weight *after, int64_t channels)
{
    d2c_tensor operand = take_like(p, OPERAND, p->vae->precision, p->x, p->x.dim[3]), y, z;

    D2C_TRY(normalise(p, operand, p->x, &h->norm_out, D2C_ACT_SILU));
    y = take_like(p, RESULT, D2C_F32, p->x, channels);
    D2C_TRY(convolve(p, y, operand, &h->conv_out));
    if (after != NULL) {
        z = take_like(p, OPERAND, D2C_F32, y, channels);
        D2C_TRY(multiply(p, z, y, after));
        y = z;
    }
    p->x = take_like(p, STREAM, D2C_F32, y, channels);
    p->x = d2c_tensor4(p->x.data, D2C_F32, 1, channels, y.dim[1], y.dim[2]);
    OP(p, d2c_unpatchify(p->be, p->x, tokens(y), 1, D2C_PATCH_CHANNEL_LAST));
    return D2C_OK;
}

/* ---- halves ---------------------------------------------------------------------------------------------------------- */

/* From the image [1, C, H, W] at the start of the stream's room to p->x, the moments. */
static d2c_status
encode(pass *p, int64_t height, int64_t width)
{
    const d2c_vae_config *c = &p->vae->config;
    const vae_half *h = &((const vae_network *)p->vae->network)->encoder;
    d2c_tensor x;
    int i;

    D2C_TRY(take_input(p, &x, NULL, c->in_channels, height, width));
    D2C_TRY(run_first(p, x, &h->conv_in, c->width[0]));
    for (i = 0; i < c->levels; i++)
        D2C_TRY(run_level(p, h, i, downsample));
    D2C_TRY(run_middle(p, h));
    return run_last(p, h, c->quant ? &h->quant : NULL, 2 * c->latent);
}

/* From the latent [1, C, H, W] at the start of the stream's room to p->x, the image. */
static d2c_status
decode(pass *p, int64_t height, int64_t width)
{
    const d2c_vae_config *c = &p->vae->config;
    const vae_half *h = &((const vae_network *)p->vae->network)->decoder;
    d2c_tensor x;
    int i;

    D2C_TRY(take_input(p, &x, c->post_quant ? &h->quant : NULL, c->latent, height, width));
    D2C_TRY(run_first(p, x, &h->conv_in, c->width[c->levels - 1]));
    D2C_TRY(run_middle(p, h));
    for (i = 0; i < c->levels; i++)
        D2C_TRY(run_level(p, h, i, upsample));
    return run_last(p, h, NULL, c->out_channels);
}

/* Lays the rooms out for what a planned pass counted; returns the bytes of all. */
static size_t
lay_out(size_t start[ROOMS], const size_t bytes[ROOMS])
{
    size_t end = 0;
    int i;

    for (i = 0; i < ROOMS; i++) {
        start[i] = end;
        end += (bytes[i] + D2C_ARENA_ALIGN - 1) / D2C_ARENA_ALIGN * D2C_ARENA_ALIGN;
    }
    return end;
}

static void
begin(pass *p, const d2c_vae *vae, d2c_backend *be, char *base)
{
    *p = (pass){.vae = vae, .be = be, .base = base, .number = {STREAM, OPERAND, RESULT}};
}

/* Uploads, runs, downloads; out is [count] and in [in_count] of host memory. */
static d2c_status
run_ops(pass *p, d2c_status (*half)(pass *, int64_t, int64_t), float *out, const float *in, size_t in_count,
        int height, int width)
{
    D2C_TRY(d2c_upload(p->be, p->base + p->start[p->number[STREAM]], in, in_count * sizeof *in));
    D2C_TRY(half(p, height, width));
    return d2c_download(p->be, out, p->x.data, (size_t)d2c_tensor_count(p->x) * sizeof *out);
}

/* Plans, makes room, runs. */
static d2c_status
run(const d2c_vae *vae, d2c_backend *be, d2c_scratch *scratch, d2c_status (*half)(pass *, int64_t, int64_t),
    float *out, const float *in, size_t in_count, int height, int width, d2c_error *err)
{
    pass plan, p;
    size_t start[ROOMS], bytes;

    begin(&plan, vae, be, NULL);
    half(&plan, height, width);
    bytes = lay_out(start, plan.bytes);
    D2C_TRY(d2c_scratch_reserve(scratch, be, bytes, err));
    begin(&p, vae, be, scratch->block);
    memcpy(p.start, start, sizeof start);
    return run_ops(&p, half, out, in, in_count, height, width) == D2C_OK ? D2C_OK
                                                                         : d2c_backend_error(be, err);
}

static d2c_status
check_finite(const float *values, size_t count, const char *what, d2c_error *err)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (!isfinite(values[i])) {
            d2c_fail(err, D2C_NOT_FINITE, "%s is not finite", what);
            d2c_hint(err, "The autoencoder's weights may be damaged.");
            return D2C_NOT_FINITE;
        }
    return D2C_OK;
}

int
d2c_vae_factor(const d2c_vae_config *config)
{
    return 1 << (config->levels - 1);
}

d2c_status
d2c_vae_size_check(const d2c_vae_config *config, int64_t height, int64_t width, d2c_error *err)
{
    int factor = d2c_vae_factor(config);

    if (height >= factor && width >= factor && height <= D2C_VAE_MOST_SIDE && width <= D2C_VAE_MOST_SIDE &&
        height % factor == 0 && width % factor == 0)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "the autoencoder does not take images of %lld x %lld pixels",
             (long long)width, (long long)height);
    d2c_detail(err, "Width and height are multiples of %d, at most %d.", factor, D2C_VAE_MOST_SIDE);
    return D2C_INVALID_ARGUMENT;
}

/* mean and deviation from [mean, logvar]. */
static void
split_moments(float *mean, float *deviation, const float *moments, size_t count)
{
    size_t i;

    memcpy(mean, moments, count * sizeof *mean);
    for (i = 0; deviation != NULL && i < count; i++)
        deviation[i] = expf(0.5f * fminf(fmaxf(moments[count + i], -30.0f), 20.0f));
}

d2c_status
d2c_vae_encode(const d2c_vae *vae, d2c_backend *be, d2c_scratch *scratch, float *mean, float *deviation,
               const float *x, int height, int width, d2c_error *err)
{
    const d2c_vae_config *c = &vae->config;
    size_t pixels = (size_t)height * (size_t)width, count;
    int factor = d2c_vae_factor(c);
    d2c_status status;
    float *moments;

    D2C_TRY(d2c_vae_size_check(c, height, width, err));
    count = (size_t)c->latent * pixels / (size_t)(factor * factor);
    moments = malloc(2 * count * sizeof *moments);
    if (moments == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = run(vae, be, scratch, encode, moments, x, (size_t)c->in_channels * pixels, height, width, err);
    if (status == D2C_OK)
        status = check_finite(moments, 2 * count, "latent", err);
    if (status == D2C_OK)
        split_moments(mean, deviation, moments, count);
    free(moments);
    return status;
}

d2c_status
d2c_vae_decode(const d2c_vae *vae, d2c_backend *be, d2c_scratch *scratch, float *x, const float *latent,
               int height, int width, d2c_error *err)
{
    const d2c_vae_config *c = &vae->config;
    int64_t factor = d2c_vae_factor(c);
    size_t pixels = (size_t)height * (size_t)width;

    D2C_TRY(d2c_vae_size_check(c, height * factor, width * factor, err));
    D2C_TRY(run(vae, be, scratch, decode, x, latent, (size_t)c->latent * pixels, height, width, err));
    return check_finite(x, (size_t)c->out_channels * pixels * (size_t)(factor * factor), "decoded image",
                        err);
}
