# goodrate serve in a container: docs/deploying.md. Models and the index are mounted, none is in the image.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
# torch first and alone, without CUDA: its index must not be asked for anything else
RUN python -m venv /opt/goodrate \
 && /opt/goodrate/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0 \
 && /opt/goodrate/bin/pip install --no-cache-dir --constraint constraints.txt '.[serve,candidates,otel]'

FROM python:3.11-slim-bookworm
RUN useradd --system --create-home --uid 10001 goodrate
COPY --from=build /opt/goodrate /opt/goodrate
ENV PATH=/opt/goodrate/bin:$PATH HF_HUB_OFFLINE=1
USER 10001
WORKDIR /home/goodrate
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["goodrate"]
CMD ["serve", "/index", "--host", "0.0.0.0", "--token-file", "/run/secrets/goodrate_tokens", "--log-format", "json"]
