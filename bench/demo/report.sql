-- The demo's one table, from the results of all runs of a scale; psql -v scale=default -f report.sql
\set QUIET on
\pset footer off
\pset null '-'
\echo
\echo Distances: Frechet in PCA-64 of the training pixels, samples against as many test images; lower is better.
\echo Nearest: median distance (RMS over pixels, 0 to 1) of a sample to its nearest training image.
CREATE TEMP VIEW report AS
SELECT run,
       max(images) AS images,
       max(steps) AS steps,
       round(avg(seconds)) AS "train s",
       max(n) AS n,
       round(avg(frechet)::numeric, 2) AS "Frechet",
       round((4.303 * stddev_samp(frechet) / sqrt(count(*)))::numeric, 2) AS "+- 95 %",
       round(avg(frechet_classifier)::numeric, 2) AS "classifier",
       round(avg(nearest)::numeric, 4) AS nearest
FROM results
WHERE scale = :'scale'
GROUP BY run
ORDER BY run LIKE 'real%', array_position(ARRAY['random', 'selected', 'attached', 'full'], run), run;

SELECT :'scale' = 'full' AS is_full \gset
\if :is_full
TABLE report;
\echo Every ordering: difference of the distances over the seeds, with its 95 % interval (Student, two degrees of freedom).
SELECT a.run AS "run", b.run AS "minus", round(avg(a.frechet - b.frechet)::numeric, 2) AS "difference",
       round((avg(a.frechet - b.frechet) - 4.303 * stddev_samp(a.frechet - b.frechet) / sqrt(count(*)))::numeric, 2) AS "from",
       round((avg(a.frechet - b.frechet) + 4.303 * stddev_samp(a.frechet - b.frechet) / sqrt(count(*)))::numeric, 2) AS "to",
       CASE WHEN abs(avg(a.frechet - b.frechet)) <= 4.303 * stddev_samp(a.frechet - b.frechet) / sqrt(count(*))
            THEN 'not told apart' WHEN avg(a.frechet - b.frechet) < 0 THEN a.run || ' is better'
            ELSE b.run || ' is better' END AS "reading"
FROM results a
JOIN results b ON a.scale = b.scale AND a.seed = b.seed AND a.run < b.run
WHERE a.scale = :'scale' AND a.steps > 0 AND b.steps > 0
GROUP BY a.run, b.run
ORDER BY 1, 2;
\else
SELECT run, images, steps, "train s", n, "Frechet", nearest FROM report;
\echo This run is too short to rank the subsets, whichever way it came out: one seed, a minute or two of training each, and
\echo a small model; another seed can turn the order round.  make demo SCALE=full trains longer, over three seeds, and
\echo prints every ordering with its interval.
\endif
