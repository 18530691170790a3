/*
 * engine_client.h: a backend's side of the engine's socket.
 *
 * The first call connects, and starts the engine when none runs.  Every wait is cancellable.  A request is a StringInfo
 * that holds the payload alone (protocol.h); replies are palloc'd in the caller's context.
 */
#ifndef D2C_PG_ENGINE_CLIENT_H
#define D2C_PG_ENGINE_CLIENT_H

#include "postgres.h"
#include "lib/stringinfo.h"

#include "engine/protocol.h"

typedef struct D2cReply
{
	bool		answered;
	d2c_status	status;
	char	   *payload;		/* D2C_OK: read it with a d2c_reader */
	size_t		length;
	char	   *message;		/* otherwise, in the backend's encoding */
	char	   *detail;			/* "" when there is none */
	char	   *hint;
} D2cReply;

/* One request; raises an error unless the reply is D2C_OK. */
extern d2c_reader D2cEngineCall(d2c_request kind, StringInfo payload);

/*
 * n requests of one kind at once, pipelined; replies[i] belongs to payloads[i].  Raises connection trouble and
 * cancellation, but leaves what the engine answers to the caller.
 */
extern void D2cEngineBatch(d2c_request kind, StringInfo payloads, int n, D2cReply *replies);

/*
 * The same for results that keep bad rows apart: when the engine crashes, what it had not answered is sent again, and
 * after a second crash alone; a request that then crashes it once more is answered D2C_BAD_DATA.
 */
extern void D2cEngineBatchIsolating(d2c_request kind, StringInfo payloads, int n, D2cReply *replies);

/* What the connected engine said of itself in its hello. */
typedef struct D2cEngineInfo
{
	char		build[64];
	char		device[64];
	char		precision[16];
	int64		pid;
} D2cEngineInfo;

extern const D2cEngineInfo *D2cEngineConnect(void);

/* One request that needs no hello (STOP, STATUS) to an engine that runs; false when there is none. */
extern bool D2cEngineAsk(d2c_request kind, D2cReply *reply);

/* Raises the error of a reply that is not D2C_OK. */
extern _Noreturn void D2cEngineRaise(const D2cReply *reply);

/* What pg_stat_activity shows of a session that waits for the engine: D2cEngine from PostgreSQL 17 on. */
extern uint32 D2cWaitEvent(void);

/* The SQLSTATE of a status, and whether it is the row's fault (bad data) rather than the model's or the engine's. */
extern int	D2cSqlState(d2c_status status);
extern bool D2cStatusIsRowError(d2c_status status);

/* Payload writers. */
extern void D2cPutU32(StringInfo buf, uint32 value);
extern void D2cPutI64(StringInfo buf, int64 value);
extern void D2cPutF64(StringInfo buf, double value);
extern void D2cPutBytes(StringInfo buf, const void *data, size_t length);
extern void D2cPutBytea(StringInfo buf, Datum value);
extern void D2cPutText(StringInfo buf, const char *text);	/* converted to UTF-8 */

/* A string of a reply, converted from UTF-8 to the database's encoding. */
extern char *D2cReadText(d2c_reader *reader);

/* Bytes of a reply. */
extern bytea *D2cReadBytea(d2c_reader *reader);

#endif
