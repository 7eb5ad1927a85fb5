FROM python:3.13-slim AS build
WORKDIR /build
COPY pyproject.toml requirements.lock README.md LICENSE ./
# The lock pins what develops it as well: only what taxi-ingest itself asks for is then taken of it.
RUN pip wheel --no-cache-dir --no-deps --require-hashes --requirement requirements.lock --wheel-dir /wheels
COPY src src
RUN python -m venv --without-pip /opt/taxi-ingest \
    && pip --python /opt/taxi-ingest/bin/python install --no-cache-dir --no-index --find-links /wheels . \
    && find /opt/taxi-ingest -type d -name tests -prune -exec rm -r {} +

FROM python:3.13-slim
RUN useradd --uid 1000 --create-home taxi \
    && install -d -o taxi -g taxi -m 700 /var/cache/taxi-ingest /home/taxi/.prefect /home/taxi/dashboard
COPY --from=build /opt/taxi-ingest /opt/taxi-ingest
ENV PATH=/opt/taxi-ingest/bin:$PATH \
    TAXI_INGEST_CACHE_DIR=/var/cache/taxi-ingest \
    PREFECT_SERVER_UI_STATIC_DIRECTORY=/home/taxi/dashboard \
    DO_NOT_TRACK=1 \
    HEALTH_URL=http://127.0.0.1:4200/api/health
USER 1000
WORKDIR /home/taxi
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --start-interval=5s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEALTH_URL'], timeout=4)"]
CMD ["taxi-ingest", "--help"]
