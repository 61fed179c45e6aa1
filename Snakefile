# config -> datasets -> runs -> probes and costs -> report, for one scale. `make help` lists the ways to start it.

from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/probe.smk"
include: "workflow/rules/index_cost.smk"
include: "workflow/rules/costs.smk"
include: "workflow/rules/report.smk"


# Names every file that DVC or git keeps: Snakemake does not rebuild a lost file that is not asked for.
rule all:
    default_target: True
    input:
        dataset_targets(),
        run_targets(WANTED),
        probe_targets(WANTED_PROBES),
        rules.measure_index_cost.output,
        rules.measure_costs.output,
        rules.make_report.output,
    message:
        f"everything of scale {S}; the report is reports/{S}/README.md, and as a site by the target `site`"


rule datasets:
    input:
        dataset_targets(),
    message:
        f"all datasets of scale {S}"


rule extended:
    input:
        extended_targets,
    message:
        f"what scale {S} leaves out of `all`, which shows it once it is there"


rule train:
    input:
        run_targets(WANTED),
    message:
        f"all runs of scale {S}"


rule probes:
    input:
        probe_targets(WANTED_PROBES),
    message:
        f"all probes of scale {S}"


rule index_cost:
    input:
        rules.measure_index_cost.output,


rule costs:
    input:
        rules.measure_costs.output,


rule preview:
    input:
        rules.make_preview.output,


rule report:
    input:
        rules.make_report.output,


rule site:
    input:
        rules.make_site.output,
