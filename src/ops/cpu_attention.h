/* cpu_attention.h: what the two ways of the CPU's attention share. */
#ifndef D2C_OPS_CPU_ATTENTION_H
#define D2C_OPS_CPU_ATTENTION_H

#include "ops/cpu.h"

/* A vector holds 16 floats, and twice as many bf16 are written at once. */
static inline int64_t
d2c_cpu_pad_tokens(int64_t tokens, d2c_dtype dtype)
{
    int64_t lanes = dtype == D2C_BF16 ? 32 : 16;

    return (tokens + lanes - 1) / lanes * lanes;
}

/* The forward pass for rows of tokens so long that a head's scores are taken in blocks. */
d2c_status d2c_cpu_attention_long(d2c_cpu *cpu, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias,
                                  int heads, float scale);

#endif
