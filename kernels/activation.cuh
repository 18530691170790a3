/*
 * activation.cuh: the activations and their derivatives, for every kernel that applies one.
 *
 * Values are right to 4e-6 of themselves, slopes to 2e-6.  Finite inputs give finite results and a NaN stays a NaN.
 * `act` may be a run-time value; where it is a constant only its own case is compiled.
 */
#ifndef D2C_KERNELS_ACTIVATION_CUH
#define D2C_KERNELS_ACTIVATION_CUH

#include "kernel.cuh"

/* 1 / x for x >= 1; 0 above 2^126, infinity included.  One instruction for the ten of an exact division. */
static __device__ __forceinline__ float
d2c_reciprocal(float x)
{
#ifdef __CUDACC__
    return __fdividef(1.0f, x);
#else
    return 1.0f / x;
#endif
}

static __device__ __forceinline__ float
d2c_sigmoid(float x)
{
    return d2c_reciprocal(1.0f + expf(-x));
}

/* The normal distribution function; 1 + erf would cancel in the tail. */
static __device__ __forceinline__ float
d2c_normal_cdf(float x)
{
    return 0.5f * erfcf(x * -0.70710678118654752f);
}

/* 2 u of GELU's tanh form, 0.5 x (1 + tanh u) = x sigmoid(2 u). */
static __device__ __forceinline__ float
d2c_gelu_argument(float x)
{
    return x * fmaf(0.0713548162726f, x * x, 1.59576912160573f);
}

/* Its derivative, held finite: it is multiplied with 0 long before the limit. */
static __device__ __forceinline__ float
d2c_gelu_argument_slope(float x)
{
    return fmaf(0.2140644488178f, fminf(x * x, 1e30f), 1.59576912160573f);
}

/* act(x) */
static __device__ __forceinline__ float
d2c_act_value(float x, d2c_act act)
{
    switch (act) {
    case D2C_ACT_SILU:
        return x * d2c_sigmoid(x);
    case D2C_ACT_GELU_TANH:
        return x * d2c_sigmoid(d2c_gelu_argument(x));
    case D2C_ACT_GELU_ERF:
        return x * d2c_normal_cdf(x);
    case D2C_ACT_RELU:
        return x > 0.0f || x != x ? x : 0.0f;
    case D2C_ACT_GELU_QUICK:
        return x * d2c_sigmoid(1.702f * x);
    case D2C_ACT_NONE:
        break;
    }
    return x;
}

/* act'(x).  s (1 - s) comes first: where it is 0 the factors after it may be large. */
static __device__ __forceinline__ float
d2c_act_slope(float x, d2c_act act)
{
    float s;

    switch (act) {
    case D2C_ACT_SILU:
        s = d2c_sigmoid(x);
        return fmaf(s * (1.0f - s), x, s);
    case D2C_ACT_GELU_TANH:
        s = d2c_sigmoid(d2c_gelu_argument(x));
        return fmaf(s * (1.0f - s) * x, d2c_gelu_argument_slope(x), s);
    case D2C_ACT_GELU_ERF:
        return fmaf(x * 0.39894228040143268f, expf(-0.5f * x * x), d2c_normal_cdf(x));
    case D2C_ACT_RELU:
        return x > 0.0f ? 1.0f : 0.0f;
    case D2C_ACT_GELU_QUICK:
        s = d2c_sigmoid(1.702f * x);
        return fmaf(s * (1.0f - s), 1.702f * x, s);
    case D2C_ACT_NONE:
        break;
    }
    return 1.0f;
}

/* An activation that the compiler knows. */
template <d2c_act ACT> struct d2c_known_act {
    static constexpr d2c_act act = ACT;
};

/* Calls each(d2c_known_act) for an activation; nothing for none. */
template <typename Each>
static __device__ __forceinline__ void
d2c_with_act(d2c_act act, Each each)
{
    switch (act) {
    case D2C_ACT_SILU:
        return each(d2c_known_act<D2C_ACT_SILU>());
    case D2C_ACT_GELU_TANH:
        return each(d2c_known_act<D2C_ACT_GELU_TANH>());
    case D2C_ACT_GELU_ERF:
        return each(d2c_known_act<D2C_ACT_GELU_ERF>());
    case D2C_ACT_RELU:
        return each(d2c_known_act<D2C_ACT_RELU>());
    case D2C_ACT_GELU_QUICK:
        return each(d2c_known_act<D2C_ACT_GELU_QUICK>());
    case D2C_ACT_NONE:
        break;
    }
}

/* value = act(value); which act is asked once a pack. */
template <int W>
static __device__ __forceinline__ void
d2c_act_values(float (&value)[W], d2c_act act)
{
    d2c_with_act(act, [&](auto known) {
#pragma unroll
        for (int i = 0; i < W; i++)
            value[i] = d2c_act_value(value[i], known.act);
    });
}

#endif
