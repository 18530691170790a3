-- order.sql: an order of tensors, for count(DISTINCT ...), ORDER BY and merges.

CREATE FUNCTION d2c_tensor_cmp(tensor, tensor) RETURNS integer
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_cmp(tensor, tensor) IS 'less-equal-greater by the bytes of two tensors';

CREATE FUNCTION d2c_tensor_lt(tensor, tensor) RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_lt(tensor, tensor) IS 'implementation of < operator';

CREATE FUNCTION d2c_tensor_le(tensor, tensor) RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_le(tensor, tensor) IS 'implementation of <= operator';

CREATE FUNCTION d2c_tensor_gt(tensor, tensor) RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_gt(tensor, tensor) IS 'implementation of > operator';

CREATE FUNCTION d2c_tensor_ge(tensor, tensor) RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_tensor_ge(tensor, tensor) IS 'implementation of >= operator';

CREATE OPERATOR < (
	LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = d2c_tensor_lt,
	COMMUTATOR = >, NEGATOR = >=, RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR < (tensor, tensor) IS 'less by its bytes; the order means nothing but that equal tensors stand together';

CREATE OPERATOR <= (
	LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = d2c_tensor_le,
	COMMUTATOR = >=, NEGATOR = >, RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR <= (tensor, tensor) IS 'less by its bytes, or equal';

CREATE OPERATOR > (
	LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = d2c_tensor_gt,
	COMMUTATOR = <, NEGATOR = <=, RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR > (tensor, tensor) IS 'greater by its bytes';

CREATE OPERATOR >= (
	LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = d2c_tensor_ge,
	COMMUTATOR = <=, NEGATOR = <, RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR >= (tensor, tensor) IS 'greater by its bytes, or equal';

CREATE OPERATOR CLASS d2c_tensor_ops DEFAULT FOR TYPE tensor USING btree AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	FUNCTION 1 d2c_tensor_cmp(tensor, tensor);
COMMENT ON OPERATOR CLASS d2c_tensor_ops USING btree IS 'order of bytes';
COMMENT ON OPERATOR FAMILY d2c_tensor_ops USING btree IS 'order of bytes';
