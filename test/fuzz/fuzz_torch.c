/*
 * fuzz_torch.c: any bytes as a file of weights, of whatever format they seem to be.
 *
 *    make fuzz && build/fuzz/fuzz_torch CORPUS test/golden/torch     (the golden files are the seeds)
 */
#include <stdlib.h>
#include <string.h>

#include "nn/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static volatile uint8_t sink; /* keeps reads from being left out */

static void
require(int condition)
{
    if (!condition)
        abort();
}

/* The shape is that of the elements, which can be read, and the name leads back to it. */
static void
check_tensor(const d2c_weights *weights, const d2c_st_tensor *t)
{
    const uint8_t *data = t->data;
    int64_t count = 1;
    size_t i;
    int d;

    require(t->ndim >= 0 && t->ndim <= D2C_SAFETENSORS_MAX_DIMS);
    for (d = 0; d < t->ndim; d++)
        count *= t->dim[d];
    require(count == t->count && (t->dtype == D2C_ST_OTHER || t->bytes >= (size_t)count));
    for (i = 0; i < t->bytes; i++)
        sink ^= data[i];
    require(d2c_weights_find(weights, t->name) == t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    d2c_weights *weights;
    d2c_error err;
    int i;

    if (d2c_weights_parse(&weights, "fuzz", bytes, length, &err) != D2C_OK) {
        require(weights == NULL && err.message[0] != '\0');
        return 0;
    }
    for (i = 0; i < d2c_weights_count(weights); i++)
        check_tensor(weights, d2c_weights_at(weights, i));
    d2c_weights_close(weights);
    return 0;
}
