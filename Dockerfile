# Everything advbench needs, for a container without network: CONTRIBUTING.md says how to train a stranger's adapter in it.
FROM python:3.12-slim
COPY . /advbench
RUN pip install --no-cache-dir --constraint /advbench/constraints.txt "/advbench[train]" && rm -r /advbench
RUN useradd --create-home --uid 1000 author && chown author /srv
USER 1000
WORKDIR /srv
CMD ["advbench", "--help"]
