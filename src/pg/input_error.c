/* input_error.c: what the input functions of d2c's types say of text that they cannot read. */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "pg/compat.h"
#include "pg/input_error.h"

#define SHOWN_BYTES 64

void
D2cInputError(struct Node *escontext, const char *type, const char *text, const char *detail)
{
	int			length = pg_mbcliplen(text, strlen(text), SHOWN_BYTES);

	errsave(escontext,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("invalid input syntax for type %s: \"%.*s%s\"", type, length, text,
					text[length] != '\0' ? "..." : ""),
			 detail != NULL ? errdetail("%s", detail) : 0));
}
