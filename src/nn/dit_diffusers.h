/*
 * dit_diffusers.h: a DiT in diffusers' layout (DiTTransformer2DModel): a folder with config.json and
 * diffusion_pytorch_model.safetensors.
 *
 * There queries, keys and values lie apart, positions are not stored, and every block has embedders of step and label of
 * its own, which are all the same in what was converted from the public code.  diffusers computes a step's embedding from
 * frequencies 10000^(-i/127), the public code, whose weights these are, from 10000^(-i/128): here it is the latter.
 */
#ifndef D2C_NN_DIT_DIFFUSERS_H
#define D2C_NN_DIT_DIFFUSERS_H

#include <cjson/cJSON.h>

#include "nn/sit_export.h"

int d2c_dit_diffusers_is(const d2c_weights *file);

/* A d2c_naming without closure: what the file calls the parameter; 0 for the positions, which it has not. */
int d2c_dit_diffusers_name(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter);

/* From the tensors and config.json.  What this implementation does not compute is D2C_UNSUPPORTED. */
d2c_status d2c_dit_diffusers_config(d2c_sit_config *config, const d2c_weights *file, const cJSON *json,
                                    d2c_error *err);

/* D2C_UNSUPPORTED unless all blocks have the same embedders, as one network has but one. */
d2c_status d2c_dit_diffusers_check(const d2c_sit_config *config, const d2c_weights *file, d2c_error *err);

/* Makes the folder from the items, which have the public names and are a whole DiT of that config. */
d2c_status d2c_dit_diffusers_write(const char *folder, const d2c_sit_config *config, const d2c_st_item *item,
                                   int count, d2c_error *err);

#endif
