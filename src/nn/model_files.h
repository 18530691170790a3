/*
 * model_files.h: where a model's files are, and what they hold.
 *
 * NAME is one of NAME.safetensors, NAME.pt and NAME.pth, or the folder NAME/ in the Hugging Face layout (config.json,
 * tokenizer files, and the weights as model.safetensors, diffusion_pytorch_model.safetensors, pytorch_model.bin,
 * diffusion_pytorch_model.bin or one of their indexes: of several, the first, as Hugging Face's libraries choose).
 *
 * What the files themselves do not tell stands in a description, a JSON object in NAME.json beside a single file or in
 * NAME/d2c.json; the families say which keys they read.  For all of them, "weights" is the copy of the network that a
 * training checkpoint's tensors are taken from: "ema", the average, which is the default, or "model".
 */
#ifndef D2C_NN_MODEL_FILES_H
#define D2C_NN_MODEL_FILES_H

#include <cjson/cJSON.h>

#include "nn/weights.h"

#define D2C_MODEL_PATH 4096

typedef struct d2c_model_files {
    char name[128];
    char path[D2C_MODEL_PATH];   /* of the weights, or of their index */
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
/* The file "folder/NAME.safetensors" as the model NAME, its description included, whatever else there is of that name; or
 * the model NAME of the folder, without an ending. */
d2c_status d2c_model_files_open_path(d2c_model_files *files, const char *path, d2c_error *err);
void d2c_model_files_close(d2c_model_files *files);

/* model_identity.c: the sha256 of the bytes of every file that results depend on, one behind the other: the weights,
 * several files in the order of their names, then what there is of the description, config.json, tokenizer_config.json,
 * vocab.txt, vocab.json, merges.txt and spiece.model.  Of a model that is one file, it is that file's. */
d2c_status d2c_model_files_sha256(char out[65], const d2c_model_files *files, d2c_error *err);

/* What tells, without reading them, that one of these files may have changed. */
typedef struct d2c_model_identity {
    char digest[65];
} d2c_model_identity;

d2c_status d2c_model_files_identity(d2c_model_identity *identity, const d2c_model_files *files,
                                    d2c_error *err);

/* The length of the name in "NAME.safetensors", "NAME.pt" or "NAME.pth"; 0 when the file is none of these. */
size_t d2c_model_file_name(const char *file);

/* The names in the directory that may be models', sorted; malloc'd. */
typedef char d2c_model_name[sizeof((d2c_model_files *)0)->name];
d2c_status d2c_model_names(d2c_model_name **names, int *count, const char *directory, d2c_error *err);

/* A text of the description, or NULL. */
const char *d2c_model_files_say(const d2c_model_files *files, const char *key);

/* The prefix of the network that has a tensor of that name: "" in a plain file; in a training checkpoint "ema." or, where
 * there is none or the description says so, "model.".  NULL when there is no such network. */
const char *d2c_model_files_prefix(const d2c_model_files *files, const char *name);

#endif
