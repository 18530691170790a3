/*
 * tensor_core.cuh: products of small matrices by a warp's tensor cores, and copies into shared memory that do not wait.
 *
 * One instruction adds A [16, 16] times B [16, 8] in bf16 to C [16, 8] in f32.  The warp's lanes hold the matrices in
 * pieces, two bf16 to a register with the first in its lower half; lane 4g + t (g = 0..7, t = 0..3) has
 *
 *     a[0]  row g,     columns 2t, 2t+1          b[0]  column g, rows 2t, 2t+1
 *     a[1]  row g + 8, columns 2t, 2t+1          b[1]  column g, rows 2t+8, 2t+9
 *     a[2]  row g,     columns 2t+8, 2t+9        c[0], c[1]  row g,     columns 2t, 2t+1
 *     a[3]  row g + 8, columns 2t+8, 2t+9        c[2], c[3]  row g + 8, columns 2t, 2t+1
 *
 * so that two neighbouring Cs, rounded to bf16, are an A without any exchange between lanes.
 *
 * The emulator has plain C twins of the instructions.  Its copies really happen as late as they may, and until then the
 * target holds NaN, so that a forgotten wait is found.
 */
#ifndef D2C_KERNELS_TENSOR_CORE_CUH
#define D2C_KERNELS_TENSOR_CORE_CUH

#include "kernel.cuh"

#ifndef __CUDACC__
#include <stdlib.h>
#endif

/* ---- numbers ------------------------------------------------------------------------------------------------------- */

/* Two floats rounded to bf16, the first in the lower half. */
static __device__ __forceinline__ uint32_t
d2c_pair(float low, float high)
{
#ifdef __CUDACC__
    uint32_t pair;

    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return d2c_bf16_bits(low) | (uint32_t)d2c_bf16_bits(high) << 16;
#endif
}

static __device__ __forceinline__ float
d2c_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

static __device__ __forceinline__ float
d2c_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xFFFF0000u);
}

/* 2^x by the hardware's approximation, 2^-22 off at most; results below 2^-126 are 0. */
static __device__ __forceinline__ float
d2c_exp2(float x)
{
#ifdef __CUDACC__
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

/* ---- moving 4 and 16 bytes, aligned to their size ------------------------------------------------------------------ */

static __device__ __forceinline__ uint32_t
d2c_get_pair(const d2c_b16 *p)
{
#ifdef __CUDACC__
    return *reinterpret_cast<const uint32_t *>(p);
#else
    return p[0].bits | (uint32_t)p[1].bits << 16;
#endif
}

static __device__ __forceinline__ void
d2c_put_pair(d2c_b16 *p, uint32_t pair)
{
#ifdef __CUDACC__
    *reinterpret_cast<uint32_t *>(p) = pair;
#else
    p[0].bits = (uint16_t)pair;
    p[1].bits = (uint16_t)(pair >> 16);
#endif
}

static __device__ __forceinline__ void
d2c_move_16(void *to, const void *from)
{
#ifdef __CUDACC__
    *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from);
#else
    if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0)
        abort();
    memcpy(to, from, 16);
#endif
}

/* ---- copies from device memory to shared memory -------------------------------------------------------------------- */

#define D2C_COPIES_MOST 64 /* that a thread of a kernel begins before it waits */

/* A thread's copies that may not have happened yet; on a device the hardware knows them. */
typedef struct d2c_copies {
#ifndef __CUDACC__
    struct {
        void *to;
        const void *from;
        int bytes;
    } begun[D2C_COPIES_MOST];
    int count;
#endif
} d2c_copies;

#ifndef __CUDACC__

/* ---- the emulator's twins: functions of their own, because the compiler sees many calls of them ---------------------- */

#define EMU_TWIN __attribute__((noinline, unused)) static

EMU_TWIN void
emu_copy_begin(d2c_copies *copies, void *to, const void *from, int bytes)
{
    if (copies->count == D2C_COPIES_MOST || (uintptr_t)to % (unsigned)bytes != 0 ||
        (uintptr_t)from % (unsigned)bytes != 0)
        abort();
    memset(to, 0xFF, (size_t)bytes);
    copies->begun[copies->count++] = {to, from, bytes};
}

EMU_TWIN void
emu_copy_wait(d2c_copies *copies)
{
    for (int i = 0; i < copies->count; i++)
        if (copies->begun[i].from == NULL)
            memset(copies->begun[i].to, 0, (size_t)copies->begun[i].bytes);
        else
            memcpy(copies->begun[i].to, copies->begun[i].from, (size_t)copies->begun[i].bytes);
    copies->count = 0;
}

/* Lanes 8i .. 8i + 7 give the rows of part i. */
EMU_TWIN void
emu_load_parts(uint32_t *part, const d2c_b16 *row, int transposed)
{
    int g = threadIdx.x % D2C_WARP / 4, t = threadIdx.x % 4;
    const d2c_b16 *rows[D2C_WARP];

    if ((uintptr_t)row % 16 != 0)
        abort();
    emu_warp_share(&row, sizeof row, rows);
    for (int i = 0; i < 4; i++)
        if (transposed)
            part[i] = rows[8 * i + 2 * t][g].bits | (uint32_t)rows[8 * i + 2 * t + 1][g].bits << 16;
        else
            part[i] = d2c_get_pair(rows[8 * i + g] + 2 * t);
}

/* What one lane gives to a product. */
typedef struct emu_operands {
    uint32_t a[4], b[2];
} emu_operands;

static inline float
emu_half_of(uint32_t pair, int k)
{
    return k % 2 == 0 ? d2c_low(pair) : d2c_high(pair);
}

/* Element (row, column) of A B. */
static inline float
emu_product_at(const emu_operands *lanes, int row, int column)
{
    float sum = 0;

    for (int k = 0; k < 16; k++)
        sum += emu_half_of(lanes[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k) *
               emu_half_of(lanes[column * 4 + k % 8 / 2].b[k / 8], k);
    return sum;
}

EMU_TWIN void
emu_multiply(float *c, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    emu_operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}}, lanes[D2C_WARP];
    int lane = threadIdx.x % D2C_WARP;

    emu_warp_share(&mine, sizeof mine, lanes);
    for (int i = 0; i < 4; i++)
        c[i] += emu_product_at(lanes, lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
}

#endif

/* Begins a copy of BYTES (4 or 16) bytes, aligned to as many; unless `inside`, zeros are written and nothing is read.
 * `from` is then any address of the same memory. */
template <int BYTES>
static __device__ __forceinline__ void
d2c_copy_begin(d2c_copies *copies, void *to, const void *from, bool inside)
{
#ifdef __CUDACC__
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    size_t source = __cvta_generic_to_global(from);
    int bytes = inside ? BYTES : 0;

    (void)copies;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(source), "r"(bytes)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(source), "r"(bytes)
                     : "memory");
#else
    emu_copy_begin(copies, to, inside ? from : NULL, BYTES);
#endif
}

/* Waits for the thread's own copies; what other threads copied is there after the next __syncthreads. */
static __device__ __forceinline__ void
d2c_copy_wait(d2c_copies *copies)
{
#ifdef __CUDACC__
    (void)copies;
    asm volatile("cp.async.wait_all;" ::: "memory");
#else
    emu_copy_wait(copies);
#endif
}

/* ---- matrices ------------------------------------------------------------------------------------------------------ */

/*
 * Below, a block [16, 16] of bf16 in shared memory is loaded as operands.  Its rows are `pitch` elements apart and aligned
 * to 16 bytes; an odd number of 16 bytes between them avoids bank conflicts.  The instruction loads four parts of 8 x 8,
 * from the rows whose addresses lanes 8i .. 8i + 7 give for part i, and hands each lane of part i, in register i, row g's
 * columns 2t and 2t+1 or, when it transposes, column g's rows 2t and 2t+1.
 */
static __device__ __forceinline__ void
d2c_load_parts(uint32_t *part, const d2c_b16 *row)
{
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(part[0]), "=r"(part[1]), "=r"(part[2]), "=r"(part[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row)));
#else
    emu_load_parts(part, row, 0);
#endif
}

static __device__ __forceinline__ void
d2c_load_parts_transposed(uint32_t *part, const d2c_b16 *row)
{
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(part[0]), "=r"(part[1]), "=r"(part[2]), "=r"(part[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row)));
#else
    emu_load_parts(part, row, 1);
#endif
}

/* a = the block. */
static __device__ __forceinline__ void
d2c_load_a(uint32_t *a, const d2c_b16 *corner, int pitch)
{
    int lane = threadIdx.x % D2C_WARP;

    d2c_load_parts(a, corner + lane % 16 * pitch + lane / 16 * 8);
}

/* b[0], b[1] and b[2], b[3]: the left and the right half of the block. */
static __device__ __forceinline__ void
d2c_load_b(uint32_t *b, const d2c_b16 *corner, int pitch)
{
    int lane = threadIdx.x % D2C_WARP;

    d2c_load_parts_transposed(b, corner + lane % 16 * pitch + lane / 16 * 8);
}

/* The same of the block's transpose: columns 0..7 are the block's rows 0..7. */
static __device__ __forceinline__ void
d2c_load_b_transposed(uint32_t *b, const d2c_b16 *corner, int pitch)
{
    int lane = threadIdx.x % D2C_WARP;

    d2c_load_parts(b, corner + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8);
}

/* c += a {b0, b1} */
static __device__ __forceinline__ void
d2c_multiply(float *c, const uint32_t *a, uint32_t b0, uint32_t b1)
{
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    emu_multiply(c, a, b0, b1);
#endif
}

#endif
