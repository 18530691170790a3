# digest.sh: what a bundle was made from; sourced by scripts that run in the tree's root.
#
# The digest of every source that the bundle's programs are compiled from: a bundle of other sources is not used.
source_digest() {
    local LC_ALL=C
    cat src/*/*.[ch] kernels/* test/unit/op_*.h test/unit/test_ops.c test/unit/check.h bench/bench.h bench/gpu/*.[ch] \
        sql/d2c/*.sql | sha256sum | cut -c1-16
}
