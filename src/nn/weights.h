/*
 * weights.h: the tensors of a model's file by name, whatever the file's format.
 *
 * Formats are told by content, never by the file's name: safetensors; what torch.save writes, in the ZIP layout since
 * torch 1.6 and in the one before (torch_file.h); and the index of a model in several files, {"weight_map": {tensor:
 * file}}, whose files lie beside it.  A tensor's data is little-endian and in C order.  Dicts within dicts join their
 * names with dots ("ema.blocks.0...").
 */
#ifndef D2C_NN_WEIGHTS_H
#define D2C_NN_WEIGHTS_H

#include "base/safetensors.h"

typedef struct d2c_weights d2c_weights;

/* Files stay mapped until the last close.  D2C_BAD_MODEL names the file, the tensor and what is wrong. */
d2c_status d2c_weights_open(d2c_weights **weights, const char *path, d2c_error *err);

/* The same over a file's bytes in memory, which must outlive the result; `name` is for messages.  No index. */
d2c_status d2c_weights_parse(d2c_weights **weights, const char *name, const void *bytes, size_t length,
                             d2c_error *err);

/* The tensors of an open safetensors file, which must outlive the result. */
d2c_status d2c_weights_borrow(d2c_weights **weights, const d2c_safetensors *file, d2c_error *err);

/* One close more is needed: for who keeps using the tensors' data.  Not for two threads at a time. */
d2c_weights *d2c_weights_hold(d2c_weights *weights);
void d2c_weights_close(d2c_weights *weights);

int d2c_weights_count(const d2c_weights *weights);
const d2c_st_tensor *d2c_weights_at(const d2c_weights *weights, int index);
const d2c_st_tensor *d2c_weights_find(const d2c_weights *weights, const char *name); /* or NULL */
const char *d2c_weights_metadata(const d2c_weights *weights, const char *key);       /* or NULL */

/* Whether there is a tensor "prefix + name". */
int d2c_weights_has(const d2c_weights *weights, const char *prefix, const char *name);

/* The first of the prefixes, a list that ends with NULL, under which there is that tensor; or NULL. */
const char *d2c_weights_prefix(const d2c_weights *weights, const char *const *prefixes, const char *name);

/* Elements of all float tensors under the prefix; index tables are no parameters. */
int64_t d2c_weights_parameters(const d2c_weights *weights, const char *prefix);

#endif
