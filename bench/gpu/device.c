/*
 * device.c: whether a device can be used, and what it is; the reason goes to stderr when not.
 *
 *   device [cuda]
 */
#include <stdio.h>

#include "ops/ops.h"

int
main(int argc, char **argv)
{
    size_t available = 0, total = 0;
    d2c_backend *be;
    d2c_error err;

    if (d2c_backend_open(&be, argc > 1 ? argv[1] : "cuda", 1, &err) != D2C_OK ||
        (d2c_memory_use(be, &available, &total) != D2C_OK && d2c_backend_error(be, &err) != D2C_OK)) {
        fprintf(stderr, "%s. %s %s\n", err.message, err.detail, err.hint);
        return 1;
    }
    printf("%s, %s; %.1f of %.1f GiB free\n", be->ops->name, be->arithmetic, (double)available / (1 << 30),
           (double)total / (1 << 30));
    d2c_backend_close(be);
    return 0;
}
