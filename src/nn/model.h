/*
 * model.h: models by name, from one directory (model_files.h); their kinds are the families of family.h.
 */
#ifndef D2C_NN_MODEL_H
#define D2C_NN_MODEL_H

#include "nn/family.h"
#include "nn/sit.h"

typedef struct d2c_model {
    d2c_model_info info;
    const d2c_family *family;
    void *network;      /* the family's */
    d2c_model_name vae; /* of a denoiser of latents: the autoencoder that its description names; or "" */
    d2c_model_name
        text_model; /* of a denoiser with a text condition: the text encoder that it names; or "" */
} d2c_model;

/* Loads, sha256 included.  The result is whole when this returns: every backend on the same device's memory may use it. */
d2c_status d2c_model_open(d2c_model **model, d2c_backend *be, const char *directory, const char *name,
                          d2c_dtype precision, d2c_error *err);
/* The same for a caller who knows the sha256: the files are not read a second time for it. */
d2c_status d2c_model_open_known(d2c_model **model, d2c_backend *be, const char *directory, const char *name,
                                const char *sha256, d2c_dtype precision, d2c_error *err);
/* The bytes that its parameters will take, told from the files without reading them. */
d2c_status d2c_model_needs(size_t *bytes, const char *directory, const char *name, d2c_dtype precision,
                           d2c_error *err);
void d2c_model_close(d2c_model *model, d2c_backend *be);
size_t d2c_model_bytes(const d2c_model *model);
/* The network of a denoiser; NULL for other roles. */
d2c_sit *d2c_model_sit(const d2c_model *model);

/* Lists the directory, sorted by name: *list is malloc'd.  A model that cannot be used is listed with its problem.
 * with_sha256: reads every file once. */
d2c_status d2c_model_list(d2c_model_info **list, int *count, const char *directory, int with_sha256,
                          d2c_error *err);
/* The sha256 of one model (model_files.h). */
d2c_status d2c_model_sha256(char out[65], const char *directory, const char *name, d2c_error *err);

#endif
