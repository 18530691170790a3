/*
 * fuzz_safetensors.c: any bytes through the reader, and what it accepts through the writer and back.
 *
 *    make fuzz && build/fuzz/fuzz_safetensors CORPUS test/golden/safetensors     (the golden file is the seed)
 */
#include <stdlib.h>
#include <string.h>

#include "base/safetensors.h"

#define MAX_ITEMS 64
#define WRITTEN "/tmp/d2c-fuzz.safetensors"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void
require(int condition)
{
    if (!condition)
        abort();
}

/* Every tensor lies in the file, behind the one before it, and is found by its name. */
static void
check_tensors(const d2c_safetensors *file, const uint8_t *bytes, size_t length)
{
    const uint8_t *end = NULL;
    int i;

    for (i = 0; i < d2c_safetensors_count(file); i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);
        const uint8_t *data = t->data;

        require(data >= bytes + 8 && data <= bytes + length && t->bytes <= (size_t)(bytes + length - data));
        require(end == NULL || data == end);
        require(d2c_safetensors_find(file, t->name) == t);
        end = data + t->bytes;
    }
    require(end == NULL || end == bytes + length);
}

static void
convert(const d2c_st_tensor *t)
{
    float *out = malloc(((size_t)t->count + 1) * sizeof *out);

    if (out != NULL && t->count < 1 << 20)
        d2c_st_tensor_to_f32(out, t, t->count, NULL);
    free(out);
}

static void
write_and_read(const d2c_safetensors *file)
{
    int count = d2c_safetensors_count(file), i;
    d2c_st_item items[MAX_ITEMS];
    d2c_safetensors *again;

    if (count > MAX_ITEMS)
        return;
    for (i = 0; i < count; i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);

        if (t->dtype == D2C_ST_OTHER)
            return;
        items[i] = (d2c_st_item){t->name, t->dtype, t->ndim, {0}, t->data};
        memcpy(items[i].dim, t->dim, sizeof t->dim);
    }
    require(d2c_safetensors_write(WRITTEN, items, count, NULL, 0, NULL) == D2C_OK);
    require(d2c_safetensors_open(&again, WRITTEN, NULL) == D2C_OK);
    require(d2c_safetensors_count(again) == count);
    for (i = 0; i < count; i++) {
        const d2c_st_tensor *a = d2c_safetensors_at(file, i), *b = d2c_safetensors_find(again, a->name);

        require(b != NULL && b->bytes == a->bytes && memcmp(b->data, a->data, a->bytes) == 0);
    }
    d2c_safetensors_close(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    d2c_safetensors *file;
    d2c_error err;
    int i;

    if (d2c_safetensors_parse(&file, "fuzz", bytes, length, &err) != D2C_OK) {
        require(file == NULL && err.message[0] != '\0');
        return 0;
    }
    check_tensors(file, bytes, length);
    for (i = 0; i < d2c_safetensors_count(file) && i < MAX_ITEMS; i++)
        convert(d2c_safetensors_at(file, i));
    if (length % 16 == 0) /* writing syncs, which is slow */
        write_and_read(file);
    d2c_safetensors_close(file);
    return 0;
}
