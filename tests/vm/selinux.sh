# shellcheck shell=dash
# Runs in an emulated machine whose kernel has SELinux on: what the agent says where the policy refuses what root may do
# otherwise. The policy is tests/vm/selinux.cil, compiled to /policy.

# shellcheck source=tests/vm/lib.sh
. ./lib.sh
selinux=/sys/fs/selinux
program=confined

# The policy has to arrive in a single write.
loads_the_policy() {
  mount -t selinuxfs none $selinux && dd if=/policy of=$selinux/load bs=1M && echo 1 >$selinux/enforce &&
    [ "$(cat $selinux/enforce)" = 1 ]
}

# Whoever starts that is in the domain from which the policy takes a right.
confines_the_agent() {
  printf '#!/bin/sh\nprintf user:role:agent_t >/proc/self/attr/exec\nexec "$@"\n' >/bin/confine
  printf '#!/bin/sh\nexec confine cni-keeper "$@"\n' >/bin/confined
  chmod +x /bin/confine /bin/confined
  confine cat /proc/self/attr/current >output
  cat output && echo
  says user:role:agent_t
}

installs_where_it_may() { keeper 0 install && keeper 0 uninstall; }

# Its uid is 0 and it has all capabilities.
names_selinux() {
  mkdir -p /opt/cni/bin && mount -t tmpfs -o context=user:role:locked_t none /opt/cni/bin || return 1
  keeper 2 install && says 'Permission denied' && says /opt/cni/bin && says SELinux && says user:role:agent_t &&
    ! says 'run as root'
}

keeps_out_of_the_way() { [ -z "$(find /opt/cni/bin /etc/cni/net.d -type f)" ]; }

declare_node config.yaml 'cni-plugins-linux-{arch}-debian.tgz'

check 'the kernel takes the policy' loads_the_policy
check 'the agent is confined' confines_the_agent
check 'it installs where the policy lets it' installs_where_it_may
check 'a refusal of SELinux is called one' names_selinux
check 'nothing is left where it failed' keeps_out_of_the_way
