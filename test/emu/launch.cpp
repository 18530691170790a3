/* launch.cpp: what is queued on streams: kernels, copies, fills, and the faults that tests ask for. */
#include <string.h>

#include <map>
#include <vector>

#include "internal.h"

/* ---- faults ---------------------------------------------------------------------------------------------------- */

static long launches, failing_launch;
static cudaError_t failure;

void
emu_fail_launch(long n, int error)
{
    emu_entry entry;

    failing_launch = n > 0 ? launches + n : 0;
    failure = (cudaError_t)error;
}

long
emu_launches(void)
{
    emu_entry entry;

    return launches;
}

/* Errors that a context does not survive are met when the kernel runs. */
static bool
is_fatal(cudaError_t error)
{
    return error == cudaErrorECCUncorrectable ||
           (error >= cudaErrorIllegalAddress && error <= cudaErrorLaunchFailure &&
            error != cudaErrorLaunchOutOfResources);
}

static cudaError_t
queue_launch(cudaStream_t stream, std::function<void()> run)
{
    if (++launches != failing_launch)
        return emu_queue(stream, std::move(run));
    if (!is_fatal(failure))
        return failure;
    return emu_queue(stream, [error = failure]() { emu_lose(error); });
}

/* ---- kernels --------------------------------------------------------------------------------------------------- */

static std::map<const void *, int> &shared_limits = *new std::map<const void *, int>;

cudaError_t
cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, 0);
    emu_entry entry;

    if (error != cudaSuccess)
        return error;
    if (kernel == NULL)
        return emu_result(cudaErrorInvalidDeviceFunction);
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
        return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (size_t)value > properties.sharedMemPerBlockOptin)
        return emu_result(cudaErrorInvalidValue);
    shared_limits[kernel] = value;
    return cudaSuccess;
}

static cudaError_t
check_shape(dim3 grid, dim3 block)
{
    unsigned long long threads = (unsigned long long)block.x * block.y * block.z;

    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 ||
        grid.z > 65535 || block.z > 64 || threads == 0 || threads > EMU_MOST_THREADS) {
        emu_complain("a grid of %u x %u x %u blocks of %u x %u x %u threads cannot be launched", grid.x,
                     grid.y, grid.z, block.x, block.y, block.z);
        return cudaErrorInvalidConfiguration;
    }
    if (threads % 32 == 0)
        return cudaSuccess;
    emu_complain("a block of %llu threads ends within a warp", threads);
    return cudaErrorInvalidConfiguration;
}

static cudaError_t
check_shared(const void *kernel, size_t shared)
{
    auto limit = shared_limits.find(kernel);
    size_t most = limit != shared_limits.end() ? (size_t)limit->second : EMU_SHARED_DEFAULT;

    if (shared <= most)
        return cudaSuccess;
    emu_complain("a kernel wants %zu bytes of dynamic shared memory; cudaFuncSetAttribute allowed %zu",
                 shared, most);
    return cudaErrorInvalidValue;
}

void
emu_queue_kernel(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                 std::function<void()> thread)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    if (error == cudaSuccess && kernel == NULL)
        error = cudaErrorInvalidDeviceFunction;
    if (error == cudaSuccess)
        error = check_shape(grid, block);
    if (error == cudaSuccess)
        error = check_shared(kernel, shared);
    if (error == cudaSuccess)
        error = queue_launch(stream, [thread = std::move(thread), grid, block, shared]() {
            emu_run_grid(thread, grid, block, shared);
        });
    emu_result(error);
}

cudaError_t
emu_enqueue(cudaStream_t stream, void (*run)(const void *argument), const void *argument, size_t bytes)
{
    emu_entry entry;
    std::vector<max_align_t> copy((bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t));

    if (bytes > 0)
        memcpy(copy.data(), argument, bytes);
    return emu_result(queue_launch(stream, [run, copy = std::move(copy)]() { run(copy.data()); }));
}

/* ---- copies and fills ------------------------------------------------------------------------------------------ */

/* Whether ranges lie where the direction says. */
static cudaError_t
check_copy(emu_place to, emu_place from, enum cudaMemcpyKind kind)
{
    bool to_device = to == EMU_DEVICE, from_device = from == EMU_DEVICE;

    if (to == EMU_NOWHERE || from == EMU_NOWHERE) {
        emu_complain("a copy leaves its block of memory");
        return cudaErrorInvalidValue;
    }
    if (kind == cudaMemcpyDefault)
        return cudaSuccess;
    if (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
        from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice))
        return cudaSuccess;
    emu_complain("a copy's direction is not that of its addresses");
    return cudaErrorInvalidValue;
}

static std::function<void()>
copying(void *to, const void *from, size_t bytes)
{
    return [to, from, bytes]() {
        emu_open_memory open;
        memmove(to, from, bytes);
    };
}

/* The same from pageable memory, which the host may change once the call has returned. */
static std::function<void()>
copying_now(void *to, const void *from, size_t bytes)
{
    std::vector<char> copy((const char *)from, (const char *)from + bytes);

    return [to, copy = std::move(copy)]() {
        emu_open_memory open;
        memcpy(to, copy.data(), copy.size());
    };
}

static cudaError_t
queue_copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    emu_place to_place = emu_place_of(to, bytes), from_place = emu_place_of(from, bytes);
    cudaError_t error = emu_usable();

    if (error != cudaSuccess || bytes == 0)
        return error;
    error = check_copy(to_place, from_place, kind);
    if (error != cudaSuccess)
        return error;
    if (emu_is_capturing(stream) && (to_place == EMU_PAGEABLE || from_place == EMU_PAGEABLE))
        return emu_spoil_capture(stream);
    error = emu_queue(stream,
                      from_place == EMU_PAGEABLE ? copying_now(to, from, bytes) : copying(to, from, bytes));
    if (error == cudaSuccess && to_place == EMU_PAGEABLE)
        error = emu_drain(stream);
    return error;
}

cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    emu_entry entry;

    return emu_result(queue_copy(to, from, bytes, kind, stream));
}

cudaError_t
cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    emu_entry entry;
    cudaError_t error = emu_forbidden_in_capture();

    if (error == cudaSuccess)
        error = queue_copy(to, from, bytes, kind, NULL);
    return emu_result(error != cudaSuccess ? error : emu_drain(NULL));
}

static cudaError_t
queue_fill(void *block, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0)
        return emu_usable();
    if (emu_usable() == cudaSuccess && emu_place_of(block, bytes) != EMU_DEVICE) {
        emu_complain("a fill leaves its block of memory");
        return cudaErrorInvalidValue;
    }
    return emu_queue(stream, [block, value, bytes]() {
        emu_open_memory open;
        memset(block, value, bytes);
    });
}

cudaError_t
cudaMemsetAsync(void *block, int value, size_t bytes, cudaStream_t stream)
{
    emu_entry entry;

    return emu_result(queue_fill(block, value, bytes, stream));
}

cudaError_t
cudaMemset(void *block, int value, size_t bytes)
{
    emu_entry entry;
    cudaError_t error = emu_forbidden_in_capture();

    if (error == cudaSuccess)
        error = queue_fill(block, value, bytes, NULL);
    return emu_result(error != cudaSuccess ? error : emu_drain(NULL));
}
