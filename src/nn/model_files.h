/*
 * model_files.h: where a model's files are, and what they hold.
 *
 * NAME is NAME.safetensors, or the folder NAME/ in the Hugging Face layout (config.json, model.safetensors, tokenizer
 * files).  What the files themselves do not tell stands in a description, a JSON object in NAME.json beside a single
 * file or in NAME/d2c.json; the families say which keys they read.
 */
#ifndef D2C_NN_MODEL_FILES_H
#define D2C_NN_MODEL_FILES_H

#include <cjson/cJSON.h>

#include "nn/weights.h"

#define D2C_MODEL_PATH 4096

typedef struct d2c_model_files {
    char name[128];
    char path[D2C_MODEL_PATH];   /* of the weights */
    char folder[D2C_MODEL_PATH]; /* "" for a single file */
    d2c_weights *weights;
    cJSON *config;      /* FOLDER/config.json; NULL when there is none */
    cJSON *description; /* NULL when there is none */
} d2c_model_files;

/* D2C_INVALID_ARGUMENT when the name may not name a model. */
d2c_status d2c_model_name_check(const char *name, d2c_error *err);

/* Finds a model by its name, which is checked first, and fills name, path and folder. */
d2c_status d2c_model_files_find(d2c_model_files *files, const char *directory, const char *name,
                                d2c_error *err);

/* Reads what was found. */
d2c_status d2c_model_files_open(d2c_model_files *files, d2c_error *err);
void d2c_model_files_close(d2c_model_files *files);

/* The names in the directory that may be models', sorted; malloc'd. */
typedef char d2c_model_name[sizeof((d2c_model_files *)0)->name];
d2c_status d2c_model_names(d2c_model_name **names, int *count, const char *directory, d2c_error *err);

/* A text of the description, or NULL. */
const char *d2c_model_files_say(const d2c_model_files *files, const char *key);

#endif
