/*
 * philox.h: counter-based random numbers, Philox4x32-10 (Salmon et al., SC 2011; Random123).
 *
 * A draw is a function of what it is for: key = seed, counter = (block of four elements, id low, id high,
 * epoch * 256 + purpose).  So it never depends on batch size, order, threads, ranks, device or resume.  The
 * normals are Box-Muller over polynomials evaluated with explicit fmaf, so that every device gives the same bits;
 * the file is plain C that a CUDA compiler takes as it is.
 */
#ifndef D2C_BASE_PHILOX_H
#define D2C_BASE_PHILOX_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define D2C_HD static inline __host__ __device__
#else
#define D2C_HD static inline
#endif

/* What a draw is for.  Numbers are part of checkpoints' meaning: never change one, only add. */
enum d2c_purpose {
    D2C_PURPOSE_INIT = 0,       /* initial weights; id = hash of the parameter's name */
    D2C_PURPOSE_TIME = 1,       /* a training sample's t */
    D2C_PURPOSE_NOISE = 2,      /* a training sample's noise */
    D2C_PURPOSE_LABEL_DROP = 3, /* classifier-free guidance's dropout */
    D2C_PURPOSE_POSTERIOR = 4,  /* a latent's draw from its posterior */
    D2C_PURPOSE_FLIP = 5,       /* horizontal flip */
    D2C_PURPOSE_SCORE = 6,      /* difficulty; id = index of the timestep, common to all images */
    D2C_PURPOSE_SAMPLE = 7,     /* a sampled image's start; id = the image's own seed */
    D2C_PURPOSE_SDE = 8,        /* a sampled image's step; epoch = index of the step */
    D2C_PURPOSE_SELECT = 9,     /* random selection; id = hash of the row's key */
    D2C_PURPOSE_ENCODE = 10,    /* noise of the self-representation; id = 0, common to all images */
    D2C_PURPOSE_TEST = 255
};

typedef struct d2c_philox_block {
    uint32_t w[4];
} d2c_philox_block;

D2C_HD d2c_philox_block
d2c_philox(uint64_t seed, uint32_t block, uint64_t id, uint32_t stream)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    d2c_philox_block c = {{block, (uint32_t)id, (uint32_t)(id >> 32), stream}};
    int round;

    for (round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c.w[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * c.w[2];
        uint32_t c1 = c.w[1], c3 = c.w[3];

        c.w[0] = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c.w[1] = (uint32_t)b;
        c.w[2] = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c.w[3] = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* The fourth counter word. */
D2C_HD uint32_t
d2c_philox_stream(int64_t epoch, int purpose)
{
    return (uint32_t)((uint64_t)epoch * 256u + (uint32_t)purpose);
}

/* 24 bits as a float in [0, 1). */
D2C_HD float
d2c_philox_uniform(uint32_t w)
{
    return (float)(w >> 8) * 0x1p-24f;
}

/* Natural logarithm of u in (0, 1]; Cephes' polynomial for [sqrt(1/2), sqrt(2)). */
D2C_HD float
d2c_philox_log(float u)
{
    union {
        float f;
        uint32_t i;
    } bits = {u};
    int exponent = (int)(bits.i >> 23) - 126;
    float e, x, z, p;

    bits.i = (bits.i & 0x007FFFFFu) | 0x3F000000u;
    if (bits.f < 0.70710678f) {
        exponent--;
        bits.f += bits.f;
    }
    x = bits.f - 1.0f;
    e = (float)exponent;
    z = x * x;
    p = fmaf(7.0376836292E-2f, x, -1.1514610310E-1f);
    p = fmaf(p, x, 1.1676998740E-1f);
    p = fmaf(p, x, -1.2420140846E-1f);
    p = fmaf(p, x, 1.4249322787E-1f);
    p = fmaf(p, x, -1.6668057665E-1f);
    p = fmaf(p, x, 2.0000714765E-1f);
    p = fmaf(p, x, -2.4999993993E-1f);
    p = fmaf(p, x, 3.3333331174E-1f);
    p = p * x;
    p = p * z;
    p = fmaf(-2.12194440e-4f, e, p);
    p = fmaf(-0.5f, z, p);
    return fmaf(0.693359375f, e, x + p);
}

/* Sine and cosine of 2 pi u, u in [0, 1) a multiple of 2^-24, by quarter turns. */
D2C_HD void
d2c_philox_sincos(float *sine, float *cosine, float u)
{
    int quarter = (int)fmaf(u, 4.0f, 0.5f);
    float x = fmaf((float)quarter, -0.25f, u) * 6.28318530717958647692f;
    float z = x * x;
    float s, c;

    s = fmaf(-1.9515295891E-4f, z, 8.3321608736E-3f);
    s = fmaf(s, z, -1.6666654611E-1f);
    s = fmaf(s * z, x, x);
    c = fmaf(2.443315711809948E-5f, z, -1.388731625493765E-3f);
    c = fmaf(c, z, 4.166664568298827E-2f);
    c = fmaf(c, z, -0.5f);
    c = fmaf(c, z, 1.0f);
    *sine = (quarter & 1) ? c : s;
    *cosine = (quarter & 1) ? s : c;
    if (quarter & 2)
        *sine = -*sine;
    if ((quarter + 1) & 2)
        *cosine = -*cosine;
}

/* Four standard normals from one block: Box-Muller on the words (0, 1) and (2, 3). */
D2C_HD void
d2c_philox_normal4(float out[4], d2c_philox_block block)
{
    int pair;

    for (pair = 0; pair < 2; pair++) {
        float u = (float)((block.w[2 * pair] >> 8) + 1) * 0x1p-24f;
        float radius = sqrtf(-2.0f * d2c_philox_log(u));
        float sine, cosine;

        d2c_philox_sincos(&sine, &cosine, d2c_philox_uniform(block.w[2 * pair + 1]));
        out[2 * pair] = radius * cosine;
        out[2 * pair + 1] = radius * sine;
    }
}

#endif
