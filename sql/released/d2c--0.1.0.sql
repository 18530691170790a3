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
COMMENT ON CAST (tensor AS tensor) IS 'applies the element type of tensor(type)';

CREATE FUNCTION d2c_tensor_from_array(integer[], integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_from_array(integer[], integer, boolean) IS 'array as tensor, f32 unless tensor(type) says otherwise';
CREATE CAST (integer[] AS tensor) WITH FUNCTION d2c_tensor_from_array(integer[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (integer[] AS tensor) IS 'array as tensor';

CREATE FUNCTION d2c_tensor_from_array(real[], integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_from_array(real[], integer, boolean) IS 'array as tensor, f32 unless tensor(type) says otherwise';
CREATE CAST (real[] AS tensor) WITH FUNCTION d2c_tensor_from_array(real[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (real[] AS tensor) IS 'array as tensor';

CREATE FUNCTION d2c_tensor_from_array(double precision[], integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_from_array(double precision[], integer, boolean) IS
	'array as tensor, f32 unless tensor(type) says otherwise';
CREATE CAST (double precision[] AS tensor)
	WITH FUNCTION d2c_tensor_from_array(double precision[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (double precision[] AS tensor) IS 'array as tensor; a finite number must stay finite';

CREATE FUNCTION d2c_tensor_to_float4(tensor) RETURNS real[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_to_float4(tensor) IS 'tensor as array of its dimensions, at most 6; exact for every element type';
CREATE CAST (tensor AS real[]) WITH FUNCTION d2c_tensor_to_float4(tensor) AS IMPLICIT;
COMMENT ON CAST (tensor AS real[]) IS 'tensor as array; through it, as a vector of extension vector';

CREATE FUNCTION d2c_tensor_to_float8(tensor) RETURNS double precision[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_to_float8(tensor) IS 'tensor as array of its dimensions, at most 6; exact for every element type';
CREATE CAST (tensor AS double precision[]) WITH FUNCTION d2c_tensor_to_float8(tensor) AS ASSIGNMENT;
COMMENT ON CAST (tensor AS double precision[]) IS 'tensor as array';

CREATE CAST (tensor AS bytea) WITH FUNCTION d2c_tensor_send(tensor);
COMMENT ON CAST (tensor AS bytea) IS 'binary form of a tensor';

CREATE FUNCTION d2c_tensor_from_bytea(bytea, integer, boolean) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_from_bytea(bytea, integer, boolean) IS 'tensor of its binary form, which the cast to bytea gives';
CREATE CAST (bytea AS tensor) WITH FUNCTION d2c_tensor_from_bytea(bytea, integer, boolean);
COMMENT ON CAST (bytea AS tensor) IS 'tensor of its binary form';

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
COMMENT ON OPERATOR FAMILY d2c_tensor_ops USING hash IS 'equality of bytes';

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

CREATE FUNCTION d2c_select_ccs_accum(d2c_selection, bigint, double precision, integer, double precision, bigint) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_ccs_accum(d2c_selection, bigint, double precision, integer, double precision, bigint) IS 'support of aggregate d2c_select_ccs';

CREATE FUNCTION d2c_select_ccs_accum(d2c_selection, text, double precision, integer, double precision, bigint) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_ccs_accum(d2c_selection, text, double precision, integer, double precision, bigint) IS 'support of aggregate d2c_select_ccs';

CREATE FUNCTION d2c_select_ccs_accum(d2c_selection, uuid, double precision, integer, double precision, bigint) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_ccs_accum(d2c_selection, uuid, double precision, integer, double precision, bigint) IS 'support of aggregate d2c_select_ccs';

CREATE AGGREGATE d2c_select_ccs(id bigint, score double precision, n integer, cut double precision, seed bigint) (
	SFUNC = d2c_select_ccs_accum,
	STYPE = d2c_selection,
	SSPACE = 65536,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_ccs(bigint, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out, NaN and infinite ones are an error';

CREATE AGGREGATE d2c_select_ccs(id text, score double precision, n integer, cut double precision, seed bigint) (
	SFUNC = d2c_select_ccs_accum,
	STYPE = d2c_selection,
	SSPACE = 65536,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_ccs(text, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out, NaN and infinite ones are an error';

CREATE AGGREGATE d2c_select_ccs(id uuid, score double precision, n integer, cut double precision, seed bigint) (
	SFUNC = d2c_select_ccs_accum,
	STYPE = d2c_selection,
	SSPACE = 65536,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_ccs(uuid, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out, NaN and infinite ones are an error';

CREATE FUNCTION d2c_select_kcenter_accum(d2c_selection, bigint, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_kcenter_accum(d2c_selection, bigint, tensor, integer) IS 'support of aggregate d2c_select_kcenter';

CREATE FUNCTION d2c_select_kcenter_accum(d2c_selection, text, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_kcenter_accum(d2c_selection, text, tensor, integer) IS 'support of aggregate d2c_select_kcenter';

CREATE FUNCTION d2c_select_kcenter_accum(d2c_selection, uuid, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_kcenter_accum(d2c_selection, uuid, tensor, integer) IS 'support of aggregate d2c_select_kcenter';

CREATE AGGREGATE d2c_select_kcenter(id bigint, feature tensor, n integer) (
	SFUNC = d2c_select_kcenter_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_kcenter(bigint, tensor, integer) IS
	'k-center greedy: first the row farthest from the mean of all features, then always the row whose distance to the nearest picked one is greatest; Euclidean, ties to the lowest id. Keeps every feature (4 bytes an element, at most 1 GB a group); features of any shape, all of one size, finite; NULL features are left out';

CREATE AGGREGATE d2c_select_kcenter(id text, feature tensor, n integer) (
	SFUNC = d2c_select_kcenter_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_kcenter(text, tensor, integer) IS
	'k-center greedy: first the row farthest from the mean of all features, then always the row whose distance to the nearest picked one is greatest; Euclidean, ties to the lowest id. Keeps every feature (4 bytes an element, at most 1 GB a group); features of any shape, all of one size, finite; NULL features are left out';

CREATE AGGREGATE d2c_select_kcenter(id uuid, feature tensor, n integer) (
	SFUNC = d2c_select_kcenter_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_kcenter(uuid, tensor, integer) IS
	'k-center greedy: first the row farthest from the mean of all features, then always the row whose distance to the nearest picked one is greatest; Euclidean, ties to the lowest id. Keeps every feature (4 bytes an element, at most 1 GB a group); features of any shape, all of one size, finite; NULL features are left out';

CREATE FUNCTION d2c_select_herding_accum(d2c_selection, bigint, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_herding_accum(d2c_selection, bigint, tensor, integer) IS 'support of aggregate d2c_select_herding';

CREATE FUNCTION d2c_select_herding_accum(d2c_selection, text, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_herding_accum(d2c_selection, text, tensor, integer) IS 'support of aggregate d2c_select_herding';

CREATE FUNCTION d2c_select_herding_accum(d2c_selection, uuid, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_herding_accum(d2c_selection, uuid, tensor, integer) IS 'support of aggregate d2c_select_herding';

CREATE AGGREGATE d2c_select_herding(id bigint, feature tensor, n integer) (
	SFUNC = d2c_select_herding_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_herding(bigint, tensor, integer) IS
	'herding (Welling, ICML 2009): pick t + 1 is the row x with the least || (t + 1) mean - sum of the picked - x ||, so that the mean of the picked stays close to the mean of all; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_herding(id text, feature tensor, n integer) (
	SFUNC = d2c_select_herding_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_herding(text, tensor, integer) IS
	'herding (Welling, ICML 2009): pick t + 1 is the row x with the least || (t + 1) mean - sum of the picked - x ||, so that the mean of the picked stays close to the mean of all; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_herding(id uuid, feature tensor, n integer) (
	SFUNC = d2c_select_herding_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_herding(uuid, tensor, integer) IS
	'herding (Welling, ICML 2009): pick t + 1 is the row x with the least || (t + 1) mean - sum of the picked - x ||, so that the mean of the picked stays close to the mean of all; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE FUNCTION d2c_select_moderate_accum(d2c_selection, bigint, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_moderate_accum(d2c_selection, bigint, tensor, integer) IS 'support of aggregate d2c_select_moderate';

CREATE FUNCTION d2c_select_moderate_accum(d2c_selection, text, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_moderate_accum(d2c_selection, text, tensor, integer) IS 'support of aggregate d2c_select_moderate';

CREATE FUNCTION d2c_select_moderate_accum(d2c_selection, uuid, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_moderate_accum(d2c_selection, uuid, tensor, integer) IS 'support of aggregate d2c_select_moderate';

CREATE AGGREGATE d2c_select_moderate(id bigint, feature tensor, n integer) (
	SFUNC = d2c_select_moderate_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_moderate(bigint, tensor, integer) IS
	'moderate coreset (Moderate-DS, Xia et al., ICLR 2023), per group: the n rows around the middle of the order by (distance to the median feature, id); the median is that of each element. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_moderate(id text, feature tensor, n integer) (
	SFUNC = d2c_select_moderate_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_moderate(text, tensor, integer) IS
	'moderate coreset (Moderate-DS, Xia et al., ICLR 2023), per group: the n rows around the middle of the order by (distance to the median feature, id); the median is that of each element. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_moderate(id uuid, feature tensor, n integer) (
	SFUNC = d2c_select_moderate_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_moderate(uuid, tensor, integer) IS
	'moderate coreset (Moderate-DS, Xia et al., ICLR 2023), per group: the n rows around the middle of the order by (distance to the median feature, id); the median is that of each element. Features as for d2c_select_kcenter';

CREATE FUNCTION d2c_select_gadc_accum(d2c_selection, bigint, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_gadc_accum(d2c_selection, bigint, tensor, integer) IS 'support of aggregate d2c_select_gadc';

CREATE FUNCTION d2c_select_gadc_accum(d2c_selection, text, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_gadc_accum(d2c_selection, text, tensor, integer) IS 'support of aggregate d2c_select_gadc';

CREATE FUNCTION d2c_select_gadc_accum(d2c_selection, uuid, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_gadc_accum(d2c_selection, uuid, tensor, integer) IS 'support of aggregate d2c_select_gadc';

CREATE AGGREGATE d2c_select_gadc(id bigint, feature tensor, n integer) (
	SFUNC = d2c_select_gadc_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_gadc(bigint, tensor, integer) IS
	'by transport and moments, in the manner of GADC (arXiv 2606.05883): n rows S with a small mean over rows x of min over s in S of || x - s ||^2 + 1.25 || mean of S - mean ||^2 + sum over elements of (deviation of S - deviation)^2, greedy, then exchanges of one pick until none helps or 10 sweeps are done, the best of four starts (the best first row, the first three of k-center); the paper''s entropic partial plan and its cross-entropy are left out; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_gadc(id text, feature tensor, n integer) (
	SFUNC = d2c_select_gadc_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_gadc(text, tensor, integer) IS
	'by transport and moments, in the manner of GADC (arXiv 2606.05883): n rows S with a small mean over rows x of min over s in S of || x - s ||^2 + 1.25 || mean of S - mean ||^2 + sum over elements of (deviation of S - deviation)^2, greedy, then exchanges of one pick until none helps or 10 sweeps are done, the best of four starts (the best first row, the first three of k-center); the paper''s entropic partial plan and its cross-entropy are left out; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_gadc(id uuid, feature tensor, n integer) (
	SFUNC = d2c_select_gadc_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_gadc(uuid, tensor, integer) IS
	'by transport and moments, in the manner of GADC (arXiv 2606.05883): n rows S with a small mean over rows x of min over s in S of || x - s ||^2 + 1.25 || mean of S - mean ||^2 + sum over elements of (deviation of S - deviation)^2, greedy, then exchanges of one pick until none helps or 10 sweeps are done, the best of four starts (the best first row, the first three of k-center); the paper''s entropic partial plan and its cross-entropy are left out; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE FUNCTION d2c_select_product_accum(d2c_selection, bigint, double precision[], double precision[], integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_product_accum(d2c_selection, bigint, double precision[], double precision[], integer) IS 'support of aggregate d2c_select_product';

CREATE FUNCTION d2c_select_product_accum(d2c_selection, text, double precision[], double precision[], integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_product_accum(d2c_selection, text, double precision[], double precision[], integer) IS 'support of aggregate d2c_select_product';

CREATE FUNCTION d2c_select_product_accum(d2c_selection, uuid, double precision[], double precision[], integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_product_accum(d2c_selection, uuid, double precision[], double precision[], integer) IS 'support of aggregate d2c_select_product';

CREATE AGGREGATE d2c_select_product(id bigint, objectives double precision[], strengths double precision[], n integer) (
	SFUNC = d2c_select_product_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_product(bigint, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; ties to the lowest id';

CREATE AGGREGATE d2c_select_product(id text, objectives double precision[], strengths double precision[], n integer) (
	SFUNC = d2c_select_product_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_product(text, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; ties to the lowest id';

CREATE AGGREGATE d2c_select_product(id uuid, objectives double precision[], strengths double precision[], n integer) (
	SFUNC = d2c_select_product_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_product(uuid, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; ties to the lowest id';

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
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000;
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

CREATE TYPE d2c_embedded_text AS (embedding tensor, mask tensor);
COMMENT ON TYPE d2c_embedded_text IS 'what d2c_text_embedding returns: embedding f32 [tokens, width], mask u8 [tokens]';

CREATE FUNCTION d2c_text_embedding(prompt text, model text, tokens integer DEFAULT 16) RETURNS d2c_embedded_text
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_text_embedding(text, text, integer) IS
	'last hidden state of a text encoder (BERT, T5 or CLIP), f32 [tokens, width], and which tokens the text fills, u8 [tokens]; longer texts are cut, rows beyond the text are zero; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_text_embedding_batched(prompt text, model text, tokens integer DEFAULT 16) RETURNS d2c_embedded_text
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_text_embedding_batched(text, text, integer) IS
	'd2c_text_embedding as a window function that sends many rows at once: OVER ()';

CREATE FUNCTION d2c_visual_embedding(image bytea, model text, tokens integer DEFAULT 0) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_visual_embedding(bytea, text, integer) IS
	'hidden tokens that a model (DINOv2, CLIP, MAE, MoCo v3, or a SiT, DiT or REPA) has of an image, f16 [tokens, width]: the first tokens of them, all when 0; of a model of kind inception f32 [1, 2048], FID''s features; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_visual_embedding_batched(image bytea, model text, tokens integer DEFAULT 0) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_visual_embedding_batched(bytea, text, integer) IS
	'd2c_visual_embedding as a window function that sends many rows at once: OVER ()';

CREATE FUNCTION d2c_latent(image bytea, model text, size integer DEFAULT 256) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_latent(bytea, text, integer) IS
	'posterior that an autoencoder (sd-vae-ft-ema) has of an image, cropped and resized to size x size pixels as ADM does: f32 [2c, size/8, size/8], c channels of mean, then c of standard deviation, not scaled, as REPA''s npy files are; size is a multiple of 8, at most 1024; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_latent_batched(image bytea, model text, size integer DEFAULT 256) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_latent_batched(bytea, text, integer) IS
	'd2c_latent as a window function that sends many rows at once: OVER ()';

CREATE FUNCTION d2c_decode_latent(latent tensor, model text) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_decode_latent(tensor, text) IS
	'PNG that an autoencoder makes of a latent: [c, h, w] not scaled (divide what a diffusion model makes by the scaling factor, 0.18215), or [2c, h, w] as d2c_latent gives it, whose mean is taken; pixels are 127.5 x + 128, cut off, as in SiT; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_decode_latent_batched(latent tensor, model text) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_decode_latent_batched(tensor, text) IS
	'd2c_decode_latent as a window function that sends many rows at once: OVER ()';

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
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_frechet(d2c_moments, d2c_moments) IS
	'Fréchet distance between the normal distributions with these moments, |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), as FID has it (Heusel et al. 2017); the engine computes it';

-- ---- procedures ----------------------------------------------------------------------------------------------------
-- They commit page by page and go on where the result table ends, so they carry no SET clause: search_path is set for
-- the transaction, first and after each COMMIT; what comes before names its schema.  Result tables belong to the caller.

CREATE FUNCTION d2c_model_info(model text, OUT sha256 text, OUT kind text, OUT width integer, OUT height integer,
	OUT channels integer, OUT classes integer, OUT embedding integer, OUT device text, OUT "precision" text, OUT build text,
	OUT vae text)
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION d2c_model_info(text) IS
	'one installed model and the engine that would run it: sha256 of its files (of one file, its own), kind, image size, classes, embedding width, device, precision, build; vae is the autoencoder that makes its latents of images, NULL when it takes none or none is there';

CREATE PROCEDURE d2c_is_atomic(INOUT atomic boolean)
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE d2c_is_atomic(boolean) IS 'support of d2c''s procedures: whether they may not commit where they are called';

CREATE FUNCTION d2c_require_arguments(arguments jsonb) RETURNS void
	LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	missing text;
BEGIN
	SELECT min(key) INTO missing FROM jsonb_each(arguments) WHERE value = 'null';
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION '% must not be null', missing USING ERRCODE = 'null_value_not_allowed';
	END IF;
END $$;
COMMENT ON FUNCTION d2c_require_arguments(jsonb) IS 'support of d2c''s procedures: an error when one of the arguments is null';

CREATE FUNCTION d2c_source_column(source regclass, name text, types regtype[]) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	found_type regtype;
BEGIN
	SELECT a.atttypid INTO found_type FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = source AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped;
	IF found_type IS NULL THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', name, source
			USING ERRCODE = 'undefined_column', HINT = 'Name the column in the call: id_column, label_column, class_column, image_column.';
	ELSIF found_type <> ALL (types) THEN
		RAISE EXCEPTION 'column "%" of table % is of type %', name, source, found_type
			USING ERRCODE = 'datatype_mismatch', DETAIL = format('Its type must be one of %s.', array_to_string(types, ', '));
	END IF;
	RETURN quote_ident(name);
END $$;
COMMENT ON FUNCTION d2c_source_column(regclass, text, regtype[]) IS 'support of d2c''s procedures: a column''s quoted name, once its type is checked';

CREATE FUNCTION d2c_require_key(source regclass, relation text, id_column text) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	nulls bigint;
	repeated bigint;
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
			WHERE i.indrelid = source AND a.attname = id_column AND a.attnotnull
				AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1) THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT count(*) - count(%1$I), count(%1$I) - count(DISTINCT %1$I) FROM %2$s', id_column, relation) INTO nulls, repeated;
	IF nulls > 0 OR repeated > 0 THEN
		RAISE EXCEPTION 'column "%" of table % is not a key', id_column, relation
			USING ERRCODE = 'unique_violation', DETAIL = format('It has %s nulls and repeats %s values.', nulls, repeated),
				HINT = 'Name a unique column without nulls with id_column.';
	END IF;
END $$;
COMMENT ON FUNCTION d2c_require_key(regclass, text, text) IS
	'support of d2c''s procedures: an error unless a column identifies rows; looks at the values where no index says so';

CREATE FUNCTION d2c_source_columns(source regclass, id_column text, label_column text, class_column text, image_column text,
	OUT relation text, OUT id text, OUT id_type text, OUT label text, OUT class text, OUT image text)
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	SELECT format('%I.%I', n.nspname, c.relname) INTO relation
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
	IF source IS NULL THEN
		PERFORM d2c_require_arguments('{"source": null}');
	ELSIF relation IS NULL THEN
		RAISE EXCEPTION 'table with OID % does not exist', source::oid USING ERRCODE = 'undefined_table';
	END IF;
	IF id_column IS NULL THEN
		SELECT a.attname INTO id_column FROM pg_catalog.pg_index i
			JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
			WHERE i.indrelid = source AND i.indisprimary AND i.indnkeyatts = 1;
	END IF;
	IF id_column IS NULL THEN
		RAISE EXCEPTION 'table % has no primary key of one column', relation
			USING ERRCODE = 'undefined_object', HINT = 'Name a unique column without nulls with id_column.';
	END IF;
	id := d2c_source_column(source, id_column, '{smallint,integer,bigint,text,varchar,uuid}');
	SELECT CASE WHEN a.attcollation <> 0 THEN format('text COLLATE %I.%I', n.nspname, o.collname)
			WHEN a.atttypid = 'uuid'::regtype THEN 'uuid' ELSE 'bigint' END
		INTO id_type FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
		LEFT JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace WHERE a.attrelid = source AND a.attname = id_column;
	label := d2c_source_column(source, label_column, '{smallint,integer,bigint}');
	image := d2c_source_column(source, image_column, '{bytea}');
	IF class_column IS NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
			WHERE a.attrelid = source AND a.attname = 'class' AND NOT a.attisdropped) THEN
		class := label || '::text';
	ELSE
		class := format('coalesce(%s::text, %s::text)', d2c_source_column(source, coalesce(class_column, 'class'), '{text,varchar,name,bpchar}'), label);
	END IF;
	PERFORM d2c_require_key(source, relation, id_column);
END $$;
COMMENT ON FUNCTION d2c_source_columns(regclass, text, text, text, text) IS
	'support of d2c''s procedures: the quoted names of the source and its columns; the key defaults to the primary key, the class to column class, and to the label where there is none';

CREATE FUNCTION d2c_result_name(target text, suffix text, caller_schema name) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	names text[] := parse_ident(target);
BEGIN
	IF names IS NULL OR cardinality(names) > 2 THEN
		RAISE EXCEPTION 'invalid name of a result table: "%"', target
			USING ERRCODE = 'invalid_name', HINT = 'Give a name, or schema.name.';
	END IF;
	names[cardinality(names)] := names[cardinality(names)] || suffix;
	IF octet_length(names[cardinality(names)]) > 63 THEN
		RAISE EXCEPTION 'name of result table "%" is too long', names[cardinality(names)] USING ERRCODE = 'name_too_long';
	END IF;
	IF cardinality(names) = 1 AND caller_schema IS NULL THEN
		RAISE EXCEPTION 'no schema has been selected to create in' USING ERRCODE = 'invalid_schema_name', HINT = 'Give schema.name, or set search_path.';
	END IF;
	IF cardinality(names) = 1 THEN
		names := ARRAY[caller_schema::text, names[1]];
	END IF;
	RETURN format('%I.%I', names[1], names[2]);
END $$;
COMMENT ON FUNCTION d2c_result_name(text, text, name) IS 'support of d2c''s procedures: a result table''s quoted name, in the caller''s schema unless it names one';

CREATE FUNCTION d2c_result_is_new(result text, maker text, parameters jsonb) RETURNS boolean
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	made jsonb;
	differing text;
BEGIN
	IF to_regclass(result) IS NULL THEN
		RETURN true;
	END IF;
	IF left(obj_description(to_regclass(result), 'pg_class'), length(maker) + 2) IS DISTINCT FROM maker || ' {' THEN
		RAISE EXCEPTION 'table % exists and is not a result of %', result, maker
			USING ERRCODE = 'duplicate_table', HINT = 'Name another target.';
	END IF;
	made := substr(obj_description(to_regclass(result), 'pg_class'), length(maker) + 2)::jsonb;
	SELECT string_agg(format('%s was %s, now %s', key, coalesce(made -> key, 'null'), coalesce(parameters -> key, 'null')), '; ' ORDER BY key)
		INTO differing FROM jsonb_object_keys(made || parameters) key WHERE made -> key IS DISTINCT FROM parameters -> key;
	IF differing IS NOT NULL THEN
		RAISE EXCEPTION 'table % holds the results of other parameters', result
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = differing || '.',
				HINT = 'Repeat the call as it was to go on, drop the table, or name another target.';
	END IF;
	RETURN false;
END $$;
COMMENT ON FUNCTION d2c_result_is_new(text, text, jsonb) IS
	'support of d2c''s procedures: whether a result table is still to be made; an error when it was made with other parameters, which its comment holds';

CREATE FUNCTION d2c_rows_to_do(result text, id text, id_type text, gaps boolean) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	last text;
BEGIN
	IF gaps THEN
		RETURN format('WHERE NOT EXISTS (SELECT FROM %s r WHERE r.id = o.%s)', result, id);
	END IF;
	EXECUTE format('SELECT r.id::text FROM %s r ORDER BY r.id DESC LIMIT 1', result) INTO last;
	RETURN CASE WHEN last IS NOT NULL THEN format('WHERE o.%s > %L::%s', id, last, split_part(id_type, ' ', 1)) END;
END $$;
COMMENT ON FUNCTION d2c_rows_to_do(text, text, text, boolean) IS
	'support of d2c''s procedures: which rows o of the source come next: those after the result''s last key, and at the end, for gaps, those that it lacks';

CREATE FUNCTION d2c_comment_result(result text, maker text, parameters jsonb) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	name text;
	meaning text;
BEGIN
	EXECUTE format('COMMENT ON TABLE %s IS %L', result, maker || ' ' || parameters);
	FOR name, meaning IN SELECT * FROM (VALUES
		('id', 'key of the row in the source table'),
		('label', 'class number, as the scorer takes it'),
		('class', 'class name'),
		('image', 'the image file, as in the source table'),
		('score', 'diffusion difficulty, mean squared error of the predicted noise: high is hard; NULL when sqlstate is set'),
		('rank', 'place in the class by (score, id), from 0 for the easiest'),
		('prompt', 'text that text_embedding is made of'),
		('text_embedding', 'last hidden state of the text encoder, f32 [tokens, width]'),
		('text_mask', 'which tokens the prompt fills, u8 [tokens]'),
		('visual_embedding', 'hidden tokens of the visual encoder, f16 [tokens, width]'),
		('model', 'name of the scoring model'),
		('model_sha256', 'digest of the scoring model''s weights'),
		('device', 'device of the engine that scored: scores of different devices are not mixed'),
		('precision', 'precision of matrix products when scoring'),
		('build', 'build of the engine that scored'),
		('timesteps', 'number of timesteps of the score'),
		('seed', 'seed of the score''s noise'),
		('sqlstate', 'SQLSTATE of what is wrong with the row; NULL when nothing is'),
		('error', 'what is wrong with the row')) v (c, m)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass(result) AND a.attname = v.c
	LOOP
		EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', result, name, meaning);
	END LOOP;
END $$;
COMMENT ON FUNCTION d2c_comment_result(text, text, jsonb) IS 'support of d2c''s procedures: comments of a result table and its columns';

CREATE FUNCTION d2c_report(what text, done bigint, total bigint, since bigint, started timestamptz) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	seconds float8 := greatest(extract(epoch FROM clock_timestamp() - started)::float8, 0.001);
	rate float8 := (done - since) / seconds;
BEGIN
	IF done = since THEN
		RETURN;
	END IF;
	RAISE NOTICE '%: % of % rows, % rows/s, about % s left', what, done, total, round(rate::numeric, 1),
		ceil(greatest(total - done, 0) / greatest(rate, 0.001));
END $$;
COMMENT ON FUNCTION d2c_report(text, bigint, bigint, bigint, timestamptz) IS 'support of d2c''s procedures: a NOTICE of progress, rate and time left';

CREATE FUNCTION d2c_vae_parameters(vae text) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF vae IS NULL THEN
		RETURN '{}';
	END IF;
	RETURN jsonb_build_object('vae', vae, 'vae_sha256', (d2c_model_info(vae)).sha256);
END $$;
COMMENT ON FUNCTION d2c_vae_parameters(text) IS 'support of d2c''s procedures: what a result table records of the autoencoder behind its scores';

CREATE PROCEDURE d2c_score(source regclass, target text, model text, timesteps integer DEFAULT 8, seed bigint DEFAULT 0,
	image_column text DEFAULT 'image', label_column text DEFAULT 'label', id_column text DEFAULT NULL,
	page_rows integer DEFAULT NULL, max_pages integer DEFAULT NULL, vae text DEFAULT NULL)
	LANGUAGE plpgsql AS $$
DECLARE
	caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
	caller_schema pg_catalog.name := pg_catalog.current_schema();
	path pg_catalog.text;
	atomic boolean;
	columns pg_catalog.record;
	scorer pg_catalog.record;
	parameters pg_catalog.jsonb;
	result pg_catalog.text;
	gaps boolean := false;
	total bigint;
	before bigint;
	done bigint;
	page integer := coalesce(page_rows, 256);
	pages integer := 0;
	handled bigint;
	started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
	page_started pg_catalog.timestamptz;
	reported pg_catalog.timestamptz := pg_catalog.clock_timestamp();
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT format('pg_catalog, %I, pg_temp', n.nspname) INTO path
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c';
	PERFORM set_config('search_path', path, true);
	CALL d2c_is_atomic(atomic);
	IF atomic THEN
		RAISE NOTICE 'd2c_score runs inside a transaction: nothing is committed before it ends';
	END IF;
	PERFORM d2c_require_arguments(jsonb_build_object('model', model, 'timesteps', timesteps, 'seed', seed));
	IF page < 1 OR max_pages < 1 THEN
		RAISE EXCEPTION 'page_rows and max_pages must be at least 1' USING ERRCODE = 'invalid_parameter_value';
	END IF;

	columns := d2c_source_columns(source, id_column, label_column, NULL, image_column);
	result := d2c_result_name(target, '', caller_schema);
	scorer := d2c_model_info(model);
	parameters := jsonb_build_object('source', columns.relation, 'id', columns.id, 'label', columns.label, 'image', columns.image,
		'model', model, 'sha256', scorer.sha256, 'device', scorer.device, 'precision', scorer.precision,
		'timesteps', timesteps, 'seed', seed) || d2c_vae_parameters(coalesce(nullif(vae, ''), scorer.vae));
	IF d2c_result_is_new(result, 'd2c_score', parameters) THEN
		EXECUTE format('CREATE TABLE %s (id %s PRIMARY KEY, label bigint, score double precision, sqlstate text, error text,
			model text, model_sha256 text, device text, precision text, build text, timesteps integer, seed bigint)', result, columns.id_type);
		PERFORM d2c_comment_result(result, 'd2c_score', parameters);
	END IF;
	EXECUTE format('SELECT count(*) FROM %s', columns.relation) INTO total;
	EXECUTE format('SELECT count(*) FROM %s', result) INTO before;
	done := before;

	WHILE max_pages IS NULL OR pages < max_pages LOOP
		page_started := clock_timestamp();
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
		EXECUTE format('INSERT INTO %1$s (id, label, score, sqlstate, error, model, model_sha256, device, precision, build, timesteps, seed)
			SELECT id, label, (d).score,
				CASE WHEN image_is_null OR label IS NULL THEN ''22004'' ELSE (d).sqlstate END,
				CASE WHEN image_is_null THEN ''image is null'' WHEN label IS NULL THEN ''label is null'' ELSE (d).error END,
				$1, $4, $5, $6, $7, $2, $3
			FROM (SELECT id, label, image IS NULL AS image_is_null, d2c_difficulty_checked(image, label, $1, $2, $3, $8) OVER () AS d
				FROM (SELECT o.%2$s AS id, o.%3$s::bigint AS label, o.%4$s AS image FROM %5$s o %6$s ORDER BY o.%2$s LIMIT %7$s) page) scored',
				result, columns.id, columns.label, columns.image, columns.relation,
				d2c_rows_to_do(result, columns.id, columns.id_type, gaps), page)
			USING model, timesteps, seed, scorer.sha256, scorer.device, scorer.precision, scorer.build,
				coalesce(nullif(vae, ''), scorer.vae, '');
		GET DIAGNOSTICS handled = ROW_COUNT;
		EXIT WHEN handled = 0 AND gaps;
		-- Rows that came after a run may have keys before its last one, random ones at most times.
		gaps := gaps OR handled = 0;
		CONTINUE WHEN handled = 0;
		done := done + handled;
		pages := pages + 1;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
		IF clock_timestamp() > reported + interval '5 seconds' THEN
			PERFORM d2c_report('scored', done, total, before, started);
			reported := clock_timestamp();
		END IF;
		-- Pages of some ten seconds: a page is what a crash loses.
		IF page_rows IS NULL THEN
			page := least(greatest(page * least(10 / greatest(extract(epoch FROM clock_timestamp() - page_started)::float8, 0.01), 4), 32), 16384);
		END IF;
	END LOOP;
	PERFORM d2c_report('scored', done, total, before, started);
	IF NOT atomic THEN
		COMMIT;
	END IF;
	PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $$;
COMMENT ON PROCEDURE d2c_score(regclass, text, text, integer, bigint, text, text, text, integer, integer, text) IS
	'scores every row of a table (image bytea, integer label) into target, page by page in the order of its key, one transaction each; called again it goes on; a bad row has its error in the result; the key defaults to the primary key, page_rows to pages of some ten seconds, vae to the model''s own autoencoder where it takes latents';

CREATE FUNCTION d2c_make_condensed(result text, id_type text, parameters jsonb, maker text) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %s (id %s PRIMARY KEY, label bigint, class text, image bytea, score double precision, rank bigint,
		prompt text, text_embedding tensor, text_mask tensor, visual_embedding tensor, sqlstate text, error text,
		model text, model_sha256 text, device text, precision text, build text, timesteps integer, seed bigint)', result, id_type);
	EXECUTE format('ALTER TABLE %s ALTER image SET STORAGE EXTERNAL', result);
	PERFORM d2c_comment_result(result, maker, parameters);
END $$;
COMMENT ON FUNCTION d2c_make_condensed(text, text, jsonb, text) IS 'support of d2c''s procedures: makes the table that a trainer reads';

CREATE FUNCTION d2c_attach_page(result text, key text, embed text, model text, tokens integer, page integer, INOUT last text)
	LANGUAGE plpgsql AS $$
DECLARE
	todo text := format('%I IS NULL AND sqlstate IS NULL', CASE key WHEN 'prompt' THEN 'text_embedding' ELSE 'visual_embedding' END)
		|| format(' AND %I IS NOT NULL', CASE key WHEN 'prompt' THEN 'prompt' ELSE 'image' END)
		|| CASE WHEN last IS NOT NULL THEN format(' AND %I > %L', key, last) ELSE '' END;
	one text;
	keys text[];
	state text;
	message text;
BEGIN
	EXECUTE format('SELECT array_agg(k ORDER BY %1$I) FROM (SELECT DISTINCT %1$I::text AS k, %1$I FROM %2$s WHERE %3$s ORDER BY %1$I LIMIT %4$s) p', key, result, todo, page) INTO keys;
	last := keys[cardinality(keys)];
	IF keys IS NULL THEN
		RETURN;
	END IF;
	BEGIN
		EXECUTE format(embed, 'OVER ()', '_batched') USING model, tokens, keys;
		RETURN;
	EXCEPTION WHEN data_exception OR program_limit_exceeded OR feature_not_supported THEN
		NULL;					-- Some row is bad: one at a time tells which.
	END;
	FOREACH one IN ARRAY keys LOOP
		BEGIN
			EXECUTE format(embed, '', '') USING model, tokens, ARRAY[one];
		EXCEPTION WHEN data_exception OR program_limit_exceeded OR feature_not_supported THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
			EXECUTE format('UPDATE %s SET sqlstate = $2, error = $3 WHERE %I::text = $1', result, key) USING one, state, message;
		END;
	END LOOP;
END $$;
COMMENT ON FUNCTION d2c_attach_page(text, text, text, text, integer, integer, text) IS
	'support of d2c''s procedures: embeds the page of prompts or images after key last, in a batch, or one by one when a row of it is bad; last becomes the page''s last key, NULL when none was left';

CREATE PROCEDURE d2c_attach_all(result text, text_model text, tokens integer, visual_model text, visual_tokens integer)
	LANGUAGE plpgsql AS $$
DECLARE
	path text := pg_catalog.current_setting('search_path');
	atomic boolean;
	last text;
	total bigint;
	before bigint;
	done bigint;
	started timestamptz;
	reported timestamptz;
BEGIN
	CALL d2c_is_atomic(atomic);
	LOOP
		EXIT WHEN text_model IS NULL;
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
		last := d2c_attach_page(result, 'prompt', format('UPDATE %s t SET text_embedding = (e.d).embedding, text_mask = (e.d).mask
			FROM (SELECT k, d2c_text_embedding%%2$s(k, $1, $2) %%1$s AS d FROM unnest($3) k) e WHERE t.prompt = e.k', result), text_model, tokens, 256, last);
		EXIT WHEN last IS NULL;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
	END LOOP;

	EXECUTE format('SELECT count(*), count(visual_embedding) FROM %s', result) INTO total, before;
	started := clock_timestamp();
	reported := started;
	LOOP
		EXIT WHEN visual_model IS NULL;
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
		last := d2c_attach_page(result, 'id', format('UPDATE %1$s t SET visual_embedding = e.d
			FROM (SELECT id, d2c_visual_embedding%%2$s(image, $1, $2) %%1$s AS d FROM %1$s WHERE id = ANY ($3::%2$s[])) e WHERE t.id = e.id',
			result, (SELECT a.atttypid::regtype FROM pg_attribute a WHERE a.attrelid = to_regclass(result) AND a.attname = 'id')), visual_model, visual_tokens, 256, last);
		EXIT WHEN last IS NULL;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
		IF clock_timestamp() > reported + interval '5 seconds' THEN
			EXECUTE format('SELECT count(visual_embedding) FROM %s', result) INTO done;
			PERFORM d2c_report('attached', done, total, before, started);
			reported := clock_timestamp();
		END IF;
	END LOOP;
END $$;
COMMENT ON PROCEDURE d2c_attach_all(text, text, integer, text, integer) IS 'support of d2c''s procedures: attaches what is missing, page by page';

CREATE FUNCTION d2c_attach_parameters(prompt text, text_model text, tokens integer, visual_model text, visual_tokens integer) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	parameters jsonb := jsonb_build_object('prompt', prompt);
BEGIN
	IF prompt IS NULL THEN
		RAISE EXCEPTION 'prompt must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'It holds %s where the class name goes.';
	END IF;
	PERFORM d2c_require_arguments(jsonb_build_object('tokens', tokens, 'visual_tokens', visual_tokens));
	IF visual_tokens < 0 THEN
		RAISE EXCEPTION 'number of tokens must be at least 0, not %', visual_tokens USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF text_model IS NOT NULL THEN
		-- What the model cannot do is to be known now, not after hours of scoring.
		PERFORM d2c_text_embedding('', text_model, tokens);
		parameters := parameters || jsonb_build_object('text_model', text_model, 'text_sha256', (d2c_model_info(text_model)).sha256, 'tokens', tokens);
	END IF;
	IF visual_model IS NOT NULL THEN
		-- The smallest PNG: one grey pixel.
		PERFORM d2c_visual_embedding('\x89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a4944415478da6360000000020001e527defc0000000049454e44ae426082'::bytea, visual_model, visual_tokens);
		parameters := parameters || jsonb_build_object('visual_model', visual_model, 'visual_sha256', (d2c_model_info(visual_model)).sha256, 'visual_tokens', visual_tokens);
		IF (d2c_model_info(visual_model)).vae IS NOT NULL THEN
			parameters := parameters || jsonb_build_object('visual_vae', d2c_vae_parameters((d2c_model_info(visual_model)).vae));
		END IF;
	END IF;
	RETURN parameters;
END $$;
COMMENT ON FUNCTION d2c_attach_parameters(text, text, integer, text, integer) IS 'support of d2c''s procedures: what a result table records of its attachments';

CREATE PROCEDURE d2c_attach(source regclass, target text, text_model text DEFAULT NULL, visual_model text DEFAULT NULL,
	prompt text DEFAULT 'a photo of a %s', tokens integer DEFAULT 16, visual_tokens integer DEFAULT 0, image_column text DEFAULT 'image',
	label_column text DEFAULT 'label', class_column text DEFAULT NULL, id_column text DEFAULT NULL)
	LANGUAGE plpgsql AS $$
DECLARE
	caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
	caller_schema pg_catalog.name := pg_catalog.current_schema();
	path pg_catalog.text;
	atomic boolean;
	columns pg_catalog.record;
	parameters pg_catalog.jsonb;
	result pg_catalog.text;
	gaps boolean := false;
	handled bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT format('pg_catalog, %I, pg_temp', n.nspname) INTO path
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c';
	PERFORM set_config('search_path', path, true);
	CALL d2c_is_atomic(atomic);
	IF atomic THEN
		RAISE NOTICE 'd2c_attach runs inside a transaction: nothing is committed before it ends';
	END IF;
	columns := d2c_source_columns(source, id_column, label_column, class_column, image_column);
	result := d2c_result_name(target, '', caller_schema);
	parameters := jsonb_build_object('source', columns.relation, 'id', columns.id, 'label', columns.label, 'class', columns.class, 'image', columns.image)
		|| d2c_attach_parameters(prompt, text_model, tokens, visual_model, visual_tokens);
	IF d2c_result_is_new(result, 'd2c_attach', parameters) THEN
		PERFORM d2c_make_condensed(result, columns.id_type, parameters, 'd2c_attach');
	END IF;
	LOOP
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
		EXECUTE format('INSERT INTO %1$s (id, label, class, image, prompt, sqlstate, error)
			SELECT %2$s, %3$s, %4$s, %5$s, replace($1, ''%%s'', %4$s), CASE WHEN %5$s IS NULL THEN ''22004'' END, CASE WHEN %5$s IS NULL THEN ''image is null'' END
			FROM %6$s o %7$s ORDER BY o.%2$s LIMIT 4096', result, columns.id, columns.label, columns.class, columns.image, columns.relation,
			d2c_rows_to_do(result, columns.id, columns.id_type, gaps)) USING prompt;
		GET DIAGNOSTICS handled = ROW_COUNT;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
		EXIT WHEN handled = 0 AND gaps;
		gaps := gaps OR handled = 0;
	END LOOP;
	CALL d2c_attach_all(result, text_model, tokens, visual_model, visual_tokens);
	IF NOT atomic THEN
		COMMIT;
	END IF;
	PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $$;
COMMENT ON PROCEDURE d2c_attach(regclass, text, text, text, text, integer, integer, text, text, text, text) IS
	'copies every row of a table (image bytea, integer label) into target and attaches embeddings of its class''s prompt and of its image, page by page; called again it goes on; a bad row has its error in the result';

CREATE FUNCTION d2c_interval_plan(scores text, per_class integer, every integer, OUT label bigint, OUT rows bigint, OUT k integer)
	RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT s.label, s.n, CASE WHEN $1 = 1 THEN coalesce($2, 1)
			ELSE least(coalesce($2, d2c_interval(s.n, $1)), greatest((s.n - 1) / ($1 - 1), 1))::integer END
		FROM (SELECT label, count(score) AS n FROM %s WHERE score IS NOT NULL GROUP BY label) s', scores) USING per_class, every;
END $$;
COMMENT ON FUNCTION d2c_interval_plan(text, integer, integer) IS
	'support of d2c''s procedures: the interval for each class of scores, which are an item of FROM, lowered to floor((N - 1) / (n - 1)) where it is too small';

CREATE FUNCTION d2c_warn_small_classes(scores text, per_class integer, every integer) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	classes bigint;
	examples text;
BEGIN
	SELECT count(*), string_agg(format('Class %s has %s rows: every %s.', label, rows, k), ' ' ORDER BY label) FILTER (WHERE place <= 5) INTO classes, examples
		FROM (SELECT *, row_number() OVER (ORDER BY label) AS place FROM d2c_interval_plan(scores, per_class, every) WHERE k < every) p;
	IF classes > 0 THEN
		RAISE WARNING 'interval lowered in classes that are too small for every % and % per class', every, per_class
			USING DETAIL = examples || CASE WHEN classes > 5 THEN format(' Lowered in %s more.', classes - 5) ELSE '' END;
	END IF;
	SELECT count(*), string_agg(format('Class %s has %s rows.', label, rows), ' ' ORDER BY label) FILTER (WHERE place <= 5) INTO classes, examples
		FROM (SELECT *, row_number() OVER (ORDER BY label) AS place FROM d2c_interval_plan(scores, per_class, every) WHERE rows < per_class) p;
	IF classes > 0 THEN
		RAISE WARNING 'all rows taken of classes that have fewer than % scored', per_class
			USING DETAIL = examples || CASE WHEN classes > 5 THEN format(' Taken of %s more.', classes - 5) ELSE '' END;
	END IF;
END $$;
COMMENT ON FUNCTION d2c_warn_small_classes(text, integer, integer) IS 'support of d2c''s procedures: warns of classes too small for what is asked';

CREATE FUNCTION d2c_report_plan(relation text, label text, scores text, per_class integer, every integer) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	scored bigint := 0;
	total bigint;
	classes bigint;
	smallest bigint;
	picks numeric;
BEGIN
	EXECUTE format('SELECT (SELECT count(*) FROM %1$s), count(*), min(n), sum(least(n, $1)) FROM (SELECT count(*) AS n FROM %1$s WHERE %2$s IS NOT NULL GROUP BY %2$s) c',
		relation, label) INTO total, classes, smallest, picks USING per_class;
	IF to_regclass(scores) IS NOT NULL THEN
		EXECUTE format('SELECT count(*) FROM %s', scores) INTO scored;
	END IF;
	RAISE NOTICE 'd2c_condense would score % rows of % into %: % are scored already', total, relation, scores, scored;
	RAISE NOTICE 'd2c_condense would select % rows, % from each of % classes, every %', coalesce(picks, 0), per_class, classes,
		coalesce(every::text, d2c_interval(greatest(smallest, 1), per_class) || ' in the smallest class');
END $$;
COMMENT ON FUNCTION d2c_report_plan(text, text, text, integer, integer) IS 'support of d2c''s procedures: what a dry run says';

CREATE PROCEDURE d2c_condense(source regclass, target text, model text, per_class integer, every integer DEFAULT NULL,
	text_model text DEFAULT NULL, visual_model text DEFAULT NULL, vae text DEFAULT NULL, prompt text DEFAULT 'a photo of a %s', dry_run boolean DEFAULT false,
	timesteps integer DEFAULT 8, seed bigint DEFAULT 0, tokens integer DEFAULT 16, visual_tokens integer DEFAULT 0,
	image_column text DEFAULT 'image', label_column text DEFAULT 'label', class_column text DEFAULT NULL, id_column text DEFAULT NULL,
	page_rows integer DEFAULT NULL)
	LANGUAGE plpgsql AS $$
DECLARE
	caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
	caller_schema pg_catalog.name := pg_catalog.current_schema();
	path pg_catalog.text;
	atomic boolean;
	columns pg_catalog.record;
	scorer pg_catalog.record;
	parameters pg_catalog.jsonb;
	result pg_catalog.text;
	scores pg_catalog.text;
	candidates pg_catalog.text;
	before bigint;
	done bigint;
	selected bigint;
	failed bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT format('pg_catalog, %I, pg_temp', n.nspname) INTO path
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c';
	PERFORM set_config('search_path', path, true);
	CALL d2c_is_atomic(atomic);
	PERFORM d2c_require_arguments(jsonb_build_object('model', model, 'per_class', per_class, 'timesteps', timesteps, 'seed', seed));
	IF per_class < 1 OR every < 1 THEN
		RAISE EXCEPTION 'per_class and every must be at least 1' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	columns := d2c_source_columns(source, id_column, label_column, class_column, image_column);
	result := d2c_result_name(target, '', caller_schema);
	scores := d2c_result_name(target, '_scores', caller_schema);
	scorer := d2c_model_info(model);
	parameters := jsonb_build_object('source', columns.relation, 'id', columns.id, 'label', columns.label, 'class', columns.class, 'image', columns.image,
		'model', model, 'sha256', scorer.sha256, 'device', scorer.device, 'precision', scorer.precision,
		'timesteps', timesteps, 'seed', seed, 'per_class', per_class, 'every', every)
		|| d2c_vae_parameters(coalesce(nullif(vae, ''), scorer.vae))
		|| d2c_attach_parameters(prompt, text_model, tokens, visual_model, visual_tokens);
	IF dry_run THEN
		PERFORM d2c_result_is_new(result, 'd2c_condense', parameters);
		PERFORM d2c_report_plan(columns.relation, columns.label, scores, per_class, every);
		PERFORM pg_catalog.set_config('search_path', caller_path, true);
		RETURN;
	END IF;
	IF atomic THEN
		RAISE NOTICE 'd2c_condense runs inside a transaction: nothing is committed before it ends';
	END IF;
	IF d2c_result_is_new(result, 'd2c_condense', parameters) THEN
		PERFORM d2c_make_condensed(result, columns.id_type, parameters, 'd2c_condense');
	END IF;

	EXECUTE format('SELECT count(*) FROM %s', result) INTO selected;
	IF selected > 0 AND to_regclass(scores) IS NOT NULL THEN
		EXECUTE format('SELECT count(*) FROM %s', scores) INTO before;
	END IF;
	CALL d2c_score(source, scores, model, timesteps, seed, image_column, label_column, id_column, page_rows, vae => vae);
	PERFORM pg_catalog.set_config('search_path', path, true);
	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
	EXECUTE format('SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM %s)', scores, result) INTO done, selected;
	IF done > before THEN
		RAISE WARNING '% new rows of % are scored, but not part of the selection', done - before, columns.relation
			USING DETAIL = format('The rows of table %s were selected before.', result),
				HINT = format('To select anew, drop table %s and call again: the scores stay.', result);
	ELSIF selected = 0 THEN
		-- Rows that left the source since they were scored have no image to select.
		candidates := format('(SELECT s.* FROM %s s WHERE EXISTS (SELECT FROM %s o WHERE o.%s = s.id)) c', scores, columns.relation, columns.id);
		PERFORM d2c_warn_small_classes(candidates, per_class, every);
		EXECUTE format('INSERT INTO %1$s (id, label, class, image, score, rank, prompt, model, model_sha256, device, precision, build, timesteps, seed)
			SELECT s.id, s.label, o.class, o.image, s.score, (u.place - 1) * p.k, replace($3, ''%%s'', o.class),
				s.model, s.model_sha256, s.device, s.precision, s.build, s.timesteps, s.seed
			FROM (SELECT q.label, q.k, d2c_select(c.id, c.score, q.k, $1) AS ids
				FROM d2c_interval_plan(%7$L, $1, $2) q JOIN %7$s ON c.label = q.label GROUP BY q.label, q.k) p,
				unnest(p.ids) WITH ORDINALITY u (id, place)
				JOIN %2$s s ON s.id = u.id
				JOIN (SELECT %3$s AS id, %4$s AS class, %5$s AS image FROM %6$s) o ON o.id = u.id',
			result, scores, columns.id, columns.class, columns.image, columns.relation, candidates) USING per_class, every, prompt;
		GET DIAGNOSTICS selected = ROW_COUNT;
		IF done = 0 THEN
			RAISE EXCEPTION 'table % has no rows', columns.relation USING ERRCODE = 'no_data_found';
		ELSIF selected = 0 THEN
			EXECUTE format('SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL', scores) INTO failed;
			RAISE EXCEPTION 'no row of % was scored', columns.relation
				USING ERRCODE = 'no_data_found', DETAIL = format('%s rows failed.', failed), HINT = format('Their errors are in table %s.', scores);
		END IF;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
	END IF;

	CALL d2c_attach_all(result, text_model, tokens, visual_model, visual_tokens);
	PERFORM pg_catalog.set_config('search_path', path, true);
	EXECUTE format('SELECT (SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL) + (SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL)', scores, result) INTO failed;
	RAISE NOTICE '% rows selected into %, % rows failed%', selected, result, failed,
		CASE WHEN failed > 0 THEN format(': see column error there and in %s', scores) ELSE '' END;
	IF NOT atomic THEN
		COMMIT;
	END IF;
	PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $$;
COMMENT ON PROCEDURE d2c_condense(regclass, text, text, integer, integer, text, text, text, text, boolean, integer, bigint, integer, integer, text, text, text, text, integer) IS
	'condenses a table of images (D2C, arXiv 2507.05914): scores every row into target_scores, selects per_class rows of each class at every k-th rank into target, attaches text and visual embeddings; commits page by page and goes on when called again; a bad row has its error in the result; every defaults to d2c_interval() of each class, vae to the model''s own autoencoder where it takes latents';

-- ---- engine and difficulty -----------------------------------------------------------------------------------------

CREATE FUNCTION d2c_engine_status(OUT name text, OUT value text) RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 17;
COMMENT ON FUNCTION d2c_engine_status() IS
	'state of the d2c engine: running, device, precision, build; with the rights of pg_monitor also what computes, why not a GPU, its process, queue, memory and settings. Does not start it';

CREATE FUNCTION d2c_engine_stop() RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION d2c_engine_stop() IS
	'stops the d2c engine at once; queries that wait for it fail, the next call starts it again. False: none ran';
REVOKE EXECUTE ON FUNCTION d2c_engine_stop() FROM PUBLIC;

CREATE FUNCTION d2c_models(OUT name text, OUT kind text, OUT parameters bigint, OUT resolution text, OUT channels integer,
	OUT classes integer, OUT embedding integer, OUT sha256 text, OUT loaded boolean, OUT device text, OUT "precision" text,
	OUT problem text) RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION d2c_models() IS
	'the models in d2c.model_directory; embedding is the width of what a model embeds to, device and precision are those that compute a loaded one, problem says why one cannot be used';

CREATE FUNCTION d2c_difficulty(image bytea, label bigint, model text, timesteps integer DEFAULT 8, seed bigint DEFAULT 0,
	vae text DEFAULT '') RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty(bytea, bigint, text, integer, bigint, text) IS
	'diffusion difficulty: mean squared error of the predicted noise over the timesteps (1 to 1000) and all elements; higher is harder. PNG, JPEG or WebP, cropped and resized as ADM does, for a latent model to its posterior mean by autoencoder vae (the model''s own by default), scaled; noise depends on seed and timestep alone. Huang et al., arXiv 2507.05914. Not for indexes, generated columns or CHECK';

CREATE FUNCTION d2c_difficulty_latent(latent tensor, label bigint, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0) RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_latent(tensor, bigint, text, integer, bigint) IS
	'd2c_difficulty of what the model takes itself: a tensor [channels, height, width], for a latent model the posterior mean times its scale';

CREATE FUNCTION d2c_difficulty_prompt(image bytea, prompt text, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, label bigint DEFAULT 0, vae text DEFAULT '', text_model text DEFAULT '') RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_prompt(bytea, text, text, integer, bigint, bigint, text, text) IS
	'd2c_difficulty of an image with a prompt, by a SiT that was trained with text embeddings (DC-Embedding): the prompt is embedded by text_model (what the model''s description names by default) in as many tokens as the model takes; label is the class beside it, 0 where there are captions alone. Huang et al., arXiv 2507.05914, text-to-image';

CREATE FUNCTION d2c_difficulty_prompt_batched(image bytea, prompt text, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, label bigint DEFAULT 0, vae text DEFAULT '', text_model text DEFAULT '') RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_prompt_batched(bytea, text, text, integer, bigint, bigint, text, text) IS
	'd2c_difficulty_prompt as a window function that looks ahead a batch: the same values, faster. Use OVER ()';

CREATE FUNCTION d2c_difficulty_curve(image bytea, label bigint, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, vae text DEFAULT '') RETURNS double precision[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_curve(bytea, bigint, text, integer, bigint, text) IS
	'the errors at each of the timesteps, from noise to data (DiT: from data to noise), whose mean is d2c_difficulty';

CREATE FUNCTION d2c_difficulty_batched(image bytea, label bigint, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, vae text DEFAULT '') RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_batched(bytea, bigint, text, integer, bigint, text) IS
	'd2c_difficulty as a window function that looks ahead a batch: the same values, faster. Use OVER (); memory is bounded by d2c.batch_memory; NULL for a row with a NULL';

CREATE TYPE d2c_checked_score AS (score double precision, sqlstate text, error text);
COMMENT ON TYPE d2c_checked_score IS 'a score, or the SQLSTATE and the message of why there is none';

CREATE FUNCTION d2c_difficulty_checked(image bytea, label bigint, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, vae text DEFAULT '') RETURNS d2c_checked_score
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_checked(bytea, bigint, text, integer, bigint, text) IS
	'd2c_difficulty_batched that answers a bad row (damaged image, label out of range) with sqlstate and error in place of a score; errors of the model, the engine or memory end the query';

CREATE FUNCTION d2c_denoise(x tensor, t double precision, label bigint, model text) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200000;
COMMENT ON FUNCTION d2c_denoise(tensor, double precision, bigint, text) IS
	'raw output, f32, of a diffusion model at x [channels, height, width], time t and class label, -1 for none. SiT: the velocity, t from 0 (noise) to 1 (data); REPA: the velocity, t from 0 (data) to 1 (noise); DiT: the noise and behind it, with as many channels, the range of its variance, t from 0 (data) to 999 (noise)';
