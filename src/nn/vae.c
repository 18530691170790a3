/* vae.c: an autoencoder's weights (vae.h). */
#include "nn/vae.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/vae_layers.h"

/* One walk over the network first adds its parameters, then finds them.  After a failure it does nothing more. */
typedef struct walk {
    d2c_params *params;
    int finding;
    char base[48]; /* what the names begin with */
    d2c_error *err;
    d2c_status status;
} walk;

static void
enter(walk *w, const char *base)
{
    snprintf(w->base, sizeof w->base, "%s", base);
}

static void
name_of(char name[96], const walk *w, const char *layer, const char *part)
{
    snprintf(name, 96, "%s%s%s", w->base, layer, part);
}

/* A [count] parameter. */
static void
vector(walk *w, d2c_tensor *out, const char *layer, const char *part, int64_t count)
{
    char name[96];

    name_of(name, w, layer, part);
    if (w->finding)
        *out = d2c_params_tensor(w->params, name, w->params->value);
    else if (w->status == D2C_OK)
        w->status = d2c_params_add(w->params, name, D2C_INIT_GIVEN, 0, 1, &count, w->err);
}

static void
norm(walk *w, vae_norm *n, const char *layer, int64_t channels)
{
    vector(w, &n->gamma, layer, ".weight", channels);
    vector(w, &n->beta, layer, ".bias", channels);
}

/* A convolution of size x size with bias. */
static void
convolution(walk *w, d2c_weight *out, const char *layer, int64_t to, int64_t from, int size)
{
    char name[96];

    name_of(name, w, layer, "");
    if (w->finding)
        *out = d2c_params_linear(w->params, name);
    else if (w->status == D2C_OK)
        w->status = d2c_params_add_conv(w->params, name, to, from, size, size, 1, w->err);
}

/* A linear layer, which files of the original code have as a 1x1 convolution. */
static void
linear(walk *w, d2c_weight *out, const char *layer, int64_t to, int64_t from)
{
    const int64_t dim[2] = {to, from};
    char name[96];

    name_of(name, w, layer, ".weight");
    if (!w->finding && w->status == D2C_OK)
        w->status = d2c_params_add(w->params, name, D2C_INIT_GIVEN, 0, 2, dim, w->err);
    vector(w, &out->bias, layer, ".bias", to);
    name_of(name, w, layer, "");
    if (w->finding)
        *out = d2c_params_linear(w->params, name);
}

static void
block(walk *w, vae_block *b, int64_t to, int64_t from)
{
    b->out = to;
    norm(w, &b->norm1, "norm1", from);
    convolution(w, &b->conv1, "conv1", to, from, 3);
    norm(w, &b->norm2, "norm2", to);
    convolution(w, &b->conv2, "conv2", to, to, 3);
    if (to != from)
        linear(w, &b->shortcut, "conv_shortcut", to, from);
}

/* The part between the two directions, at the lowest resolution. */
static void
middle(walk *w, vae_half *h, const char *half, int64_t channels)
{
    char base[64];
    int i;

    for (i = 0; i < 2; i++) {
        snprintf(base, sizeof base, "%s.mid_block.resnets.%d.", half, i);
        enter(w, base);
        block(w, &h->middle[i], channels, channels);
    }
    snprintf(base, sizeof base, "%s.mid_block.attentions.0.", half);
    enter(w, base);
    norm(w, &h->attention.norm, "group_norm", channels);
    linear(w, &h->attention.qkv, "to_qkv", 3 * channels, channels);
    linear(w, &h->attention.out, "to_out.0", channels, channels);
}

/* Level `index` in the order in which the half runs, of `to` channels after one of `from`. */
static void
level(walk *w, vae_half *h, const char *format, int index, const char *resample, int64_t to, int64_t from)
{
    vae_level *l = &h->level[index];
    char base[64];
    int i, n = snprintf(base, sizeof base, format, index);

    for (i = 0; i < h->blocks; i++) {
        snprintf(base + n, sizeof base - (size_t)n, "resnets.%d.", i);
        enter(w, base);
        block(w, &l->block[i], to, i == 0 ? from : to);
    }
    base[n] = '\0';
    enter(w, base);
    if (resample != NULL)
        convolution(w, &l->resample, resample, to, to, 3);
}

static void
encoder(walk *w, vae_half *h, const d2c_vae_config *c)
{
    int last = c->levels - 1, i;

    h->blocks = c->blocks;
    enter(w, "encoder.");
    convolution(w, &h->conv_in, "conv_in", c->width[0], c->in_channels, 3);
    for (i = 0; i < c->levels; i++)
        level(w, h, "encoder.down_blocks.%d.", i, i < last ? "downsamplers.0.conv" : NULL, c->width[i],
              c->width[i > 0 ? i - 1 : 0]);
    middle(w, h, "encoder", c->width[last]);
    enter(w, "encoder.");
    norm(w, &h->norm_out, "conv_norm_out", c->width[last]);
    convolution(w, &h->conv_out, "conv_out", 2 * c->latent, c->width[last], 3);
    enter(w, "");
    if (c->quant)
        linear(w, &h->quant, "quant_conv", 2 * c->latent, 2 * c->latent);
}

static void
decoder(walk *w, vae_half *h, const d2c_vae_config *c)
{
    int last = c->levels - 1, i;

    h->blocks = c->blocks + 1;
    enter(w, "");
    if (c->post_quant)
        linear(w, &h->quant, "post_quant_conv", c->latent, c->latent);
    enter(w, "decoder.");
    convolution(w, &h->conv_in, "conv_in", c->width[last], c->latent, 3);
    middle(w, h, "decoder", c->width[last]);
    for (i = 0; i < c->levels; i++)
        level(w, h, "decoder.up_blocks.%d.", i, i < last ? "upsamplers.0.conv" : NULL, c->width[last - i],
              c->width[i > 0 ? last - i + 1 : last]);
    enter(w, "decoder.");
    norm(w, &h->norm_out, "conv_norm_out", c->width[0]);
    convolution(w, &h->conv_out, "conv_out", c->out_channels, c->width[0], 3);
}

static d2c_status
visit(d2c_vae *vae, int finding, d2c_error *err)
{
    vae_network *network = vae->network;
    walk w = {.params = &vae->params, .finding = finding, .err = err, .status = D2C_OK};

    encoder(&w, &network->encoder, &vae->config);
    decoder(&w, &network->decoder, &vae->config);
    return w.status;
}

/* Attention in the levels, beside that in the middle, which a config.json would tell of. */
static d2c_status
refuse_level_attention(const vae_names *names, const d2c_weights *file, d2c_error *err)
{
    size_t prefix = strlen(names->prefix);
    int i;

    for (i = 0; i < d2c_weights_count(file); i++) {
        const char *name = d2c_weights_at(file, i)->name;

        if (strncmp(name, names->prefix, prefix) != 0 ||
            (strncmp(name + prefix, "encoder.", 8) != 0 && strncmp(name + prefix, "decoder.", 8) != 0))
            continue;
        if (strstr(name, ".attn.") == NULL &&
            (strstr(name, "_blocks.") == NULL || strstr(name, ".attentions.") == NULL))
            continue;
        d2c_fail(err, D2C_UNSUPPORTED, "autoencoders with attention in their levels are not supported");
        d2c_detail(err, "The file has a tensor \"%s\".", name);
        return D2C_UNSUPPORTED;
    }
    return D2C_OK;
}

/* Lists the parameters, and checks that the file has them all. */
static d2c_status
outline(d2c_vae *vae, vae_names *names, const d2c_weights *file, d2c_error *err)
{
    if (!vae_names_find(names, file))
        return d2c_fail(err, D2C_BAD_MODEL, "the tensors are not those of an autoencoder");
    names->levels = vae->config.levels;
    D2C_TRY(refuse_level_attention(names, file, err));
    D2C_TRY(visit(vae, 0, err));
    return d2c_params_check_named(&vae->params, file, vae_name_in_file, names, err);
}

static d2c_status
load(d2c_vae *vae, d2c_backend *be, d2c_weights *file, d2c_error *err)
{
    vae_names names;

    D2C_TRY(outline(vae, &names, file, err));
    D2C_TRY(d2c_params_open(&vae->params, be, vae->precision, file, vae_name_in_file, &names, err));
    return visit(vae, 1, err);
}

/* A network without parameters. */
static d2c_status
make(d2c_vae **vae, const d2c_vae_config *config, d2c_error *err)
{
    *vae = calloc(1, sizeof **vae);
    if (*vae == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    (*vae)->config = *config;
    (*vae)->network = calloc(1, sizeof(vae_network));
    if ((*vae)->network != NULL)
        return D2C_OK;
    free(*vae);
    *vae = NULL;
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

d2c_status
d2c_vae_check(const d2c_vae_config *config, const d2c_weights *file, d2c_error *err)
{
    d2c_status status;
    vae_names names;
    d2c_vae *vae;

    D2C_TRY(make(&vae, config, err));
    status = outline(vae, &names, file, err);
    d2c_vae_close(vae, NULL);
    return status;
}

d2c_status
d2c_vae_open(d2c_vae **vae, d2c_backend *be, const d2c_vae_config *config, d2c_weights *file,
             d2c_dtype precision, d2c_error *err)
{
    d2c_status status;

    *vae = NULL;
    D2C_TRY(d2c_precision_check(be, precision, err));
    D2C_TRY(make(vae, config, err));
    (*vae)->precision = precision == D2C_F32 ? D2C_F32 : D2C_BF16;
    status = load(*vae, be, file, err);
    if (status != D2C_OK) {
        d2c_vae_close(*vae, be);
        *vae = NULL;
    }
    return status;
}

void
d2c_vae_close(d2c_vae *vae, d2c_backend *be)
{
    if (vae == NULL)
        return;
    d2c_params_free(&vae->params, be);
    free(vae->network);
    free(vae);
}
