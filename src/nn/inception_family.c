/* inception_family.c: Inception-v3 for FID as a model; its description may hold "input" (inception.h). */
#include "nn/families.h"
#include "nn/inception.h"

const d2c_inception *
d2c_model_inception(const d2c_model *model)
{
    return model->family == &d2c_family_inception ? model->network : NULL;
}

static int
recognizes(const d2c_model_files *files)
{
    return d2c_weights_has(files->weights, "", "Conv2d_1a_3x3.conv.weight") &&
           d2c_weights_has(files->weights, "", "Mixed_7c.branch_pool.conv.weight");
}

static d2c_status
describe(d2c_model_info *info, const d2c_model_files *files, d2c_error *err)
{
    d2c_inception_plan plan;
    d2c_inception_input input;
    d2c_params params = {0};
    d2c_status status;

    info->parameters = d2c_weights_parameters(files->weights, "");
    D2C_TRY(d2c_inception_input_named(&input, d2c_model_files_say(files, "input"), err));
    status = d2c_inception_plan_make(&plan, &params, files->weights, err);
    if (status == D2C_OK) {
        info->embedding = plan.out.channels;
        info->tokens = 1;
    }
    d2c_inception_plan_free(&plan);
    d2c_params_free(&params, NULL);
    return status;
}

/* In f32 whatever the precision (inception.h). */
static d2c_status
open_inception(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision,
               d2c_error *err)
{
    d2c_inception_input input;
    d2c_inception *inception;
    d2c_status status;

    (void)precision;
    *network = NULL;
    D2C_TRY(d2c_inception_input_named(&input, d2c_model_files_say(files, "input"), err));
    status = d2c_inception_open(&inception, be, files->weights, input, err);
    *network = inception;
    return status;
}

static void
close_inception(void *network, d2c_backend *be)
{
    d2c_inception_close(network, be);
}

static const d2c_params *
params_of(const void *network)
{
    return &((const d2c_inception *)network)->params;
}

static d2c_status
embed_image(void *network, d2c_backend *be, d2c_scratch *scratch, float *embedding, const d2c_image *image,
            int tokens, d2c_error *err)
{
    const d2c_inception_result result = {.features = embedding};

    (void)tokens; /* there is one */
    return d2c_inception_run(network, be, scratch, &result, image, err);
}

const d2c_family d2c_family_inception = {
    .kind = "inception",
    .role = D2C_ROLE_IMAGE,
    .embeds_f32 = 1,
    .recognizes = recognizes,
    .describe = describe,
    .open = open_inception,
    .close = close_inception,
    .params = params_of,
    .embed_image = embed_image,
};
