# The image of phone-identity: one binary on a base without a shell, as an unprivileged user.
# docs/guides/docker.md shows how to run it; `make image-check` builds and runs it.

FROM docker.io/library/rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS dependencies
WORKDIR /src
# Where it was built is not to be seen in what was built: with the same compiler the binary is the same as that of `make dist`.
# SOURCE_DATE_EPOCH is the time that C compilers say it is: mimalloc has it in its version.
ENV CARGO_INCREMENTAL=0 \
    SOURCE_DATE_EPOCH=0 \
    RUSTFLAGS="--remap-path-prefix=/src=/phone-identity --remap-path-prefix=/usr/local/cargo=/cargo"

# The dependencies, by themselves: this layer is made again only when they change, and not with every change of the source.
# The empty sources are there because cargo wants a target for each that Cargo.toml names.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY migration/Cargo.toml migration/
RUN mkdir -p src migration/src benches/load \
    && echo 'fn main() {}' >build.rs && cp build.rs src/main.rs && cp build.rs benches/load/main.rs \
    && touch src/lib.rs migration/src/lib.rs \
    && cargo build --release --locked --bin phone-identity \
    && cargo clean --release --package phone-identity --package migration

FROM dependencies AS build
COPY build.rs ./
COPY proto proto
COPY locales locales
COPY migration migration
COPY src src
# The commit, for --version: there is no git repository here.
ARG PHONE_IDENTITY_COMMIT=
RUN cargo build --release --locked --bin phone-identity \
    # The file of SQLite, where there is no other database: it belongs to the user below.
    && mkdir /data

# glibc, the certificates of public authorities, and nothing that can be started. No OpenSSL, no C++, which cc-debian12 has: they are
# not needed, and each would have to be kept up to date.
FROM gcr.io/distroless/base-nossl-debian12:nonroot@sha256:be40c00dfabd86576d92666e87e406714d5618342de1a0c213ad232de255172e
ARG PHONE_IDENTITY_COMMIT=
ARG PHONE_IDENTITY_VERSION=0.1.0
LABEL org.opencontainers.image.title="phone-identity" \
      org.opencontainers.image.description="Phone-number identity over gRPC: register, sign in, and check sessions" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${PHONE_IDENTITY_VERSION}" \
      org.opencontainers.image.revision="${PHONE_IDENTITY_COMMIT}" \
      org.opencontainers.image.base.name="gcr.io/distroless/base-nossl-debian12:nonroot"
# All that is needed beside glibc; of the same Debian.
COPY --from=build /lib/*-linux-gnu/libgcc_s.so.1 /usr/lib/
COPY --from=build /src/target/release/phone-identity /usr/local/bin/phone-identity
COPY --from=build --chown=65532:65532 /data /data
# A number, since Kubernetes cannot tell of a name that it is not root.
USER 65532:65532
# Without DATABASE_URL the database is phone-identity.db in this folder. Nothing is written anywhere else.
WORKDIR /data
VOLUME /data
# All addresses of the container. On these the service starts only if its callers have to show who they are, or with --insecure.
ENV PHONE_IDENTITY_LISTEN=0.0.0.0:50051
EXPOSE 50051
# Liveness is what a restart can mend; a database that is away is not.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/phone-identity", "healthcheck", "--service", "liveness"]
ENTRYPOINT ["/usr/local/bin/phone-identity"]
CMD ["serve"]
