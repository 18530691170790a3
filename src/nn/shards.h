/*
 * shards.h: the index of a model in several files, as Hugging Face's libraries write it.
 */
#ifndef D2C_NN_SHARDS_H
#define D2C_NN_SHARDS_H

#include <cjson/cJSON.h>

#include "base/status.h"

/* An index that has been read.  File names are checked: they lie in the index's folder. */
typedef struct d2c_shards {
    cJSON *json;
    const cJSON *map;  /* tensor: file */
    const char **file; /* [count], sorted, each once */
    int count;
} d2c_shards;

/* Whether the bytes can be an index, and no safetensors file. */
int d2c_shards_recognizes(const void *bytes, size_t length);

/* `path` is for messages.  On failure nothing is left to free. */
d2c_status d2c_shards_parse(d2c_shards *shards, const char *path, const void *bytes, size_t length,
                            d2c_error *err);
void d2c_shards_free(d2c_shards *shards);

/* The number of the file of that name, which is one of them. */
int d2c_shards_find(const d2c_shards *shards, const char *file);

/* path [size] = the file's path, which is in the folder of the index's. */
d2c_status d2c_shards_path(char *path, size_t size, const char *index, const char *file, d2c_error *err);

/* D2C_BAD_MODEL names the first file that is not there. */
d2c_status d2c_shards_check(const d2c_shards *shards, const char *index, d2c_error *err);

/* The files that the weights at `path` are made of: the shards of an index in their names' order, or the file itself.  The
 * list and its texts are one block, freed by the caller. */
d2c_status d2c_weight_files(char ***files, int *count, const char *path, d2c_error *err);

#endif
