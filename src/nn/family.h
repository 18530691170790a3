/*
 * family.h: the kinds of model that there are, and what each can do.
 *
 * A family is one network with its file layouts.  It tells its files from others', describes them, opens them, and
 * serves its role.  Functions are of one network whose weights are read-only, so threads share it, each with a backend
 * and a scratch of its own.
 */
#ifndef D2C_NN_FAMILY_H
#define D2C_NN_FAMILY_H

#include "image/image.h"
#include "nn/model_files.h"
#include "nn/params.h"
#include "nn/scratch.h"

typedef enum d2c_role {
    D2C_ROLE_ANY,        /* as a wish only */
    D2C_ROLE_DENOISER,   /* a d2c_sit: scores, samples, serves as its own image encoder */
    D2C_ROLE_TEXT,       /* prompts to tokens */
    D2C_ROLE_IMAGE,      /* images to tokens */
    D2C_ROLE_AUTOENCODER /* images to latents and back */
} d2c_role;

typedef struct d2c_model_info {
    char name[128];
    const char *kind; /* the family's, or "unknown" */
    d2c_role role;    /* D2C_ROLE_ANY when unknown */
    int64_t parameters;
    int height, width,
        channels; /* of the images or latents that it takes; 0 for text encoders, or when it takes any size */
    int classes;  /* 0 for encoders */
    int embedding;     /* width of what it embeds to: hidden size */
    int tokens;        /* that it embeds to: of an image, or the most of a prompt */
    int least_tokens;  /* of a prompt: its special tokens */
    char sha256[65];   /* of the files (model_files.h), lower-case hex */
    char problem[320]; /* empty, or why the model cannot be used */
} d2c_model_info;

typedef struct d2c_family {
    const char *kind;
    d2c_role role;
    int embeds_f32; /* images' embeddings are measured with: they keep their f32, which others round to f16 */

    /* Whether the files are this family's; they need not be whole. */
    int (*recognizes)(const d2c_model_files *files);

    /* Fills parameters, sizes, classes, embedding and tokens; what is known before a failure stays. */
    d2c_status (*describe)(d2c_model_info *info, const d2c_model_files *files, d2c_error *err);

    /* precision: D2C_F32, D2C_BF16 or D2C_F8, which families without e4m3 products take as bf16. */
    d2c_status (*open)(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision,
                       d2c_error *err);
    void (*close)(void *network, d2c_backend *be);
    const d2c_params *(*params)(const void *network);

    /* D2C_ROLE_TEXT: embedding [tokens, info.embedding], rows beyond the text zero; mask [tokens] 0 or 1.  The prompt is
     * cut or padded to `tokens`, special tokens counted; info.least_tokens to info.tokens. */
    d2c_status (*embed_text)(void *network, d2c_backend *be, d2c_scratch *scratch, float *embedding,
                             float *mask, const char *prompt, int tokens, d2c_error *err);

    /* D2C_ROLE_IMAGE: embedding [tokens, info.embedding]: the first `tokens` of info.tokens patch tokens.  image: RGB,
     * any size; the family crops, resizes and normalises as its public code does. */
    d2c_status (*embed_image)(void *network, d2c_backend *be, d2c_scratch *scratch, float *embedding,
                              const d2c_image *image, int tokens, d2c_error *err);
} d2c_family;

/* Every family, in the order in which they are asked whether files are theirs; ends with NULL. */
extern const d2c_family *const d2c_families[];

/* The family of the files, or NULL. */
const d2c_family *d2c_family_of(const d2c_model_files *files);

/* "a diffusion model", "a text encoder", ... */
const char *d2c_role_name(d2c_role role);

#endif
