\echo Use "CREATE EXTENSION d2c" to load this file. \quit

-- ---- type tensor ---------------------------------------------------------------------------------------------------

CREATE TYPE tensor;

CREATE FUNCTION d2c_tensor_in(cstring, oid, integer) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_in(cstring, oid, integer) IS 'I/O of type tensor';

CREATE FUNCTION d2c_tensor_out(tensor) RETURNS cstring
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_out(tensor) IS 'I/O of type tensor';

CREATE FUNCTION d2c_tensor_recv(internal, oid, integer) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_recv(internal, oid, integer) IS 'I/O of type tensor';

CREATE FUNCTION d2c_tensor_send(tensor) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_send(tensor) IS
	'binary form: version, element type, dimensions count, zero (a byte each), int32 dimensions in network order, elements in little-endian order';

CREATE FUNCTION d2c_tensor_typmod_in(cstring[]) RETURNS integer
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_typmod_in(cstring[]) IS 'I/O of type tensor: the element type as type modifier';

CREATE FUNCTION d2c_tensor_typmod_out(integer) RETURNS cstring
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_typmod_out(integer) IS 'I/O of type tensor: the element type as type modifier';

CREATE TYPE tensor (
	INPUT = d2c_tensor_in,
	OUTPUT = d2c_tensor_out,
	RECEIVE = d2c_tensor_recv,
	SEND = d2c_tensor_send,
	TYPMOD_IN = d2c_tensor_typmod_in,
	TYPMOD_OUT = d2c_tensor_typmod_out,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = double,
	STORAGE = external
);
COMMENT ON TYPE tensor IS
	'numbers of one type (f32, f16, bf16, u8) in 1 to 8 dimensions, as f16:[[1,2],[3,4]]; tensor(f16) fixes the element type';

CREATE FUNCTION d2c_tensor_coerce(tensor, integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_coerce(tensor, integer, boolean) IS
	'conversion to the element type of tensor(type); a value outside its range is an error';
CREATE CAST (tensor AS tensor) WITH FUNCTION d2c_tensor_coerce(tensor, integer, boolean) AS IMPLICIT;

CREATE FUNCTION d2c_tensor_from_array(integer[], integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_from_array(integer[], integer, boolean) IS 'array as tensor, f32 unless tensor(type) says otherwise';
CREATE CAST (integer[] AS tensor) WITH FUNCTION d2c_tensor_from_array(integer[], integer, boolean) AS ASSIGNMENT;

CREATE FUNCTION d2c_tensor_from_array(real[], integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_from_array(real[], integer, boolean) IS 'array as tensor, f32 unless tensor(type) says otherwise';
CREATE CAST (real[] AS tensor) WITH FUNCTION d2c_tensor_from_array(real[], integer, boolean) AS ASSIGNMENT;

CREATE FUNCTION d2c_tensor_from_array(double precision[], integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_from_array(double precision[], integer, boolean) IS
	'array as tensor, f32 unless tensor(type) says otherwise';
CREATE CAST (double precision[] AS tensor)
	WITH FUNCTION d2c_tensor_from_array(double precision[], integer, boolean) AS ASSIGNMENT;

CREATE FUNCTION d2c_tensor_to_float4(tensor) RETURNS real[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_to_float4(tensor) IS 'tensor as array of its dimensions, at most 6; exact for every element type';
CREATE CAST (tensor AS real[]) WITH FUNCTION d2c_tensor_to_float4(tensor) AS IMPLICIT;

CREATE FUNCTION d2c_tensor_to_float8(tensor) RETURNS double precision[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_to_float8(tensor) IS 'tensor as array of its dimensions, at most 6; exact for every element type';
CREATE CAST (tensor AS double precision[]) WITH FUNCTION d2c_tensor_to_float8(tensor) AS ASSIGNMENT;

CREATE CAST (tensor AS bytea) WITH FUNCTION d2c_tensor_send(tensor);

CREATE FUNCTION d2c_tensor_from_bytea(bytea, integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_from_bytea(bytea, integer, boolean) IS 'tensor of its binary form, which the cast to bytea gives';
CREATE CAST (bytea AS tensor) WITH FUNCTION d2c_tensor_from_bytea(bytea, integer, boolean);

CREATE FUNCTION d2c_tensor_eq(tensor, tensor) RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_eq(tensor, tensor) IS 'implementation of = operator';

CREATE FUNCTION d2c_tensor_ne(tensor, tensor) RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_ne(tensor, tensor) IS 'implementation of <> operator';

CREATE FUNCTION d2c_tensor_hash(tensor) RETURNS integer
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_hash(tensor) IS 'hash of a tensor''s bytes';

CREATE FUNCTION d2c_tensor_hash_extended(tensor, bigint) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_hash_extended(tensor, bigint) IS 'hash of a tensor''s bytes, seeded';

CREATE OPERATOR = (
	LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = d2c_tensor_eq,
	COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR = (tensor, tensor) IS
	'same element type, dimensions and bytes: -0 differs from 0, and equal NaNs are equal';

CREATE OPERATOR <> (
	LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = d2c_tensor_ne,
	COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (tensor, tensor) IS 'not the same element type, dimensions and bytes';

CREATE OPERATOR CLASS d2c_tensor_ops DEFAULT FOR TYPE tensor USING hash AS
	OPERATOR 1 =,
	FUNCTION 1 d2c_tensor_hash(tensor),
	FUNCTION 2 d2c_tensor_hash_extended(tensor, bigint);
COMMENT ON OPERATOR CLASS d2c_tensor_ops USING hash IS 'equality of bytes';

CREATE FUNCTION d2c_shape(tensor) RETURNS integer[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_shape(tensor) IS 'dimensions of a tensor, outermost first; reads no more of a stored value than its header';

CREATE FUNCTION d2c_dtype(tensor) RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_dtype(tensor) IS 'element type of a tensor: f32, f16, bf16 or u8';

CREATE FUNCTION d2c_slice(tensor, axis integer, start integer, count integer) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_slice(tensor, integer, integer, integer) IS
	'count positions of one axis from start on; axes and positions count from 0, axes also from -1 backwards, as in NumPy';

CREATE FUNCTION d2c_mean(tensor, axis integer) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION d2c_mean(tensor, integer) IS
	'mean over one axis, which the result lacks; f32, summed in double precision; a tensor of one axis gives [1]';

CREATE FUNCTION d2c_cosine(tensor, tensor) RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION d2c_cosine(tensor, tensor) IS
	'cosine of the angle between two tensors of one shape, all elements taken as one vector; NULL when one is all zeroes';

CREATE FUNCTION d2c_summary(tensor) RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION d2c_summary(tensor) IS 'one readable line: element type, shape, least, mean, greatest and standard deviation';

-- ---- select --------------------------------------------------------------------------------------------------------

CREATE TYPE d2c_selection;

CREATE FUNCTION d2c_selection_in(cstring) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_in(cstring) IS 'I/O of type d2c_selection';

CREATE FUNCTION d2c_selection_out(d2c_selection) RETURNS cstring
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_out(d2c_selection) IS 'I/O of type d2c_selection';

CREATE FUNCTION d2c_selection_recv(internal) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_recv(internal) IS 'I/O of type d2c_selection';

CREATE FUNCTION d2c_selection_send(d2c_selection) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_send(d2c_selection) IS 'I/O of type d2c_selection';

CREATE TYPE d2c_selection (
	INPUT = d2c_selection_in,
	OUTPUT = d2c_selection_out,
	RECEIVE = d2c_selection_recv,
	SEND = d2c_selection_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = double,
	STORAGE = external
);
COMMENT ON TYPE d2c_selection IS 'candidates of one group, the state of d2c_select and its kin';

CREATE FUNCTION d2c_selection_combine(d2c_selection, d2c_selection) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_combine(d2c_selection, d2c_selection) IS 'support of the d2c_select aggregates: both states in one; their parameters must be equal';

CREATE FUNCTION d2c_selection_bigint(d2c_selection) RETURNS bigint[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_bigint(d2c_selection) IS 'support of the d2c_select aggregates: the picked ids';

CREATE FUNCTION d2c_selection_text(d2c_selection) RETURNS text[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_text(d2c_selection) IS 'support of the d2c_select aggregates: the picked ids';

CREATE FUNCTION d2c_selection_uuid(d2c_selection) RETURNS uuid[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_uuid(d2c_selection) IS 'support of the d2c_select aggregates: the picked ids';

CREATE FUNCTION d2c_select_accum(d2c_selection, bigint, double precision, integer, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_accum(d2c_selection, bigint, double precision, integer, integer) IS 'support of aggregate d2c_select';

CREATE FUNCTION d2c_select_accum(d2c_selection, text, double precision, integer, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_accum(d2c_selection, text, double precision, integer, integer) IS 'support of aggregate d2c_select';

CREATE FUNCTION d2c_select_accum(d2c_selection, uuid, double precision, integer, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_accum(d2c_selection, uuid, double precision, integer, integer) IS 'support of aggregate d2c_select';

CREATE AGGREGATE d2c_select(id bigint, score double precision, k integer, n integer) (
	SFUNC = d2c_select_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select(bigint, double precision, integer, integer) IS
	'interval sampling (D2C, arXiv 2507.05914): ids at ranks 0, k, 2k, ... of the order by (score, id), at most n; NULL scores are left out, NaN is an error, no scored row gives NULL; text ids tie in the C collation';

CREATE AGGREGATE d2c_select(id text, score double precision, k integer, n integer) (
	SFUNC = d2c_select_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select(text, double precision, integer, integer) IS
	'interval sampling (D2C, arXiv 2507.05914): ids at ranks 0, k, 2k, ... of the order by (score, id), at most n; NULL scores are left out, NaN is an error, no scored row gives NULL; text ids tie in the C collation';

CREATE AGGREGATE d2c_select(id uuid, score double precision, k integer, n integer) (
	SFUNC = d2c_select_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select(uuid, double precision, integer, integer) IS
	'interval sampling (D2C, arXiv 2507.05914): ids at ranks 0, k, 2k, ... of the order by (score, id), at most n; NULL scores are left out, NaN is an error, no scored row gives NULL; text ids tie in the C collation';

CREATE FUNCTION d2c_select_min_accum(d2c_selection, bigint, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_min_accum(d2c_selection, bigint, double precision, integer) IS 'support of aggregate d2c_select_min';

CREATE FUNCTION d2c_select_min_accum(d2c_selection, text, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_min_accum(d2c_selection, text, double precision, integer) IS 'support of aggregate d2c_select_min';

CREATE FUNCTION d2c_select_min_accum(d2c_selection, uuid, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_min_accum(d2c_selection, uuid, double precision, integer) IS 'support of aggregate d2c_select_min';

CREATE AGGREGATE d2c_select_min(id bigint, score double precision, n integer) (
	SFUNC = d2c_select_min_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_min(bigint, double precision, integer) IS
	'the n lowest scores: ids ordered by (score, id)';

CREATE AGGREGATE d2c_select_min(id text, score double precision, n integer) (
	SFUNC = d2c_select_min_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_min(text, double precision, integer) IS
	'the n lowest scores: ids ordered by (score, id)';

CREATE AGGREGATE d2c_select_min(id uuid, score double precision, n integer) (
	SFUNC = d2c_select_min_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_min(uuid, double precision, integer) IS
	'the n lowest scores: ids ordered by (score, id)';

CREATE FUNCTION d2c_select_max_accum(d2c_selection, bigint, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_max_accum(d2c_selection, bigint, double precision, integer) IS 'support of aggregate d2c_select_max';

CREATE FUNCTION d2c_select_max_accum(d2c_selection, text, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_max_accum(d2c_selection, text, double precision, integer) IS 'support of aggregate d2c_select_max';

CREATE FUNCTION d2c_select_max_accum(d2c_selection, uuid, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_max_accum(d2c_selection, uuid, double precision, integer) IS 'support of aggregate d2c_select_max';

CREATE AGGREGATE d2c_select_max(id bigint, score double precision, n integer) (
	SFUNC = d2c_select_max_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_max(bigint, double precision, integer) IS
	'the n highest scores: ids ordered by (score descending, id)';

CREATE AGGREGATE d2c_select_max(id text, score double precision, n integer) (
	SFUNC = d2c_select_max_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_max(text, double precision, integer) IS
	'the n highest scores: ids ordered by (score descending, id)';

CREATE AGGREGATE d2c_select_max(id uuid, score double precision, n integer) (
	SFUNC = d2c_select_max_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_max(uuid, double precision, integer) IS
	'the n highest scores: ids ordered by (score descending, id)';

CREATE FUNCTION d2c_select_medium_accum(d2c_selection, bigint, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_medium_accum(d2c_selection, bigint, double precision, integer) IS 'support of aggregate d2c_select_medium';

CREATE FUNCTION d2c_select_medium_accum(d2c_selection, text, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_medium_accum(d2c_selection, text, double precision, integer) IS 'support of aggregate d2c_select_medium';

CREATE FUNCTION d2c_select_medium_accum(d2c_selection, uuid, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_medium_accum(d2c_selection, uuid, double precision, integer) IS 'support of aggregate d2c_select_medium';

CREATE AGGREGATE d2c_select_medium(id bigint, score double precision, n integer) (
	SFUNC = d2c_select_medium_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_medium(bigint, double precision, integer) IS
	'the n ids around the middle of the order by (score, id), in that order; keeps the whole group in memory';

CREATE AGGREGATE d2c_select_medium(id text, score double precision, n integer) (
	SFUNC = d2c_select_medium_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_medium(text, double precision, integer) IS
	'the n ids around the middle of the order by (score, id), in that order; keeps the whole group in memory';

CREATE AGGREGATE d2c_select_medium(id uuid, score double precision, n integer) (
	SFUNC = d2c_select_medium_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_medium(uuid, double precision, integer) IS
	'the n ids around the middle of the order by (score, id), in that order; keeps the whole group in memory';

CREATE FUNCTION d2c_select_random_accum(d2c_selection, bigint, bigint, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_random_accum(d2c_selection, bigint, bigint, integer) IS 'support of aggregate d2c_select_random';

CREATE FUNCTION d2c_select_random_accum(d2c_selection, text, bigint, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_random_accum(d2c_selection, text, bigint, integer) IS 'support of aggregate d2c_select_random';

CREATE FUNCTION d2c_select_random_accum(d2c_selection, uuid, bigint, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_random_accum(d2c_selection, uuid, bigint, integer) IS 'support of aggregate d2c_select_random';

CREATE AGGREGATE d2c_select_random(id bigint, seed bigint, n integer) (
	SFUNC = d2c_select_random_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_random(bigint, bigint, integer) IS
	'n ids drawn at random: a function of ids and seed alone, the same on every server';

CREATE AGGREGATE d2c_select_random(id text, seed bigint, n integer) (
	SFUNC = d2c_select_random_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_random(text, bigint, integer) IS
	'n ids drawn at random: a function of ids and seed alone, the same on every server';

CREATE AGGREGATE d2c_select_random(id uuid, seed bigint, n integer) (
	SFUNC = d2c_select_random_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_random(uuid, bigint, integer) IS
	'n ids drawn at random: a function of ids and seed alone, the same on every server';

CREATE FUNCTION d2c_interval(class_size bigint, n integer) RETURNS integer
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_interval(class_size bigint, n integer) IS 'interval k with which n picks span the easiest 67.5 % of a class, as k = 96 for 10 of 1281 does (arXiv 2507.05914)';

-- ---- images --------------------------------------------------------------------------------------------------------
-- The engine decodes.  Its functions depend on their arguments and on installed files only; a call with constant
-- arguments may run at plan time, and none belongs in an index, a generated column or a CHECK constraint.

CREATE FUNCTION d2c_image_info(image bytea, OUT format text, OUT width integer, OUT height integer, OUT channels integer)
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION d2c_image_info(bytea) IS
	'what a PNG, JPEG or WebP claims to be: format, width and height in pixels, channels; only its header is read; the engine does it, so not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_thumbnail(image bytea, edge integer) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION d2c_thumbnail(bytea, integer) IS
	'the whole image within edge x edge pixels as PNG, aspect kept, never enlarged; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_phash(image bytea) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION d2c_phash(bytea) IS
	'perceptual hash: 64 signs of the low frequencies of the grey image; near copies differ in few bits, bit_count((a # b)::bit(64)) of them; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_contact_sheet_accum(internal, bytea, text) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_contact_sheet_accum(internal, bytea, text) IS
	'support of aggregate d2c_contact_sheet';

CREATE FUNCTION d2c_contact_sheet_accum(internal, bytea, text, integer) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_contact_sheet_accum(internal, bytea, text, integer) IS
	'support of aggregate d2c_contact_sheet';

CREATE FUNCTION d2c_contact_sheet_final(internal) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION d2c_contact_sheet_final(internal) IS
	'support of aggregate d2c_contact_sheet';

CREATE AGGREGATE d2c_contact_sheet(image bytea, caption text) (
	SFUNC = d2c_contact_sheet_accum,
	STYPE = internal,
	SSPACE = 1048576,
	FINALFUNC = d2c_contact_sheet_final,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_contact_sheet(bytea, text) IS
	'one PNG of many images with captions, cells of 96 pixels, row by row in the order of ORDER BY inside the call; NULL images are left out';

CREATE AGGREGATE d2c_contact_sheet(image bytea, caption text, edge integer) (
	SFUNC = d2c_contact_sheet_accum,
	STYPE = internal,
	SSPACE = 1048576,
	FINALFUNC = d2c_contact_sheet_final,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_contact_sheet(bytea, text, integer) IS
	'one PNG of many images with captions, cells of edge pixels, row by row in the order of ORDER BY inside the call; NULL images are left out';

-- ---- attach --------------------------------------------------------------------------------------------------------

CREATE FUNCTION d2c_text_embedding(prompt text, model text, tokens integer DEFAULT 16, OUT embedding tensor, OUT mask tensor)
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION d2c_text_embedding(text, text, integer) IS
	'a text encoders last hidden state, f32 [tokens, width], and which tokens the text fills, u8 [tokens]; longer texts are cut, rows beyond the text are zero; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_text_embedding_batched(prompt text, model text, tokens integer DEFAULT 16, OUT embedding tensor, OUT mask tensor)
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION d2c_text_embedding_batched(text, text, integer) IS
	'd2c_text_embedding as a window function that sends many rows at once: OVER ()';

CREATE FUNCTION d2c_visual_embedding(image bytea, model text, tokens integer DEFAULT 0) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION d2c_visual_embedding(bytea, text, integer) IS
	'hidden tokens that a model has of an image, f16 [tokens, width]: the first tokens of them, all when 0; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_visual_embedding_batched(image bytea, model text, tokens integer DEFAULT 0) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION d2c_visual_embedding_batched(bytea, text, integer) IS
	'd2c_visual_embedding as a window function that sends many rows at once: OVER ()';

-- ---- metrics -------------------------------------------------------------------------------------------------------

CREATE TYPE d2c_moments;

CREATE FUNCTION d2c_moments_in(cstring) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_in(cstring) IS
	'I/O of type d2c_moments';

CREATE FUNCTION d2c_moments_out(d2c_moments) RETURNS cstring
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_out(d2c_moments) IS
	'I/O of type d2c_moments';

CREATE FUNCTION d2c_moments_recv(internal) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_recv(internal) IS
	'I/O of type d2c_moments';

CREATE FUNCTION d2c_moments_send(d2c_moments) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_send(d2c_moments) IS
	'binary form: version (a byte), int32 width, int64 n, float8 mean and comoment, in network order';

CREATE TYPE d2c_moments (
	INPUT = d2c_moments_in,
	OUTPUT = d2c_moments_out,
	RECEIVE = d2c_moments_recv,
	SEND = d2c_moments_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = double,
	STORAGE = external
);
COMMENT ON TYPE d2c_moments IS
	'number, mean and comoment (lower triangle) of feature vectors of up to 8000 dimensions; moments merge';

CREATE FUNCTION d2c_moments_accum_tensor(d2c_moments, tensor) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_accum_tensor(d2c_moments, tensor) IS
	'support of aggregate d2c_moments';

CREATE FUNCTION d2c_moments_accum_array(d2c_moments, real[]) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_accum_array(d2c_moments, real[]) IS
	'support of aggregate d2c_moments';

CREATE FUNCTION d2c_moments_combine(d2c_moments, d2c_moments) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_combine(d2c_moments, d2c_moments) IS
	'support of aggregates d2c_moments and d2c_moments_merge';

CREATE AGGREGATE d2c_moments(feature tensor) (
	SFUNC = d2c_moments_accum_tensor,
	STYPE = d2c_moments,
	COMBINEFUNC = d2c_moments_combine,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_moments(tensor) IS
	'moments of feature vectors in double precision; another order of rows or another division among workers differs by rounding, some 1e-15 of the spread; NULLs are left out';

CREATE AGGREGATE d2c_moments(feature real[]) (
	SFUNC = d2c_moments_accum_array,
	STYPE = d2c_moments,
	COMBINEFUNC = d2c_moments_combine,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_moments(real[]) IS
	'moments of feature vectors in double precision; another order of rows or another division among workers differs by rounding, some 1e-15 of the spread; NULLs are left out';

CREATE AGGREGATE d2c_moments_merge(d2c_moments) (
	SFUNC = d2c_moments_combine,
	STYPE = d2c_moments,
	COMBINEFUNC = d2c_moments_combine,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_moments_merge(d2c_moments) IS 'moments of all vectors that the given moments were made of';

CREATE FUNCTION d2c_moments_count(d2c_moments) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_count(d2c_moments) IS
	'number of vectors';

CREATE FUNCTION d2c_moments_mean(d2c_moments) RETURNS double precision[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_mean(d2c_moments) IS
	'mean vector';

CREATE FUNCTION d2c_moments_covariance(d2c_moments) RETURNS double precision[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_covariance(d2c_moments) IS
	'covariance matrix, by n - 1 as numpy.cov; at least two vectors';

CREATE FUNCTION d2c_frechet(a d2c_moments, b d2c_moments) RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION d2c_frechet(d2c_moments, d2c_moments) IS
	'Fréchet distance between the normal distributions with these moments, |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), as FID has it (Heusel et al. 2017); the engine computes it';
