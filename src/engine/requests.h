/*
 * requests.h: one function for each kind of request that the computing threads answer.
 *
 * Each reads its payload (protocol.h states what it holds), computes, and writes the reply.  A payload that ends early
 * leaves the reader `bad`; d2c_request_run looks at that, so functions need not, as long as they check before they
 * allocate by a number that was read.
 */
#ifndef D2C_ENGINE_REQUESTS_H
#define D2C_ENGINE_REQUESTS_H

#include "engine/worker.h"

typedef d2c_status (*d2c_request_function)(d2c_worker *worker, d2c_reader *in, d2c_buffer *out,
                                           d2c_error *err);

/* Answers the task: sets its reply, and its frame to the reply's. */
void d2c_request_run(d2c_worker *worker, d2c_task *task);

/* What every task is answered with once the worker's device is lost. */
void d2c_request_lost(d2c_worker *worker, d2c_error *failure);

/* Sets a task's reply to a failure. */
void d2c_task_fail(d2c_task *task, const d2c_error *err);

/* A string of the payload as a C string of less than `size` bytes. */
d2c_status d2c_read_string(char *out, size_t size, d2c_reader *in, const char *what, d2c_error *err);
/* The name of a model; what cannot be one is D2C_NOT_FOUND, since it is not the row's fault. */
d2c_status d2c_read_model_name(char out[D2C_MODEL_NAME_SIZE], d2c_reader *in, d2c_error *err);
/* D2C_BAD_DATA unless the payload was read to its end, and no further. */
d2c_status d2c_read_finish(const d2c_reader *in, d2c_error *err);

/* A tensor [C, H, W] f32 of the payload, still there; dims are as sent, whatever ndim is. */
typedef struct d2c_sent_planes {
    uint32_t ndim;
    int64_t dim[3];
    const char *bytes;
    size_t length;
} d2c_sent_planes;

d2c_status d2c_read_planes(d2c_sent_planes *planes, d2c_reader *in, d2c_error *err);
/* Its first `count` elements, which must be there and finite. */
d2c_status d2c_copy_planes(float *x, int64_t count, const d2c_sent_planes *planes, d2c_error *err);

/* Decodes an image, crops it to size x size as ADM does, and makes x [channels, size, size] in [-1, 1] of it; malloc'd,
 * NULL after a failure. */
d2c_status d2c_planes_of_image(float **x, d2c_worker *worker, const char *bytes, size_t length, int channels,
                               int size, d2c_error *err);
d2c_status d2c_put_png(d2c_buffer *out, const d2c_image *image, d2c_error *err);

/* Whose latents a diffusion model takes. */
typedef struct d2c_latent_model {
    const d2c_sit_config *config;
    const char *name;
    const char *vae; /* "": the model's own (vae_choice.h) */
} d2c_latent_model;

/* x [channels, height, width]: the mean of the image's posterior times the autoencoder's scale; as above. */
d2c_status d2c_latent_of_image(float **x, d2c_worker *worker, const d2c_latent_model *model,
                               const char *bytes, size_t length, d2c_error *err);

d2c_status d2c_request_latent(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_decode_latent(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);

/* A string of the payload, of any length: malloc'd. */
d2c_status d2c_read_text(char **text, d2c_reader *in, const char *what, d2c_error *err);
/* Embeds the prompt in [tokens, the encoder's width], malloc'd both; tokens must be what the encoder takes. */
d2c_status d2c_embed_prompt(float **embedding, float **mask, d2c_worker *worker, const d2c_model *encoder,
                            const char *prompt, int64_t tokens, d2c_error *err);

d2c_status d2c_request_difficulty(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_difficulty_latent(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_difficulty_prompt(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_denoise(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);

d2c_status d2c_request_text_embedding(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_visual_embedding(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);

d2c_status d2c_request_image_info(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_thumbnail(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_phash(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_contact_sheet(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);

d2c_status d2c_request_frechet(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);

d2c_status d2c_request_select(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);

d2c_status d2c_request_models(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);
d2c_status d2c_request_provenance(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err);

#endif
