/* family.c: the list of families (family.h). */
#include "nn/families.h"

const d2c_family *const d2c_families[] = {
    &d2c_family_sit,    &d2c_family_bert,        &d2c_family_t5,  &d2c_family_clip_text, &d2c_family_vae,
    &d2c_family_dinov2, &d2c_family_clip_vision, &d2c_family_mae, &d2c_family_mocov3,    &d2c_family_inception,
    NULL};

const d2c_family *
d2c_family_of(const d2c_model_files *files)
{
    int i;

    for (i = 0; d2c_families[i] != NULL; i++)
        if (d2c_families[i]->recognizes(files))
            return d2c_families[i];
    return NULL;
}

const char *
d2c_role_name(d2c_role role)
{
    static const char *const names[] = {"a model", "a diffusion model", "a text encoder", "an image encoder",
                                        "an autoencoder"};

    return names[(unsigned)role <= D2C_ROLE_AUTOENCODER ? role : D2C_ROLE_ANY];
}
