# Two images, both without root and able to run on a read-only file system:
#
#   docker build --target gate -t redteam:gate .    # judges saved reports; no machine-learning library in it
#   docker build --target full -t redteam .         # audits models
#   docker run --rm --read-only --network none -v "$PWD:/work:ro" redteam:gate gate report.json
#   docker run --rm --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" -v "$PWD:/work:ro" redteam audit model.pt
#
# An audit runs as whoever owns the ledger, which nobody else may read.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY . .
# The compiled kernel is optional, and so is a compiler: without it private training is slower.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HOME=/tmp XDG_CACHE_HOME=/tmp/cache
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin redteam

FROM base AS gate
COPY requirements-gate.txt /requirements/
COPY --from=build /wheels /wheels
RUN pip install --no-deps -r /requirements/requirements-gate.txt \
    && pip install --no-deps --no-index /wheels/*.whl
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["redteam"]
CMD ["--help"]

FROM base AS full
# Where torch comes from: its own index has builds for the processor alone, which are far smaller.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /requirements/
COPY --from=build /wheels /wheels
RUN pip install --extra-index-url "$TORCH_INDEX" -c /requirements/constraints.txt "$(echo /wheels/*.whl)[dp,minilm]"
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["redteam"]
CMD ["--help"]
