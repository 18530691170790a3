/* inception_input.c: the three ways in which pictures become Inception's input (inception.h). */
#include "nn/inception.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {
    [D2C_INCEPTION_PYTORCH_FID] = "pytorch-fid",
    [D2C_INCEPTION_TENSORFLOW] = "tensorflow",
    [D2C_INCEPTION_CLEAN_FID] = "clean-fid",
};

d2c_status
d2c_inception_input_named(d2c_inception_input *input, const char *name, d2c_error *err)
{
    int i;

    *input = D2C_INCEPTION_PYTORCH_FID;
    if (name == NULL)
        return D2C_OK;
    for (i = 0; i <= D2C_INCEPTION_CLEAN_FID; i++)
        if (strcmp(name, names[i]) == 0) {
            *input = (d2c_inception_input)i;
            return D2C_OK;
        }
    d2c_fail(err, D2C_BAD_MODEL, "unknown \"input\" \"%s\" in the model's description", name);
    d2c_hint(err, "It is pytorch-fid, tensorflow or clean-fid.");
    return D2C_BAD_MODEL;
}

d2c_status
d2c_inception_prepare(float *x, const d2c_image *image, d2c_inception_input input, d2c_error *err)
{
    const int edge = D2C_INCEPTION_EDGE;
    int i;

    if (input == D2C_INCEPTION_CLEAN_FID)
        D2C_TRY(d2c_image_resize_float(x, image, edge, edge, D2C_FILTER_BICUBIC, err));
    else
        D2C_TRY(d2c_image_resize_bilinear(x, image, edge, edge, input == D2C_INCEPTION_PYTORCH_FID, err));
    for (i = 0; i < edge * edge * 3; i++)
        if (input == D2C_INCEPTION_PYTORCH_FID)
            x[i] = 2 * (x[i] / 255) - 1;
        else
            x[i] = (fminf(fmaxf(x[i], 0), 255) - 128) / 128;
    return D2C_OK;
}
