/*
 * cuda_runtime.h: the language of kernels for a C++ compiler of the host.
 *
 * A kernel's thread is a fiber (block.cpp).  Work is run by one host thread at a time, so that what belongs to the
 * thread or the block that is running lies in plain variables; shared memory is static, where ASan guards its bounds.
 */
#ifndef D2C_EMU_CUDA_RUNTIME_H
#define D2C_EMU_CUDA_RUNTIME_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>
#include <type_traits>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

/* ---- vectors --------------------------------------------------------------------------------------------------- */

#define EMU_VECTOR(type, name, alignment2, alignment4)                                                       \
    struct __align__(alignment2) name##2                                                                     \
    {                                                                                                        \
        type x, y;                                                                                           \
    };                                                                                                       \
    struct name##3                                                                                           \
    {                                                                                                        \
        type x, y, z;                                                                                        \
    };                                                                                                       \
    struct __align__(alignment4) name##4                                                                     \
    {                                                                                                        \
        type x, y, z, w;                                                                                     \
    };                                                                                                       \
    static inline name##2 make_##name##2(type x, type y)                                                     \
    {                                                                                                        \
        return {x, y};                                                                                       \
    }                                                                                                        \
    static inline name##3 make_##name##3(type x, type y, type z)                                             \
    {                                                                                                        \
        return {x, y, z};                                                                                    \
    }                                                                                                        \
    static inline name##4 make_##name##4(type x, type y, type z, type w)                                     \
    {                                                                                                        \
        return {x, y, z, w};                                                                                 \
    }

EMU_VECTOR(float, float, 8, 16)
EMU_VECTOR(double, double, 16, 16)
EMU_VECTOR(int, int, 8, 16)
EMU_VECTOR(unsigned, uint, 8, 16)
EMU_VECTOR(short, short, 4, 8)
EMU_VECTOR(unsigned short, ushort, 4, 8)
EMU_VECTOR(signed char, char, 2, 4)
EMU_VECTOR(unsigned char, uchar, 2, 4)
EMU_VECTOR(long long, longlong, 16, 16)
EMU_VECTOR(unsigned long long, ulonglong, 16, 16)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned along_x = 1, unsigned along_y = 1, unsigned along_z = 1)
        : x(along_x), y(along_y), z(along_z)
    {
    }
};

/* ---- the running thread and its block (block.cpp) -------------------------------------------------------------- */

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

/* Where a call stands, for messages. */
#define EMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void emu_meet_block(const char *file, int line);

/* The block's dynamic shared memory; no better aligned than is promised. */
void *emu_dynamic_shared(void);

/* The most bytes that a lane gives, and the distance of lanes in what emu_meet_warp returns. */
#define EMU_LANE_BYTES 64

/* Every lane of the warp comes here with `bytes` bytes; returns those of all, until the warp's next meeting but one. */
const unsigned char *emu_meet_warp(unsigned mask, const void *mine, size_t bytes, const char *file, int line);

static inline void
__syncthreads(EMU_HERE)
{
    emu_meet_block(file, line);
}

static inline void
__syncwarp(unsigned mask = 0xFFFFFFFFu, EMU_HERE)
{
    emu_meet_warp(mask, nullptr, 0, file, line);
}

/* Every lane gives `bytes` bytes, at most EMU_LANE_BYTES, and gets the 32 lanes' in order. */
static inline void
emu_warp_share(const void *mine, size_t bytes, void *all, EMU_HERE)
{
    const unsigned char *lanes = emu_meet_warp(0xFFFFFFFFu, mine, bytes, file, line);

    for (int lane = 0; lane < 32; lane++)
        memcpy((char *)all + lane * bytes, lanes + lane * EMU_LANE_BYTES, bytes);
}

static inline int
emu_lane(void)
{
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

template <typename T>
static inline T
emu_shuffle(unsigned mask, T value, int from, const char *file, int line)
{
    static_assert(sizeof(T) <= 8, "shuffles move 4 or 8 bytes");
    const unsigned char *lanes = emu_meet_warp(mask, &value, sizeof value, file, line);

    memcpy(&value, lanes + from * EMU_LANE_BYTES, sizeof value);
    return value;
}

template <typename T>
static inline T
__shfl_sync(unsigned mask, T value, int source, int width = 32, EMU_HERE)
{
    return emu_shuffle(mask, value, (emu_lane() & ~(width - 1)) | (source & (width - 1)), file, line);
}

/* A lane outside the part of `width` lanes is not read: the lane keeps its own value. */
template <typename T>
static inline T
__shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, EMU_HERE)
{
    int lane = emu_lane(), from = lane ^ flip;

    return emu_shuffle(mask, value, from <= (lane | (width - 1)) ? from : lane, file, line);
}

template <typename T>
static inline T
__shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, EMU_HERE)
{
    int lane = emu_lane(), from = lane + (int)distance;

    return emu_shuffle(mask, value, from <= (lane | (width - 1)) ? from : lane, file, line);
}

template <typename T>
static inline T
__shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, EMU_HERE)
{
    int lane = emu_lane(), from = lane - (int)distance;

    return emu_shuffle(mask, value, from >= (lane & ~(width - 1)) ? from : lane, file, line);
}

static inline unsigned
__ballot_sync(unsigned mask, int predicate, EMU_HERE)
{
    unsigned char mine = predicate != 0;
    const unsigned char *lanes = emu_meet_warp(mask, &mine, 1, file, line);
    unsigned ballot = 0;

    for (int lane = 0; lane < 32; lane++)
        ballot |= (unsigned)lanes[lane * EMU_LANE_BYTES] << lane;
    return ballot;
}

static inline int
__any_sync(unsigned mask, int predicate, EMU_HERE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}

static inline int
__all_sync(unsigned mask, int predicate, EMU_HERE)
{
    return __ballot_sync(mask, predicate, file, line) == 0xFFFFFFFFu;
}

/* Other threads of a block see what was written: fibers share the host's memory. */
static inline void
__threadfence_block(void)
{
}

static inline void
__threadfence(void)
{
}

/* ---- numbers --------------------------------------------------------------------------------------------------- */

template <typename To, typename From>
static inline To
emu_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "bits are those of a number of the same size");
    To to;

    memcpy(&to, &from, sizeof to);
    return to;
}

static inline float
__uint_as_float(unsigned bits)
{
    return emu_bits<float>(bits);
}

static inline float
__int_as_float(int bits)
{
    return emu_bits<float>(bits);
}

static inline unsigned
__float_as_uint(float value)
{
    return emu_bits<unsigned>(value);
}

static inline int
__float_as_int(float value)
{
    return emu_bits<int>(value);
}

/* The C library has names like these of its own. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define rsqrtf(x) __frsqrt_rn(x)

static inline float
__fdividef(float x, float y)
{
    return x / y;
}

static inline float
__fadd_rn(float x, float y)
{
    return x + y;
}

static inline float
__fmul_rn(float x, float y)
{
    return x * y;
}

static inline float
__fdiv_rn(float x, float y)
{
    return x / y;
}

static inline float
__fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}

static inline float
__frcp_rn(float x)
{
    return 1.0f / x;
}

static inline float
__fsqrt_rn(float x)
{
    return sqrtf(x);
}

static inline float
__frsqrt_rn(float x)
{
    return 1.0f / sqrtf(x);
}

static inline float
__saturatef(float x)
{
    return x >= 1.0f ? 1.0f : x > 0.0f ? x : 0.0f;
}

static inline unsigned
__umulhi(unsigned x, unsigned y)
{
    return (unsigned)((uint64_t)x * y >> 32);
}

static inline int
__popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int
__clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}

static inline int
__ffs(int x)
{
    return __builtin_ffs(x);
}

#define EMU_LEAST(type)                                                                                      \
    static inline type min(type x, type y)                                                                   \
    {                                                                                                        \
        return y < x ? y : x;                                                                                \
    }                                                                                                        \
    static inline type max(type x, type y)                                                                   \
    {                                                                                                        \
        return x < y ? y : x;                                                                                \
    }

EMU_LEAST(int)
EMU_LEAST(unsigned)
EMU_LEAST(long)
EMU_LEAST(unsigned long)
EMU_LEAST(long long)
EMU_LEAST(unsigned long long)

/* A NaN gives way to a number, as on the device. */
static inline float
min(float x, float y)
{
    return fminf(x, y);
}

static inline float
max(float x, float y)
{
    return fmaxf(x, y);
}

template <typename T>
static inline T
__ldg(const T *p)
{
    return *p;
}

template <typename T>
static inline T
__ldcs(const T *p)
{
    return *p;
}

template <typename T>
static inline T
__ldcg(const T *p)
{
    return *p;
}

template <typename T>
static inline void
__stcs(T *p, T value)
{
    *p = value;
}

template <typename T>
static inline void
__stcg(T *p, T value)
{
    *p = value;
}

/* ---- launches (launch.cpp) ------------------------------------------------------------------------------------- */

/* Checks a kernel's argument, the index-th, that is a pointer: to host memory it would be no good on a device. */
void emu_check_pointer(int index, uintptr_t address);

/* Queues the kernel; a failure is found by cudaPeekAtLastError. */
void emu_queue_kernel(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                      std::function<void()> thread);

template <typename T>
static inline void
emu_check_argument(int index, const T &argument)
{
    if constexpr (std::is_pointer_v<T>)
        emu_check_pointer(index, (uintptr_t)argument);
}

template <typename T> struct emu_same {
    using type = T;
};

/* kernel<<<grid, block, shared, stream>>>(given...): the arguments are converted and copied now. */
template <typename... P>
static inline void
emu_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
           typename emu_same<P>::type... given)
{
    int index = 0;

    (emu_check_argument(index++, given), ...);
    emu_queue_kernel((const void *)kernel, grid, block, shared, stream,
                     [kernel, arguments = std::tuple<P...>(given...)]() { std::apply(kernel, arguments); });
}

template <typename Kernel>
static inline cudaError_t
cudaFuncSetAttribute(Kernel *kernel, cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute((const void *)kernel, attribute, value);
}

#endif
