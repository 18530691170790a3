/*
 * sit_layers.h: what the files of the SiT share: the table of weights, a pass and its saved activations.
 *
 * B images, T tokens an image, D hidden width, L blocks, K distinct texts.  "f32/bf16" is the precision of products.
 */
#ifndef D2C_NN_SIT_LAYERS_H
#define D2C_NN_SIT_LAYERS_H

#include "nn/sit.h"

#define SIT_EPS 1e-6f       /* of every LayerNorm */
#define SIT_HEAD_EPS 1e-5f  /* of the norms of queries and keys */
#define SIT_FREQUENCIES 256 /* width of the timestep embedding */

/* A block's vectors in a row of the all-layer adaLN product, in D-wide columns; block l starts at column 6*l. */
enum { SIT_SHIFT1, SIT_SCALE1, SIT_GATE1, SIT_SHIFT2, SIT_SCALE2, SIT_GATE2, SIT_VECTORS };

typedef struct sit_block {
    d2c_weight qkv, proj, fc1, fc2;
    /* [hidden/heads] f32: the norms of queries and of keys, where there are any */
    d2c_tensor gamma[2], beta[2], gamma_grad[2], beta_grad[2];
} sit_block;

/* DC-Embedding: y_text = MLP(e) + e with e = Conv1d(text * mask), MLP = LayerNorm, Linear, SiLU, Linear. */
typedef struct dc_weights {
    d2c_weight conv, in, out;
} dc_weights;

typedef struct dc_saved {
    d2c_tensor unfolded; /* [K, W*L] f32 */
    d2c_tensor e;        /* [K, D] f32 */
    d2c_tensor stat;     /* [K, 2] f32 */
    d2c_tensor norm;     /* [K, D] f32 */
    d2c_tensor pre;      /* [K, D] f32, before SiLU */
} dc_saved;

typedef struct projector_saved {
    d2c_tensor pre1, pre2; /* [B*T, proj_hidden] f32/bf16, before SiLU */
} projector_saved;

/*
 * What backward needs of a block.  The second residual stream, both norms and GELU's output are computed again: keeping
 * the latter would make all this a third larger.
 */
typedef struct sit_saved {
    d2c_tensor x;   /* [B, T, D] f32, the residual stream at entry */
    d2c_tensor qkv; /* [B, T, 3D] f32/bf16 */
    d2c_tensor raw; /* [B, T, 2D] f32/bf16: queries and keys before their norms, where there are any */
    d2c_tensor o;   /* [B, T, D] f32/bf16 */
    d2c_tensor lse; /* [B, H, T] f32 */
    d2c_tensor y1;  /* [B, T, D] f32/bf16, before the gate */
    d2c_tensor pre; /* [B, T, 4D] f32/bf16, before GELU */
    d2c_tensor f;   /* [B, T, 4D] f32/bf16, GELU's output: one tensor for all blocks */
    d2c_tensor y2;  /* [B, T, D] f32/bf16, before the gate */
} sit_saved;

struct d2c_sit_pass {
    int training, projected;
    d2c_sit_input in;
    d2c_tensor patches;     /* [B, T, p*p*channels] f32 */
    d2c_tensor frequencies; /* [B, 256] f32 */
    d2c_tensor time_pre;    /* [B, D] f32, before SiLU */
    d2c_tensor c;           /* [B, D] f32, the condition */
    d2c_tensor vectors;     /* [B, (6L + 2) D] f32, the all-layer adaLN product */
    d2c_tensor last;        /* [B, T, D] f32, the residual stream after the last block */
    dc_saved text;
    projector_saved projector;
    sit_saved *block; /* [L] when training; what is computed again is one set of tensors for all of them */
};

typedef struct sit_layers {
    d2c_weight patch, time1, time2, final;
    d2c_weight adaln; /* [(6L + 2) D, D]: every block's six vectors, then the final layer's shift and scale */
    d2c_weight *adaln_apart;      /* [L + 1] its layers one by one, NULL when they are one matrix */
    d2c_tensor table, table_grad; /* [classes + null, D] f32 */
    d2c_tensor position;          /* [T, D] f32 */
    dc_weights text;
    d2c_weight projector[3];
    sit_block *block;  /* [L] */
    sit_saved *saved;  /* [L] when training */
    d2c_sit_pass pass; /* the newest training pass */
} sit_layers;

/* What every function of a pass is given.  While the arena plans, only sizes are counted. */
typedef struct sit_run {
    d2c_sit *sit;
    const sit_layers *layers;
    d2c_backend *be;
    d2c_arena *arena;
    d2c_error *err;
    int64_t batch, tokens;
} sit_run;

/* Calls an op of the run's backend, unless the arena plans, and returns its failure. */
#define SIT_OP(run, call)                                                                                    \
    do {                                                                                                     \
        if ((run)->arena->failed)                                                                            \
            return d2c_arena_check((run)->arena, (run)->err);                                                \
        if ((run)->arena->base != NULL && (call) != D2C_OK)                                                  \
            return d2c_backend_error((run)->be, (run)->err);                                                 \
    } while (0)

/* What the pass did not keep of a block, into its tensors; h, stat and x2 are scratch. */
d2c_status sit_block_again(d2c_tensor h, d2c_tensor stat, d2c_tensor x2, sit_saved *a,
                           const d2c_sit_pass *pass, const sit_run *run, int block);

/* Tensors from the run's arena. */
d2c_tensor sit_take2(const sit_run *run, d2c_dtype dtype, int64_t d0, int64_t d1);
d2c_tensor sit_take3(const sit_run *run, d2c_dtype dtype, int64_t d0, int64_t d1, int64_t d2);
/* [B, T, D] as [B*T, D] */
d2c_tensor sit_flat(d2c_tensor t);
/* Columns [from*D, (from + 1)*D) of the all-layer product or of its gradient. */
d2c_tensor sit_vector(const sit_run *run, d2c_tensor vectors, int64_t from);
/* x in the precision of products: x itself for f32, a copy from the arena for bf16. */
d2c_status sit_operand(d2c_tensor *out, const sit_run *run, d2c_tensor x);

/* The parts.  Outputs first; what is saved lies in the arena before the function is called. */
dc_weights dc_weights_at(const d2c_params *params, const float *range);
void dc_take(dc_saved *saved, const sit_run *run, int64_t texts);
d2c_status dc_forward(d2c_tensor y, dc_saved *saved, const sit_run *run, const dc_weights *w, d2c_tensor text,
                      d2c_tensor mask);
d2c_status dc_backward(const sit_run *run, const dc_weights *w, const dc_saved *saved, d2c_tensor dy);

void projector_take(projector_saved *saved, const sit_run *run);
d2c_status projector_forward(d2c_tensor out, projector_saved *saved, const sit_run *run, d2c_tensor x);
/* Adds to dx, the residual stream's gradient. */
d2c_status projector_backward(d2c_tensor dx, const sit_run *run, const projector_saved *saved, d2c_tensor x,
                              d2c_tensor dout);

/* Queries and keys within qkv [B, T, 3D], each head normalised; what they were goes to raw unless it is absent. */
d2c_status head_norms_forward(d2c_tensor qkv, d2c_tensor raw, const sit_block *w, const sit_run *run);
/* dqkv, the gradient of the normalised, becomes that of raw. */
d2c_status head_norms_backward(d2c_tensor dqkv, d2c_tensor raw, const sit_block *w, const sit_run *run);

/* How a file names a SiT's parameters: a d2c_naming.  The blocks that it does not have under "blocks" are counted on from 0
 * under "decoder_blocks". */
typedef struct sit_naming {
    const d2c_weights *file;
    const char *prefix;
} sit_naming;

int sit_name_in_file(char name[D2C_NAME_PARTS][D2C_NAME_SIZE], const char *parameter, const void *naming);

/* pos_embed's values; table [T, D]. */
void sit_position_table(float *table, const d2c_sit_config *config);

#endif
