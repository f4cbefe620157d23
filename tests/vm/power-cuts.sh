# shellcheck shell=dash
# Runs in the emulated machine, in busybox's shell, from one power cut to the next: starts the agent on what the last cut
# left, then installs, upgrades, damages and uninstalls, until the power fails again. It judges nothing: it lists the
# files, and power_cuts.py judges the lists.
#
# The kernel's command line has `fs`, `seed` and `rounds`. The releases are /seed/a.tgz and /seed/b.tgz; their
# plugins are in /seed/a and /seed/b.
#
# The second disk keeps one note of what is being done, which is durable before it is begun: a word, the release that is
# declared, and what the word needs.

# shellcheck source=tests/vm/lib.sh
. ./lib.sh
# The smallest ones of the reference plugins: the machine is slow.
plugins='loopback tuning'

# Nothing but what the program makes durable may reach the disk early: ext4 does not force the content of a file to the
# disk because it is renamed, but all journals are written often.
# shellcheck disable=SC2154 # `fs` is of the kernel's command line
case $fs in
  ext4) options=noauto_da_alloc,commit=1 ;;
  btrfs) options=commit=1 ;;
  xfs) options=defaults ;;
esac

stop() {
  echo "power-cuts: $*"
  [ ! -s agent.log ] || cat agent.log
  # What file systems and disks say.
  dmesg | grep -E '^[^]]*\] (BTRFS|EXT4|XFS|JBD2|blk_|I/O)' | tail -n 20
  poweroff -f
}

note() {
  printf '%-512s' "$*" | dd of=/dev/vdb conv=fsync,notrunc 2>/dev/null || stop 'no note could be made'
  set -- "$@" ''
  word=$1 release=$2
}

# list MOMENT: prints all files of the node.
list() {
  echo "list $1"
  find /opt/cni /etc/cni ! -type d | while read -r path; do
    echo "file $(stat -c '%a %u %g' "$path") $(sha256sum <"$path" | cut -d ' ' -f 1) $path"
  done
  [ ! -e "$conflist" ] || echo "conflist $(tr -d '\n' <"$conflist")"
  echo 'end'
}

# choose NAME...: sets `chosen` to one of them.
choose() {
  # Any generator will do: the Lehmer generator of Park and Miller.
  seed=$((seed * 48271 % 2147483647))
  shift $((seed % $#))
  chosen=$1
}

# declare_release NAME: gives the agent a configuration with that release.
declare_release() {
  cat >next.yaml <<YAML
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
http: {listen: "127.0.0.1:9742"}
artifacts:
  - name: cni-plugins
    version: $1
    sources: ["file:///seed/$1.tgz"]
    sha256: {amd64: $(sha256sum <"/seed/$1.tgz" | cut -d ' ' -f 1)}
    plugins: [loopback, tuning]
network:
  fileName: ${conflist##*/}
  conflist: {cniVersion: "1.0.0", name: network-$1, plugins: [{type: loopback}, {type: tuning}]}
YAML
  mv next.yaml config.yaml
}

is_installed() {
  for plugin in $plugins; do
    cmp -s "/seed/$1/$plugin" "/opt/cni/bin/$plugin" || return 1
  done
  grep -qF "network-$1" "$conflist"
}

# Whether the agent has made its copies. Each has its digest as its name.
has_copies() {
  for dir in store spare; do
    [ "$(find "$state/$dir" -type f | wc -l)" = 2 ] || return 1
  done
  for copy in "$state"/store/* "$state"/spare/*; do
    [ "$(sha256sum <"$copy" | cut -d ' ' -f 1)" = "${copy##*/}" ] || return 1
  done
}

# must COMMAND...: runs a command, and stops the machine if it fails.
must() { "$@" >output 2>&1 || { cat output; stop "this failed: $*"; } }

await() { within 300 "$@" || stop "this did not come true: $*"; }

# Whether the agent says that all is as declared, and it is.
is_ready() {
  printf 'GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n' | nc 127.0.0.1 9742 2>/dev/null | grep -q '^HTTP/1.* 200' &&
    is_installed "$release"
}

run_agent() {
  cni-keeper run >agent.log 2>&1 &
  agent=$!
  await is_ready
}

upgrade() {
  before=$release
  case $release in a) release=b ;; b) release=a ;; esac
  choose running stopped
  [ "$chosen" = running ] || must stop_agent
  note upgrading "$release" "$before"
  declare_release "$release"
  if [ "$chosen" = running ]; then
    await is_ready
    note installed "$release"
  else
    must cni-keeper install
    note installed "$release"
    run_agent
  fi
}

damage() {
  # shellcheck disable=SC2086 # each is a name
  choose $plugins conflist
  name=$chosen path=/opt/cni/bin/$chosen
  [ "$name" != conflist ] || path=$conflist
  choose deleted overwritten truncated
  note damaging "$release" "$name" "$chosen"
  case $chosen in
    deleted) rm "$path" ;;
    overwritten) printf 'damage' | dd of="$path" bs=1 seek=100 conv=notrunc 2>/dev/null ;;
    truncated) : >"$path" ;;
  esac
  await is_ready
  note installed "$release"
}

remove() {
  note removing "$release"
  must cni-keeper uninstall
  note removed "$release"
}

install_again() {
  must stop_agent
  remove
  choose keep lose
  [ "$chosen" = keep ] || rm -r "$state"
  choose a b
  release=$chosen
  declare_release "$release"
  choose command agent
  note installing "$release"
  [ "$chosen" = agent ] || must cni-keeper install
  [ "$chosen" = agent ] || note installed "$release"
  run_agent
  note installed "$release"
}

modprobe -a virtio_pci virtio_blk
[ "$fs" = ext4 ] || modprobe "$fs"
within 100 test -b /dev/vda -a -b /dev/vdb || stop 'there are no disks'
mkdir -p /disk /opt /etc/cni
mount -t "$fs" -o "$options" /dev/vda /disk || stop 'the file system cannot be mounted'
mkdir -p /disk/opt /disk/etc
mount --bind /disk/opt /opt
mount --bind /disk/etc /etc/cni
state=/opt/cni/.cni-keeper

read -r word release _ </dev/vdb
list found
if [ "$word" = none ]; then
  # The directories of the node itself are not the program's.
  mkdir -p /opt/cni/bin /etc/cni/net.d
  sync
fi
# The agent installs what is declared.
case $word in none | removing | removed) note installing "$release" ;; esac
declare_release "$release"
run_agent
# If it does not come true, the list shows why.
within 100 has_copies
note installed "$release"
list started
note working "$release"
while [ "$rounds" -gt 0 ]; do
  rounds=$((rounds - 1))
  choose upgrade damage upgrade damage install_again
  "$chosen"
done
must stop_agent
remove
list removed
umount /opt /etc/cni /disk
echo 'power-cuts: done'
