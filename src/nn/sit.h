/*
 * sit.h: SiT, the scalable interpolant transformer (willisma/SiT models.py), and its relatives DiT (facebookresearch/DiT)
 * and REPA's SiT (sihyun-yu/REPA), which are the same network trained to predict something else, with the D2C paper's
 * attachments: DC-Embedding (a text condition) and REPA's projector.
 *
 * Tensor names are the public code's; the attachments add
 *   text_embedder.conv.{weight [C, W, L], bias}   text_embedder.mlp.{0,2}.{weight, bias}   (DC-Embedding)
 *   projectors.0.{0,2,4}.{weight, bias}                                                    (sihyun-yu/REPA)
 * Every function works on any backend.  A d2c_sit is read-only in forward without training, so threads share it, each
 * with a backend and a workspace of its own.
 */
#ifndef D2C_NN_SIT_H
#define D2C_NN_SIT_H

#include "base/arena.h"
#include "nn/model_files.h"
#include "nn/params.h"

/* What a network was trained to predict, and the time that it is given. */
typedef enum d2c_sit_kind {
    D2C_SIT_KIND_SIT, /* velocity; from 0, noise, to 1, data */
    D2C_SIT_KIND_DIT, /* noise, and the range of the variance; steps 0, data, to 999, noise (dit_schedule.h) */
    D2C_SIT_KIND_REPA /* velocity, of the other sign; from 0, data, to 1, noise */
} d2c_sit_kind;

#define D2C_SIT_CLASSES_LIMIT (1 << 24)

typedef struct d2c_sit_config {
    int depth, hidden, heads, patch;
    int channels;      /* of the image or latent */
    int out_channels;  /* of the final layer: channels, or twice as many in public SiT and DiT files */
    int height, width; /* of the input; multiples of patch */
    int classes;       /* without the null class */
    int null_class;    /* 1: the label table has a row more */
    d2c_path path;
    int text_tokens, text_width; /* DC-Embedding's L and W; 0: none */
    int proj_block;              /* projector's tap: after this many blocks; 0: none */
    int proj_hidden, proj_width;
    d2c_sit_kind kind;
    int qk_norm; /* 1: queries and keys are normalised within each head, as REPA can do */
} d2c_sit_config;

/* What backward computes again in place of keeping it; gradients have the same bits. */
typedef enum d2c_recompute {
    D2C_RECOMPUTE_NONE, /* norms and GELUs alone */
    D2C_RECOMPUTE_MLP,  /* and the wide activations of every MLP */
    D2C_RECOMPUTE_BLOCK /* everything of a block but its input */
} d2c_recompute;

typedef struct d2c_sit {
    d2c_sit_config config;
    d2c_dtype precision;     /* of activations, and of matrix products but for: */
    int eight;               /* the blocks' four products have e4m3 operands */
    d2c_recompute recompute; /* of training passes; it stays as it is from a forward to its backward */
    d2c_params params;
    void *layers; /* sit.c's own table of weights */
} d2c_sit;

/* Public sizes by name: SiT-{S,B,L,XL}/{2,4,8}, of DiTs DiT-...; sets depth, hidden, heads, patch.  config->kind is given. */
d2c_status d2c_sit_preset(d2c_sit_config *config, const char *name, d2c_error *err);

/* Every field inside its range and fitting the others. */
d2c_status d2c_sit_config_check(const d2c_sit_config *config, d2c_error *err);

/* What is known of a file beside what it holds. */
typedef struct d2c_sit_hints {
    const char *kind; /* "sit", "dit" or "repa" when it is said; or NULL */
    const char *name; /* of the file: official ones tell the kind; or NULL */
    int heads;        /* or 0 */
    const char *path; /* "linear", "gvp" or "vp" when it is said; or NULL */
} d2c_sit_hints;

/* What the model's description and its name say. */
d2c_status d2c_sit_hints_read(d2c_sit_hints *hints, const d2c_model_files *files, d2c_error *err);

/* Fills the config from a file: metadata "d2c.sit" (JSON of the fields above, which the tensors must bear out) where
 * there is one, otherwise the public sizes from the tensors' shapes.  A file without metadata has a square input, the
 * null class and the path that is said, or else the linear one, the public code's default; its projectors, which serve
 * training only, are left out.  What cannot be told is an error that asks for it, never a guess:
 *  - the heads are those that are said, or those of the public size;
 *  - the kind is what is said, or else that of an official name ("DiT-...", "SiT-..."), or else REPA's when there are
 *    projectors.  A name tells nothing against projectors, nor of a network that has not two outputs for each input, as
 *    the official files have: REPA calls its networks SiT.
 * hints may be NULL: nothing is known. */
d2c_status d2c_sit_config_read(d2c_sit_config *config, const d2c_weights *file, const char *prefix,
                               const d2c_sit_hints *hints, d2c_error *err);
const char *d2c_sit_kind_name(d2c_sit_kind kind);
const char *d2c_sit_path_name(d2c_path path);
int d2c_sit_kind_by_name(d2c_sit_kind *kind, const char *name); /* 0: there is none of that name */
/* Whether the file's kind is told, and which it is. */
int d2c_sit_kind_told(d2c_sit_kind *kind, const d2c_weights *file, const char *prefix,
                      const d2c_sit_hints *hints);
/* Whether two networks have the same weights, but for a projector's; `difference` receives the first field that differs, as
 * "hidden: 384, not 768" with the first one's before the other's. */
int d2c_sit_config_same(const d2c_sit_config *a, const d2c_sit_config *b, char *difference, size_t size);
/* The JSON for that metadata; malloc'd. */
char *d2c_sit_config_json(const d2c_sit_config *config);
d2c_status d2c_sit_config_parse(d2c_sit_config *config, const char *json, d2c_error *err);

/* A network without memory, for planning: params.total counts its parameters and d2c_sit_workspace works; nothing else
 * does.  d2c_sit_destroy takes it, with a backend of NULL. */
d2c_status d2c_sit_outline(d2c_sit **sit, const d2c_sit_config *config, d2c_dtype precision, d2c_error *err);

d2c_status d2c_sit_create(d2c_sit **sit, d2c_backend *be, const d2c_sit_config *config, d2c_dtype precision,
                          int training, d2c_error *err);
void d2c_sit_destroy(d2c_sit *sit, d2c_backend *be);
d2c_status d2c_sit_initialize(d2c_sit *sit, d2c_backend *be, uint64_t seed, d2c_error *err);
int d2c_sit_tokens(const d2c_sit_config *config);
/* Channels of the raw output as the public code gives it: DiT's has the variance's behind the noise. */
int d2c_sit_outputs(const d2c_sit_config *config);

/* An inference network with the parameters "prefix + name" of a file, which is held where they are used as it has them. */
d2c_status d2c_sit_open(d2c_sit **sit, d2c_backend *be, const d2c_sit_config *config, d2c_dtype precision,
                        d2c_weights *file, const char *prefix, d2c_error *err);

/* Reads every parameter "prefix + name" into `range` (params.value or params.ema) and refreshes the bf16 shadow.  For
 * both, blocks may be split into "blocks" and "decoder_blocks", as in REPA's first files. */
d2c_status d2c_sit_load(d2c_sit *sit, d2c_backend *be, float *range, const d2c_weights *file,
                        const char *prefix, d2c_error *err);

/* The class-conditional network alone, in a new d2c_sit for inference: values from `range`, no text embedder, no
 * projector.  label_table [classes + null, hidden], host memory, takes the place of the label table when not NULL; a
 * network with a text condition needs it (d2c_sit_fold_text). */
d2c_status d2c_sit_plain(d2c_sit **plain, d2c_sit *sit, d2c_backend *be, const float *range,
                         const float *label_table, d2c_error *err);
/* The same as a file that the public code can load; "d2c.sit" is added to the metadata. */
d2c_status d2c_sit_save_plain(const char *path, d2c_sit *sit, d2c_backend *be, const float *range,
                              const float *label_table, const d2c_st_pair *metadata, int pairs,
                              d2c_error *err);

/* A batch's conditions; device memory. */
typedef struct d2c_sit_input {
    int batch;
    d2c_tensor x;     /* [B, channels, height, width] f32 */
    d2c_tensor t;     /* [B] f32 */
    d2c_tensor label; /* [B] i64, null class included */
    /* With DC-Embedding: the distinct texts of the batch, and which one a row has. */
    d2c_tensor text;       /* [K, L, W] f32 */
    d2c_tensor text_mask;  /* [K, L] f32; all zero for the dropped text */
    d2c_tensor text_index; /* [B] i64 into K */
} d2c_sit_input;

/* The activations that backward needs.  Their memory comes from the arena and stays valid until it is released; the
 * table of them belongs to the d2c_sit, so a backward belongs to the newest forward with training set.  Planning arenas
 * work (arena.h): no op is called then. */
typedef struct d2c_sit_pass d2c_sit_pass;

/* Forward.  A network with a text condition needs the texts (d2c_sit_plain makes one that does not).
 * v [B, n, height, width] f32, the first n of out_channels, is set when present.  projected [B, T, proj_width] f32 is set when present.
 * hidden [B, T, hidden] f32 receives the tokens after `hidden_block` blocks when present.  training: keep activations;
 * *pass is then what backward takes. */
typedef struct d2c_sit_output {
    d2c_tensor v;
    d2c_tensor projected;
    d2c_tensor hidden;
    int hidden_block; /* 1..depth; forward stops there when v is absent */
} d2c_sit_output;

d2c_status d2c_sit_forward(d2c_sit *sit, d2c_backend *be, d2c_arena *arena, const d2c_sit_input *in,
                           const d2c_sit_output *out, int training, d2c_sit_pass **pass, d2c_error *err);

/* Backward from dv [B, channels, height, width] f32 and, when present, dprojected; adds to params.grad. */
d2c_status d2c_sit_backward(d2c_sit *sit, d2c_backend *be, d2c_arena *arena, d2c_sit_pass *pass,
                            d2c_tensor dv, d2c_tensor dprojected, d2c_error *err);

/* Bytes of arena that a forward (and backward) of this batch needs; texts: the most distinct texts of a batch. */
d2c_status d2c_sit_workspace(size_t *bytes, d2c_sit *sit, int batch, int texts, int training, d2c_error *err);

/* The label table [classes + null, hidden] f32 with the text condition folded in: y_c = MLP(e) + e + table[c] with
 * e = Conv1d(text_c * mask_c), the null row with all tokens zeroed.  Exact for one text per class.  text
 * [classes, L, W], mask [classes, L]; values from `range` (params.value or params.ema); all host memory. */
d2c_status d2c_sit_fold_text(float *table, d2c_sit *sit, d2c_backend *be, const float *range,
                             const float *text, const float *mask, d2c_error *err);

#endif
