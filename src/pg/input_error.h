/* input_error.h: what the input functions of d2c's types say of text that they cannot read. */
#ifndef D2C_PG_INPUT_ERROR_H
#define D2C_PG_INPUT_ERROR_H

#include "postgres.h"

struct Node;

/* Saves the error where escontext is a soft error context, otherwise raises it.  Long text is cut; detail may be NULL. */
extern void D2cInputError(struct Node *escontext, const char *type, const char *text, const char *detail);

#endif
