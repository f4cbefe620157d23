# shellcheck shell=dash
# Runs in the emulated machine, in busybox's shell: installs, damages, heals and uninstalls, once each. Debian's own
# builds of the plugins for this machine's architecture and for another one are in /seed.

# shellcheck source=tests/vm/lib.sh
. ./lib.sh
plugins='bridge host-local loopback portmap'
cgroups=/sys/fs/cgroup
limited=cni-keeper-limited

# is_right PLUGIN: whether it is, byte by byte, what Debian built, and can be run.
is_right() { cmp -s "unpacked/$1" "/opt/cni/bin/$1" && [ "$(stat -c '%a %u %g' "/opt/cni/bin/$1")" = '755 0 0' ]; }

all_right() {
  for plugin in $plugins; do
    is_right "$plugin" || return 1
  done
  [ "$(find /opt/cni/bin -type f | wc -l)" = 4 ] && cmp -s conflist.right "$conflist"
}

corrupt() { printf 'damage' | dd of="/opt/cni/bin/$1" bs=1 seek=4096 conv=notrunc 2>/dev/null; }

runs_here() { keeper 0 --version && says 'cni-keeper 0.'; }

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
becomes_ready() { start_agent && keeper 0 status; }

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

# limit_memory MIB: what is started with $limited from now on may use so much memory, with all that it writes to /opt.
limit_memory() {
  [ -d $cgroups/agent ] || {
    mount -t cgroup2 none $cgroups && echo +memory >$cgroups/cgroup.subtree_control && mkdir $cgroups/agent &&
      umount /opt 2>/dev/null
    mkdir -p /opt && mount -t tmpfs none /opt
    printf '#!/bin/sh\necho $$ >%s/agent/cgroup.procs\nexec cni-keeper "$@"\n' $cgroups >/bin/$limited
    chmod +x /bin/$limited
  }
  echo "$1"M >$cgroups/agent/memory.max
}

nobody_was_killed() { grep '^oom_kill 0$' $cgroups/agent/memory.events; }

tells_what_memory_it_lacks() {
  limit_memory 24 || return 1
  program=$limited keeper 2 install &&
    says 'is kept in memory (tmpfs), and of the memory limit of 24 MiB only' &&
    says 'raise the limit (resources.limits.memory)' &&
    nobody_was_killed && [ ! -e /opt/cni/bin/bridge ] && [ ! -e "$conflist" ]
}

# The set that is in place, the new one, and a second copy of each stay in memory.
upgrades_in_memory() {
  limit_memory 96
  program=$limited keeper 0 install && is_right bridge || return 1
  mkdir other
  for plugin in $plugins; do
    { cat "unpacked/$plugin" && echo other; } >"other/$plugin"
    chmod +x "other/$plugin"
  done
  tar -czf "/seed/cni-plugins-linux-$arch-other.tgz" -C other .
  declare_node upgraded.yaml 'cni-plugins-linux-{arch}-other.tgz'
  program=$limited keeper 0 --config upgraded.yaml install && nobody_was_killed &&
    cmp other/bridge /opt/cni/bin/bridge && program=$limited keeper 0 --config upgraded.yaml uninstall &&
    rm "/seed/cni-plugins-linux-$arch-other.tgz"
}

uninstalls() {
  keeper 0 uninstall && [ -z "$(find /opt/cni/bin /etc/cni/net.d -type f)" ]
}

declare_node config.yaml 'cni-plugins-linux-{arch}-debian.tgz'
mkdir unpacked
tar -xzf "/seed/cni-plugins-linux-$arch-debian.tgz" -C unpacked

check 'the program runs' runs_here
check 'a bad configuration is refused' refuses_a_bad_configuration
check 'plugins for another architecture are refused' refuses_another_architecture
check 'a memory limit that is too small is told' tells_what_memory_it_lacks
check 'an upgrade lives in a /opt that is kept in memory' upgrades_in_memory
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
check 'the agent stops when asked' stop_agent
check 'uninstall leaves nothing' uninstalls
