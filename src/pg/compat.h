/*
 * compat.h: what differs between PostgreSQL 15 and 18.
 *
 * Soft errors and varatt.h came with 16.  Before, errsave() and ereturn() raise, so input functions are written once.
 * 17 took the last argument from pq_sendcountedtext().
 */
#ifndef D2C_PG_COMPAT_H
#define D2C_PG_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#include "varatt.h"
#else
#define errsave(context, ...) \
	do { \
		(void) (context); \
		ereport(ERROR, __VA_ARGS__); \
	} while (0)
#define ereturn(context, dummy_value, ...) \
	do { \
		errsave(context, __VA_ARGS__); \
		return dummy_value; \
	} while (0)
#endif

#if PG_VERSION_NUM < 170000
#include "libpq/pqformat.h"
#define pq_sendcountedtext(buf, str, length) pq_sendcountedtext(buf, str, length, false)
#endif

#endif
