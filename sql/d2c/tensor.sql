-- tensor.sql: the type tensor, its casts and functions.

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
