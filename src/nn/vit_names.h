/*
 * vit_names.h: vision transformers' tensors under the names of the files that they come in.
 *
 * The network calls them as timm and DINOv2's own code do: cls_token, register_tokens, pos_embed, patch_embed.proj,
 * pre_norm, blocks.N.{norm1,attn.qkv,attn.proj,ls1.gamma,norm2,mlp.fc1,mlp.fc2,ls2.gamma}, norm.
 */
#ifndef D2C_NN_VIT_NAMES_H
#define D2C_NN_VIT_NAMES_H

#include "nn/model_files.h"
#include "nn/params.h"

typedef enum d2c_vit_kind { D2C_VIT_DINOV2, D2C_VIT_CLIP, D2C_VIT_MAE, D2C_VIT_MOCOV3 } d2c_vit_kind;

typedef struct d2c_vit_layout d2c_vit_layout;

typedef struct d2c_vit_names {
    const d2c_weights *file;
    const d2c_vit_layout *layout;
    const char *prefix;
    d2c_vit_kind kind;
    int huggingface; /* transformers' names */
    int chunked;     /* blocks.CHUNK.N, as DINOv2's training writes them */
    int uncertain;   /* kind is a guess: other encoders come under the same names */
} d2c_vit_names;

/* Whether the files are a vision transformer's; fills *names then. */
int d2c_vit_names_find(d2c_vit_names *names, const d2c_model_files *files);

/* A d2c_naming; closure: the d2c_vit_names. */
int d2c_vit_naming(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *names);

/* The tensor, or the first of the parts that make it, or NULL; *rows, unless NULL: of all parts. */
const d2c_st_tensor *d2c_vit_names_tensor(const d2c_vit_names *names, const char *parameter, int64_t *rows);

/* One more than the highest number of a block. */
int d2c_vit_names_depth(const d2c_vit_names *names);

#endif
