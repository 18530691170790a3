# cluster.sh: a private PostgreSQL cluster for tests and benchmarks; sourced by scripts that run in the tree's root.
#
# PostgreSQL does not run as root: started by root, the server and its clients run as the user nobody.  The scratch
# folder lies outside the tree, which that user may not be able to read.
pg_config=${PG_CONFIG:-pg_config}
bindir=$($pg_config --bindir)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/d2c-scratch.XXXXXX")
as_user=()
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$scratch"
    as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups env -C "$scratch" HOME="$scratch")
fi

# start_cluster [NAME=VALUE]...: initdb and start, with the settings; the socket lies in $scratch.
start_cluster() {
    local setting
    "${as_user[@]}" "$bindir/initdb" -D "$scratch/data" -U postgres -A trust -E UTF8 --locale=C >"$scratch/initdb.log" 2>&1 || {
        cat "$scratch/initdb.log"
        return 1
    }
    for setting in "listen_addresses=''" "unix_socket_directories='$scratch'" "$@"; do
        echo "${setting%%=*} = ${setting#*=}" | "${as_user[@]}" tee -a "$scratch/data/postgresql.conf" >/dev/null
    done
    "${as_user[@]}" "$bindir/pg_ctl" -D "$scratch/data" -l "$scratch/server.log" -w start >/dev/null || {
        cat "$scratch/server.log"
        return 1
    }
}

remove_cluster() {
    [ ! -d "$scratch/data" ] || "${as_user[@]}" "$bindir/pg_ctl" -D "$scratch/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$scratch"
}
