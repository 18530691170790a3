/* vae_names.c: the three ways in which files name an autoencoder's tensors (vae_layers.h). */
#include <stdio.h>
#include <string.h>

#include "nn/vae_layers.h"

typedef struct change {
    const char *from, *to;
} change;

/* Longer matches come before what they contain. */
static const change old_diffusers[] = {
    {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}, {0}};
static const change compvis[] = {{"down_blocks.", "down."},
                                 {"up_blocks.", "up."},
                                 {"mid_block.resnets.0.", "mid.block_1."},
                                 {"mid_block.resnets.1.", "mid.block_2."},
                                 {"mid_block.attentions.0.group_norm.", "mid.attn_1.norm."},
                                 {"mid_block.attentions.0.to_out.0.", "mid.attn_1.proj_out."},
                                 {"mid_block.attentions.0.to_", "mid.attn_1."},
                                 {".resnets.", ".block."},
                                 {".downsamplers.0.", ".downsample."},
                                 {".upsamplers.0.", ".upsample."},
                                 {".conv_shortcut.", ".nin_shortcut."},
                                 {".conv_norm_out.", ".norm_out."},
                                 {0}};

/* Puts `to` in the place of the first `from`. */
static void
replace(char name[D2C_NAME_SIZE], const char *from, const char *to)
{
    char rest[D2C_NAME_SIZE];
    char *at = strstr(name, from);

    if (at == NULL)
        return;
    snprintf(rest, sizeof rest, "%s", at + strlen(from));
    snprintf(at, D2C_NAME_SIZE - (size_t)(at - name), "%s%s", to, rest);
}

static void
apply(char name[D2C_NAME_SIZE], const change *changes)
{
    for (; changes->from != NULL; changes++)
        replace(name, changes->from, changes->to);
}

/* The original code counts the decoder's levels as the encoder's, the image's own first: those it runs last. */
static void
reverse_level(char name[D2C_NAME_SIZE], int levels)
{
    char from[16], to[16];
    int level;

    if (sscanf(name, "decoder.up_blocks.%d.", &level) != 1)
        return;
    snprintf(from, sizeof from, "_blocks.%d.", level);
    snprintf(to, sizeof to, "_blocks.%d.", levels - 1 - level);
    replace(name, from, to);
}

/* One name of diffusers' as the file has it. */
static void
translate(char name[D2C_NAME_SIZE], const char *own, const vae_names *names)
{
    char inner[D2C_NAME_SIZE];

    snprintf(inner, sizeof inner, "%s", own);
    if (names->scheme == VAE_OLD_DIFFUSERS)
        apply(inner, old_diffusers);
    if (names->scheme == VAE_COMPVIS) {
        reverse_level(inner, names->levels);
        apply(inner, compvis);
    }
    snprintf(name, D2C_NAME_SIZE, "%s%s", names->prefix, inner);
}

int
vae_name_in_file(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *closure)
{
    static const char *const parts[] = {".to_q.", ".to_k.", ".to_v."};
    const vae_names *names = closure;
    int i;

    if (strstr(parameter, ".to_qkv.") == NULL) {
        translate(name[0], parameter, names);
        return 1;
    }
    for (i = 0; i < 3; i++) {
        char own[D2C_NAME_SIZE];

        snprintf(own, sizeof own, "%s", parameter);
        replace(own, ".to_qkv.", parts[i]);
        translate(name[i], own, names);
    }
    return 3;
}

const d2c_st_tensor *
vae_find(const vae_names *names, const d2c_weights *file, const char *parameter)
{
    char name[D2C_NAME_PARTS][D2C_NAME_SIZE];

    vae_name_in_file(name, parameter, names);
    return d2c_weights_find(file, name[0]);
}

int
vae_names_find(vae_names *names, const d2c_weights *file)
{
    static const char *const prefixes[] = {
        "", "first_stage_model.", "state_dict.", "state_dict.first_stage_model.", "vae.", NULL};
    const char *prefix = d2c_weights_prefix(file, prefixes, "decoder.conv_in.weight");

    if (prefix == NULL || !d2c_weights_has(file, prefix, "encoder.conv_in.weight"))
        return 0;
    *names = (vae_names){.prefix = prefix, .scheme = VAE_DIFFUSERS};
    if (d2c_weights_has(file, prefix, "decoder.mid.block_1.conv1.weight"))
        names->scheme = VAE_COMPVIS;
    else if (d2c_weights_has(file, prefix, "decoder.mid_block.attentions.0.query.weight"))
        names->scheme = VAE_OLD_DIFFUSERS;
    return 1;
}
