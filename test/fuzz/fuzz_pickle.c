/*
 * fuzz_pickle.c: any bytes as the pickle in an otherwise whole archive of torch.save, whose checksum would not let a changed
 * one through.
 *
 *    make fuzz && build/fuzz/fuzz_pickle CORPUS test/golden/pickle/seeds
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "nn/pickle.h"
#include "nn/torch_file.h"

#define STORAGES 4
#define STORAGE 60 /* bytes: the largest */
#define MAX_PICKLE (1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void
require(int condition)
{
    if (!condition)
        abort();
}

typedef struct archive {
    uint8_t bytes[MAX_PICKLE + 8192];
    uint8_t directory[1024];
    size_t length, directory_length;
    int entries;
} archive;

static void
put(uint8_t **at, uint64_t value, int bytes)
{
    for (; bytes > 0; bytes--, value >>= 8)
        *(*at)++ = (uint8_t)value;
}

/* What local and central header share: from the version to the extra field's length. */
static void
put_common(uint8_t **at, uint32_t crc, size_t size, size_t name)
{
    put(at, 0, 10); /* version, flags, method, time, date */
    put(at, crc, 4);
    put(at, size, 4);
    put(at, size, 4);
    put(at, name, 2);
    put(at, 0, 2);
}

static void
add_entry(archive *a, const char *name, const void *bytes, size_t size)
{
    uint32_t crc = (uint32_t)crc32_z(0, bytes, size);
    uint8_t *at = a->bytes + a->length, *central = a->directory + a->directory_length;
    size_t offset = a->length;

    put(&at, 0x04034b50, 4);
    put_common(&at, crc, size, strlen(name));
    memcpy(at, name, strlen(name));
    memcpy(at + strlen(name), bytes, size);
    a->length = (size_t)(at - a->bytes) + strlen(name) + size;
    put(&central, 0x02014b50, 4);
    put(&central, 0, 2);
    put_common(&central, crc, size, strlen(name));
    put(&central, 0, 10); /* comment, disk, attributes */
    put(&central, 0, 2);
    put(&central, offset, 4);
    memcpy(central, name, strlen(name));
    a->directory_length = (size_t)(central - a->directory) + strlen(name);
    a->entries++;
}

static void
finish(archive *a)
{
    uint8_t *at = a->bytes + a->length;

    memcpy(at, a->directory, a->directory_length);
    at += a->directory_length;
    put(&at, 0x06054b50, 4);
    put(&at, 0, 4);
    put(&at, (uint64_t)a->entries, 2);
    put(&at, (uint64_t)a->entries, 2);
    put(&at, a->directory_length, 4);
    put(&at, a->length, 4);
    put(&at, 0, 2);
    a->length = (size_t)(at - a->bytes);
}

/* The storages are those of the seed "flat". */
static void
make_archive(archive *a, const uint8_t *bytes, size_t length)
{
    static const uint8_t storage[STORAGE];
    static const size_t sizes[STORAGES] = {STORAGE, 20, 40, 8};
    char name[16] = "a/data/0";
    int i;

    a->length = a->directory_length = 0;
    a->entries = 0;
    add_entry(a, "a/data.pkl", bytes, length);
    for (i = 0; i < STORAGES; i++, name[7]++)
        add_entry(a, name, storage, sizes[i]);
    finish(a);
}

static void
check_pickle(const uint8_t *bytes, size_t length)
{
    d2c_pickle *pickle;
    size_t used = 0;

    if (d2c_pickle_read(&pickle, &used, bytes, length, NULL) == D2C_OK)
        require(used > 0 && used <= length && d2c_pickle_root(pickle) != NULL);
    else
        require(pickle == NULL);
    d2c_pickle_free(pickle);
}

static volatile uint8_t sink; /* keeps reads from being left out */

static void
read_bytes(const d2c_st_tensor *t)
{
    const uint8_t *data = t->data;
    size_t i;

    for (i = 0; i < t->bytes; i++)
        sink ^= data[i];
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static archive a;
    d2c_torch_file *file;
    d2c_error err;
    int i;

    if (length > MAX_PICKLE)
        return 0;
    check_pickle(bytes, length);
    make_archive(&a, bytes, length);
    if (d2c_torch_parse(&file, "fuzz", a.bytes, a.length, &err) != D2C_OK) {
        require(file == NULL && err.message[0] != '\0');
        return 0;
    }
    for (i = 0; i < d2c_torch_count(file); i++)
        read_bytes(d2c_torch_at(file, i));
    d2c_torch_close(file);
    return 0;
}
