/* vae_layers.h: what the files of the autoencoder share: its weights by use, and its files' names. */
#ifndef D2C_NN_VAE_LAYERS_H
#define D2C_NN_VAE_LAYERS_H

#include "nn/vae.h"

#define VAE_EPS 1e-6f /* of every norm */

typedef struct vae_norm {
    d2c_tensor gamma, beta;
} vae_norm;

/* x + conv2(SiLU(GN(conv1(SiLU(GN(x)))))); the shortcut takes x to `out` channels where it has others. */
typedef struct vae_block {
    int64_t out;
    vae_norm norm1, norm2;
    d2c_weight conv1, conv2, shortcut; /* shortcut.value absent: none */
} vae_block;

/* x + out(attention(qkv(GN(x)))), one head. */
typedef struct vae_attention {
    vae_norm norm;
    d2c_weight qkv, out;
} vae_attention;

typedef struct vae_level {
    vae_block block[D2C_VAE_BLOCKS + 1];
    d2c_weight resample; /* to the next level's resolution; value absent at the last */
} vae_level;

/* Encoder or decoder; its levels in the order in which it runs. */
typedef struct vae_half {
    int blocks; /* of a level */
    d2c_weight conv_in, conv_out, quant;
    vae_level level[D2C_VAE_LEVELS];
    vae_block middle[2];
    vae_attention attention;
    vae_norm norm_out;
} vae_half;

typedef struct vae_network {
    vae_half encoder, decoder;
} vae_network;

/* How a file names its tensors. */
typedef enum vae_scheme {
    VAE_DIFFUSERS,     /* to_q */
    VAE_OLD_DIFFUSERS, /* query: before diffusers 0.15 */
    VAE_COMPVIS        /* mid.attn_1.q: the original code */
} vae_scheme;

typedef struct vae_names {
    const char *prefix;
    vae_scheme scheme;
    int levels;
} vae_names;

/* Fills all but levels; false when the tensors are no autoencoder's. */
int vae_names_find(vae_names *names, const d2c_weights *file);
/* A d2c_naming; the network's own names are diffusers', with to_q, to_k and to_v as one, to_qkv.  closure: vae_names. */
int vae_name_in_file(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *closure);
/* The tensor of a parameter that is one tensor, or NULL. */
const d2c_st_tensor *vae_find(const vae_names *names, const d2c_weights *file, const char *parameter);

#endif
