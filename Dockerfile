# The image holds the static program, the certificate authorities that it trusts and, for a site without a way out, a
# bundle to install from. It has nothing else: no shell, no library, no package manager.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag cni-keeper:0.1.0 .
#
# The compiler runs on the machine's own platform, with a linker for the other one. Arguments:
#   --build-arg BUILDER=IMAGE   compiles in another image: Debian with Rust and a C compiler
#   --build-arg BINARY=IMAGE    compiles nothing, and takes /cni-keeper and /ca-certificates.crt from this image
#   --build-arg SEED=seed       adds the directory `seed` beside this file as /seed. It holds what `cni-keeper bundle` made,
#                               for a configuration with `seeds: [/seed]`, or archives for file:///seed/…. Its content
#                               must match the pins like any download.
#   --build-arg TOOLCHAIN=TEXT  what the program in BINARY was compiled with, for a label; otherwise that is BUILDER
ARG BUILDER=rust:1.95-bookworm
ARG BINARY=build
ARG SEED=no-seed

FROM --platform=$BUILDPLATFORM ${BUILDER} AS build
# The architecture to build for. A builder that does not set it builds for its own machine.
ARG TARGETARCH
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY agent agent
# The target is named, because otherwise cargo applies the flags for a static program to procedural macros as well.
# Parts of ring and zstd are C and assembly, so the target needs a C compiler beside the linker.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    set -eu; \
    native=$(dpkg --print-architecture); \
    case ${TARGETARCH:=$native} in \
      amd64) cpu=x86_64; gcc=x86-64-linux-gnu; rustflags=CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU ;; \
      arm64) cpu=aarch64; gcc=aarch64-linux-gnu; rustflags=CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU ;; \
      *) echo "no recipe for $TARGETARCH: add its triple to the Dockerfile" >&2; exit 1 ;; \
    esac; \
    triple=$cpu-unknown-linux-gnu; \
    apt-get -qq update; \
    apt-get -qq install --no-install-recommends ca-certificates; \
    if [ "$TARGETARCH" != "$native" ]; then \
      apt-get -qq install --no-install-recommends "gcc-$gcc" "libc6-dev-$TARGETARCH-cross"; \
      rustup target add "$triple"; \
      export "${rustflags}_LINKER=$cpu-linux-gnu-gcc" "CC_$(echo "$triple" | tr - _)=$cpu-linux-gnu-gcc"; \
    fi; \
    export "${rustflags}_RUSTFLAGS=-C target-feature=+crt-static"; \
    cargo build --release --locked --bin cni-keeper --target "$triple"; \
    cp "target/$triple/release/cni-keeper" /cni-keeper; \
    cp /etc/ssl/certs/ca-certificates.crt /ca-certificates.crt

FROM ${BINARY} AS binary

FROM scratch AS no-seed
WORKDIR /seed

FROM scratch AS seed
COPY seed /seed

FROM ${SEED} AS archives

FROM scratch
ARG BUILDER
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG TOOLCHAIN=$BUILDER
LABEL org.opencontainers.image.title="cni-keeper" \
      org.opencontainers.image.description="Installs the CNI plugins and conflist of a Kubernetes node, verified and atomically, and keeps them that way." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      cni-keeper.toolchain="${TOOLCHAIN}"
COPY --from=binary /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=binary /cni-keeper /cni-keeper
COPY --from=archives /seed /seed
# One memory pool for all threads: glibc would give each its own and keep what they free. It is 1 MiB of an install.
ENV GLIBC_TUNABLES=glibc.malloc.arena_max=1
# The files that it places on the node must belong to root, as their directories do.
USER 0:0
ENTRYPOINT ["/cni-keeper"]
