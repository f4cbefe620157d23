# shellcheck shell=dash
# Runs in the emulated machine, in busybox's shell: installs, damages, heals and uninstalls, once each. Debian's own
# builds of the plugins for this machine's architecture and for another one are in /seed.
#
# Each line that begins with `check` prints "check ok: NAME", or "check failed: NAME" and ends the test. scripts/vm
# demands the first of each.

conflist=/etc/cni/net.d/10-cni-keeper.conflist
plugins='bridge host-local loopback portmap'
export CNI_KEEPER_LOG_LEVEL=warn CNI_KEEPER_CONFIG=config.yaml

# check NAME FUNCTION
check() {
  if "$2"; then
    echo "check ok: $1"
  else
    echo "check failed: $1"
    exit 1
  fi
}

# keeper EXIT ARGUMENT...: runs cni-keeper, shows what it prints, keeps that in `output`, and compares its exit code.
keeper() {
  expected=$1
  shift
  cni-keeper "$@" >output 2>&1
  status=$?
  echo "\$ cni-keeper $*"
  cat output
  echo "(exit $status)"
  [ "$status" = "$expected" ]
}

# says TEXT: whether it printed that.
says() { grep -qF -e "$1" output; }

# within TRIES COMMAND...: tries ten times a second until the command succeeds.
within() {
  tries=$1
  shift
  until "$@"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 0.1
  done
}

# declare_node FILE ARCHIVE: writes a configuration with that archive, by its digest.
declare_node() {
  cat >"$1" <<YAML
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
profile: reference-bridge
http: {listen: "127.0.0.1:9742"}
artifacts:
  - name: cni-plugins
    version: debian
    sources: ["file:///seed/$2"]
    sha256: {$arch: $(sha256sum <"/seed/$(echo "$2" | sed "s/{arch}/$arch/")" | cut -d ' ' -f 1)}
network:
  facts:
    - values: {node.podCIDR: 10.88.0.0/16}
  conflist:
    cniVersion: "1.0.0"
    name: pod-network
    plugins:
      - {type: bridge, bridge: cni0, ipam: {type: host-local, ranges: [[{subnet: "\${node.podCIDR}"}]]}}
      - {type: portmap, capabilities: {portMappings: true}}
YAML
}

# is_right PLUGIN: whether it is, byte by byte, what Debian built, and can be run.
is_right() { cmp -s "unpacked/$1" "/opt/cni/bin/$1" && [ "$(stat -c '%a %u %g' "/opt/cni/bin/$1")" = '755 0 0' ]; }

all_right() {
  for plugin in $plugins; do
    is_right "$plugin" || return 1
  done
  [ "$(find /opt/cni/bin -type f | wc -l)" = 4 ] && cmp -s conflist.right "$conflist"
}

corrupt() { printf 'damage' | dd of="/opt/cni/bin/$1" bs=1 seek=4096 conv=notrunc 2>/dev/null; }

runs_here() { [ "$(uname -m)" = "$machine" ] && keeper 0 --version && says 'cni-keeper 0.'; }

refuses_a_bad_configuration() {
  sed 's/kind: NodeNetwork/kind: Nonsense/' config.yaml >bad.yaml
  keeper 64 validate bad.yaml && says 'bad.yaml:2: kind:'
}

refuses_another_architecture() {
  declare_node other.yaml "cni-plugins-linux-$other-debian.tgz"
  keeper 2 --config other.yaml install &&
    says "cni-plugins: 'bridge' in the archive cannot be a plugin here" &&
    says "it is a binary for $other, this node needs $arch" &&
    [ ! -e /opt/cni/bin/bridge ] && [ ! -e "$conflist" ]
}

installs() {
  keeper 1 plan && keeper 0 install || return 1
  cp "$conflist" conflist.right
  grep -q '"type": "bridge"' "$conflist" && all_right
}

verifies() { keeper 0 verify && says 'clean: 5 files are as declared'; }

# The conflist is only written after each plugin was run and answered. This asks one as a runtime does.
a_plugin_answers() {
  echo '{"cniVersion": "1.0.0"}' | CNI_COMMAND=VERSION /opt/cni/bin/bridge | tee output
  says '"1.0.0"'
}

finds_damage() {
  rm /opt/cni/bin/portmap
  corrupt bridge
  keeper 1 verify && says portmap && says bridge
}

repairs_offline() {
  mv /seed /seed.away
  keeper 0 install --offline && all_right
}

# From here on there is neither a network nor a source.
becomes_ready() {
  cni-keeper run >agent.log 2>&1 &
  agent=$!
  within 600 cni-keeper status >/dev/null 2>&1
  keeper 0 status
}

# Nothing asks the agent here: it must see by itself what was done.
heals_a_deleted_plugin() {
  rm /opt/cni/bin/loopback
  within 300 all_right
}

heals_a_corrupted_plugin() {
  corrupt host-local
  ! is_right host-local && within 300 all_right
}

heals_a_deleted_conflist() {
  rm "$conflist"
  within 300 all_right
}

reports_repairs() {
  keeper 0 status && says 'loopback is missing; placed' && says 'host-local has sha256' &&
    says '10-cni-keeper.conflist is missing; written'
}

stops_when_asked() {
  kill "$agent"
  wait "$agent"
  status=$?
  cat agent.log
  [ "$status" = 0 ]
}

uninstalls() {
  keeper 0 uninstall && [ -z "$(find /opt/cni/bin /etc/cni/net.d -type f)" ]
}

machine=$(uname -m)
case $machine in
  aarch64) arch=arm64 other=amd64 ;;
esac
declare_node config.yaml 'cni-plugins-linux-{arch}-debian.tgz'
mkdir unpacked
tar -xzf "/seed/cni-plugins-linux-$arch-debian.tgz" -C unpacked

check 'the program runs' runs_here
check 'a bad configuration is refused' refuses_a_bad_configuration
check 'plugins for another architecture are refused' refuses_another_architecture
check 'install places the plugins and the conflist' installs
check 'verify finds all as declared' verifies
check 'an installed plugin answers' a_plugin_answers
check 'verify finds what was damaged' finds_damage
check 'install repairs it from the store' repairs_offline
check 'the agent becomes ready' becomes_ready
check 'the agent heals a deleted plugin' heals_a_deleted_plugin
check 'the agent heals a corrupted plugin' heals_a_corrupted_plugin
check 'the agent heals a deleted conflist' heals_a_deleted_conflist
check 'the agent reports what it healed' reports_repairs
check 'the agent stops when asked' stops_when_asked
check 'uninstall leaves nothing' uninstalls
