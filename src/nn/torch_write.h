/*
 * torch_write.h: a state_dict as torch.save writes it, for programs that read nothing else.
 *
 * The archive is torch's ZIP64 layout since 1.6, stored, each tensor's data on a boundary of 64 bytes; the pickle is of
 * protocol 2 and has nothing but what torch.load(weights_only=True) accepts.
 */
#ifndef D2C_NN_TORCH_WRITE_H
#define D2C_NN_TORCH_WRITE_H

#include "base/safetensors.h"

/* The items in their order as {name: tensor}, or as {within: {name: tensor}} when `within` is not NULL.  By a temporary
 * file in the same folder, as d2c_safetensors_write.  The bytes are a function of the arguments alone. */
d2c_status d2c_torch_write(const char *path, const d2c_st_item *items, int count, const char *within,
                           d2c_error *err);

#endif
