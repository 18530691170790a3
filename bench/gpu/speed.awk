# speed.awk: the lines of bench/gpu/speed and of its peer as Markdown tables.
BEGIN { FS = "\t" }
$1 == "train" { order[++sizes] = $2; rate[$2] = $3; ms[$2] = $4; micro[$2] = $5; flops[$2] = $6; share[$2] = $7 }
$1 == "score" { scored[$2] = $3; streams = $4; forward[$2] = $5 }
$1 == "sample" { sampled[$2] = $3; steps = $4 }
$1 == "torch" { torch = $2 }
$1 == "products" { products[$2] = $3 }
$1 == "peer" { peer[$2, $3] = $4; peer_micro[$2, $3] = $5 }
/^not / || /^no peer/ || /[Ee]rror/ || /^speed: / { said[++notes] = $0 }

function of(value, format) { return value == "" ? "-" : sprintf(format, value) }
function over(a, b) { return a == "" || b == "" ? "-" : sprintf("%.2f", a / b) }

END {
    print "Training, bf16, batch 256 of 32x32x4 latents, with the projector; MFU over 989 TFLOP/s. PyTorch " (torch == "" ? "was not measured" : torch) ": bf16 autocast, fused AdamW, scaled_dot_product_attention, blocks compiled.\n"
    print "| size | images/s | ms a step | micro-batch | MFU | PyTorch eager | compiled | ours over the better one | bare products, ms | of the step |"
    print "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for (i = 1; i <= sizes; i++) {
        s = order[i]
        best = peer[s, "eager"] > peer[s, "compiled"] + 0 ? peer[s, "eager"] : peer[s, "compiled"]
        printf "| SiT-%s | %s | %s | %s | %.1f %% | %s | %s | %s | %s | %s |\n", s, rate[s], ms[s], micro[s], 100 * share[s],
            of(peer[s, "eager"], "%s"), of(peer[s, "compiled"], "%s"), over(rate[s], best), of(products[s], "%s"), over(products[s], ms[s])
    }
    print "\nScoring at T = 8 in bf16 on " streams " streams; sampling by Euler in " steps " steps, 64 images at a time.\n"
    print "| size | images/s scored | forward pass alone, images/s | ratio | images/s sampled |"
    print "| --- | --- | --- | --- | --- |"
    for (i = 1; i <= sizes; i++) {
        s = order[i]
        printf "| SiT-%s | %s | %s | %s | %s |\n", s, of(scored[s], "%s"), of(forward[s], "%s"), over(scored[s], forward[s]), of(sampled[s], "%s")
    }
    for (i = 1; i <= notes; i++)
        print "\n" said[i]
}
