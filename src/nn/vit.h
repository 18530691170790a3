/*
 * vit.h: vision transformers as image encoders: DINOv2, CLIP's vision half, MAE and MoCo v3.
 *
 * What is returned are the tokens of the patches, in raster order, that REPA aligns with: of DINOv2 and MoCo v3 behind
 * the last norm; of MAE and CLIP as they leave the last block, before any norm (CLIP's post_layernorm and projection are
 * for the class token).  Class token and registers are computed with and left out.
 *
 * One picture at a time: a unit of work.
 */
#ifndef D2C_NN_VIT_H
#define D2C_NN_VIT_H

#include "nn/params.h"
#include "nn/position.h"
#include "nn/scratch.h"
#include "nn/vit_input.h"
#include "nn/vit_names.h"

typedef struct d2c_vit_config {
    int depth, hidden, heads, intermediate;
    int patch;
    int side;      /* of the file's table of positions */
    int grid;      /* of a picture's patches */
    int registers; /* tokens between the class token and the patches, without positions */
    float eps;
    d2c_act act;
    int gated;       /* SwiGLU: mlp.fc1 gives the gate, then the value */
    int patch_bias;  /* the patch embedding has a bias */
    int pre_norm;    /* before the first block */
    int layer_scale; /* each branch is scaled by channel */
    int last_norm;
    d2c_position position;
    d2c_vit_input input;
} d2c_vit_config;

typedef struct d2c_vit {
    d2c_vit_config config;
    d2c_dtype precision;
    d2c_params params; /* what the file holds as it is used */
    d2c_params made; /* "prefix" [1 + registers, hidden] and "positions" [grid * grid, hidden], made of it */
    void *layers;
} d2c_vit;

/* Reads sizes from the tensors, and what they do not tell from config.json, the description or the kind's custom. */
d2c_status d2c_vit_config_read(d2c_vit_config *config, const d2c_vit_names *names,
                               const d2c_model_files *files, d2c_error *err);

d2c_status d2c_vit_open(d2c_vit **vit, d2c_backend *be, const d2c_vit_names *names,
                        const d2c_model_files *files, d2c_dtype precision, d2c_error *err);
void d2c_vit_close(d2c_vit *vit, d2c_backend *be);

/* embedding [tokens, hidden]: the first tokens, 1 to grid * grid, of an RGB image of any size. */
d2c_status d2c_vit_embed(d2c_vit *vit, d2c_backend *be, d2c_scratch *scratch, float *embedding,
                         const d2c_image *image, int tokens, d2c_error *err);

#endif
