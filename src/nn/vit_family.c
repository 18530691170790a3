/*
 * vit_family.c: vision transformers as models: one network, four kinds.
 *
 * A CLIP folder holds a text half as well.  It is the vision half's unless its description has "kind": "clip-text".
 */
#include <string.h>

#include "nn/families.h"
#include "nn/vit.h"

static int
recognizes(const d2c_model_files *files, d2c_vit_kind kind)
{
    const char *said = d2c_model_files_say(files, "kind");
    d2c_vit_names names;

    if (!d2c_vit_names_find(&names, files) || names.kind != kind)
        return 0;
    return kind != D2C_VIT_CLIP || said == NULL || strcmp(said, "clip-text") != 0;
}

static int
recognizes_dinov2(const d2c_model_files *files)
{
    return recognizes(files, D2C_VIT_DINOV2);
}

static int
recognizes_clip(const d2c_model_files *files)
{
    return recognizes(files, D2C_VIT_CLIP);
}

static int
recognizes_mae(const d2c_model_files *files)
{
    return recognizes(files, D2C_VIT_MAE);
}

static int
recognizes_mocov3(const d2c_model_files *files)
{
    return recognizes(files, D2C_VIT_MOCOV3);
}

static d2c_status
describe(d2c_model_info *info, const d2c_model_files *files, d2c_error *err)
{
    d2c_vit_config config;
    d2c_vit_names names;

    d2c_vit_names_find(&names, files);
    info->parameters = d2c_weights_parameters(files->weights, names.prefix);
    D2C_TRY(d2c_vit_config_read(&config, &names, files, err));
    info->height = info->width = config.input.edge;
    info->channels = 3;
    info->embedding = config.hidden;
    info->tokens = config.grid * config.grid;
    return D2C_OK;
}

static d2c_status
open_vit(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision, d2c_error *err)
{
    d2c_vit_names names;
    d2c_status status;
    d2c_vit *vit;

    d2c_vit_names_find(&names, files);
    status = d2c_vit_open(&vit, be, &names, files, precision, err);
    *network = vit;
    return status;
}

static void
close_vit(void *network, d2c_backend *be)
{
    d2c_vit_close(network, be);
}

static const d2c_params *
params_of(const void *network)
{
    return &((const d2c_vit *)network)->params;
}

static d2c_status
embed_image(void *network, d2c_backend *be, d2c_scratch *scratch, float *embedding, const d2c_image *image,
            int tokens, d2c_error *err)
{
    return d2c_vit_embed(network, be, scratch, embedding, image, tokens, err);
}

#define VIT_FAMILY(name, is_its)                                                                             \
    {                                                                                                        \
        .kind = name, .role = D2C_ROLE_IMAGE, .recognizes = is_its, .describe = describe, .open = open_vit,  \
        .close = close_vit, .params = params_of, .embed_image = embed_image                                  \
    }

const d2c_family d2c_family_dinov2 = VIT_FAMILY("dinov2", recognizes_dinov2);
const d2c_family d2c_family_clip_vision = VIT_FAMILY("clip-vision", recognizes_clip);
const d2c_family d2c_family_mae = VIT_FAMILY("mae", recognizes_mae);
const d2c_family d2c_family_mocov3 = VIT_FAMILY("mocov3", recognizes_mocov3);
