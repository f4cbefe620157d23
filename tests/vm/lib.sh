# shellcheck shell=dash
# What the tests of the emulated machine share. They source it.
#
# Each line of a test that begins with `check` prints "check ok: NAME", or "check failed: NAME" and ends the test.
# scripts/vm demands the first of each.

# shellcheck disable=SC2034 # for the tests that source this
conflist=/etc/cni/net.d/10-cni-keeper.conflist
# shellcheck disable=SC2034
case $(uname -m) in
  aarch64) arch=arm64 other=amd64 ;;
  x86_64) arch=amd64 other=arm64 ;;
esac
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

# keeper EXIT ARGUMENT...: runs cni-keeper, or $program, shows what it prints, keeps that in `output`, and compares its exit code.
keeper() {
  expected=$1
  shift
  "${program:-cni-keeper}" "$@" >output 2>&1
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

# Starts the agent, and waits until it is ready.
start_agent() {
  cni-keeper run >agent.log 2>&1 &
  agent=$!
  within 600 cni-keeper status >/dev/null 2>&1
}

# Asks the agent to stop, and shows what it printed.
stop_agent() {
  kill "$agent"
  wait "$agent"
  status=$?
  cat agent.log
  [ "$status" = 0 ]
}
