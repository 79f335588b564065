# A static program and nothing else, of about 12 MB.
#
#   docker build -t ckpt-convert --build-arg COMMIT="$(git describe --always --abbrev=12 --dirty)" .
#   docker run --rm --user "$(id -u):$(id -g)" -v /ckpt:/ckpt ckpt-convert inspect /ckpt/llama2_7b
FROM rust:1.90-slim-bookworm AS build
# .git is not part of the build's context: what --version says comes from here.
ARG COMMIT=
ENV CKPT_CONVERT_COMMIT=$COMMIT
WORKDIR /src
COPY . .
RUN target="$(uname -m)-unknown-linux-musl" \
    && rustup target add "$target" \
    && cargo build --release --locked --package ckpt-convert --bin ckpt-convert --target "$target" \
    && cp "target/$target/release/ckpt-convert" /ckpt-convert

FROM scratch
LABEL org.opencontainers.image.title="ckpt-convert" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /LICENSE
COPY --from=build /ckpt-convert /ckpt-convert
WORKDIR /work
ENTRYPOINT ["/ckpt-convert"]
