# syntax=docker/dockerfile:1

# The image of the guard: packages and browser files are made in stages of their own, and no tool of theirs stays.

FROM node:24-bookworm-slim AS assets
WORKDIR /build
COPY app/http/fetch_assets.sh ./
RUN sh fetch_assets.sh assets/asyncapi

FROM python:3.11-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements.lock ./
RUN /opt/venv/bin/python -m pip install --require-hashes --only-binary :all: -r requirements.lock

FROM python:3.11-slim-bookworm AS sources
WORKDIR /srv/vigil
COPY LICENSE ./
COPY config ./config
COPY app ./app
# Files keep the modes of the checkout, which under umask 077 only its owner can read; the service is another user.
RUN chmod -R u=rwX,go=rX /srv/vigil

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Vigil Guard" \
      org.opencontainers.image.description="Guards LLM traffic: prompt injection, jailbreaks and personal data" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# Numbers, not names: an orchestrator can then check that the user is not root.
RUN groupadd --gid 10001 vigil \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vigil \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/vigil

# It listens for other machines, so nobody is let in without a key:
#   docker exec CONTAINER python -m app.cli keys create --name NAME
# Nothing is written outside the state folder and /tmp, so the root file system can be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    VIGIL_STATE_DIR=/var/lib/vigil \
    VIGIL_ACCESS__MODE=keys

WORKDIR /srv/vigil
COPY --from=packages /opt/venv /opt/venv
COPY --from=assets /build/assets ./assets
COPY --from=sources /srv/vigil ./

USER 10001:10001
VOLUME /var/lib/vigil
EXPOSE 8000
STOPSIGNAL SIGTERM
# Without a proxy: Docker hands its client's own (HTTP_PROXY) to every container, and none reaches 127.0.0.1 there.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["python", "-m", "uvicorn", "app:main", "--host", "0.0.0.0", "--port", "8000", \
     "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
