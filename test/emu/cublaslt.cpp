/*
 * cublaslt.cpp: matrix products D = epilogue(alpha op(A) op(B) + beta C) as cuBLASLt has them, computed on the host when
 * the stream comes to them.
 *
 * It refuses what the real library refuses, and says why: there a wrong descriptor is CUBLAS_STATUS_INVALID_VALUE at
 * best.  Sums are f32, in an order that depends on the algorithm alone.
 */
#include <math.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "base/bf16.h"
#include "base/float8.h"
#include "cublasLt.h"
#include "emu_lt.h"
#include "internal.h"

#define VERSION 130100
#define BIAS_MENDED 120804  /* before it, a bias is forgotten where there is one row or column */
#define VECTOR_ALIGNMENT 16 /* of every algorithm but 1 */
#define AUX_UNIT 8
#define ALGO_MARK 0x642d63756c745f31u

struct cublasLtContext {
    int unused;
};

struct cublasLtMatrixLayoutOpaque {
    cudaDataType_t type;
    int64_t rows, columns, ld;
};

struct cublasLtMatmulDescOpaque {
    int32_t transpose_a, transpose_b;
    uint32_t epilogue;
    const void *bias;
    void *aux;
    int64_t aux_ld;
    const float *scale_a, *scale_b;
    int32_t bias_type; /* -1: that of D */
};

struct cublasLtMatmulPreferenceOpaque {
    uint64_t workspace;
    uint32_t schemes;
    uint32_t align_a, align_b, align_c, align_d;
};

/* What the words of an algorithm hold. */
enum { ALGO_IS_MARK, ALGO_ID, ALGO_SPLIT, ALGO_SCHEME, ALGO_TYPES };

static long queries, products, failing_product, slow_by;
static cublasStatus_t failure;
static unsigned slow;

void
emu_lt_slow(unsigned algorithms, long microseconds)
{
    emu_entry entry;

    slow = algorithms;
    slow_by = microseconds;
}

void
emu_lt_fail(long n, int status)
{
    emu_entry entry;

    failing_product = n > 0 ? products + n : 0;
    failure = (cublasStatus_t)status;
}

long
emu_lt_queries(void)
{
    emu_entry entry;

    return queries;
}

static cublasStatus_t
refuse(const char *why)
{
    emu_complain("cuBLASLt: %s", why);
    return CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- the library and its descriptors ------------------------------------------------------------------------------- */

size_t
cublasLtGetVersion(void)
{
    return (size_t)emu_setting("EMU_LT_VERSION", VERSION);
}

const char *
cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
#define NAME(status)                                                                                         \
    case status:                                                                                             \
        return #status
        NAME(CUBLAS_STATUS_SUCCESS);
        NAME(CUBLAS_STATUS_NOT_INITIALIZED);
        NAME(CUBLAS_STATUS_ALLOC_FAILED);
        NAME(CUBLAS_STATUS_INVALID_VALUE);
        NAME(CUBLAS_STATUS_ARCH_MISMATCH);
        NAME(CUBLAS_STATUS_MAPPING_ERROR);
        NAME(CUBLAS_STATUS_EXECUTION_FAILED);
        NAME(CUBLAS_STATUS_INTERNAL_ERROR);
        NAME(CUBLAS_STATUS_NOT_SUPPORTED);
#undef NAME
    }
    return "unknown";
}

cublasStatus_t
cublasLtCreate(cublasLtHandle_t *handle)
{
    emu_entry entry;

    *handle = NULL;
    if (emu_usable() != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows, uint64_t columns,
                           int64_t ld)
{
    *layout = new cublasLtMatrixLayoutOpaque{type, (int64_t)rows, (int64_t)columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t compute_type,
                         cudaDataType_t scale_type)
{
    *operation = NULL;
    if (compute_type != CUBLAS_COMPUTE_32F || scale_type != CUDA_R_32F)
        return refuse("only f32 sums and scales are emulated");
    *operation = new cublasLtMatmulDescOpaque{
        CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL, NULL, 0, NULL, NULL, -1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    delete operation;
    return CUBLAS_STATUS_SUCCESS;
}

/* Sets an attribute of `wanted` bytes. */
static cublasStatus_t
set(void *attribute, size_t wanted, const void *value, size_t size)
{
    if (value == NULL || size != wanted)
        return refuse("an attribute has another size");
    memcpy(attribute, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

#define SET(field) set(&(field), sizeof(field), value, size)

cublasStatus_t
cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                               const void *value, size_t size)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return SET(operation->transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return SET(operation->transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return SET(operation->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return SET(operation->bias);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return SET(operation->aux);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return SET(operation->aux_ld);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
        return SET(operation->scale_a);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
        return SET(operation->scale_b);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return SET(operation->bias_type);
    default:
        return refuse("an attribute of operations that is not emulated");
    }
}

cublasStatus_t
cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = new cublasLtMatmulPreferenceOpaque{0, CUBLASLT_REDUCTION_SCHEME_MASK, 256, 256, 256, 256};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                     cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                     size_t size)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return SET(preference->workspace);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return SET(preference->schemes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return SET(preference->align_a);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return SET(preference->align_b);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return SET(preference->align_c);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return SET(preference->align_d);
    default:
        return refuse("an attribute of preferences that is not emulated");
    }
}

/* ---- what a product must be ---------------------------------------------------------------------------------------- */

/* The layouts of a product's matrices, and its sizes. */
typedef struct shape {
    const cublasLtMatmulDescOpaque *operation;
    const cublasLtMatrixLayoutOpaque *a, *b, *c, *d;
    int64_t m, n, k;
} shape;

static size_t
size_of(cudaDataType_t type)
{
    return type == CUDA_R_8F_E4M3 ? 1 : type == CUDA_R_16BF ? 2 : 4;
}

static size_t
bytes_of(const cublasLtMatrixLayoutOpaque *x)
{
    return (size_t)((x->columns - 1) * x->ld + x->rows) * size_of(x->type);
}

static bool
is_layout(const cublasLtMatrixLayoutOpaque *x)
{
    return x != NULL && (x->type == CUDA_R_32F || x->type == CUDA_R_16BF || x->type == CUDA_R_8F_E4M3) &&
           x->rows > 0 && x->columns > 0 && x->ld >= x->rows;
}

static bool
has_bias(const shape *s)
{
    return (s->operation->epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
}

static cudaDataType_t
bias_type(const shape *s)
{
    return s->operation->bias_type < 0 ? s->d->type : (cudaDataType_t)s->operation->bias_type;
}

static bool
has_aux(const shape *s)
{
    return (s->operation->epilogue & 128) != 0;
}

static bool
has_gelu(const shape *s)
{
    return (s->operation->epilogue & (CUBLASLT_EPILOGUE_GELU | 64)) != 0;
}

static cublasStatus_t
check_epilogue(const shape *s)
{
    const cublasLtMatmulDescOpaque *o = s->operation;

    switch (o->epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
        break;
    default:
        return refuse("an epilogue that is not emulated");
    }
    if (has_bias(s) && (o->bias == NULL || (uintptr_t)o->bias % VECTOR_ALIGNMENT != 0))
        return refuse("a bias that is NULL or misaligned");
    if (has_aux(s) && (o->aux == NULL || (uintptr_t)o->aux % VECTOR_ALIGNMENT != 0))
        return refuse("an epilogue's auxiliary matrix is NULL or misaligned");
    if (has_aux(s) && (o->aux_ld < s->m || o->aux_ld % AUX_UNIT != 0))
        return refuse(
            "an epilogue's auxiliary matrix has a leading dimension that is too small or no multiple of 8");
    return CUBLAS_STATUS_SUCCESS;
}

/* e4m3 comes turned, in rows of 16s, with scales, and without aux here. */
static cublasStatus_t
check_eight(const shape *s)
{
    const cublasLtMatmulDescOpaque *o = s->operation;

    if (!o->transpose_a || o->transpose_b || s->m % 16 != 0 || s->k % 16 != 0 || s->a->ld % 16 != 0 ||
        s->b->ld % 16 != 0)
        return refuse(
            "e4m3 matrices that are not turned as the tensor cores want them, or whose sizes are no 16s");
    if (o->scale_a == NULL || o->scale_b == NULL || has_aux(s))
        return refuse("e4m3 matrices without scales, or with an auxiliary one");
    if ((uintptr_t)o->scale_a % 16 != 0 || (uintptr_t)o->scale_b % 16 != 0)
        return refuse("scales of e4m3 matrices that are not aligned to 16 bytes");
    return check_epilogue(s);
}

/* Fills the shape; says what the descriptors contradict each other in. */
static cublasStatus_t
make_shape(shape *s, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    *s = {operation, a, b, c, d, 0, 0, 0};
    if (operation == NULL || !is_layout(a) || !is_layout(b) || !is_layout(c) || !is_layout(d))
        return refuse("a descriptor is missing, empty, or its leading dimension is below its rows");
    s->m = operation->transpose_a ? a->columns : a->rows;
    s->k = operation->transpose_a ? a->rows : a->columns;
    s->n = operation->transpose_b ? b->rows : b->columns;
    if (s->k != (operation->transpose_b ? b->columns : b->rows) || d->rows != s->m || d->columns != s->n)
        return refuse("matrices of sizes that do not fit");
    if (c->rows != d->rows || c->columns != d->columns || c->type != d->type)
        return refuse("C and D differ in size or type");
    if (a->type != b->type || d->type == CUDA_R_8F_E4M3 || (a->type == CUDA_R_32F && d->type != CUDA_R_32F))
        return refuse("types that cuBLASLt does not multiply");
    if (has_bias(s) && bias_type(s) != (a->type == CUDA_R_8F_E4M3 ? CUDA_R_16BF : d->type))
        return refuse("a bias of a type that goes with other matrices");
    return a->type == CUDA_R_8F_E4M3 ? check_eight(s) : check_epilogue(s);
}

/* ---- algorithms ---------------------------------------------------------------------------------------------------- */

static int
parts_of(uint64_t id)
{
    return id == 3 ? 2 : id == 4 ? 4 : 1;
}

static uint32_t
alignment_of(uint64_t id)
{
    return id == 1 ? 4 : VECTOR_ALIGNMENT;
}

/* An algorithm is one for types. */
static uint64_t
types_of(const shape *s)
{
    return (uint64_t)s->a->type << 32 | (uint64_t)s->d->type;
}

static size_t
workspace_of(uint64_t id, const shape *s)
{
    return parts_of(id) > 1 ? (size_t)(parts_of(id) * s->m * s->n) * sizeof(float) : 0;
}

static cublasLtMatmulAlgo_t
make_algo(uint64_t id, const shape *s)
{
    cublasLtMatmulAlgo_t algo = {};

    algo.data[ALGO_IS_MARK] = ALGO_MARK;
    algo.data[ALGO_ID] = id;
    algo.data[ALGO_SPLIT] = (uint64_t)parts_of(id);
    algo.data[ALGO_SCHEME] =
        parts_of(id) > 1 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
    algo.data[ALGO_TYPES] = types_of(s);
    return algo;
}

/* Whether rows start at multiples of what the algorithm needs. */
static bool
fits(uint64_t id, const cublasLtMatrixLayoutOpaque *x)
{
    return (size_t)x->ld * size_of(x->type) % alignment_of(id) == 0;
}

static bool
can_run(uint64_t id, const shape *s)
{
    return fits(id, s->a) && fits(id, s->b) && (id == 1 || (fits(id, s->c) && fits(id, s->d))) &&
           s->k >= parts_of(id);
}

static bool
is_preferred(uint64_t id, const shape *s, const cublasLtMatmulPreferenceOpaque *p)
{
    uint32_t align = std::min(p->align_a, p->align_b);

    if (id != 1)
        align = std::min({align, p->align_c, p->align_d});
    return align >= alignment_of(id) && workspace_of(id, s) <= p->workspace &&
           (parts_of(id) == 1 || (p->schemes & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0);
}

cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                               cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                               cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int wanted,
                               cublasLtMatmulHeuristicResult_t result[], int *count)
{
    static const uint64_t order[EMU_LT_ALGORITHMS] = {0, 2, 3, 4, 1};
    emu_entry entry;
    shape s;
    cublasStatus_t status = make_shape(&s, operation, a, b, c, d);

    queries++;
    *count = 0;
    if (handle == NULL || preference == NULL || wanted <= 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    for (uint64_t id : order)
        if (*count < wanted && can_run(id, &s) && is_preferred(id, &s, preference)) {
            result[*count] = {};
            result[*count].algo = make_algo(id, &s);
            result[*count].workspaceSize = workspace_of(id, &s);
            result[(*count)++].wavesCount = 1;
        }
    return *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t
check_algo(const cublasLtMatmulAlgo_t *algo, const shape *s)
{
    cublasLtMatmulAlgo_t made;

    if (algo == NULL || algo->data[ALGO_ID] >= EMU_LT_ALGORITHMS)
        return CUBLAS_STATUS_INVALID_VALUE;
    made = make_algo(algo->data[ALGO_ID], s);
    if (memcmp(&made, algo, sizeof made) != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    return can_run(algo->data[ALGO_ID], s) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t
cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                        const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
    shape s;
    cublasStatus_t status = make_shape(&s, operation, a, b, c, d);

    if (handle == NULL || result == NULL)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_algo(algo, &s);
    if (status == CUBLAS_STATUS_SUCCESS)
        result->workspaceSize = workspace_of(algo->data[ALGO_ID], &s);
    result->state = status;
    return status;
}

cublasStatus_t
cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                     cublasLtMatmulAlgoConfigAttributes_t attribute, void *value, size_t size,
                                     size_t *written)
{
    int word = attribute == CUBLASLT_ALGO_CONFIG_ID           ? ALGO_ID
               : attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? ALGO_SPLIT
                                                              : ALGO_SCHEME;
    uint32_t number = (uint32_t)algo->data[word];

    *written = sizeof number;
    return set(value, sizeof number, &number, size);
}

/* ---- products ------------------------------------------------------------------------------------------------------ */

/* A matrix as the product reads and writes it. */
typedef struct matrix {
    char *data;
    cudaDataType_t type;
    int64_t ld;
} matrix;

typedef struct job {
    matrix a, b, c, d, aux;
    const char *bias;
    cudaDataType_t bias_type;
    bool forgets_bias;
    const float *scale_a, *scale_b; /* NULL: 1 */
    int transpose_a, transpose_b;
    uint32_t epilogue;
    int64_t m, n, k;
    float alpha, beta;
    float *workspace;
    uint64_t id;
    long microseconds;
} job;

static float
get(const matrix *x, int64_t row, int64_t column)
{
    int64_t i = column * x->ld + row;

    if (x->type == CUDA_R_8F_E4M3)
        return d2c_f8_to_float(((const uint8_t *)x->data)[i]);
    return x->type == CUDA_R_16BF ? d2c_bf16_to_float(((const uint16_t *)x->data)[i])
                                  : ((const float *)x->data)[i];
}

static void
put(const matrix *x, int64_t row, int64_t column, float value)
{
    int64_t i = column * x->ld + row;

    if (x->type == CUDA_R_16BF)
        ((uint16_t *)x->data)[i] = d2c_bf16_from_float(value);
    else
        ((float *)x->data)[i] = value;
}

/* op(A) with the m elements of each of its columns together. */
static std::vector<float>
columns_of_a(const job *j)
{
    std::vector<float> columns((size_t)(j->k * j->m));

    for (int64_t k = 0; k < j->k; k++)
        for (int64_t m = 0; m < j->m; m++)
            columns[(size_t)(k * j->m + m)] = j->transpose_a ? get(&j->a, k, m) : get(&j->a, m, k);
    return columns;
}

/* Terms first, first + step, ... of the sums of a column of D, up to `end`, in order. */
static void
add_terms(float *sum, const job *j, const std::vector<float> &a, const float *b, int64_t first, int64_t end,
          int64_t step)
{
    for (int64_t k = first; k < end; k += step)
        for (int64_t m = 0; m < j->m; m++)
            sum[m] += a[(size_t)(k * j->m + m)] * b[k];
}

/* A column's sums in the algorithm's order: parts, one after another. */
static void
sum_column(float *sum, const job *j, const std::vector<float> &a, const float *b, int64_t column)
{
    int64_t parts = j->id == 1 ? 4 : j->id == 2 ? (j->k + 31) / 32 : parts_of(j->id);
    std::vector<float> own((size_t)j->m);

    for (int64_t p = 0; p < parts; p++) {
        int64_t first = j->id == 2 ? 32 * p : j->k * p / parts;
        int64_t end = j->id == 2 ? std::min(first + 32, j->k) : j->k * (p + 1) / parts;
        float *part = parts_of(j->id) > 1 ? j->workspace + (p * j->n + column) * j->m : own.data();

        std::fill(part, part + j->m, 0.0f);
        if (j->id == 1)
            add_terms(part, j, a, b, p, j->k, 4);
        else
            add_terms(part, j, a, b, first, end, 1);
        for (int64_t m = 0; m < j->m; m++)
            sum[m] = p == 0 ? part[m] : sum[m] + part[m];
    }
}

/* GELU's tanh form and its derivative. */
static float
gelu(float x)
{
    return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

static float
gelu_slope(float x)
{
    float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));

    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
}

static float
finish(const job *j, int64_t row, int64_t column, float value)
{
    matrix bias = {(char *)j->bias, j->bias_type, 0};

    if (j->epilogue == CUBLASLT_EPILOGUE_DGELU)
        return value * gelu_slope(get(&j->aux, row, column));
    if (j->epilogue & CUBLASLT_EPILOGUE_BIAS && !j->forgets_bias)
        value += get(&bias, row, 0);
    if (j->epilogue & 128)
        put(&j->aux, row, column, value);
    return j->epilogue & CUBLASLT_EPILOGUE_GELU ? gelu(value) : value;
}

static void
run(const void *argument)
{
    const job *j = (const job *)argument;
    std::vector<float> a = columns_of_a(j), b((size_t)j->k), sum((size_t)j->m);
    float alpha = j->scale_a == NULL ? j->alpha : j->alpha * *j->scale_a * *j->scale_b;

    for (int64_t column = 0; column < j->n; column++) {
        for (int64_t k = 0; k < j->k; k++)
            b[(size_t)k] = j->transpose_b ? get(&j->b, column, k) : get(&j->b, k, column);
        sum_column(sum.data(), j, a, b.data(), column);
        for (int64_t m = 0; m < j->m; m++) {
            float value = alpha * sum[(size_t)m];

            if (j->beta != 0)
                value += j->beta * get(&j->c, m, column);
            put(&j->d, m, column, finish(j, m, column, value));
        }
    }
    emu_pretend_seconds(1e-6 * (double)j->microseconds);
}

/* ---- checks of a call ---------------------------------------------------------------------------------------------- */

/* Memory that a product reads or writes. */
typedef struct range {
    const char *what, *start;
    size_t bytes;
} range;

static bool
overlap(const range *x, const range *y)
{
    return x->start < y->start + y->bytes && y->start < x->start + x->bytes;
}

/* Everything lies on the device, and nothing that is written overlaps anything else. */
static bool
check_ranges(const range *r, int count, int written)
{
    for (int i = 0; i < count; i++)
        if (r[i].bytes > 0 && emu_place_of(r[i].start, r[i].bytes) != EMU_DEVICE) {
            emu_complain("cuBLASLt: %s is not all device memory", r[i].what);
            return false;
        }
    for (int i = 0; i < written; i++)
        for (int k = i + 1; k < count; k++)
            if (r[i].bytes > 0 && r[k].bytes > 0 && overlap(&r[i], &r[k])) {
                emu_complain("cuBLASLt: %s overlaps %s", r[i].what, r[k].what);
                return false;
            }
    return true;
}

static bool
check_memory(const shape *s, const job *j, size_t workspace)
{
    bool writes_aux = has_aux(s) && s->operation->epilogue != CUBLASLT_EPILOGUE_DGELU;
    size_t aux_bytes = (size_t)((s->n - 1) * j->aux.ld + s->m) * size_of(s->d->type);
    range aux = {"the auxiliary matrix", j->aux.data, has_aux(s) ? aux_bytes : 0};
    range d = {"D", j->d.data, bytes_of(s->d)};
    range work = {"the workspace", (const char *)j->workspace, workspace};
    range r[6] = {d, work, {}, {}, {}, {}};

    r[2] = {"A", j->a.data, bytes_of(s->a)};
    r[3] = {"B", j->b.data, bytes_of(s->b)};
    r[4] = {"the bias", j->bias, has_bias(s) ? (size_t)s->m * size_of(bias_type(s)) : 0};
    r[5] = aux;
    if (writes_aux)
        std::swap(r[2], r[5]);
    return check_ranges(r, 6, writes_aux ? 3 : 2);
}

static bool
is_aligned(const void *pointer, uint64_t id)
{
    return pointer != NULL && (uintptr_t)pointer % alignment_of(id) == 0;
}

static cublasStatus_t
check_call(const shape *s, const job *j, const void *C, size_t workspace)
{
    size_t needed = workspace_of(j->id, s);
    size_t size = size_of(s->d->type);

    if (!is_aligned(j->a.data, j->id) || !is_aligned(j->b.data, j->id))
        return refuse("A or B is NULL or not aligned as the algorithm needs it");
    if (C == NULL || j->d.data == NULL || (uintptr_t)j->d.data % size != 0 ||
        (j->id != 1 && !is_aligned(j->d.data, j->id)))
        return refuse("C or D is NULL or not aligned as the algorithm needs it");
    if (C != j->d.data)
        return refuse("C is not D");
    if (needed > workspace || (needed > 0 && (uintptr_t)j->workspace % 256 != 0))
        return refuse("the workspace is too small or misaligned");
    return check_memory(s, j, needed) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static matrix
matrix_at(const void *data, const cublasLtMatrixLayoutOpaque *x)
{
    return {(char *)data, x->type, x->ld};
}

/* Fills the job; the emulator's mutex is held. */
static cublasStatus_t
make_job(job *j, const shape *s, const void *A, const void *B, const void *C, void *D,
         const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes)
{
    const cublasLtMatmulDescOpaque *o = s->operation;
    cublasStatus_t status = check_algo(algo, s);

    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    j->id = algo->data[ALGO_ID];
    j->a = matrix_at(A, s->a);
    j->b = matrix_at(B, s->b);
    j->c = matrix_at(C, s->c);
    j->d = matrix_at(D, s->d);
    j->aux = {(char *)o->aux, s->d->type, o->aux_ld};
    j->bias = (const char *)o->bias;
    j->bias_type = bias_type(s);
    j->forgets_bias = (s->m == 1 || s->n == 1) && cublasLtGetVersion() < BIAS_MENDED;
    j->scale_a = s->a->type == CUDA_R_8F_E4M3 ? o->scale_a : NULL;
    j->scale_b = o->scale_b;
    j->transpose_a = o->transpose_a;
    j->transpose_b = o->transpose_b;
    j->epilogue = o->epilogue;
    j->m = s->m;
    j->n = s->n;
    j->k = s->k;
    j->workspace = (float *)workspace;
    j->microseconds = (slow & (1u << j->id | (has_gelu(s) ? EMU_LT_GELU : EMU_LT_BARE))) != 0 ? slow_by : 0;
    return check_call(s, j, C, workspace_bytes);
}

/* Whether this is the product that a test wants to fail. */
static cublasStatus_t
next_failure(void)
{
    if (++products == failing_product)
        return failure;
    return emu_usable() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t
cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha, const void *A,
               cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
               const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
               const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    shape s;
    job j = {};
    cublasStatus_t status;

    if (handle == NULL || alpha == NULL || beta == NULL)
        return CUBLAS_STATUS_INVALID_VALUE;
    j.alpha = *(const float *)alpha;
    j.beta = *(const float *)beta;
    {
        emu_entry entry;

        status = next_failure();
        if (status == CUBLAS_STATUS_SUCCESS)
            status = make_shape(&s, operation, a, b, c, d);
        if (status == CUBLAS_STATUS_SUCCESS)
            status = make_job(&j, &s, A, B, C, D, algo, workspace, workspace_bytes);
    }
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    return emu_enqueue(stream, run, &j, sizeof j) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                 : CUBLAS_STATUS_EXECUTION_FAILED;
}
