# An image that runs the demo and the tests as an unprivileged user:
#
#     docker build --tag lava-meta .
#     docker run --rm --read-only --tmpfs /tmp --shm-size 64m lava-meta
#     docker run --rm --read-only --tmpfs /tmp --shm-size 64m lava-meta make test ARGS="-p no:cacheprovider"
FROM python:3.13-slim

RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /lava_meta
COPY . .
RUN UV_NO_CACHE=1 make setup
# Where nothing else can be written, compiled functions are cached there: once in the life of a container.
ENV NUMBA_CACHE_DIR=/tmp/numba
USER 65534
CMD ["make", "demo", "ARGS=--out /tmp/demo"]
