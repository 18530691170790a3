/* weights.c: tensors by name (weights.h). */
#include "nn/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct d2c_weights {
    d2c_safetensors *owned; /* NULL when borrowed */
    const d2c_safetensors *file;
};

static d2c_status
make(d2c_weights **weights, d2c_safetensors *owned, const d2c_safetensors *file, d2c_error *err)
{
    *weights = calloc(1, sizeof **weights);
    if (*weights == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    (*weights)->owned = owned;
    (*weights)->file = file;
    return D2C_OK;
}

d2c_status
d2c_weights_open(d2c_weights **weights, const char *path, d2c_error *err)
{
    d2c_safetensors *file;
    d2c_status status;

    *weights = NULL;
    D2C_TRY(d2c_safetensors_open(&file, path, err));
    status = make(weights, file, file, err);
    if (status != D2C_OK)
        d2c_safetensors_close(file);
    return status;
}

d2c_status
d2c_weights_borrow(d2c_weights **weights, const d2c_safetensors *file, d2c_error *err)
{
    return make(weights, NULL, file, err);
}

void
d2c_weights_close(d2c_weights *weights)
{
    if (weights == NULL)
        return;
    if (weights->owned != NULL)
        d2c_safetensors_close(weights->owned);
    free(weights);
}

int
d2c_weights_count(const d2c_weights *weights)
{
    return d2c_safetensors_count(weights->file);
}

const d2c_st_tensor *
d2c_weights_at(const d2c_weights *weights, int index)
{
    return d2c_safetensors_at(weights->file, index);
}

const d2c_st_tensor *
d2c_weights_find(const d2c_weights *weights, const char *name)
{
    return d2c_safetensors_find(weights->file, name);
}

const char *
d2c_weights_metadata(const d2c_weights *weights, const char *key)
{
    return d2c_safetensors_metadata(weights->file, key);
}

int
d2c_weights_has(const d2c_weights *weights, const char *prefix, const char *name)
{
    char full[256];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    return d2c_weights_find(weights, full) != NULL;
}

const char *
d2c_weights_prefix(const d2c_weights *weights, const char *const *prefixes, const char *name)
{
    for (; *prefixes != NULL; prefixes++)
        if (d2c_weights_has(weights, *prefixes, name))
            return *prefixes;
    return NULL;
}

int64_t
d2c_weights_parameters(const d2c_weights *weights, const char *prefix)
{
    int64_t sum = 0;
    int i;

    for (i = 0; i < d2c_weights_count(weights); i++) {
        const d2c_st_tensor *t = d2c_weights_at(weights, i);
        int is_float = t->dtype == D2C_ST_F32 || t->dtype == D2C_ST_F16 || t->dtype == D2C_ST_BF16 ||
                       t->dtype == D2C_ST_F64;

        if (is_float && strncmp(t->name, prefix, strlen(prefix)) == 0)
            sum += t->count;
    }
    return sum;
}
