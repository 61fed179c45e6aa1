# Tables, figures and pages from the runs: reports/{scale}/, and a first look from part of them in reports/{scale}/preview/.

# Not Python, so not covered by the code's digest.
REPORT_TEXTS = [
    "config/claims.yaml",
    "rarl/reporting/choices.yaml",
    *sorted(map(str, Path("rarl/reporting/templates").glob("*"))),
    *sorted(map(str, Path("results/search").glob("*"))),
]


def report_inputs(runs):
    """The files that a report about these runs reads."""
    probed = [run for run in SCALE.probes() if run in runs]
    datasets = dict.fromkeys(dataset for run in runs for dataset in SCALE.datasets_of(SCALE.runs[run]))
    return [
        *(f"data/{S}/{dataset}/manifest.json" for dataset in datasets),
        *(path for path in run_targets(runs) if "/checkpoints/" not in path),
        *probe_targets(probed),
    ]


rule make_report:
    input:
        results=report_inputs(list(SCALE.runs)),
        texts=REPORT_TEXTS,
    output:
        markdown=f"reports/{S}/REPORT.md",
        page=report(
            f"reports/{S}/report.html",
            caption="../report/page.rst",
            category="Report",
            labels={"what": "the report", "scale": S},
        ),
        figures=report(
            directory(f"reports/{S}/figures"),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"what": "{name}", "scale": S},
        ),
        tables=report(
            directory(f"reports/{S}/tables"),
            patterns=["{name}.csv"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"what": "{name}", "scale": S},
        ),
    log:
        f"logs/{S}/report.log",
    benchmark:
        f"benchmarks/{S}/report.tsv"
    conda:
        "../envs/rarl.yaml"
    params:
        scale=S,
        plan=plan_digest(SCALE),
        code=CODE["report"],
    message:
        f"report of scale {S}"
    shell:
        "python -m rarl report --scale {params.scale} > {log} 2>&1"


rule make_preview:
    input:
        results=report_inputs([run for run in SCALE.runs if run in FIRST]),
        texts=REPORT_TEXTS,
    output:
        f"reports/{S}/preview/report.html",
    log:
        f"logs/{S}/preview.log",
    benchmark:
        f"benchmarks/{S}/preview.tsv"
    conda:
        "../envs/rarl.yaml"
    priority: 30
    params:
        scale=S,
        plan=plan_digest(SCALE),
        code=CODE["report"],
    message:
        f"preview of the report of scale {S}"
    shell:
        "python -m rarl report --scale {params.scale} --preview > {log} 2>&1"
