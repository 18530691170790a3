/* vit_names.c: the layouts of files and their names (vit_names.h). */
#include "nn/vit_names.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What begins with `ours` begins with `theirs` in the file.  Of several for one of ours, the first that is there. */
typedef struct translation {
    const char *ours, *theirs[D2C_NAME_PARTS];
} translation;

static const translation dinov2_names[] = {
    {"mlp.fc1.", {"mlp.fc1."}},
    {"mlp.fc1.", {"mlp.w12."}},
    {"mlp.fc2.", {"mlp.fc2."}},
    {"mlp.fc2.", {"mlp.w3."}},
    {NULL, {NULL}},
};

static const translation dinov2_transformers_names[] = {
    {"cls_token", {"embeddings.cls_token"}},
    {"register_tokens", {"embeddings.register_tokens"}},
    {"pos_embed", {"embeddings.position_embeddings"}},
    {"patch_embed.proj.", {"embeddings.patch_embeddings.projection."}},
    {"attn.qkv.", {"attention.attention.query.", "attention.attention.key.", "attention.attention.value."}},
    {"attn.proj.", {"attention.output.dense."}},
    {"ls1.gamma", {"layer_scale1.lambda1"}},
    {"ls2.gamma", {"layer_scale2.lambda1"}},
    {"mlp.fc1.", {"mlp.fc1."}},
    {"mlp.fc1.", {"mlp.weights_in."}},
    {"mlp.fc2.", {"mlp.fc2."}},
    {"mlp.fc2.", {"mlp.weights_out."}},
    {"norm.", {"layernorm."}},
    {NULL, {NULL}},
};

static const translation clip_transformers_names[] = {
    {"cls_token", {"embeddings.class_embedding"}},
    {"pos_embed", {"embeddings.position_embedding.weight"}},
    {"patch_embed.proj.", {"embeddings.patch_embedding."}},
    {"pre_norm.", {"pre_layrnorm."}},
    {"norm1.", {"layer_norm1."}},
    {"norm2.", {"layer_norm2."}},
    {"attn.qkv.", {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."}},
    {"attn.proj.", {"self_attn.out_proj."}},
    {NULL, {NULL}},
};

static const translation clip_names[] = {
    {"cls_token", {"class_embedding"}},
    {"pos_embed", {"positional_embedding"}},
    {"patch_embed.proj.", {"conv1."}},
    {"pre_norm.", {"ln_pre."}},
    {"norm1.", {"ln_1."}},
    {"norm2.", {"ln_2."}},
    {"attn.qkv.", {"attn.in_proj_"}},
    {"attn.proj.", {"attn.out_proj."}},
    {"mlp.fc1.", {"mlp.c_fc."}},
    {"mlp.fc2.", {"mlp.c_proj."}},
    {NULL, {NULL}},
};

static const translation mae_names[] = {{NULL, {NULL}}};

/* In the ViT-L that REPA loads, a renaming has gone through the digits of blocks 13 and 14. */
static const translation mocov3_names[] = {
    {"norm1.", {"norm1."}},     {"norm1.", {"norm13."}},     {"norm2.", {"norm2."}},
    {"norm2.", {"norm14."}},    {"mlp.fc1.", {"mlp.fc1."}},  {"mlp.fc1.", {"mlp.fc13."}},
    {"mlp.fc2.", {"mlp.fc2."}}, {"mlp.fc2.", {"mlp.fc14."}}, {NULL, {NULL}},
};

struct d2c_vit_layout {
    d2c_vit_kind kind;
    int huggingface;
    const char *prefix[4];      /* one of these, ends with NULL */
    const char *has[2], *lacks; /* tensors behind the prefix that tell the layout; lacks may be NULL */
    const char *blocks;
    const translation *names;
};

static const d2c_vit_layout layouts[] = {
    {D2C_VIT_DINOV2,
     1,
     {"", "dinov2.", "dinov2_with_registers.", NULL},
     {"embeddings.cls_token", "encoder.layer.0.layer_scale1.lambda1"},
     NULL,
     "encoder.layer.",
     dinov2_transformers_names},
    {D2C_VIT_DINOV2,
     0,
     {"", "teacher.backbone.", NULL},
     {"cls_token", "blocks.0.ls1.gamma"},
     NULL,
     "blocks.",
     dinov2_names},
    {D2C_VIT_DINOV2,
     0,
     {"", "teacher.backbone.", NULL},
     {"cls_token", "blocks.0.0.ls1.gamma"},
     NULL,
     "blocks.",
     dinov2_names},
    {D2C_VIT_CLIP,
     1,
     {"", "vision_model.", "clip.vision_model.", NULL},
     {"embeddings.class_embedding", "pre_layrnorm.weight"},
     NULL,
     "encoder.layers.",
     clip_transformers_names},
    {D2C_VIT_CLIP,
     0,
     {"visual.", "", NULL},
     {"class_embedding", "ln_pre.weight"},
     NULL,
     "transformer.resblocks.",
     clip_names},
    {D2C_VIT_MOCOV3,
     0,
     {"module.base_encoder.", "state_dict.module.base_encoder.", NULL},
     {"cls_token", "blocks.0.attn.qkv.weight"},
     NULL,
     "blocks.",
     mocov3_names},
    {D2C_VIT_MAE,
     0,
     {"model.", NULL},
     {"cls_token", "blocks.0.attn.qkv.weight"},
     "head.weight",
     "blocks.",
     mae_names},
    {D2C_VIT_MAE, 0, {"", NULL}, {"cls_token", "blocks.0.attn.qkv.weight"}, NULL, "blocks.", mae_names},
};

/* ---- finding the layout -------------------------------------------------------------------------------------------- */

static int
fits(const char **prefix, const d2c_vit_layout *layout, const d2c_weights *file)
{
    *prefix = d2c_weights_prefix(file, layout->prefix, layout->has[0]);
    return *prefix != NULL && d2c_weights_has(file, *prefix, layout->has[1]) &&
           (layout->lacks == NULL || !d2c_weights_has(file, *prefix, layout->lacks));
}

/* Plain names without LayerScale are those of every ViT of timm: MAE by its decoder, or what the description says. */
static void
settle_plain(d2c_vit_names *names, const d2c_model_files *files)
{
    const char *kind = d2c_model_files_say(files, "kind");

    if (names->kind != D2C_VIT_MAE || names->prefix[0] != '\0')
        return;
    if (kind != NULL && strcmp(kind, "mocov3") == 0)
        names->kind = D2C_VIT_MOCOV3;
    else if (kind == NULL || strcmp(kind, "mae") != 0)
        names->uncertain = !d2c_weights_has(files->weights, "", "decoder_embed.weight");
}

int
d2c_vit_names_find(d2c_vit_names *names, const d2c_model_files *files)
{
    size_t i;

    memset(names, 0, sizeof *names);
    for (i = 0; i < sizeof layouts / sizeof layouts[0]; i++)
        if (fits(&names->prefix, &layouts[i], files->weights)) {
            names->file = files->weights;
            names->layout = &layouts[i];
            names->kind = layouts[i].kind;
            names->huggingface = layouts[i].huggingface;
            names->chunked = strcmp(layouts[i].has[1], "blocks.0.0.ls1.gamma") == 0;
            settle_plain(names, files);
            return 1;
        }
    return 0;
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

/* The chunk that holds a block; 0 when none does. */
static int
find_chunk(const d2c_vit_names *names, int block)
{
    char name[64];
    int chunk;

    for (chunk = 0; chunk <= block; chunk++) {
        snprintf(name, sizeof name, "blocks.%d.%d.norm1.weight", chunk, block);
        if (d2c_weights_has(names->file, names->prefix, name))
            return chunk;
    }
    return 0;
}

/* Writes what stands before a parameter's own name in the file; returns the rest of the parameter. */
static const char *
begin_name(char head[64], const d2c_vit_names *names, const char *parameter)
{
    char *rest;
    int block;

    snprintf(head, 64, "%s", names->prefix);
    if (strncmp(parameter, "blocks.", 7) != 0)
        return parameter;
    block = (int)strtol(parameter + 7, &rest, 10);
    if (names->chunked)
        snprintf(head, 64, "%s%s%d.%d.", names->prefix, names->layout->blocks, find_chunk(names, block),
                 block);
    else
        snprintf(head, 64, "%s%s%d.", names->prefix, names->layout->blocks, block);
    return rest + 1;
}

static int
apply(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *head, const translation *r, const char *rest)
{
    int count = 0;

    for (; count < D2C_NAME_PARTS && r->theirs[count] != NULL; count++)
        snprintf(name[count], D2C_NAME_SIZE, "%s%s%s", head, r->theirs[count], rest + strlen(r->ours));
    return count;
}

int
d2c_vit_naming(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *closure)
{
    const d2c_vit_names *names = closure;
    const translation *r, *first = NULL;
    char head[64];
    const char *rest = begin_name(head, names, parameter);

    for (r = names->layout->names; r->ours != NULL; r++)
        if (strncmp(rest, r->ours, strlen(r->ours)) == 0) {
            int count = apply(name, head, r, rest);

            if (d2c_weights_find(names->file, name[0]) != NULL)
                return count;
            first = first != NULL ? first : r;
        }
    if (first != NULL)
        return apply(name, head, first, rest);
    snprintf(name[0], D2C_NAME_SIZE, "%s%s", head, rest);
    return 1;
}

const d2c_st_tensor *
d2c_vit_names_tensor(const d2c_vit_names *names, const char *parameter, int64_t *rows)
{
    char name[D2C_NAME_PARTS][D2C_NAME_SIZE];
    int count = d2c_vit_naming(name, parameter, names), i;
    const d2c_st_tensor *first = NULL;

    if (rows != NULL)
        *rows = 0;
    for (i = 0; i < count; i++) {
        const d2c_st_tensor *t = d2c_weights_find(names->file, name[i]);

        first = i == 0 ? t : first;
        if (rows != NULL && t != NULL && t->ndim > 0)
            *rows += t->dim[0];
    }
    return first;
}

int
d2c_vit_names_depth(const d2c_vit_names *names)
{
    char head[64];
    size_t length = (size_t)snprintf(head, sizeof head, "%s%s", names->prefix, names->layout->blocks);
    int depth = 0, i;

    for (i = 0; i < d2c_weights_count(names->file); i++) {
        const char *name = d2c_weights_at(names->file, i)->name;
        char *end;
        long block;

        if (strncmp(name, head, length) != 0)
            continue;
        block = strtol(name + length, &end, 10);
        if (names->chunked && *end == '.')
            block = strtol(end + 1, &end, 10);
        if (*end == '.' && block >= depth)
            depth = block < INT_MAX ? (int)block + 1 : INT_MAX;
    }
    return depth;
}
