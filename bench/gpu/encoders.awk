# encoders.awk: the lines of bench/gpu/encoders and of its peer as a Markdown table.  Fails where results' lengths differ
# by more than two roundings to bf16 can explain.
BEGIN { FS = "\t" }
$1 == "ours" { order[++count] = $2; streams = $3; rate[$2] = $4; length_of[$2] = $5 }
$1 == "torch" { torch = $2 }
$1 == "encoder" && !($2 in alone) { alone[$2] = $4; theirs[$2] = $5 }
$1 == "encoder" { if ($4 + 0 > best[$2] + 0) { best[$2] = $4; batch[$2] = $3 } }
/^not / || /[Ee]rror/ || /^bench: / { said[++notes] = $0 }

function of(value, format) { return value == "" ? "-" : sprintf(format, value) }
function over(a, b) { return a == "" || b == "" ? "-" : sprintf("%.2f", a / b) }

END {
    print "Results a second, bf16, the public sizes with random weights: ours one row at a time on " streams " streams, from host memory and back; PyTorch " (torch == "" ? "was not measured" : torch) " compiled, inputs and results on the device.\n"
    print "| what | ours | PyTorch, batch 1 | its best | at batch | ours over batch 1 | over its best | results' lengths differ by |"
    print "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for (i = 1; i <= count; i++) {
        n = order[i]
        differ = theirs[n] + 0 > 0 ? length_of[n] / theirs[n] - 1 : ""
        apart += differ != "" && (differ > 0.02 || differ < -0.02)
        printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", n, rate[n], of(alone[n], "%s"), of(best[n], "%s"), of(batch[n], "%s"),
            over(rate[n], alone[n]), over(rate[n], best[n]), differ == "" ? "-" : sprintf("%.1e", differ < 0 ? -differ : differ)
    }
    for (i = 1; i <= notes; i++)
        print "\n" said[i]
    if (apart > 0)
        print "\nnot ok: " apart " of the results are other ones than PyTorch's"
    exit apart > 0
}
