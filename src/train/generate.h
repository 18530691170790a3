/*
 * generate.h: many samples of a SiT on several threads.
 *
 * Each thread has a one-thread backend of its own over the shared weights and takes `batch` images at a time.  With
 * batch 1 an image is a function of model, seed, label and sampler alone, bit for bit, whatever the number of threads.
 */
#ifndef D2C_TRAIN_GENERATE_H
#define D2C_TRAIN_GENERATE_H

#include "image/image.h"
#include "nn/sampler.h"

typedef struct d2c_generator d2c_generator;

/* model: a name in the directory, or (directory NULL) the path of a .safetensors file.  precision: "no", "bf16" or
 * "auto"; threads 0: all cores. */
d2c_status d2c_generator_open(d2c_generator **generator, const char *directory, const char *model,
                              const char *device, const char *precision, int threads, d2c_error *err);
void d2c_generator_close(d2c_generator *generator);
const d2c_sit_config *d2c_generator_config(const d2c_generator *generator);
int d2c_generator_threads(const d2c_generator *generator);

/* image [n]: allocated here, freed by the caller; on failure none is left. */
d2c_status d2c_generate(d2c_generator *generator, d2c_image *image, const d2c_sampler *sampler, int n,
                        const int64_t *labels, const uint64_t *seeds, int batch, d2c_error *err);

#endif
