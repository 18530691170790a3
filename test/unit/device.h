/* device.h: the backends of this machine, for tests that run on each of them. */
#ifndef D2C_TEST_DEVICE_H
#define D2C_TEST_DEVICE_H

#include "ops/ops.h"

/* Runs the test on every backend of this machine. */
#define ON_EVERY_DEVICE(test)                                                                                \
    do {                                                                                                     \
        test("reference");                                                                                   \
        if (device_available("cpu"))                                                                         \
            test("cpu");                                                                                     \
        if (device_available("cuda"))                                                                        \
            test("cuda");                                                                                    \
    } while (0)

static inline int
device_available(const char *device)
{
    d2c_backend *be;

    if (d2c_backend_open(&be, device, 1, NULL) != D2C_OK)
        return 0;
    d2c_backend_close(be);
    return 1;
}

static inline int
device_has_bf16(const char *device)
{
    d2c_backend *be;
    int has;

    if (d2c_backend_open(&be, device, 1, NULL) != D2C_OK)
        return 0;
    has = be->has_bf16;
    d2c_backend_close(be);
    return has;
}

#endif
