/* export.h: d2c export: a training checkpoint or a model as a file for the public SiT, DiT and REPA codes. */
#ifndef D2C_TRAIN_EXPORT_H
#define D2C_TRAIN_EXPORT_H

#include "base/status.h"

typedef struct d2c_export_setting {
    const char *model;   /* path of a checkpoint or a model's file */
    const char *layout;  /* "public", or "diffusers": DiTTransformer2DModel's folder */
    const char *output;  /* path ending in .safetensors, .pt or .pth; of diffusers' layout a folder */
    const char *weights; /* "auto": the average where there is one; "ema"; "model" */
    int learn_sigma, projectors, replace;
} d2c_export_setting;

/* A checkpoint's text condition is folded into the label table; where the rows of a class have not one text that is
 * D2C_UNSUPPORTED.  Beside the output NAME.json is written when a file without d2c's metadata, or the model's own
 * description, has something to say. */
d2c_status d2c_export(const d2c_export_setting *setting, d2c_error *err);

#endif
