/*
 * memory.cpp: device memory and pinned memory.
 *
 * Device memory is one mapping that nobody may touch but while work runs.  Blocks lie apart; what is between them, and
 * what was freed, is poisoned for ASan.  Freed addresses are given again only after many others have been freed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <deque>
#include <map>

#include <sanitizer/asan_interface.h>

#include "internal.h"

#define RESERVED ((size_t)256 << 30) /* addresses, not memory */
#define PAGE ((size_t)4096)
#define GAP ((size_t)64 << 10)
#define QUARANTINE 64 /* freed blocks */

typedef std::map<char *, size_t> ranges; /* start -> bytes */

typedef struct device_memory {
    char *base;
    char *end; /* of what was ever used */
    size_t size, used;
    int open;
    ranges blocks; /* bytes asked for */
    ranges idle;   /* addresses to be used again */
    std::deque<std::pair<char *, size_t>> quarantine;
    ranges pinned;
} device_memory;

static device_memory &memory = *new device_memory();

/* The mapping, made at first use. */
static void
reserve(void)
{
    void *base;

    if (memory.base != NULL)
        return;
    base = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        perror("emulator: no addresses for device memory");
        abort();
    }
    madvise(base, RESERVED, MADV_HUGEPAGE); /* opening and closing large blocks takes a tenth of the time */
    memory.base = memory.end = (char *)base;
}

size_t
emu_memory_size(void)
{
    if (memory.size == 0)
        memory.size = (size_t)emu_setting("EMU_MEMORY", 4L << 30);
    return memory.size;
}

void
emu_set_memory(size_t bytes)
{
    emu_entry entry;

    memory.size = bytes;
}

static void
protect(int protection)
{
    if (memory.end > memory.base &&
        mprotect(memory.base, (size_t)(memory.end - memory.base), protection) != 0) {
        perror("emulator: mprotect");
        abort();
    }
}

emu_open_memory::emu_open_memory()
{
    if (memory.open++ == 0)
        protect(PROT_READ | PROT_WRITE);
}

emu_open_memory::~emu_open_memory()
{
    if (--memory.open == 0)
        protect(PROT_NONE);
}

/* ---- where an address lies ------------------------------------------------------------------------------------- */

/* The range that holds an address, or NULL. */
static const ranges::value_type *
find_range(const ranges &all, const void *address)
{
    auto next = all.upper_bound((char *)address);

    if (next == all.begin() || (char *)address >= std::prev(next)->first + std::prev(next)->second)
        return NULL;
    return &*std::prev(next);
}

static bool
is_device(const void *address)
{
    return memory.base != NULL && (char *)address >= memory.base && (char *)address < memory.base + RESERVED;
}

emu_place
emu_place_of(const void *start, size_t bytes)
{
    const ranges::value_type *range = find_range(memory.pinned, start);
    emu_place place = EMU_PINNED;

    if (range == NULL && is_device(start)) {
        range = find_range(memory.blocks, start);
        place = EMU_DEVICE;
        if (range == NULL)
            return EMU_NOWHERE;
    }
    if (range == NULL)
        return start != NULL ? EMU_PAGEABLE : EMU_NOWHERE;
    return (size_t)((char *)start - range->first) + bytes <= range->second ? place : EMU_NOWHERE;
}

void
emu_check_pointer(int index, uintptr_t address)
{
    const void *pointer = (const void *)address;
    emu_entry entry;

    if (pointer == NULL || is_device(pointer) || find_range(memory.pinned, pointer) != NULL)
        return;
    emu_complain("argument %d of a kernel points to memory of the host", index);
    emu_lose(cudaErrorIllegalAddress);
}

/* ---- device memory --------------------------------------------------------------------------------------------- */

/* Addresses that a block takes, with the gap behind it. */
static size_t
span_of(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE + GAP;
}

static char *
take_addresses(size_t span)
{
    char *start;

    for (auto range = memory.idle.begin(); range != memory.idle.end(); ++range) {
        size_t left = range->second - span;

        start = range->first;
        if (range->second < span)
            continue;
        memory.idle.erase(range);
        if (left > 0)
            memory.idle[start + span] = left;
        return start;
    }
    start = memory.end;
    if (span > (size_t)(memory.base + RESERVED - start))
        return NULL;
    memory.end += span;
    return start;
}

/* Joins what is next to it. */
static void
give_addresses(char *start, size_t span)
{
    auto next = memory.idle.lower_bound(start);

    if (next != memory.idle.end() && next->first == start + span) {
        span += next->second;
        next = memory.idle.erase(next);
    }
    if (next != memory.idle.begin() && std::prev(next)->first + std::prev(next)->second == start)
        std::prev(next)->second += span;
    else
        memory.idle[start] = span;
}

/* Memory that nobody wrote reads as NaN, in every float type. */
static void *
make_block(size_t bytes)
{
    size_t span = span_of(bytes);
    char *start;

    reserve();
    start = take_addresses(span);
    if (start == NULL)
        return NULL;
    memory.blocks[start] = bytes;
    memory.used += bytes;
    ASAN_UNPOISON_MEMORY_REGION(start, bytes);
    ASAN_POISON_MEMORY_REGION(start + bytes, span - bytes);
    emu_open_memory open;
    memset(start, 0xFF, bytes);
    return start;
}

/* How a call that makes a block begins: there is none yet, and it may fail. */
static cudaError_t
begin_block(void **block)
{
    cudaError_t error = emu_usable();

    *block = NULL;
    return error == cudaSuccess ? emu_forbidden_in_capture() : error;
}

cudaError_t
cudaMalloc(void **block, size_t bytes)
{
    emu_entry entry;
    cudaError_t error = begin_block(block);

    if (error != cudaSuccess || bytes == 0)
        return emu_result(error);
    if (bytes > emu_memory_size() || memory.used > emu_memory_size() - bytes)
        return emu_result(cudaErrorMemoryAllocation);
    *block = make_block(bytes);
    return emu_result(*block != NULL ? cudaSuccess : cudaErrorMemoryAllocation);
}

/* The memory goes back to the system at once, the addresses later. */
static void
free_block(ranges::iterator block)
{
    char *start = block->first;
    size_t bytes = block->second, span = span_of(bytes);

    memory.blocks.erase(block);
    memory.used -= bytes;
    madvise(start, span - GAP, MADV_DONTNEED);
    ASAN_POISON_MEMORY_REGION(start, span);
    memory.quarantine.push_back({start, span});
    if (memory.quarantine.size() > QUARANTINE) {
        give_addresses(memory.quarantine.front().first, memory.quarantine.front().second);
        memory.quarantine.pop_front();
    }
}

cudaError_t
cudaFree(void *block)
{
    emu_entry entry;
    cudaError_t error = emu_forbidden_in_capture();
    ranges::iterator found = memory.blocks.find((char *)block);

    if (error != cudaSuccess || block == NULL)
        return emu_result(error);
    if (found == memory.blocks.end()) {
        emu_complain("cudaFree of %p, which is no block of device memory", block);
        return emu_result(cudaErrorInvalidValue);
    }
    error = emu_drain_all();
    free_block(found);
    return emu_result(error);
}

cudaError_t
cudaMemGetInfo(size_t *available, size_t *total)
{
    emu_entry entry;

    *total = emu_memory_size();
    *available = memory.used < *total ? *total - memory.used : 0;
    return emu_result(emu_usable());
}

/* ---- pinned memory --------------------------------------------------------------------------------------------- */

cudaError_t
cudaMallocHost(void **block, size_t bytes)
{
    emu_entry entry;
    cudaError_t error = begin_block(block);

    if (error != cudaSuccess || bytes == 0)
        return emu_result(error);
    if (posix_memalign(block, PAGE, bytes) != 0)
        return emu_result(cudaErrorMemoryAllocation);
    memset(*block, 0xFF, bytes);
    memory.pinned[(char *)*block] = bytes;
    return cudaSuccess;
}

cudaError_t
cudaFreeHost(void *block)
{
    emu_entry entry;
    cudaError_t error = emu_forbidden_in_capture();

    if (error != cudaSuccess || block == NULL)
        return emu_result(error);
    if (memory.pinned.count((char *)block) == 0) {
        emu_complain("cudaFreeHost of %p, which is no block of pinned memory", block);
        return emu_result(cudaErrorInvalidValue);
    }
    error = emu_drain_all();
    memory.pinned.erase((char *)block);
    free(block);
    return emu_result(error);
}
