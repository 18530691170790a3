# encoders.awk: the lines of bench/gpu/encoders and of its peer, in this order, as a Markdown table.  Fails where the
# length of a result differs from ours by more than roundings to bf16 can explain, whichever way the peer computed it.
BEGIN { FS = "\t" }
$1 == "ours" { order[++count] = $2; streams = $3; rate[$2] = $4; length_of[$2] = $5 }
$1 == "torch" { torch = $2 }
$1 == "encoder" {
    if ($4 == 1 && $5 + 0 > alone[$2] + 0) { alone[$2] = $5; how[$2] = $3 }
    if ($5 + 0 > best[$2] + 0) { best[$2] = $5; batch[$2] = $4 ", " $3 }
    if ($6 + 0 > 0 && length_of[$2] + 0 > 0) {
        d = length_of[$2] / $6 - 1
        d = d < 0 ? -d : d
        if (differ[$2] == "" || d > differ[$2]) differ[$2] = d
    } else
        differ[$2] = 1
}
# What failed tells its detail in a line of its own.
told && NF == 1 && !/^(not|bench:) / { said[notes] = said[notes] " (" $0 ")" }
{ told = /^bench: / }
/^not / || /[Ee]rror/ || /^bench: / { said[++notes] = $0 }

function of(value, format) { return value == "" ? "-" : sprintf(format, value) }
function over(a, b) { return a == "" || b == "" ? "-" : sprintf("%.2f", a / b) }

END {
    print "Results a second, bf16, the public sizes with random weights: ours one row at a time on " streams " streams, from host memory and back; PyTorch " (torch == "" ? "was not measured" : torch) " with weights in bf16, eager or compiled, whichever is quicker, inputs and results on the device.\n"
    print "| what | ours | PyTorch, batch 1 | its best | at batch | ours over batch 1 | over its best | results' lengths differ by |"
    print "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for (i = 1; i <= count; i++) {
        n = order[i]
        apart += differ[n] + 0 > 0.02
        printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", n, rate[n], of(alone[n], "%s (" how[n] ")"), of(best[n], "%s"), of(batch[n], "%s"),
            over(rate[n], alone[n]), over(rate[n], best[n]), of(differ[n], "%.1e")
    }
    for (i = 1; i <= notes; i++)
        print "\n" said[i]
    if (apart > 0)
        print "\nnot ok: " apart " of the results are other ones than PyTorch's"
    exit apart > 0
}
