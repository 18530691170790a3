/* postgres_shim.c: the backend's functions that input functions call (postgres_shim.h). */
#include "postgres_shim.h"

#include <setjmp.h>

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* What compat.h hides. */
#if PG_VERSION_NUM < 170000
#define SENDS_COUNT , bool counts_itself
#else
#define SENDS_COUNT
#endif

volatile sig_atomic_t InterruptPending = false;

/* ---- memory ------------------------------------------------------------------------------------------------------- */

/* Each block lies behind a link to the one before; aligned as the backend's are. */
typedef struct Block
{
	struct Block *next, **link;
	size_t size;
	void *unused;
} Block;

static Block *blocks;

void *
palloc(Size size)
{
	Block *block = malloc(sizeof *block + size);

	if (block == NULL || size > MaxAllocSize)
		abort();
	block->size = size;
	block->next = blocks;
	block->link = &blocks;
	if (blocks != NULL)
		blocks->link = &block->next;
	blocks = block;
	return block + 1;
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void
pfree(void *pointer)
{
	Block *block = (Block *) pointer - 1;

	*block->link = block->next;
	if (block->next != NULL)
		block->next->link = block->link;
	free(block);
}

void *
palloc_extended(Size size, int flags)
{
	return palloc(size);
}

void *
repalloc(void *pointer, Size size)
{
	Block *old = (Block *) pointer - 1;
	void *grown = palloc(size);

	memcpy(grown, pointer, Min(old->size, size));
	pfree(pointer);
	return grown;
}

char *
pstrdup(const char *text)
{
	return memcpy(palloc(strlen(text) + 1), text, strlen(text) + 1);
}

char *
pnstrdup(const char *text, Size length)
{
	char *copy = palloc(length + 1);

	length = strnlen(text, length);
	copy[length] = '\0';
	return memcpy(copy, text, length);
}

void
shim_reset(void)
{
	while (blocks != NULL)
		pfree(blocks + 1);
}

/* Values here are neither compressed nor elsewhere. */
struct varlena *
pg_detoast_datum(struct varlena *datum)
{
	return datum;
}

struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	return datum;
}

text *
cstring_to_text_with_len(const char *bytes, int length)
{
	text	   *made = palloc(length + VARHDRSZ);

	SET_VARSIZE(made, length + VARHDRSZ);
	memcpy(VARDATA(made), bytes, length);
	return made;
}

/* ---- errors ------------------------------------------------------------------------------------------------------- */

static jmp_buf raised;

bool
errstart(int elevel, const char *domain)
{
	return elevel >= ERROR;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

void
errfinish(const char *file, int line, const char *function)
{
	longjmp(raised, 1);
}

/* No caller passes a context that saves errors, so they are raised. */
#if PG_VERSION_NUM >= 160000
bool
errsave_start(struct Node *context, const char *domain)
{
	return errstart(ERROR, domain);
}

void
errsave_finish(struct Node *context, const char *file, int line, const char *function)
{
	errfinish(file, line, function);
}
#endif

/* Formats as the real ones do, so that a bad argument shows. */
static int
format(const char *fmt, va_list args)
{
	char text[4096];

	vsnprintf(text, sizeof text, fmt, args);
	return 0;
}

#define MESSAGE(name) \
	int name(const char *fmt, ...) \
	{ \
		va_list args; \
		va_start(args, fmt); \
		format(fmt, args); \
		va_end(args); \
		return 0; \
	}

MESSAGE(errmsg)
MESSAGE(errdetail)
MESSAGE(errhint)
MESSAGE(errmsg_internal)
MESSAGE(errdetail_internal)

int
errcode(int sqlerrcode)
{
	return 0;
}

void
ProcessInterrupts(void)
{
}

/* ---- strings ------------------------------------------------------------------------------------------------------ */

void
initStringInfo(StringInfo str)
{
	str->data = palloc(1024);
	str->maxlen = 1024;
	resetStringInfo(str);
}

void
resetStringInfo(StringInfo str)
{
	str->data[0] = '\0';
	str->len = 0;
	str->cursor = 0;
}

void
enlargeStringInfo(StringInfo str, int needed)
{
	size_t wanted = (size_t) str->len + (size_t) needed + 1;

	if (needed < 0 || wanted > MaxAllocSize)
		ereport(ERROR, errmsg("string buffer exceeds maximum allowed length"));
	if (wanted <= (size_t) str->maxlen)
		return;
	str->maxlen = (int) Min(Max(wanted, 2 * (size_t) str->maxlen), MaxAllocSize);
	str->data = repalloc(str->data, str->maxlen);
}

#if PG_VERSION_NUM < 160000
void
appendBinaryStringInfo(StringInfo str, const char *data, int length)
#else
void
appendBinaryStringInfo(StringInfo str, const void *data, int length)
#endif
{
	enlargeStringInfo(str, length);
	memcpy(str->data + str->len, data, length);
	str->len += length;
	str->data[str->len] = '\0';
}

void
appendStringInfoChar(StringInfo str, char c)
{
	appendBinaryStringInfo(str, &c, 1);
}

void
appendStringInfo(StringInfo str, const char *fmt, ...)
{
	char text[1024];
	va_list args;
	int length;

	va_start(args, fmt);
	length = vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	appendBinaryStringInfo(str, text, Min(length, (int) sizeof text - 1));
}

void
appendStringInfoString(StringInfo str, const char *text)
{
	appendBinaryStringInfo(str, text, strlen(text));
}

char *
psprintf(const char *fmt, ...)
{
	char *text = palloc(1024);
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, 1024, fmt, args);
	va_end(args);
	return text;
}

/* Texts are in the server's encoding already. */
char *
pg_server_to_any(const char *text, int length, int encoding)
{
	return unconstify(char *, text);
}

char *
pg_any_to_server(const char *text, int length, int encoding)
{
	return unconstify(char *, text);
}

/* Of type modifiers, which are not fuzzed. */
#if PG_VERSION_NUM < 180000
void
deconstruct_array(ArrayType *array, Oid type, int length, bool by_value, char align, Datum **elements, bool **nulls,
				  int *count)
#else
void
deconstruct_array(const ArrayType *array, Oid type, int length, bool by_value, char align, Datum **elements,
				  bool **nulls, int *count)
#endif
{
	abort();
}

int
pg_mbcliplen(const char *text, int length, int limit)
{
	return Min(length, limit);
}

/* ---- messages ----------------------------------------------------------------------------------------------------- */

void
pq_begintypsend(StringInfo buf)
{
	initStringInfo(buf);
	appendBinaryStringInfo(buf, "\0\0\0\0", VARHDRSZ);
}

bytea *
pq_endtypsend(StringInfo buf)
{
	bytea *result = (bytea *) buf->data;

	SET_VARSIZE(result, buf->len);
	return result;
}

const char *
pq_getmsgbytes(StringInfo msg, int length)
{
	const char *at = msg->data + msg->cursor;

	if (length < 0 || length > msg->len - msg->cursor)
		ereport(ERROR, errmsg("insufficient data left in message"));
	msg->cursor += length;
	return at;
}

int
pq_getmsgbyte(StringInfo msg)
{
	return (unsigned char) *pq_getmsgbytes(msg, 1);
}

unsigned int
pq_getmsgint(StringInfo msg, int bytes)
{
	uint32 value;

	if (bytes != 4)
		abort();
	memcpy(&value, pq_getmsgbytes(msg, 4), 4);
	return pg_ntoh32(value);
}

int64
pq_getmsgint64(StringInfo msg)
{
	uint64 value;

	memcpy(&value, pq_getmsgbytes(msg, 8), 8);
	return pg_ntoh64(value);
}

float4
pq_getmsgfloat4(StringInfo msg)
{
	union
	{
		uint32 bits;
		float4 value;
	} both = {pq_getmsgint(msg, 4)};

	return both.value;
}

float8
pq_getmsgfloat8(StringInfo msg)
{
	union
	{
		int64 bits;
		float8 value;
	} both = {pq_getmsgint64(msg)};

	return both.value;
}

char *
pq_getmsgtext(StringInfo msg, int length, int *bytes)
{
	const char *text = pq_getmsgbytes(msg, length);

	if (memchr(text, '\0', length) != NULL)
		ereport(ERROR, errmsg("invalid byte sequence for encoding"));
	*bytes = length;
	return pnstrdup(text, length);
}

#if PG_VERSION_NUM < 160000
void
pq_sendbytes(StringInfo buf, const char *data, int length)
#else
void
pq_sendbytes(StringInfo buf, const void *data, int length)
#endif
{
	appendBinaryStringInfo(buf, data, length);
}

#undef pq_sendcountedtext
void
pq_sendcountedtext(StringInfo buf, const char *text, int length SENDS_COUNT)
{
	pq_sendint32(buf, length);
	appendBinaryStringInfo(buf, text, length);
}

void
pq_sendfloat4(StringInfo buf, float4 value)
{
	uint32 bits;

	memcpy(&bits, &value, sizeof bits);
	pq_sendint32(buf, bits);
}

void
pq_sendfloat8(StringInfo buf, float8 value)
{
	int64 bits;

	memcpy(&bits, &value, sizeof bits);
	pq_sendint64(buf, bits);
}

/* ---- calls -------------------------------------------------------------------------------------------------------- */

bool
shim_call(Datum *result, PGFunction function, Datum a, Datum b, Datum c)
{
	LOCAL_FCINFO(fcinfo, 3);

	InitFunctionCallInfoData(*fcinfo, NULL, 3, InvalidOid, NULL, NULL);
	fcinfo->args[0] = (NullableDatum) {a, false};
	fcinfo->args[1] = (NullableDatum) {b, false};
	fcinfo->args[2] = (NullableDatum) {c, false};
	if (setjmp(raised) != 0)
		return false;
	*result = function(fcinfo);
	return true;
}
