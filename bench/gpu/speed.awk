# speed.awk: the lines of bench/gpu/speed, a process a size in whatever order, and of its peer as Markdown tables, in the
# order of the sizes.
BEGIN { FS = "\t"; sizes = split("S/2 B/2 L/2 XL/2", order, " ") }
$1 == "train" { seen[$2] = 1; rate[$2] = $3; ms[$2] = $4; micro[$2] = $5; flops[$2] = $6; share[$2] = $7 }
$1 == "score" { seen[$2] = 1; scored[$2] = $3; streams = $4; forward[$2] = $5 }
$1 == "sample" { seen[$2] = 1; sampled[$2] = $3; steps = $4 }
$1 == "torch" { torch = $2 }
$1 == "products" { seen[$2] = 1; products[$2] = $3 }
$1 == "peer" { seen[$2] = 1; peer[$2, $3] = $4; peer_micro[$2, $3] = $5 }
$1 == "forward" { seen[$2] = 1; peer_forward[$2] = $4; mode[$2] = $3 }
$1 == "sampled" { seen[$2] = 1; peer_sampled[$2] = $4 }
# What failed tells its detail in a line of its own.
told && NF == 1 && !/^(not|bench:) / { said[notes] = said[notes] " (" $0 ")" }
{ told = /^bench: / }
/^not / || /^no peer/ || /[Ee]rror/ || /^bench: / { said[++notes] = $0 }

function of(value, format) { return value == "" ? "-" : sprintf(format, value) }
function over(a, b) { return a == "" || b == "" ? "-" : sprintf("%.2f", a / b) }

END {
    who = "PyTorch " (torch == "" ? "was not measured" : torch)
    print "Training, batch 256 of 32x32x4 latents, with the projector; MFU over 989 TFLOP/s. Both sides train in bf16 with master weights, moments and EMA in f32. Ours uploads its latents and features from the host in every step, as d2c train does; PyTorch's lie on the device. " who ": autocast, fused AdamW, scaled_dot_product_attention, blocks compiled or all eager.\n"
    print "| size | images/s | ms a step | micro-batch | MFU | PyTorch eager | compiled | its micro-batches | ours over the better one | bare products, ms | of the step |"
    print "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for (i = 1; i <= sizes; i++) {
        s = order[i]
        if (!(s in seen))
            continue
        best = peer[s, "eager"] > peer[s, "compiled"] + 0 ? peer[s, "eager"] : peer[s, "compiled"]
        printf "| SiT-%s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", s, of(rate[s], "%s"), of(ms[s], "%s"), of(micro[s], "%s"),
            share[s] == "" ? "-" : sprintf("%.1f %%", 100 * share[s]), of(peer[s, "eager"], "%s"), of(peer[s, "compiled"], "%s"),
            of(peer_micro[s, "eager"], "%s") ", " of(peer_micro[s, "compiled"], "%s"), over(rate[s], best), of(products[s], "%s"),
            over(products[s], ms[s])
    }
    print "\nScoring at T = 8 in bf16 on " of(streams, "%s") " streams, images from host memory; the forward pass alone in batches of 256 rows, 8 an image; sampling by Euler in " of(steps, "%s") " steps, 64 images at a time, to host memory. " who ": weights in bf16 without autocast, no CUDA graphs, one way a size.\n"
    print "| size | images/s scored | forward pass alone, images/s | scored over it | PyTorch's forward pass | ours over it | scored over PyTorch's forward pass | images/s sampled | PyTorch | ours over it |"
    print "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for (i = 1; i <= sizes; i++) {
        s = order[i]
        if (!(s in seen))
            continue
        printf "| SiT-%s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", s, of(scored[s], "%s"), of(forward[s], "%s"), over(scored[s], forward[s]),
            of(peer_forward[s], "%s (" mode[s] ")"), over(forward[s], peer_forward[s]), over(scored[s], peer_forward[s]), of(sampled[s], "%s"),
            of(peer_sampled[s], "%s"), over(sampled[s], peer_sampled[s])
    }
    for (i = 1; i <= notes; i++)
        print "\n" said[i]
}
