/*
 * tensor.h: the SQL type "tensor", for d2c and for other extensions.
 *
 * A value describes itself: a version, the element type, the dimensions, then the elements, row-major (the last
 * dimension is contiguous), in the machine's byte order:
 *
 *	 byte	0	varlena length (4 bytes)
 *	 byte	4	version, 1
 *	 byte	5	element type, a D2cTensorType
 *	 byte	6	number of dimensions, 1 to 8
 *	 byte	7	zero
 *	 byte	8	int32 dims[ndim], each at least 1
 *	 ...	zeroes up to a multiple of 16
 *	 then	the elements
 *
 * Every unused byte is zero, so that equal tensors are equal bytes.  A value may arrive toasted or with a short header:
 * read arguments with PG_GETARG_D2C_TENSOR only.
 *
 * The binary form (send and receive, COPY BINARY, the cast to bytea) is version, element type, number of dimensions and
 * a zero byte, then the dimensions as int32 in network order, then the elements in little-endian order, as NumPy and
 * safetensors have them.  The text form is f16:[[1,2],[3,4]]; it gives the same value back, but for the bits of a NaN.
 */
#ifndef D2C_PG_TENSOR_H
#define D2C_PG_TENSOR_H

#include "postgres.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

#define D2C_TENSOR_VERSION 1
#define D2C_TENSOR_MAX_DIMS 8

/* Stored on disk and sent to the engine; the numbers are those of libd2c. */
typedef enum D2cTensorType
{
	D2C_TENSOR_F32 = 0,
	D2C_TENSOR_BF16 = 1,
	D2C_TENSOR_U8 = 3,
	D2C_TENSOR_F16 = 4
} D2cTensorType;

typedef struct D2cTensor
{
	int32		vl_len_;		/* varlena header (do not touch directly) */
	uint8		version;
	uint8		dtype;
	uint8		ndim;
	uint8		reserved;
	int32		dims[FLEXIBLE_ARRAY_MEMBER];
} D2cTensor;

#define D2C_TENSOR_DATA_OFFSET(ndim) \
	TYPEALIGN(16, offsetof(D2cTensor, dims) + sizeof(int32) * (ndim))
#define D2C_TENSOR_DATA(tensor) ((char *) (tensor) + D2C_TENSOR_DATA_OFFSET((tensor)->ndim))

/* A checked, aligned tensor; PG_GETARG_D2C_TENSOR_COPY may be changed in place. */
#define DatumGetD2cTensor(datum) D2cTensorCheck(PG_DETOAST_DATUM(datum))
#define PG_GETARG_D2C_TENSOR(n) DatumGetD2cTensor(PG_GETARG_DATUM(n))
#define PG_GETARG_D2C_TENSOR_COPY(n) D2cTensorCheck(PG_DETOAST_DATUM_COPY(PG_GETARG_DATUM(n)))
#define PG_RETURN_D2C_TENSOR(tensor) PG_RETURN_POINTER(tensor)

/* Bytes of one element; 0 when dtype is not an element type. */
extern size_t D2cTensorTypeSize(int dtype);

/* "f32", "f16", "bf16", "u8"; and back, -1 when there is no such type.  name need not be terminated. */
extern const char *D2cTensorTypeName(int dtype);
extern int	D2cTensorTypeByName(const char *name, size_t length);

/* Elements of a tensor, and bytes of its data. */
extern int64 D2cTensorCount(const D2cTensor *tensor);
extern size_t D2cTensorBytes(const D2cTensor *tensor);

/* A zeroed tensor; raises an error when a dimension is not positive or the value would pass 1 GB. */
extern D2cTensor *D2cTensorMake(D2cTensorType dtype, int ndim, const int32 *dims);

/*
 * The same for input functions: NULL, with the error saved in escontext, where that is a soft error context (PostgreSQL
 * 16 and later).
 */
extern D2cTensor *D2cTensorMakeSafe(int dtype, int ndim, const int32 *dims, struct Node *escontext);

/* Returns its argument, or raises "data corrupted" when header and length do not agree. */
extern D2cTensor *D2cTensorCheck(void *value);

/* Elements [start, start + count) as floats; and floats into them, false when one is outside the type's range. */
extern void D2cTensorLoad(float *out, const D2cTensor *tensor, int64 start, int64 count);
extern bool D2cTensorStore(D2cTensor *tensor, int64 start, const float *in, int64 count);

/* One float into an element's bytes; false when it is outside the type's range. */
extern bool D2cTensorStoreElement(void *element, int dtype, float value);

/*
 * The tensor itself when it has this element type already, otherwise a converted copy.  A value outside the type's range
 * is an error: NULL where escontext is a soft error context.
 */
extern D2cTensor *D2cTensorConvert(D2cTensor *tensor, D2cTensorType dtype, struct Node *escontext);

/* The engine's protocol: a tensor of a request, and one of a reply (palloc'd, checked). */
struct d2c_reader;
extern void D2cPutTensor(StringInfo buf, const D2cTensor *tensor);
extern D2cTensor *D2cReadTensor(struct d2c_reader *reader);

#endif
