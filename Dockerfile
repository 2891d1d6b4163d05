# docker build -t turnkit .
# docker run -p 8787:8787 -v turnkit:/data -v ./tokens:/etc/turnkit/tokens:ro turnkit

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The release profile keeps line tables for profilers; an image does without.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package turnkit-server --features otel \
    && strip --strip-debug -o /turnkit target/release/turnkit

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /data turnkit && install -d -m 700 -o turnkit -g turnkit /data
COPY --from=build /turnkit /usr/local/bin/turnkit
USER turnkit
VOLUME /data
EXPOSE 8787
ENV TURNKIT_LISTEN=0.0.0.0:8787 TURNKIT_DATA_DIR=/data TURNKIT_TOKENS=/etc/turnkit/tokens TURNKIT_LOG_FORMAT=json
STOPSIGNAL SIGTERM
ENTRYPOINT ["turnkit"]
CMD ["serve"]
