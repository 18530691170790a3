/*
 * plan.h: what product.c and tuning.c share: plans of products, and the choices among algorithms that were measured.
 */
#ifndef D2C_KERNELS_PLAN_H
#define D2C_KERNELS_PLAN_H

#include <cublasLt.h>

#include "product.h"

/* How many of the library's proposals are looked at. */
#define D2C_PROPOSALS 8

/* A product and the alignment of its matrices in bytes, by which the library chooses as well. */
typedef struct d2c_plan_key {
    d2c_matmul product;
    int32_t align[6]; /* a, b, c, bias, aux, nothing */
} d2c_plan_key;

typedef enum d2c_plan_way {
    D2C_BY_LIBRARY,
    D2C_BY_OWN_KERNEL, /* the library has no algorithm */
    D2C_APART          /* the activation has a kernel of its own */
} d2c_plan_way;

/* The library's matrices have their columns in a row of memory: its A is our b turned, its B our a, its C and D our
 * c. */
typedef struct d2c_plan {
    struct d2c_plan *next; /* of the same place in the table */
    d2c_plan_key key;
    d2c_plan_way way;
    int tuned; /* while tuning was on */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
} d2c_plan;

/* A shape's choice. */
typedef struct d2c_choice {
    char *words; /* d2c_plan_words */
    d2c_plan_way way;
    cublasLtMatmulAlgo_t algo;
} d2c_choice;

#define D2C_PLAN_SLOTS 1024 /* a power of two */

struct d2c_products {
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    void *workspace; /* had with the first plan that needs one */
    size_t workspace_bytes;
    d2c_plan *slot[D2C_PLAN_SLOTS];
    int tuning;
    d2c_choice *choice; /* in the order of their first meeting */
    int choices, choice_room;
    cudaEvent_t begin, end; /* of a measurement */
};

/* Something that queues work: the other way of d2c_matmul_fuses, or what is measured. */
typedef struct d2c_plan_call {
    d2c_status (*run)(void *argument); /* NULL: nothing */
    void *argument;
} d2c_plan_call;

/* The algorithms that the library proposes for a plan. */
typedef struct d2c_proposals {
    int count;
    cublasLtMatmulAlgo_t algo[D2C_PROPOSALS];
    int split[D2C_PROPOSALS];        /* the sums are divided among blocks */
    size_t workspace[D2C_PROPOSALS]; /* bytes that it needs */
} d2c_proposals;

#define D2C_PLAN_WORDS 256

/* product.c */
uint64_t d2c_plan_hash(const void *bytes, size_t size);
void d2c_plan_words(char *text, size_t size, const d2c_plan_key *key);
cublasStatus_t d2c_plan_launch(d2c_cuda *cuda, d2c_plan *plan, const d2c_matmul_data *at,
                               const cublasLtMatmulAlgo_t *algo);

/* Has the workspace ready, unless `needed` is 0. */
d2c_status d2c_plan_workspace(d2c_cuda *cuda, size_t needed);

/* D2C_OK, or the failure of a call of the library. */
d2c_status d2c_plan_check(d2c_cuda *cuda, cublasStatus_t status, const d2c_plan_key *key);

/* tuning.c: sets the plan's way and algorithm by an earlier choice, or by measuring. */
d2c_status d2c_plan_tune(d2c_cuda *cuda, d2c_plan *plan, const d2c_matmul_data *at,
                         const d2c_proposals *proposals, d2c_plan_call apart);
void d2c_choices_free(d2c_products *products);

#endif
