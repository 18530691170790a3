/* device.cpp: the emulated device, errors as the run-time library keeps them, and the emulator's settings. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static std::mutex &mutex = *new std::mutex;
static thread_local cudaError_t newest;
static cudaError_t lost;

emu_entry::emu_entry() : lock(mutex)
{
}

void
emu_complain(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fprintf(stderr, "emulator: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
}

/* ---- settings -------------------------------------------------------------------------------------------------- */

long
emu_setting(const char *name, long otherwise)
{
    const char *value = getenv(name);

    return value != NULL ? strtol(value, NULL, 0) : otherwise;
}

/* Seeds that are next to each other start far apart; 0 stays 0. */
static uint64_t
spread(unsigned long seed)
{
    return seed * 0x9E3779B97F4A7C15u;
}

static uint64_t random_state = spread((unsigned long)emu_setting("EMU_ORDER", 0));

bool
emu_permuted(void)
{
    return random_state != 0;
}

/* xorshift64*: what it draws is not more than an order to try. */
unsigned
emu_below(unsigned n)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (unsigned)((random_state * 0x2545F4914F6CDD1Du >> 32) * n >> 32);
}

void
emu_set_order(unsigned long seed)
{
    emu_entry entry;

    random_state = spread(seed);
}

/* ---- errors ---------------------------------------------------------------------------------------------------- */

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
#define ERROR(error, text)                                                                                   \
    {                                                                                                        \
        error, #error, text                                                                                  \
    }
    ERROR(cudaSuccess, "no error"),
    ERROR(cudaErrorInvalidValue, "invalid argument"),
    ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered"),
    ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    ERROR(cudaErrorNotReady, "device not ready"),
    ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    ERROR(cudaErrorNotSupported, "operation not supported"),
    ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    ERROR(cudaErrorStreamCaptureWrongThread,
          "attempt to terminate a thread-local capture sequence from another thread"),
#undef ERROR
};

const char *
cudaGetErrorName(cudaError_t error)
{
    for (const auto &known : errors)
        if (known.error == error)
            return known.name;
    return "unrecognized error code";
}

const char *
cudaGetErrorString(cudaError_t error)
{
    for (const auto &known : errors)
        if (known.error == error)
            return known.text;
    return "unrecognized error code";
}

cudaError_t
emu_result(cudaError_t error)
{
    if (error != cudaSuccess)
        newest = error;
    return error;
}

void
emu_lose(cudaError_t error)
{
    if (lost == cudaSuccess)
        lost = error;
}

bool
emu_lost(void)
{
    return lost != cudaSuccess;
}

#define OLD_DRIVER 12040

/* How many there are: EMU_DEVICES, -1 for a machine without a driver, -2 for one whose driver is too old. */
static long
devices(void)
{
    static const long count = emu_setting("EMU_DEVICES", 1);

    return count;
}

cudaError_t
emu_usable(void)
{
    if (devices() < 0)
        return cudaErrorInsufficientDriver;
    if (devices() == 0)
        return cudaErrorNoDevice;
    return lost;
}

cudaError_t
cudaPeekAtLastError(void)
{
    emu_entry entry;

    return lost != cudaSuccess ? lost : newest;
}

cudaError_t
cudaGetLastError(void)
{
    emu_entry entry;
    cudaError_t error = lost != cudaSuccess ? lost : newest;

    newest = cudaSuccess;
    return error;
}

/* ---- devices --------------------------------------------------------------------------------------------------- */

static thread_local int current;

cudaError_t
cudaGetDeviceCount(int *count)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    *count = devices() > 0 ? (int)devices() : 0;
    return emu_result(error);
}

cudaError_t
cudaGetDevice(int *device)
{
    emu_entry entry;

    *device = current;
    return emu_result(emu_usable());
}

static cudaError_t
check_device(int device)
{
    cudaError_t error = emu_usable();

    if (error == cudaSuccess && (device < 0 || device >= devices()))
        error = cudaErrorInvalidDevice;
    return error;
}

cudaError_t
cudaSetDevice(int device)
{
    emu_entry entry;
    cudaError_t error = check_device(device);

    if (error == cudaSuccess)
        current = device;
    return emu_result(error);
}

/* How a thread waits makes no difference here. */
cudaError_t
cudaInitDevice(int device, unsigned, unsigned)
{
    emu_entry entry;

    return emu_result(check_device(device));
}

/* An H100's numbers, but for the name and the memory; EMU_CAPABILITY is 80, 90 or 100. */
cudaError_t
cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    emu_entry entry;
    cudaError_t error = check_device(device);
    int capability = (int)emu_setting("EMU_CAPABILITY", 90);
    size_t kept = 1024;

    memset(properties, 0, sizeof *properties);
    if (error != cudaSuccess)
        return emu_result(error);
    strcpy(properties->name, "emulated");
    properties->totalGlobalMem = emu_memory_size();
    properties->major = capability / 10;
    properties->minor = capability % 10;
    properties->sharedMemPerBlock = EMU_SHARED_DEFAULT;
    properties->sharedMemPerMultiprocessor = (size_t)(capability < 90 ? 164 : 228) << 10;
    properties->sharedMemPerBlockOptin = properties->sharedMemPerMultiprocessor - kept;
    properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = EMU_MOST_THREADS;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 2147483647;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->multiProcessorCount = 132;
    properties->l2CacheSize = 50 << 20;
    return cudaSuccess;
}

cudaError_t
cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, device);

    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = properties.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)properties.sharedMemPerBlock;
        break;
    case cudaDevAttrWarpSize:
        *value = properties.warpSize;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = properties.multiProcessorCount;
        break;
    case cudaDevAttrL2CacheSize:
        *value = properties.l2CacheSize;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = properties.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = properties.minor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)properties.sharedMemPerBlockOptin;
        break;
    default:
        return emu_result(cudaErrorInvalidValue);
    }
    return error;
}

cudaError_t
cudaDriverGetVersion(int *version)
{
    *version = devices() == -1 ? 0 : devices() < 0 ? OLD_DRIVER : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t
cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
