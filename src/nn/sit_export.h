/*
 * sit_export.h: a SiT, DiT or REPA network out of any file that d2c reads, as a file that the public codes load strictly.
 */
#ifndef D2C_NN_SIT_EXPORT_H
#define D2C_NN_SIT_EXPORT_H

#include "nn/sit.h"

typedef struct d2c_sit_export {
    const float *label_table; /* [classes + null, hidden] in place of the file's; NULL: the file's */
    int two_outputs;          /* SiT: rows of zeros for the outputs that its default learn_sigma=True drops */
    int projectors;           /* REPA's projectors are kept */
    int torch;                /* a PyTorch archive, else safetensors */
    int diffusers;            /* a folder in diffusers' layout, of DiT only */
    const char *within;       /* PyTorch: the dict's key that the state_dict stands under, or NULL */
} d2c_sit_export;

/* Writes the network "prefix + name" of `file`, whose config was read by d2c_sit_config_read: the public names, shapes and
 * the file's own dtypes.  A text condition needs the label table that it is folded into.  A safetensors file bears
 * "d2c.sit". */
d2c_status d2c_sit_export_file(const char *path, const d2c_sit_config *config, const d2c_weights *file,
                               const char *prefix, const d2c_sit_export *how, d2c_error *err);

#endif
