/* backend.c: opening a backend by its device's name. */
#include "ops/backend.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/library.h"
#include "ops/dispatch.h"

/* What libd2c_cuda.so exports. */
#define CUDA_LIBRARY "libd2c_cuda.so"
#define CUDA_SYMBOL "d2c_cuda_backend"
typedef d2c_status (*cuda_backend_open)(d2c_backend **be, int device, d2c_error *err);

/* "cuda" or "cuda:n", n at most 999; -1 for anything else. */
static int
cuda_device(const char *device)
{
    char *end;
    long n;

    if (strcmp(device, "cuda") == 0)
        return 0;
    if (strncmp(device, "cuda:", 5) != 0 || device[5] < '0' || device[5] > '9')
        return -1;
    n = strtol(device + 5, &end, 10);
    return *end == '\0' && n <= 999 ? (int)n : -1;
}

/* The table's beginning is the same in every version; nothing else of another one can be trusted. */
static d2c_status
check_version(d2c_backend **be, const char *path, d2c_error *err)
{
    int version = (*be)->ops->version;

    if (version == D2C_OPS_VERSION)
        return D2C_OK;
    (*be)->ops->close(*be);
    *be = NULL;
    d2c_fail(err, D2C_UNSUPPORTED, "\"%s\" belongs to another version of d2c", path);
    d2c_detail(err, "Its table has version %d, this program's has %d.", version, D2C_OPS_VERSION);
    d2c_hint(err, "Install program and library from one build.");
    return D2C_UNSUPPORTED;
}

/* The library stays loaded: the CUDA run time does not survive being unloaded. */
static d2c_status
open_cuda(d2c_backend **be, int device, d2c_error *err)
{
    char path[PATH_MAX];
    void *library;
    cuda_backend_open open;

    D2C_TRY(d2c_library_path(path, CUDA_LIBRARY, err));
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        d2c_fail(err, D2C_UNSUPPORTED, "device \"cuda\" is not available");
        d2c_detail(err, "%s", dlerror());
        d2c_hint(err, "Build d2c with the CUDA Toolkit, or use the device \"cpu\".");
        return D2C_UNSUPPORTED;
    }
    *(void **)&open = dlsym(library, CUDA_SYMBOL);
    if (open == NULL)
        return d2c_fail(err, D2C_UNSUPPORTED, "\"%s\" is not a backend of d2c", path);
    D2C_TRY(open(be, device, err));
    return check_version(be, path, err);
}

d2c_status
d2c_backend_open(d2c_backend **be, const char *device, int threads, d2c_error *err)
{
    int cuda = cuda_device(device);

    *be = NULL;
    if (threads < 1) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "number of threads must be at least 1");
        d2c_detail(err, "It is %d.", threads);
        return D2C_INVALID_ARGUMENT;
    }
    if (strcmp(device, "cpu") == 0)
        return d2c_cpu_backend(be, threads, err);
    if (strcmp(device, "reference") == 0)
        return d2c_reference_backend(be, threads, err);
    if (cuda >= 0)
        return open_cuda(be, cuda, err);
    d2c_fail(err, D2C_INVALID_ARGUMENT, "device \"%.64s\" does not exist", device);
    d2c_hint(err, "Devices are \"cpu\", \"reference\", \"cuda\" and \"cuda:n\".");
    return D2C_INVALID_ARGUMENT;
}

d2c_status
d2c_backend_choose(d2c_backend **be, const char **device, char *notice, size_t size, const char *name,
                   const char *gpu, int threads, d2c_error *err)
{
    d2c_error why;

    notice[0] = '\0';
    *device = name;
    if (strcmp(name, "auto") != 0)
        return d2c_backend_open(be, name, threads, err);
    *device = gpu;
    if (d2c_backend_open(be, *device, threads, &why) == D2C_OK)
        return D2C_OK;
    *device = "cpu";
    snprintf(notice, size, "computing on the CPU: %s%s%s", why.message, why.detail[0] != '\0' ? ": " : "",
             why.detail);
    return d2c_backend_open(be, *device, threads, err);
}

void *
d2c_backend_symbol(const char *name)
{
    char path[PATH_MAX];
    void *library = NULL;

    if (d2c_library_path(path, CUDA_LIBRARY, NULL) == D2C_OK)
        library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    return library != NULL ? dlsym(library, name) : NULL;
}

int
d2c_backend_is_asynchronous(const d2c_backend *be)
{
    return D2C_HAS(be, event_record);
}

int
d2c_backend_is_host(const d2c_backend *be)
{
    return be->ops->alloc == d2c_host_alloc;
}

void
d2c_backend_close(d2c_backend *be)
{
    if (be != NULL)
        be->ops->close(be);
}

d2c_status
d2c_backend_error(const d2c_backend *be, d2c_error *err)
{
    if (err != NULL)
        *err = be->error;
    return be->error.status;
}
