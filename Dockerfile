# Storm DB in a container: built on Debian 12, run on its slim image as a user without rights.
#
#   docker build -t stormdb .
#   docker run -p 8080:8080 -v stormdb:/var/lib/stormdb stormdb
#
# Every option can be given as a variable (-e STORM_WAL_SYNC=interval) or as a flag behind the image's
# name. The root file system may be read-only; all that is written is in the volume. Without keys
# (STORM_AUTH_KEYS_FILE; `docker run --entrypoint stormctl stormdb key` makes one) everybody who reaches
# the port may do everything, and the log says so.

FROM debian:12 AS build
RUN apt-get update && apt-get install --yes --no-install-recommends \
        gcc libc6-dev make cmake pkg-config libmicrohttpd-dev libgnutls28-dev libjansson-dev zlib1g-dev \
        liblz4-dev libzstd-dev libinih-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY CMakeLists.txt LICENSE openapi.yaml ./
COPY storage storage
COPY config config
COPY api api
RUN cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DSTORM_BUILD_TESTS=OFF \
        -DCMAKE_INSTALL_PREFIX=/usr \
    && cmake --build build --parallel \
    && DESTDIR=/image cmake --install build --strip

FROM debian:12-slim
LABEL org.opencontainers.image.title="Storm DB" \
      org.opencontainers.image.description="HTTP key-value service over its own LSM-tree storage engine" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.vendor="Storm DB authors" \
      org.opencontainers.image.licenses="MIT"
RUN apt-get update && apt-get install --yes --no-install-recommends \
        libmicrohttpd12 libgnutls30 libjansson4 zlib1g liblz4-1 libzstd1 libinih1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/stormdb \
        --shell /usr/sbin/nologin stormdb \
    && install --directory --owner=stormdb --group=stormdb --mode=0700 /var/lib/stormdb
COPY --from=build /image/usr/bin/stormd /usr/bin/stormd
COPY --from=build /image/usr/bin/stormctl /usr/bin/stormctl
COPY --from=build /image/etc/stormdb/storm.conf /etc/stormdb/storm.conf

# Inside a container the loopback address would reach nobody; who does reach it is decided by what is
# published. The health check reads the same.
ENV STORM_LISTEN=0.0.0.0:8080 \
    STORM_AUTH_OPEN=anywhere \
    STORM_DATA_DIR=/var/lib/stormdb
USER 10001:10001
WORKDIR /var/lib/stormdb
VOLUME /var/lib/stormdb
EXPOSE 8080

# stormd is process 1 and takes SIGTERM itself: it answers what is in flight and exits with 0.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["stormd", "healthcheck"]
ENTRYPOINT ["stormd"]
CMD ["--config=/etc/stormdb/storm.conf"]
