# An S3 store of one node: Ceph's radosgw, from Debian. store.py says how it is run.
FROM debian:bookworm-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends ceph-common ceph-mon ceph-osd curl radosgw \
 && rm -rf /var/lib/apt/lists/* \
 && install --directory --owner ceph --group ceph /store

COPY store.py /
USER ceph
CMD ["python3", "/store.py", "/store", "--bucket", "mergegrid"]
