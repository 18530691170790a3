-- against avg() and covar_samp()
CREATE TABLE features AS SELECT i AS id, ARRAY[i % 7, (i * i) % 11, sin(i)]::real[] AS feature FROM generate_series(1, 500) i;
CREATE TABLE moments AS SELECT d2c_moments(feature) AS m FROM features;
SELECT d2c_moments_count(m), abs((d2c_moments_mean(m))[1] - mean_1) < 1e-12 AS mean_1, abs((d2c_moments_mean(m))[3] - mean_3) < 1e-12 AS mean_3,
	abs((d2c_moments_covariance(m))[1][1] - variance) < 1e-12 AS variance, abs((d2c_moments_covariance(m))[2][3] - covariance) < 1e-12 AS covariance,
	(d2c_moments_covariance(m))[2][3] = (d2c_moments_covariance(m))[3][2] AS symmetric
FROM moments, (SELECT avg(feature[1]::float8) AS mean_1, avg(feature[3]::float8) AS mean_3, var_samp(feature[1]::float8) AS variance,
	covar_samp(feature[2]::float8, feature[3]::float8) AS covariance FROM features) f;

-- tensors of every type count as their values; NULLs do not count
SELECT d2c_moments(f) FROM (VALUES ('f16:[1,2]'::tensor), ('u8:[3,6]'), (NULL)) v (f);
SELECT d2c_moments(f) FROM (VALUES ('{1,2}'::real[]), (NULL)) v (f);
SELECT d2c_moments(f) FROM (VALUES (NULL::tensor)) v (f);
SELECT d2c_moments(f) FROM (VALUES ('[1,2]'::tensor), ('[1]')) v (f);
SELECT d2c_moments(f) FROM (VALUES ('[[1,2]]'::tensor)) v (f);
SELECT d2c_moments(f) FROM (VALUES ('{}'::real[])) v (f);
SELECT d2c_moments(f) FROM (VALUES ('{1,NULL}'::real[])) v (f);
SELECT d2c_moments(f) FROM (VALUES ('[1,NaN]'::tensor)) v (f);
SELECT d2c_moments(f) FROM (VALUES ('{1,-Infinity}'::real[])) v (f);
SELECT d2c_moments(array_fill(0::real, ARRAY[8001]));

-- merged moments are those of all vectors
SELECT d2c_moments_count(merged) AS n, (SELECT max(abs(a - b)) < 1e-10 FROM unnest(d2c_moments_covariance(merged), d2c_moments_covariance(m)) u (a, b)) AS covariance
FROM moments, (SELECT d2c_moments_merge(part) AS merged FROM (SELECT d2c_moments(feature) AS part FROM features GROUP BY id % 13) p) q;
SELECT d2c_moments_merge(m) FROM (VALUES ('{"n":1,"mean":[1],"comoment":[0]}'::d2c_moments), (NULL), ('{"n":1,"mean":[3],"comoment":[0]}')) v (m);
SELECT d2c_moments_merge(m) FROM (VALUES ('{"n":0,"mean":[0],"comoment":[0]}'::d2c_moments), ('{"n":0,"mean":[0],"comoment":[0]}')) v (m);
SELECT d2c_moments_merge(m) FROM (VALUES ('{"n":1,"mean":[1],"comoment":[0]}'::d2c_moments), ('{"n":1,"mean":[3,1],"comoment":[0,0,0]}')) v (m);
SELECT d2c_moments_merge(m) FROM (VALUES ('{"n":9223372036854775807,"mean":[1],"comoment":[0]}'::d2c_moments), ('{"n":1,"mean":[3],"comoment":[0]}')) v (m);

-- both forms are lossless
SELECT m::text::d2c_moments::text = m::text AS text_form, length(d2c_moments_send(m)) FROM moments;
SELECT ' { "n" : 2 , "mean" : [ 1 ], "comoment": [ 0.1 ] } '::d2c_moments;
SELECT ''::d2c_moments;
SELECT '{"n": -1, "mean": [1], "comoment": [1]}'::d2c_moments;
SELECT '{"n": 1, "mean": [], "comoment": []}'::d2c_moments;
SELECT '{"n": 1, "mean": [1,2], "comoment": [1,2]}'::d2c_moments;
SELECT '{"n": 0, "mean": [5], "comoment": [0]}'::d2c_moments;
SELECT '{"n": 1, "mean": [5], "comoment": [3]}'::d2c_moments;
SELECT '{"n": 2, "mean": [5,0], "comoment": [3,0,-1]}'::d2c_moments;
SELECT '{"n": 1, "mean": [NaN], "comoment": [1]}'::d2c_moments;
SELECT '{"n": 1, "mean": [1e999], "comoment": [1]}'::d2c_moments;
SELECT '{"n": 1, "mean": [1], "comoment": [1]} x'::d2c_moments;
SELECT '{"n": 1, "mean": [1], "comoment": [1]'::d2c_moments;

SELECT d2c_moments_covariance('{"n": 1, "mean": [1], "comoment": [0]}');
SELECT d2c_moments_combine('{"n": 1, "mean": [1], "comoment": [0]}', '{"n": 1, "mean": [1], "comoment": [0]}');
SELECT d2c_frechet('{"n": 1, "mean": [1], "comoment": [0]}', '{"n": 2, "mean": [1], "comoment": [0]}');
SELECT d2c_frechet('{"n": 2, "mean": [1], "comoment": [0]}', '{"n": 2, "mean": [1,2], "comoment": [0,0,0]}');
SELECT d2c_frechet(NULL, '{"n": 2, "mean": [1,2], "comoment": [0,0,0]}');

DROP TABLE features, moments;

-- sums that leave the range of numbers are an error: their text form could not be read back
SELECT d2c_moments_merge(m) FROM (VALUES ('{"n": 5, "mean": [1e308], "comoment": [0]}'::d2c_moments), ('{"n": 5, "mean": [-1e308], "comoment": [0]}')) v (m);
SELECT d2c_moments_merge(m) FROM (VALUES ('{"n": 9223372036854775807, "mean": [1], "comoment": [0]}'::d2c_moments), ('{"n": 1, "mean": [1], "comoment": [0]}')) v (m);
