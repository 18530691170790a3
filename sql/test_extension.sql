-- every member of the extension has a comment
SELECT pg_describe_object(classid, objid, objsubid) AS without_comment FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'd2c') AND deptype = 'e'
	AND obj_description(objid, classid::regclass::name) IS NULL ORDER BY 1;

-- and its functions are marked for parallel queries; what commits, locks or talks to the user is not
SELECT proname, provolatile, proparallel FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'd2c'
WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') AND (provolatile, proparallel) <> ('i', 's') ORDER BY 1;
