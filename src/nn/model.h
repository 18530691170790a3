/*
 * model.h: models by name, from one directory.
 *
 * NAME is NAME.safetensors or the folder NAME/ in the Hugging Face layout (config.json, model.safetensors, tokenizer
 * files).  A name matches [A-Za-z0-9][A-Za-z0-9._-]*, so it never leaves the directory.  The kind is read from config
 * and tensor names.
 */
#ifndef D2C_NN_MODEL_H
#define D2C_NN_MODEL_H

#include "nn/bert.h"
#include "nn/sit.h"

typedef enum d2c_model_kind { D2C_MODEL_UNKNOWN, D2C_MODEL_SIT, D2C_MODEL_BERT } d2c_model_kind;

typedef struct d2c_model_info {
    char name[128];
    d2c_model_kind kind;
    int64_t parameters;
    int height, width, channels; /* of the images a SiT takes; 0 otherwise */
    int classes;                 /* 0 for encoders */
    int embedding;               /* width of what it embeds to: hidden size */
    char sha256[65];             /* of the weights' file, lower-case hex */
    char problem[320];           /* empty, or why the model cannot be used */
} d2c_model_info;

typedef struct d2c_model {
    d2c_model_info info;
    d2c_sit *sit; /* one of the two, by info.kind */
    d2c_bert *bert;
} d2c_model;

/* D2C_INVALID_ARGUMENT when the name may not name a model. */
d2c_status d2c_model_name_check(const char *name, d2c_error *err);

/* Loads, sha256 included.  The result is whole when this returns: every backend on the same device's memory may use it. */
d2c_status d2c_model_open(d2c_model **model, d2c_backend *be, const char *directory, const char *name,
                          d2c_dtype precision, d2c_error *err);
/* The same for a caller who knows the sha256 of the weights: they are not read a second time for it. */
d2c_status d2c_model_open_known(d2c_model **model, d2c_backend *be, const char *directory, const char *name,
                                const char *sha256, d2c_dtype precision, d2c_error *err);
void d2c_model_close(d2c_model *model, d2c_backend *be);
size_t d2c_model_bytes(const d2c_model *model);

/* Lists the directory, sorted by name: *list is malloc'd.  A model that cannot be used is listed with its problem.
 * with_sha256: reads every file once. */
d2c_status d2c_model_list(d2c_model_info **list, int *count, const char *directory, int with_sha256,
                          d2c_error *err);
/* The sha256 of one model's weights. */
d2c_status d2c_model_sha256(char out[65], const char *directory, const char *name, d2c_error *err);
const char *d2c_model_kind_name(d2c_model_kind kind); /* "sit", "bert", "unknown" */

#endif
