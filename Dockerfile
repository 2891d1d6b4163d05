# docker build -t turnkit .
# docker run -p 8787:8787 -v turnkit:/data -v ./tokens:/etc/turnkit/tokens:ro turnkit

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --package turnkit-server --features full \
    && cp target/dist/turnkit /turnkit

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
