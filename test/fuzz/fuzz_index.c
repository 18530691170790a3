/*
 * fuzz_index.c: any bytes as the index of a model in several files.
 *
 *    make fuzz && build/fuzz/fuzz_index CORPUS test/golden/index/seeds
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nn/shards.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void
require(int condition)
{
    if (!condition)
        abort();
}

/* Every file is in the folder, listed once, and found by its name. */
static void
check_files(const d2c_shards *shards)
{
    char path[512];
    int i;

    require(shards->count > 0);
    for (i = 0; i < shards->count; i++) {
        const char *file = shards->file[i];

        require(file[0] != '\0' && file[0] != '.' && strpbrk(file, "/\\") == NULL);
        require(i == 0 || strcmp(shards->file[i - 1], file) < 0);
        require(d2c_shards_find(shards, file) == i);
        require(d2c_shards_path(path, sizeof path, "folder/index.json", file, NULL) == D2C_OK);
        require(strncmp(path, "folder/", 7) == 0 && strcmp(path + 7, file) == 0);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    d2c_shards shards;
    d2c_error err;

    d2c_shards_recognizes(bytes, length);
    if (d2c_shards_parse(&shards, "fuzz", bytes, length, &err) != D2C_OK) {
        require(shards.json == NULL && shards.file == NULL && err.message[0] != '\0');
        return 0;
    }
    check_files(&shards);
    d2c_shards_free(&shards);
    return 0;
}
