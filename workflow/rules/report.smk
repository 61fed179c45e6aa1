# Pages, tables and figures from the runs: reports/{scale}/; the site of them; and a first look from part of the runs in
# scratch/{scale}/preview/, which is nobody's result.

# Not Python, so not covered by the code's digest.
REPORT_TEXTS = [
    "config/claims.yaml",
    *described_scales(),  # whose costs are shown
    "rarl/reporting/choices.yaml",
    *sorted(map(str, Path("rarl/reporting/templates").glob("*"))),
    *sorted(map(str, Path("results/search").glob("*"))),
    *sorted(map(str, Path("results").glob("*.csv"))),  # the history of costs
    *sorted(map(str, Path(f"results/{S}").glob("*.yaml"))),  # errata
    *sorted(map(str, Path(f"results/{S}").glob("repeats.csv"))),
]


rule make_report:
    input:
        results=lambda _: report_inputs(list(WANTED)),
        index_cost=rules.measure_index_cost.output,
        costs=rules.measure_costs.output,
        texts=REPORT_TEXTS,
    output:
        overview=report(
            f"reports/{S}/README.md",
            caption="../report/overview.rst",
            category="Report",
            labels={"what": "the first page", "scale": S},
        ),
        pages=[f"reports/{S}/{name}" for name in report_files(SCALE) if name != "README.md"],
        variants=directory(f"reports/{S}/variants"),
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
        interactive=directory(f"reports/{S}/interactive"),
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
        elsewhere=records_from_elsewhere,
    message:
        f"the pages of the report: reports/{S}/README.md"
    shell:
        "python -m rarl report --only pages --scale {params.scale} --digest {params.plan} --code {params.code} > {log} 2>&1"


rule make_site:
    input:
        rules.make_report.output,
        assets=sorted(map(str, Path("rarl/reporting/assets").glob("*"))),
    output:
        directory(f"reports/{S}/site"),
    log:
        f"logs/{S}/site.log",
    benchmark:
        f"benchmarks/{S}/site.tsv"
    conda:
        "../envs/rarl.yaml"
    params:
        scale=S,
        code=CODE["report"],
    message:
        f"the report: reports/{S}/site/index.html"
    shell:
        "python -m rarl report --only site --scale {params.scale} --code {params.code} > {log} 2>&1"


rule make_preview:
    input:
        results=lambda _: report_inputs([run for run in WANTED if run in FIRST]),
        texts=REPORT_TEXTS,
    output:
        f"scratch/{S}/preview/README.md",
        directory(f"scratch/{S}/preview/site"),
    log:
        f"logs/{S}/preview.log",
    benchmark:
        f"benchmarks/{S}/preview.tsv"
    priority: 30
    conda:
        "../envs/rarl.yaml"
    params:
        scale=S,
        plan=plan_digest(SCALE),
        code=CODE["report"],
    message:
        f"a preview, from the first runs: scratch/{S}/preview/site/index.html"
    shell:
        "python -m rarl report --scale {params.scale} --digest {params.plan} --code {params.code} --preview"
        " > {log} 2>&1"
