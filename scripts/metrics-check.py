"""Asks Prometheus what the alerts and the dashboard ask, until each query has had an answer.

    metrics-check.py rewrite CONFIG RULES TARGET    prints the configuration, for this one target, scraped each second
    metrics-check.py ask URL DASHBOARD              fails if a query has no answer after two minutes

An alert is asked for without its comparison, since nothing is wrong here; that each fires when something is, its unit tests show.
"""

import json
import math
import re
import sys
import time
import urllib.parse
import urllib.request

PATIENCE_SECONDS = 120


def rewrite(config, rules, target):
    with open(config, encoding="utf-8") as file:
        text = file.read()
    changes = (
        (r"_interval: 15s", "_interval: 1s"),
        (r"- rules/\*\.yml", f"- {rules}"),
        (r"dns_sd_configs:(\n {6,}.*)+", f'static_configs: [{{targets: ["{target}"]}}]'),
    )
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        if count == 0:
            sys.exit(f"error: {config} has no {pattern}")
    print(text)


def get(url, path, **parameters):
    with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]


def alerts(url):
    """What each alert looks at, by its name."""
    for group in get(url, "/api/v1/rules", type="alert")["groups"]:
        for rule in group["rules"]:
            if rule["health"] == "err":
                sys.exit(f"error: alert {rule['name']}: {rule['lastError']}")
            query = rule["query"]
            absent = re.fullmatch(r"absent\((.*)\)", query)
            query = absent.group(1) if absent else query
            compared = re.fullmatch(r"(.*) (==|!=|>|<|>=|<=) [0-9.]+", query, re.DOTALL)
            if not compared:
                sys.exit(f"error: alert {rule['name']} compares nothing: {query}")
            yield f"alert {rule['name']}", compared.group(1)


def panels(path):
    """What each panel shows, by its title. The variables are those of Grafana."""
    with open(path, encoding="utf-8") as file:
        dashboard = json.load(file)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            if "$" in query:
                sys.exit(f"error: panel {panel['title']}: an unknown variable: {query}")
            yield f"panel {panel['title']} {target['refId']}", query


def has_answer(url, query):
    samples = get(url, "/api/v1/query", query=query)["result"]
    return any(math.isfinite(float(sample["value"][1])) for sample in samples)


def ask(url, dashboard):
    queries = list(alerts(url)) + list(panels(dashboard))
    if len(queries) < 40:
        sys.exit(f"error: only {len(queries)} queries were found")
    waiting, end = queries, time.monotonic() + PATIENCE_SECONDS
    while True:
        waiting = [(name, query) for name, query in waiting if not has_answer(url, query)]
        if not waiting:
            print(f"all {len(queries)} queries of alerts and panels have an answer")
            return
        if time.monotonic() > end:
            for name, query in waiting:
                print(f"no answer: {name}: {query}", file=sys.stderr)
            sys.exit(f"error: {len(waiting)} of {len(queries)} queries have no answer")
        time.sleep(1)


{"rewrite": rewrite, "ask": ask}[sys.argv[1]](*sys.argv[2:])
