/*
 * vit_input.h: pictures as vision transformers take them.
 *
 * Public codes make the same 224 x 224 numbers out of a picture in ways that are not the same.  REPA's, for which
 * alignment targets are made, crops as ADM does, to what the diffusion model sees, and resizes in float; transformers'
 * processors resize by PIL and crop.
 */
#ifndef D2C_NN_VIT_INPUT_H
#define D2C_NN_VIT_INPUT_H

#include "image/image.h"

typedef enum d2c_vit_recipe {
    D2C_VIT_REPA_NORMALISED, /* ADM crop, normalise, resize (DINOv2; MAE and MoCo v3, where size is edge) */
    D2C_VIT_REPA_RESIZED,    /* ADM crop, resize, normalise (CLIP) */
    D2C_VIT_HUGGINGFACE      /* the shorter side to size, the centre of edge x edge, normalise */
} d2c_vit_recipe;

typedef struct d2c_vit_input {
    d2c_vit_recipe recipe;
    int size; /* of the first crop or resize, in pixels */
    int edge; /* of the network's input */
    float mean[3], deviation[3];
} d2c_vit_input;

/* planes [3, edge, edge] from an RGB image of any size. */
d2c_status d2c_vit_input_make(float *planes, const d2c_image *image, const d2c_vit_input *input,
                              d2c_error *err);

#endif
