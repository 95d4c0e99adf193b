"""Reads the text format of Prometheus on standard input, and prints each family and its type, and the number of samples."""

import sys

from prometheus_client.parser import text_fd_to_metric_families

for family in text_fd_to_metric_families(sys.stdin):
    print(family.name, family.type, len(family.samples))
